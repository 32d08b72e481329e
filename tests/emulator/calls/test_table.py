"""The table of calls: names, and what is not answered."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.parsing import parse


@pytest.mark.parametrize(
    ("method", "key", "query", "action"),
    [
        ("PUT", "k", {"acl": ""}, "PutObjectAcl"),
        ("POST", "k", {"restore": ""}, "PostRestoreObject"),
        ("POST", "k", {}, "PostObject"),
        ("GET", "", {"lifecycle": ""}, "GetBucketLifecycle"),
        ("PUT", "", {"acl": ""}, "PutBucketAcl"),
        ("PUT", "", {}, "PutBucket"),
        ("PUT", "k", {"symlink": ""}, "PutSymlink"),
    ],
)
def test_what_is_not_there_is_named(client, refusal, method, key, query, action):
    """A call that the emulator does not have is 405 and never taken for another."""
    reply = client.call(method, key, query=query)
    assert refusal(reply)[:2] == (405, "MethodNotAllowed")
    assert client.oss.requests[-1].action == action
    assert parse(reply.content).findtext("ResourceType") == action


@pytest.mark.parametrize(
    ("method", "action"), [("GET", "ListBuckets"), ("PUT", "PutService")]
)
def test_the_service_itself(client, refusal, method, action):
    """A request without a bucket is a call on the service, not signed here: 403."""
    reply = client.send(method, f"{client.oss.url}/")
    assert refusal(reply)[:2] == (403, "AccessDenied")
    assert client.oss.requests[-1].action == action


def test_an_unknown_bucket(client, refusal):
    """A well-signed request on a bucket that does not exist is NoSuchBucket."""
    reply = client.call("PUT", "k", bucket="otherbucket")
    assert refusal(reply)[:2] == (404, "NoSuchBucket")
    assert client.oss.get("otherbucket", "k") is None

"""The table of calls: names, and what is not answered."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.parsing import parse


@pytest.mark.parametrize(
    ("method", "key", "query", "action"),
    [
        ("PUT", "k", {"live": ""}, "PutObjectLive"),
        ("DELETE", "k", {"live": ""}, "DeleteObjectLive"),
        ("PUT", "k", {"objectWorm": ""}, "PutObjectObjectWorm"),
        ("PUT", "k", {"x-oss-rename": "k2"}, "PutObjectX-oss-rename"),
        ("DELETE", "k", {"x-oss-delete-recursive": "true"},
         "DeleteObjectX-oss-delete-recursive"),
        ("GET", "k", {"x-oss-process": "image/resize,w_1"}, "GetObjectX-oss-process"),
        ("GET", "k", {"acl": "", "tagging": ""}, "GetObjectAclTagging"),
        ("PUT", "k", {"acl": ""}, "PutObjectAcl"),
        ("PUT", "k", {"tagging": ""}, "PutObjectTagging"),
        ("PUT", "k", {"symlink": ""}, "PutObjectSymlink"),
        ("DELETE", "k", {"tagging": ""}, "DeleteObjectTagging"),
        ("POST", "k", {"restore": ""}, "PostObjectRestore"),
        ("POST", "k", {"uploads": "", "sequential": ""}, "PostObjectSequentialUploads"),
        ("GET", "k", {"objectMeta": ""}, "GetObjectObjectMeta"),
        ("GET", "", {"location": ""}, "GetBucketLocation"),
        ("GET", "", {"stat": ""}, "GetBucketStat"),
        ("GET", "", {"lifecycle": ""}, "GetBucketLifecycle"),
        ("GET", "", {"comp": "token"}, "GetBucketComp"),
        ("GET", "", {"list-type": "2", "policy": ""}, "GetBucketPolicy"),
        ("PUT", "", {"acl": ""}, "PutBucketAcl"),
        ("PUT", "", {}, "PutBucket"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(client, refusal, method, key, query, action):
    """A call that the emulator does not have is 501 and never taken for another."""
    client.put("k", b"precious")
    reply = client.call(method, key, query=query)
    assert refusal(reply)[:2] == (501, "NotImplemented")
    assert client.oss.requests[-1].action == action
    message = parse(reply.content).findtext("Message")
    assert message == f"The emulator does not implement {action}."
    assert client.oss.get("examplebucket", "k").data() == b"precious"


@pytest.mark.parametrize(
    ("method", "query", "action"),
    [("GET", "", "ListBuckets"), ("GET", "?regions", "GetServiceRegions"),
     ("PUT", "", "PutService")],
)  # fmt: skip
def test_the_service_itself(client, refusal, method, query, action):
    """A request without a bucket is a call on the service, not signed here: 403."""
    reply = client.send(method, f"{client.oss.url}/{query}")
    assert refusal(reply)[:2] == (403, "AccessDenied")
    assert client.oss.requests[-1].action == action


def test_an_unknown_bucket(client, refusal):
    """A well-signed request on a bucket that does not exist is NoSuchBucket."""
    reply = client.call("PUT", "k", bucket="otherbucket")
    assert refusal(reply)[:2] == (404, "NoSuchBucket")
    assert client.oss.get("otherbucket", "k") is None
    reply = client.send("GET", f"{client.oss.url}/otherbucket/k?Expires=1")
    assert refusal(reply)[:2] == (404, "NoSuchBucket")  # whoever asks

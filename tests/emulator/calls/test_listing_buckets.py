"""ListBuckets and the calls on one bucket."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.emulator import Emulator
from tests.emulator.authorization import encoded, signed_headers

BUCKET = "examplebucket"


@pytest.fixture
def ask(make_client, tree):
    """Ask about the buckets of a store of its own; the reply is a document."""
    with Emulator(buckets=(BUCKET, "other", "third"), versioned=("third",)) as oss:
        client = make_client(oss)

        def asked(bucket="", *, status=200, **query):
            query = {name.replace("_", "-"): value for name, value in query.items()}
            headers = signed_headers(
                oss.credentials, "v4", "GET", bucket=bucket, query=query
            )
            url = f"{oss.url}/{bucket}{'/' if bucket else ''}{encoded(query)}"
            reply = client.send("GET", url, headers=headers)
            assert reply.status_code == status, reply.text
            return tree(reply)

        asked.client = client
        yield asked


def names(document):
    """Return the names of listed buckets."""
    return [found.text for found in document.iterfind("Buckets/Bucket/Name")]


def test_all_buckets(ask):
    """Without options all are listed by name, with region and owner."""
    document = ask()
    assert names(document) == [BUCKET, "other", "third"]
    assert document.findtext("Buckets/Bucket/Location") == "oss-cn-hangzhou"
    assert document.findtext("Owner/ID")
    assert document.findtext("IsTruncated") == "false"
    assert document.find("NextMarker") is None


def test_buckets_page_by_page(ask):
    """A marker and a prefix narrow the list, and a page says where the next begins."""
    document = ask(max_keys="1", marker=BUCKET)
    assert names(document) == ["other"]
    assert document.findtext("NextMarker") == "other"
    assert document.findtext("IsTruncated") == "true"
    assert names(ask(prefix="th")) == ["third"]
    for most in ("0", "1001", "x"):
        assert ask(status=400, max_keys=most).findtext("Code") == "InvalidArgument"


def test_one_bucket(ask):
    """Where it is, whose it is, and that it is private."""
    info = ask(BUCKET, bucketInfo="").find("Bucket")
    assert info.findtext("Name") == BUCKET
    assert info.findtext("Region") == "cn-hangzhou"
    assert info.findtext("DataRedundancyType") == "LRS"
    assert info.findtext("BlockPublicAccess") == "false"
    assert info.findtext("CrossRegionReplication") == "Disabled"
    assert info.findtext("TransferAcceleration") == "Disabled"
    assert info.findtext("ResourceGroupId")
    assert info.find("Versioning") is None
    assert info.findtext("Comment") == ""
    assert info.findtext("ServerSideEncryptionRule/SSEAlgorithm") == "None"
    assert ask("third", bucketInfo="").findtext("Bucket/Versioning") == "Enabled"
    grant = "AccessControlList/Grant"
    assert ask(BUCKET, acl="").findtext(grant) == info.findtext(grant) == "private"
    assert ask("absent", status=404, bucketInfo="").findtext("Code") == "NoSuchBucket"


def test_region_of_a_store_that_takes_any(make_client, tree):
    """A store that takes every region says that it is in the usual one."""
    with Emulator(region=None) as oss:
        reply = make_client(oss).call("GET", "", query={"bucketInfo": ""})
        assert tree(reply).findtext("Bucket/Region") == "cn-hangzhou"

"""ListParts."""

from __future__ import annotations

import uuid

import pytest

from fsspec_osspresigned.http import checksums as checksum


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"multi/{uuid.uuid4().hex} ü"


def etags(client, key, upload, *parts):
    """Send *parts* and return (number, ETag) of each."""
    return [
        (number, client.part(key, upload, number, data).headers["ETag"])
        for number, data in enumerate(parts, 1)
    ]


def test_list_parts_in_pages(client, key, tree):
    """ListParts gives number, ETag, size and CRC-64, page by page."""
    upload = client.initiate(key)
    sent = etags(client, key, upload, b"1", b"22", b"333")
    seen, marker = [], "0"
    for _ in range(3):
        query = {
            "uploadId": upload,
            "max-parts": "2",
            "part-number-marker": marker,
            "encoding-type": "url",
        }
        document = tree(client.call("GET", key, query=query))
        seen += document.iterfind("Part")
        marker = document.findtext("NextPartNumberMarker")
        if document.findtext("IsTruncated") == "false":
            break
    assert document.findtext("EncodingType") == "url"
    assert "%20" in document.findtext("Key")
    assert [(int(p.findtext("PartNumber")), p.findtext("ETag")) for p in seen] == sent
    assert [p.findtext("Size") for p in seen] == ["1", "2", "3"]
    assert seen[0].findtext("HashCrc64ecma") == str(checksum.crc64(b"1"))
    document = tree(client.call("GET", key, query={"uploadId": upload}))
    assert len(document.findall("Part")) == 3
    query = {"uploadId": upload, "part-number-marker": "3"}
    document = tree(client.call("GET", key, query=query))
    assert document.findtext("NextPartNumberMarker") == "3"


@pytest.mark.parametrize(
    "query", [{"max-parts": "0"}, {"max-parts": "1001"}, {"part-number-marker": "x"}]
)
def test_list_parts_wants_numbers(client, key, refusal, query):
    """Bad paging arguments are InvalidArgument."""
    upload = client.initiate(key)
    reply = client.call("GET", key, query={"uploadId": upload, **query})
    assert refusal(reply)[:2] == (400, "InvalidArgument")

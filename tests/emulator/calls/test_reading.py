"""GetObject, HeadObject and GetObjectMeta: ranges and conditions."""

from __future__ import annotations

import re
from email.utils import formatdate

import pytest

from fsspec_osspresigned.emulator import Emulator

STANDARD = {"x-oss-range-behavior": "standard"}
DATA = b"0123456789"
PAST, FUTURE = formatdate(0, usegmt=True), formatdate(4e9, usegmt=True)


@pytest.fixture
def digits(client) -> str:
    """The key of ten digits."""
    client.put("digits", DATA)
    return "digits"


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_get_and_head_agree(client, digits, version):
    """HEAD answers the headers of GET without its body."""
    got = client.call("GET", digits, version=version)
    head = client.call("HEAD", digits, version=version)
    assert got.content == DATA
    assert head.content == b""
    varying = {"x-oss-request-id", "x-oss-server-time", "date"}
    assert {n: v for n, v in got.headers.items() if n.lower() not in varying} == {
        n: v for n, v in head.headers.items() if n.lower() not in varying
    }
    assert head.headers["Content-Length"] == "10"
    assert head.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 6),
        ("bytes=9-9", 9, 10),
        ("bytes=4-", 4, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-10", 0, 10),
    ],
)
@pytest.mark.parametrize("headers", [{}, STANDARD])
def test_a_range_within_the_object(client, digits, wanted, start, stop, headers):
    """A valid range is 206 with Content-Range and the CRC-64 of the whole object."""
    reply = client.call("GET", digits, headers=headers, unsigned={"Range": wanted})
    assert reply.status_code == 206
    assert reply.content == DATA[start:stop]
    assert reply.headers["Content-Range"] == f"bytes {start}-{stop - 1}/10"
    whole = client.call("GET", digits)
    crc = "x-oss-hash-crc64ecma"
    assert reply.headers[crc] == whole.headers[crc]


@pytest.mark.parametrize(
    "wanted",
    ["bytes=0-10", "bytes=10-", "bytes=10-12", "bytes=-11", "bytes=-0", "bytes=5-4",
     "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=x"],
)  # fmt: skip
def test_a_range_outside_is_the_whole_object(client, digits, wanted):
    """OSS answers 200 and everything to a range that is not within the object."""
    reply = client.call("GET", digits, unsigned={"Range": wanted})
    assert (reply.status_code, reply.content) == (200, DATA)


@pytest.mark.parametrize(
    ("wanted", "data"), [("bytes=8-99", b"89"), ("bytes=-99", DATA)]
)
def test_the_standard_behaviour_cuts(client, digits, wanted, data):
    """With the standard behaviour a range that reaches too far is cut."""
    reply = client.call("GET", digits, headers=STANDARD, unsigned={"Range": wanted})
    assert (reply.status_code, reply.content) == (206, data)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_the_standard_behaviour_refuses(client, refusal, digits, wanted):
    """With the standard behaviour a range beyond the end is 416."""
    reply = client.call("GET", digits, headers=STANDARD, unsigned={"Range": wanted})
    assert refusal(reply)[:2] == (416, "InvalidRange")
    assert reply.headers["Content-Range"] == "bytes */10"


def test_a_range_of_nothing(client):
    """The first byte of an empty object is the whole, empty object."""
    client.put("empty", b"")
    for wanted in ("bytes=0-0", "bytes=0-", "bytes=-1"):
        reply = client.call("GET", "empty", unsigned={"Range": wanted})
        assert (reply.status_code, reply.content) == (200, b"")


def test_overrides(client, digits):
    """response-* parameters replace headers of the reply."""
    query = {"response-content-type": "text/x", "response-cache-control": "no-store"}
    headers = client.call("GET", digits, query=query).headers
    assert headers["Content-Type"] == "text/x"
    assert headers["Cache-Control"] == "no-store"


def test_overrides_cannot_add_headers(client, digits, refusal):
    """A line break in an override is refused."""
    query = {"response-content-type": "a\r\nX-Evil: 1"}
    reply = client.call("GET", digits, query=query)
    assert refusal(reply)[:2] == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ({"If-Match": "{etag}"}, 200),
        ({"If-Match": '"a", {etag}'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"a"'}, 412),
        ({"If-None-Match": '"a"'}, 200),
        ({"If-None-Match": "{etag}"}, 304),
        ({"If-Modified-Since": PAST}, 200),
        ({"If-Modified-Since": FUTURE}, 304),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Modified-Since": f"Mon, 01 Jan 2026 00:00:00 +{'9' * 30}"}, 200),
        ({"If-Unmodified-Since": FUTURE}, 200),
        ({"If-Unmodified-Since": PAST}, 412),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(client, digits, method, condition, status):
    """Conditional headers are 304, 412, or pass."""
    etag = client.call("HEAD", digits).headers["ETag"]
    headers = {name: value.replace("{etag}", etag) for name, value in condition.items()}
    reply = client.call(method, digits, unsigned=headers)
    assert reply.status_code == status
    if status == 304:
        assert reply.headers["ETag"] == etag
        assert reply.content == b""
    elif status == 412 and method == "GET":
        assert f"<Condition>{next(iter(condition))}</Condition>" in reply.text


def test_get_of_an_absent_object(client, refusal):
    """GET of an absent object is NoSuchKey."""
    reply = client.call("GET", "absent")
    assert refusal(reply) == (404, "NoSuchKey", "0026-00000001")
    assert re.fullmatch("[0-9A-F]{24}", reply.headers["x-oss-request-id"])


def test_a_large_object_is_streamed(client):
    """An object of several chunks comes back whole, and so do ranges across chunks."""
    data = bytes(range(256)) * 4096 * 5
    client.put("large", data)
    assert client.call("GET", "large").content == data
    wanted = {"Range": f"bytes=1048575-{2 * 1048576}"}
    reply = client.call("GET", "large", unsigned=wanted)
    assert reply.content == data[1048575 : 2 * 1048576 + 1]


def test_the_clock_of_the_server_shows(make_client):
    """Date and Last-Modified are the emulator's clock, not the machine's."""
    moment = 1_700_000_000.0
    with Emulator(clock=lambda: moment) as oss:
        client = make_client(oss)
        client.put("k", now=moment)
        headers = client.call("HEAD", "k", now=moment).headers
        assert (
            headers["Date"]
            == headers["Last-Modified"]
            == formatdate(moment, usegmt=True)
        )


def test_object_meta(client):
    """GetObjectMeta tells length, ETag, time and checksum, and no body."""
    put = client.put("meta/a", b"abc")
    reply = client.call("HEAD", "meta/a", query={"objectMeta": ""})
    assert reply.status_code == 200
    assert reply.headers["ETag"] == put.headers["ETag"]
    assert "Last-Modified" in reply.headers
    assert reply.headers["Content-Length"] == "3"
    reply = client.call("HEAD", "meta/absent", query={"objectMeta": ""})
    assert reply.status_code == 404


@pytest.mark.parametrize("kind", ["Archive", "ColdArchive", "DeepColdArchive"])
def test_archived_object(client, refusal, kind):
    """An archived object can be looked at, and neither read nor copied."""
    client.put("k", b"data", headers={"x-oss-storage-class": kind})
    head = client.call("HEAD", "k")
    assert (head.status_code, head.headers["x-oss-storage-class"]) == (200, kind)
    copy = {"x-oss-copy-source": "/examplebucket/k"}
    for reply in (client.call("GET", "k"), client.call("PUT", "c", headers=copy)):
        assert refusal(reply)[:2] == (403, "InvalidObjectState")

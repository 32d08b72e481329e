"""Checksums, limits, exclusive writes and callbacks of every call."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http import checksums as checksum
from tests.emulator.raw_requests import connect, raw_request

BUCKET = "examplebucket"


def callback(value) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_good_checksums_are_accepted(client, key):
    """A right Content-MD5 and CRC-64 let the PUT pass."""
    md5 = base64.b64encode(
        hashlib.md5(b"data", usedforsecurity=False).digest()
    ).decode()
    crc = str(checksum.crc64(b"data"))
    client.put(key, b"data", headers={"Content-MD5": md5, "x-oss-hash-crc64ecma": crc})


def test_forbid_overwrite(client, refusal, key):
    """An exclusive PUT of a taken key is 409 and changes nothing."""
    exclusive = {"x-oss-forbid-overwrite": "true"}
    client.put(key, b"first", headers=exclusive)
    reply = client.call("PUT", key, data=b"second", headers=exclusive)
    assert refusal(reply) == (409, "FileAlreadyExists", "0026-00000002")
    assert client.oss.requests[-1].bytes == 0
    assert client.oss.get(BUCKET, key).data() == b"first"
    client.put(key, b"third", headers={"x-oss-forbid-overwrite": "false"})
    assert client.oss.get(BUCKET, key).data() == b"third"


def test_forbid_overwrite_holds_to_the_end(client, refusal, key):
    """A key that is taken while the body comes in is not overwritten."""

    def body():
        yield b"late"
        client2 = type(client)(client.oss)
        client2.put(key, b"early")
        client2.session.close()

    reply = client.call(
        "PUT", key, data=body(), headers={"x-oss-forbid-overwrite": "true"}
    )
    assert refusal(reply)[:2] == (409, "FileAlreadyExists")
    assert client.oss.get(BUCKET, key).data() == b"early"


def test_a_versioned_bucket_ignores_forbid_overwrite(make_client):
    """With versioning on, an exclusive PUT overwrites and names a version."""
    with Emulator(buckets=[], versioned=["versioned-bucket"]) as oss:
        client = make_client(oss)
        exclusive = {"x-oss-forbid-overwrite": "true"}
        options = {"bucket": "versioned-bucket", "headers": exclusive}
        first = client.put("k", b"1", **options).headers["x-oss-version-id"]
        second = client.put("k", b"2", **options).headers["x-oss-version-id"]
        assert first != second
        assert oss.get("versioned-bucket", "k").data() == b"2"
        upload = client.initiate("k", **options)
        etag = client.part("k", upload, 1, b"3", bucket="versioned-bucket").headers[
            "ETag"
        ]
        reply = client.complete("k", upload, [(1, etag)], **options)
        assert reply.headers["x-oss-version-id"] not in (first, second)


def test_size_limit(make_client, refusal):
    """A body above the limit is EntityTooLarge, announced or not, and not stored."""
    with Emulator(max_put=10) as oss:
        client = make_client(oss)
        announced = client.call("PUT", "k", data=b"x" * 11)
        chunked = client.call("PUT", "k", data=iter([b"x" * 11]))
        assert refusal(announced)[:2] == refusal(chunked)[:2] == (400, "EntityTooLarge")
        assert oss.get(BUCKET, "k") is None
        client.put("k", b"x" * 10)


def test_a_chunked_body_is_stored(client, key):
    """A body without Content-Length is taken to its end."""
    client.put(key, iter([b"ab", b"cd"]))
    assert client.oss.get(BUCKET, key).data() == b"abcd"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://up.example", 200),
        ("http://up.invalid/a;up.example", 203),
        ("up.invalid:80/a", 203),
        ("http://invalid", 200),
        (7, 200),
    ],
)
def test_callbacks_of_a_store_without_a_server(client, url, status):
    """All arrive, but those whose first host is none by its name."""
    headers = {"x-oss-callback": callback({"callbackUrl": url, "callbackBody": "a"})}
    assert client.call("PUT", "k", data=b"x", headers=headers).status_code == status


def test_callback_answers_for_the_object(make_client, refusal):
    """The callback server's JSON is the answer; its failure is 203 and stored."""
    said = []

    def server(wanted):
        said.append(wanted)
        return None if wanted["callbackUrl"] == "http://down.example" else b'{"ok":1}'

    with Emulator(callback=server) as oss:
        client = make_client(oss)
        good = callback({"callbackUrl": "http://up.example"})
        bad = callback({"callbackUrl": "http://down.example"})
        reply = client.put("good", query={"callback": good})
        assert reply.json() == {"ok": 1}
        assert reply.headers["Content-Type"] == "application/json"
        reply = client.call("PUT", "bad", data=b"x", headers={"x-oss-callback": bad})
        assert refusal(reply) == (203, "CallbackFailed", "0007-00000203")
        assert "ETag" in reply.headers
        assert oss.get(BUCKET, "bad").data() == b"x"
        reply = client.call(
            "PUT", "both", query={"callback": good}, headers={"x-oss-callback": good}
        )
        assert refusal(reply)[:2] == (400, "InvalidArgument")
        assert [value["callbackUrl"][7:9] for value in said] == ["up", "do"]


def test_the_default_callback_server_is_content(client, key):
    """Without a hook every callback succeeds."""
    wanted = callback({"callbackUrl": "http://up.example"})
    assert client.put(key, query={"callback": wanted}).json() == {"Status": "OK"}


def test_a_put_without_a_length(client, oss):
    """Neither Content-Length nor chunks is 411."""
    request = raw_request(client, "PUT", "k", 0).replace(b"Content-Length: 0\r\n", b"")
    with connect(oss) as peer:
        peer.sendall(request)
        assert peer.recv(65536).startswith(b"HTTP/1.1 411 ")
    assert oss.requests[-1].code == "MissingContentLength"

"""Properties that an object keeps, and their limits."""

from __future__ import annotations

import base64
import json

import pytest

BUCKET = "examplebucket"


def callback(value) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def test_properties_are_kept_and_given_back(client, key):
    """Type, caching, metadata, class, encryption and tags of a PUT come back."""
    free = {
        "Cache-Control": "no-cache",
        "Content-Disposition": "attachment",
        "Content-Encoding": "identity",
        "Content-Language": "de",
        "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    }
    signed = {
        "Content-Type": "text/csv",
        "x-oss-meta-Color": "blue",
        "x-oss-storage-class": "IA",
        "x-oss-server-side-encryption": "AES256",
        "x-oss-tagging": "a=1&b=2",
        "x-oss-object-acl": "private",
    }
    put = client.put(key, headers=signed, unsigned=free)
    assert put.headers["x-oss-server-side-encryption"] == "AES256"
    reply = client.call("HEAD", key)
    for name in ("Content-Type", "x-oss-meta-Color", "x-oss-storage-class",
                 "x-oss-server-side-encryption"):  # fmt: skip
        assert reply.headers[name] == signed[name]
    assert {n: reply.headers[n] for n in free} == free
    assert reply.headers["x-oss-tagging-count"] == "2"
    assert "x-oss-object-acl" not in reply.headers
    assert client.oss.get(BUCKET, key).headers["x-oss-object-acl"] == "private"


def test_defaults_of_an_object(client, key):
    """Without a type it is octet-stream, without a class Standard."""
    client.put(key)
    headers = client.call("HEAD", key).headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["x-oss-storage-class"] == "Standard"
    assert headers["x-oss-object-type"] == "Normal"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x-oss-storage-class": "Cold"}, 400, "InvalidStorageClass"),
        ({"x-oss-object-acl": "mine"}, 400, "InvalidArgument"),
        ({"x-oss-server-side-encryption": "ROT13"}, 400,
         "InvalidEncryptionAlgorithmError"),
        ({"x-oss-tagging": "&".join(f"k{i}=v" for i in range(11))}, 400, "InvalidTag"),
        ({"x-oss-tagging": "a=1&a=2"}, 400, "InvalidTag"),
        ({"x-oss-tagging": "a=" + "v" * 257}, 400, "InvalidTag"),
        ({"x-oss-meta-a_b": "1"}, 400, "InvalidArgument"),
        ({"x-oss-meta-a": "v" * 8192}, 400, "MetadataTooLarge"),
        ({"x-oss-traffic-limit": "1"}, 400, "InvalidArgument"),
        ({"x-oss-callback": "%"}, 400, "InvalidArgument"),
        ({"x-oss-callback": callback([])}, 400, "InvalidArgument"),
        ({"x-oss-callback": callback({"callbackUrl": "x" * 6000})}, 400,
         "InvalidArgument"),
        ({"Content-MD5": "%"}, 400, "InvalidDigest"),
        ({"Content-MD5": "AAAA"}, 400, "InvalidDigest"),
        ({"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, 400, "InvalidDigest"),
        ({"x-oss-hash-crc64ecma": "1"}, 400, "InvalidCRC64"),
    ],
)  # fmt: skip
def test_bad_headers_store_nothing(client, refusal, key, headers, status, code):
    """What OSS refuses in a PUT is refused, and nothing is stored."""
    reply = client.call("PUT", key, headers=headers, data=b"data")
    assert refusal(reply)[:2] == (status, code)
    assert client.oss.get(BUCKET, key) is None


def test_conditions_on_a_put_are_not_implemented(client, refusal, key):
    """If-None-Match on a PUT is refused, not ignored."""
    reply = client.call("PUT", key, unsigned={"If-None-Match": "*"})
    assert refusal(reply)[:2] == (400, "NotImplemented")


def test_traffic_limit_comes_once(client, refusal, key):
    """A traffic limit in the query or the header is taken, in both refused."""
    limit = {"x-oss-traffic-limit": "819200"}
    client.put(key, headers=limit)
    client.put(key, query=limit)
    reply = client.call("PUT", key, headers=limit, query=limit)
    assert refusal(reply)[:2] == (400, "InvalidArgument")


def test_encryption_by_kms_names_a_key(client, key):
    """Without a key of its own the account's is named, in every reply, appends too."""
    name = "x-oss-server-side-encryption"
    append = {"append": "", "position": "0"}
    first = client.call("POST", key, query=append, data=b"a", headers={name: "KMS"})
    query = {**append, "position": "1"}
    second = client.call("POST", key, query=query, data=b"b")
    own = {name: "KMS", f"{name}-key-id": "mine"}
    third = client.put(f"{key}-own", headers=own)
    told = [(r.headers[name], r.headers[f"{name}-key-id"]) for r in (first, second)]
    assert told[0] == told[1]
    assert told[0][1]
    assert third.headers[f"{name}-key-id"] == "mine"

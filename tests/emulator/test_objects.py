"""PutObject, CopyObject, DeleteObject and what they keep."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import uuid

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http import body as checksum
from fsspec_osspresigned.parsing import parse
from fsspec_osspresigned.signing.presigning import PresignRequest

BUCKET = "examplebucket"


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return uuid.uuid4().hex


def callback(value) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_put_answers_what_was_stored(client, key, version):
    """ETag, Content-MD5 and CRC-64 of a PUT are those of its bytes."""
    reply = client.put(key, b"hello", version=version)
    digest = hashlib.md5(b"hello", usedforsecurity=False)
    assert reply.headers["ETag"] == f'"{digest.hexdigest().upper()}"'
    assert base64.b64decode(reply.headers["Content-MD5"]) == digest.digest()
    assert reply.headers["x-oss-hash-crc64ecma"] == str(checksum.crc64(b"hello"))
    assert reply.headers["Server"] == "AliyunOSS"
    assert {"Date", "x-oss-request-id", "x-oss-server-time"} <= reply.headers.keys()
    stored = client.oss.get(BUCKET, key)
    assert (stored.size, stored.data(), stored.kind) == (5, b"hello", "Normal")
    assert client.oss.objects(BUCKET)[key] == b"hello"
    assert key in repr(client.oss.objects(BUCKET))
    assert len(client.oss.objects(BUCKET)) > 0


def test_an_empty_object_is_an_object(client, key):
    """Zero bytes are stored as such."""
    client.put(key, b"")
    assert client.oss.get(BUCKET, key).data() == b""


@pytest.mark.parametrize(
    "key",
    [
        "a/../b", "a//b", "a/./b", "a%2Fb", "a+b", "a b", "ü/日本語", "a~b", "a?b#c&d=e",
        "a\\b", ".", "..", "a/", "!'()*", "\x01\x7f", "dir/..", "%", "\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["v1", "v4"])
def test_keys_are_taken_as_they_are(client, key, version):
    """Nothing in a key is normalised, on the way in or out."""
    data = f"{version}{key}".encode()
    client.put(key, data, version=version)
    assert client.oss.get(BUCKET, key).data() == data
    assert client.call("GET", key, version=version).content == data
    assert client.oss.requests[-1].key == key


@pytest.mark.parametrize("key", ["/a", "\\a", "x" * 1024, "ü" * 512])
def test_bad_keys_are_refused(client, refusal, key, oss):
    """A key with a slash in front, or too long, is InvalidObjectName."""
    url = PresignRequest(
        oss.credentials, oss.endpoint, method="PUT", bucket=BUCKET, key=key,
        headers={}, query={}, version="v4", region="cn-hangzhou", product="oss",
        now=time.time(), expires_in=60, additional_headers=(),
    ).sign().reveal()  # fmt: skip
    assert refusal(client.send("PUT", url, data=b"x"))[:2] == (400, "InvalidObjectName")


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
    client.put(key, headers=signed, unsigned=free)
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


def test_delete_is_silent(client, key):
    """DELETE is 204 whether the object existed or not."""
    client.put(key)
    assert [client.call("DELETE", key).status_code for _ in range(2)] == [204, 204]
    assert client.oss.get(BUCKET, key) is None


def test_copy_keeps_or_replaces_properties(client, key, tree):
    """A copy has the source's bytes, and its metadata unless told otherwise."""
    client.put(
        key, b"data",
        headers={"Content-Type": "text/csv", "x-oss-meta-a": "1", "x-oss-tagging": "t=1"},
    )  # fmt: skip
    source = {"x-oss-copy-source": f"/{BUCKET}/{key}"}
    reply = client.call(
        "PUT", f"{key}-copy", headers={**source, "x-oss-storage-class": "IA"}
    )
    stored = client.oss.get(BUCKET, f"{key}-copy")
    assert tree(reply).findtext("ETag") == f'"{stored.etag}"'
    assert stored.data() == b"data"
    assert stored.headers == {
        "content-type": "text/csv",
        "x-oss-meta-a": "1",
        "x-oss-tagging": "t=1",
        "x-oss-storage-class": "IA",
    }
    replace = {
        **source,
        "x-oss-metadata-directive": "REPLACE",
        "x-oss-tagging-directive": "Replace",
        "x-oss-tagging": "t=2",
        "x-oss-meta-b": "2",
    }
    client.call("PUT", f"{key}-new", headers=replace)
    headers = client.oss.get(BUCKET, f"{key}-new").headers
    assert headers["x-oss-meta-b"] == "2"
    assert headers["x-oss-tagging"] == "t=2"
    assert headers["content-type"] == "application/octet-stream"
    assert "x-oss-meta-a" not in headers
    client.call("DELETE", key)
    assert client.oss.get(BUCKET, f"{key}-copy").data() == b"data"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"x-oss-copy-source": "nothing"}, 400, "InvalidArgument"),
        ({"x-oss-copy-source": "/otherbucket/k"}, 404, "NoSuchBucket"),
        ({"x-oss-copy-source": f"/{BUCKET}/absent?versionId=1"}, 404, "NoSuchKey"),
        ({"x-oss-copy-source": f"/{BUCKET}/source", "x-oss-copy-source-if-match": "no"},
         412, "PreconditionFailed"),
        ({"x-oss-copy-source": f"/{BUCKET}/source", "x-oss-metadata-directive": "no"},
         400, "InvalidArgument"),
    ],
)  # fmt: skip
def test_copies_that_are_refused(client, refusal, key, headers, status, code):
    """A copy without a source, or with a wrong word, stores nothing."""
    client.put("source")
    assert refusal(client.call("PUT", key, headers=headers))[:2] == (status, code)
    assert client.oss.get(BUCKET, key) is None


def delete_body(*keys: str, quiet: str = "false") -> bytes:
    rows = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>{quiet}</Quiet>{rows}</Delete>".encode()


def delete_many(client, body: bytes, *, md5: bool = True, **query: str):
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    headers = {"Content-MD5": base64.b64encode(digest).decode()} if md5 else {}
    return client.call(
        "POST", "", query={"delete": "", **query}, headers=headers, data=body
    )


def test_delete_many(client, key, tree):
    """DeleteMultipleObjects deletes what is named, and answers it unless quiet."""
    keys = [f"{key} {i}" for i in range(4)]
    for one in keys:
        client.put(one)
    reply = delete_many(client, delete_body(keys[0], keys[1]))
    assert [e.findtext("Key") for e in tree(reply).iterfind("Deleted")] == keys[:2]
    reply = delete_many(client, delete_body(keys[2]), **{"encoding-type": "url"})
    assert tree(reply).findtext("EncodingType") == "url"
    assert tree(reply).findtext("Deleted/Key") == keys[2].replace(" ", "%20")
    reply = delete_many(client, delete_body(keys[3], quiet="true"))
    assert reply.content == b""
    assert not set(keys) & set(client.oss.objects(BUCKET))


@pytest.mark.parametrize(
    "body",
    [b"no xml", b"<Other/>", delete_body(), delete_body(""), delete_body(*"k" * 1001)],
)
def test_delete_many_wants_a_good_list(client, refusal, body):
    """A list that is no list, empty or too long is MalformedXML."""
    assert refusal(delete_many(client, body))[:2] == (400, "MalformedXML")


def test_delete_many_wants_its_md5(client, refusal):
    """Content-MD5 must be there and right; a huge body is refused."""
    body = delete_body("k")
    reply = delete_many(client, body, md5=False)
    assert refusal(reply)[:2] == (400, "MissingArgument")
    reply = client.call(
        "POST", "", query={"delete": ""}, data=body,
        headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
    )  # fmt: skip
    assert refusal(reply)[:2] == (400, "InvalidDigest")
    reply = delete_many(client, b"<" * (2 * 1024 * 1024 + 1))
    assert refusal(reply)[:2] == (400, "EntityTooLarge")


def test_acl_and_tagging_are_answered(client, key, tree):
    """GET ?acl and ?tagging give what the PUT set."""
    client.put(
        key, headers={"x-oss-object-acl": "public-read", "x-oss-tagging": "a=1&b="}
    )
    acl = tree(client.call("GET", key, query={"acl": ""}))
    assert acl.findtext("AccessControlList/Grant") == "public-read"
    tags = tree(client.call("GET", key, query={"tagging": ""}))
    found = [(t.findtext("Key"), t.findtext("Value")) for t in tags.iter("Tag")]
    assert found == [("a", "1"), ("b", "")]


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

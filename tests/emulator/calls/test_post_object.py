"""PostObject: what is stored, and what is answered."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http import checksums
from tests.emulator.forms import BUCKET, Poster, form, part, signed

CRC = "x-oss-hash-crc64ecma"


def test_the_reply_tells_what_was_stored(poster, oss, key):
    """204, the CRC-64 of the file alone, and an ETag that is not its MD5."""
    reply = poster.post(key, b"hello")
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers[CRC] == str(checksums.crc64(b"hello"))
    md5 = hashlib.md5(b"hello", usedforsecurity=False).hexdigest().upper()
    stored = oss.get(BUCKET, key)
    assert reply.headers["ETag"] == f'"{stored.etag}"'
    assert md5 not in reply.headers["ETag"]
    assert "Content-MD5" not in reply.headers
    assert "x-oss-request-id" in reply.headers
    assert (stored.data(), stored.kind) == (b"hello", "Normal")
    record = oss.requests[-1]
    assert (record.action, record.key, record.bytes) == ("PostObject", key, 5)
    assert poster.post(key, b"").status_code == 204
    assert oss.get(BUCKET, key).data() == b""


@pytest.mark.parametrize(
    ("asked", "status"),
    [("200", 200), ("201", 201), ("204", 204), ("202", 204), ("", 204)],
)
def test_the_status_that_is_asked_for(poster, tree, oss, key, asked, status):
    """200, 201 with a document, and 204, which stands for all others as well."""
    reply = poster.post(f"{key}/ü&b", also={"success_action_status": asked})
    assert reply.status_code == status
    assert CRC in reply.headers
    if status != 201:
        assert reply.content == b""
        return
    found = {child.tag: child.text for child in tree(reply)}
    assert tree(reply).tag == "PostResponse"
    assert found == {
        "Location": f"{oss.url}/{BUCKET}/{key}/%C3%BC%26b",
        "Bucket": BUCKET,
        "ETag": reply.headers["ETag"],
        "Key": f"{key}/ü&b",
    }


def test_a_redirect(poster, oss, refusal, key):
    """A success leads on; a refusal does not; a target is one line."""
    also = {"success_action_redirect": "http://127.0.0.1:1/done?a=b"}
    reply = poster.post(key, also=also)
    assert reply.status_code == 303
    assert reply.headers["Location"] == also["success_action_redirect"]
    assert oss.get(BUCKET, key).data() == b"x"
    also["x-oss-object-acl"] = "nonsense"
    assert refusal(poster.post(key, also=also))[:2] == (400, "InvalidArgument")
    also = {"success_action_redirect": "/\r\nSet-Cookie: a=b"}
    assert refusal(poster.post(key, also=also))[:2] == (400, "InvalidArgument")


def test_properties_are_fields(poster, client, oss, key):
    """Headers of the object, metadata, ACL, class and encryption come from fields."""
    also = {
        "Cache-Control": "no-store",
        "Content-Disposition": "attachment",
        "Content-Encoding": "gzip",
        "Expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-oss-meta-Ünit".replace("Ü", "u"): "größe",
        "x-oss-storage-class": "IA",
        "x-oss-object-acl": "public-read",
        "x-oss-server-side-encryption": "AES256",
        "x-oss-tagging": "a=b",
    }
    reply = poster.post(key, also=also)
    assert reply.headers["x-oss-server-side-encryption"] == "AES256"
    headers = oss.get(BUCKET, key).headers
    wanted = {name.lower(): value for name, value in also.items()}
    assert headers == {**wanted, "content-type": "application/octet-stream"}
    got = client.call("GET", key)
    assert got.headers["Cache-Control"] == "no-store"
    assert got.headers["x-oss-meta-unit"].encode("latin-1").decode() == "größe"


@pytest.mark.parametrize(
    ("head", "also", "kind"),
    [
        ((), {"Content-Type": "text/a"}, "text/a"),
        (("Content-Type: text/b",), {"Content-Type": "text/a"}, "text/b"),
        (("Content-Type: text/b",), {"x-oss-content-type": "text/c"}, "text/c"),
        ((), {}, "application/octet-stream"),
    ],
)
def test_the_content_type(poster, oss, key, head, also, kind):
    """The field of OSS's own wins over the file's part, that over the other field."""
    poster.post(key, b"x", *head, also=also)
    assert oss.get(BUCKET, key).headers["content-type"] == kind


@pytest.mark.parametrize(
    ("also", "headers", "acl"),
    [
        ({"acl": "private"}, {}, "private"),
        ({"acl": "private", "x-oss-object-acl": "public-read"}, {}, "public-read"),
        ({}, {"x-oss-object-acl": "public-read"}, "public-read"),
        ({"x-oss-object-acl": "private"}, {"x-oss-object-acl": "public-read"}, "private"),
    ],
)  # fmt: skip
def test_the_acl(poster, oss, key, also, headers, acl):
    """It may come as a field, as S3's alias, or in a header, which the field beats."""
    poster.post(key, also=also, headers=headers)
    assert oss.get(BUCKET, key).headers["x-oss-object-acl"] == acl


@pytest.mark.parametrize(
    ("also", "code"),
    [
        ({"x-oss-object-acl": "everybody"}, "InvalidArgument"),
        ({"acl": "everybody"}, "InvalidArgument"),
        ({"x-oss-storage-class": "Cold"}, "InvalidStorageClass"),
        ({"x-oss-server-side-encryption": "ROT13"}, "InvalidEncryptionAlgorithmError"),
        ({"x-oss-forbid-overwrite": "perhaps"}, "InvalidArgument"),
        ({"x-oss-meta-a": "x" * 9000}, "MetadataTooLarge"),
        ({"x-oss-meta-a": "1\r\nx-oss-meta-b: 2"}, "InvalidArgument"),
        ({"x-oss-tagging": "a=1&a=2"}, "InvalidTag"),
        ({"x-oss-traffic-limit": "1"}, "InvalidArgument"),
        ({"x-oss-process": "image/resize,w_1"}, "NotImplemented"),
        ({"callback": "nonsense"}, "InvalidArgument"),
    ],
)
def test_bad_fields(poster, oss, refusal, key, also, code):
    """A value that OSS does not take is refused, and nothing is stored."""
    assert refusal(poster.post(key, also=also))[:2] == (400, code)
    assert oss.get(BUCKET, key) is None


def test_forbid_overwrite(poster, oss, refusal, key):
    """An object that is there stays, and the code says so."""
    lock = {"x-oss-forbid-overwrite": "true"}
    assert poster.post(key, b"first", also=lock).status_code == 204
    reply = poster.post(key, b"second", also=lock)
    assert refusal(reply)[:2] == (409, "FileAlreadyExists")
    assert oss.get(BUCKET, key).data() == b"first"
    assert poster.post(key, b"third").status_code == 204
    assert oss.get(BUCKET, key).data() == b"third"


def test_a_bucket_with_versions(make_client):
    """The version is told, and forbid-overwrite has no effect."""
    with Emulator(versioned=(BUCKET,)) as oss:
        poster = Poster(oss, make_client(oss))
        lock = {"x-oss-forbid-overwrite": "true"}
        replies = [poster.post("k", also=lock) for _ in range(2)]
        versions = {reply.headers["x-oss-version-id"] for reply in replies}
        assert len(versions) == 2


@pytest.mark.parametrize(
    ("filename", "stored"),
    [("a.txt", "in/a.txt"), ("C:\\b c.txt", "in/b c.txt"), ("x/ü.txt", "in/ü.txt"),
     (None, "in/")],
)  # fmt: skip
def test_the_filename_in_the_key(poster, oss, filename, stored):
    """``${filename}`` is expanded after the policy has seen the key as it was sent."""
    condition = ["eq", "$key", "in/${filename}"]
    reply = poster.post(
        "in/${filename}", b"x", conditions=[condition], filename=filename
    )
    assert reply.status_code == 204
    assert oss.get(BUCKET, stored).data() == b"x"


@pytest.mark.parametrize("key", ["/a", "\\a", "x" * 1024])
def test_bad_keys(poster, refusal, key):
    """The rules for keys are those of PutObject."""
    assert refusal(poster.post(key))[:2] == (400, "InvalidObjectName")


def test_a_form_without_a_key(poster, refusal):
    """An empty key, or none, is refused."""
    assert refusal(poster.post(""))[:2] == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (9, (400, "EntityTooSmall", "0006-00000004")),
        (10, None),
        (20, None),
        (21, (400, "EntityTooLarge", "0006-00000003")),
    ],
)
def test_the_size_range(poster, oss, refusal, key, size, expected):
    """The size of the file is in the range of the policy, both ends included."""
    ranges = [["content-length-range", 10, 100], ["content-length-range", 0, 20]]
    reply = poster.post(key, b"x" * size, conditions=[{"bucket": BUCKET}, *ranges])
    if expected is None:
        assert reply.status_code == 204
    else:
        assert refusal(reply) == expected
        assert oss.get(BUCKET, key) is None


def test_the_largest_body(make_client, refusal):
    """A body over the limit of a PUT is refused, whole or as it comes."""
    with Emulator(max_put=3000) as oss:
        poster = Poster(oss, make_client(oss))
        wide = [{"bucket": BUCKET}, ["content-length-range", 0, 10**10]]
        assert poster.post("k", b"x", conditions=wide).status_code == 204
        reply = poster.post("k", b"x" * 2900, conditions=wide)
        assert refusal(reply)[:2] == (400, "EntityTooLarge")
        assert oss.get(BUCKET, "k").size == 1


@pytest.mark.parametrize("answer", [b'{"a":1}', None])
def test_a_callback(make_client, refusal, answer):
    """200 with the callback server's answer; a failure is 203, the object stays."""
    told = []
    with Emulator(callback=lambda value: told.append(value) or answer) as oss:
        value = {"callbackUrl": "http://127.0.0.1/"}
        text = base64.b64encode(json.dumps(value).encode()).decode()
        also = {"callback": text, "x:a": "1", "success_action_status": "201"}
        reply = Poster(oss, make_client(oss)).post("k", also=also)
        assert told == [value]
        assert oss.get(BUCKET, "k").data() == b"x"
        if answer is None:
            assert refusal(reply)[:2] == (203, "CallbackFailed")
        else:
            assert (reply.status_code, reply.content) == (200, answer)


def test_every_style_of_address(make_client):
    """The bucket is in the path, in the host name, or behind a name of its own."""
    with Emulator(cnames={"files.example.com": BUCKET}) as oss:
        client = make_client(oss)
        body = form(
            *(part(n, v) for n, v in signed(oss.credentials).items()),
            part("key", "styled"),
            part("file", b"x"),
        )
        kind = {"Content-Type": "multipart/form-data; boundary=9431149156168"}
        hosts = (f"{BUCKET}.oss-cn-hangzhou.aliyuncs.com", "files.example.com")
        for path, host in ((f"/{BUCKET}", {}), *(("/", {"Host": h}) for h in hosts)):
            headers = {**kind, **host}
            reply = client.send("POST", f"{oss.url}{path}", headers=headers, data=body)
            assert reply.status_code == 204
            assert (oss.requests[-1].bucket, oss.requests[-1].key) == (BUCKET, "styled")


def test_a_form_for_an_object(poster, client, refusal):
    """A path that names an object is no address for a form."""
    reply = client.call("POST", "k", data=b"x")
    assert refusal(reply)[:2] == (405, "MethodNotAllowed")
    assert b"<Method>POST</Method>" in reply.content
    reply = poster.send(form(part("file", b"x")), path="/otherbucket/")
    assert refusal(reply)[:2] == (404, "NoSuchBucket")


def test_browsers_may(poster, client, oss):
    """A preflight for POST is answered, and each reply says who may read it."""
    origin = {"Origin": "https://app.example.com"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    reply = client.send("OPTIONS", f"{oss.url}/{BUCKET}/", headers=asked)
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    reply = poster.post("k", headers=origin)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert CRC in reply.headers["Access-Control-Expose-Headers"]
    reply = poster.post("k", fields={}, headers=origin)
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (
        403,
        "*",
    )


def test_a_traffic_limit(poster, oss, key):
    """A good one is taken; the file comes at that speed."""
    reply = poster.post(key, b"x" * 20_000, also={"x-oss-traffic-limit": "819200"})
    assert reply.status_code == 204
    assert int(reply.headers["x-oss-server-time"]) >= 150

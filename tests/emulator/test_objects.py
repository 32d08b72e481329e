"""Objects that are put, appended, copied, read and deleted."""

from __future__ import annotations

import base64
import hashlib
import json
import time
import tracemalloc
from email.utils import formatdate, parsedate_to_datetime

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.http.checksums import crc64
from tests.emulator.conftest import refusal, tree

BUCKET = "examplebucket"
COPY = "x-oss-copy-source"
CRC = "x-oss-hash-crc64ecma"
NEXT = "x-oss-next-append-position"
DATA = b"0123456789"
MIB = 1024 * 1024
PAST, FUTURE = formatdate(0, usegmt=True), formatdate(4e9, usegmt=True)
STANDARD = {"x-oss-range-behavior": "standard"}
both = pytest.mark.parametrize("version", ["v1", "v4"])


def callback(url: object) -> str:
    """Return a callback as it is sent."""
    return base64.b64encode(json.dumps({"callbackUrl": url}).encode()).decode()


@both
def test_what_is_put_comes_back(client, version):
    """Checksums are those of the bytes; HEAD answers the headers of GET."""
    free = {
        "Cache-Control": "no-cache",
        "Content-Disposition": "attachment",
        "Content-Encoding": "identity",
        "Content-Language": "de",
        "Expires": "Wed, 21 Oct 2026 07:28:00 GMT",
    }
    shown = {
        "Content-Type": "text/csv",
        "x-oss-meta-Color": "blue",
        "x-oss-storage-class": "IA",
        "x-oss-server-side-encryption": "AES256",
    }
    hidden = {"x-oss-tagging": "a=1&b=2", "x-oss-object-acl": "private"}
    headers, options = {**shown, **hidden}, {"version": version}
    put = client.put("k", DATA, headers=headers, unsigned=free, **options).headers
    digest = hashlib.md5(DATA, usedforsecurity=False)
    assert put["ETag"] == f'"{digest.hexdigest().upper()}"'
    assert base64.b64decode(put["Content-MD5"]) == digest.digest()
    assert put[CRC] == str(crc64(DATA))
    assert put["x-oss-server-side-encryption"] == "AES256"
    stored = client.oss.get(BUCKET, "k")
    assert (stored.size, stored.data(), stored.kind) == (10, DATA, "Normal")
    assert stored.headers["x-oss-object-acl"] == "private"
    got = client.call("GET", "k", **options)
    head = client.call("HEAD", "k", **options)
    assert (got.content, head.content) == (DATA, b"")
    assert got.headers["Accept-Ranges"] == "bytes"
    for reply in (got, head):
        names = (*free, *shown)
        assert {n: reply.headers[n] for n in names} == {**free, **shown}
        assert reply.headers["x-oss-tagging-count"] == "2"
        assert "x-oss-object-acl" not in reply.headers
        assert reply.headers["Content-Length"] == "10"
        assert (reply.headers["ETag"], reply.headers[CRC]) == (put["ETag"], put[CRC])
    meta = client.call("HEAD", "k", query={"objectMeta": ""}).headers
    assert (meta["ETag"], meta["Content-Length"]) == (put["ETag"], "10")


def test_defaults_of_an_object(client, oss):
    """Without a type it is octet-stream, without a class Standard; its time is the server's."""
    oss.clock.offset = moment = 1_000_000_000
    client.put("k", b"", now=oss.clock())
    headers = client.call("HEAD", "k", now=oss.clock()).headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["x-oss-storage-class"] == "Standard"
    assert headers["x-oss-object-type"] == "Normal"
    for name in ("Date", "Last-Modified"):
        date = parsedate_to_datetime(headers[name]).timestamp()
        assert date == pytest.approx(time.time() + moment, abs=30)


@both
@pytest.mark.parametrize(
    "key",
    [
        "a/../b", "a//b", "a/./b", "a%2Fb", "a+b", "a b", "ü/日本語", "a~b", "a?b#c&d=e",
        "a\\b", ".", "..", "a/", "!'()*", "\x01\x7f", "dir/..", "%", "\r\n",
    ],
)  # fmt: skip
def test_keys_are_taken_as_they_are(client, key, version):
    """Nothing in a key is normalised, on the way in or out."""
    client.put(key, key.encode(), version=version)
    assert client.oss.objects(BUCKET) == {key: key.encode()}
    assert client.call("GET", key, version=version).content == key.encode()
    assert client.call("DELETE", key, version=version).status_code == 204
    assert client.call("DELETE", key, version=version).status_code == 204
    assert client.oss.objects(BUCKET) == {}


def test_a_plus_is_a_blank(client):
    """In the path and in a copy source, as Ruby's and Go's SDKs write it."""
    url = client.url("PUT", "p q+r").replace("p%20q", "p+q")
    assert client.send("PUT", url, data=b"x").status_code == 200
    assert client.oss.get(BUCKET, "p q+r").data() == b"x"
    source = {COPY: f"/{BUCKET}/p+q%2Br"}
    assert client.call("PUT", "p+copy", headers=source).status_code == 200
    assert client.oss.get(BUCKET, "p+copy").data() == b"x"


@pytest.mark.parametrize("asked", [{}, STANDARD])
@pytest.mark.parametrize(
    ("wanted", "data", "standard"),
    [
        ("bytes=0-0", b"0", None),
        ("bytes=2-5", b"2345", None),
        ("bytes=9-9", b"9", None),
        ("bytes=4-", b"456789", None),
        ("bytes=-3", b"789", None),
        ("bytes=-10", DATA, None),
        # Outside of the object: everything, unless the standard behaviour is wanted.
        ("bytes=8-99", "all", b"89"),
        ("bytes=-99", "all", DATA),
        ("bytes=10-", "all", "416"),
        ("bytes=10-12", "all", "416"),
        ("bytes=-0", "all", "416"),
        ("bytes=5-4", "all", "all"),
        ("bytes=0-1,3-4", "all", "all"),
        ("lines=0-1", "all", "all"),
    ],
)
def test_ranges(client, asked, wanted, data, standard):
    """A range within the object is 206, with the CRC-64 of the whole object."""
    crc = client.put("digits", DATA).headers[CRC]
    expected = data if standard is None or not asked else standard
    reply = client.call("GET", "digits", headers=asked, unsigned={"Range": wanted})
    if expected == "416":
        assert refusal(reply)[:2] == (416, "InvalidRange")
        assert reply.headers["Content-Range"] == "bytes */10"
        return
    assert reply.headers[CRC] == crc
    if expected == "all":
        assert (reply.status_code, reply.content) == (200, DATA)
        return
    assert (reply.status_code, reply.content) == (206, expected)
    start = DATA.index(expected)
    span = f"bytes {start}-{start + len(expected) - 1}/10"
    assert reply.headers["Content-Range"] == span


def test_overrides(client):
    """response-* parameters replace headers of the reply."""
    client.put("k")
    query = {"response-content-type": "text/x", "response-cache-control": "no-store"}
    headers = client.call("GET", "k", query=query).headers
    assert headers["Content-Type"] == "text/x"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("condition", "value", "status"),
    [
        ("If-Match", "{etag}", 200),
        ("If-Match", '"a", {etag}', 200),
        ("If-Match", "*", 200),
        ("If-Match", '"a"', 412),
        ("If-Unmodified-Since", "yesterday", 200),
        ("If-Unmodified-Since", f"Mon, 01 Jan 2026 00:00:00 +{'9' * 30}", 200),
        ("If-Unmodified-Since", FUTURE, 200),
        ("If-Unmodified-Since", PAST, 412),
    ],
)
def test_conditions(client, condition, value, status):
    """They hold for GET, HEAD and the source of a copy, which ignores the plain names."""
    etag = client.put("k", DATA).headers["ETag"]
    headers = {condition: value.replace("{etag}", etag)}
    got = client.call("GET", "k", unsigned=headers)
    assert got.status_code == client.call("HEAD", "k", unsigned=headers).status_code
    assert got.status_code == status
    if status == 412:
        assert f"<Condition>{condition}</Condition>" in got.text
    source = {COPY: f"/{BUCKET}/k", f"{COPY}-{condition}": headers[condition]}
    copied = client.call("PUT", "c", headers=source, unsigned={condition: '"0"'})
    assert copied.status_code == status


def test_large_objects_are_in_files(make_client):
    """Memory grows by a small part of them, and a file goes with its last reader."""
    with Emulator() as oss:
        client = make_client(oss)
        client.put("warm")
        tracemalloc.start()
        try:
            client.put("large", (b"x" * MIB for _ in range(64)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 * MIB
        stored = oss.get(BUCKET, "large")
        folder = stored.body[0].path.parent
        wanted = {"Range": f"bytes=1048575-{2 * MIB}"}
        assert len(client.call("GET", "large", unsigned=wanted).content) == MIB + 2
        client.call("DELETE", "large")
        assert stored.size == len(stored.data()) == 64 * MIB
        del stored
        oss.faults.add(Fault(cut_after=8 * MIB))
        with pytest.raises(requests.ConnectionError):
            client.call("PUT", "cut", data=b"x" * (20 * MIB))
        assert [*folder.iterdir()] == []
        assert [*oss.objects(BUCKET)] == ["warm"]
    assert not folder.exists()


def test_copies_keep_or_replace_properties(client):
    """A copy has the source's bytes, and its metadata unless told otherwise."""
    own = {"Content-Type": "text/csv", "x-oss-meta-a": "1", "x-oss-tagging": "t=1"}
    client.put("k", b"data", headers=own)
    source = {COPY: f"/{BUCKET}/k"}
    reply = client.call("PUT", "copy", headers={**source, "x-oss-storage-class": "IA"})
    stored = client.oss.get(BUCKET, "copy")
    assert tree(reply).findtext("ETag") == f'"{stored.etag}"'
    kept = {"content-type": "text/csv", "x-oss-meta-a": "1", "x-oss-tagging": "t=1"}
    assert stored.headers == {**kept, "x-oss-storage-class": "IA"}
    replace = {
        **source,
        "x-oss-metadata-directive": "REPLACE",
        "x-oss-tagging-directive": "Replace",
        "x-oss-tagging": "t=2",
        "x-oss-meta-b": "2",
    }
    client.call("PUT", "new", headers=replace)
    headers = client.oss.get(BUCKET, "new").headers
    assert headers["x-oss-meta-b"] == "2"
    assert headers["x-oss-tagging"] == "t=2"
    assert headers["content-type"] == "text/csv"
    assert "x-oss-meta-a" not in headers
    client.call("PUT", "new", headers={**replace, "Content-Type": "a/b"})
    assert client.oss.get(BUCKET, "new").headers["content-type"] == "a/b"
    client.call("DELETE", "k")
    assert client.oss.get(BUCKET, "copy").data() == b"data"


def test_forbid_overwrite_holds_to_the_end(client):
    """A key that is taken while the body comes in is not overwritten."""

    def body():
        yield b"late"
        other = type(client)(client.oss)
        other.put("k", b"early")
        other.session.close()

    exclusive = {"x-oss-forbid-overwrite": "true"}
    reply = client.call("PUT", "k", data=body(), headers=exclusive)
    assert refusal(reply)[:2] == (409, "FileAlreadyExists")
    assert client.oss.get(BUCKET, "k").data() == b"early"
    client.put("k", b"third", headers={"x-oss-forbid-overwrite": "false"})
    assert client.oss.get(BUCKET, "k").data() == b"third"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://up.example", 200),
        ("http://up.invalid/a;up.example", 203),
        ("up.invalid:80/a", 203),
    ],
)
def test_callbacks_of_a_store_without_a_server(client, url, status):
    """All arrive, but those whose first host is none by its name; the object is stored."""
    headers = {"x-oss-callback": callback(url)}
    reply = client.call("PUT", "k", data=b"x", headers=headers)
    assert reply.status_code == status
    assert "ETag" in reply.headers
    assert client.oss.get(BUCKET, "k").data() == b"x"


def test_a_callback_server_of_the_test(make_client):
    """Its JSON is the answer; a callback in the query and in a header is refused."""
    with Emulator(callback=lambda wanted: json.dumps(wanted).encode()) as oss:
        client = make_client(oss)
        wanted = callback("http://up.example")
        reply = client.put("k", query={"callback": wanted})
        assert reply.json() == {"callbackUrl": "http://up.example"}
        assert reply.headers["Content-Type"] == "application/json"
        both_places = {"headers": {"x-oss-callback": wanted}}
        reply = client.call("PUT", "k", query={"callback": wanted}, **both_places)
        assert refusal(reply)[:2] == (400, "InvalidArgument")


def append(client, key, position, data, **options):
    """Append at a position."""
    query = {"append": "", "position": str(position)}
    return client.call("POST", key, query=query, data=data, **options)


def test_appends_add_up(client, oss):
    """The first makes the object with its properties, the next go behind it."""
    headers = {"Content-Type": "text/plain", "x-oss-meta-a": "1"}
    first = append(client, "k", 0, b"abc", headers=headers)
    assert (first.status_code, first.headers[NEXT]) == (200, "3")
    ignored = {"x-oss-meta-a": "2"}
    second = append(client, "k", 3, b"defg", headers=ignored)
    assert second.headers[NEXT] == "7"
    stored = oss.get(BUCKET, "k")
    assert (stored.data(), stored.kind) == (b"abcdefg", "Appendable")
    assert second.headers[CRC] == str(stored.crc64) == str(crc64(b"abcdefg"))
    assert stored.headers["x-oss-meta-a"] == "1"
    assert first.headers["ETag"] != second.headers["ETag"]
    head = client.call("HEAD", "k").headers
    assert (head["x-oss-object-type"], head[NEXT]) == ("Appendable", "7")
    assert "Content-MD5" not in head
    wrong = append(client, "k", 2, b"x")
    assert refusal(wrong)[:2] == (409, "PositionNotEqualToLength")
    assert wrong.headers[NEXT] == "7"
    client.put("k", b"new")
    assert client.call("GET", "k").content == b"new"


def test_two_appends_at_once(client, oss):
    """Of two at one position the later is refused, though both came in time."""

    def body():
        yield b"late"
        other = type(client)(client.oss)
        assert append(other, "k", 0, b"abc").status_code == 200
        other.session.close()

    reply = append(client, "k", 0, body())
    assert refusal(reply)[:2] == (409, "PositionNotEqualToLength")
    assert reply.headers[NEXT] == "3"
    assert oss.get(BUCKET, "k").data() == b"abc"


def test_deletion_of_many(client):
    """Each key is told, unless the request is quiet; odd ones come encoded."""

    def delete(*keys, quiet="false", **query):
        rows = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
        body = f"<Delete><Quiet>{quiet}</Quiet>{rows}</Delete>".encode()
        digest = hashlib.md5(body, usedforsecurity=False).digest()
        headers = {"Content-MD5": base64.b64encode(digest).decode()}
        query = {"delete": "", **query}
        return client.call("POST", "", query=query, headers=headers, data=body)

    for key in ("a", "b ü\f", "c"):  # oss2 writes what XML forbids
        client.put(key)
    reply = tree(delete("a", "absent", "b ü\f", **{"encoding-type": "url"}))
    found = [element.text for element in reply.iterfind("Deleted/Key")]
    assert found == ["a", "absent", "b%20%C3%BC%0C"]
    assert delete("c", quiet="true").content == b""
    assert client.oss.objects(BUCKET) == {}
    for keys in ((), ("",), "k" * 1001):
        assert delete(*keys).status_code == 400


def test_versions(make_client):
    """A deletion hides older versions; a deletion of the marker shows them again."""
    with Emulator(versioned=[BUCKET]) as oss:
        client = make_client(oss)
        client.put("k", b"1")
        marker = client.call("DELETE", "k").headers["x-oss-version-id"]
        missing = client.call("GET", "k")
        assert refusal(missing)[:2] == (404, "NoSuchKey")
        assert missing.headers["x-oss-delete-marker"] == "true"
        version = {"versionId": marker}
        assert refusal(client.call("GET", "k", query=version))[0] == 405
        assert client.call("DELETE", "k", query=version).status_code == 204
        assert client.call("GET", "k").content == b"1"


def test_versions_are_copied(make_client):
    """A copy has the bytes of the version that its source names, also as a part."""
    with Emulator(versioned=[BUCKET]) as oss:
        client = make_client(oss)
        old = client.put("k", b"old").headers["x-oss-version-id"]
        client.put("k", b"newer")
        source = {COPY: f"/{BUCKET}/k?versionId={old}"}
        assert client.call("PUT", "copy", headers=source).status_code == 200
        assert oss.get(BUCKET, "copy").data() == b"old"
        upload_id = client.initiate("parts")
        part = client.part("parts", upload_id, 1, b"", headers=source)
        etag = tree(part).findtext("ETag")
        client.complete("parts", upload_id, [(1, etag)])
        assert oss.get(BUCKET, "parts").data() == b"old"
        source = {COPY: f"/{BUCKET}/k?versionId=absent"}
        reply = client.call("PUT", "copy", headers=source)
        assert refusal(reply)[:2] == (404, "NoSuchVersion")

"""PutObject, CopyObject and deletes."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http import checksums as checksum
from fsspec_osspresigned.signing.presigning import PresignRequest

BUCKET = "examplebucket"


def delete_body(*keys: str, quiet: str = "false") -> bytes:
    rows = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    return f"<Delete><Quiet>{quiet}</Quiet>{rows}</Delete>".encode()


def delete_many(client, body: bytes, *, md5: bool = True, **query: str):
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    headers = {"Content-MD5": base64.b64encode(digest).decode()} if md5 else {}
    return client.call(
        "POST", "", query={"delete": "", **query}, headers=headers, data=body
    )


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
    ).unchecked_url().reveal()  # fmt: skip
    assert refusal(client.send("PUT", url, data=b"x"))[:2] == (400, "InvalidObjectName")


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
    assert headers["content-type"] == "text/csv"
    assert "x-oss-meta-a" not in headers
    client.call("PUT", f"{key}-new", headers={**replace, "Content-Type": "a/b"})
    assert client.oss.get(BUCKET, f"{key}-new").headers["content-type"] == "a/b"
    client.call("DELETE", key)
    assert client.oss.get(BUCKET, f"{key}-copy").data() == b"data"


def test_a_copy_keeps_the_key_of_the_client(client, key):
    """Metadata of encryption by the client stays, unless other is given."""
    names = [f"x-oss-meta-client-side-encryption-{n}" for n in ("key", "start")]
    client.put(key, headers={**dict.fromkeys(names, "1"), "x-oss-meta-a": "1"})
    headers = {
        "x-oss-copy-source": f"/{BUCKET}/{key}",
        "x-oss-metadata-directive": "REPLACE",
        names[1]: "2",
    }
    client.call("PUT", f"{key}-new", headers=headers)
    stored = client.oss.get(BUCKET, f"{key}-new").headers
    assert [stored[name] for name in names] == ["1", "2"]
    assert "x-oss-meta-a" not in stored


def test_a_copy_has_conditions_of_its_own(client, key, refusal):
    """Those of the source decide; ali-oss sends the plain ones beside them."""
    etag = client.put(key).headers["ETag"]
    source = {"x-oss-copy-source": f"/{BUCKET}/{key}"}

    def copy(condition, value):
        headers = {**source, f"x-oss-copy-source-{condition}": value}
        return client.call("PUT", "c", headers=headers, unsigned={condition: value})

    assert copy("If-Match", etag).status_code == 200
    assert copy("If-None-Match", etag).status_code == 304
    assert refusal(copy("If-Match", '"0"'))[:2] == (412, "PreconditionFailed")


def test_a_plus_is_a_blank(client):
    """In the path and in a copy source, as Ruby's and Go's SDKs write it."""
    url = client.url("PUT", "p q+r").replace("p%20q", "p+q")
    assert client.send("PUT", url, data=b"x").status_code == 200
    assert client.oss.get(BUCKET, "p q+r").data() == b"x"
    source = {"x-oss-copy-source": f"/{BUCKET}/p+q%2Br"}
    assert client.call("PUT", "p+copy", headers=source).status_code == 200
    assert client.oss.get(BUCKET, "p+copy").data() == b"x"


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
    odd = f"{key}\x0c\x1f"  # no XML, and yet SDKs write it
    client.put(odd)
    query = {"encoding-type": "url"}
    reply = delete_many(client, delete_body(odd), **query)
    assert tree(reply).findtext("Deleted/Key") == f"{key}%0C%1F"
    assert odd not in client.oss.objects(BUCKET)
    client.put(f"{odd}\n")
    body = delete_body(key).replace(b"</Key>", b"&#12;&#x1F;&#10;</Key>")
    reply = delete_many(client, body, **query)  # nor this, and others write it
    assert tree(reply).findtext("Deleted/Key") == f"{key}%0C%1F%0A"
    assert f"{odd}\n" not in client.oss.objects(BUCKET)
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


@pytest.fixture
def versioned(make_client):
    """A client of a bucket with versioning."""
    with Emulator(versioned=[BUCKET]) as oss:
        yield make_client(oss)


def test_versions_are_read_and_removed_by_their_ids(versioned, refusal):
    """A deletion hides older versions; a deletion of the marker shows them again."""
    ids = [
        versioned.put("k", data).headers["x-oss-version-id"] for data in (b"1", b"2")
    ]

    def of(version_id):
        return {"query": {"versionId": version_id}}

    assert versioned.call("GET", "k", **of(ids[0])).content == b"1"
    assert versioned.call("GET", "k").content == b"2"
    gone = versioned.call("DELETE", "k")
    assert (gone.status_code, gone.headers["x-oss-delete-marker"]) == (204, "true")
    marker = gone.headers["x-oss-version-id"]
    missing = versioned.call("GET", "k")
    assert refusal(missing)[:2] == (404, "NoSuchKey")
    assert missing.headers["x-oss-delete-marker"] == "true"
    assert refusal(versioned.call("GET", "k", **of(marker)))[0] == 405
    assert versioned.call("GET", "k", **of(ids[1])).content == b"2"
    undone = versioned.call("DELETE", "k", **of(marker))
    assert undone.headers["x-oss-delete-marker"] == "true"
    assert versioned.call("GET", "k").content == b"2"
    assert (
        "x-oss-delete-marker" not in versioned.call("DELETE", "k", **of(ids[1])).headers
    )
    assert versioned.call("GET", "k").content == b"1"
    assert versioned.call("DELETE", "k", **of(ids[0])).status_code == 204
    assert versioned.call("DELETE", "k", **of(ids[0])).status_code == 204
    assert refusal(versioned.call("GET", "k"))[:2] == (404, "NoSuchKey")
    assert refusal(versioned.call("GET", "k", **of(ids[0])))[:2] == (
        404,
        "NoSuchVersion",
    )
    assert versioned.oss.store.buckets[BUCKET].versions == {}

"""Multipart uploads, over the wire."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest

from fsspec_osspresigned.http.checksums import crc64
from tests.emulator.conftest import refusal, tree

BUCKET = "examplebucket"
KEY = "multi/a ü"
PART = bytes(range(256)) * 400  # 100 KiB, the least that a part may be
CRC = "x-oss-hash-crc64ecma"
EXCLUSIVE = {"x-oss-forbid-overwrite": "true"}


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_an_upload_from_begin_to_end(client, version):
    """Parts in order make the object; ETag and CRC-64 are those of the whole."""
    properties = {"Content-Type": "text/csv", "x-oss-meta-a": "1"}
    upload = client.initiate(KEY, headers=properties, version=version)
    assert re.fullmatch("[0-9A-F]{32}", upload)
    reply = client.part(KEY, upload, 1, PART, version=version)
    md5 = hashlib.md5(PART, usedforsecurity=False).digest()
    assert reply.headers["ETag"] == f'"{md5.hex().upper()}"'
    assert base64.b64decode(reply.headers["Content-MD5"]) == md5
    assert reply.headers[CRC] == str(crc64(PART))
    assert client.oss.get(BUCKET, KEY) is None
    assert [u.key for u in client.oss.uploads(BUCKET)] == [KEY]
    last = client.part(KEY, upload, 2, b"end", version=version).headers["ETag"]
    parts = [(1, reply.headers["ETag"]), (2, last)]
    done = client.complete(KEY, upload, parts, version=version)
    stored = client.oss.get(BUCKET, KEY)
    assert (stored.data(), stored.kind, stored.md5) == (
        PART + b"end",
        "Multipart",
        None,
    )
    assert re.fullmatch("[0-9A-F]{32}-2", stored.etag)
    document = tree(done)
    assert document.tag == "CompleteMultipartUploadResult"
    assert (document.findtext("Bucket"), document.findtext("Key")) == (BUCKET, KEY)
    assert document.findtext("ETag") == done.headers["ETag"] == f'"{stored.etag}"'
    assert document.findtext("Location").startswith("http://127.0.0.1:")
    assert done.headers[CRC] == str(crc64(PART + b"end"))
    head = client.call("HEAD", KEY).headers
    assert (head["Content-Type"], head["x-oss-meta-a"]) == ("text/csv", "1")
    assert head["x-oss-object-type"] == "Multipart"
    assert "Content-MD5" not in head
    assert client.oss.uploads(BUCKET) == []


def test_parts_in_any_order_and_again(client):
    """Parts may come in any order; of one number the last counts; some may be left out."""
    upload = client.initiate(KEY)
    third = client.part(KEY, upload, 3, b"end").headers["ETag"]
    client.part(KEY, upload, 1, b"replaced")
    client.part(KEY, upload, 2, b"left out")
    first = client.part(KEY, upload, 1, PART).headers["ETag"].strip('"').lower()
    assert client.complete(KEY, upload, [(1, first), (3, third)]).status_code == 200
    assert client.oss.get(BUCKET, KEY).data() == PART + b"end"


def test_an_upload_aborted_while_a_part_comes_in(client):
    """A part whose upload ends meanwhile is NoSuchUpload."""
    upload = client.initiate(KEY)

    def body():
        yield b"late"
        other = type(client)(client.oss)
        reply = other.call("DELETE", KEY, query={"uploadId": upload})
        assert reply.status_code == 204
        other.session.close()

    assert refusal(client.part(KEY, upload, 1, body()))[:2] == (404, "NoSuchUpload")


def test_every_answer_tells_the_encryption(client):
    """Initiate, each part and Complete name the algorithm and the key, as HEAD does."""
    method = "x-oss-server-side-encryption"
    wanted = {method: "KMS", f"{method}-key-id": "key-1"}
    begun = client.call("POST", KEY, query={"uploads": ""}, headers=wanted)
    upload = client.oss.uploads(BUCKET)[-1].upload_id
    part = client.part(KEY, upload, 1, b"x")
    done = client.complete(KEY, upload, [(1, part.headers["ETag"])])
    for reply in (begun, part, done, client.call("HEAD", KEY)):
        assert wanted.items() <= reply.headers.items()
    put = client.put("k", headers={method: "KMS"})
    assert put.headers[f"{method}-key-id"]  # that of the account


def test_keys_in_encoded_form(client):
    """encoding-type=url encodes the key in the replies of Initiate and Complete."""
    encoded = {"encoding-type": "url"}
    begun = tree(client.call("POST", KEY, query={"uploads": "", **encoded}))
    upload = begun.findtext("UploadId")
    parts = [(1, client.part(KEY, upload, 1, b"x").headers["ETag"])]
    done = tree(client.complete(KEY, upload, parts, query=encoded))
    for document in (begun, done):
        assert document.findtext("EncodingType") == "url"
        assert document.findtext("Key") == "multi%2Fa%20%C3%BC"


def test_complete_with_callback_and_acl(client):
    """A callback's JSON answers for Complete; an ACL there is the object's."""
    wanted = base64.b64encode(json.dumps({"callbackUrl": "http://a"}).encode()).decode()
    upload, parts = client.uploaded(KEY, b"x")
    acl = {"x-oss-object-acl": "public-read"}
    reply = client.complete(KEY, upload, parts, query={"callback": wanted}, headers=acl)
    assert reply.json() == {"Status": "OK"}
    assert reply.headers["ETag"].endswith('-1"')
    assert client.oss.get(BUCKET, KEY).headers["x-oss-object-acl"] == "public-read"
    document = client.call("GET", KEY, query={"acl": ""}).text
    assert "<Grant>public-read</Grant>" in document

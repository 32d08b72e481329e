"""Multipart uploads, over the wire."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http import checksums as checksum

BUCKET = "examplebucket"
PART = bytes(range(256)) * 400  # 100 KiB, the least that a part may be


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


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_an_upload_from_begin_to_end(client, key, tree, version):
    """Parts in order make the object; ETag and CRC-64 are those of the whole."""
    properties = {"Content-Type": "text/csv", "x-oss-meta-a": "1"}
    upload = client.initiate(key, headers=properties, version=version)
    assert re.fullmatch("[0-9A-F]{32}", upload)
    reply = client.part(key, upload, 1, PART, version=version)
    md5 = hashlib.md5(PART, usedforsecurity=False).digest()
    assert reply.headers["ETag"] == f'"{md5.hex().upper()}"'
    assert base64.b64decode(reply.headers["Content-MD5"]) == md5
    assert reply.headers["x-oss-hash-crc64ecma"] == str(checksum.crc64(PART))
    assert reply.content == b""
    assert client.oss.get(BUCKET, key) is None
    assert [u.key for u in client.oss.uploads(BUCKET) if u.upload_id == upload] == [key]
    last = client.part(key, upload, 2, b"end", version=version).headers["ETag"]
    parts = [(1, reply.headers["ETag"]), (2, last)]
    done = client.complete(key, upload, parts, version=version)
    assert done.status_code == 200
    data = PART + b"end"
    stored = client.oss.get(BUCKET, key)
    assert (stored.data(), stored.kind, stored.md5) == (data, "Multipart", None)
    assert re.fullmatch("[0-9A-F]{32}-2", stored.etag)
    document = tree(done)
    assert document.tag == "CompleteMultipartUploadResult"
    assert document.findtext("Bucket") == BUCKET
    assert document.findtext("Key") == key
    assert document.findtext("ETag") == done.headers["ETag"] == f'"{stored.etag}"'
    assert document.findtext("Location").startswith("http://127.0.0.1:")
    assert done.headers["x-oss-hash-crc64ecma"] == str(checksum.crc64(data))
    head = client.call("HEAD", key).headers
    assert head["Content-Type"] == "text/csv"
    assert head["x-oss-meta-a"] == "1"
    assert head["x-oss-object-type"] == "Multipart"
    assert "Content-MD5" not in head
    assert client.call("GET", key).content == data
    assert upload not in [u.upload_id for u in client.oss.uploads(BUCKET)]


def test_parts_in_any_order_and_again(client, key):
    """Parts may come in any order; of one number the last counts; some may be left out."""
    upload = client.initiate(key)
    third = client.part(key, upload, 3, b"end").headers["ETag"]
    client.part(key, upload, 1, b"replaced")
    client.part(key, upload, 2, b"left out")
    first = client.part(key, upload, 1, PART).headers["ETag"].strip('"').lower()
    assert client.complete(key, upload, [(1, first), (3, third)]).status_code == 200
    assert client.oss.get(BUCKET, key).data() == PART + b"end"


def test_complete_all(client, key, refusal):
    """x-oss-complete-all takes every part, and no body."""
    every = {"x-oss-complete-all": "yes"}
    upload = client.initiate(key)
    reply = client.complete(key, upload, b"", headers=every)
    assert refusal(reply)[:2] == (400, "InvalidPart")
    etags(client, key, upload, PART, b"end")
    reply = client.complete(key, upload, b"x", headers=every)
    assert refusal(reply) == (400, "InvalidArgument", "0042-00000216")
    reply = client.complete(key, upload, b"", headers={"x-oss-complete-all": "no"})
    assert refusal(reply)[:2] == (400, "InvalidArgument")
    assert client.complete(key, upload, b"", headers=every).status_code == 200
    assert client.oss.get(BUCKET, key).data() == PART + b"end"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no xml",
        b"<Other/>",
        b"<CompleteMultipartUpload/>",
        (
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            b"</Part></CompleteMultipartUpload>"
        ),
        b"<CompleteMultipartUpload><Part><ETag>x</ETag></Part></CompleteMultipartUpload>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><CompleteMultipartUpload/>",
        b"<CompleteMultipartUpload>"
        + b"<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>" * 10_001
        + b"</CompleteMultipartUpload>",
    ],
)
def test_a_list_that_is_none(client, key, refusal, body):
    """A body that is no list of parts is MalformedXML, and the upload stays open."""
    upload = client.initiate(key)
    etags(client, key, upload, b"x")
    reply = client.complete(key, upload, body)
    assert refusal(reply) == (400, "MalformedXML", "0042-00000205")
    assert upload in [u.upload_id for u in client.oss.uploads(BUCKET)]


def test_a_huge_list_is_refused(client, key, refusal):
    """The body of Complete is bounded."""
    upload = client.initiate(key)
    reply = client.complete(key, upload, b" " * (5 * 1024 * 1024))
    assert refusal(reply)[:2] == (400, "EntityTooLarge")


def test_complete_checks_every_part(client, key, refusal):
    """Wrong ETag, unknown number, wrong order and small parts are refused by name."""
    upload = client.initiate(key)
    (_, one), (_, two), (_, three) = etags(client, key, upload, PART, b"small", b"end")
    for parts in ([(1, '"0"')], [(1, one), (4, three)], [(1, two)]):
        reply = client.complete(key, upload, parts)
        assert refusal(reply)[:2] == (400, "InvalidPart")
    for parts in ([(3, three), (1, one)], [(1, one), (1, one)]):
        reply = client.complete(key, upload, parts)
        assert refusal(reply)[:2] == (400, "InvalidPartOrder")
    reply = client.complete(key, upload, [(1, one), (2, two), (3, three)])
    assert refusal(reply) == (400, "EntityTooSmall", "0042-00000213")
    assert client.oss.get(BUCKET, key) is None


def test_complete_checks_its_md5(client, key, refusal):
    """A Content-MD5 of the list is compared with it."""
    upload = client.initiate(key)
    parts = etags(client, key, upload, b"x")
    headers = {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    reply = client.complete(key, upload, parts, headers=headers)
    assert refusal(reply)[:2] == (400, "InvalidDigest")


@pytest.mark.parametrize("number", ["0", "10001", "x", "", "²"])
def test_bad_part_numbers(client, key, refusal, number):
    """A part number outside 1..10000 is InvalidArgument with its EC."""
    upload = client.initiate(key)
    query = {"partNumber": number, "uploadId": upload}
    reply = client.call("PUT", key, query=query, data=b"x")
    assert refusal(reply) == (400, "InvalidArgument", "0017-00000220")


def test_no_part_number(client, key, refusal):
    """A PUT with an upload and without a number is refused, not taken for PutObject."""
    upload = client.initiate(key)
    reply = client.call("PUT", key, query={"uploadId": upload}, data=b"x")
    assert refusal(reply) == (400, "InvalidArgument", "0017-00000219")
    reply = client.call("PUT", key, query={"partNumber": "1"}, data=b"x")
    assert refusal(reply)[:2] == (404, "NoSuchUpload")
    assert client.oss.get(BUCKET, key) is None


def test_an_upload_that_is_gone(client, key, refusal):
    """After Abort and after Complete every call is NoSuchUpload with its EC."""
    upload = client.initiate(key)
    query = {"uploadId": upload}
    assert refusal(client.call("GET", f"{key}x", query=query))[1] == "NoSuchUpload"
    assert client.call("DELETE", key, query=query).status_code == 204
    source = {"x-oss-copy-source": f"/{BUCKET}/k"}
    part = {**query, "partNumber": "1"}
    gone = (404, "NoSuchUpload")
    assert refusal(client.part(key, upload, 1, b"x")) == (*gone, "0042-00000104")
    reply = client.call("PUT", key, query=part, headers=source)
    assert refusal(reply) == (*gone, "0042-00000311")
    reply = client.call("GET", key, query=query)
    assert refusal(reply) == (*gone, "0042-00000002")
    assert refusal(client.complete(key, upload, [(1, "x")]))[:2] == gone
    assert refusal(client.call("DELETE", key, query=query))[:2] == gone


def test_an_upload_aborted_while_a_part_comes_in(client, key, refusal):
    """A part whose upload ends meanwhile is NoSuchUpload."""
    upload = client.initiate(key)

    def body():
        yield b"late"
        other = type(client)(client.oss)
        other.call("DELETE", key, query={"uploadId": upload})
        other.session.close()

    assert refusal(client.part(key, upload, 1, body()))[:2] == (404, "NoSuchUpload")


def test_forbid_overwrite_at_both_ends(client, key, refusal):
    """Exclusive Initiate and Complete are 409 on a taken key; the upload stays open."""
    exclusive = {"x-oss-forbid-overwrite": "true"}
    upload = client.initiate(key, headers=exclusive)
    parts = etags(client, key, upload, b"new")
    client.put(key, b"old")
    reply = client.complete(key, upload, parts, headers=exclusive)
    assert refusal(reply) == (409, "FileAlreadyExists", "0042-00000214")
    assert client.oss.get(BUCKET, key).data() == b"old"
    reply = client.call("POST", key, query={"uploads": ""}, headers=exclusive)
    assert refusal(reply) == (409, "FileAlreadyExists", "0026-00000002")
    assert client.complete(key, upload, parts).status_code == 200


def test_parts_from_another_object(client, key, tree, refusal):
    """UploadPartCopy takes a whole object or a range of it."""
    client.put("part-source", PART + b"0123456789")
    upload = client.initiate(key)
    source = {"x-oss-copy-source": f"/{BUCKET}/part-source"}

    def copy(number, **headers):
        query = {"partNumber": str(number), "uploadId": upload}
        return client.call("PUT", key, query=query, headers={**source, **headers})

    first = tree(copy(1)).findtext("ETag")
    ranged = {"x-oss-copy-source-range": f"bytes={len(PART) + 2}-{len(PART) + 4}"}
    second = tree(copy(2, **ranged)).findtext("ETag")
    md5 = hashlib.md5(b"234", usedforsecurity=False).hexdigest()
    assert second == f'"{md5.upper()}"'
    open_end = {"x-oss-copy-source-range": f"bytes={len(PART) + 8}-"}
    third = tree(copy(3, **open_end)).findtext("ETag")
    for wrong in ("bytes=5-4", "bytes=0-999999", f"bytes={len(PART) + 10}-", "all"):
        reply = copy(4, **{"x-oss-copy-source-range": wrong})
        assert refusal(reply)[:2] == (416, "InvalidRange")
    parts = [(1, first), (3, third)]
    assert client.complete(key, upload, parts).status_code == 200
    assert client.oss.get(BUCKET, key).data() == PART + b"0123456789" + b"89"


def test_encryption_is_set_at_the_beginning(client, key, refusal):
    """Encryption headers on a part are refused."""
    upload = client.initiate(key, headers={"x-oss-server-side-encryption": "KMS"})
    encrypt = {"x-oss-server-side-encryption": "KMS"}
    reply = client.part(key, upload, 1, b"x", headers=encrypt)
    assert refusal(reply)[:2] == (400, "InvalidArgument")


def test_every_answer_tells_the_encryption(client, key):
    """Initiate, each part and Complete name the algorithm and the key, as HEAD does."""
    wanted = {
        "x-oss-server-side-encryption": "KMS",
        "x-oss-server-side-encryption-key-id": "key-1",
        "x-oss-server-side-data-encryption": "SM4",
    }
    query = {"uploads": ""}
    begun = client.call("POST", key, query=query, headers=wanted)
    upload = client.oss.uploads(BUCKET)[-1].upload_id
    part = client.part(key, upload, 1, b"x")
    done = client.complete(key, upload, [(1, part.headers["ETag"])])
    for reply in (begun, part, done, client.call("HEAD", key)):
        assert reply.status_code == 200
        assert wanted.items() <= reply.headers.items()


def test_initiate_in_encoded_form(client, key, tree):
    """encoding-type=url encodes the key in the replies of Initiate and Complete."""
    encoded = {"encoding-type": "url"}
    reply = client.call("POST", key, query={"uploads": "", **encoded})
    assert "%2F" in tree(reply).findtext("Key")
    upload = tree(reply).findtext("UploadId")
    parts = etags(client, key, upload, b"x")
    done = tree(client.complete(key, upload, parts, query=encoded))
    assert done.findtext("EncodingType") == "url"
    assert "%2F" in done.findtext("Key")


def test_complete_with_callback_and_acl(client, key):
    """A callback's JSON answers for Complete; an ACL there is the object's."""
    wanted = base64.b64encode(json.dumps({"callbackUrl": "http://a"}).encode()).decode()
    upload = client.initiate(key)
    parts = etags(client, key, upload, b"x")
    reply = client.complete(
        key, upload, parts, query={"callback": wanted},
        headers={"x-oss-object-acl": "public-read"},
    )  # fmt: skip
    assert reply.json() == {"Status": "OK"}
    assert reply.headers["ETag"].endswith('-1"')
    assert client.oss.get(BUCKET, key).headers["x-oss-object-acl"] == "public-read"


def test_the_least_part_can_be_chosen(make_client):
    """min_part lets tests work with small parts."""
    with Emulator(min_part=1) as oss:
        client = make_client(oss)
        upload = client.initiate("k")
        parts = etags(client, "k", upload, b"a", b"b", b"c")
        assert client.complete("k", upload, parts).status_code == 200
        assert oss.get(BUCKET, "k").data() == b"abc"
        assert oss.uploads(BUCKET) == []

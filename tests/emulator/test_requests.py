"""Requests and replies: refusals, missing objects, addressing styles."""

from __future__ import annotations

import base64
import json
from urllib.parse import unquote

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.signing import Endpoint
from tests.emulator.conftest import Client, refusal, tree

BUCKET = "examplebucket"
MIB = 1024 * 1024
COPY = "x-oss-copy-source"
OBJECT, ARCHIVED = {COPY: f"/{BUCKET}/object"}, {COPY: f"/{BUCKET}/archived"}
WRONG_MD5 = {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
both = pytest.mark.parametrize("version", ["v1", "v4"])


def callback(value) -> dict[str, str]:
    """Return the header that asks for a callback."""
    return {"x-oss-callback": base64.b64encode(json.dumps(value).encode()).decode()}


def deletion(*keys: str) -> bytes:
    """Return the body of DeleteMultipleObjects."""
    rows = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    return f"<Delete>{rows}</Delete>".encode()


def listed(*parts: tuple[object, str]) -> bytes:
    """Return the body of CompleteMultipartUpload."""
    rows = "".join(
        f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>"
        for n, etag in parts
    )
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


# Request (method, key, query), headers, body, and status, code and EC of the reply. OPEN
# stands for an upload of the key "parts", which has the parts 1, 2 (too small) and 3.
PART, PARTS = "PUT parts partNumber=1&uploadId=", "POST parts uploadId=OPEN"
REFUSED = [
    ("PUT /a", {}, b"", "400 InvalidObjectName"),
    (r"PUT \a", {}, b"", "400 InvalidObjectName"),
    (f"PUT {'ü' * 512}", {}, b"", "400 InvalidObjectName"),
    ("PUT k", {"x-oss-storage-class": "Cold"}, b"", "400 InvalidStorageClass"),
    ("PUT k", {"x-oss-object-acl": "mine"}, b"", "400 InvalidArgument"),
    ("PUT k", {"x-oss-server-side-encryption": "ROT13"}, b"",
     "400 InvalidEncryptionAlgorithmError"),
    ("PUT k", {"x-oss-traffic-limit": "1"}, b"", "400 InvalidArgument"),
    ("PUT k x-oss-traffic-limit=819200", {"x-oss-traffic-limit": "819200"}, b"",
     "400 InvalidArgument"),
    ("PUT k", {"x-oss-callback": "%"}, b"", "400 InvalidArgument"),
    ("PUT k", callback([]), b"", "400 InvalidArgument"),
    ("PUT k", callback({"callbackUrl": "x" * 6000}), b"", "400 InvalidArgument"),
    ("PUT k", {"Content-MD5": "%"}, b"", "400 InvalidDigest"),
    ("PUT k", WRONG_MD5, b"", "400 InvalidDigest"),
    ("PUT k", {"x-oss-hash-crc64ecma": "1"}, b"", "400 InvalidCRC64"),
    ("PUT k", {"If-None-Match": "*"}, b"", "400 NotImplemented"),
    ("PUT object", {"x-oss-forbid-overwrite": "true"}, b"",
     "409 FileAlreadyExists 0026-00000002"),
    ("PUT k", {COPY: "nothing"}, b"", "400 InvalidArgument"),
    ("PUT k", {COPY: "/otherbucket/k"}, b"", "404 NoSuchBucket"),
    ("PUT k", {COPY: f"/{BUCKET}/absent"}, b"", "404 NoSuchKey 0026-00000001"),
    ("PUT k", {**OBJECT, f"{COPY}-if-match": "no"}, b"", "412 PreconditionFailed"),
    ("PUT k", {**OBJECT, "x-oss-metadata-directive": "MOVE"}, b"", "400 InvalidArgument"),
    ("PUT k", ARCHIVED, b"", "403 InvalidObjectState"),
    ("GET archived", {}, b"", "403 InvalidObjectState"),
    ("GET absent", {}, b"", "404 NoSuchKey 0026-00000001"),
    ("GET object response-content-type=a%0D%0AX-Evil:%201", {}, b"",
     "400 InvalidArgument"),
    *(
        (f"GET  list-type=2&{query}", {}, b"", "400 InvalidArgument")
        for query in (f"max-keys={'9' * 5000}", "max-keys=0", "max-keys=1001",
                      "max-keys=x", "encoding-type=base64", "continuation-token=%25",
                      "continuation-token=/w==")
    ),
    *(
        (f"GET  {query}", {}, b"", "400 NotImplemented")
        for query in ("versions&delimiter=/", "versions&key-marker=a",
                      "versions&version-id-marker=a", "uploads&delimiter=/")
    ),
    ("GET object", {"If-None-Match": "*"}, b"", "400 NotImplemented"),
    ("GET object", {"If-Modified-Since": "now"}, b"", "400 NotImplemented"),
    ("PUT k", {**OBJECT, f"{COPY}-if-none-match": "no"}, b"", "400 NotImplemented"),
    ("GET  uploads&max-uploads=0", {}, b"", "400 InvalidArgument"),
    ("GET parts uploadId=OPEN&part-number-marker=x", {}, b"", "400 InvalidArgument"),
    ("POST  delete", {}, deletion("k"), "400 MissingArgument"),
    ("POST  delete", WRONG_MD5, deletion("k"), "400 InvalidDigest"),
    ("POST object append&position=10", {}, b"x", "409 ObjectNotAppendable 0026-00000208"),
    ("POST k append&position=1", {}, b"x", "409 PositionNotEqualToLength 0026-00000016"),
    ("POST k append&position=x", {}, b"x", "400 InvalidArgument"),
    ("POST k", {}, b"x", "405 MethodNotAllowed"),
    # Uploads and their parts.
    ("POST object uploads", {"x-oss-forbid-overwrite": "true"}, b"",
     "409 FileAlreadyExists 0026-00000002"),
    *(
        (f"PUT parts partNumber={number}&uploadId=OPEN", {}, b"x",
         "400 InvalidArgument 0017-00000220")
        for number in ("0", "10001", "x", "", "²")
    ),
    ("PUT parts uploadId=OPEN", {}, b"x", "400 InvalidArgument 0017-00000219"),
    ("PUT parts partNumber=1", {}, b"x", "404 NoSuchUpload 0042-00000104"),
    (f"{PART}GONE", {}, b"x", "404 NoSuchUpload 0042-00000104"),
    (f"{PART}GONE", OBJECT, b"", "404 NoSuchUpload 0042-00000311"),
    (f"{PART}OPEN", {"x-oss-server-side-encryption": "KMS"}, b"", "400 InvalidArgument"),
    *(
        (f"{PART}OPEN", {**OBJECT, f"{COPY}-range": wanted}, b"", "416 InvalidRange")
        for wanted in ("bytes=5-4", "bytes=0-99", "bytes=10-", "all")
    ),
    ("GET parts uploadId=GONE", {}, b"", "404 NoSuchUpload 0042-00000002"),
    ("GET other uploadId=OPEN", {}, b"", "404 NoSuchUpload 0042-00000002"),
    ("DELETE parts uploadId=GONE", {}, b"", "404 NoSuchUpload"),
    ("POST parts uploadId=GONE", {}, listed((1, "x")), "404 NoSuchUpload"),
    *(
        (PARTS, {}, body, "400 MalformedXML 0042-00000205")
        for body in (b"", b"no xml", b"<Other/>", listed(), listed((1, "")),
                     listed(("", "x")), listed(*[(1, "x")] * 10_001),
                     b"<!DOCTYPE a [<!ENTITY b 'c'>]><CompleteMultipartUpload/>")
    ),
    (PARTS, {}, b" " * 5 * MIB, "400 EntityTooLarge"),
    (PARTS, WRONG_MD5, listed((1, "x")), "400 InvalidDigest"),
    (PARTS, {}, listed((1, "0")), "400 InvalidPart"),
    (PARTS, {}, listed((4, "x")), "400 InvalidPart"),
    (PARTS, {}, listed((3, "x"), (1, "x")), "400 InvalidPartOrder"),
    (PARTS, {}, listed((1, "x"), (1, "x")), "400 InvalidPartOrder"),
    (PARTS, {"x-oss-complete-all": "no"}, b"", "400 InvalidArgument"),
    (PARTS, {"x-oss-complete-all": "yes"}, b"x", "400 InvalidArgument 0042-00000216"),
    (PARTS, {"x-oss-complete-all": "yes"}, b"", "400 EntityTooSmall 0042-00000213"),
    ("POST none uploadId=EMPTY", {"x-oss-complete-all": "yes"}, b"", "400 InvalidPart"),
]  # fmt: skip


@pytest.fixture(scope="module")
def filled():
    """Store what the table of refusals names."""
    with Emulator() as oss:
        client = Client(oss)
        client.put("object", b"0123456789")
        client.put("archived", headers={"x-oss-storage-class": "Archive"})
        open_upload, _ = client.uploaded("parts", bytes(102_400), b"small", b"end")
        client.uploads = {"OPEN": open_upload, "EMPTY": client.initiate("none")}
        yield client
        client.session.close()


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "wanted"),
    REFUSED,
    ids=[f"{number} {row[0][:30]}" for number, row in enumerate(REFUSED)],
)
def test_refusals(filled, request_line, headers, body, wanted):
    """Each is answered as OSS does, with the EC where one is documented."""
    before = dict(filled.oss.objects(BUCKET))
    method, key, *query = request_line.split(" ", 2)
    text = query[0] if query else ""
    for name, upload in filled.uploads.items():
        text = text.replace(f"uploadId={name}", f"uploadId={upload}")
    pairs = dict(piece.partition("=")[::2] for piece in text.split("&") if piece)
    query = {name: unquote(value) for name, value in pairs.items()}
    conditions = {n: v for n, v in headers.items() if n.startswith("If-")}
    signed = {n: v for n, v in headers.items() if n not in conditions}
    reply = filled.call(
        method, key, query=query, headers=signed, unsigned=conditions, data=body
    )
    status, code, ec = refusal(reply)
    assert " ".join((str(status), code, ec)).strip() == wanted
    assert dict(filled.oss.objects(BUCKET)) == before
    assert {upload.key for upload in filled.oss.uploads(BUCKET)} == {"parts", "none"}


@pytest.mark.parametrize(
    ("method", "key", "query", "action"),
    [
        ("PUT", "k", {"live": ""}, "PutObjectLive"),
        ("PUT", "k", {"x-oss-rename": "k2"}, "PutObjectX-oss-rename"),
        ("DELETE", "k", {"x-oss-delete-recursive": "true"},
         "DeleteObjectX-oss-delete-recursive"),
        ("GET", "k", {"x-oss-process": "image/resize,w_1"}, "GetObjectX-oss-process"),
        ("GET", "k", {"acl": "", "tagging": ""}, "GetObjectAclTagging"),
        ("PUT", "k", {"acl": ""}, "PutObjectAcl"),
        ("DELETE", "k", {"tagging": ""}, "DeleteObjectTagging"),
        ("POST", "k", {"uploads": "", "sequential": ""}, "PostObjectSequentialUploads"),
        ("GET", "", {"location": ""}, "GetBucketLocation"),
        ("GET", "", {"comp": "token"}, "GetBucketComp"),
        ("GET", "", {"list-type": "2", "policy": ""}, "GetBucketPolicy"),
        ("PUT", "", {}, "PutBucket"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(client, method, key, query, action):
    """A call that the emulator does not have is 501 and never taken for another."""
    client.put("k", b"precious")
    reply = client.call(method, key, query=query)
    assert refusal(reply)[:2] == (501, "NotImplemented")
    assert client.oss.requests[-1].action == action
    message = tree(reply).findtext("Message")
    assert message == f"The emulator does not implement {action}."
    assert client.oss.objects(BUCKET) == {"k": b"precious"}


def test_the_service_and_unknown_buckets(client):
    """Both are judged before the signature, which a bucket that exists needs."""
    for method, query, action in (
        ("GET", "", "ListBuckets"),
        ("PUT", "", "PutService"),
    ):
        reply = client.send(method, f"{client.oss.url}/{query}")
        assert refusal(reply)[:2] == (403, "AccessDenied")
        assert client.oss.requests[-1].action == action
    reply = client.send("GET", f"{client.oss.url}/otherbucket/k?Expires=1")
    assert refusal(reply)[:2] == (404, "NoSuchBucket")
    assert client.oss.get("otherbucket", "k") is None


def test_errors_of_head_come_in_a_header(client):
    """HEAD of an absent object is 404 with the document in x-oss-err."""
    reply = client.call("HEAD", "absent")
    assert (reply.status_code, reply.content) == (404, b"")
    document = base64.b64decode(reply.headers["x-oss-err"])
    assert b"<Code>NoSuchKey</Code>" in document
    assert reply.headers["x-oss-ec"] == "0026-00000001"


@both
@pytest.mark.parametrize(
    "host",
    [f"{BUCKET}.localhost", f"{BUCKET.upper()}.LOCALHOST:80",
     f"{BUCKET}.oss-cn-hangzhou.aliyuncs.com", f"{BUCKET}.cn-hangzhou.oss.aliyuncs.com"],
)  # fmt: skip
def test_virtual_hosts(client, oss, host, version):
    """A bucket in front of a known host is the bucket, and the path is the key."""
    endpoint = Endpoint.parse(
        oss.url.replace("127.0.0.1", "localhost"), style="virtual"
    )
    url = client.url("PUT", "dir/a b", endpoint=endpoint, version=version)
    url = url.replace(f"{BUCKET}.localhost", "127.0.0.1")
    assert client.send("PUT", url, headers={"Host": host}, data=b"v").status_code == 200
    assert oss.requests[-1].path == "/dir/a%20b"
    assert oss.get(BUCKET, "dir/a b").data() == b"v"


def test_pages_of_any_origin_may_upload(client, oss):
    """A browser's question needs no signature; its page can read every reply."""
    page = {"Origin": "https://app.example.com"}
    asked = {
        **page,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type, x-oss-meta-a",
    }
    reply = client.send("OPTIONS", f"{oss.url}/{BUCKET}/k", headers=asked)
    assert reply.status_code == 200
    assert {"PUT", "POST"} <= {
        *reply.headers["Access-Control-Allow-Methods"].split(", ")
    }
    assert reply.headers["Access-Control-Allow-Headers"] == "content-type, x-oss-meta-a"
    for reply in (
        client.put("k", unsigned=page),
        client.call("GET", "x", unsigned=page),
    ):
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        exposed = reply.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "x-oss-hash-crc64ecma", "x-oss-request-id"} <= {*exposed}


# How bodies arrive.


def test_a_client_that_leaves_early(client, make_peer, oss, recorded):
    """Fewer bytes than announced and a closed connection store nothing."""
    peer = make_peer(client)
    peer.ask("PUT", "short", b"abc", length=10)
    peer.socket.close()
    assert recorded().status is None
    assert oss.get(BUCKET, "short") is None


def test_a_put_without_a_length(peer, oss):
    """A request without Content-Length and without chunks gets 411."""
    peer.ask("PUT", "k", length=-1)
    assert peer.reply()[0] == 411
    assert oss.requests[-1].code == "MissingContentLength"


@pytest.mark.parametrize("length", [3, -1])
def test_a_chunked_body_may_announce_its_length(peer, oss, length):
    """ali-oss sends both headers; the chunks count."""
    chunked = "Transfer-Encoding: chunked\r\n"
    body = b"3\r\nabc\r\n0\r\n\r\n"
    peer.ask("PUT", "both", body, length=length, extra=chunked)
    assert peer.reply()[0] == 200
    assert oss.get(BUCKET, "both").data() == b"abc"


def test_expect_continue(client, make_peer, oss):
    """A client that sends Expect gets 100 Continue or an immediate refusal."""
    expect = "Expect: 100-continue\r\n"
    peer = make_peer(client)
    peer.ask("PUT", "asked", length=3, extra=expect)
    assert peer.reply()[0] == 100
    peer.socket.sendall(b"abc")
    assert peer.reply()[0] == 200
    assert oss.get(BUCKET, "asked").data() == b"abc"
    peer = make_peer(client)
    peer.ask("PUT", "asked", length=3, extra=expect, bucket="otherbucket")
    assert peer.reply()[0] == 404


def test_a_refusal_waits_for_a_client_that_still_sends(peer, oss):
    """It answers when the body is here, so that it cannot be lost; no byte counts."""
    peer.ask("PUT", "refused", bytes(MIB), length=2 * MIB, bucket="otherbucket")
    assert peer.is_silent()
    peer.socket.sendall(bytes(MIB))
    assert peer.reply()[0] == 404
    assert oss.requests[-1].bytes == 0
    peer.ask("PUT", "next", b"x")
    assert peer.reply()[0] == 200


def test_records_hold_no_secrets(client, oss, poster):
    """A record shows the call, its parameters and fields, without what signs it."""
    query, headers = {"x-oss-traffic-limit": "819200"}, {"x-oss-meta-a": "1"}
    reply = client.put("k", query=query, headers=headers)
    record = oss.requests[-1]
    assert (record.action, record.method, record.key) == ("PutObject", "PUT", "k")
    assert (record.status, record.code, record.ec, record.bytes) == (200, None, "", 1)
    assert record.path == f"/{BUCKET}/k"
    assert record.parameters["x-oss-traffic-limit"] == "819200"
    assert not {"x-oss-signature", "x-oss-credential"} & record.parameters.keys()
    assert record.request_headers["x-oss-meta-a"] == "1"
    assert record.request_id == reply.headers["x-oss-request-id"]
    poster.post("k", also={"x-oss-meta-A": "1"})
    assert oss.requests[-1].fields == {"key": "k", "x-oss-meta-a": "1"}
    oss.clear()
    assert oss.requests == []

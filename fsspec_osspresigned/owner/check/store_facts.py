"""Table of facts about OSS on which the program relies, with their sources."""

from __future__ import annotations

import base64
import json
from functools import partial

from ...http.body import MemoryBody
from ...http.checksums import CRC_HEADER, crc64, md5_of
from ...model import (
    FORBID_OVERWRITE,
    MAX_PARTS,
    MIN_PART,
    OBJECT_ACL,
    STORAGE_CLASS,
    TRAFFIC_LIMIT,
    Action,
)
from ...parsing import complete_multipart_upload
from ...secret import Secret
from .store import COMPLETE_ALL, Expected, Fact, Needs, URLCall
from .store_folder import CheckKey, FormCall

BODY = b"one object of a check\n"
PART = bytes(range(256)) * (MIN_PART // 256)
_SECOND, _GONE = CheckKey.SECOND, CheckKey.MISSING
_SSE, _TAGS, _TYPE = "x-oss-server-side-encryption", "x-oss-tagging", "Content-Type"
_META, _FORM_TYPE = "x-oss-meta-check", "x-oss-content-type"
_HOUR = 3600
_WRONG_SECRET = {"access_key_secret": Secret("no-such-secret")}
# Names below .invalid lead nowhere (RFC 2606), so no callback reaches a server.
_CALLBACK = {"callbackUrl": "http://callback.invalid", "callbackBody": "size=${size}"}
_OFF = {"x-oss-callback": base64.b64encode(json.dumps(_CALLBACK).encode()).decode()}


def _md5(data: bytes) -> str:
    return md5_of(MemoryBody(data))


def _content_md5(data: bytes) -> str:
    return base64.b64encode(bytes.fromhex(_md5(data))).decode()


# Templates of requests. Each object with the key OBJECT has the content BODY.
_put = partial(URLCall, Action.PutObject, body=BODY)
_get = partial(URLCall, Action.GetObject)
_head = partial(URLCall, Action.HeadObject)
_delete = partial(URLCall, Action.DeleteObject)
_list = partial(URLCall, Action.ListObjectsV2)
_copy = partial(URLCall, Action.CopyObject, CheckKey.COPIED)
_begin = partial(URLCall, Action.InitiateMultipartUpload)
_part = partial(URLCall, Action.UploadPart, _SECOND, body=PART)
_complete = partial(URLCall, Action.CompleteMultipartUpload, _SECOND)
_abort = partial(URLCall, Action.AbortMultipartUpload, _SECOND)
_form = partial(FormCall, _SECOND, BODY)
_UPLOADED = (_begin(_SECOND), _part())  # an upload with one part
# An upload with one part, which is a copy of OBJECT.
_PART_COPIED = (
    _begin(CheckKey.COPIED),
    URLCall(Action.UploadPartCopy, CheckKey.COPIED, source=CheckKey.OBJECT),
)
_OTHER_PART = complete_multipart_upload([(1, f'"{"0" * 32}"')])
_ONCE = {FORBID_OVERWRITE: "true"}
_ALL = {COMPLETE_ALL: "yes"}
_V1 = {"version": "v1"}
_MIXED = {"CONTENT-TYPE": "text/csv", "X-Oss-Meta-Check": "yes"}


def _length(signed: int) -> URLCall:
    return _put(
        headers={"Content-Length": str(signed)},
        unsigned={"Content-Length": str(len(BODY))},
        signed={"additional_headers": ("content-length",)},
    )


def _cached(unsigned: dict[str, str | None]) -> URLCall:
    return _put(
        headers={"Cache-Control": "no-cache"},
        unsigned=unsigned,
        signed={"additional_headers": ("cache-control",)},
    )


_ok = partial(Expected, status=200)
_STORED = _ok(headers={"etag": f'"{_md5(BODY)}"', CRC_HEADER: str(crc64(BODY)), "x-oss-request-id": None})  # fmt: skip
_PARTS = {"etag": f'"{_md5(PART)}"', CRC_HEADER: str(crc64(PART))}
_WHOLE = _ok(headers={CRC_HEADER: str(crc64(PART))})
_FORM_STORED = _ok(headers={"etag": None, CRC_HEADER: str(crc64(BODY))})
_VERSION = {"x-oss-version-id": None}


def _refused(status: int, code: str | None = None, ec: str | None = None) -> Expected:
    return Expected(status=status, code=code, ec=ec)


_MISMATCH = _refused(403, "SignatureDoesNotMatch")
_NO_KEY = _refused(404, "NoSuchKey")
_NO_UPLOAD = _refused(404, "NoSuchUpload")
_ARGUMENT = _refused(400, "InvalidArgument")
_denied = partial(_refused, 403, "AccessDenied")
_exists = partial(_refused, 409, "FileAlreadyExists")

_API = "API reference, "
_ERRORS = "error reference, EC "
_PRESIGN = "integration tests of the Go SDK v2"
_CODE, _NONE = "code of the SDKs", "no source"

_UNVERSIONED, _VERSIONED, _IDS = Needs.UNVERSIONED, Needs.VERSIONED, Needs.VERSION_IDS

# Each refusal comes after a similar request that must succeed.
# fmt: off
FACTS = (
    Fact("put-v4", "PutObject with a V4 URL stores the body and returns its CRC-64 and MD5.",
        _API + "PutObject", _put(), _STORED, is_control=True),
    Fact("head", "HeadObject returns length, ETag and CRC-64.",
        _API + "HeadObject", _head(), _ok(headers={**_STORED.headers, "content-length": str(len(BODY))}), is_control=True),
    Fact("last-modified", "HeadObject returns Last-Modified.",
        _API + "HeadObject", _head(), _ok(headers={"last-modified": None})),
    Fact("put-v1", "PutObject with a V1 URL stores the body; OSS may refuse V1 for new accounts and buckets.",
        _API + "PutObject", _put(signed=_V1), _STORED),
    Fact("type-unsigned", "An unsigned Content-Type is refused.",
        _PRESIGN, _put(unsigned={_TYPE: "text/csv"}), _MISMATCH, counter="put-v4"),
    Fact("type-signed", "A signed Content-Type is stored.",
        _PRESIGN, (_put(headers={_TYPE: "text/csv"}), _head()), _ok(headers={"content-type": "text/csv"})),
    Fact("type-unsent", "A signed Content-Type that is not sent is refused.",
        _PRESIGN, _put(headers={_TYPE: "text/csv"}, unsigned={_TYPE: None}), _MISMATCH, counter="type-signed"),
    Fact("header-case", "Names of headers may be written in any case.",
        _CODE, _put(headers=_MIXED), _STORED),
    Fact("path-plus", "A blank in the key may be written as + in the path.",
        "code of the Ruby SDK", _put(CheckKey.BLANK, plus=True), _STORED),
    Fact("length-signed", "A signed Content-Length that matches the body is accepted.",
        _PRESIGN, _length(len(BODY)), _STORED),
    Fact("length-other", "A signed Content-Length fixes the size of the body.",
        _PRESIGN, _length(len(BODY) - 1), _MISMATCH, counter="length-signed"),
    Fact("additional-sent", "An additional signed header, Cache-Control, is stored.",
        _PRESIGN, (_cached({}), _head()), _ok(headers={"cache-control": "no-cache"})),
    Fact("additional-unsent", "An additional signed header that is not sent is refused.",
        _PRESIGN, _cached({"Cache-Control": None}), _refused(400), counter="additional-sent"),
    Fact("md5-right", "A Content-MD5 that matches the body is accepted.",
        _API + "PutObject", _put(headers={"Content-MD5": _content_md5(BODY)}), _STORED),
    Fact("md5-wrong", "A Content-MD5 that does not match the body is refused.",
        _API + "PutObject", _put(headers={"Content-MD5": _content_md5(PART)}), _refused(400, "InvalidDigest"), counter="md5-right"),
    Fact("crc-right", "A CRC-64 that matches the body is accepted.",
        _API + "HTTP status code 400", _put(headers={CRC_HEADER: str(crc64(BODY))}), _STORED),
    Fact("crc-wrong", "A CRC-64 that does not match the body is refused.",
        _API + "HTTP status code 400", _put(headers={CRC_HEADER: str(crc64(PART))}), _refused(400, "InvalidCRC64"), counter="crc-right"),
    Fact("metadata", "HeadObject returns the metadata of PutObject.",
        _API + "HeadObject", (_put(headers={_META: "yes"}), _head()), _ok(headers={_META: "yes"})),
    Fact("forbid-new", "PutObject with forbid-overwrite stores a new object.",
        _API + "PutObject", (_delete(_SECOND), _put(_SECOND, headers=_ONCE)), _STORED),
    Fact("forbid-overwrite", "PutObject with forbid-overwrite is refused if the object exists.",
        _API + "PutObject", (_put(_SECOND), _put(_SECOND, headers=_ONCE)), _exists("0026-00000002"), counter="forbid-new", needs=_UNVERSIONED),
    Fact("forbid-versioned", "In a bucket with versioning, PutObject ignores forbid-overwrite.",
        _API + "PutObject", (_put(_SECOND), _put(_SECOND, headers=_ONCE)), _STORED, needs=_VERSIONED),
    Fact("traffic-limit", "A traffic limit in the signed query is accepted.",
        "integration tests of ali-oss", _put(query={TRAFFIC_LIMIT: "819200"}), _STORED),
    Fact("encrypted", "The reply to an encrypted PutObject names the method.",
        _API + "PutObject", _put(headers={_SSE: "AES256"}), _ok(headers={_SSE: "AES256"})),
    Fact("encrypted-kms", "The CRC-64 and ETag of an object that KMS encrypts are recorded.",
        _NONE, _put(_SECOND, headers={_SSE: "KMS"})),
    Fact("class", "A storage class is stored.",
        _API + "PutObject", (_put(_SECOND, headers={STORAGE_CLASS: "IA"}), _head(_SECOND)), _ok(headers={STORAGE_CLASS: "IA"})),
    Fact("tag", "HeadObject returns the number of tags of PutObject.",
        _API + "HeadObject", (_put(headers={_TAGS: "check=yes"}), _head()), _ok(headers={f"{_TAGS}-count": "1"})),
    Fact("acl", "An ACL is stored.",
        _API + "GetObjectACL", (_put(headers={OBJECT_ACL: "private"}), _get(query={"acl": ""})), _ok(holds=("<Grant>private</Grant>",))),
    Fact("callback-off", "The reply to PutObject with an unreachable callback server is recorded: 203 with ETag and CRC-64, if OSS accepts its name.",
        "integration tests and mocks of the Go SDK v2", _put(headers=_OFF)),
    Fact("callback-off-stored", "Whether an object is stored although its callback failed is recorded.",
        _API + "Callback", (_put(_SECOND, headers=_OFF), _head(_SECOND))),
    Fact("callback-off-complete", "The reply to CompleteMultipartUpload with an unreachable callback server is recorded.",
        _PRESIGN, (*_UPLOADED, _complete(headers=_OFF))),
    Fact("initiate", "InitiateMultipartUpload without a body returns an upload ID.",
        _API + "InitiateMultipartUpload", _begin(_SECOND), _ok(holds=("<UploadId>",))),
    Fact("part", "UploadPart returns the ETag and CRC-64 of the part.",
        _API + "UploadPart", _UPLOADED, _ok(headers=_PARTS)),
    Fact("part-number", "A part number above 10,000 is refused.",
        _API + "UploadPart", (_begin(_SECOND), _part(part_number=MAX_PARTS + 1)), _ARGUMENT, counter="part"),
    Fact("upload-gone", "A part for an unknown upload ID is refused.",
        _API + "UploadPart", _part(query={"uploadId": "0" * 32}), _NO_UPLOAD, counter="part"),
    Fact("list-parts", "ListParts returns number, size, ETag and CRC-64 of each part.",
        "code of the Go SDK v2", (*_UPLOADED, URLCall(Action.ListParts, _SECOND)),
        _ok(holds=(_md5(PART).upper(), f"<Size>{len(PART)}</Size>", f"<HashCrc64ecma>{crc64(PART)}</HashCrc64ecma>"))),
    Fact("complete", "CompleteMultipartUpload returns the CRC-64 of the whole object.",
        "integration tests of the Java SDK", (*_UPLOADED, _complete()), _ok(headers=_WHOLE.headers, holds=("<ETag>",))),
    Fact("complete-twice", "CompleteMultipartUpload of an upload that was already completed fails with NoSuchUpload.",
        _API + "CompleteMultipartUpload", (*_UPLOADED, _complete(), _complete()), _NO_UPLOAD, counter="complete"),
    Fact("complete-etag", "CompleteMultipartUpload refuses a part with a wrong ETag.",
        _API + "CompleteMultipartUpload", (*_UPLOADED, _complete(body=_OTHER_PART)), _refused(400, "InvalidPart"), counter="complete"),
    Fact("complete-all", "CompleteMultipartUpload accepts complete-all instead of a list of parts.",
        _API + "CompleteMultipartUpload", (*_UPLOADED, _complete(headers=_ALL)), _WHOLE),
    Fact("complete-new", "CompleteMultipartUpload with forbid-overwrite stores a new object.",
        _API + "CompleteMultipartUpload", (_delete(_SECOND), *_UPLOADED, _complete(headers=_ONCE)), _WHOLE),
    Fact("complete-forbid", "CompleteMultipartUpload with forbid-overwrite is refused if the object exists.",
        _ERRORS + "0042-00000214", (_put(_SECOND), *_UPLOADED, _complete(headers=_ONCE)), _exists("0042-00000214"), counter="complete-new", needs=_UNVERSIONED),
    Fact("complete-versioned", "In a bucket with versioning, CompleteMultipartUpload ignores forbid-overwrite.",
        _API + "CompleteMultipartUpload", (_put(_SECOND), *_UPLOADED, _complete(headers=_ONCE)), _WHOLE, needs=_VERSIONED),
    Fact("part-last", "The last part may have less than 100 KiB.",
        _API + "CompleteMultipartUpload", (*_UPLOADED, _part(body=BODY, part_number=2), _complete()), _ok()),
    Fact("part-small", "CompleteMultipartUpload refuses a part below 100 KiB, except the last one.",
        _API + "CompleteMultipartUpload", (_begin(_SECOND), _part(body=BODY), _part(body=BODY, part_number=2), _complete()), _refused(400, "EntityTooSmall"), counter="part-last"),
    Fact("abort", "AbortMultipartUpload removes the parts.",
        _API + "AbortMultipartUpload", (*_UPLOADED, _abort()), Expected(status=204)),
    Fact("abort-twice", "An aborted upload no longer exists.",
        _API + "AbortMultipartUpload", (_begin(_SECOND), _abort(), _abort()), _NO_UPLOAD, counter="abort"),
    Fact("get", "GetObject returns length, ETag and CRC-64.",
        _API + "GetObject", _get(), _ok(headers=_STORED.headers, holds=(BODY.decode(),))),
    Fact("get-v1", "GetObject with a V1 URL returns the object.",
        _API + "GetObject", _get(signed=_V1), _STORED),
    Fact("get-range", "The reply to a range has the CRC-64 of the whole object.",
        "integration tests of the Java SDK", _get(unsigned={"Range": "bytes=4-9"}),
        Expected(status=206, headers={CRC_HEADER: str(crc64(BODY)), "content-range": f"bytes 4-9/{len(BODY)}"}, holds=("object",))),
    Fact("get-range-outside", "The reply to a range outside the object is the whole object.",
        _API + "GetObject", _get(unsigned={"Range": "bytes=1000-2000"}), _ok(holds=(BODY.decode(),))),
    Fact("get-missing", "GetObject of a missing object fails with NoSuchKey.",
        _API + "GetObject", _get(_GONE),
        Expected(status=404, code="NoSuchKey", headers={"x-oss-request-id": None}, holds=("<RequestId>", "<HostId>")), counter="get"),
    Fact("head-missing", "HeadObject of a missing object fails with NoSuchKey.",
        _API + "HeadObject", _head(_GONE), _NO_KEY, counter="head"),
    Fact("list", "ListObjectsV2 with a presigned URL lists the stored objects, with size and time.",
        _API + "ListObjectsV2", _list(), _ok(holds=("<Key>", f"<Size>{len(BODY)}</Size>", "<LastModified>"))),
    Fact("list-blank", "The form of blanks in listed keys with encoding-type=url is recorded.",
        "the SDKs disagree", (_put(CheckKey.BLANK), _list(query={"prefix": "a ", "encoding-type": "url"}))),
    Fact("copy", "CopyObject with a presigned URL returns the ETag of the copy.",
        _API + "CopyObject", _copy(source=CheckKey.OBJECT), _ok(holds=("<ETag>",))),
    Fact("copied", "CopyObject stores the bytes of its source.",
        _API + "CopyObject", (_copy(source=CheckKey.OBJECT), _get(CheckKey.COPIED)), _ok(headers=_STORED.headers, holds=(BODY.decode(),))),
    Fact("copy-missing", "CopyObject of a missing object fails with NoSuchKey.",
        _API + "CopyObject", _copy(source=_GONE), _NO_KEY, counter="copy"),
    Fact("part-copy", "UploadPartCopy with a presigned URL returns the ETag of the part.",
        _API + "UploadPartCopy", _PART_COPIED, _ok(holds=("<ETag>",))),
    Fact("part-copied", "UploadPartCopy stores the bytes of its source.",
        _API + "UploadPartCopy", (_delete(CheckKey.COPIED), *_PART_COPIED, URLCall(Action.CompleteMultipartUpload, CheckKey.COPIED, headers=_ALL), _get(CheckKey.COPIED)),
        _ok(headers={CRC_HEADER: str(crc64(BODY))}, holds=(BODY.decode(),))),
    Fact("error-cors", "The CORS headers in the refusal of a browser's request are recorded.",
        _NONE, _get(_GONE, unsigned={"Origin": "https://example.com"})),
    Fact("delete", "DeleteObject removes an object.",
        _API + "DeleteObject", (_put(_SECOND), _delete(_SECOND), _head(_SECOND)), _refused(404), counter="head"),
    Fact("delete-missing", "DeleteObject of a missing object succeeds.",
        _API + "DeleteObject", _delete(_GONE), Expected(status=204)),
    Fact("form", "PostObject with a signed form stores the file and returns an ETag and its CRC-64.",
        "best practices, Check data transmission integrity by using CRC-64", _form(), _FORM_STORED),
    Fact("form-v1", "PostObject with a form that is signed with V1 stores the file.",
        _API + "PostObject", _form(version="v1"), _FORM_STORED),
    Fact("form-sts", "PostObject with a form that a temporary key signed stores the file.",
        "samples of the SDKs", _form(), _FORM_STORED, needs=Needs.TEMPORARY_KEY),
    Fact("form-unlisted", "Under V4, a form may have fields that no condition names.",
        "integration tests of ali-oss (V1), samples of the SDKs (V4)", _form(unlisted={_META: "yes", _TYPE: "text/csv"}), _FORM_STORED),
    Fact("form-type", "The field x-oss-content-type wins over the field Content-Type.",
        _API + "PostObject", (_form(unlisted={_FORM_TYPE: "text/csv", _TYPE: "text/html"}), _head(_SECOND)), _ok(headers={"content-type": "text/csv"})),
    Fact("form-type-condition", "A condition on $content-type applies to the type of the file's part.",
        "integration tests of the Java SDK", _form(terms={"fields": {_TYPE: "text/csv"}}, unlisted={_TYPE: None, _FORM_TYPE: "text/csv"}), _FORM_STORED),
    Fact("form-type-other", "A form whose type is not the one of its policy is refused.",
        _API + "PostObject", _form(terms={"fields": {_TYPE: "text/csv"}}, unlisted={_TYPE: None, _FORM_TYPE: "text/html"}), _denied("0006-00000227"), counter="form-type-condition"),
    Fact("form-expired", "An expired form is refused.",
        _API + "PostObject", _form(ago=_HOUR), _denied("0006-00000213"), counter="form"),
    Fact("form-condition", "A form whose key is outside the prefix of its policy is refused.",
        _API + "PostObject", _form(below="inner/"), _denied("0006-00000227"), counter="form"),
    Fact("form-size", "A form whose file is larger than its policy allows is refused.",
        _API + "PostObject", _form(terms={"sizes": (0, 1)}), _refused(400, "EntityTooLarge"), counter="form"),
    Fact("form-signature", "A form signed with a wrong secret is refused.",
        _API + "PostObject", _form(wrong=_WRONG_SECRET), _MISMATCH, counter="form"),
    Fact("form-new", "A form with forbid-overwrite stores a new object.",
        _API + "PostObject", (_delete(_SECOND), _form(terms={"overwrite": False})), _FORM_STORED),
    Fact("form-forbid", "A form with forbid-overwrite is refused if the object exists.",
        _API + "PostObject", (_put(_SECOND), _form(terms={"overwrite": False})), _exists(), counter="form-new", needs=_UNVERSIONED),
    Fact("form-versioned", "In a bucket with versioning, PostObject ignores forbid-overwrite.",
        _API + "PostObject", (_put(_SECOND), _form(terms={"overwrite": False})), _FORM_STORED, needs=_VERSIONED),
    Fact("expired-v4", "An expired V4 URL is refused.",
        "no source for the EC", _get(ago=_HOUR), _denied(), counter="get"),
    Fact("expired-v1", "An expired V1 URL is refused.",
        _ERRORS + "0002-00000069", _get(ago=_HOUR, signed=_V1), _denied("0002-00000069"), counter="get-v1"),
    Fact("early", "A V4 URL is refused more than 15 minutes before it becomes valid.",
        _ERRORS + "0002-00000235", _get(ago=-_HOUR), _denied("0002-00000235"), counter="get"),
    Fact("life", "A V4 URL with a lifetime of more than seven days is refused.",
        _ERRORS + "0002-00000232", _get(signed={"expires_in": 604_801}), _refused(400, ec="0002-00000232"), counter="get"),
    Fact("region", "A V4 URL signed for another region is refused.",
        "tests of oss2", _get(signed={"region": "xx-nowhere"}), _refused(400, "InvalidArgument", "0002-00000226"), counter="get"),
    Fact("signature-v4", "A V4 signature with a wrong secret is refused; the members of the reply are recorded.",
        "no source for the members", _get(wrong=_WRONG_SECRET), _MISMATCH, counter="get"),
    Fact("signature-v1", "A V1 signature with a wrong secret is refused; the reply has StringToSign.",
        "replies quoted in user reports", _get(wrong=_WRONG_SECRET, signed=_V1),
        Expected(status=403, code="SignatureDoesNotMatch", holds=("<StringToSign>",)), counter="get-v1"),
    Fact("key-unknown", "A URL with an access key ID that does not exist is refused.",
        _ERRORS + "0002-00000902", _get(wrong={"access_key_id": "NoSuchKey"}), _refused(403, "InvalidAccessKeyId"), counter="get"),
    Fact("token-other", "The refusal of an STS token that does not belong to the key is recorded.",
        "error reference, EC 0002-00000004 or 0002-00000006", _get(wrong={"security_token": Secret("no-such-token")})),
    Fact("version-id", "PutObject returns the ID of the version.",
        _API + "PutObject", _put(_SECOND), _ok(headers={**_STORED.headers, **_VERSION}), needs=_IDS),
    Fact("version-complete", "CompleteMultipartUpload returns the ID of the version.",
        _API + "CompleteMultipartUpload", (*_UPLOADED, _complete()), _ok(headers=_VERSION), needs=_IDS),
    Fact("version-form", "PostObject returns the ID of the version.",
        _API + "PostObject", _form(), _ok(headers=_VERSION), needs=_IDS),
    Fact("version-marker", "DeleteObject without a version ID adds a delete marker.",
        _API + "DeleteObject", (_put(_SECOND), _delete(_SECOND)), Expected(status=204, headers={"x-oss-delete-marker": "true", **_VERSION}), needs=_IDS),
    Fact("cname", "A URL with the bucket's own domain has the bucket in its signature.",
        "code of the Go SDK v2", _get(), _STORED, needs=Needs.CNAME),
    Fact("cname-form", "The reply to a form at the bucket's own domain is recorded.",
        _NONE, _form(), needs=Needs.CNAME),
)
# fmt: on

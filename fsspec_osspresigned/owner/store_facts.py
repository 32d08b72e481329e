"""Facts about OSS on which the program relies, in one table with their sources."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from attrs import evolve

from ..http.checksums import crc64
from ..model import (
    COPY_SOURCE,
    FORBID_OVERWRITE,
    MAX_PARTS,
    MIN_PART,
    REQUEST_PAYER,
    Action,
    Reply,
)
from ..parsing import complete_multipart_upload
from ..secret import Secret
from .store_check import CheckedStore, Expected, Fact
from .store_folder import CheckKey

_Probe: TypeAlias = Callable[[CheckedStore], Reply]

BODY = b"one object of a check\n"
PART = bytes(range(256)) * (MIN_PART // 256)
_BODY_CRC, _PART_CRC = str(crc64(BODY)), str(crc64(PART))
_ONE, _SECOND, _GONE = CheckKey.OBJECT, CheckKey.SECOND, CheckKey.MISSING
_CRC, _SSE = "x-oss-hash-crc64ecma", "x-oss-server-side-encryption"
_HOUR = 3600
_NO_SECRET = Secret("no-such-secret")
# Names below .invalid lead nowhere (RFC 2606), so no callback arrives anywhere.
_CALLBACK = {"callbackUrl": "http://callback.invalid", "callbackBody": "size=${size}"}
_OFF = {"x-oss-callback": base64.b64encode(json.dumps(_CALLBACK).encode()).decode()}


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _content_md5(data: bytes) -> str:
    return base64.b64encode(bytes.fromhex(_md5(data))).decode()


_STORED = {"etag": f'"{_md5(BODY)}"', _CRC: _BODY_CRC, "x-oss-request-id": None}


def _put(store: CheckedStore, key: str = _ONE, **more: Any) -> Reply:
    return store.call(Action.PutObject, key, BODY, **more)


def _get(store: CheckedStore, key: str = _ONE, **more: Any) -> Reply:
    return store.call(Action.GetObject, key, **more)


def _on_upload(
    action: Action,
    store: CheckedStore,
    body: bytes = b"",
    key: str = _SECOND,
    **more: Any,
) -> Reply:
    """Send *action* for a new multipart upload of one part."""
    upload_id = store.initiate(key)
    store.part(key, upload_id, PART)
    return store.call(action, key, body, query={"uploadId": upload_id}, **more)


def _complete(store: CheckedStore, etag: str = _md5(PART), **more: Any) -> Reply:
    body = complete_multipart_upload([(1, f'"{etag}"')])
    return _on_upload(Action.CompleteMultipartUpload, store, body, **more)


def _initiate(store: CheckedStore, **more: Any) -> Reply:
    reply = store.call(Action.InitiateMultipartUpload, _SECOND, **more)
    store.upload_id(reply, _SECOND)
    return reply


def _complete_parts(store: CheckedStore, *parts: bytes, times: int = 1) -> Reply:
    upload_id = store.initiate(_SECOND)
    for number, part in enumerate(parts, 1):
        store.part(_SECOND, upload_id, part, number)
    etags = [(number, f'"{_md5(part)}"') for number, part in enumerate(parts, 1)]
    body, query = complete_multipart_upload(etags), {"uploadId": upload_id}
    complete = partial(store.call, Action.CompleteMultipartUpload, _SECOND, body)
    return [complete(query=query) for _ in range(times)][-1]


def _part_copy(store: CheckedStore) -> Reply:
    query = {"uploadId": store.initiate(CheckKey.COPIED), "partNumber": "1"}
    source = {COPY_SOURCE: store.copy_source(_ONE)}
    return store.call(
        Action.UploadPartCopy, CheckKey.COPIED, headers=source, query=query
    )


def _copy(store: CheckedStore, key: str = _ONE) -> Reply:
    source = {COPY_SOURCE: store.copy_source(key)}
    return store.call(Action.CopyObject, CheckKey.COPIED, headers=source)


def _list(store: CheckedStore, **query: str) -> Reply:
    asked = {"prefix": store.folder.path, **query}
    return store.call(Action.ListObjectsV2, "", query=asked)


def _list_blank(store: CheckedStore) -> Reply:
    return _list(store, prefix=f"{store.folder.path}a ", **{"encoding-type": "url"})


def _aborted_twice(store: CheckedStore) -> Reply:
    query = {"uploadId": store.initiate(_SECOND)}
    store.call(Action.AbortMultipartUpload, _SECOND, query=query)
    return store.call(Action.AbortMultipartUpload, _SECOND, query=query)


def _wrongly(send: Callable[..., Reply], **wrong: Any) -> _Probe:
    """Return a probe that calls *send* with *wrong* members in the credentials."""
    return lambda store: send(
        store, credentials=evolve(store.access.credentials, **wrong)
    )


def _then(*steps: _Probe) -> _Probe:
    """Return a probe that runs *steps* in order and returns the last step's reply."""
    return lambda store: [step(store) for step in steps][-1]


def _shifted(store: CheckedStore, seconds: int, version: str = "v4") -> Reply:
    return _get(store, now=store.access.clock() + seconds, version=version)


def _delete(store: CheckedStore, key: str) -> Reply:
    return store.call(Action.DeleteObject, key)


def _head(store: CheckedStore, key: str = _ONE) -> Reply:
    return store.call(Action.HeadObject, key)


def _part(
    store: CheckedStore, data: bytes, number: int = 1, upload_id: str | None = None
) -> Reply:
    return store.part(_SECOND, upload_id or store.initiate(_SECOND), data, number)


def _length(store: CheckedStore, signed: int) -> Reply:
    return _put(
        store,
        headers={"Content-Length": str(signed)},
        unsigned={"Content-Length": str(len(BODY))},
        additional_headers=("content-length",),
    )


def _unsent(store: CheckedStore, name: str, *additional: str) -> Reply:
    headers, unsigned = {name: "text/csv"}, {name: None}
    return _put(
        store, headers=headers, unsigned=unsigned, additional_headers=additional
    )


def _form(store: CheckedStore, key: str = _ONE, **more: Any) -> Reply:
    return store.post(key, BODY, **more)


_API = "API reference, "
_PRESIGN = "integration tests of the Go SDK v2"
_ERRORS = "error reference, EC "
_DENIED, _MISMATCH = "AccessDenied", "SignatureDoesNotMatch"

# fmt: off
FACTS = (
    Fact("put-v4", "PutObject with a V4 URL stores the body and returns its CRC-64 and MD5.",
        _API + "PutObject", _put, Expected(status=200, headers=_STORED)),
    Fact("put-v1", "PutObject with a V1 URL stores the body; OSS may refuse V1 for new accounts and buckets.",
        _API + "PutObject", partial(_put, version="v1"),
        Expected(status=200, headers=_STORED)),
    Fact("type-unsigned", "An unsigned Content-Type is refused.",
        _PRESIGN, partial(_put, unsigned={"Content-Type": "text/csv"}),
        Expected(status=403, code=_MISMATCH)),
    Fact("type-signed", "A signed Content-Type is stored.",
        _PRESIGN, partial(_put, headers={"Content-Type": "text/csv"}),
        Expected(status=200, headers=_STORED)),
    Fact("type-unsent", "A signed Content-Type that is not sent is refused.",
        _PRESIGN, partial(_unsent, name="Content-Type"),
        Expected(status=403, code=_MISMATCH)),
    Fact("header-case", "Names of headers may be written in any case.",
        "code of the SDKs", partial(_put, headers={"CONTENT-TYPE": "text/csv", "X-Oss-Meta-Check": "yes"}),
        Expected(status=200, headers=_STORED)),
    Fact("header-case-v1", "With a V1 URL, names of headers may be written in any case, too.",
        "code of the SDKs", partial(_put, version="v1", headers={"CONTENT-TYPE": "text/csv", "X-Oss-Meta-Check": "yes"}),
        Expected(status=200, headers=_STORED)),
    Fact("length-signed", "A signed Content-Length that matches the body is accepted.",
        _PRESIGN, partial(_length, signed=len(BODY)),
        Expected(status=200, headers=_STORED)),
    Fact("length-other", "A signed Content-Length fixes the size of the body.",
        _PRESIGN, partial(_length, signed=len(BODY) - 1),
        Expected(status=403, code=_MISMATCH)),
    Fact("additional-unsent", "An additional signed header that is not sent is refused.",
        _PRESIGN, lambda store: _unsent(store, "Cache-Control", "cache-control"),
        Expected(status=400)),
    Fact("request-payer", "A request of the owner may carry x-oss-request-payer.",
        "code of the Go SDK v2", partial(_put, headers={REQUEST_PAYER: "requester"}),
        Expected(status=200, headers=_STORED)),
    Fact("md5-wrong", "A Content-MD5 that does not match the body is refused.",
        _API + "PutObject", partial(_put, headers={"Content-MD5": _content_md5(PART)}),
        Expected(status=400, code="InvalidDigest")),
    Fact("md5-right", "A Content-MD5 that matches the body is accepted.",
        _API + "PutObject", partial(_put, headers={"Content-MD5": _content_md5(BODY)}),
        Expected(status=200, headers=_STORED)),
    Fact("metadata", "HeadObject returns the metadata of PutObject.",
        _API + "HeadObject", _then(partial(_put, headers={"x-oss-meta-check": "yes"}), _head),
        Expected(status=200, headers={"x-oss-meta-check": "yes"})),
    Fact("forbid-overwrite", "PutObject with forbid-overwrite is refused if the object exists.",
        _API + "PutObject", partial(_put, headers={FORBID_OVERWRITE: "true"}),
        Expected(status=409, code="FileAlreadyExists", ec="0026-00000002")),
    Fact("traffic-limit", "A traffic limit in the signed query is accepted.",
        "integration tests of ali-oss", partial(_put, query={"x-oss-traffic-limit": "819200"}),
        Expected(status=200, headers=_STORED)),
    Fact("traffic-limit-small", "A traffic limit below 819,200 bit/s is refused.",
        _API + "PutObject", partial(_put, query={"x-oss-traffic-limit": "819199"}),
        Expected(status=400, code="InvalidArgument")),
    Fact("condition", "PutObject refuses an unsupported conditional header.",
        _API + "Error responses", partial(_put, headers={"If-Modified-Since": "Fri, 13 Nov 2015 14:47:53 GMT"}),
        Expected(status=400, code="NotImplemented")),
    Fact("encrypted", "The reply to an encrypted PutObject names the method.",
        _API + "PutObject", partial(_put, headers={_SSE: "AES256"}),
        Expected(status=200, headers={_SSE: "AES256"})),
    Fact("encrypted-kms", "The CRC-64 and ETag of an object that KMS encrypts are recorded.",
        "no source", partial(_put, key=_SECOND, headers={_SSE: "KMS"}), None),
    Fact("encrypted-customer", "The reply to a header for encryption with a customer-provided key is recorded.",
        "no source", partial(_put, key=_SECOND, headers={f"{_SSE}-customer-algorithm": "AES256"}), None),
    Fact("encryption-unknown", "An unknown encryption method is refused.",
        _API + "PutObject", partial(_put, headers={_SSE: "none-such"}),
        Expected(status=400, code="InvalidEncryptionAlgorithmError")),
    Fact("class-unknown", "An unknown storage class is refused.",
        _API + "PutObject", partial(_put, headers={"x-oss-storage-class": "none-such"}),
        Expected(status=400)),
    Fact("tag-unfit", "A tag with characters that are not allowed is refused.",
        _API + "PutObjectTagging", partial(_put, headers={"x-oss-tagging": "check=%40"}),
        Expected(status=400, code="InvalidTag")),
    Fact("crc-wrong", "A CRC-64 that does not match the body is refused.",
        _API + "HTTP status code 400", partial(_put, headers={_CRC: _PART_CRC}),
        Expected(status=400, code="InvalidCRC64")),
    Fact("callback-off", "If the callback server is unreachable, the reply is 203 with ETag and CRC-64.",
        "integration tests and mocks of the Go SDK v2", partial(_put, headers=_OFF),
        Expected(status=203, code="CallbackFailed", ec="0007-00000203", headers=_STORED)),
    Fact("callback-off-stored", "An object is stored although its callback failed.",
        _API + "Callback", _then(partial(_put, key=_SECOND, headers=_OFF), partial(_head, key=_SECOND)),
        Expected(status=200, headers=_STORED)),
    Fact("callback-off-complete", "If the callback server is unreachable, CompleteMultipartUpload returns 203.",
        "integration tests of the Go SDK v2", partial(_complete, headers=_OFF),
        Expected(status=203, code="CallbackFailed", ec="0007-00000203")),
    Fact("acl-unknown", "An ACL that does not exist is refused.",
        _API + "PutObject", partial(_put, headers={"x-oss-object-acl": "nobody"}),
        Expected(status=400, code="InvalidArgument")),
    Fact("initiate", "InitiateMultipartUpload without a body returns an upload ID.",
        _API + "InitiateMultipartUpload", _initiate,
        Expected(status=200, holds=("<UploadId>",))),
    Fact("part", "UploadPart returns the ETag and CRC-64 of the part.",
        _API + "UploadPart", partial(_part, data=PART),
        Expected(status=200, headers={"etag": f'"{_md5(PART)}"', _CRC: _PART_CRC})),
    Fact("list-parts", "ListParts returns number, size, ETag and CRC-64 of each part.",
        "code of the Go SDK v2", partial(_on_upload, Action.ListParts),
        Expected(status=200, holds=(_md5(PART).upper(), f"<Size>{len(PART)}</Size>", f"<HashCrc64ecma>{_PART_CRC}</HashCrc64ecma>"))),
    Fact("complete", "CompleteMultipartUpload returns the CRC-64 of the whole object.",
        "integration tests of the Java SDK", _complete,
        Expected(status=200, headers={_CRC: _PART_CRC}, holds=("<ETag>",))),
    Fact("complete-etag", "CompleteMultipartUpload refuses a part with a wrong ETag.",
        _API + "CompleteMultipartUpload", partial(_complete, etag="0" * 32),
        Expected(status=400, code="InvalidPart")),
    Fact("complete-all", "CompleteMultipartUpload accepts complete-all instead of a list of parts.",
        _API + "CompleteMultipartUpload", partial(_on_upload, Action.CompleteMultipartUpload, headers={"x-oss-complete-all": "yes"}),
        Expected(status=200, headers={_CRC: _PART_CRC})),
    Fact("complete-forbid", "CompleteMultipartUpload with forbid-overwrite is refused if the object exists.",
        _ERRORS + "0042-00000214", partial(_complete, key=_ONE, headers={FORBID_OVERWRITE: "true"}),
        Expected(status=409, code="FileAlreadyExists", ec="0042-00000214")),
    Fact("part-small", "CompleteMultipartUpload refuses a part below 100 KiB, except the last one.",
        _API + "CompleteMultipartUpload", lambda store: _complete_parts(store, BODY, BODY),
        Expected(status=400, code="EntityTooSmall")),
    Fact("part-number", "A part number above 10,000 is refused.",
        _API + "UploadPart", partial(_part, data=BODY, number=MAX_PARTS + 1),
        Expected(status=400, code="InvalidArgument")),
    Fact("upload-gone", "A part for an unknown upload ID is refused.",
        _API + "UploadPart", partial(_part, data=BODY, upload_id="0" * 32),
        Expected(status=404, code="NoSuchUpload")),
    Fact("abort", "AbortMultipartUpload removes the parts.",
        _API + "AbortMultipartUpload", partial(_on_upload, Action.AbortMultipartUpload),
        Expected(status=204)),
    Fact("abort-twice", "An aborted upload no longer exists.",
        _API + "AbortMultipartUpload", _aborted_twice,
        Expected(status=404, code="NoSuchUpload")),
    Fact("get", "GetObject returns length, ETag and CRC-64.",
        _API + "GetObject", _get,
        Expected(status=200, headers=_STORED, holds=(BODY.decode(),))),
    Fact("get-range", "The reply to a range has the CRC-64 of the whole object.",
        "integration tests of the Java SDK", partial(_get, unsigned={"Range": "bytes=4-9"}),
        Expected(status=206, headers={_CRC: _BODY_CRC, "content-range": f"bytes 4-9/{len(BODY)}"}, holds=("object",))),
    Fact("get-range-outside", "The reply to a range outside the object is the whole object.",
        _API + "GetObject", partial(_get, unsigned={"Range": "bytes=1000-2000"}),
        Expected(status=200, holds=(BODY.decode(),))),
    Fact("get-suffix-long", "The reply to a suffix range that is longer than the object is recorded.",
        "no source", partial(_get, unsigned={"Range": "bytes=-1000"}), None),
    Fact("get-missing", "GetObject of a missing object fails with NoSuchKey.",
        _API + "GetObject", partial(_get, key=_GONE),
        Expected(status=404, code="NoSuchKey", headers={"x-oss-request-id": None}, holds=("<RequestId>", "<HostId>"))),
    Fact("head", "HeadObject returns length, ETag and CRC-64.",
        _API + "HeadObject", partial(_head, key=_ONE),
        Expected(status=200, headers={**_STORED, "content-length": str(len(BODY))})),
    Fact("head-missing", "HeadObject of a missing object fails with NoSuchKey.",
        _API + "HeadObject", partial(_head, key=_GONE),
        Expected(status=404, code="NoSuchKey")),
    Fact("list", "ListObjectsV2 with a presigned URL lists the stored objects.",
        _API + "ListObjectsV2", _list,
        Expected(status=200, holds=("<Key>", f"<Size>{len(BODY)}</Size>"))),
    Fact("list-blank", "The form of blanks in listed keys with encoding-type=url is recorded.",
        "the SDKs disagree", _then(partial(_put, key=CheckKey.BLANK), _list_blank), None),
    Fact("copy", "CopyObject with a presigned URL copies an object.",
        _API + "CopyObject", _copy, Expected(status=200, holds=("<ETag>",))),
    Fact("part-copy", "UploadPartCopy with a presigned URL copies a part.",
        _API + "UploadPartCopy", _part_copy, Expected(status=200, holds=("<ETag>",))),
    Fact("copy-missing", "CopyObject of a missing object fails with NoSuchKey.",
        _API + "CopyObject", partial(_copy, key=_GONE), Expected(status=404, code="NoSuchKey")),
    Fact("error-cors", "The CORS headers in the refusal of a browser's request are recorded.",
        "no source",
        partial(_get, key=_GONE, unsigned={"Origin": "https://example.com"}), None),
    Fact("delete", "DeleteObject removes an object.",
        _API + "DeleteObject", _then(partial(_delete, key=_SECOND), partial(_head, key=_SECOND)), Expected(status=404)),
    Fact("delete-missing", "DeleteObject of a missing object succeeds.",
        _API + "DeleteObject", partial(_delete, key=_GONE), Expected(status=204)),
    Fact("key-long", "A key of more than 1,023 bytes is refused.",
        _API + "PutObject", partial(_get, key="k" * 1024),
        Expected(status=400, code="InvalidObjectName")),
    Fact("form", "PostObject with a signed form stores the file and returns an ETag.",
        _API + "PostObject", _form, Expected(status=200, headers={"etag": None})),
    Fact("form-expired", "An expired form is refused.",
        _API + "PostObject", partial(_form, ago=_HOUR, expires_in=1),
        Expected(status=403, code=_DENIED, ec="0006-00000213")),
    Fact("form-condition", "A form whose key is outside the prefix of its policy is refused.",
        _API + "PostObject", partial(_form, below="inner/"),
        Expected(status=403, code=_DENIED, ec="0006-00000227")),
    Fact("form-size", "A form whose file is larger than its policy allows is refused.",
        _API + "PostObject", partial(_form, sizes=(0, 1)),
        Expected(status=400, code="EntityTooLarge")),
    Fact("form-signature", "A form signed with a wrong secret is refused.",
        _API + "PostObject", _wrongly(_form, access_key_secret=_NO_SECRET),
        Expected(status=403, code=_MISMATCH)),
    Fact("expired-v4", "An expired V4 URL is refused.",
        "no source for the EC", partial(_shifted, seconds=-_HOUR),
        Expected(status=403, code=_DENIED)),
    Fact("expired-v1", "An expired V1 URL is refused.",
        _ERRORS + "0002-00000069", partial(_shifted, seconds=-_HOUR, version="v1"),
        Expected(status=403, code=_DENIED, ec="0002-00000069")),
    Fact("early", "A V4 URL is refused more than 15 minutes before it becomes valid.",
        _ERRORS + "0002-00000235", partial(_shifted, seconds=_HOUR),
        Expected(status=403, code=_DENIED, ec="0002-00000235")),
    Fact("life", "A V4 URL with a lifetime of more than seven days is refused.",
        _ERRORS + "0002-00000232", partial(_get, expires_in=604_801),
        Expected(status=400, ec="0002-00000232")),
    Fact("region", "A V4 URL signed for another region is refused.",
        "tests of oss2", partial(_get, region="xx-nowhere"),
        Expected(status=400, code="InvalidArgument", ec="0002-00000226")),
    Fact("signature-v4", "A V4 signature with a wrong secret is refused; the members of the reply are recorded.",
        "no source for the members", _wrongly(_get, access_key_secret=_NO_SECRET),
        Expected(status=403, code=_MISMATCH)),
    Fact("signature-v1", "A V1 signature with a wrong secret is refused; the reply has StringToSign.",
        "replies quoted in user reports", _wrongly(partial(_get, version="v1"), access_key_secret=_NO_SECRET),
        Expected(status=403, code=_MISMATCH, holds=("<StringToSign>",))),
    Fact("key-unknown", "A URL with an access key ID that does not exist is refused.",
        _ERRORS + "0002-00000902", _wrongly(_get, access_key_id="NoSuchKey"),
        Expected(status=403, code="InvalidAccessKeyId")),
    Fact("token-other", "A URL with an STS token that does not belong to the key is refused.",
        _ERRORS + "0002-00000004", _wrongly(_get, security_token=Secret("no-such-token")), Expected(status=403)),
    Fact("complete-twice", "CompleteMultipartUpload of an upload that was already completed fails with NoSuchUpload.",
        _API + "CompleteMultipartUpload", lambda store: _complete_parts(store, PART, times=2),
        Expected(status=404, code="NoSuchUpload")),
)
# fmt: on

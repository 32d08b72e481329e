"""Messages of the emulator: received requests, replies and errors.

Errors have the status, message and EC of the API reference, "Error codes".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from attrs import field, frozen

from ..model import frozen_mapping
from ..signing.canonical import parse_query

_is_number = re.compile("[0-9]{1,18}").fullmatch


@frozen(kw_only=True)
class Refusal:
    """The error reply of OSS to a request.

    *extras* are further elements of the error document; they repeat the request,
    including secrets, as OSS does.
    """

    status: int = 403
    code: str = "AccessDenied"
    message: str
    ec: str = ""  # OSS's EC number; empty if the documentation has none
    extras: Mapping[str, str] = field(
        factory=dict, converter=frozen_mapping, repr=False
    )


@frozen
class FormPart:
    name: str
    filename: str | None = None
    content_type: str | None = None


@frozen
class ReceivedForm:
    """Fields of a form before its file, with names in lower case."""

    fields: Mapping[str, str]
    file: FormPart

    @property
    def checked_fields(self) -> Mapping[str, str]:
        """Fields to check against the policy; their Content-Type precedes the file's."""
        if self.file.content_type is None:
            return self.fields
        return {"content-type": self.file.content_type, **self.fields}


@frozen(kw_only=True)
class Call:
    """A received request; bytes that are not UTF-8 become lone surrogates."""

    action: str = ""  # action name in the API reference
    method: str = "GET"
    bucket: str  # bucket in the host or the path; empty for a call on the service
    key: str  # key, percent-decoded once; empty for a call on a bucket
    path: str = ""  # path of the URL as received, not decoded, without the query
    query: str = field(default="", repr=False)  # query as received, not decoded
    headers: Mapping[str, str] = field(
        factory=dict, converter=frozen_mapping, repr=False
    )
    # The form of a PostObject; its field ``key`` names the object. None until the form
    # was read.
    form: ReceivedForm | None = field(default=None, repr=False)

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        """Parameters of the query. If a parameter is repeated, the first one counts."""
        return dict(reversed(parse_query(self.query)))

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def upload_id(self) -> str | None:
        return self.parameters.get("uploadId")

    @property
    def part_number(self) -> int | None:
        return read_number(self.parameters.get("partNumber", ""))

    @property
    def content_length(self) -> int | None:
        """Content-Length in bytes; None if the header is missing or invalid."""
        return read_number(self.headers.get("content-length", ""))


def read_number(text: str) -> int | None:
    return int(text) if _is_number(text) else None


INTERNAL = "InternalError"

# Status, code, EC and message. A fault that names only a status answers with the first
# code of that status. OSS answers NotImplemented to conditions on a PutObject.
_TABLE = """
203 CallbackFailed 0007-00000203 Error status : 502.
400 InvalidArgument - The request is not valid.
400 EntityTooLarge - Your proposed upload exceeds the maximum allowed object size.
400 EntityTooSmall 0042-00000213 Your proposed upload smaller than the minimum allowed size.
400 InvalidCRC64 - The CRC64 checksum of the data does not match the one you specified.
400 InvalidDigest - The Content-MD5 you specified was invalid.
400 InvalidEncryptionAlgorithmError - The Encryption request you specified is not valid.
400 InvalidObjectName - The specified object is not valid.
400 InvalidPart - One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.
400 InvalidPartOrder - The list of parts was not in ascending order. Parts list must be specified in order by part number.
400 InvalidPolicyDocument - The policy document is not valid.
400 InvalidRequest - The request is not valid.
400 InvalidStorageClass - The storage class you specified is not valid.
400 MalformedPOSTRequest 0006-00000104 The body of your POST request is not well-formed multipart/form-data.
400 MalformedXML - The XML you provided was not well-formed.
400 MaxPOSTPreDataLengthExceededError 0006-00000112 Your POST request fields preceding the upload file were too large.
400 MissingArgument - Missing Some Required Arguments: Content-MD5.
400 NotImplemented - A header you provided implies functionality that is not implemented.
400 PublicEndpointForbidden 0048-00000401 Not allowed using the OSS public endpoint, please use CNAME instead.
400 RequestIsNotMultiPartContent - Bucket POST must be of the enclosure-type multipart/form-data.
403 AccessDenied - You have no right to access this object.
403 AccessKeyIdAndSecurityTokenNotMatch 0002-00000004 The access key id takes no security token.
403 InvalidAccessKeyId - The OSS access key id you provided does not exist in our records.
403 InvalidObjectState - The operation is not valid for the object's state
403 InvalidSecurityToken 0002-00000006 The security token is invalid.
403 RequestTimeTooSkewed 0002-00000504 The difference between the request time and the current time is too large.
403 SecurityTokenExpired 0002-00000007 The security token has expired.
403 SignatureDoesNotMatch - The request signature we calculated does not match the signature you provided. Check your key and signing method.
403 UserDisable - UserDisable
404 NoSuchKey 0026-00000001 The specified key does not exist.
404 NoSuchBucket - The specified bucket does not exist.
404 NoSuchVersion - The specified version does not exist.
404 NoSuchUpload - The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.
405 MethodNotAllowed - The specified method is not allowed against this resource.
409 FileAlreadyExists 0026-00000002 The object you specified already exists and can not be overwritten.
409 ObjectNotAppendable 0026-00000208 The object is not appendable
409 PositionNotEqualToLength 0026-00000016 Position is not equal to file length
411 MissingContentLength - You must provide the Content-Length HTTP header.
412 PreconditionFailed - At least one of the pre-conditions you specified did not hold.
416 InvalidRange - The requested range cannot be satisfied
429 QpsLimitExceeded - The request rate exceeds the limit.
500 InternalError - Please contact the server administrator.
503 ServiceUnavailable - Please reduce your request rate.
"""


_ROWS = (line.split(maxsplit=3) for line in _TABLE.strip().split("\n"))

# Code -> status, message and EC.
ERRORS: Mapping[str, tuple[int, str, str]] = {
    code: (int(status), message, ec.strip("-")) for status, code, ec, message in _ROWS
}
USUAL_CODES = {ERRORS[code][0]: code for code in reversed(list(ERRORS))}


class RefusedError(Exception):
    """Control-flow exception: ends a call with an error reply."""

    def __init__(
        self, refusal: Refusal, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(refusal.code)
        self.refusal, self.headers = refusal, headers or {}


def refused(
    code: str,
    message: str = "",
    *,
    ec: str = "",
    headers: Mapping[str, str] | None = None,
    **extras: str,
) -> RefusedError:
    """Return the error *code* of :data:`ERRORS`; *extras* are further XML elements."""
    status, usual, usual_ec = ERRORS[code]
    refusal = Refusal(
        status=status,
        code=code,
        message=message or usual,
        # The table's EC belongs to the table's message.
        ec=ec or ("" if message else usual_ec),
        extras=extras,
    )
    return RefusedError(refusal, headers)


def invalid_argument(
    message: str, name: str = "", value: str | None = None, *, ec: str = ""
) -> RefusedError:
    extras: dict[str, Any] = {"ArgumentName": name} if name else {}
    if value is not None:
        extras["ArgumentValue"] = value
    return refused("InvalidArgument", message, ec=ec, **extras)


def too_large(limit: int, ec: str = "") -> RefusedError:
    return refused("EntityTooLarge", ec=ec, MaxSizeAllowed=str(limit))


def too_small(minimum: int, size: int, *, ec: str = "", **extras: Any) -> RefusedError:
    return refused(
        "EntityTooSmall",
        ec=ec,
        MinSizeAllowed=str(minimum),
        ProposedSize=str(size),
        **extras,
    )


# Characters that XML 1.0 excludes: controls, surrogates and two non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TROUBLESHOOT = "https://api.alibabacloud.com/troubleshoot?q="
_XML = {"Content-Type": "application/xml"}
# statuses of replies that have no body, and so no Content-Length (RFC 9110, 6.4.1)
WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)

Content = Mapping[str, Any] | str


@frozen(kw_only=True)
class EmulatorReply:
    """One reply: a whole body, or chunks that add up to *length* bytes."""

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes | Iterator[bytes] = b""
    length: int | None = None
    code: str | None = None

    @property
    def content_length(self) -> int:
        if self.length is not None:
            return self.length
        return len(self.body) if isinstance(self.body, bytes) else 0


def xml(root: str, content: Content) -> bytes:
    """Return *content* as an XML document.

    A mapping is a nested element, a list repeats an element, and None is omitted.
    """
    # The document has no namespace: oss2 finds nothing in one, although OSS's own
    # examples show one.
    text = _element(root, content)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _element(name: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(_element(name, item) for item in content)
    if isinstance(content, Mapping):
        text = "".join(_element(*item) for item in content.items())
    elif isinstance(content, str):
        text = escape(_UNPRINTABLE.sub("\ufffd", content), {"\r": "&#13;"})
    else:
        text = str(content).lower()
    return f"<{name}>{text}</{name}>"


def xml_reply(
    root: str, content: Content, headers: Mapping[str, str] | None = None
) -> EmulatorReply:
    return EmulatorReply(headers={**_XML, **(headers or {})}, body=xml(root, content))


def error_reply(
    error: RefusedError, call: Call, request_id: str, *, disguised: bool = False
) -> EmulatorReply:
    """Return *error* as a reply to *call*; *disguised* sends it with status 200."""
    refusal = error.refusal
    content = {
        "Code": refusal.code,
        "Message": refusal.message,
        "RequestId": request_id,
        "HostId": call.host,
        **refusal.extras,
    }
    headers = dict(error.headers)
    if refusal.ec:
        content |= {"EC": refusal.ec, "RecommendDoc": f"{_TROUBLESHOOT}{refusal.ec}"}
        headers["x-oss-ec"] = refusal.ec
    body = xml("Error", content)
    if call.method == "HEAD":  # a reply to HEAD has no body
        headers["x-oss-err"] = base64.b64encode(body).decode()
    if call.method == "HEAD" or refusal.status in WITHOUT_BODY:
        body = b""
    else:
        headers |= _XML
    status = HTTPStatus.OK if disguised else refusal.status
    return EmulatorReply(status=status, headers=headers, body=body, code=refusal.code)


def quoted(etag: str) -> str:
    return f'"{etag}"'


def http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)

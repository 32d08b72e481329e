"""Replies of the emulator, and the XML documents in them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from attrs import field, frozen

from .call import Call
from .errors import RefusedError

# What XML 1.0 cannot hold at all: control characters, surrogates, two non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TROUBLESHOOT = "https://api.alibabacloud.com/troubleshoot?q="
_XML = {"Content-Type": "application/xml"}

Rows = list[tuple[str, Any]]


@frozen(kw_only=True)
class EmulatorReply:
    """One reply.

    Attributes:
        status: HTTP status.
        headers: without those that every reply has.
        body: the whole body, or its chunks if it is streamed.
        length: bytes of a streamed body.
        code: OSS error code; None for a success.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes | Iterator[bytes] = b""
    length: int | None = None
    code: str | None = None

    @property
    def content_length(self) -> int:
        """Bytes of the body."""
        if self.length is not None:
            return self.length
        return len(self.body) if isinstance(self.body, bytes) else 0


def xml(root: str, *content: Any) -> bytes:
    """Return a document of texts and of ``(element, content)`` pairs.

    No element is in a namespace: oss2 finds none that is, though OSS's own examples
    show one.
    """
    text = _written([(root, content)])
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _written(content: Any) -> str:
    if isinstance(content, str):
        return escape(_UNPRINTABLE.sub("\ufffd", content), {"\r": "&#13;"})
    if isinstance(content, int):
        return str(content).lower()
    return "".join(
        _written(item)
        if isinstance(item, str)
        else f"<{item[0]}>{_written(item[1])}</{item[0]}>"
        for item in content
    )


def xml_reply(
    root: str, *content: Any, headers: Mapping[str, str] | None = None
) -> EmulatorReply:
    """Return a 200 with an XML document."""
    return EmulatorReply(headers={**_XML, **(headers or {})}, body=xml(root, *content))


def error_reply(
    error: RefusedError, call: Call, request_id: str, *, disguised: bool = False
) -> EmulatorReply:
    """Return *error* as a reply to *call*, or *disguised* as a success.

    A reply to HEAD has no body, so its document is a header.
    """
    refusal = error.refusal
    rows = [
        ("Code", refusal.code),
        ("Message", refusal.message),
        ("RequestId", request_id),
        ("HostId", call.host),
        *refusal.extras.items(),
    ]
    headers = dict(error.headers)
    if refusal.ec:
        rows.append(("EC", refusal.ec))
        rows.append(("RecommendDoc", f"{_TROUBLESHOOT}{refusal.ec}"))
        headers["x-oss-ec"] = refusal.ec
    body = xml("Error", *rows)
    if call.method == "HEAD":
        headers["x-oss-err"] = base64.b64encode(body).decode()
        body = b""
    elif refusal.status == HTTPStatus.NOT_MODIFIED:
        body = b""
    else:
        headers |= _XML
    status = HTTPStatus.OK if disguised else refusal.status
    return EmulatorReply(status=status, headers=headers, body=body, code=refusal.code)


def quoted(etag: str) -> str:
    """Return *etag* in its quotes."""
    return f'"{etag}"'


def http_date(seconds: float) -> str:
    """Return seconds since the epoch as HTTP writes them."""
    return formatdate(seconds, usegmt=True)


def iso_date(seconds: float) -> str:
    """Return seconds since the epoch as OSS's XML writes them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")

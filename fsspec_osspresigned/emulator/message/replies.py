"""Replies of the emulator, and the XML documents in them."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

from attrs import field, frozen

from .errors import RefusedError
from .request_head import Call

# What XML 1.0 cannot hold at all: control characters, surrogates, two non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TROUBLESHOOT = "https://api.alibabacloud.com/troubleshoot?q="
_XML = {"Content-Type": "application/xml"}

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
        """Size of the reply's body in bytes."""
        if self.length is not None:
            return self.length
        return len(self.body) if isinstance(self.body, bytes) else 0


def xml(root: str, content: Content) -> bytes:
    """Return *content* as an XML document.

    A mapping is a nested element, a list repeats an element, and None is omitted.
    """
    # In no namespace: oss2 finds nothing in one, though OSS's own examples show one.
    text = _element(root, content)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _element(name: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(_element(name, one) for one in content)
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
    """Return a reply with status 200 and an XML document."""
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
    if call.method == "HEAD":  # which has no body
        headers["x-oss-err"] = base64.b64encode(body).decode()
    if call.method == "HEAD" or refusal.status == HTTPStatus.NOT_MODIFIED:
        body = b""
    else:
        headers |= _XML
    status = HTTPStatus.OK if disguised else refusal.status
    return EmulatorReply(status=status, headers=headers, body=body, code=refusal.code)


def quoted(etag: str) -> str:
    """Return *etag* in double quotes."""
    return f'"{etag}"'


def http_date(seconds: float) -> str:
    """Return seconds since the epoch in the date format of HTTP."""
    return formatdate(seconds, usegmt=True)

"""Answers: what goes back to the client, and the XML documents in it."""

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

# What XML 1.0 cannot hold at all: control characters, surrogates, two non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_TROUBLESHOOT = "https://api.alibabacloud.com/troubleshoot?q="


@frozen(kw_only=True)
class Answer:
    """One reply.

    Attributes:
        status: HTTP status.
        headers: as they go out, without those that every reply has.
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


class RefusedError(Exception):
    """Ends a call with an error document; never leaves the emulator."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        ec: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        extras: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what the document is made of; *extras* are further elements."""
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message
        self.ec = ec
        self.headers = headers or {}
        self.extras = extras or {}


def xml(root: str, *rows: tuple[str, Any], text: str = "") -> bytes:
    """Return a document: a row's value is text, or a list of rows for a nested element.

    *text* is for a document without elements in its root. No element is in a namespace:
    oss2 finds none that is, though OSS's own examples show one.
    """
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<{root}>{_inner(text)}{_inner(rows)}</{root}>"
    ).encode()


def _inner(rows: Any) -> str:
    if isinstance(rows, str):
        return escape(_UNPRINTABLE.sub("\ufffd", rows), {"\r": "&#13;"})
    if isinstance(rows, bool):
        return "true" if rows else "false"
    if isinstance(rows, int):
        return str(rows)
    return "".join(f"<{name}>{_inner(value)}</{name}>" for name, value in rows)


def error_document(error: RefusedError, *, request_id: str, host: str) -> bytes:
    """Return the ``Error`` document (OSS API reference, "Error responses")."""
    rows = [
        ("Code", error.code),
        ("Message", error.message),
        ("RequestId", request_id),
        ("HostId", host),
        *error.extras.items(),
    ]
    if error.ec:
        rows.append(("EC", error.ec))
        rows.append(("RecommendDoc", f"{_TROUBLESHOOT}{error.ec}"))
    return xml("Error", *rows)


def error_answer(
    error: RefusedError, *, method: str, request_id: str, host: str
) -> Answer:
    """Return *error* as a reply; HEAD has no body, so its document is a header."""
    body = error_document(error, request_id=request_id, host=host)
    headers = dict(error.headers)
    if error.ec:
        headers["x-oss-ec"] = error.ec
    if method == "HEAD":
        headers["x-oss-err"] = base64.b64encode(body).decode()
        body = b""
    elif error.status == HTTPStatus.NOT_MODIFIED:
        body = b""
    else:
        headers["Content-Type"] = "application/xml"
    return Answer(status=error.status, headers=headers, body=body, code=error.code)


def xml_answer(body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a 200 with an XML body."""
    return Answer(
        headers={"Content-Type": "application/xml", **(headers or {})}, body=body
    )


def quoted(etag: str) -> str:
    """Return *etag* in its quotes."""
    return f'"{etag}"'


def http_date(seconds: float) -> str:
    """Return seconds since the epoch as HTTP writes it."""
    return formatdate(seconds, usegmt=True)


def iso_date(seconds: float) -> str:
    """Return seconds since the epoch as OSS's XML writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")

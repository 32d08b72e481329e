"""HTTP response parser, without I/O: from bytes to status, headers and body.

llhttp (through httptools) parses heads and chunks. This module extracts a body of
announced length itself, which saves a copy. It also enforces limits, and decides
whether the connection is reusable.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_HEAD = 256 * 1024  # bytes before the body, 1xx responses included
MAX_FIELDS = 256  # lines of a head; OSS sends some twenty
_END = re.compile(rb"\n\r?\n")
_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
# What may be a piece of a header, and would forge lines where it is shown.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class ResponseError(OSError):
    """The response is malformed or truncated."""


class ResponseParser:
    """Parser of one response, fed with pieces of any size.

    An ambiguous response is an error, so the end of a response is always certain. A
    response to HEAD, and a successful one to CONNECT, has no body.

    Attributes:
        status: status of the final response; 0 until its head is complete.
        headers: names in lower case; equal names are joined by commas.
        complete: whether the last byte of the body was received.
        remaining: bytes of the body still to come; None if it is chunked, or ends with
            the connection.
        reusable: whether the connection can be used for another request after this
            response.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.complete = False
        self.remaining: int | None = None
        self.chunked = False
        self.reusable = True
        self._method = method
        self._parser: Any = HttpResponseParser(self)  # None once it is not needed
        # For folded lines (RFC 9112, 5.2); control characters are refused here.
        self._parser.set_dangerous_leniencies(lenient_headers=True)
        self._fields: list[tuple[bytes, bytes]] = []
        self._head = bytearray()
        self._overhead = 0  # bytes of 1xx responses, or of chunks without content
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Parse the next bytes from the connection; empty bytes are its end.

        Raises ResponseError if the bytes are not a valid, unambiguous response.
        """
        try:
            if not data:
                self._end()
            while data and not self.status:
                data = self._feed_head(data)
            if data:
                self._feed_body(data)
            if self.complete:
                self._parser = None  # it holds this object
        except ResponseError:
            self.reusable, self._parser = False, None
            raise

    @property
    def untaken(self) -> int:
        """Number of bytes of the body that were received and not taken yet."""
        return sum(map(len, self._pieces))

    def take(self) -> bytes:
        """Return the bytes of the body that were received since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _end(self) -> None:
        if not self.status:
            raise ResponseError("Connection closed before the end of the head")
        if self.chunked or self.remaining:
            raise ResponseError("Connection closed before the end of the body")
        self.complete = True

    def _feed_head(self, data: bytes) -> bytes:
        """Parse a piece of a head, and return the bytes after its end."""
        seen = max(0, len(self._head) - 2)
        self._head += data
        if not self._head.startswith(b"HTTP/"[: len(self._head)]):
            # llhttp reads RTSP, and skips blank lines.
            if self._head.startswith(b"\x15\x03"):  # an alert of TLS
                raise ResponseError("The port speaks TLS: the URL needs https")
            raise ResponseError("The response does not begin with HTTP/")
        end = _END.search(self._head, seen)
        stop = end.end() if end else len(self._head)
        if self._overhead + stop > MAX_HEAD:
            raise ResponseError("The head of the response does not end")
        if not end:
            return b""
        head, rest = self._head[:stop], bytes(self._head[stop:])
        if head.count(b"\n") > MAX_FIELDS + 2:
            raise ResponseError("The response has too many headers")
        self._overhead += stop
        self._head = bytearray()
        self._parse(head)
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise ResponseError(f"The response has HTTP version {version}")
        status = self._parser.get_status_code()
        if status < HTTPStatus.OK:
            self.reason = ""
            self._fields.clear()
        else:
            self._overhead = 0
            self._read_fields()
            self._understand(status, old=version == "1.0")
        return rest

    def _read_fields(self) -> None:
        """Fill ``headers`` with the fields of the head."""
        found = self.headers
        for name, value in self._fields:
            key = name.decode("latin-1").lower()
            text = value.decode("latin-1").strip(" \t")
            found[key] = f"{found[key]}, {text}" if key in found else text

    def _understand(self, status: int, *, old: bool) -> None:
        """Determine where the body ends, and whether the connection is reusable.

        *old* means HTTP/1.0.
        """
        found = self.headers
        if _CONTROL.search("".join(found.values())):
            raise ResponseError("The response has control characters in a header")
        coding, length = found.get("transfer-encoding"), found.get("content-length")
        if coding is not None and coding.lower() != "chunked":
            raise ResponseError("The response has a transfer coding not asked for")
        self.chunked = coding is not None
        self.remaining = None if length is None else int(length)
        if old or "connection" in found:
            said = found.get("connection", "").lower().split(",")
            options = {option.strip(" \t") for option in said}
            self.reusable = "close" not in options and not (
                old and (self.chunked or "keep-alive" not in options)
            )
        if (
            self._method == "HEAD"
            or status in _NO_BODY
            or (self._method == "CONNECT" and status == HTTPStatus.OK)
        ):
            if status == HTTPStatus.NO_CONTENT and (self.chunked or self.remaining):
                self.reusable = False  # a body may come all the same
            self.remaining, self.chunked = 0, False
        if not self.chunked:
            self._parser = None
            self.complete = self.remaining == 0
            self.reusable = self.reusable and self.remaining is not None
        self.status = status

    def _feed_body(self, data: bytes) -> None:
        if self.complete:
            self.reusable = False  # more bytes than announced
        elif self.chunked:
            self._overhead += len(data)
            self._parse(data)
            if self._overhead > MAX_HEAD:
                raise ResponseError("The response has chunks without content")
        elif self.remaining is None:
            self._pieces.append(data)
        else:
            piece = data[: self.remaining]
            self._pieces.append(piece)
            self.remaining -= len(piece)
            self.complete = not self.remaining
            self.reusable = self.reusable and len(piece) == len(data)

    def _parse(self, data: bytes | bytearray) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.reusable = False
            # httptools wraps what a signal handler raises in a callback, such as Ctrl-C.
            cause = error.__context__
            if cause is not None and not isinstance(cause, Exception):
                raise cause from None
            if not self.complete:
                raise ResponseError(f"Malformed response: {error}") from None

    # Called by httptools.

    def on_status(self, text: bytes) -> None:
        """Store the reason phrase of the status line."""
        self.reason += text.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store one header; those after a chunked body are never read."""
        self._fields.append((name, value))

    def on_body(self, piece: bytes) -> None:
        """Store bytes of the body."""
        self._pieces.append(piece)
        self._overhead = 0

    def on_message_begin(self) -> None:
        """Record that the connection sent bytes after the end of the response."""
        self.reusable = self.reusable and not self.complete

    def on_message_complete(self) -> None:
        """Record the end of a chunked body."""
        self.complete = self.chunked

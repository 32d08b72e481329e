"""An answer of HTTP/1.1 as it comes in: its head read at once, its body on demand.

http.client cuts the body out of the stream. The head is read here, because http.client
hands it to the parser of electronic mail, which takes longer than the rest of a small
request.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable
from typing import Any

from urllib3.exceptions import ProtocolError

from .watch import Phase, Watch

MAX_HEAD = 256 * 1024  # bytes in front of the body of an answer, 1xx answers included
_MAX_LINE = 65536
_MAX_FIELDS = 256  # lines of a head; OSS sends some twenty
_MAX_DIGITS = 18  # of a length, decimal or hexadecimal
_HTTP_1_0 = 10  # as http.client writes it
_BLANK = " \t"
_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")
_NO_BODY = (http.client.NO_CONTENT, http.client.NOT_MODIFIED)


class _Incoming(io.RawIOBase):
    """The bytes of an answer, under watch; leaves the socket open."""

    def __init__(self, sock: Any, watch: Watch) -> None:
        self._sock = sock
        self._watch = watch

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Receive some bytes; 0 at the end."""
        watch = self._watch
        count = watch.run(self._sock, self._sock.recv_into, buffer)
        if watch.phase is not Phase.READ:
            if not count and watch.moved:
                # http.client takes what came for the whole, whatever header is missing.
                raise http.client.RemoteDisconnected("the answer ends in its head")
            if watch.moved > MAX_HEAD:
                raise http.client.HTTPException("the head of the answer does not end")
        return count

    def makefile(self, _: str) -> io.BufferedReader:
        """Return what http.client reads from."""
        return io.BufferedReader(self)


class Answer(http.client.HTTPResponse):
    """An answer on its way in.

    Attributes:
        headers: names in lower case; what came several times is joined by commas.
        raw: itself, which is where requests has the body.
    """

    headers: dict[str, str]  # type: ignore[assignment]  # http.client has a mail there

    def __init__(
        self,
        sock: Any,
        watch: Watch,
        method: str | None,
        release: Callable[[bool], None] | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            sock: where the answer comes from; it is not closed.
            watch: ends the wait for it.
            method: of the request.
            release: called once with whether the connection may be used again; None
                for nobody.
        """
        super().__init__(_Incoming(sock, watch), method=method)  # type: ignore[arg-type]
        self._watch = watch
        self._release = release

    @property
    def status_code(self) -> int:
        """The status, by the name that requests has for it."""
        return self.status

    @property
    def raw(self) -> Answer:
        """Itself."""
        return self

    @property
    def length_remaining(self) -> int | None:
        """Bytes of the body that are not read; None if nobody has said."""
        return self.length

    def begin(self) -> None:
        """Read the head, past any 1xx answers.

        Raises:
            http.client.HTTPException: it is none.
        """
        self._watch.enter(Phase.WAIT)
        while True:
            read: Any = super()
            version, status, reason = read._read_status()  # noqa: SLF001 - pinned by a test
            fields = _fields(self.fp)
            # http.client passes over 100 only, and would take a 103 for the answer.
            if status >= http.client.OK:
                break
            if status == http.client.SWITCHING_PROTOCOLS:
                raise http.client.HTTPException("the answer switches protocols unasked")
        self._watch.enter(Phase.READ)
        if not version.startswith("HTTP/1."):
            raise http.client.UnknownProtocol(version)
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = _HTTP_1_0 if version == "HTTP/1.0" else 11
        self.headers = fields
        coding = fields.get("transfer-encoding", "")
        self.chunked = coding.strip(_BLANK).lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else _length(fields)
        # Whoever has said both may have sent something between two answers (RFC 9112,
        # 6.3), and so may who sends a body where there is none.
        doubtful = "transfer-encoding" in fields and (
            not self.chunked or "content-length" in fields or self.version == _HTTP_1_0
        )
        if status in _NO_BODY or self._method == "HEAD":  # type: ignore[attr-defined]
            if status == http.client.NO_CONTENT:
                doubtful |= self.chunked or bool(self.length)
            self.length, self.chunked = 0, False
        self.will_close = (
            doubtful
            or _ends(self.version, fields)
            or (self.length is None and not self.chunked)
        )

    def read(
        self, amt: int | None = None, *, decode_content: bool | None = None
    ) -> bytes:
        """Return the next *amt* bytes of the body, less at its end; never decoded.

        Raises:
            OSError: the connection failed.
            ProtocolError: the body is cut.
        """
        del decode_content
        try:
            block = super().read(amt)
            if amt and not block and self.length and not self.chunked:
                raise http.client.IncompleteRead(block, self.length)
        except http.client.HTTPException as error:
            self.will_close = True  # http.client takes a bad chunk for the end
            raise broken(error) from error
        return block

    def _read_next_chunk_size(self) -> int:
        """Return the bytes of the next chunk (RFC 9112, 7.1); called by http.client.

        Raises:
            ValueError: it is not said in plain digits, which http.client lets pass.
        """
        line = _line(self.fp)
        text = line.partition(b";")[0].strip(b" \t\r\n")
        if len(text) > _MAX_DIGITS or not _HEXADECIMAL.issuperset(text):
            raise ValueError
        return int(text, 16)

    def close(self) -> None:
        """Let the next request have the connection, if the body was read to its end."""
        whole = self.isclosed() or self.length == 0
        super().close()
        release, self._release = self._release, None
        if release is not None:
            release(whole and not self.will_close)


def broken(error: Exception) -> ProtocolError:
    """Return what urllib3 makes of an error of http.client."""
    return ProtocolError("Connection aborted.", error)


def _fields(lines: Any) -> dict[str, str]:
    """Return the fields of a head (RFC 9112, 5): what is none is passed over."""
    found: dict[str, str] = {}
    name, count = "", 0
    while (line := _line(lines)) not in (b"\r\n", b"\n"):
        count += 1
        if count > _MAX_FIELDS:
            raise http.client.HTTPException("the answer has too many headers")
        text = line.decode("latin-1").rstrip("\r\n")
        if text.startswith((" ", "\t")):  # folded (RFC 9112, 5.2)
            if name:
                found[name] = f"{found[name]} {text.strip(_BLANK)}".strip(_BLANK)
            continue
        start, colon, value = text.partition(":")
        name = start.strip(_BLANK).lower() if colon else ""
        if not name:
            continue
        value = value.strip(_BLANK)
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _line(lines: Any) -> bytes:
    line: bytes = lines.readline(_MAX_LINE + 1)
    if len(line) > _MAX_LINE:
        # What follows would be taken for a line of its own.
        raise http.client.LineTooLong("line")
    return line


def _ends(version: int, fields: dict[str, str]) -> bool:
    """Return whether the connection ends with the answer (RFC 9112, 9.3)."""
    said = [
        one.strip(_BLANK) for one in fields.get("connection", "").lower().split(",")
    ]
    return "close" in said or (version == _HTTP_1_0 and "keep-alive" not in said)


def _length(fields: dict[str, str]) -> int | None:
    """Return the bytes of the body; None if there is no number that can be believed."""
    said = {one.strip(_BLANK) for one in fields.get("content-length", "").split(",")}
    if len(said) > 1:
        raise http.client.HTTPException("the answer has two lengths")
    text = said.pop()
    if len(text) > _MAX_DIGITS:
        raise http.client.HTTPException("the length of the answer has too many digits")
    return int(text) if text.isascii() and text.isdigit() else None

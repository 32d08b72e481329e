"""Transfer: one try of one request by a handle of libcurl, and its reply.

libcurl sends target and headers unchanged, and adds Content-Length. It passes the lines
of the reply's head and the blocks of its body to this module. This module reads the
head, and decides what the reply proves. Decision 16 lists all kinds of replies.
"""

from __future__ import annotations

import asyncio
import io
import logging
import math
import os
import re
import time
from collections.abc import Callable, Generator, Mapping
from contextvars import copy_context
from typing import Any, Protocol, cast

import pycurl
from attrs import field, frozen

from ..compat import has_received
from ..engine.logs import Logger
from ..errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
    UploadDiscardedError,
)
from ..model import NO_HEADERS, FrozenDict, Reply, SignedRequest
from ..secret import redact
from .body import SMALL, Body, bytes_in
from .checksums import CRC_HEADER, crc64
from .form import NO_FRAME, form_frame
from .handle import Addresses, Handle, Route
from .stall import SOON, ProgressTimer, StalledError

_log = Logger(__name__)

MAX_REPLY = 8 * 1024 * 1024  # enough for a listing of 1,000 keys of 1 KiB, URL-encoded
MAX_ERROR = 64 * 1024  # bytes that are read from the body of an error
_OK, _NO_CONTENT, _GOOD = 200, 204, range(200, 300)
_REFUSALS = range(300, 500)  # after such a reply, the server has not acted
# Codes of libcurl if it could open no socket, or nothing at all, and gave no errno.
_UNOPENED = (pycurl.E_COULDNT_CONNECT, pycurl.E_OUT_OF_MEMORY)
_FEW_FILES = "too many open files? Raise ulimit -n, or lower max_concurrency"
_TOO_LARGE = 100  # CURLE_TOO_LARGE, which pycurl does not name
# After this number of blocks, the mean size of a reply's blocks is checked; a smaller
# mean than *_TINY* bytes is an error. Each block costs the loop the same time.
_MAX_TINY, _TINY = 10_000, 16
_MAX_REASON = 200
_JOINED = 64 * 1024  # bytes of small blocks that are joined before they are sent
_NOTHING = memoryview(b"")
# progress windows within which a reply must end, except for an object's body
_WINDOWS = 10
GRACE = 3.0  # seconds that a cancelled request waits for its reply
_BLANK = b"\r\n"
# Bytes of the largest body that libcurl takes together with the head; such a body is
# whole in memory.
_AT_ONCE = 64 * 1024
_KEPT_LINES = 256  # request heads that a route keeps
_UNASKED = "the server answered before it was asked"
_WITH_BODY, _READS = ("PUT", "POST"), ("GET", "HEAD")
# Characters that would end a header line, or that one byte cannot express.
_UNSENDABLE = re.compile(r"[^\x00-\x09\x0b\x0c\x0e-\xff]")
# Characters of a header that could forge lines when it is shown.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Lines of a head (RFC 9112, section 5), which may be folded.
_VALUE = r"[^\x00-\x08\x0a-\x1f\x7f]*+\r\n"
_FIELDS = re.compile(
    rf"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:{_VALUE}(?:[ \t]{_VALUE})*+)*+"
)
# Receipts and messages quote these headers, so they must not control a terminal. Other
# headers may contain UTF-8, such as a Content-Disposition.
_QUOTED = (CRC_HEADER, "etag", "x-oss-version-id")
_FOLD = re.compile(r"[ \t]*\r\n[ \t]+")
_LENGTH = re.compile(r"[0-9]{1,18}")
_UNSHOWN = r"[\x00-\x1f\x7f-\x9f]"  # the pattern is compiled on first use
_AUTHORITY = "; REQUESTS_CA_BUNDLE names the file of a private authority"
# Messages of OpenSSL, libcurl and Python -> their meaning.
_TLS_WORDS = (
    ("certificate verify failed", _AUTHORITY),
    (
        "wrong version number",
        "; the port speaks no TLS: the URL needs http, or another port",
    ),
    ("HTTP/0.9", "; the port may speak TLS: the URL needs https"),
    ("unexpected eof", "; TLS was cut before its end"),
    ("EOF occurred in violation", "; TLS was cut before its end"),
)

# File descriptor of an open connection -> request IDs of the last two replies on it.
_last_ids: dict[int, tuple[str | None, str | None]] = {}
_NO_IDS = (None, None)


class Sink(Protocol):
    """Protocol of a receiver of reply bodies; each try calls ``begin`` before ``write``.

    A sink with a method ``head`` gets status and headers of a reply before its body is
    read, and raises an error to skip the body.
    """

    def begin(self) -> object:
        """Discard the bytes written so far."""
        ...

    def write(self, block: bytes, /) -> object: ...


@frozen(kw_only=True, eq=False)
class Exchange:
    """Unsigned parts of a request, and limits for its exchange."""

    with_crc: bool = False
    # Called in worker threads with the number of bytes sent, and with a negative number
    # after a failure.
    progress: Callable[[int], None] | None = None
    # Headers that need no signature, such as Range.
    free_headers: Mapping[str, str] = field(default=NO_HEADERS, repr=False)
    # Receives the body of a 2xx reply block by block. With None, the reply contains the
    # body.
    sink: Sink | None = None
    # Maximum bytes of the reply's body. A longer body is an error; the body of an error
    # reply is cut off.
    limit: int = MAX_REPLY
    # a worker thread sends the request, because the reply may be large
    in_thread: bool = False
    # the request opens a new connection, because the kept ones may be broken
    is_fresh: bool = False
    # Seconds that a cancelled request waits for its reply, if the server may act on it.
    grace: float = GRACE


PLAIN = Exchange()
WITH_CRC = Exchange(with_crc=True)
FRESH = Exchange(is_fresh=True)


class LargeReplyError(Exception):
    """The reply's body is large or has an unknown size, so a worker thread must read it.

    This is control flow: the loop has not read the body, and the request is sent again.
    """


class MalformedReplyError(OSError):
    """The reply is malformed, cut off, or belongs to another request."""


class UnaskedError(OSError):
    """Bytes, or the end of the connection, arrived before the request was sent.

    Such bytes are no reply to the request.
    """


class Transfer:
    """One request and its body, sent at most once; ``reply`` returns the reply.

    *path* is ``bucket/key`` for error messages; None if the request concerns no object.
    *on_loop* means that the engine's loop sends the request. Then no progress is
    reported. A reply for a sink is refused if it has more than ``SMALL`` bytes, or
    states no length.

    Raises the errors of *body*, because a small body is read at once.
    """

    # Attributes for the loop: the future on which the sender waits, and the reply or
    # the error at the end.
    ended: asyncio.Future[None]
    outcome: Any = None
    window = 0.0  # seconds between two checks of the progress by the loop

    next_watch = 0.0  # time.monotonic; before it, ``watch`` need not be called
    crc64: int | None = None  # CRC-64 of the bytes sent
    _seconds = math.inf  # seconds of a window in which enough bytes must move
    _timer: ProgressTimer | None = None  # None before the first check
    _deadline = math.inf  # time.monotonic at which the whole request must have ended
    _began = 0.0  # time.monotonic when the connection was open
    _frame = NO_FRAME
    _source: io.BytesIO | None = None  # source of a small body
    _blocks: Generator[memoryview, None, None]  # blocks of any other body
    _left = _NOTHING
    # number of bytes that libcurl has taken, including the form's frame
    _read_bytes = 0
    _sent = 0  # number of bytes in the blocks that libcurl has taken
    handle: Handle = cast(Handle, None)  # set while the request is under way
    _descriptor = -1
    _requests = 0  # times that libcurl began to send the request
    _is_new = False  # True if this request opened the connection
    _is_stale = _is_paused = _is_stopped = False
    _waits_until = 0.0  # time.monotonic until which a stopped request waits
    _error: BaseException | None = None
    _status = 0
    _headers: Mapping[str, str] = NO_HEADERS
    _has_head = _has_body = _is_full = False
    _received: bytes | bytearray = b""
    _body_bytes = _body_blocks = 0  # bytes and blocks of the reply's body

    def __init__(
        self,
        signed: SignedRequest,
        body: Body,
        exchange: Exchange,
        route: Route,
        *,
        path: str | None = None,
        on_loop: bool = False,
    ) -> None:
        self.signed, self.body, self.exchange = signed, body, exchange
        self.route, self._path = route, path
        self.context = copy_context()
        self._on_loop = on_loop
        self._total = body.size
        if signed.form is not None:
            frame = self._frame = form_frame(signed.form, path)
            self._total += len(frame.before) + len(frame.after)
        self._lines = self._head_lines()
        if on_loop and self._total <= _AT_ONCE:
            self._load()
        else:
            self._blocks = self._pieces()

    # -- the request ----------------------------------------------------------------------

    def begin(self, handle: Handle, seconds: float) -> None:
        """Set up *handle*; enough bytes must move within each window of *seconds*.

        If *handle* belongs to a multi, call ``watch`` about every second.
        """
        method, self.handle, self._seconds = self.signed.method, handle, seconds
        source, target = self._source, self.signed.url.reveal()
        if not self.route.forwards:
            # the path must be sent byte for byte as in the URL (RFC 9112, section 3)
            target = target[len(self.route.origin) :]
            target = target if target[:1] == "/" else f"/{target}"
        handle.begin(
            self,
            method,
            target,
            self._lines,
            self._total if self._total or method in _WITH_BODY else None,
            source=source.read if source is not None and self._total else None,
            is_fresh=self.exchange.is_fresh,
        )

    def begins_again(self) -> bool:
        """Return whether the handle must perform again, and reset this.

        True if a kept connection was stale and nothing was sent.
        """
        is_stale, self._is_stale = self._is_stale, False
        return is_stale

    def stop(self) -> None:
        """Make the transfer end within a second; called in another thread.

        While libcurl opens a connection, the transfer ends when the connection is open
        or has failed. If ``may_act`` is True, the transfer waits for the reply, at most
        for the seconds of grace. Otherwise the server could act after the transfer has
        ended.
        """
        self._waits_until = time.monotonic() + self.exchange.grace
        self._is_stopped = True
        self.next_watch = 0.0

    @property
    def may_act(self) -> bool:
        """True if the request changes something, and the server may have all of it."""
        is_sent = self._requests > 0 and self._is_all_taken
        return is_sent and self.signed.method not in _READS

    def note_effect(self, cancelled: BaseException) -> None:
        """Add a note to *cancelled* if the server has acted, or may have acted."""
        if not self.may_act:
            return
        what = f"the {self.signed.method} of {self._path or shown(self.signed)}"
        reply = self.outcome
        if not isinstance(reply, Reply):
            cancelled.add_note(
                f"whether {what} took effect is unknown: it was sent, and not answered"
            )
        elif reply.status not in _REFUSALS:
            cancelled.add_note(f"{what} was answered with HTTP {reply.status}")

    @property
    def sent(self) -> int:
        """Bytes of *body* that libcurl has taken, in whole blocks."""
        if self._source is None:
            return self._sent
        return self.body.size if self._source.tell() >= self._total else 0

    @property
    def _taken(self) -> int:
        """Bytes of body and frame that libcurl has read."""
        return self._read_bytes if self._source is None else self._source.tell()

    @property
    def _is_all_taken(self) -> bool:
        return self._taken >= self._total

    def finish(self, code: int, text: str) -> None:
        """Determine the outcome, and wake the sender; called once, on the loop.

        *code* and *text* are as for ``reply``. If the connection must not be used
        again, it is made unusable now, before another request can use it.
        """
        try:
            self.outcome = self.reply(code, text)
        except BaseException as error:  # noqa: BLE001 - the sender raises it
            # The error's frames would keep the body in memory.
            self.outcome = error.with_traceback(None)
        if self._error is not None or self._is_full:
            self.handle.shut()
        if not self.ended.done():
            self.ended.set_result(None)

    def end(self) -> None:
        if self._source is None:
            self._blocks.close()
            self._left = _NOTHING
        self._error = None  # the error's traceback would keep the body in memory
        if self.handle is not None:  # None if the request has not begun
            del self.handle.request, self.handle

    def report(self, count: int) -> None:
        """Report *count* sent bytes to the callback; a negative number subtracts them.

        On the loop, it does nothing.
        """
        if self.exchange.progress is not None and count and not self._on_loop:
            self.exchange.progress(count)

    def _head_lines(self) -> list[bytes]:
        route, headers = self.route, self.signed.headers
        free = self.exchange.free_headers
        # Many requests share the same unchangeable headers.
        is_shared = self._frame is NO_FRAME and type(free) is FrozenDict
        key = id(headers), id(free), self.signed.method
        kept = route.kept_lines.get(key) if is_shared else None
        if kept is not None and kept[0] is headers and kept[1] is free:
            return kept[2]
        lines, is_stated = self._made_lines()
        if is_shared and not is_stated:
            if len(route.kept_lines) >= _KEPT_LINES:
                route.kept_lines.clear()
            route.kept_lines[key] = headers, free, lines
        return lines

    def _made_lines(self) -> tuple[list[bytes], bool]:
        # The second value is whether the size of the body is signed.
        free = self.exchange.free_headers
        headers = {**self.signed.headers, **self._frame.headers}
        names = {name.lower(): name for name in headers}
        size = str(self._total)
        # libcurl adds Content-Length itself.
        stated = headers.pop(names.get("content-length", ""), None)
        if free:
            headers |= {n: v for n, v in free.items() if n.lower() not in names}
        if stated is not None and stated != size:
            problem = f"the URL is signed for {stated} bytes, the body has {size}"
            raise ConfigurationError(problem, path=self._path)
        texts = self.signed.method, *headers, *headers.values()
        if _UNSENDABLE.search("".join(texts)):
            problem = "a header contains a line break, or characters outside Latin-1"
            raise ConfigurationError(problem, path=self._path)
        own = {name.lower() for name in headers}
        lines = [line for name, line in self.route.lines.items() if name not in own]
        for name, value in headers.items():
            # libcurl sends a header without a value if its line ends with a semicolon.
            line = f"{name}: {value}" if value else f"{name};"
            lines.append(line.encode("latin-1"))
        return lines, stated is not None

    def _load(self) -> None:
        """Read a small body; libcurl takes it at once, together with the head."""
        whole = bytes_in(self.body)
        if len(whole) != self.body.size:
            raise self._too_short(len(whole))
        if self.exchange.with_crc:
            self.crc64 = crc64(whole)
        if self._frame is not NO_FRAME:
            whole = b"".join((self._frame.before, whole, self._frame.after))
        self._source = io.BytesIO(whole)

    def _pieces(self) -> Generator[memoryview, None, None]:
        if self.exchange.with_crc:
            self.crc64 = 0
        if self._frame.before:
            yield self._frame.before
        for block in self.body.blocks():
            if self.crc64 is not None:
                self.crc64 = crc64(block, self.crc64)
            yield block
            self._sent += block.nbytes
            self.report(block.nbytes)
        if self._frame.after:
            yield self._frame.after

    def _too_short(self, size: int) -> NetworkError:
        text = f"the body ends after {size} of {self.body.size} bytes"
        return NetworkError(text, path=self._path, sent=False)

    def _check_stopped(self) -> None:
        if self._is_stopped:
            raise UploadDiscardedError("the upload was cancelled")

    def _progress(self) -> ProgressTimer:
        if self._timer is None:
            self._timer = ProgressTimer(self._seconds, self._began)
        return self._timer

    # -- callbacks of libcurl -------------------------------------------------------------
    # None of them raises: an exception would end all requests of a multi, forever. The
    # lines of heads are collected by the handle, without a call of Python code; a head is
    # read when its body begins, or at the end.

    def may_send(self, addresses: Addresses) -> int:
        """Return libcurl's code for whether it may send the request on this connection.

        The request is sent only once. If a kept connection was closed meanwhile,
        libcurl would send the request again, but the server may already have acted on
        it. A kept connection with unread bytes is stale, and is not used.
        """
        self._requests += 1
        self._began = time.monotonic()
        handle = self.handle
        # The progress is not checked while the connection is being opened.
        if self._requests > 1 or self._is_stopped:
            return pycurl.PREREQFUNC_ABORT
        self._descriptor, self._is_new = handle.connection(addresses)
        handle.head.clear()  # removes the head of a proxy that has opened a tunnel
        if self._descriptor >= 0 and has_received(self._descriptor):
            if not self._is_new:
                self._is_stale, self._requests = True, 0
                return pycurl.PREREQFUNC_ABORT
            if self.route.is_plain:
                # with TLS, the server sends tickets; a proxy sends its own answer
                self._error = UnaskedError(_UNASKED)
                return pycurl.PREREQFUNC_ABORT
        return pycurl.PREREQFUNC_OK

    def read(self, size: int) -> bytes | memoryview | int:
        """Return the next bytes of the body. An error ends the transfer; ``reply`` raises it."""
        began = time.monotonic()
        try:
            self._check_stopped()
            if not self._has_head and self.handle.head:
                # libcurl asks for more bytes, although the reply has begun
                self._read_head()
                if self._error is not None:
                    return pycurl.READFUNC_ABORT
            if not self._left:
                self._left = self._next_block()
                # Reading the block took time. libcurl itself checks for a reply right
                # before each call.
                is_known = not self._on_loop and self._descriptor >= 0
                if is_known and has_received(self._descriptor):
                    self._is_paused = True  # paused until libcurl has read the reply
                    self.next_watch = 0.0
                    return pycurl.READFUNC_PAUSE
            piece = self._take(size)
            self._read_bytes += len(piece)
            if self._read_bytes == self._total:
                self._next_block()  # marks the last block as sent
        except BaseException as error:  # noqa: BLE001 - `reply` raises it
            self._error = error
            return pycurl.READFUNC_ABORT
        finally:
            self._progress().exclude(time.monotonic() - began)
        return piece

    def _next_block(self) -> memoryview:
        return next(self._blocks, self._left)

    def _take(self, size: int) -> bytes | memoryview:
        if not self._left:
            raise self._too_short(self._sent)
        left, max_joined = self._left, min(size, _JOINED)
        self._left = left[size:] or _NOTHING
        if len(left) >= max_joined:
            # libcurl copies the bytes before it asks for the next block
            return left[:size]
        piece = bytes(left)
        while len(piece) < max_joined and not self._left:
            self._left = self._next_block()
            if not 0 < len(self._left) <= max_joined - len(piece):
                break
            piece, self._left = piece + bytes(self._left), _NOTHING
        return piece

    def write(self, block: bytes) -> int | None:
        began = time.monotonic()
        try:
            self._write(block)
        except BaseException as error:  # noqa: BLE001 - `reply` raises it
            self._error = error
        if not self._on_loop:
            self._progress().exclude(time.monotonic() - began)
        return 0 if self._error is not None or self._is_full else None

    def _write(self, block: bytes) -> None:
        if not self._has_head and not self._read_head():
            raise MalformedReplyError("The response has no head")
        if self._error is not None:
            return
        sink, is_good = self.exchange.sink, self._status in _GOOD
        self._body_bytes += len(block)
        self._body_blocks += 1
        is_tiny = self._body_blocks > _MAX_TINY and (
            self._body_bytes < self._body_blocks * _TINY
        )
        if is_tiny and is_good:
            raise MalformedReplyError("The response comes in tiny pieces")
        if is_good and sink is not None:
            if not self._has_body:
                self._begin_body()
            sink.write(block)
            return
        self._has_body = True
        if not self._received:
            self._received = bytearray()
        limit = self.exchange.limit
        max_size = limit + 1 if is_good else min(limit, MAX_ERROR)
        self._received += block[: max_size - len(self._received)]
        self._is_full = self._is_full or len(self._received) >= max_size or is_tiny

    def watch(self, moved: int) -> int:
        """Continue a paused request, and check its progress; return 1 to end it, else 0.

        *moved* is the number of sent and received bytes of both bodies.
        """
        self.next_watch = time.monotonic() + SOON
        try:
            if self._is_paused:
                self._is_paused = False
                self.handle.easy.pause(pycurl.PAUSE_CONT)
            if not self.may_act or time.monotonic() >= self._waits_until:
                self._check_stopped()
            if self._requests:  # libcurl itself limits the time to open a connection
                head = sum(map(len, self.handle.head))
                self._progress().count(moved + head, self._deadline)
        except BaseException as error:  # noqa: BLE001 - `reply` raises it
            self._error = error
            return 1
        return 0

    # -- the head of the reply ------------------------------------------------------------

    def _read_head(self) -> bool:
        """If the head of the reply is complete, read and check it; return whether it is.

        Replies 1xx before it are ignored. Lines after it belong to a trailer.
        """
        lines, start = self.handle.head, 0
        for _ in range(lines.count(_BLANK)):
            end = lines.index(_BLANK, start)
            words = lines[start].split(None, 2)
            self._status = int(words[1]) if words[1:] and words[1].isdigit() else 0
            if self._status >= _OK:
                self._has_head = True
                try:
                    self._judge_head(lines[start:end])
                except BaseException as error:  # noqa: BLE001 - `reply` raises it
                    self._error = error
                return True
            start = end + 1
        return False

    def _judge_head(self, lines: list[bytes]) -> None:
        source = self._source
        taken = self._read_bytes if source is None else source.tell()
        if self._total and not taken and self.route.is_plain:
            raise UnaskedError(_UNASKED)
        if not lines[0].endswith(_BLANK):
            raise MalformedReplyError("A line of the head ends with LF alone")
        is_good = self._status in _GOOD
        headers = _headers_of(b"".join(lines[1:]).decode("latin-1"))
        self._headers = headers
        if is_good and taken < self._total:
            raise self._too_early()
        self._refuse_stray()
        length = headers.get("content-length")
        if length != "0" or "transfer-encoding" in headers:
            self._check_length(length)
        is_large = length is None or int(length) > SMALL
        if self._on_loop and is_good and self.exchange.sink is not None and is_large:
            raise LargeReplyError
        # A reply that arrives drop by drop makes progress, and could take hours.
        self._deadline = time.monotonic() + _WINDOWS * self._seconds

    def _check_length(self, length: str | None) -> None:
        coding = self._headers.get("transfer-encoding")
        if coding is not None and (length is not None or coding.lower() != "chunked"):
            what = (
                "two ends"
                if length is not None
                else "a transfer coding that was not requested"
            )
            raise MalformedReplyError(f"The response has {what}")
        if length is not None and not _LENGTH.fullmatch(length):
            raise MalformedReplyError("The response has a malformed length")
        if self._status == _NO_CONTENT and (coding or (length or "0") != "0"):
            self._is_full = True  # a body may follow

    def _begin_body(self) -> None:
        self._has_body = True
        self._deadline = math.inf  # the body of an object has no time limit
        sink, headers = self.exchange.sink, self._headers
        check = getattr(sink, "head", None)
        if check is not None:
            check(self._status, headers)
        if not {"content-length", "transfer-encoding"} & headers.keys():
            # Such a body ends when the connection ends, so a cut body would look
            # complete.
            msg = f"{self.route.netloc} does not state the size of its reply"
            raise NetworkError(msg, path=self._path)
        if sink is not None:
            sink.begin()

    # -- the reply ------------------------------------------------------------------------

    def reply(self, code: int = 0, text: str = "") -> Reply:
        """Return the reply after libcurl has ended with *code*; 0 is success.

        Raises:
            LargeReplyError: a worker thread must send the request.
            NetworkError: there is no complete reply. The server may have acted, unless
                ``sent`` of the error is False.
            Exception: an exception of the body or the sink.
        """
        if not self._has_head and self._error is None and self._requests:
            self._read_head()
        ok, exchange, sent = self._status in _GOOD, self.exchange, self.sent
        is_early = sent < self.body.size
        if self._error is not None:
            raise self._failure(code, text)
        # A refusal that arrives before all bytes were sent may be cut off with its
        # connection.
        is_refusal = is_early and self._has_head and not ok
        if code and not (self._is_full or is_refusal):
            raise self._failure(code, text)
        if not self._has_head:
            self._error = MalformedReplyError(
                "Connection closed before the end of the head"
            )
            raise self._failure(0, "")
        if is_early and ok:
            raise self._too_early()
        if ok and exchange.sink is not None and not self._has_body:
            self._begin_body()
        if not ok:
            self.report(-sent)
        elif exchange.sink is None and len(self._received) > exchange.limit:
            msg = f"{shown(self.signed)} answered more than {exchange.limit} bytes"
            raise NetworkError(msg, path=self._path)
        if _log.shows(logging.DEBUG):
            line = '"%s %s HTTP/1.1" %d'
            target = shown(self.signed)
            self.context.run(_log.debug, line, self.signed.method, target, self._status)
        return Reply(
            status=self._status,
            headers=self._headers,
            body=bytes(self._received[: exchange.limit]) if self._received else b"",
            body_bytes=sent,
            crc64=self.crc64,
            host=self.route.netloc,
        )

    @property
    def has_connection(self) -> bool:
        """True if libcurl had a connection for the request."""
        return self._requests > 0

    @property
    def is_reusable(self) -> bool:
        return self._error is None and not self._is_full

    def _too_early(self) -> NetworkError:
        msg = f"{self.route.netloc} answered before all bytes were sent"
        return NetworkError(msg, path=self._path, sent=self._is_all_taken)

    def _refuse_stray(self) -> None:
        """Raise MalformedReplyError if the reply belongs to an earlier request.

        An ID that comes again shows this only if the server has sent different ones.
        """
        ids = self.route.request_ids
        is_known = self._descriptor >= 0 and not self._is_new
        known = _last_ids.get(self._descriptor, _NO_IDS) if is_known else _NO_IDS
        last = known[1]
        request_id = self._headers.get("x-oss-request-id")
        is_missing = request_id is None and self._status in _GOOD
        is_repeated = last is not None and (is_missing or request_id == last)
        if is_repeated and {*ids, *known} - {last, None} and "age" not in self._headers:
            raise MalformedReplyError("The response is not the one to this request")
        if request_id and len(ids) < 2:  # noqa: PLR2004 - two IDs suffice to see a difference
            ids.add(request_id)
        if self._descriptor >= 0:
            _last_ids[self._descriptor] = (last, request_id or last)

    def _failure(self, code: int, text: str) -> BaseException:
        error = self._error
        known = StalledError | MalformedReplyError | UnaskedError
        if error is not None and not isinstance(error, known):
            return error
        handle = self.handle
        easy, path, host = handle.easy, self._path, self.route.netloc
        if self.route.proxy is not None and not self._requests:
            host = f"proxy or {host}"
        is_asked = easy.getinfo(pycurl.REQUEST_SIZE) > 0
        is_kept = self._requests and not easy.getinfo(pycurl.NUM_CONNECTS)
        is_connected = is_asked or is_kept
        if error is None and is_connected and self._total and not self._taken:
            error = UnaskedError("the server closed the connection before it was asked")
        if isinstance(error, UnaskedError):
            return NetworkError(f"{host}: {error}", path=path, sent=False)
        if code == pycurl.E_OPERATION_TIMEDOUT and not is_asked:
            msg = f"no connection to {host} within {self.route.connect_seconds:g} s"
            return NetworkTimeoutError(msg, path=path, sent=False)
        # If a server has received less than the announced size, it cannot have acted on
        # the request.
        is_whole = is_asked and self._is_all_taken
        if isinstance(error, StalledError):
            return self._stalled(error, host, is_whole=is_whole)
        reason = str(error or self._reason(code, text))
        msg = f"the connection to {host} failed: {said(reason)}{hint(text, code)}"
        return NetworkError(msg, path=path, sent=is_whole)

    def _stalled(
        self, error: StalledError, host: str, *, is_whole: bool
    ) -> NetworkTimeoutError:
        phase = "reading the answer" if self._has_head else "waiting for the answer"
        phase = phase if is_whole else "sending"
        msg = f"no progress with {host} for {error.seconds:g} s"
        msg = f"{host} took too long in all," if error.late else msg
        msg += f" while {phase}: {self.sent} of {self.body.size} bytes sent"
        if self._has_head:
            msg += f", {self._body_bytes} received"
        return NetworkTimeoutError(msg, path=self._path, sent=is_whole)

    def _reason(self, code: int, text: str) -> str:
        head = self.handle.head
        if not self._requests and head and "CONNECT" in text:
            line = head[0].decode("latin-1").partition(" ")[2].strip()
            return f"Tunnel refused: {line}"
        if self._requests > 1:
            return "Connection closed before the end of the head"
        number = int(self.handle.easy.getinfo(pycurl.OS_ERRNO))
        if number:
            return os.strerror(number)
        if code in _UNOPENED:  # libcurl gives no reason
            return f"{text}; {_FEW_FILES}"
        if code == _TOO_LARGE:  # CurlMulti.info_read returns an empty text
            return "The head of the response is too large"
        return text or f"error {code} of libcurl"


def hint(text: str, code: int = 0) -> str:
    """Return advice about a failure of TLS; "" if there is none.

    *text* is the error's text, *code* is libcurl's.
    """
    advice = _AUTHORITY if code == pycurl.E_PEER_FAILED_VERIFICATION else ""
    return next((meaning for words, meaning in _TLS_WORDS if words in text), advice)


def _headers_of(fields: str) -> dict[str, str]:
    """Return the headers in *fields*, with names in lower case and repeated ones joined.

    Raises MalformedReplyError if a line can be read in two ways.
    """
    if not _FIELDS.fullmatch(fields):
        is_control = _CONTROL.search(fields.replace("\r\n", ""))
        what = "control characters in a header" if is_control else "a malformed header"
        raise MalformedReplyError(f"The response has {what}")
    headers: dict[str, str] = {}
    if "\r\n " in fields or "\r\n\t" in fields:
        # the search costs more than all other checks
        fields = _FOLD.sub(" ", fields)
    for line in fields.split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if not fields.isascii() and not all(headers.get(n, "").isascii() for n in _QUOTED):
        raise MalformedReplyError("The response has control characters in a header")
    return headers


def shown(signed: SignedRequest) -> str:
    """Return the URL of *signed* without its query."""
    return signed.url.reveal().partition("?")[0]


def said(reason: str) -> str:
    """Return another program's text for a message: shortened, without secrets.

    Control characters become blanks.
    """
    return redact(re.sub(_UNSHOWN, " ", reason))[:_MAX_REASON]

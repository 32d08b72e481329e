"""The connections: signed targets to the byte, over the pools of a requests adapter.

requests finds proxies and certificates, urllib3 keeps the pools, opens sockets and
speaks TLS. The exchange itself is done here: what was signed goes out as it is, a head
and a small body in one piece; and a wait ends when too few bytes move, not when a
single call takes long. It is also several times as fast, which small files show.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import http.client
import io
import logging
import math
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, ProtocolError, ProxyError
from urllib3.util import wait_for_read

from ..secret import SecretURL

# How long nothing may move on a connection: slow is fine, stalled is not.

# Bytes a second below which a connection counts as stalled. Sixteen connections that
# share an uplink of 64 kbit/s are faster.
SLOWEST = 256.0


class Phase(enum.Enum):
    """What a connection was doing when time ran out."""

    CONNECT = "connecting"
    SEND = "sending"
    WAIT = "waiting for the answer"
    READ = "reading the answer"


class StalledError(TimeoutError):
    """Too few bytes moved in time."""

    def __init__(
        self, phase: Phase, seconds: float, moved: int, *, late: bool = False
    ) -> None:
        """Keep in which phase, the length of the window, and the bytes of the phase.

        *late* if it is the end of the whole request that was reached.
        """
        super().__init__(f"{seconds:g} s without progress while {phase.value}")
        self.late = late
        self.phase = phase
        self.seconds = seconds
        self.moved = moved


class Watch:
    """Tells a slow connection from a stalled one.

    Only time spent in the system counts, so that a slow source or sink is not taken for
    a slow network. A window ends well as soon as enough bytes have moved.

    Attributes:
        seconds: length of a window; ``inf`` waits for ever.
        phase: what the connection does.
        sliced: whether a call that ran into its timeout may be made again.
        until: when the request must be over, however well it moves; on the clock of
            ``time.monotonic``.
        moved: bytes of this phase.
    """

    def __init__(self, seconds: float, phase: Phase) -> None:
        """Begin *phase*, with windows of so many *seconds*."""
        self.seconds = seconds
        self.sliced = False
        self.until = math.inf
        self.enter(phase)

    def enter(self, phase: Phase) -> None:
        """Begin a phase, and a window with it."""
        self.phase = phase
        self.moved = self._fresh = 0
        self._waited = 0.0
        self._queued: int | None = None

    def run(self, sock: Any, step: Callable[[Any], int], view: Any) -> int:
        """Return what *step* (send or receive) makes of *view*, however slow it is.

        Raises:
            StalledError: too few bytes moved within the window.
        """
        while True:
            started = time.monotonic()
            late = started >= self.until
            if late or self._waited >= self.seconds:
                raise StalledError(self.phase, self.seconds, self.moved, late=late)
            try:
                count = step(view)
            except (TimeoutError, BlockingIOError):  # the system says EAGAIN
                self._waited += time.monotonic() - started
                if not self.sliced:
                    self._waited = self.seconds
                queued = _queued(sock)
                if self._queued is not None:
                    # Megabytes may wait in the system while it delivers them slowly.
                    self._progress(max(0, self._queued - queued))
                self._queued = queued
                continue
            self._waited += time.monotonic() - started
            self.moved += count
            self._progress(count)
            return count

    def _progress(self, count: int) -> None:
        self._fresh += count
        if self._fresh >= SLOWEST * self.seconds:
            self._fresh = 0
            self._waited = 0.0


def _queued(sock: Any) -> int:
    """Return the bytes that the peer has not confirmed; 0 if the system hides them."""
    import termios  # noqa: PLC0415 - only where nothing moves

    try:
        packed = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(packed, sys.byteorder)


# An answer of HTTP/1.1 as it comes in: its head read at once, its body on demand.

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


_log = logging.getLogger(__name__)

_GONE = (ConnectionError, ssl.SSLError)
_SLICES = 4  # looks within one window at what the system has still to send
_JOINED = 64 * 1024  # bytes of a first block that are copied to go out with the head
_PLACES = 16  # for which pools are kept
_PORTS = {"http": ":80", "https": ":443"}


class Head(dict[str, str]):
    """The headers of one request, whose values nobody sees in a traceback.

    Attributes:
        target: the whole signed URL.
        until: when the request must be over, on the clock of ``time.monotonic``.
    """

    def __init__(
        self, headers: Mapping[str, str], target: SecretURL, until: float = math.inf
    ) -> None:
        """Take *headers* as they are; none may hold the end of a line."""
        super().__init__(headers)
        self.target = target
        self.until = until

    def __repr__(self) -> str:
        """Return their names."""
        return f"<headers {', '.join(self)}>"

    def written(self, method: str, *, absolute: bool, more: Mapping[str, str]) -> bytes:
        """Return the head as it goes over the wire (RFC 9112, 3).

        Args:
            method: of the request.
            absolute: whether the target is the whole URL, as forward proxies want it.
            more: headers that only they get.
        """
        url = self.target.reveal()
        scheme, _, rest = url.partition("://")
        start = next((i for i, c in enumerate(rest) if c in "/?"), len(rest))
        target = rest[start:]
        if not target.startswith("/"):
            target = f"/{target}"
        lines = [f"{method} {url if absolute else target} HTTP/1.1"]
        if not any(name.lower() == "host" for name in self):
            host = rest[:start].lower().removesuffix(_PORTS[scheme.lower()])
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in self.items()]
        lines += [f"{name}: {value}" for name, value in more.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class ExactConnection(HTTPConnection):
    """A connection of urllib3 that exchanges requests in a way of its own.

    Attributes:
        connect_seconds: for the connection, the proxy's consent and TLS, each.
        progress_seconds: window in which enough bytes must move.
        watch: notices that they do not.
        broken: the peer did not take the whole request.
    """

    # http.client would print the proxy's password if others raised this.
    debuglevel = 0
    connect_seconds = 10.0
    progress_seconds = math.inf
    broken = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open nothing yet."""
        super().__init__(*args, **kwargs)
        self.watch = Watch(self.connect_seconds, Phase.CONNECT)

    def connect(self) -> None:
        """Connect, and wait from then on for progress."""
        self.watch = Watch(self.connect_seconds, Phase.CONNECT)
        try:
            super().connect()
        except TimeoutError:  # of the proxy or TLS; urllib3 calls that reading
            raise StalledError(Phase.CONNECT, self.connect_seconds, 0) from None
        self.watch = Watch(self.progress_seconds, Phase.SEND)
        seconds: float | None = self.progress_seconds
        # TLS inside of TLS cannot take up a call that ran into its timeout.
        self.watch.sliced = isinstance(self.sock, socket.socket)
        if seconds == math.inf:
            seconds = None
        elif self.watch.sliced:
            seconds = self.progress_seconds / _SLICES
        _limit(self.sock, seconds)

    def send(self, data: Any) -> None:
        """Send a block of a head or a body.

        Raises:
            BrokenPipeError: the peer takes no more; an answer may be there.
            StalledError: it takes too little.
        """
        view = memoryview(data)
        watch = self.watch
        try:
            while view:
                view = view[watch.run(self.sock, self.sock.send, view) :]
        except (StalledError, *_GONE) as error:
            if watch.phase is Phase.CONNECT or (
                isinstance(error, StalledError) and not wait_for_read(self.sock, 0)
            ):
                raise
            self.broken = True
            raise BrokenPipeError from None

    def response_class(self, sock: Any, *, method: Any = None) -> Answer:  # type: ignore[override]
        """Return the answer of a proxy that is asked for a tunnel."""
        return Answer(sock, self.watch, method)

    def put(self, head: Any, body: Iterable[memoryview] | None) -> None:
        """Send a request, or as much of it as the peer takes.

        *head* is a memoryview, which hides what it holds from whoever prints the
        variables of frames.

        Raises:
            StalledError: it takes too little, and has not answered.
        """
        self.broken = False
        self.watch.enter(Phase.SEND)
        with contextlib.suppress(BrokenPipeError):
            for block in body or ():
                if head and len(block) <= _JOINED:
                    # One piece, and not two that the peer has to wait for.
                    self.send(memoryview(b"".join((head, block))))
                else:
                    if head:
                        self.send(head)
                    self.send(block)
                head = None
            if head:
                self.send(head)


def _limit(sock: Any, seconds: float | None) -> None:
    """Let each call on *sock* end after *seconds*; None waits for ever.

    Where the system does that by itself, one call in two is spared: Python looks
    whether it would have to wait before each of them.
    """
    if seconds is None or type(sock) is not socket.socket or sys.platform != "linux":
        sock.settimeout(seconds)
        return
    sock.settimeout(None)
    whole, part = divmod(seconds, 1)
    time = struct.pack("ll", int(whole), max(1, int(part * 1e6)))
    for name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, name, time)


class Pool:
    """What our pools have in common; mixed into those of urllib3."""

    def urlopen(
        self, method: str, url: str, body: Any = None, headers: Any = None, **_: Any
    ) -> Answer:
        """Send one request over an idle or a new connection, and read its answer's head.

        Args:
            method: of the request.
            url: of the request without its query, for the log.
            body: its blocks; None for none.
            headers: a :class:`Head`.

        Raises:
            ProxyError: the proxy could not be reached, or did not consent.
            OSError: the connection failed.
            ProtocolError: the answer is none.
        """
        pool: Any = self
        connection = pool._get_conn()  # noqa: SLF001 - pinned by a test
        try:
            # The scheme of a pool is that of a proxy which forwards.
            forwards = pool.proxy is not None and url[:5].lower() == "http:"
            if connection.is_closed:
                self._open(connection, tunnels=pool.proxy is not None and not forwards)
            more = pool.proxy_headers if forwards else {}
            connection.watch.until = headers.until
            connection.put(
                memoryview(headers.written(method, absolute=forwards, more=more)), body
            )
            answer = self._answer(connection, method)
        except http.client.HTTPException as error:
            connection.close()
            raise broken(error) from error
        except BaseException:
            connection.close()
            raise
        _log.debug('"%s %s HTTP/1.1" %d', method, url, answer.status)
        return answer

    def _open(self, connection: Any, *, tunnels: bool) -> None:
        pool: Any = self
        connection.timeout = connection.connect_seconds
        try:
            if tunnels:
                pool._prepare_proxy(connection)  # noqa: SLF001 - pinned by a test
            pool._validate_conn(connection)  # noqa: SLF001 - pinned by a test
            if connection.is_closed:
                connection.connect()
        except (OSError, HTTPError) as error:
            if connection.proxy is None or connection.has_connected_to_proxy:
                raise
            raise ProxyError("Unable to connect to proxy", error) from error

    def _answer(self, connection: Any, method: str) -> Answer:
        def release(reusable: bool) -> None:
            if reusable and not connection.broken:
                pool: Any = self
                pool._put_conn(connection)  # noqa: SLF001 - pinned by a test
            else:
                connection.close()

        answer = Answer(connection.sock, connection.watch, method, release)
        answer.begin()
        return answer


class Adapter(HTTPAdapter):
    """A requests adapter whose pools send exact targets and watch their time.

    What requests finds out about a request anew each time, it finds out once for each
    place that requests go to.
    """

    def __init__(self, size: int, connect: float, progress: float) -> None:
        """Open no connection yet.

        Args:
            size: connections kept for reuse per host.
            connect: seconds to wait for a connection.
            progress: seconds without enough progress; ``inf`` waits for ever.
        """
        self._seconds = {"connect_seconds": connect, "progress_seconds": progress}
        self._pools: dict[str, Any] = {}
        super().__init__(pool_connections=_PLACES, pool_maxsize=size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools for what needs no proxy."""
        super().init_poolmanager(*args, **kwargs)
        self._use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools for what goes through *proxy*."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._use_our_pools(manager)
        return manager

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool of the place that *request* goes to, its ``origin``."""
        pool = self._pools.get(request.origin)
        if pool is None:
            made: Any = super()
            pool = made.get_connection_with_tls_context(request, verify, proxies, cert)
            url = request.url
            if pool.proxy is not None and pool.proxy.scheme == "https":
                # requests looks at nothing else, and would not verify the proxy.
                url = f"https:{url.partition(':')[2]}"
            made.cert_verify(pool, url, verify, cert)
            if len(self._pools) >= _PLACES:
                self._pools.clear()  # urllib3 keeps the latest of them all the same
            self._pools[request.origin] = pool
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Do nothing: a pool knows its certificates from the start."""

    def request_url(self, request: Any, proxies: Any) -> str:
        """Return what may be logged; the target is in the headers."""
        del proxies
        return str(request.url)

    def build_response(self, req: Any, resp: Any) -> Any:
        """Return an answer of ours as it is."""
        return resp if isinstance(resp, Answer) else super().build_response(req, resp)

    def close(self) -> None:
        """Close idle connections."""
        self._pools.clear()
        super().close()

    def _use_our_pools(self, manager: Any) -> None:
        """Put our pool in front of those of *manager*: plain, TLS or SOCKS."""
        manager.pool_classes_by_scheme = {
            scheme: pool if issubclass(pool, Pool) else self._our_pool(pool)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _our_pool(self, pool: Any) -> Any:
        bases = (ExactConnection, pool.ConnectionCls)
        connection = type("_Exact", bases, dict(self._seconds))
        return type("_ExactPool", (Pool, pool), {"ConnectionCls": connection})

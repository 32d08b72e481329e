"""The connections: the signed target to the byte, and how long nothing may move.

urllib3 keeps the pools, opens sockets and speaks TLS. Three things are done here because
it does them otherwise: the signed target is put into the first line when that is
written, and no sooner; a wait ends when too few bytes move, not when a single call
takes long; and what comes in front of the answer is bounded.
"""

from __future__ import annotations

import enum
import fcntl
import http.client
import io
import math
import socket
import ssl
import sys
import termios
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from attrs import define
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.util import wait_for_read

from .secret import SecretURL

# Bytes a second below which a connection counts as stalled. Sixteen connections that
# share an uplink of 64 kbit/s are faster.
SLOWEST = 256.0
MAX_HEAD = 256 * 1024  # bytes in front of the body of an answer, 1xx answers included
_GONE = (ConnectionError, ssl.SSLError)
_SLICES = 4  # looks within one window at what the system has still to send

# The target of the request that this thread is sending, for its connection.
target: ContextVar[SecretURL | None] = ContextVar("target", default=None)
# When that request must be over, however well it moves; on the clock of `monotonic`.
until: ContextVar[float] = ContextVar("until", default=math.inf)


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


@define(eq=False)
class _Watch:
    """Tells a slow connection from a stalled one.

    Only time spent in the system counts, so that a slow source or sink is not taken for
    a slow network. A window ends well as soon as enough bytes have moved.

    Attributes:
        seconds: length of a window; ``inf`` waits for ever.
        phase: what the connection does.
        sliced: whether a call that ran into its timeout may be made again.
        until: when the request must be over, however well it moves.
        moved: bytes of this phase.
    """

    seconds: float
    phase: Phase
    sliced: bool = False
    until: float = math.inf
    moved: int = 0
    _waited: float = 0.0
    _fresh: int = 0
    _queued: int | None = None

    def enter(self, phase: Phase) -> None:
        """Begin a phase, and a window with it."""
        self.phase = phase
        self.moved = self._fresh = 0
        self._waited = 0.0
        self._queued = None

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
            except TimeoutError:
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
    try:
        packed = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(packed, sys.byteorder)


class _Incoming(io.RawIOBase):
    """The bytes of an answer, under watch."""

    def __init__(self, sock: Any, inner: Any, watch: _Watch) -> None:
        self._sock = sock
        self._inner = inner
        self._watch = watch

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Receive some bytes; 0 at the end."""
        watch = self._watch
        count = watch.run(self._sock, self._sock.recv_into, buffer)
        if not count and watch.moved and watch.phase is not Phase.READ:
            # http.client takes what came for the whole, whatever header is missing.
            raise http.client.RemoteDisconnected("the answer ends in its head")
        if watch.phase is not Phase.READ and watch.moved > MAX_HEAD:
            raise http.client.HTTPException("the head of the answer does not end")
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._inner.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose connection is kept only if the request went out whole."""

    def __init__(self, connection: ExactConnection, sock: Any, method: Any) -> None:
        super().__init__(sock, method=method)
        self._connection = connection
        inner: Any = self.fp
        watch = connection.watch
        self.fp = io.BufferedReader(_Incoming(sock, inner.detach(), watch))

    def begin(self) -> None:
        """Read the head, past any 1xx answers."""
        super().begin()
        self._connection.watch.enter(Phase.READ)
        if self._connection.broken:
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        read: Any = super()
        version, status, reason = read._read_status()  # noqa: SLF001 - pinned by a test
        if status == http.client.SWITCHING_PROTOCOLS:
            raise http.client.HTTPException("the answer switches protocols unasked")
        # http.client passes over 100 only, and would take a 103 for the answer.
        return version, status if status >= http.client.OK else 100, reason


class ExactConnection(HTTPConnection):
    """Writes the signed target instead of the one that urllib3 made of the URL.

    Attributes:
        connect_seconds: for the connection, the proxy's consent and TLS, each.
        progress_seconds: window in which enough bytes must move.
        watch: notices that they do not.
        broken: the peer did not take the whole request.
    """

    # http.client would print what it sends, signed targets too, if others raised this.
    debuglevel = 0
    connect_seconds = 10.0
    progress_seconds = math.inf
    broken = False
    _target: SecretURL | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open nothing yet."""
        super().__init__(*args, **kwargs)
        self.watch = _Watch(self.connect_seconds, Phase.CONNECT)

    def connect(self) -> None:
        """Connect, and wait from then on for progress."""
        self.watch = _Watch(self.connect_seconds, Phase.CONNECT)
        try:
            super().connect()
        except TimeoutError:  # of the proxy or TLS; urllib3 calls that reading
            raise StalledError(Phase.CONNECT, self.connect_seconds, 0) from None
        self.watch = _Watch(self.progress_seconds, Phase.SEND, until=until.get())
        self._arm()

    def putrequest(
        self,
        method: str,
        url: str,
        skip_host: bool = False,
        skip_accept_encoding: bool = False,
    ) -> None:
        """Begin a request; its target waits until the head is written."""
        self._target = target.get()
        self.broken = False
        if self.sock is not None:
            self.watch.enter(Phase.SEND)
            self._arm()
        self.watch.until = until.get()
        super().putrequest(method, url, skip_host, skip_accept_encoding)

    def send(self, data: Any) -> None:
        """Send a block of the head or the body.

        Raises:
            BrokenPipeError: the peer takes no more, which urllib3 passes over, because
                an answer may be there.
            StalledError: it takes too little.
        """
        secret, self._target = self._target, None
        if self.sock is None:
            self.connect()
        # A memoryview hides what it holds from whoever prints the variables of frames.
        view = memoryview(data if secret is None else _head(data, secret))
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

    def getresponse(self) -> Any:
        """Wait for the answer."""
        self.watch.enter(Phase.WAIT)
        self.timeout = self.sock.gettimeout()  # urllib3 is about to set it
        return super().getresponse()

    def response_class(self, sock: Any, *, method: Any = None) -> _Response:  # type: ignore[override]
        """Return the answer that is about to come, for http.client."""
        return _Response(self, sock, method)

    def _arm(self) -> None:
        """Set the timeout of each call; urllib3 leaves that for connecting there."""
        seconds: float | None = self.watch.seconds
        # TLS inside of TLS cannot take up a call that ran into its timeout.
        self.watch.sliced = isinstance(self.sock, socket.socket)
        if seconds == math.inf:
            seconds = None
        elif self.watch.sliced:
            seconds = self.watch.seconds / _SLICES
        self.sock.settimeout(seconds)


def _head(data: bytes, secret: SecretURL) -> bytes:
    """Return the head of a request with its signed target."""
    line, end, rest = data.partition(b"\r\n")
    method, _, shown = line.partition(b" ")
    shown, _, version = shown.rpartition(b" ")
    full = secret.reveal()
    # Through a forward proxy the target is the whole URL (RFC 9112, 3.2.2).
    url = full if shown.startswith(b"http") else _origin_form(full)
    return b"".join((method, b" ", url.encode(), b" ", version, end, rest))


def _origin_form(url: str) -> str:
    rest = url.split("://", 1)[1]
    start = next((i for i, c in enumerate(rest) if c in "/?"), len(rest))
    found = rest[start:]
    return found if found.startswith("/") else f"/{found}"


class Adapter(HTTPAdapter):
    """A requests adapter whose connections send exact targets and watch their time."""

    def __init__(self, size: int, connect: float, progress: float) -> None:
        """Open no connection yet.

        Args:
            size: connections kept for reuse per host.
            connect: seconds to wait for a connection.
            progress: seconds without enough progress; ``inf`` waits for ever.
        """
        self._seconds = {"connect_seconds": connect, "progress_seconds": progress}
        super().__init__(pool_connections=16, pool_maxsize=size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools for what needs no proxy."""
        super().init_poolmanager(*args, **kwargs)
        self._use_exact_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools for what goes through *proxy*."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._use_exact_connections(manager)
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Verify a proxy that is reached by TLS, for plain http too."""
        if conn.proxy is not None and conn.proxy.scheme == "https":
            url = f"https:{url.partition(':')[2]}"  # requests looks at nothing else
        requests_own: Any = super()
        requests_own.cert_verify(conn, url, verify, cert)

    def _use_exact_connections(self, manager: Any) -> None:
        """Put our connection in front of those of *manager*: plain, TLS or SOCKS."""
        manager.pool_classes_by_scheme = {
            scheme: pool
            if issubclass(pool.ConnectionCls, ExactConnection)
            else self._exact_pool(pool)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _exact_pool(self, pool: Any) -> Any:
        bases = (ExactConnection, pool.ConnectionCls)
        connection = type("_Exact", bases, dict(self._seconds))
        return type("_ExactPool", (pool,), {"ConnectionCls": connection})

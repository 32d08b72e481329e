"""The connections: signed targets to the byte, over the pools of a requests adapter.

requests finds proxies and certificates, urllib3 keeps the pools, opens sockets and
speaks TLS. The exchange itself is done here: what was signed goes out as it is, a head
and a small body in one piece; and a wait ends when too few bytes move, not when a
single call takes long. It is also several times as fast, which small files show.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import math
import socket
import ssl
import struct
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError, ProxyError
from urllib3.util import wait_for_read

from .answer import Answer, broken
from .secret import SecretURL
from .watch import Phase, StalledError, Watch

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

"""Easy handles of libcurl: one for each connection, kept between requests."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Protocol

import pycurl

from ..secret import SecretURL
from ..system import after_fork_in_child
from .route import Route, find_route

_log = logging.getLogger(__name__)

MAX_ORIGINS = 16  # for which a pool keeps routes and connections
_UNSENT = 256 * 1024  # bytes that the system may hold back for one connection
_NOTSENT_LOWAT = 25  # TCP_NOTSENT_LOWAT of Linux, which Python 3.11 does not name

# Handles of a parent process. A child that drops them would say goodbye, by TLS, on the
# connections of its parent.
_INHERITED: list[Any] = []


class Callbacks(Protocol):
    """Protocol of a request in a handle, which libcurl calls."""

    def may_send(self, local_port: int) -> int:
        """Decide whether libcurl may send the request by the connection it has chosen."""
        ...

    def read(self, size: int) -> bytes | int:
        """Return the next bytes of the request's body, at most *size*."""
        ...

    def take_line(self, line: bytes) -> int | None:
        """Take the next line of the reply's head."""
        ...

    def write(self, block: bytes) -> int | None:
        """Take the next bytes of the reply's body."""
        ...

    def watch(self, moved: int) -> int:
        """Take note that *moved* bytes have moved; called about every second."""
        ...


class Handle:
    """An easy handle, and the file descriptor of its connection.

    *descriptors* are the file descriptors of the connections by local port, which the
    handles of one multi share. libcurl watches the progress if they are None.

    Attributes:
        request: the request that is being sent; there is none between two requests.
        is_watched: whether libcurl calls ``watch``.
    """

    request: Callbacks

    def __init__(
        self,
        route: Route,
        connect_seconds: float,
        descriptors: dict[int, int] | None = None,
    ) -> None:
        self.route = route
        self.connect_seconds = connect_seconds
        self.is_watched = descriptors is None
        self._opened_now: list[int] = []
        self._kind: tuple[str, bool] | None = None
        self._is_fresh = False
        self._descriptors = {} if descriptors is None else descriptors
        self.easy = easy = pycurl.Curl()
        for option, value in _ALWAYS:
            easy.setopt(option, value)
        easy.setopt(pycurl.URL, f"{route.origin}/")
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(connect_seconds * 1000)))
        route.set_up(easy)
        easy.setopt(pycurl.SOCKOPTFUNCTION, self._opened)
        self._set_callbacks()

    def _set_callbacks(self) -> None:
        # Set once: a request that is no longer in the handle can be freed at once.
        easy = self.easy
        easy.setopt(
            pycurl.PREREQFUNCTION,
            lambda _, __, ___, port: self.request.may_send(port),
        )
        easy.setopt(pycurl.READFUNCTION, lambda size: self.request.read(size))  # noqa: PLW0108
        easy.setopt(pycurl.HEADERFUNCTION, lambda line: self.request.take_line(line))  # noqa: PLW0108
        easy.setopt(pycurl.WRITEFUNCTION, lambda block: self.request.write(block))  # noqa: PLW0108
        if self.is_watched:
            easy.setopt(pycurl.BUFFERSIZE, 64 * 1024)
            easy.setopt(pycurl.UPLOAD_BUFFERSIZE, 512 * 1024)
            easy.setopt(pycurl.NOPROGRESS, 0)
            easy.setopt(
                pycurl.XFERINFOFUNCTION,
                lambda _, received, __, sent: self.request.watch(int(received + sent)),
            )

    def begin(
        self,
        request: Callbacks,
        method: str,
        target: SecretURL,
        lines: list[bytes],
        size: int | None,
    ) -> None:
        """Set up *request*, with a body of *size* bytes; None is no body."""
        easy, kind = self.easy, (method, size is None)
        self.request = request
        self._opened_now.clear()  # those of a request that ended before it was sent
        if kind != self._kind:
            easy.setopt(pycurl.HTTPGET, 1)  # resets what an earlier method has set
            if size is not None:
                easy.setopt(pycurl.UPLOAD, 1)
            elif method == "HEAD":
                easy.setopt(pycurl.NOBODY, 1)
            easy.setopt(pycurl.CUSTOMREQUEST, method)
            self._kind = kind
        if size is not None:
            easy.setopt(pycurl.INFILESIZE_LARGE, size)
        easy.setopt(pycurl.HTTPHEADER, lines)
        easy.setopt(pycurl.REQUEST_TARGET, target.reveal())

    def connect_anew(self, *, is_fresh: bool) -> None:
        """Set whether the request opens a connection although some are kept."""
        if is_fresh != self._is_fresh:
            self.easy.setopt(pycurl.FRESH_CONNECT, is_fresh)
            self._is_fresh = is_fresh

    def end(self) -> None:
        """Forget the request; the handle can be kept for another one."""
        self._opened_now.clear()  # an attempt that was given up opened no connection
        del self.request

    def _opened(self, descriptor: int, _: int) -> int:
        self._opened_now.append(descriptor)
        _log.debug("opening a connection to %s", self.route.origin)
        with suppress(OSError), socket.socket(fileno=descriptor) as opened:
            try:
                if sys.platform == "linux":
                    opened.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT)
            finally:
                opened.detach()
        return pycurl.SOCKOPT_OK

    @property
    def has_opened(self) -> bool:
        """Whether this handle opened the connection of its current request."""
        return bool(self._opened_now)

    def descriptor_of(self, port: int) -> int:
        """Return the file descriptor of the connection from the local *port*.

        It is -1 if it is unknown. Of several addresses that were tried, only one led to
        a connection.
        """
        for descriptor in self._opened_now:
            if _local_port(descriptor) == port:
                self._descriptors[port] = descriptor
        self._opened_now.clear()
        return self._descriptors.get(port, -1)

    def perform(self) -> tuple[int, str]:
        """Send and receive; return libcurl's code, 0 for success, and its text."""
        try:
            self.easy.perform()
        except pycurl.error as error:
            return int(error.args[0]), str(error.args[-1])
        return 0, ""

    def close(self) -> None:
        """Close the connection."""
        self.easy.close()


_ALWAYS: tuple[tuple[int, Any], ...] = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
    (pycurl.HTTP09_ALLOWED, 0),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.NETRC, pycurl.NETRC_IGNORED),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.TCP_NODELAY, 1),
    (pycurl.MAXCONNECTS, 1),
    (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
    (pycurl.HTTP_CONTENT_DECODING, 0),
)


def _local_port(descriptor: int) -> int:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return -1
    try:
        name = sock.getsockname()
        return int(name[1]) if isinstance(name, tuple) else -1  # a text if not of IP
    except OSError:
        return -1
    finally:
        sock.detach()


class IdleHandles:
    """Idle handles of a process, the least recently used first.

    At most *most* handles are kept, or the limit of one pool if that is higher, each for
    *seconds*. Surplus handles are closed when any pool of the process next takes or
    returns one.
    """

    def __init__(
        self,
        most: int = 64,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._seconds, self._clock = most, seconds, clock
        # A finalizer may come back in here, so loops go over a list of the keys.
        self._lock = threading.RLock()
        self._since: dict[Handle, float] = {}

    def take(self, route: Route) -> Handle | None:
        """Remove and return the last used idle handle along *route*, if any."""
        with self._lock:
            self._close_old()
            latest = reversed(list(self._since))
            handle = next((one for one in latest if one.route is route), None)
            if handle is not None:
                del self._since[handle]
            return handle

    def keep(self, handle: Handle, most: int) -> None:
        """Add an idle *handle*; close it if *most* along its route are kept already."""
        with self._lock:
            self._close_old()
            along = sum(one.route is handle.route for one in list(self._since))
            if along >= most:
                handle.close()
                return
            surplus = len(self._since) + 1 - max(self._most, most)
            for oldest in list(self._since)[: max(0, surplus)]:
                self._close(oldest)
            self._since[handle] = self._clock()

    def drop(self, routes: Collection[Route]) -> None:
        """Close the idle handles along *routes*."""
        with self._lock:
            for handle in (one for one in list(self._since) if one.route in routes):
                self._close(handle)

    def reset(self) -> None:
        """Set the handles aside in a forked child, which must not use or close them."""
        self._lock = threading.RLock()  # a thread of the parent may have had it
        _INHERITED.extend(self._since)
        self._since = {}

    def _close_old(self) -> None:
        end = self._clock() - self._seconds
        for handle in list(self._since):
            if self._since.get(handle, end) >= end:
                break
            self._close(handle)

    def _close(self, handle: Handle) -> None:
        self._since.pop(handle, None)
        handle.close()


IDLE = IdleHandles()


def _drop(idle: IdleHandles, routes: dict[str, Route]) -> None:
    idle.drop(routes.values())


class HandlePool:
    """Makes handles, and keeps those with a usable connection in *idle*.

    A forked child finds new routes, so it never uses its parent's connections.
    *size* handles are kept for each origin; more may be in use. A connection that is not
    open after *connect_seconds* is an error.
    """

    def __init__(
        self,
        size: int,
        connect_seconds: float,
        progress_seconds: float,
        idle: IdleHandles = IDLE,
    ) -> None:
        self.size = size
        self.connect_seconds = connect_seconds
        self.progress_seconds = progress_seconds
        self._idle = idle
        self._lock = threading.Lock()
        self._routes: dict[str, Route] = {}
        weakref.finalize(self, _drop, idle, self._routes)
        _pools.add(self)

    def known_route(self, origin: str) -> Route | None:
        """Return the cached route to *origin*; None if there is none yet."""
        return self._routes.get(origin)

    def route_to(self, origin: str) -> Route:
        """Return the cached route to *origin*; raises like ``find_route``."""
        route = self._routes.get(origin)
        if route is None:
            route = find_route(origin)
            with self._lock:
                route = self._routes.setdefault(origin, route)
                surplus = list(self._routes)[:-MAX_ORIGINS]
                self._idle.drop([self._routes.pop(other) for other in surplus])
        return route

    def acquire(self, route: Route) -> Handle:
        """Return an idle handle along *route*, or a new one."""
        return self._idle.take(route) or Handle(route, self.connect_seconds)

    def release(self, handle: Handle, *, reusable: bool) -> None:
        """Return *handle* to the pool, which keeps it if it is *reusable*."""
        route = handle.route
        if reusable and self._routes.get(route.origin) is route:
            self._idle.keep(handle, self.size)
        else:
            handle.close()

    def close(self) -> None:
        """Close idle connections, and forget all routes."""
        _drop(self._idle, self._routes)
        self._routes.clear()

    def reset(self) -> None:
        """Forget the routes in a forked child, which must not use their connections."""
        self._lock = threading.Lock()  # a thread of the parent may have had it
        self._routes.clear()


_pools: weakref.WeakSet[HandlePool] = weakref.WeakSet()


def _reset_all() -> None:
    IDLE.reset()
    for pool in list(_pools):
        pool.reset()


after_fork_in_child(_reset_all)

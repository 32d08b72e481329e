"""Handles: easy handles of libcurl, one for each connection, kept between requests.

A route leads to a server, directly or through a proxy. The proxy is the one that the
library requests would find in the environment.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

import pycurl
from attrs import field, frozen

from ..compat import at_fork
from ..engine.logs import Logger

_log = Logger(__name__)

MAX_ORIGINS = 16  # origins for which a transport keeps routes and connections
_KEPT_SECONDS = 60.0  # an idle connection is kept for one to two times this time
_UNSENT = 256 * 1024  # bytes of one connection that the system may buffer unsent
_NOTSENT_LOWAT = 25  # TCP_NOTSENT_LOWAT of Linux, which Python 3.11 does not name

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PORTS = {"http": 80, "https": 443}
USER_AGENT = "fsspec-osspresigned"
_ADDED = {"Accept-Encoding": "identity"}
# libcurl adds these headers, unless a line without a value forbids it.
_NOT_ADDED = ("accept", "content-type", "expect", "transfer-encoding")

# Handles of a parent process. If a child dropped them, libcurl would close the parent's
# TLS connections.
_INHERITED: list[Any] = []


class ProxyError(OSError):
    """The environment names a proxy whose URL is unusable."""


@frozen(eq=False)
class Route:
    """Route to an origin (scheme, host and port), direct or through a proxy."""

    origin: str  # scheme, host and port, as in the URL
    # address of the proxy, which may contain a password
    proxy: str | None = field(repr=False)
    # File or directory of certificate authorities; None without TLS.
    authorities: str | None
    connect_seconds: float  # seconds within which a connection must be open
    # The first two different request IDs in replies. A simple server may send the same
    # ID with every reply; such an ID proves nothing.
    request_ids: set[str] = field(factory=set, repr=False)
    netloc: str = field(init=False)  # host and port, as in the URL
    # The header Host: *netloc* in lower case, without a default port.
    host: str = field(init=False)
    # Lower-case header name -> line in the head of each request. A signed header
    # replaces its line.
    lines: Mapping[str, bytes] = field(init=False, repr=False)
    # Lines of request heads. The key is the ``id`` of the signed and of the unsigned
    # headers, and the method.
    kept_lines: dict[tuple[int, int, str], tuple[Any, Any, list[bytes]]] = field(
        factory=dict, init=False, repr=False
    )
    # True without TLS and without a proxy. On such a connection, bytes that arrive
    # before the request are an error.
    is_plain: bool = field(init=False)
    # True if an HTTP proxy gets whole URLs. False for a tunnel, or without a proxy.
    forwards: bool = field(init=False)

    @netloc.default
    def _netloc_of_origin(self) -> str:
        return self.origin.partition("://")[2]

    @host.default
    def _host_of_netloc(self) -> str:
        scheme = self.origin.partition("://")[0]
        return self.netloc.lower().removesuffix(f":{_PORTS[scheme]}")

    @lines.default
    def _lines_of_host(self) -> Mapping[str, bytes]:
        added = {"Host": self.host, "User-Agent": USER_AGENT} | _ADDED
        lines = {n.lower(): f"{n}: {v}".encode("latin-1") for n, v in added.items()}
        return lines | {name: f"{name}:".encode() for name in _NOT_ADDED}

    @is_plain.default
    def _is_without_tls(self) -> bool:
        return self.proxy is None and self.origin.startswith("http:")

    @forwards.default
    def _has_http_proxy(self) -> bool:
        by_http = self.proxy is not None and self.proxy.startswith("http")
        return by_http and self.origin.startswith("http:")

    def set_up(self, easy: Any) -> None:
        milliseconds = max(1, int(self.connect_seconds * 1000))
        easy.setopt(pycurl.CONNECTTIMEOUT_MS, milliseconds)
        easy.setopt(pycurl.PROXY, "")
        if self.authorities is not None:
            is_directory = os.path.isdir(self.authorities)
            encoded = os.fsencode(self.authorities)  # pycurl accepts only ASCII text
            for file, directory in _AUTHORITIES:
                easy.setopt(directory if is_directory else file, encoded)
                # Otherwise libcurl would also trust its default authorities.
                easy.unsetopt(file if is_directory else directory)
        if self.proxy is None:
            return
        parts = urlsplit(self.proxy)
        easy.setopt(pycurl.PROXY, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
        if parts.username is not None:
            easy.setopt(pycurl.PROXYUSERNAME, _of_proxy(parts.username))
            easy.setopt(pycurl.PROXYPASSWORD, _of_proxy(parts.password or ""))


_AUTHORITIES = (
    (pycurl.CAINFO, pycurl.CAPATH),
    (pycurl.PROXY_CAINFO, pycurl.PROXY_CAPATH),
)


def _of_proxy(text: str) -> bytes:
    return unquote(text).encode("latin-1", "replace")  # requests does the same


def origin_of(url: str) -> str:
    """Return the scheme, the host and the port of *url*, which has no query."""
    return "/".join(url.split("/", 3)[:3])


def find_route(origin: str, connect_seconds: float = 10.0) -> Route:
    """Return the route to *origin* that the library requests would use.

    A connection must be open within *connect_seconds*.

    Raises:
        ProxyError: the environment names a proxy whose URL is unusable.
        FileNotFoundError: the bundle of certificate authorities is missing.
    """
    proxy = _proxy_for(origin)
    secure = origin.startswith("https:") or (proxy or "").startswith("https:")
    authorities = _authorities() if secure else None
    return Route(origin, proxy, authorities, connect_seconds)


def _proxy_for(origin: str) -> str | None:
    if not may_have_proxy():
        return None
    # The import is here, because it takes a quarter of the time of a first upload.
    import requests  # noqa: PLC0415
    from requests.utils import select_proxy  # noqa: PLC0415

    settings: Any = requests.Session().merge_environment_settings(
        origin, {}, None, None, None
    )
    if not (url := select_proxy(origin, settings["proxies"])):
        return None
    whole = str(url if "://" in url else f"http://{url}")
    try:
        parts = urlsplit(whole)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # the error's text may contain a piece of the password
        raise ProxyError("the URL of the proxy is malformed") from None
    if not usable:
        raise ProxyError("the URL of the proxy has no host")
    return whole


def may_have_proxy() -> bool:
    """Return False only if neither the environment nor the system names a proxy."""
    if sys.platform in {"darwin", "win32"}:
        from urllib.request import getproxies  # noqa: PLC0415 - needed only here

        return bool(getproxies())  # includes the proxies of the system's settings
    return any(name.lower().endswith("_proxy") for name in os.environ)


def _authorities() -> str:
    named = (os.environ.get(name) for name in _BUNDLES)
    bundle = next(filter(None, named), None)
    if bundle is None:
        import certifi  # noqa: PLC0415 - needed only for TLS

        bundle = certifi.where()
    if not os.path.exists(bundle):
        raise FileNotFoundError(f"no file with certificate authorities at {bundle}")
    return bundle


# Addresses and ports of a TCP connection: the server's address, the own address, then
# both ports.
Addresses: TypeAlias = tuple[str, str, int, int]


class Callbacks(Protocol):
    """Protocol of a request with functions that libcurl calls; ``Transfer`` is one."""

    next_watch: float  # time.monotonic; before it, ``watch`` need not be called
    context: Context  # context of the sending task, for log records

    def may_send(self, addresses: Addresses) -> int: ...
    def read(self, size: int) -> bytes | memoryview | int: ...
    def write(self, block: bytes) -> int | None: ...
    def watch(self, moved: int) -> int: ...


class Handle:
    """An easy handle, and the file descriptor of its connection.

    *descriptors* maps the addresses of connections to their file descriptors; the
    handles of one multi share it. None means that the handle belongs to no multi; then
    libcurl calls ``watch`` of the request.

    Attributes:
        head: all header lines that libcurl has received since ``begin``.
    """

    request: Callbacks  # missing between two requests

    def __init__(
        self,
        route: Route,
        descriptors: dict[Addresses, int] | None = None,
    ) -> None:
        self.route = route
        self.is_watched = descriptors is None
        self.head: list[bytes] = []
        self._opened_now: list[int] = []
        # Current settings of the handle: method and presence of a body, size, header
        # lines.
        self._kind: tuple[str, bool] | None = None
        self._size: int | None = None
        self._lines: list[bytes] | None = None
        self._is_fresh = self._has_source = False
        self._descriptors = {} if descriptors is None else descriptors
        self.easy = easy = pycurl.Curl()
        for option, value in _ALWAYS:
            easy.setopt(option, value)
        easy.setopt(pycurl.URL, f"{route.origin}/")
        route.set_up(easy)
        easy.setopt(pycurl.SOCKOPTFUNCTION, self._opened)
        # The callbacks are set only once. They refer to the handle, so a finished
        # request can be freed at once.
        easy.setopt(
            pycurl.PREREQFUNCTION,
            lambda *addresses: self.request.may_send(addresses),
        )
        self._read: Callable[[int], Any] = lambda size: self.request.read(size)  # noqa: PLW0108
        easy.setopt(pycurl.READFUNCTION, self._read)
        easy.setopt(pycurl.HEADERFUNCTION, self.head.append)
        easy.setopt(pycurl.WRITEFUNCTION, lambda block: self.request.write(block))  # noqa: PLW0108
        if self.is_watched:
            easy.setopt(pycurl.BUFFERSIZE, 64 * 1024)
            easy.setopt(pycurl.UPLOAD_BUFFERSIZE, 512 * 1024)
            easy.setopt(pycurl.NOPROGRESS, 0)
            easy.setopt(pycurl.XFERINFOFUNCTION, self._moved)

    def _moved(self, _: float, received: float, __: float, sent: float) -> int:
        # libcurl calls this several times for each block.
        request = self.request
        if time.monotonic() < request.next_watch:
            return 0
        return request.watch(int(received + sent))

    def begin(
        self,
        request: Callbacks,
        method: str,
        target: str,
        lines: list[bytes],
        size: int | None,
        *,
        source: Callable[[int], bytes] | None = None,
        is_fresh: bool = False,
    ) -> None:
        """Set up *request* as the next one to send.

        *size* is the number of bytes of its body; None sends no body. *source* returns
        the next bytes of the body; None uses ``read`` of *request*. *is_fresh* opens a
        new connection, even if one is kept.
        """
        easy, kind = self.easy, (method, size is None)
        self.request = request
        self.head.clear()
        # Forget the sockets of a request that ended early or was given up.
        self._opened_now.clear()
        if kind != self._kind:
            easy.setopt(pycurl.HTTPGET, 1)  # resets the settings of an earlier method
            if size is not None:
                easy.setopt(pycurl.UPLOAD, 1)
            elif method == "HEAD":
                easy.setopt(pycurl.NOBODY, 1)
            easy.setopt(pycurl.CUSTOMREQUEST, method)
            self._kind = kind
        if size is not None and size != self._size:
            easy.setopt(pycurl.INFILESIZE_LARGE, size)
            self._size = size
        if lines is not self._lines:
            easy.setopt(pycurl.HTTPHEADER, lines)
            self._lines = lines
        if source is not None or self._has_source:
            easy.setopt(pycurl.READFUNCTION, source or self._read)
            self._has_source = source is not None
        easy.setopt(pycurl.REQUEST_TARGET, target)
        if is_fresh != self._is_fresh:
            easy.setopt(pycurl.FRESH_CONNECT, is_fresh)
            self._is_fresh = is_fresh

    def shut(self) -> None:
        """Make the connection of the last request unusable, if libcurl kept it."""
        descriptor = self.easy.getinfo(pycurl.ACTIVESOCKET)
        if descriptor >= 0:
            with suppress(OSError), socket.socket(fileno=descriptor) as kept:
                try:
                    kept.shutdown(socket.SHUT_RDWR)
                finally:
                    kept.detach()

    def _opened(self, descriptor: int, _: int) -> int:
        self._opened_now.append(descriptor)
        line = "opening a connection to %s"
        self.request.context.run(_log.debug, line, self.route.origin)
        with suppress(OSError), socket.socket(fileno=descriptor) as opened:
            try:
                if sys.platform == "linux":
                    opened.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT)
            finally:
                opened.detach()
        return pycurl.SOCKOPT_OK

    def connection(self, addresses: Addresses) -> tuple[int, bool]:
        """Return the file descriptor of the connection between *addresses*; -1 if unknown.

        The second value says whether the current request opened the connection. libcurl
        may have tried several addresses, of which one worked.
        """
        known, is_new = self._descriptors, bool(self._opened_now)
        if not is_new:
            return known.get(addresses, -1), False
        for descriptor in self._opened_now:
            if addresses_of(descriptor) == addresses:
                for old in [key for key, fd in known.items() if fd == descriptor]:
                    del known[old]  # remove closed connections
                known[addresses] = descriptor
        self._opened_now.clear()
        return known.get(addresses, -1), True

    def perform(self) -> tuple[int, str]:
        """Send and receive; return libcurl's code (0 for success) and error text."""
        try:
            self.easy.perform()
        except pycurl.error as error:
            return int(error.args[0]), str(error.args[-1])
        return 0, ""

    def close(self) -> None:
        self.easy.close()


_ALWAYS: tuple[tuple[int, Any], ...] = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
    (pycurl.HTTP09_ALLOWED, 0),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.NETRC, pycurl.NETRC_IGNORED),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.TCP_NODELAY, 1),
    (pycurl.MAXCONNECTS, 1),
    (pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
    (pycurl.PROXY_SSLVERSION, pycurl.SSLVERSION_TLSv1_2),
    (pycurl.NOPROXY, ""),  # ``find_route`` has already read the environment
    (pycurl.HTTP_CONTENT_DECODING, 0),
)


def addresses_of(descriptor: int) -> Addresses | None:
    """Return the addresses of a connection; None if *descriptor* is not one."""
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        (server, port), (own, own_port) = sock.getpeername()[:2], sock.getsockname()[:2]
    except (OSError, ValueError):
        return None
    else:
        return server, own, port, own_port
    finally:
        sock.detach()


class IdleHandles:
    """Idle handles, the least recently used first; thread-safe.

    At most *most* are kept, each for one to two times ``_KEPT_SECONDS``. Handles beyond
    these limits are closed when the next handle is taken or added.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        # A finalizer may call this pool again, so no loop iterates over what a
        # finalizer may change.
        self._lock = threading.RLock()
        # monotonic time before which no handle is closed for its age
        self._next_look = 0.0
        self._since: dict[Handle, float] = {}
        # route -> idle handles, the newest last; no list is empty
        self._along: dict[Route, list[Handle]] = {}

    def take(self, route: Route) -> Handle | None:
        """Return the handle along *route* that was used last; None if there is none."""
        with self._lock:
            if time.monotonic() >= self._next_look:
                self._close_old()
            handles = self._along.get(route)
            if handles is None:
                return None
            handle = handles.pop()
            if not handles:
                del self._along[route]
            del self._since[handle]
            return handle

    def keep(self, handle: Handle, most: int | None = None) -> None:
        """Add an idle *handle*; close it if *most* along its route are kept already.

        A *most* above the limit for all routes raises that limit for this call. None
        sets no limit for this route.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._next_look:
                self._close_old()
            if most is not None and len(self._along.get(handle.route, ())) >= most:
                handle.close()
                return
            surplus = len(self._since) + 1 - max(self._most, most or 0)
            if surplus > 0:
                for oldest in list(self._since)[:surplus]:
                    self._close(oldest)
            self._along.setdefault(handle.route, []).append(handle)
            self._since[handle] = now

    def drop(self, routes: Iterable[Route]) -> None:
        """Close the idle handles along *routes*."""
        with self._lock:
            for route in routes:
                for handle in list(self._along.get(route, ())):
                    self._close(handle)

    def reset(self) -> None:
        """Set the handles aside in a forked child, which must not use or close them."""
        self._lock = threading.RLock()  # a thread of the parent may have held the lock
        _INHERITED.extend(self._since)
        self._since, self._along = {}, {}

    def _close_old(self) -> None:
        now = time.monotonic()
        self._next_look = now + _KEPT_SECONDS
        for handle, since in list(self._since.items()):
            if since < now - _KEPT_SECONDS:
                self._close(handle)

    def _close(self, handle: Handle) -> None:
        if self._since.pop(handle, None) is None:
            return  # a finalizer has already closed it
        handles = self._along[handle.route]
        handles.remove(handle)
        if not handles:
            del self._along[handle.route]
        handle.close()


IDLE = IdleHandles()


at_fork(after_in_child=IDLE.reset)

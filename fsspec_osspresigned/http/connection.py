"""HTTP connection: a socket to an origin, direct or by a proxy, and its requests.

requests finds the proxies of the environment; urllib3 speaks SOCKS, and TLS inside of
TLS. Signed data is sent unchanged, and a head and a small body in one piece. A wait
ends when too few bytes move, not when a single call takes long.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from ..secret import SecretURL
from ..system import incoming
from .body import BLOCK
from .response_parser import ResponseError, ResponseParser
from .stall import Phase, ProgressTimer, StalledError

_log = logging.getLogger(__name__)

GONE = (ConnectionError, ssl.SSLError)
_SLICES = 4  # looks within one window at what the system has still to send
JOINED = 64 * 1024  # bytes of a first block that are copied to go out with the head
RECEIVED = 64 * 1024  # bytes of one read where the end of the body is not known
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PORTS = {"http": 80, "https": 443}
_WINDOWS = 10  # in which a response must be there, but for the body of an object


@frozen(eq=False)
class Route:
    """Route to an origin: direct, or through a proxy of the environment.

    Attributes:
        origin: scheme, host and port, as in the URL.
        address: host without brackets, and port.
        tls: the TLS context; None without TLS.
        proxy: urllib3's manager of the proxy; None for a direct route.
        over_http: whether the proxy speaks HTTP; False for SOCKS and no proxy.
        forwards: whether the proxy gets whole URLs; False if it opens a tunnel.
        request_ids: the first two different request IDs of responses. A simple server
            may send the same ID with every response; then the ID proves nothing.
        netloc: host and port of the origin, as in the URL.
        host: the header Host: *netloc* in lower case, without a default port.
    """

    origin: str
    scheme: str
    address: tuple[str, int]
    tls: Any
    proxy: Any = field(repr=False)  # it holds the password
    over_http: bool
    forwards: bool
    request_ids: set[str] = field(factory=set, eq=False, repr=False)
    netloc: str = field(init=False)
    host: str = field(init=False)

    @property
    def nests_tls(self) -> bool:
        """Whether TLS runs inside the TLS of an https proxy.

        Such a socket has no non-blocking mode.
        """
        secure = self.over_http and self.proxy.proxy.scheme == "https"
        return secure and self.scheme == "https"

    @netloc.default
    def _netloc_of_origin(self) -> str:
        return self.origin.partition("://")[2]

    @host.default
    def _host_of_netloc(self) -> str:
        return self.netloc.lower().removesuffix(f":{_PORTS[self.scheme]}")


class ProxyError(OSError):
    """No connection through the proxy; the cause has the reason."""


def find_route(origin: str) -> Route:
    """Return the route to *origin* that the library requests would use.

    An unusable proxy in the environment raises ProxyError, an unreadable bundle of
    certificate authorities OSError.
    """
    parts = urlsplit(origin)
    proxy, over_http, schemes = _proxy_for(origin), False, [parts.scheme]
    if proxy is not None and proxy.proxy is not None:
        over_http = True
        schemes.append(proxy.proxy.scheme)
    return Route(
        origin=origin,
        scheme=parts.scheme,
        address=(parts.hostname or "", parts.port or _PORTS[parts.scheme]),
        tls=_authorities() if "https" in schemes else None,
        proxy=proxy,
        over_http=over_http,
        forwards=over_http and parts.scheme == "http",
    )


def _proxy_for(origin: str) -> Any:
    """Return urllib3's manager of the proxy for *origin*; None if there is no proxy."""
    if not may_have_proxy():
        return None
    # Imported here, because it takes a quarter of the time of a first upload.
    import requests  # noqa: PLC0415
    from requests.utils import select_proxy  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    settings: Any = requests.Session().merge_environment_settings(
        origin, {}, None, None, None
    )
    if not (url := select_proxy(origin, settings["proxies"])):
        return None
    whole = url if "://" in url else f"http://{url}"
    try:
        manager = requests.adapters.HTTPAdapter().proxy_manager_for(whole)
    except (OSError, ValueError, HTTPError) as error:
        raise ProxyError(error) from error
    if manager.proxy is not None and not manager.proxy.host:
        raise ProxyError("the URL of the proxy has no host")
    return manager


def may_have_proxy() -> bool:
    """Return False only if neither the environment nor the system names a proxy."""
    if sys.platform in {"darwin", "win32"}:
        from urllib.request import getproxies  # noqa: PLC0415 - others need it not

        return bool(getproxies())  # those of the system's settings, too
    return any(name.lower().endswith("_proxy") for name in os.environ)


def _authorities() -> ssl.SSLContext:
    """Return a context with the certificate authorities that requests would use."""
    named = (os.environ.get(name) for name in _BUNDLES)
    bundle = next(filter(None, named), None)
    if bundle is None:
        import certifi  # noqa: PLC0415 - see _proxy_for

        bundle = certifi.where()
    if not os.path.exists(bundle):
        raise FileNotFoundError(f"no file with certificate authorities at {bundle}")
    is_directory = os.path.isdir(bundle)
    context = ssl.create_default_context(
        cafile=None if is_directory else bundle,
        capath=bundle if is_directory else None,
    )
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _written(start: str, headers: Mapping[str, str]) -> memoryview:
    """Return the head of a request as a memoryview.

    A traceback that shows variables does not show the content of a memoryview.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return memoryview(f"{start}\r\n{lines}\r\n".encode("latin-1"))


def request_head(
    method: str, url: SecretURL, headers: Mapping[str, str], route: Route
) -> memoryview:
    """Return the encoded head of a request (RFC 9112, 3).

    The target is sent byte for byte; a forward proxy gets the whole URL and its
    credentials. No header may contain a line break.
    """
    target = url.reveal()
    if route.forwards:
        headers = {**headers, **route.proxy.proxy_headers}
    else:
        target = target[len(route.origin) :]
        if not target.startswith("/"):
            target = f"/{target}"
    return _written(f"{method} {target} HTTP/1.1", headers)


class UnaskedError(OSError):
    """Bytes arrived before the request was sent, so they belong to no reply."""


class OriginConnection:
    """An open connection that sends one request after the other.

    The connection is *broken* if the peer replied before the whole request was sent.
    """

    def __init__(self, route: Route, sock: Any, timer: ProgressTimer) -> None:
        self.route = route
        self.sock = sock
        self.timer = timer
        self.broken = False
        self._request_id: str | None = None  # of the last response
        self._has_come: Callable[[], bool] | None = None

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def is_clean(self) -> bool:
        """Return whether the connection is open and has no unread bytes."""
        if self._has_come is None:
            self._has_come = incoming(self.sock)
        pending = getattr(self.sock, "pending", None)
        return not self._has_come() and not (pending and pending())

    def send(self, view: memoryview) -> None:
        """Send a block; raise BrokenPipeError if the peer has closed or replied."""
        try:
            while view:
                view = view[self.timer.run(self.sock, self.sock.send, view) :]
        except (StalledError, *GONE) as error:
            if isinstance(error, StalledError) and self.is_clean():
                raise
            self.broken = True
            raise BrokenPipeError from None

    def ask(
        self, method: str, head: memoryview, body: Iterable[memoryview] = ()
    ) -> ResponseParser:
        """Send a request, and return the response without reading its body.

        Sending stops when the peer has replied. Raises UnaskedError if bytes arrived
        before the request, and OSError if too few bytes move or the response is
        invalid.
        """
        self.timer.enter(Phase.SEND)
        response = ResponseParser(method)
        begun = False
        with contextlib.suppress(BrokenPipeError):
            for piece in pieces(head, body):
                if self.is_answered(response, begun=begun):
                    break
                self.send(piece)
                begun = True
        self.expect_response()
        while not response.status:
            self._feed(response, RECEIVED)
        self.take_head(response)
        return response

    def is_answered(self, response: ResponseParser, *, begun: bool) -> bool:
        """Return whether the peer has replied or closed before the request's end.

        *response* receives the bytes that arrived. Raises UnaskedError if the peer did
        so before sending has *begun*.
        """
        came = self._received()
        if came is not None and not begun:
            what = "answered" if came else "closed the connection"
            raise UnaskedError(f"the server {what} before it was asked")
        while came and not response.status:
            response.feed(came)
            came = self._received()
        self.broken = came is not None or response.status > 0
        return self.broken

    def expect_response(self) -> None:
        """Begin to wait for the response, after the request is sent or cut short."""
        # One that drips makes progress, and could go on for hours.
        self.timer.expect_answer(_WINDOWS * self.timer.seconds)

    def take_head(self, response: ResponseParser) -> None:
        """Begin to read the body; raise OSError if the head is of another request."""
        self.timer.enter(Phase.READ)
        self.broken = self.broken or unconfirmed_packets(self.sock) > 0
        self._refuse_stray(response)

    def _received(self) -> bytes | None:
        """Return the bytes that arrived; empty if the peer closed, None if none arrived."""
        while not self.is_clean():
            seconds = self.sock.gettimeout()
            self.sock.settimeout(0.0)
            try:
                return bytes(self.sock.recv(RECEIVED))
            except ssl.SSLWantReadError:  # it was a message of TLS itself
                continue
            except OSError:
                return b""
            finally:
                self.sock.settimeout(seconds)
        return None

    def _refuse_stray(self, response: ResponseParser) -> None:
        """Raise ResponseError if the response belongs to an earlier request."""
        found = response.headers.get("x-oss-request-id")
        missing = found is None and 200 <= response.status < 300  # noqa: PLR2004 - class
        told = self.route.request_ids
        is_repeated = self._request_id and (missing or found == self._request_id)
        is_cached = "age" in response.headers
        if is_repeated and len(told) > 1 and not is_cached:
            raise ResponseError("The response is not the one to this request")
        if found and len(told) < 2:  # noqa: PLR2004 - two tell that they differ
            told.add(found)
        self._request_id = found or self._request_id

    def read_block(self, response: ResponseParser, most: int = BLOCK) -> bytes:
        """Return the next bytes of the body, at most *most*; empty at its end."""
        while not (block := response.take()) and not response.complete:
            self._feed(response, min(most, response.remaining or RECEIVED))
        return block

    def _feed(self, response: ResponseParser, size: int) -> None:
        step = self.sock.recv
        if (
            response.remaining
            and self.timer.deadline == math.inf
            and type(self.sock) is socket.socket
            and self.sock.gettimeout() is None  # Windows refuses it to one with a limit
        ):
            step = self._receive_all
        response.feed(self.timer.run(self.sock, step, size))

    def _receive_all(self, size: int) -> bytes:
        """Receive *size* bytes, or fewer at the timeout, in one system call."""
        return bytes(self.sock.recv(size, socket.MSG_WAITALL))


def unconfirmed_packets(sock: Any) -> int:
    """Return the number of sent TCP packets without acknowledgement; 0 if unknown.

    A response acknowledges its whole request, at the latest with the first byte.
    """
    if sys.platform != "linux" or not isinstance(sock, socket.socket):
        return 0
    found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int.from_bytes(found[24:], sys.byteorder)  # tcpi_unacked


def pieces(head: memoryview, body: Iterable[memoryview]) -> Iterator[memoryview]:
    """Yield the pieces of a request; a small first block is joined with the head."""
    blocks = iter(body)
    first = next(blocks, memoryview(b""))
    if len(first) <= JOINED:
        yield memoryview(b"".join((head, first))) if first else head
    else:
        yield head
        yield first
    del first  # so that the next one can have its memory
    yield from blocks


def open_connection(
    route: Route, connect_seconds: float, progress_seconds: float
) -> OriginConnection:
    """Open a connection along *route*; raise OSError, for a proxy ProxyError.

    *connect_seconds* limits each of three steps: opening the socket, the reply of a
    proxy, and the TLS handshake. Afterwards enough bytes must move within
    *progress_seconds*; ``inf`` is no limit.
    """
    _log.debug("opening a connection to %s", route.origin)
    timer = ProgressTimer(connect_seconds, Phase.CONNECT)
    opened = OriginConnection(route, None, timer)
    try:
        try:
            opened.sock = _connected(route, connect_seconds)
            if route.over_http:
                proxy = route.proxy.proxy
                if proxy.scheme == "https":
                    opened.sock = _in_tls(opened.sock, route, proxy.host)
                if not route.forwards:
                    _ask_for_tunnel(opened)
        except OSError as error:
            if route.proxy is None:
                raise
            raise ProxyError(error) from error
        if route.scheme == "https":
            opened.sock = _in_tls(opened.sock, route, route.address[0])
    except BaseException:
        if opened.sock is not None:
            opened.close()
        raise
    # TLS inside of TLS cannot take up a call that ran into its timeout.
    sliced = isinstance(opened.sock, socket.socket)
    opened.timer = ProgressTimer(progress_seconds, Phase.SEND, sliced=sliced)
    _limit(opened.sock, progress_seconds / (_SLICES if sliced else 1))
    return opened


def _connected(route: Route, seconds: float) -> Any:
    """Return a socket that is connected to the proxy or the origin."""
    host, port = route.address
    if route.over_http:
        host, port = route.proxy.proxy.host.strip("[]"), route.proxy.proxy.port
    elif route.proxy is not None:
        return _connected_by_socks(route, seconds)
    name: Any = host.encode()  # a str would load the codec of IDNA, and is ASCII anyway
    sock = socket.create_connection((name, port), seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _connected_by_socks(route: Route, seconds: float) -> Any:
    from urllib3.exceptions import (  # noqa: PLC0415 - see _proxy_for
        ConnectTimeoutError,
        HTTPError,
        NewConnectionError,
    )

    host, port = route.address
    pool = route.proxy.connection_from_host(host, port, "http")
    connection = pool.ConnectionCls(
        host=host, port=port, timeout=seconds, **pool.conn_kw
    )
    try:
        connection.connect()
    except HTTPError as error:
        # A refusal is late for urllib3, too.
        refused = isinstance(error, NewConnectionError)
        if isinstance(error, ConnectTimeoutError) and not refused:
            raise TimeoutError from None
        raise ProxyError(error) from error
    return connection.sock


def _in_tls(sock: Any, route: Route, host: str) -> Any:
    """Return *sock* with TLS, after verifying the certificate of *host*."""
    name = host.strip("[]").partition("%")[0].rstrip(".")
    # Not ragged: a response may end with its connection, so its end must be certain.
    if isinstance(sock, ssl.SSLSocket):
        from urllib3.util.ssltransport import SSLTransport  # noqa: PLC0415 - rare

        return SSLTransport(sock, route.tls, name, suppress_ragged_eofs=False)
    return route.tls.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)


def _ask_for_tunnel(connection: OriginConnection) -> None:
    route = connection.route
    host, port = route.address
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    headers = {"Host": where, **route.proxy.proxy_headers}
    head = _written(f"CONNECT {where} HTTP/1.1", headers)
    response = connection.ask("CONNECT", head)
    if response.status != 200:  # noqa: PLR2004 - OK
        raise OSError(f"Tunnel refused: {response.status} {response.reason.strip()}")


def _limit(sock: Any, seconds: float) -> None:
    """Set a timeout of *seconds* for each call on *sock*; ``inf`` is no limit.

    The operating system enforces it (SO_RCVTIMEO, SO_SNDTIMEO). With ``settimeout``
    alone, Python would call ``poll`` before each call: twice the system calls.
    """
    sock.settimeout(None if seconds == math.inf else seconds)
    if seconds < math.inf and type(sock) is socket.socket and sys.platform == "linux":
        sock.settimeout(None)
        packed = struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1e6)))
        for name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, name, packed)

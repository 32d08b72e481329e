"""JSON services: small requests to signers and grant servers with the library requests.

Each request is sent in the thread of its caller. Requests, urllib3 and their logs only
get the URL without its query, which may be secret. The connection adds the query.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401 - imported now, because a first exchange could import it during a fork
import errno
import http.client
import math
import os
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Self, cast

import requests
from attrs import evolve
from requests.adapters import HTTPAdapter
from urllib3 import exceptions as of_urllib3

from ..engine.logs import Logger, route_records
from ..errors import ConfigurationError, NetworkError, NetworkTimeoutError, SignerError
from ..model import Reply
from ..secret import Secret, SecretURL
from ..url_checks import service_problem
from .handle import USER_AGENT, ProxyError, find_route, origin_of
from .transfer import MAX_ERROR, hint, said

_log = Logger(__name__)
route_records("urllib3.connectionpool")
route_records("urllib3.util.retry")

_SECONDS = 60.0  # maximum seconds of one exchange
_WINDOWS = 10  # periods without progress that fit into one exchange
_CONNECTIONS = 64  # connections kept for each host
_HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


class _TimedCall:
    """Time limit of one exchange: after *seconds*, its connection is shut down.

    This is a context manager. The connection used within it passes its socket to
    ``watch``. A socket's own timeout applies to each read, so it does not end a reply
    that arrives byte by byte. *query* is the secret query of the URL, which the
    connection appends.
    """

    def __init__(self, query: Secret, seconds: float) -> None:
        self.query = query
        self.is_late = self.has_head = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.name, self._timer.daemon = "osspresigned-deadline", True

    def __enter__(self) -> Self:
        try:
            self._timer.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"no thread can be started: {error}") from None
        self._token = _call.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _call.reset(self._token)
        self._watch(None)

    def watch(self, used: Any) -> None:
        # Watch a duplicate, because TLS replaces the first socket, and the connection
        # may close any.
        self._watch(socket.fromfd(used.fileno(), socket.AF_INET, socket.SOCK_STREAM))
        if self.is_late:
            self._end()

    def _watch(self, duplicate: socket.socket | None) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.close()
            self._socket = duplicate

    def _end(self) -> None:
        self.is_late = True
        with self._lock, suppress(OSError):
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


_call: ContextVar[_TimedCall] = ContextVar("osspresigned_service_call")


class _Connection:  # a mixin for the connections of urllib3
    # overrides a switch of http.client that prints headers, and so the token
    debuglevel = 0
    _socket: Any = None

    @property
    def sock(self) -> Any:
        """The socket; urllib3 sets it before and after the TLS handshake."""
        return self._socket

    @sock.setter
    def sock(self, opened: Any) -> None:
        self._socket = opened
        if opened is not None:
            _call.get().watch(opened)

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        """Begin the head of a request; append the secret query, which *url* lacks."""
        call, connection = _call.get(), cast(Any, super())
        if self.sock is not None:  # the connection was kept from an earlier request
            call.watch(self.sock)
        connection.putrequest(method, url + call.query.reveal(), *args, **kwargs)


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        known = self.proxy_manager.get(proxy)
        manager = super().proxy_manager_for(proxy, **kwargs)
        if manager is not known:
            manager.pool_classes_by_scheme = _pools(manager)
        return manager


def _pools(manager: Any) -> dict[str, Any]:
    def derived(pool: Any) -> Any:
        # for example the connection class for SOCKS
        bases = _Connection, pool.ConnectionCls
        return type("Pool", (pool,), {"ConnectionCls": type("Connection", bases, {})})

    return {
        name: derived(pool) for name, pool in manager.pool_classes_by_scheme.items()
    }


# Process ID -> adapter. A forked child must not use its parent's connections.
_adapters: dict[int, _Adapter] = {}


def _adapter() -> _Adapter:
    pid = os.getpid()
    if pid not in _adapters:
        _adapters.setdefault(pid, _Adapter(pool_maxsize=_CONNECTIONS))
    return _adapters[pid]


class JSONService:
    """Sends small requests; thread-safe. All services of a process share connections.

    A connection must be open within *connect_timeout* seconds, and bytes must arrive
    within *progress_timeout* seconds; None sets no limit. An exchange takes at most a
    minute. *allow_http* permits plain http to other machines. Redirects, cookies and
    netrc entries are ignored. Proxies and certificate authorities are those that the
    library ``requests`` would use.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10.0,
        progress_timeout: float | None = 60.0,
        allow_http: bool = False,
    ) -> None:
        self._timeouts: Any = connect_timeout, progress_timeout
        self._seconds = min(_SECONDS, _WINDOWS * (progress_timeout or math.inf))
        self._allow_http = allow_http

    def exchange(
        self,
        method: str,
        url: SecretURL,
        headers: Mapping[str, str],
        body: bytes,
        limit: int,
    ) -> Reply:
        """Send one request, and return the reply; the body of an error may be cut off.

        Raises:
            ConfigurationError: the URL is not permitted.
            NetworkError, NetworkTimeoutError: no complete reply arrived in time.
            SignerError: the reply is longer than *limit* bytes.
        """
        if problem := service_problem(url.reveal(), allow_http=self._allow_http):
            raise ConfigurationError(f"the URL to send to {problem}")
        shown = url.reveal().partition("?")[0]
        call = _TimedCall(Secret(url.reveal()[len(shown) :]), self._seconds)
        outer = sys.exception()
        try:
            with call:
                reply = self._reply(call, method, shown, headers, body, limit)
        except SignerError:
            raise
        except Exception as error:  # noqa: BLE001 - another exception is raised below
            failure = self._failure(shown, call, error, outer)
        else:
            return reply
        # The error is raised outside of the handler, because the text of another
        # library's exception may contain the URL.
        raise failure

    def _reply(
        self,
        call: _TimedCall,
        method: str,
        shown: str,
        headers: Mapping[str, str],
        body: bytes,
        limit: int,
    ) -> Reply:
        route = find_route(origin_of(shown))
        request = requests.PreparedRequest()
        request.prepare(method, shown, {**_HEADERS, **headers}, data=body)
        request.url = shown  # ``prepare`` may have changed the URL
        with _adapter().send(
            request,
            stream=True,
            timeout=self._timeouts,
            verify=route.authorities or True,
            proxies={"all": route.proxy} if route.proxy else {},
        ) as response:
            call.has_head = not call.is_late
            reply = Reply(status=response.status_code)
            max_size = limit + 1 if reply.is_good else min(limit, MAX_ERROR)
            received = b""
            while block := response.raw.read(
                max_size - len(received), decode_content=False
            ):
                received += block
        if call.is_late:  # the reply may have been cut off
            raise TimeoutError
        _log.debug('"%s %s HTTP/1.1" %d', method, shown, reply.status)
        if len(received) > limit:
            del received  # the bytes contain URLs, and a traceback may show variables
            raise SignerError(f"{shown} answered with more than {limit} bytes")
        names = {name.lower(): value for name, value in response.headers.items()}
        return evolve(reply, headers=names, body=received, host=route.netloc)

    def _failure(
        self,
        shown: str,
        call: _TimedCall,
        error: Exception,
        outer: BaseException | None,
    ) -> Exception:
        """Return the exception to raise for *error*, described by its first cause.

        If *error* is no network error, it is returned unchanged. *outer* is the
        exception that was handled before the exchange; the search for causes ends
        there.
        """
        if not isinstance(error, OSError | of_urllib3.HTTPError):
            return error
        host = shown.split("/", 3)[2]
        connect, progress = self._timeouts
        phase = f"{'reading' if call.has_head else 'waiting for'} the answer"
        chain, cause = list[BaseException](), cast("BaseException | None", error)
        while cause is not None and cause is not outer:
            chain.append(cause)
            context = None if cause.__suppress_context__ else cause.__context__
            cause = cause.__cause__ or context
        kinds = tuple(map(type, chain))
        if call.is_late:
            return NetworkTimeoutError(f"{host} took too long in all, while {phase}")
        if of_urllib3.ConnectTimeoutError in kinds:
            text = f"no connection to {host} within {connect:g} s"
            return NetworkTimeoutError(text, sent=False)
        last = chain[-1]
        is_slow = isinstance(last, TimeoutError) and last.errno is None
        if is_slow or of_urllib3.ReadTimeoutError in kinds:
            text = f"no progress with {host} for {progress:g} s while {phase}"
            return NetworkTimeoutError(text)
        reason = getattr(last, "strerror", None) or str(last) or type(last).__name__
        if type(last) is http.client.BadStatusLine:
            reason = "Received HTTP/0.9 when not allowed"
        if isinstance(error, ProxyError | requests.exceptions.ProxyError):
            host = f"proxy or {host}"
        return NetworkError(
            f"the connection to {host} failed: {said(reason)}{hint(reason)}",
            sent=of_urllib3.NewConnectionError not in kinds,
        )

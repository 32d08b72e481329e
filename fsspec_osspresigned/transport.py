"""Sends signed requests: the only module that knows requests and urllib3.

The query of a presigned URL never enters those libraries. They are given the URL
without it, which is what they log, and the connection puts the signed target on the
wire byte for byte (urllib3 would re-encode it, and collapse dot segments behind a
proxy). Nothing is added but Host, Content-Length, User-Agent and Accept-Encoding; no
redirect, cookie or netrc entry is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from attrs import define, frozen
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection

from .body import BLOCK, EMPTY, Body, MemoryBody
from .checksum import crc64
from .errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
    OSSPresignedError,
    SignerError,
    UploadDiscardedError,
)
from .model import Reply, SignedRequest
from .secret import SecretURL, redact
from .sendable import http_problem, url_problem

USER_AGENT = "fsspec-osspresigned"
MAX_REPLY = 8 * 1024 * 1024  # a listing of 1,000 keys of 1 KiB, URL-encoded, fits

# The target of the request that this thread is sending, for the connection below.
_target: ContextVar[SecretURL | None] = ContextVar("_target", default=None)


class _ExactTarget(HTTPConnection):
    """Writes the signed target instead of the one that urllib3 made of the URL."""

    progress_timeout: float | None = None

    def putrequest(
        self,
        method: str,
        url: str,
        skip_host: bool = False,
        skip_accept_encoding: bool = False,
    ) -> None:
        secret = _target.get()
        if secret is not None:
            full = secret.reveal()
            # Through a forward proxy the target is the whole URL (RFC 9112, 3.2.2).
            url = full if url.startswith("http") else _origin_form(full)
        super().putrequest(method, url, skip_host, skip_accept_encoding)

    def connect(self) -> None:
        super().connect()
        # urllib3 would leave the connect timeout on the socket while the body is sent.
        self.sock.settimeout(self.progress_timeout)


def _origin_form(url: str) -> str:
    rest = url.split("://", 1)[1]
    start = next((i for i, c in enumerate(rest) if c in "/?"), len(rest))
    target = rest[start:]
    return target if target.startswith("/") else f"/{target}"


class _Adapter(HTTPAdapter):
    """A requests adapter whose connections send exact targets."""

    def __init__(self, size: int, progress_timeout: float | None) -> None:
        self._progress_timeout = progress_timeout
        super().__init__(pool_connections=16, pool_maxsize=size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._use_exact_targets(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._use_exact_targets(manager)
        return manager

    def _use_exact_targets(self, manager: Any) -> None:
        """Put our connection in front of those of *manager*: plain, TLS or SOCKS."""
        manager.pool_classes_by_scheme = {
            scheme: pool
            if issubclass(pool.ConnectionCls, _ExactTarget)
            else self._exact_pool(pool)
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }

    def _exact_pool(self, pool: Any) -> Any:
        timeout = {"progress_timeout": self._progress_timeout}
        connection = type("_Exact", (_ExactTarget, pool.ConnectionCls), timeout)
        return type("_ExactPool", (pool,), {"ConnectionCls": connection})


class _TooLongError(NetworkError):
    """The answer is longer than the caller takes."""


class _LocalFailed(Exception):  # noqa: N818 - never leaves this module
    """Carries an error of body or sink past those who would blame the network."""


@frozen
class _Place:
    """Where a request goes: what may be shown of its URL."""

    origin: str
    netloc: str
    shown: str


class Sink(Protocol):
    """Takes the body of a reply; ``begin`` again means that a try starts anew."""

    def begin(self) -> object:
        """Forget what was written."""
        ...

    def write(self, block: bytes, /) -> object:
        """Take the next bytes."""
        ...


@define(eq=False)
class _Outgoing:
    """One pass over a body: counts, sums up and can be cancelled between blocks."""

    body: Body
    cancelled: Callable[[], bool] | None
    progress: Callable[[int], None] | None
    crc64: int | None
    sent: int = 0

    def __iter__(self) -> Iterator[memoryview]:
        try:
            for block in self.body.blocks():
                if self.cancelled is not None and self.cancelled():
                    msg = "the upload was given up"
                    raise UploadDiscardedError(msg)
                if self.crc64 is not None:
                    self.crc64 = crc64(block, self.crc64)
                yield block
                self.sent += block.nbytes
                if self.progress is not None:
                    self.progress(block.nbytes)
        except OSError as error:
            raise _LocalFailed from error

    def take_back(self) -> None:
        """Report the bytes of a failed pass as not sent."""
        if self.progress is not None and self.sent:
            self.progress(-self.sent)


class Transport:
    """Sends requests over one pool of connections; one a process and set of options.

    Args:
        pool: connections kept for reuse per host.
        connect_timeout: seconds to wait for a connection.
        progress_timeout: seconds without any progress, while sending or waiting for
            the answer; None waits for ever.
        allow_http: whether plain http may leave this machine.
    """

    def __init__(
        self,
        *,
        pool: int = 16,
        connect_timeout: float = 10.0,
        progress_timeout: float | None = 60.0,
        allow_http: bool = False,
    ) -> None:
        """Open no connection yet."""
        self._timeout: Any = (connect_timeout, progress_timeout)
        self._allow_http = allow_http
        self._adapter = _Adapter(pool, progress_timeout)
        self._settings: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        """Close idle connections."""
        self._adapter.close()

    def send(
        self,
        signed: SignedRequest,
        body: Body = EMPTY,
        *,
        path: str | None = None,
        with_crc: bool = False,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[int], None] | None = None,
        free: Mapping[str, str] | None = None,
        sink: Sink | None = None,
        limit: int = MAX_REPLY,
    ) -> Reply:
        """Send *signed* with *body* and return whatever the server answered.

        Args:
            signed: its target and headers go out unchanged.
            body: sent once from its start, with Content-Length, never chunked.
            path: ``bucket/key`` for errors; None if no object is concerned.
            with_crc: whether to compute the CRC-64 of what is sent.
            cancelled: asked before each block; True gives the request up.
            progress: called with bytes sent, and with minus that after a failure.
            free: headers that no signature covers, such as Range.
            sink: takes the body of a 2xx answer block by block; None keeps it in the
                reply.
            limit: bytes of the answer that the reply takes; more is an error.

        Raises:
            ConfigurationError: the URL or a header cannot be sent as it is.
            NetworkError: no complete answer; whether the server acted is unknown.
            NetworkTimeoutError: no connection or no progress in time.
            UploadDiscardedError: cancelled.
            OSError: what reading the body or writing to the sink raised.
        """
        place = self._place(signed.url, path)
        outgoing = _Outgoing(body, cancelled, progress, 0 if with_crc else None)
        headers = self._headers(signed.headers, body.size, path) | dict(free or {})
        data = outgoing if body.size else None
        failure: OSError
        try:
            response = self._raw(signed.method, signed.url, place, headers, data)
            try:
                return self._reply(response, outgoing, sink, place, path, limit)
            finally:
                response.close()
        except _LocalFailed as error:
            failure = error.__cause__  # type: ignore[assignment]  # raised "from" above
        except OSSPresignedError as error:
            failure = error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as e:
            failure = _translate(e, place, path)
        outgoing.take_back()
        # Outside of the handlers, so that no foreign exception hangs on ours.
        raise failure

    def exchange(
        self,
        method: str,
        url: SecretURL,
        headers: Mapping[str, str],
        body: bytes,
        limit: int,
    ) -> Reply:
        """Send one small request that is not for the store, such as to a signer.

        Args:
            method: HTTP method.
            url: the place; what follows ``?`` is hidden as everywhere.
            headers: as they are, Content-Length is added.
            body: all of it.
            limit: bytes of the answer that are read; more is an error.

        Raises:
            NetworkError, NetworkTimeoutError: no complete answer.
            SignerError: the answer is longer than *limit*.
        """
        signed = SignedRequest(method=method, url=url, headers=headers)
        try:
            return self.send(signed, MemoryBody.of(body), limit=limit)
        except _TooLongError as error:
            text = error.message
        raise SignerError(text)

    def _raw(
        self,
        method: str,
        url: SecretURL,
        place: _Place,
        headers: Mapping[str, str],
        body: Any,
    ) -> requests.Response:
        """Send one request through the adapter; its URL is without the query."""
        request = requests.PreparedRequest()
        request.method = method
        request.url = place.shown
        request.headers = CaseInsensitiveDict(headers)
        request.headers.setdefault("User-Agent", USER_AGENT)
        request.headers.setdefault("Accept-Encoding", "identity")
        request.body = body
        request.hooks = {"response": []}
        token = _target.set(url)
        try:
            return self._adapter.send(
                request,
                stream=True,
                timeout=self._timeout,
                **self._environment(place),
            )
        finally:
            _target.reset(token)

    def _environment(self, place: _Place) -> dict[str, Any]:
        """Return proxies and CA bundle for a host; looked up once, as it is costly."""
        settings = self._settings.get(place.origin)
        if settings is None:
            found: Any = requests.Session().merge_environment_settings(
                place.origin, {}, None, None, None
            )
            settings = {name: found[name] for name in ("proxies", "verify", "cert")}
            self._settings[place.origin] = settings
        return settings

    def _place(self, url: SecretURL, path: str | None) -> _Place:
        text = url.reveal()
        problem = url_problem(text) or http_problem(
            text, allow_http=self._allow_http, local=True
        )
        if problem:
            _refuse(f"the URL to send to {problem}", path)
        parts = urlsplit(text)
        shown = f"{parts.scheme}://{parts.netloc}{parts.path or '/'}"
        return _Place(f"{parts.scheme}://{parts.netloc}", parts.netloc, shown)

    @staticmethod
    def _headers(
        signed: Mapping[str, str], size: int, path: str | None
    ) -> dict[str, str]:
        headers = dict(signed)
        stated = {n.lower(): v for n, v in headers.items()}.get("content-length")
        if stated is None:
            headers["Content-Length"] = str(size)
        elif stated != str(size):
            _refuse(f"the URL is signed for {stated} bytes, the body has {size}", path)
        return headers

    @staticmethod
    def _reply(
        response: requests.Response,
        outgoing: _Outgoing,
        sink: Sink | None,
        place: _Place,
        path: str | None,
        limit: int,
    ) -> Reply:
        ok = 200 <= response.status_code < 300  # noqa: PLR2004 - HTTP status class
        if ok and outgoing.sent != outgoing.body.size:
            msg = f"{place.netloc} answered before all bytes were sent"
            raise NetworkError(msg, path=path)
        if ok and sink is not None:
            answer = b""
            _pour(response, sink, place, path)
        else:
            answer = _read(response.raw, limit)
        if len(answer) > limit:
            msg = f"{place.shown} answered more than {limit} bytes"
            raise _TooLongError(msg, path=path)
        if not ok:
            outgoing.take_back()
        return Reply(
            status=response.status_code,
            headers=_lower(response.headers),
            body=answer,
            body_bytes=outgoing.sent,
            crc64=outgoing.crc64,
        )


def _read(raw: Any, limit: int) -> bytes:
    """Return the body; if it has more than *limit* bytes, one more than that.

    Reads to the end: only there urllib3 notices that a body was cut.
    """
    body = b""
    while block := raw.read(limit + 1 - len(body), decode_content=False):
        body += block
    return body


def _pour(
    response: requests.Response, sink: Sink, place: _Place, path: str | None
) -> None:
    """Write the body of *response* to *sink*."""
    if not {"content-length", "transfer-encoding"} & set(_lower(response.headers)):
        # It ends where the connection ends, so a cut one would pass for a whole.
        raise NetworkError(f"{place.netloc} does not say how much it sends", path=path)
    block = b""
    while True:
        try:
            sink.write(block) if block else sink.begin()
        except OSError as error:
            raise _LocalFailed from error
        block = response.raw.read(BLOCK, decode_content=False)
        if not block:
            return


def _refuse(problem: str, path: str | None) -> NoReturn:
    raise ConfigurationError(problem, path=path)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and what it wraps: requests and urllib3 nest up to four deep."""
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if one in seen:
            continue
        seen.append(one)
        yield one
        inner = [*one.args, getattr(one, "reason", None), one.__cause__]
        waiting += [e for e in inner if isinstance(e, BaseException)]


def _translate(error: BaseException, place: _Place, path: str | None) -> NetworkError:
    """Return our error for one of requests, urllib3 or the socket."""
    chain = list(_reasons(error))
    kinds = tuple(type(e) for e in chain)
    refused = any(issubclass(k, urllib3.exceptions.NewConnectionError) for k in kinds)
    connecting = refused or any(
        issubclass(k, urllib3.exceptions.ConnectTimeoutError) for k in kinds
    )
    late = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
    timed_out = not refused and any(issubclass(k, late) for k in kinds)
    deepest = next((e for e in reversed(chain) if isinstance(e, OSError)), chain[-1])
    text = getattr(deepest, "strerror", None) or type(deepest).__name__
    by_proxy = requests.exceptions.ProxyError | urllib3.exceptions.ProxyError
    proxied = any(issubclass(k, by_proxy) for k in kinds)
    where = f"proxy or {place.netloc}" if proxied else place.netloc
    if timed_out:
        what = "no connection to" if connecting else "no progress with"
        return NetworkTimeoutError(
            f"{what} {where} in time", path=path, sent=not connecting
        )
    return NetworkError(
        f"the connection to {where} failed: {redact(str(text))}",
        path=path,
        sent=not connecting,
    )

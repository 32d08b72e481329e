"""Sends signed requests, and makes one of our errors of whatever goes wrong.

The query of a presigned URL never enters requests and urllib3. They are given the URL
without it, which is what they log, and our pools (``wire``) put the signed target out
byte for byte: urllib3 would re-encode it, and collapse dot segments behind a proxy.
Nothing is added but Host, Content-Length, User-Agent and Accept-Encoding; no redirect,
cookie or netrc entry is followed.
"""

from __future__ import annotations

import math
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol, runtime_checkable

import requests
import urllib3

from ..errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
    OSSPresignedError,
    SignerError,
    UploadDiscardedError,
)
from ..model import Reply, SignedRequest
from ..secret import SecretURL, redact
from ..urls import http_problem, url_problem
from . import connection
from .body import BLOCK, EMPTY, Body, MemoryBody, crc64
from .connection import Phase, StalledError

# What a failure below us means: one of our errors, which names host, phase and bytes.

_MAX_REASON = 200
_UNPRINTABLE = r"[\x00-\x1f\x7f-\x9f]"  # compiled by its first use
_LATE = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
_BY_PROXY = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
_CONNECTING = (
    requests.ConnectTimeout,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)


def network_error(
    error: BaseException,
    *,
    host: str,
    path: str | None,
    connect_seconds: float,
    sent: int,
    size: int,
) -> NetworkError:
    """Return our error for one of requests, urllib3, http.client or the socket.

    Args:
        error: what was raised.
        host: where the request went, for the message.
        path: ``bucket/key``; None if no object is concerned.
        connect_seconds: how long a connection was waited for.
        sent: bytes of the body that went out.
        size: bytes of the whole body.
    """
    chain = list(_reasons(error))
    stalled = next((e for e in chain if isinstance(e, StalledError)), None)
    phase = stalled.phase if stalled else None
    connecting = phase is Phase.CONNECT or any(
        isinstance(e, _CONNECTING) for e in chain
    )
    # A server that has less than what was announced cannot have acted on it.
    whole = not connecting and sent >= size
    if any(isinstance(e, _BY_PROXY) for e in chain):
        host = f"proxy or {host}"
    # A refused connection is a late one to urllib3.
    refused = any(isinstance(e, urllib3.exceptions.NewConnectionError) for e in chain)
    if refused or not any(isinstance(e, _LATE) for e in chain):
        said = _said(chain)
        if any(isinstance(e, ssl.SSLCertVerificationError) for e in chain):
            said += "; REQUESTS_CA_BUNDLE names the file of a private authority"
        text = f"the connection to {host} failed: {said}"
        return NetworkError(text, path=path, sent=whole)
    if connecting:
        text = f"no connection to {host} within {connect_seconds:g} s"
        return NetworkTimeoutError(text, path=path, sent=False)
    text = f"no progress with {host}"
    if stalled is not None and stalled.late:
        text = f"{host} took too long in all, while {stalled.phase.value}"
    elif stalled is not None:
        text += f" for {stalled.seconds:g} s while {stalled.phase.value}"
    text += f": {sent} of {size} bytes sent"
    if stalled is not None and phase is Phase.READ:
        text += f", {stalled.moved} received"
    return NetworkTimeoutError(text, path=path, sent=whole)


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


def _said(chain: list[BaseException]) -> str:
    """Return what the innermost error of the system says; its kind if it is no such."""
    deepest = next((e for e in reversed(chain) if isinstance(e, OSError)), chain[-1])
    text = type(deepest).__name__
    if isinstance(deepest, OSError) and not isinstance(
        deepest, requests.RequestException
    ):
        # What a proxy says, and http.client of an early end, carries no errno.
        text = deepest.strerror or str(deepest) or text
    return redact(re.sub(_UNPRINTABLE, " ", text))[:_MAX_REASON]


USER_AGENT = "fsspec-osspresigned"
_EXCHANGE = 60.0  # seconds of one whole exchange with a signer, at most
MAX_REPLY = 8 * 1024 * 1024  # a listing of 1,000 keys of 1 KiB, URL-encoded, fits
MAX_ERROR = 64 * 1024  # an error says more than that only to others

# What may be a piece of a header, and would forge lines where it is shown.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# What would begin a line of its own, or has no byte in a head. It is looked for here,
# since the error of an encoder would hold the whole head.
_UNSENDABLE = re.compile(r"[^\x00-\x09\x0b\x0c\x0e-\xff]")
_DEFAULTS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


class _TooLongError(NetworkError):
    """The answer is longer than the caller takes."""


class _LocalFailed(Exception):  # noqa: N818 - never leaves this module
    """Carries an error of body or sink past those who would blame the network."""


class _Place(NamedTuple):
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


@runtime_checkable
class JudgingSink(Sink, Protocol):
    """A sink that looks at a reply before its body comes."""

    def head(self, status: int, headers: Mapping[str, str]) -> object:
        """Raise if the body is not wanted; it is not read then."""
        ...


class _Outgoing:
    """One pass over a body: counts, sums up and can be cancelled between blocks."""

    def __init__(
        self,
        body: Body,
        cancelled: Callable[[], bool] | None,
        progress: Callable[[int], None] | None,
        crc64: int | None,
    ) -> None:
        self.body = body
        self.cancelled = cancelled
        self.progress = progress
        self.crc64 = crc64
        self.sent = 0

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
        progress_timeout: seconds within which enough bytes must move (256 for each of
            them), while sending, waiting for the answer and reading it; None waits
            for ever.
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
        self._timeout = connect_timeout
        self._allow_http = allow_http
        self._progress_timeout = (
            math.inf if progress_timeout is None else progress_timeout
        )
        self._adapter = connection.Adapter(
            pool, connect_timeout, self._progress_timeout
        )
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
        until: float = math.inf,
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
            limit: bytes of the answer that the reply takes; more is an error, but an
                answer that is one itself is cut.
            until: when all must be over, on the clock of ``time.monotonic``.

        Raises:
            ConfigurationError: the URL or a header cannot be sent as it is.
            NetworkError: no complete answer; whether the server acted is unknown.
            NetworkTimeoutError: no connection, or not enough progress in time.
            UploadDiscardedError: cancelled.
            OSError: what reading the body or writing to the sink raised.
        """
        place = self._place(signed.url, path)
        outgoing = _Outgoing(body, cancelled, progress, 0 if with_crc else None)
        head = connection.Head(signed.headers, signed.url, until)
        _complete(head, body.size, path, free or {})
        if _UNSENDABLE.search("".join((signed.method, *head, *head.values()))):
            _refuse("a header holds the end of a line, or what is not Latin-1", path)
        data = outgoing if body.size else None
        failure: OSError
        try:
            response = self._raw(signed.method, place, head, data)
            try:
                return self._reply(response, outgoing, sink, place, path, limit)
            finally:
                response.close()
        except _LocalFailed as error:
            failure = error.__cause__  # type: ignore[assignment]  # raised "from" above
        except OSSPresignedError as error:
            failure = error.with_traceback(None)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as e:
            failure = network_error(
                e,
                host=place.netloc,
                path=path,
                connect_seconds=self._timeout,
                sent=outgoing.sent,
                size=body.size,
            )
        except BaseException as error:  # noqa: BLE001 - it is raised again
            # The frames below hold the head of the request, and a traceback may show
            # their variables.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
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
            NetworkError, NetworkTimeoutError: no complete answer, within a minute.
            SignerError: the answer is longer than *limit*.
        """
        # They hold a token, and a traceback may show the variables of frames.
        hidden = connection.Head(headers, url)
        del headers
        signed = SignedRequest(method=method, url=url)
        # Whoever drips an answer makes progress, and would hold an upload for hours.
        end = time.monotonic() + min(_EXCHANGE, 10 * self._progress_timeout)
        try:
            return self.send(
                signed, MemoryBody.of(body), free=hidden, limit=limit, until=end
            )
        except _TooLongError as error:
            text = error.message
        raise SignerError(text)

    def _raw(self, method: str, place: _Place, head: connection.Head, body: Any) -> Any:
        """Send one request through the adapter; its URL is without the query."""
        request: Any = requests.PreparedRequest()
        request.method = method
        request.url = place.shown
        request.origin = place.origin
        request.headers = head
        request.body = body
        request.hooks = {"response": []}
        # The connections have timeouts of their own.
        return self._adapter.send(request, **self._environment(place))

    def _environment(self, place: _Place) -> dict[str, Any]:
        """Return proxies and CA bundle for a host; looked up once, as it is costly."""
        settings = self._settings.get(place.origin)
        if settings is None:
            found: Any = requests.Session().merge_environment_settings(
                place.origin, {}, None, None, None
            )
            settings = {name: found[name] for name in ("proxies", "verify", "cert")}
            settings |= {"stream": True, "timeout": urllib3.Timeout()}
            self._settings[place.origin] = settings
        return settings

    def _place(self, url: SecretURL, path: str | None) -> _Place:
        text = url.reveal()
        problem = url_problem(text)
        shown = text.partition("?")[0]
        slash = shown.find("/", len("https://"))
        origin = shown if slash < 0 else shown[:slash]
        if problem is None and origin not in self._settings:
            problem = http_problem(text, allow_http=self._allow_http, local=True)
        if problem:
            _refuse(f"the URL to send to {problem}", path)
        netloc = origin.partition("://")[2]
        return _Place(origin, netloc, shown if slash >= 0 else f"{shown}/")

    @staticmethod
    def _reply(
        response: Any,
        outgoing: _Outgoing,
        sink: Sink | None,
        place: _Place,
        path: str | None,
        limit: int,
    ) -> Reply:
        ok = 200 <= response.status_code < 300  # noqa: PLR2004 - HTTP status class
        whole = outgoing.sent == outgoing.body.size
        if ok and not whole:
            msg = f"{place.netloc} answered before all bytes were sent"
            raise NetworkError(msg, path=path)
        headers = _received(response, place, path)
        if not ok:
            # The answer to a request that was refused on the way may be cut with it.
            answer = _read(response.raw, min(limit, MAX_ERROR), cut_is_fine=not whole)
            outgoing.take_back()
        elif sink is not None:
            answer = b""
            if isinstance(sink, JudgingSink):
                sink.head(response.status_code, headers)
            _pour(response.raw, sink, place, path)
        else:
            answer = _read(response.raw, limit + 1)
            if len(answer) > limit:
                msg = f"{place.shown} answered more than {limit} bytes"
                raise _TooLongError(msg, path=path)
        return Reply(
            status=response.status_code,
            headers=headers,
            body=answer,
            body_bytes=outgoing.sent,
            crc64=outgoing.crc64,
        )


def _complete(
    head: connection.Head, size: int, path: str | None, free: Mapping[str, str]
) -> None:
    """Add to what is signed what HTTP needs, and what no signature covers."""
    names = {name.lower(): name for name in head}
    stated = names.get("content-length")
    if stated is None:
        head["Content-Length"] = str(size)
    elif head[stated] != str(size):
        _refuse(
            f"the URL is signed for {head[stated]} bytes, the body has {size}", path
        )
    for name, value in {**_DEFAULTS, **free}.items():
        if name.lower() not in names:
            head[name] = value


def _received(response: Any, place: _Place, path: str | None) -> dict[str, str]:
    """Return the headers of an answer that can be believed."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    problem = ""
    if _CONTROL.search("".join(headers.values())):
        problem = "control characters in a header"
    elif headers.get("transfer-encoding", "chunked").strip(" \t").lower() != "chunked":
        problem = "a transfer coding that nobody asked for"
    if problem:
        response.will_close = True  # what comes next there is as doubtful
        raise NetworkError(f"{place.netloc} answered with {problem}", path=path)
    return headers


def _read(raw: Any, most: int, *, cut_is_fine: bool = False) -> bytes:
    """Return the body, or the first *most* bytes of it.

    Reads to the end: only there urllib3 notices that a body was cut.
    """
    body = b""
    try:
        while block := raw.read(most - len(body), decode_content=False):
            body += block
    except (urllib3.exceptions.HTTPError, OSError):
        if not cut_is_fine:
            raise
    return body


def _pour(raw: Any, sink: Sink, place: _Place, path: str | None) -> None:
    """Write the body of an answer to *sink*."""
    if raw.length_remaining is None and not raw.chunked:
        # It ends where the connection ends, so a cut one would pass for a whole.
        raise NetworkError(f"{place.netloc} does not say how much it sends", path=path)
    block = b""
    while True:
        try:
            sink.write(block) if block else sink.begin()
        except OSError as error:
            raise _LocalFailed from error
        block = raw.read(BLOCK, decode_content=False)
        if not block:
            return


def _refuse(problem: str, path: str | None) -> NoReturn:
    raise ConfigurationError(problem, path=path)

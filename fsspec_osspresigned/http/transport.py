"""HTTP transport: sends one signed request, and returns a reply or raises an error.

The query of a presigned URL never appears in a log or a message. Only Host,
Content-Length, User-Agent and Accept-Encoding are added to the signed request.
Redirects, cookies and netrc entries are ignored.
"""

from __future__ import annotations

import logging
import math
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

from attrs import field, frozen

from ..concurrency.waiting import Event
from ..errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
    OSSPresignedError,
    SignerError,
    UploadDiscardedError,
)
from ..model import Reply, SignedRequest
from ..request_checks import http_problem, url_problem
from ..secret import SecretURL, redact
from .body import BLOCK, EMPTY, Body, MemoryBody
from .checksums import crc64
from .connection import (
    JOINED,
    OriginConnection,
    ProxyError,
    Route,
    UnaskedError,
    request_head,
)
from .form import NO_FRAME, FormFrame, form_frame
from .pool import ConnectionPool
from .response_parser import ResponseParser
from .stall import Phase, StalledError

_log = logging.getLogger(__name__)

USER_AGENT = "fsspec-osspresigned"
MAX_REPLY = 8 * 1024 * 1024  # a listing of 1,000 keys of 1 KiB, URL-encoded, fits
MAX_ERROR = 64 * 1024  # an error says more than that only to others
_EXCHANGE = 60.0  # seconds of one whole exchange with a signer, at most
_MAX_REASON = 200

# What would begin a line of its own, or has no byte in a head. It is looked for here,
# since the error of an encoder would hold the whole head.
_UNSENDABLE = re.compile(r"[^\x00-\x09\x0b\x0c\x0e-\xff]")
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"  # compiled by its first use
# Reasons of OpenSSL, and what to do about them.
_HINTS = {
    "CERTIFICATE_VERIFY_FAILED": (
        "; REQUESTS_CA_BUNDLE names the file of a private authority"
    ),
    "WRONG_VERSION_NUMBER": "; the port speaks no TLS: the URL needs http, or another port",
}
_DEFAULTS = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}


class Sink(Protocol):
    """Protocol of a receiver of reply bodies; ``begin`` is called again for a retry."""

    def begin(self) -> object:
        """Discard the bytes written so far."""
        ...

    def write(self, block: bytes, /) -> object:
        """Write the next bytes of the body."""
        ...


@runtime_checkable
class JudgingSink(Sink, Protocol):
    """Protocol of a sink that checks the head of a reply before its body is read."""

    def head(self, status: int, headers: Mapping[str, str]) -> object:
        """Check the head of a reply; raise to skip its body."""
        ...


@frozen(kw_only=True, eq=False)
class Exchange:
    """Unsigned parts of a request, and limits for its exchange.

    Attributes:
        path: ``bucket/key`` for error messages; None if the request concerns no object.
        cancel: event that another thread sets to stop the request before the next
            block.
        progress: called with the number of bytes sent, and with a negative number after
            a failure.
        free_headers: unsigned headers, such as Range.
        sink: receives the body of a 2xx reply block by block; None keeps it in the
            reply.
        limit: maximum size of the reply's body in bytes; a longer body is an error, the
            body of an error is truncated.
        deadline: time by which the exchange must end, by ``time.monotonic``.
    """

    path: str | None = None
    with_crc: bool = False
    cancel: Event | None = None
    progress: Callable[[int], None] | None = None
    free_headers: Mapping[str, str] = field(factory=dict, repr=False)
    sink: Sink | None = None
    limit: int = MAX_REPLY
    deadline: float = math.inf


PLAIN = Exchange()


class _TooLongError(NetworkError):
    """The reply is longer than the caller accepts."""


class _LocalFailed(Exception):  # noqa: N818 - never leaves this module
    """Wrapper of an error of body or sink, so that network handlers do not catch it."""


class _Outgoing:
    """One pass over a request body, which counts bytes and computes the CRC-64.

    The bytes of the *frame* around a form's data are counted only in *total*, the size of
    the request's body.
    """

    frame = NO_FRAME

    def __init__(self, body: Body, exchange: Exchange) -> None:
        self.body = body
        self.exchange = exchange
        self.crc64 = 0 if exchange.with_crc else None
        self.sent = 0
        self.total = body.size

    def __iter__(self) -> Iterator[memoryview]:
        cancel = self.exchange.cancel
        try:
            for block in self.body.blocks():
                if cancel is not None and cancel.is_set():
                    raise UploadDiscardedError("the upload was cancelled")
                if self.crc64 is not None:
                    self.crc64 = crc64(block, self.crc64)
                count, after = block.nbytes, self.frame.after
                ends = bool(after) and self.sent + count == self.body.size
                joined = ends and count <= JOINED
                yield memoryview(b"".join((block, after))) if joined else block
                self.sent += count
                self.report(count)
                if ends and not joined:
                    yield after
        except OSError as error:
            raise _LocalFailed from error
        if not self.body.size:
            yield self.frame.after

    def put_into(self, frame: FormFrame) -> None:
        """Send the bytes inside of a form."""
        self.frame = frame
        self.total = self.body.size + len(frame.before) + len(frame.after)

    def report(self, count: int) -> None:
        """Report sent bytes to the callback; a negative number subtracts them."""
        if self.exchange.progress is not None and count:
            self.exchange.progress(count)


class OutgoingRequest:
    """One request with its body, sent once; later also its reply or error.

    Attributes:
        route: the route to the server; ``prepare`` finds it.
        head: the encoded head, with the fields of a form.
    """

    route: Route
    head: memoryview

    def __init__(self, signed: SignedRequest, outgoing: _Outgoing, origin: str) -> None:
        self.signed, self.exchange = signed, outgoing.exchange
        self._outgoing, self._origin = outgoing, origin

    @property
    def body(self) -> Iterable[memoryview]:
        """The blocks of the body; reading them counts bytes and computes the CRC-64."""
        return self._outgoing if self._outgoing.total else ()

    def prepare(self, pool: ConnectionPool) -> None:
        """Find the route to the server, and encode the head of the request."""
        path, outgoing = self.exchange.path, self._outgoing
        if self.signed.form is not None:
            outgoing.put_into(form_frame(self.signed.form, path))
        self.route = pool.route_to(self._origin)
        self.head = _head(self.signed, outgoing, self.route)

    def reply(self, connection: OriginConnection, response: ResponseParser) -> Reply:
        """Read the body of *response* from *connection*, and return the reply."""
        outgoing = self._outgoing
        connection.broken |= outgoing.sent != outgoing.body.size
        if _log.isEnabledFor(logging.DEBUG):
            line = '"%s %s HTTP/1.1" %d'
            shown = _shown(self.signed)
            _log.debug(line, self.signed.method, shown, response.status)
        return _reply(connection, response, outgoing, self.signed)

    def failure(
        self, error: BaseException, connect_seconds: float | None
    ) -> BaseException | None:
        """Return the error to raise for *error*; None if it is no failure of a request.

        *connect_seconds* is as in ``network_error``.
        """
        if isinstance(error, _LocalFailed):
            return error.__cause__
        if isinstance(error, OSSPresignedError):
            return error.with_traceback(None)
        if not isinstance(error, OSError):
            return None
        return network_error(
            error,
            host=self._origin.partition("://")[2],
            path=self.exchange.path,
            connect_seconds=connect_seconds,
            sent=self._outgoing.sent,
            size=self._outgoing.body.size,
        )

    def take_back(self) -> None:
        """Subtract the bytes of this failed try from the progress."""
        self._outgoing.report(-self._outgoing.sent)


class Transport:
    """Sends requests over one pool of connections; one per process and set of options.

    *pool* is the number of connections kept for each host. Enough bytes must move
    within *progress_timeout* seconds (256 bytes for each second), while sending,
    waiting for the reply and reading the reply; None is no limit. *allow_http* permits
    plain http to other machines.
    """

    def __init__(
        self,
        *,
        pool: int = 16,
        connect_timeout: float = 10.0,
        progress_timeout: float | None = 60.0,
        allow_http: bool = False,
    ) -> None:
        window = math.inf if progress_timeout is None else progress_timeout
        self.pool = ConnectionPool(pool, connect_timeout, window)
        self._allow_http = allow_http
        self._allowed: set[str] = set()

    def close(self) -> None:
        """Close the idle connections."""
        self.pool.close()

    def send(
        self, signed: SignedRequest, body: Body = EMPTY, exchange: Exchange = PLAIN
    ) -> Reply:
        """Send *signed* unchanged, and *body* once; return the server's reply.

        Raises:
            ConfigurationError: the URL or a header cannot be sent unchanged.
            NetworkError: no complete reply; the server may have executed the request.
            NetworkTimeoutError: no connection, or too little progress in time.
            UploadDiscardedError: the request was cancelled.
            OSError: an error while reading the body or writing to the sink.
        """
        one = self.request(signed, body, exchange)
        connection: OriginConnection | None = None
        reusable = False
        try:
            one.prepare(self.pool)
            connection = self.pool.acquire(one.route)
            connection.timer.deadline = exchange.deadline
            response = connection.ask(signed.method, one.head, one.body)
            reply = one.reply(connection, response)
            reusable = response.complete and response.reusable and not connection.broken
        except BaseException as error:  # noqa: BLE001 - it is raised again
            waited = None if connection else self.pool.connect_seconds
            failure = one.failure(error, waited)
            if failure is None:
                # The frames below hold the head of the request, and a traceback may
                # show their variables.
                raise error.with_traceback(None)  # noqa: B904 - it is the same error
        else:
            return reply
        finally:
            if connection is not None:
                self.pool.release(connection, reusable=reusable)
        one.take_back()
        # Outside of the handlers, so that no foreign exception hangs on ours.
        raise failure

    def request(
        self, signed: SignedRequest, body: Body = EMPTY, exchange: Exchange = PLAIN
    ) -> OutgoingRequest:
        """Return *signed* with its body as a request, to be sent once.

        Raises ConfigurationError if the URL is not permitted.
        """
        origin = self._origin(signed, exchange.path)
        return OutgoingRequest(signed, _Outgoing(body, exchange), origin)

    def exchange(
        self,
        method: str,
        url: SecretURL,
        headers: Mapping[str, str],
        body: bytes,
        limit: int,
    ) -> Reply:
        """Send one small request to a server other than the store, such as a signer.

        Raises:
            NetworkError, NetworkTimeoutError: no complete reply arrived within a
                minute.
            SignerError: the reply is longer than *limit* bytes.
        """
        deadline = time.monotonic() + _EXCHANGE
        one = Exchange(free_headers=headers, limit=limit, deadline=deadline)
        # They hold a token, and a traceback may show the variables of frames.
        del headers
        signed = SignedRequest(method=method, url=url)
        try:
            return self.send(signed, MemoryBody.of(body), one)
        except _TooLongError as error:
            text = error.message
        raise SignerError(text)

    def _origin(self, signed: SignedRequest, path: str | None) -> str:
        """Return scheme, host and port of the URL.

        Raises ConfigurationError if the URL is not permitted.
        """
        text = signed.url.reveal()
        problem = url_problem(text)
        origin = "/".join(_shown(signed).split("/", 3)[:3])
        if problem is None and origin not in self._allowed:
            problem = http_problem(text, allow_http=self._allow_http, local=True)
            if problem is None:
                self._allowed.add(origin)
        if problem:
            raise ConfigurationError(f"the URL to send to {problem}", path=path)
        return origin


def _shown(signed: SignedRequest) -> str:
    return signed.url.reveal().partition("?")[0]


def _head(signed: SignedRequest, outgoing: _Outgoing, route: Route) -> memoryview:
    """Return the head of a request as bytes; for a form, also the form's fields.

    The head has the signed headers, those that HTTP needs, such as Host, and the
    unsigned headers of the exchange.
    """
    frame, size = outgoing.frame, outgoing.total
    exchange = outgoing.exchange
    headers = {**signed.headers, **frame.headers}
    added = {"Host": route.host, "Content-Length": str(size), **_DEFAULTS}
    added |= exchange.free_headers
    stated = str(size)
    if headers:
        names = {name.lower(): name for name in headers}
        stated = headers.get(names.get("content-length", ""), stated)
        added = {n: v for n, v in added.items() if n.lower() not in names}
    headers = added | headers
    problem = ""
    if stated != str(size):
        problem = f"the URL is signed for {stated} bytes, the body has {size}"
    elif _UNSENDABLE.search("".join((signed.method, *headers, *headers.values()))):
        problem = "a header holds the end of a line, or what is not Latin-1"
    if problem:
        raise ConfigurationError(problem, path=exchange.path)
    head = request_head(signed.method, signed.url, headers, route)
    return memoryview(b"".join((head, frame.before))) if frame.before else head


def _reply(
    connection: OriginConnection,
    response: ResponseParser,
    outgoing: _Outgoing,
    signed: SignedRequest,
) -> Reply:
    """Read the body of *response*, the one to *signed*, and return the reply."""
    exchange, body = outgoing.exchange, b""
    host, path = connection.route.netloc, exchange.path
    ok = 200 <= response.status < 300  # noqa: PLR2004 - HTTP status class
    if connection.broken and (ok or not outgoing.total):
        raise NetworkError(f"{host} answered before all bytes were sent", path=path)
    if not ok:
        # The answer to a request that was refused on the way may be cut with it.
        most = min(exchange.limit, MAX_ERROR)
        body = _collect(connection, response, most, cut_is_fine=connection.broken)
        outgoing.report(-outgoing.sent)
    elif exchange.sink is not None:
        connection.timer.deadline = exchange.deadline  # an object may take its time
        if isinstance(exchange.sink, JudgingSink):
            exchange.sink.head(response.status, response.headers)
        if response.remaining is None and not response.chunked:
            # It ends where the connection ends, so a cut one would pass for a whole.
            raise NetworkError(f"{host} does not say how much it sends", path=path)
        _pour(connection, response, exchange.sink)
    else:
        body = _collect(connection, response, exchange.limit + 1)
        if len(body) > exchange.limit:
            text = f"{_shown(signed)} answered more than {exchange.limit} bytes"
            raise _TooLongError(text, path=path)
    return Reply(
        status=response.status,
        headers=response.headers,
        body=body,
        body_bytes=outgoing.sent,
        crc64=outgoing.crc64,
        host=host,
    )


def _collect(
    connection: OriginConnection,
    response: ResponseParser,
    most: int,
    *,
    cut_is_fine: bool = False,
) -> bytes:
    """Return the body of *response*, or the first *most* bytes of it.

    *cut_is_fine* returns the bytes received before an OSError, which else is raised.
    """
    if response.complete:  # as of most, which came with their heads
        return response.take()[:most]
    body = bytearray()
    try:
        while (left := most - len(body)) > 0 and (
            block := connection.read_block(response, min(BLOCK, left))
        ):
            body += block
    except OSError:
        if not cut_is_fine:
            raise
    return bytes(body[:most])


def _pour(connection: OriginConnection, response: ResponseParser, sink: Sink) -> None:
    """Write the body of *response* to *sink*."""
    block = b""
    while True:
        try:
            sink.write(block) if block else sink.begin()
        except OSError as error:
            raise _LocalFailed from error
        del block  # so that the next one can have its memory
        if not (block := connection.read_block(response)):
            return


def network_error(
    error: BaseException,
    *,
    host: str,
    path: str | None,
    connect_seconds: float | None,
    sent: int,
    size: int,
) -> NetworkError:
    """Return the package's error for an *error* of the proxy, TLS or the socket.

    *connect_seconds* is the connect timeout; None if the connection existed.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    # A server that has less than what was announced cannot have acted on it.
    whole = connect_seconds is None and sent >= size
    whole = whole and not isinstance(error, UnaskedError)
    if any(isinstance(e, ProxyError) for e in chain):
        host = f"proxy or {host}"
    if connect_seconds is not None and any(isinstance(e, TimeoutError) for e in chain):
        text = f"no connection to {host} within {connect_seconds:g} s"
        return NetworkTimeoutError(text, path=path, sent=False)
    if isinstance(error, StalledError):
        text = f"no progress with {host} for {error.seconds:g} s"
        if error.late:
            text = f"{host} took too long in all,"
        text += f" while {error.phase.value}: {sent} of {size} bytes sent"
        if error.phase is Phase.READ:
            text += f", {error.moved} received"
        return NetworkTimeoutError(text, path=path, sent=whole)
    text = f"the connection to {host} failed: {_said(chain)}"
    return NetworkError(text, path=path, sent=whole)


def _said(chain: list[BaseException]) -> str:
    """Return the message of the innermost system or TLS error."""
    said = type(chain[-1]).__name__
    hint = ""
    for one in chain:
        if isinstance(one, OSError) and not isinstance(one, ProxyError):
            said = one.strerror or str(one) or type(one).__name__
        if isinstance(one, ssl.SSLError):
            hint = _HINTS.get(one.reason, "")
        if isinstance(one, ssl.SSLEOFError):
            hint = "; TLS was cut before its end"
    return redact(re.sub(_CONTROL, " ", said))[:_MAX_REASON] + hint

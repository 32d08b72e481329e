"""Connection limits: idle and slow connections, and those that do not read, are closed.

uvicorn limits only the idle time after a reply. This module extends uvicorn's protocol
class. The class limits the number of connections and the time of each phase, including
the TLS handshake and the parsing of requests. ASGI middleware detects where bodies and
replies end.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import Any, TypeAlias

import uvicorn
from attrs import define, field, frozen
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_SPARE_FILES = 64  # the policy, the log, the listener and what libraries open
_SERVED = ("body", "reply")  # states of a request that is not yet answered


@frozen(kw_only=True)
class ConnectionLimits:
    """Limits in seconds, bytes and numbers, beyond which a connection is closed."""

    handshake: float = 10.0  # of TLS
    head: float = 10.0  # from the connection, or from the first byte of a request
    body: float = 30.0  # for the rest of a request
    reply: float = 60.0  # until the reply is made and was taken
    idle: float = 75.0  # between two requests
    farewell: float = 1.0  # until a TLS client answers a goodbye
    head_bytes: int = 16 * 1024
    headers: int = 100
    pipelined: int = 16  # requests that wait for the reply to an earlier one
    connections: int = 1000  # one more costs the one that waits longest


class GuardedConnection(HttpToolsProtocol):
    """A connection of the server, with its state and the deadline of that state.

    A state is the name of a time limit, or ``rest``: the reply is sent, but the body of
    its request has not arrived.
    """

    def __init__(self, *, guard: ConnectionGuard, **given: Any) -> None:
        super().__init__(**given)
        self._guard, self._limits = guard, guard.limits
        self._tcp: asyncio.Transport
        self._early: bytes | None = None  # what came before the TLS transport
        self._in_head, self._head_bytes, self._unfinished = False, 0, 0

    def enter(self, state: str) -> None:
        """Begin *state*, and set its deadline."""
        self.state = state
        self.deadline = monotonic() + getattr(self._limits, state)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, close one if there are too many, begin TLS or HTTP."""
        self._tcp = transport
        self.enter("head" if self._guard.tls is None else "handshake")
        self._guard.admit(self)
        if self._guard.tls is None:
            super().connection_made(transport)
        elif not transport.is_closing():
            self._early = b""
            self._handshake = self.loop.create_task(self._begin_tls(self._guard.tls))

    async def _begin_tls(self, context: ssl.SSLContext) -> None:
        transport = None
        with contextlib.suppress(OSError):  # no TLS, no common version, or hung up
            transport = await self.loop.start_tls(
                *(self._tcp, self, context),
                server_side=True,
                # Else a stop waits half a minute for clients that are idle.
                ssl_shutdown_timeout=self._limits.farewell,
            )
        early, self._early = self._early or b"", None
        if transport is None:
            self._guard.connections.discard(self)
        else:
            self.enter("head")
            super().connection_made(transport)
            self.data_received(early)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - see below
        """Stop counting the closed connection."""
        self._guard.connections.discard(self)
        if self.transport is not None:  # it was more than a handshake
            # With an error, uvicorn keeps its timer, and so the connection, for as long
            # as the connection could have been idle.
            super().connection_lost(None)

    def data_received(self, data: bytes) -> None:
        """Parse *data* in pieces; close the connection if a limit is exceeded.

        The limits are those of the length of a head and of the queue of requests.
        """
        if self._early is not None:
            self._early += data
            return
        step = self._limits.head_bytes
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            super().data_received(piece)
            # A header that does not end is told by nothing else. The piece in which its
            # head began may hold what came before.
            self._unfinished += len(piece) if self._in_head else 0
            if (
                self._unfinished > 2 * step
                or len(self.pipeline) > self._limits.pipelined
            ):
                self.cut()
            if self.transport.is_closing():
                return

    def on_message_begin(self) -> None:
        """Record that the head of a request begins."""
        super().on_message_begin()
        self.scope["state"]["connection"] = self
        self._in_head, self._head_bytes, self._unfinished = True, 0, 0
        if self.state not in _SERVED:
            self.enter("head")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count one header of the request."""
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value)
        size = len(self.url) + self._head_bytes
        if len(self.headers) > self._limits.headers or size > self._limits.head_bytes:
            self.cut()

    def on_headers_complete(self) -> None:
        """Record that the head of a request is complete."""
        self._in_head, self._unfinished = False, 0
        super().on_headers_complete()

    def end(self) -> None:
        """Record the end of the reply to a request.

        Afterwards, the connection waits for the rest of this request, if the reply was
        early, or for the next request.
        """
        if self.state == "body":
            self.state = "rest"
        else:
            self.enter("head" if self._in_head else "idle")

    def cut(self) -> None:
        """Close the connection immediately, discarding unsent bytes."""
        self._tcp.abort()


ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


@define
class ConnectionGuard:
    """Open connections of one server, and their limits."""

    limits: ConnectionLimits = ConnectionLimits()
    tls: ssl.SSLContext | None = None  # None speaks plain HTTP
    connections: set[GuardedConnection] = field(factory=set, init=False)

    def configure(self, app: ASGIApp, **options: Any) -> uvicorn.Config:
        """Return the server configuration for *app* with these limits."""
        return uvicorn.Config(
            _watched(app),
            http=partial(GuardedConnection, guard=self),  # type: ignore[arg-type]
            # What was accepted and not yet counted takes files, too.
            backlog=max(1, self.limits.connections // 4),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=int(self.limits.idle),
            **options,
        )

    def admit(self, connection: GuardedConnection) -> None:
        """Count *connection*; above the limit, close the one that has waited longest.

        Idle connections are closed first, then those without a whole head, then those
        without a whole body: an idle client can come again, and a new one would never
        get through.
        """
        if len(self.connections) >= self.limits.connections:
            waiting = (c for c in self.connections if c.state != "reply")
            oldest = min(waiting, key=_order, default=connection)
            oldest.cut()
            self.connections.discard(oldest)
        self.connections.add(connection)

    async def sweep(self, seconds: float = 1.0) -> None:
        """Close late connections every *seconds*, until this task is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            now = monotonic()
            for connection in list(self.connections):
                if now > connection.deadline:
                    connection.cut()


_CLOSED_FIRST = ("idle", "rest", "handshake", "head", "body")


def _order(connection: GuardedConnection) -> tuple[int, float]:
    return _CLOSED_FIRST.index(connection.state), connection.deadline


def _watched(app: ASGIApp) -> ASGIApp:
    """Return *app* with middleware that tells connections the request's state."""

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        connection = scope["state"].pop("connection")

        async def receive_body() -> Any:
            message = await receive()
            if not message.get("more_body"):
                connection.enter("reply")
            return message

        names = {name for name, _ in scope["headers"]}
        no_body = names.isdisjoint((b"content-length", b"transfer-encoding"))
        connection.enter("reply" if no_body else "body")
        try:
            await app(scope, receive_body, send)
        finally:
            connection.end()

    return watched


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files for *wanted* connections; return how many fit.

    Each connection counts as two files, because its successor is accepted before it
    closes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless, needed = resource.RLIM_INFINITY, 2 * wanted + _SPARE_FILES
    if soft != endless and soft < needed:
        soft = needed if hard == endless else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fit = wanted if soft == endless else (soft - _SPARE_FILES) // 2
    return max(1, min(wanted, fit))

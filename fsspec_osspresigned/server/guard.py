"""Connection limits: silent, slow and unread connections are cut off.

uvicorn limits only the idle time after a reply. What it lacks needs two views of a
connection, both public: a wrapper around its protocol sees the bytes that arrive, ASGI
middleware sees where requests and replies begin and end.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from time import monotonic
from typing import Any, TypeAlias

import uvicorn
from attrs import define, field, frozen

_SPARE_FILES = 64  # the policy, the log, the listener and what libraries open


@frozen(kw_only=True)
class ConnectionLimits:
    """Seconds, bytes and connections that clients may take before they are cut off.

    Attributes:
        head: seconds for the head of a request, counted from the connection or from
            the request's first byte.
        body: seconds for the rest of it.
        reply: seconds until the reply is made and was taken.
        idle: seconds between two requests.
        head_bytes: length of a head at most.
        connections: how many there are at most; for one more, the one that has waited
            longest without a request is cut off.
        handshake: seconds for the handshake of TLS.
        farewell: seconds that a TLS client has to answer a goodbye.
    """

    head: float = 10.0
    body: float = 30.0
    reply: float = 60.0
    idle: float = 75.0
    head_bytes: int = 64 * 1024
    connections: int = 1000
    handshake: float = 10.0
    farewell: float = 1.0


class GuardedConnection:
    """A connection, its state, and the deadline at which it is cut off in that state.

    The states are ``head``, ``body``, ``reply`` and ``idle``, as in the limits, and
    ``rest``: the reply is out, but the body of its request is not in.
    """

    def __init__(self, protocol: asyncio.Protocol, guard: ConnectionGuard) -> None:
        self._protocol, self._guard = protocol, guard
        self._transport: asyncio.Transport
        self.enter("head")

    def __getattr__(self, name: str) -> Any:
        """Leave everything else of a protocol to the wrapped one."""
        return getattr(self._protocol, name)

    def enter(self, state: str) -> None:
        """Begin *state* and its time."""
        self.state, self._head_bytes = state, 0
        self.deadline = monotonic() + getattr(self._guard.limits, state)

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take it, and make room if there are too many."""
        self._transport = transport
        self._protocol.connection_made(transport)
        self._guard.admit(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._guard.connections.discard(self)
        self._protocol.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Have it parsed; between two requests it must be a head, which must end."""
        if self.state in ("head", "idle") and data.strip(b"\r\n"):
            if not self._head_bytes:
                self.enter("head")
            self._head_bytes += len(data)
        # The task that answers a request is made here, and inherits the context.
        token = _CONNECTION.set(self)
        self._protocol.data_received(data)
        _CONNECTION.reset(token)
        if self._head_bytes > self._guard.limits.head_bytes:
            # That task runs first if the head is complete, and enters another state.
            asyncio.get_running_loop().call_soon(self._cut_head)

    def _cut_head(self) -> None:
        if self.state == "head":
            self.cut()

    def cut(self) -> None:
        """End the connection at once, and drop what its client did not take."""
        self._transport.abort()


_CONNECTION: ContextVar[GuardedConnection] = ContextVar("connection")
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


@define
class ConnectionGuard:
    """The connections of one server, and their limits.

    Attributes:
        limits: hold for each of them.
        connections: that are open.
    """

    limits: ConnectionLimits = ConnectionLimits()
    connections: set[GuardedConnection] = field(factory=set, init=False)

    def configure(self, app: ASGIApp, **options: Any) -> uvicorn.Config:
        """Return the loaded configuration of a server of *app* within the limits."""
        config = uvicorn.Config(
            self._middleware(app),
            http="httptools",
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=int(self.limits.idle),
            **options,
        )
        config.load()
        protocol: Callable[..., asyncio.Protocol] = config.http_protocol_class
        config.http_protocol_class = lambda **given: GuardedConnection(  # type: ignore[assignment]
            protocol(**given), self
        )
        return config

    def _middleware(self, app: ASGIApp) -> ASGIApp:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            connection = _CONNECTION.get()

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
                if connection.state == "body":
                    connection.state = "rest"
                else:
                    connection.enter("idle")

        return watched

    def admit(self, connection: GuardedConnection) -> None:
        """Count *connection*; if it is one too many, cut the longest silent one."""
        waiting = [c for c in self.connections if c.state not in ("body", "reply")]
        if len(self.connections) >= self.limits.connections:
            min(waiting, key=lambda found: found.deadline, default=connection).cut()
        self.connections.add(connection)

    async def sweep(self, seconds: float = 1.0) -> None:
        """Cut every *seconds* the connections that are late, until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            now = monotonic()
            for connection in list(self.connections):
                if now > connection.deadline:
                    connection.cut()


def raise_file_limit(wanted: int) -> int:
    """Raise the limit of open files; return how many of *wanted* connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless, needed = resource.RLIM_INFINITY, wanted + _SPARE_FILES
    if soft != endless and soft < needed:
        soft = needed if hard == endless else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == endless else max(1, min(wanted, soft - _SPARE_FILES))


class PromptLoop(asyncio.SelectorEventLoop):
    """A loop whose TLS servers wait neither for a handshake nor for a farewell."""

    limits = ConnectionLimits()

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Listen, with less time for what TLS adds."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self.limits.handshake
            # Else a stop waits half a minute for clients that are idle.
            options["ssl_shutdown_timeout"] = self.limits.farewell
        return await super().create_server(*args, **options)

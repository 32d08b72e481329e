"""Connections that cannot hold the service: each state of one has an end."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from attrs import frozen
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_SPARE_FILES = 64  # the policy, the log, the listener and what libraries open


@frozen(kw_only=True)
class Limits:
    """What a client may take before it is cut off.

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


class GuardedProtocol(HttpToolsProtocol):
    """Reads HTTP/1.1 from one connection, and knows until when it may stay as it is."""

    limits = Limits()

    def __init__(self, *args: Any, **options: Any) -> None:
        """Begin without a request."""
        super().__init__(*args, **options)
        self.deadline = monotonic() + self.limits.head
        self._running = 0  # requests whose head is here, and whose reply is not out
        self._in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take it, and make room if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            others = cast("list[GuardedProtocol]", list(self.connections - {self}))
            waiting = [found for found in others if not found.is_running]
            min(waiting, key=lambda found: found.deadline, default=self).cut()

    def data_received(self, data: bytes) -> None:
        """Parse it, and refuse a head that does not end."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.head_bytes:
                self.cut()

    def on_message_begin(self) -> None:
        """The first byte of a request: its head must end soon."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self.deadline = monotonic() + self.limits.head

    def on_headers_complete(self) -> None:
        """The head is whole: the body must end soon."""
        self._in_head = False
        self._running += 1
        self.deadline = monotonic() + self.limits.body
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole: now the service has a while, and the client to read."""
        limits = self.limits
        self.deadline = monotonic() + (limits.reply if self._running else limits.idle)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The reply is out, or in the buffers of this connection."""
        self._running -= 1
        # A reply may come before the end of its request, which must end all the same,
        # and after the begin of the next one.
        if not (self.cycle.more_body or self._in_head or self._running):
            self.deadline = monotonic() + self.limits.idle
        super().on_response_complete()

    def cut(self) -> None:
        """End the connection at once: what its client did not take is dropped."""
        self.transport.abort()

    def cut_if_late(self, now: float) -> None:
        """Cut if *now* is after the deadline."""
        if now > self.deadline:
            self.cut()

    @property
    def is_running(self) -> bool:
        """Whether a request is being read or answered."""
        return self._running > 0


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """Return the protocol class that keeps to *limits*."""
    return type("Guarded", (GuardedProtocol,), {"limits": limits})


async def sweep(
    connections: Callable[[], list[GuardedProtocol]], seconds: float = 1.0
) -> None:
    """Look every *seconds* which of *connections* are late, until cancelled."""
    while True:
        await asyncio.sleep(seconds)
        now = monotonic()
        for connection in connections():
            connection.cut_if_late(now)


def raise_file_limit(wanted: int) -> int:
    """Let this process open as many files as it may; return how many connections fit.

    Args:
        wanted: connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - _SPARE_FILES))


class PromptLoop(asyncio.SelectorEventLoop):
    """A loop whose TLS servers wait neither for a handshake nor for a farewell."""

    limits = Limits()

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Listen as ever, with less time for what TLS adds."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self.limits.handshake
            # Else a stop waits half a minute for clients that are idle.
            options["ssl_shutdown_timeout"] = self.limits.farewell
        return await super().create_server(*args, **options)

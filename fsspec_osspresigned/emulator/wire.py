"""Connections with faults, and received bodies: features that web servers lack.

Faults of a connection are resets, interim replies, slow and broken replies. The class
for bodies acts on faults at given byte positions.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from operator import itemgetter
from typing import Any

from attrs import define, field, frozen

from .messages import RefusedError, too_large
from .store import Spool

# seconds between two checks whether a client has left while reading is paused
_POLL_INTERVAL = 0.05
_WRITES = 20  # writes per second of a slow reply
_NO_LINGER = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds
_LINGER = 1.0  # seconds for which a closed connection still reads
INTERIM = (HTTPStatus.CONTINUE, HTTPStatus.PROCESSING, HTTPStatus.EARLY_HINTS)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Effect = Callable[[], Awaitable[None]]
PlacedEffect = tuple[int, Effect]  # byte position, and the fault that acts there


class DisconnectedError(Exception):
    """Control-flow exception: the client disconnected during its request."""


class CutError(Exception):
    """Control-flow exception: a fault closes the connection here."""


@define(eq=False)
class ClientConnection:
    """One client connection; ``waiting`` counts the faults that stall it now."""

    transport: asyncio.Transport
    number: int
    requests: int = 0
    waiting: int = 0
    gone: asyncio.Event = field(factory=asyncio.Event)

    def break_off(self, *, reset: bool) -> None:
        """Close the connection at once with a RST, or after all written bytes."""
        if reset:
            peer: socket.socket = self.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self.transport.abort()
        else:
            self.transport.close()

    async def wait(self, seconds: float | None) -> None:
        """Wait *seconds*; None waits until the client disconnects.

        DisconnectedError if the client disconnects.
        """
        time = asyncio.get_running_loop().time
        end = time() + (math.inf if seconds is None else seconds)
        self.waiting += 1
        try:
            while not self.gone.is_set() and (left := end - time()) > 0:
                try:
                    await asyncio.wait_for(self.gone.wait(), min(left, _POLL_INTERVAL))
                except TimeoutError:
                    if self._client_has_left():
                        self.transport.abort()
        finally:
            self.waiting -= 1
            if self.gone.is_set():
                raise DisconnectedError

    def _client_has_left(self) -> bool:
        # While reading is paused, asyncio does not notice that the client has left.
        poll, peer = select.poll(), self.transport.get_extra_info("socket")
        # Without POLLRDHUP (macOS), only a reset is noticed.
        poll.register(peer, getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))


@frozen
class Wire:
    connection: ClientConnection
    cycle: Any  # state of the request in the web server
    reused: bool  # True if the connection carried an earlier request

    def interim(self, status: int) -> None:
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n\r\n"
        self.connection.transport.write(line.encode())


class _Recorder(bytearray):
    is_closed = False
    write = bytearray.extend

    def close(self) -> None:
        self.is_closed = True


class ShapedReply:
    """Reply of *length* bytes of body that a fault slows down, stalls or breaks.

    *rate* is in bytes a second; *effects* act at their positions in the whole reply.
    """

    def __init__(
        self,
        wire: Wire,
        send: Send,
        length: int,
        rate: float | None,
        *effects: tuple[int | None, Effect],
    ) -> None:
        self._connection, self._send, self._length = wire.connection, send, length
        self._rate, self._wanted = rate, effects
        self._recorder = _Recorder()
        wire.cycle.transport = self._recorder
        self._effects: list[PlacedEffect] | None = None
        self._sent = 0

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self._send(message)
        data = bytes(self._recorder)
        self._recorder.clear()
        if self._effects is None:
            self._effects = in_order(*self._wanted, total=len(data) + self._length)
        while self._effects and self._effects[0][0] <= self._sent + len(data):
            position, effect = self._effects.pop(0)
            size = position - self._sent
            await self._write(data[:size])
            data = data[size:]
            await effect()
        await self._write(data)
        if self._recorder.is_closed:
            self._connection.transport.close()

    async def _write(self, data: bytes) -> None:
        step = len(data) if self._rate is None else max(1, int(self._rate / _WRITES))
        for at in range(0, len(data), step or 1):
            piece = data[at : at + step]
            if self._rate is not None:
                await self._connection.wait(len(piece) / self._rate)
            self._connection.transport.write(piece)
            self._sent += len(piece)


async def cut() -> None:
    raise CutError


def in_order(
    *effects: tuple[int | None, Effect], total: int = sys.maxsize
) -> list[PlacedEffect]:
    """Return *effects* sorted by their positions; None leaves an effect out.

    Positions are within *total* bytes. Negative ones count from the end; -1 is before
    the last byte.
    """
    placed = [
        (min(at, total) if at >= 0 else max(0, total + at), effect)
        for at, effect in effects
        if at is not None
    ]
    return sorted(placed, key=itemgetter(0))


class IncomingBody:
    """Reads a request body once, in order.

    Its methods raise RefusedError (too large), DisconnectedError or CutError. *pace*, if
    set, is called with a number of bytes, and waits as long as they should take.
    """

    def __init__(self, receive: Receive) -> None:
        self.received = 0
        self.effects: list[PlacedEffect] = []
        self.pace: Callable[[int], Awaitable[None]] | None = None
        self._receive = receive
        self._more = True

    async def into(self, spool: Spool, *, limit: int, ec: str = "") -> None:
        while (data := await self.read()) is not None:
            if self.received > limit:
                raise too_large(limit, ec)
            spool.write(data)

    async def drain(self) -> None:
        while await self.read() is not None:
            pass

    async def linger(self) -> None:
        """Discard bytes that still arrive, for a moment, before a refusal is sent.

        The server closes the connection after such a reply. A client that is still
        sending would not receive the reply (RFC 9112, 9.6).
        """
        self.effects, counted = [], self.received
        with contextlib.suppress(TimeoutError, DisconnectedError, RefusedError):
            async with asyncio.timeout(_LINGER):
                await self.drain()
        self.received = counted

    async def read(self) -> bytes | None:
        """Return the next bytes; None at the end."""
        if not self._more:
            return None
        await self._apply(self.received)
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        data: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        if self.pace is not None:
            await self.pace(len(data))
        whole = self.received + len(data)
        await self._apply(whole)
        self.received = whole
        return data

    async def _apply(self, reached: int) -> None:
        """Apply the faults up to *reached*, or all at the end of the body."""
        while self.effects and (self.effects[0][0] <= reached or not self._more):
            position, effect = self.effects.pop(0)
            self.received = max(self.received, min(position, reached))
            await effect()

"""Connections with faults, and received bodies.

Faults of a connection are resets, interim replies, slow and broken replies. A body knows
the byte positions at which a fault acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import select
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import partial
from operator import itemgetter
from typing import Any

from attrs import define, field, frozen

from .faults import INTERIM, Fault
from .messages import RefusedError, refused, too_large
from .store import CHUNK, Spool

_POLL_INTERVAL = 0.05  # seconds, for clients that leave while reading is paused
_WRITES = 20  # a second, of a slow reply
_NO_LINGER = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds
_LINGER = 1.0  # seconds
_HASHED_INLINE = 64 * 1024  # bytes; more are hashed by a thread

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Effect = Callable[[], Awaitable[None]]
PlacedEffect = tuple[int, Effect]  # the byte position at which a fault acts


class DisconnectedError(Exception):
    """Control-flow exception: the client disconnected during its request."""


class CutError(Exception):
    """Control-flow exception: a fault closes the connection here."""


@define(eq=False)
class ClientConnection:
    """One client connection; ``waiting`` is the number of faults that stall it."""

    transport: asyncio.Transport
    number: int
    requests: int = 0
    waiting: int = 0
    gone: asyncio.Event = field(factory=asyncio.Event)

    def break_off(self, *, reset: bool) -> None:
        """Close the connection: at once with a RST, or after all written bytes."""
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
        # asyncio notices nothing while reading is paused.
        poll, peer = select.poll(), self.transport.get_extra_info("socket")
        # Without that flag (macOS) only a reset is noticed.
        poll.register(peer, getattr(select, "POLLRDHUP", 0))
        return bool(poll.poll(0))


@frozen
class Wire:
    connection: ClientConnection
    cycle: Any  # the web server's state of the request
    reused: bool  # whether the connection carried an earlier request

    def interim(self, status: int) -> None:
        line = f"HTTP/1.1 {status} {INTERIM[status]}\r\n\r\n"
        self.connection.transport.write(line.encode())


class _Recorder(bytearray):
    is_closed = False
    write = bytearray.extend

    def close(self) -> None:
        self.is_closed = True


class ShapedReply:
    """Reply of *length* bytes of body that a fault slows down, stalls or breaks."""

    def __init__(self, wire: Wire, fault: Fault, send: Send, length: int) -> None:
        self._transport, self._wait = wire.connection.transport, wire.connection.wait
        self._fault, self._send, self._length = fault, send, length
        self._recorder = _Recorder()
        wire.cycle.transport = self._recorder
        self._effects: list[PlacedEffect] | None = None
        self._sent = 0

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self._send(message)
        data = bytes(self._recorder)
        self._recorder.clear()
        if self._effects is None:
            total, fault = len(data) + self._length, self._fault
            self._effects = in_order(
                (fault.stall_reply_after, partial(self._wait, fault.stall_for)),
                (fault.cut_reply_after, cut),
                (total if fault.hang_up else None, cut),
                total=total,
            )
        while self._effects and self._effects[0][0] <= self._sent + len(data):
            position, effect = self._effects.pop(0)
            size = position - self._sent
            await self._write(data[:size])
            data = data[size:]
            await effect()
        await self._write(data)
        if self._recorder.is_closed:
            self._transport.close()

    async def _write(self, data: bytes) -> None:
        rate = self._fault.bytes_per_second
        step = len(data) if rate is None else max(1, int(rate / _WRITES))
        for at in range(0, len(data), step or 1):
            piece = data[at : at + step]
            if rate is not None:
                await self._wait(len(piece) / rate)
            self._transport.write(piece)
            self._sent += len(piece)


async def cut() -> None:
    raise CutError


def in_order(
    *effects: tuple[int | None, Effect], total: int = sys.maxsize
) -> list[PlacedEffect]:
    """Return *effects* sorted by their positions; None leaves an effect out.

    Positions are within *total* bytes; negative ones count from the end: -1 is before
    the last byte.
    """
    placed = [
        (min(at, total) if at >= 0 else max(0, total + at), effect)
        for at, effect in effects
        if at is not None
    ]
    return sorted(placed, key=itemgetter(0))


class IncomingBody:
    """Reads a request body once, in order, at most a few MiB of it at a time.

    Its methods raise RefusedError (too large, or no bytes for *timeout* seconds),
    DisconnectedError or CutError. *pace*, if set, is called with a number of bytes, and
    waits as long as they should take.
    """

    def __init__(self, receive: Receive, *, timeout: float) -> None:
        self.received = 0
        self.effects: list[PlacedEffect] = []
        self.pace: Callable[[int], Awaitable[None]] | None = None
        self._receive = receive
        self._timeout = timeout
        self._more = True

    async def into(self, spool: Spool, *, limit: int, ec: str = "") -> None:
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        try:
            async for chunk in self._chunks():
                # A thread hashes the previous chunk while this one comes in.
                if writing is not None:
                    await writing
                    writing = None
                if self.received > limit:
                    raise too_large(limit, ec)
                if len(chunk) <= _HASHED_INLINE:
                    spool.write(chunk)
                else:
                    writing = loop.run_in_executor(None, spool.write, chunk)
        finally:
            if writing is not None:
                await writing

    async def read(self) -> bytes | None:
        return await self._next() if self._more else None

    async def drain(self) -> None:
        async for _ in self._chunks():
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

    async def _chunks(self) -> AsyncIterator[bytearray]:
        gathered = bytearray()
        while self._more:
            gathered += await self._next()
            if len(gathered) >= CHUNK:
                yield gathered
                gathered = bytearray()
        if gathered:
            yield gathered

    async def _next(self) -> bytes:
        await self._apply(self.received)
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._receive()
        except TimeoutError as error:
            # The rest of the body may still come: the connection cannot be reused.
            close = {"Connection": "close"}
            raise refused("RequestTimeout", headers=close) from error
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        body: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        if self.pace is not None:
            await self.pace(len(body))
        whole = self.received + len(body)
        await self._apply(whole)
        self.received = whole
        return body

    async def _apply(self, reached: int) -> None:
        """Apply the faults up to *reached*; at the end of the body, all that remain."""
        while self.effects and (self.effects[0][0] <= reached or not self._more):
            position, effect = self.effects.pop(0)
            self.received = max(self.received, min(position, reached))
            await effect()

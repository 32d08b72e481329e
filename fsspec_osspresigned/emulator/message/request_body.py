"""Received request body, with the byte positions at which a fault acts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from ..faults.connection import DisconnectedError, Trap
from ..store.bodies import CHUNK, Spool
from .errors import RefusedError, refused

_SMALL = 64 * 1024
_LINGER = 1.0  # seconds

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class IncomingBody:
    """Reads a request body once, in order, at most a few MiB of it at a time.

    Its methods raise RefusedError (too large, or no bytes for *timeout* seconds),
    DisconnectedError or CutError. *pace* waits as long as a number of bytes should
    take.
    """

    def __init__(self, receive: Receive, *, timeout: float) -> None:
        self.received = 0
        self.traps: list[Trap] = []
        self.pace: Callable[[int], Awaitable[None]] | None = None
        self._receive = receive
        self._timeout = timeout
        self._more = True

    async def into(self, spool: Spool, *, limit: int, ec: str = "") -> None:
        """Write the rest of the body into *spool*; RefusedError above *limit* bytes."""
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
                if len(chunk) <= _SMALL:
                    spool.write(chunk)
                else:
                    writing = loop.run_in_executor(None, spool.write, chunk)
        finally:
            if writing is not None:
                await writing

    async def read(self) -> bytes | None:
        """Return the next bytes of the body; None at its end."""
        return await self._next() if self._more else None

    async def drain(self) -> None:
        """Read and discard the remaining bytes of the body."""
        async for _ in self._chunks():
            pass

    async def linger(self) -> None:
        """Discard bytes that still arrive, for a moment, before a refusal is sent.

        The server closes the connection after such a reply. A client that is still
        sending would not receive the reply (RFC 9112, 9.6). These bytes are not
        counted.
        """
        self.traps, counted = [], self.received
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
        await self._spring(self.received)
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
        await self._spring(whole)
        self.received = whole
        return body

    async def _spring(self, reached: int) -> None:
        """Apply the faults at positions up to *reached*.

        At the end of the body, all remaining faults are applied.
        """
        while self.traps and (self.traps[0][0] <= reached or not self._more):
            position, spring = self.traps.pop(0)
            self.received = max(self.received, min(position, reached))
            await spring()


def too_large(limit: int, ec: str = "") -> RefusedError:
    """Return the error for a request body of more than *limit* bytes."""
    return refused("EntityTooLarge", ec=ec, MaxSizeAllowed=str(limit))

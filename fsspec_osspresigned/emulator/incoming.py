"""The body of a request while it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from .answers import RefusedError
from .bodies import CHUNK, Spool
from .wire import DisconnectedError, Trap

_SMALL = 64 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Incoming:
    """Reads a body once, in order, never more of it at a time than a few MiB.

    Attributes:
        received: bytes so far.
        traps: what a fault does at which byte, in order.
        pace: waits for as long as so many bytes should take; None does not.
    """

    def __init__(self, receive: Receive, *, timeout: float) -> None:
        """Read from *receive*, waiting at most *timeout* seconds for the next bytes."""
        self._receive = receive
        self._timeout = timeout
        self.traps: list[Trap] = []
        self.pace: Callable[[int], Awaitable[None]] | None = None
        self._more = True
        self.received = 0

    async def into(self, spool: Spool, *, limit: int) -> None:
        """Write the rest of the body into *spool*.

        Raises:
            RefusedError: more than *limit* bytes came, or none for too long.
            DisconnectedError: the client left before the end.
            CutError: a fault wants the connection broken.
        """
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        try:
            async for chunk in self._gathered():
                # The one before is hashed in its thread while this one came in.
                if writing is not None:
                    await writing
                    writing = None
                if self.received > limit:
                    raise too_large(limit)
                if len(chunk) <= _SMALL:
                    spool.write(chunk)
                else:
                    writing = loop.run_in_executor(None, spool.write, chunk)
        finally:
            if writing is not None:
                await writing

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            RefusedError, DisconnectedError, CutError: as for :meth:`into`.
        """
        body = bytearray()
        async for chunk in self._gathered():
            body += chunk
            if len(body) > limit:
                raise too_large(limit)
        return bytes(body)

    async def drain(self) -> None:
        """Read what is left and throw it away.

        Raises:
            RefusedError, DisconnectedError, CutError: as for :meth:`into`.
        """
        async for _ in self._gathered():
            pass

    async def _gathered(self) -> AsyncIterator[bytearray]:
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
        body = await self._take()
        if self.pace is not None:
            await self.pace(len(body))
        whole = self.received + len(body)
        await self._spring(whole)
        self.received = whole
        return body

    async def _spring(self, reached: int) -> None:
        """Spring the traps up to *reached*, and all that are left at the end."""
        while self.traps and (self.traps[0][0] <= reached or not self._more):
            position, spring = self.traps.pop(0)
            self.received = max(self.received, min(position, reached))
            await spring()

    async def _take(self) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._receive()
        except TimeoutError as error:
            # The rest of the body may still come: the connection cannot go on.
            raise RefusedError(
                400,
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to "
                "within the timeout period.",
                headers={"Connection": "close"},
            ) from error
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        body: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        return body


def too_large(limit: int) -> RefusedError:
    """Return the refusal of a body above *limit* bytes."""
    return RefusedError(
        400,
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed object size.",
        extras={"MaxSizeAllowed": str(limit)},
    )

"""The body of a request while it comes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from .answers import RefusedError
from .bodies import CHUNK, Spool

_SMALL = 64 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class DisconnectedError(Exception):
    """The client left before its request was whole; never leaves the emulator."""


class CutError(Exception):
    """A fault breaks the connection here; never leaves the emulator."""


class Incoming:
    """Reads a body once, in order, never more of it at a time than a few MiB.

    Attributes:
        received: bytes so far.
        cut_after: bytes after which a fault breaks the connection; None for no fault.
    """

    def __init__(self, receive: Receive, *, timeout: float) -> None:
        """Read from *receive*, waiting at most *timeout* seconds for the next bytes."""
        self._receive = receive
        self._timeout = timeout
        self.cut_after: int | None = None
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
        if self.cut_after is not None and self.received >= self.cut_after:
            raise CutError
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
        self.received += len(body)
        return body


def too_large(limit: int) -> RefusedError:
    """Return the refusal of a body above *limit* bytes."""
    return RefusedError(
        400,
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed object size.",
        extras={"MaxSizeAllowed": str(limit)},
    )

"""aiohttp and httpx on signed URLs, in one event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import chosen, contents, signed

BLOCK = 1 << 18


def _trust(where: Where) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=where.ca) if where.ca else None


async def _each(work: Work, call: Callable[[int], Awaitable[None]]) -> None:
    """Call it for each file, from as many tasks as may be in flight at once."""
    left: Iterator[int] = iter(range(work.count))

    async def worker() -> None:
        for index in left:
            await call(index)

    await asyncio.gather(*(worker() for _ in range(min(work.concurrency, work.count))))


@candidate(
    "aiohttp",
    verbs={"put", "small", "get"},
    needs=("aiohttp",),
    note="one ClientSession; a file is sent as the file object it takes; a download "
    "is one connection",
)
def aiohttp(work: Work, where: Where) -> Timed:
    """Send as the manual of aiohttp shows."""
    import aiohttp as http

    urls = signed(work, where)
    trust = _trust(where)

    async def put(session: Any) -> None:
        with open(where.files[0], "rb") as file:
            async with session.put(urls[0], data=file) as reply:
                reply.raise_for_status()

    async def small(session: Any) -> None:
        async def one(index: int) -> None:
            body = contents(where.files[index])
            async with session.put(urls[index], data=body) as reply:
                reply.raise_for_status()

        await _each(work, one)

    async def get(session: Any) -> None:
        async with session.get(urls[0]) as reply:
            reply.raise_for_status()
            with open(where.download, "wb") as file:
                async for block in reply.content.iter_chunked(BLOCK):
                    file.write(block)

    async def within(what: Callable[[Any], Awaitable[None]]) -> None:
        # The URLs are signed as they stand: nothing may quote them again.
        connector = http.TCPConnector(limit=work.concurrency, ssl=trust or True)
        async with http.ClientSession(
            connector=connector,
            requote_redirect_url=False,
            timeout=http.ClientTimeout(total=None),
        ) as session:
            await what(session)

    verbs = {"put": put, "small": small, "get": get}
    return chosen(
        work,
        {
            name: lambda what=what: asyncio.run(within(what))
            for name, what in verbs.items()
        },
    )


@candidate(
    "httpx",
    verbs={"put", "small", "get"},
    needs=("httpx",),
    note="one AsyncClient with as many connections; a file is read in blocks of "
    "256 KiB with its length in the header; a download is one connection",
)
def httpx(work: Work, where: Where) -> Timed:
    """Send as the manual of httpx shows."""
    import httpx as http

    urls = signed(work, where)
    trust = _trust(where)

    async def blocks() -> AsyncIterator[bytes]:
        with open(where.files[0], "rb") as file:
            while block := file.read(BLOCK):
                yield block

    async def put(client: Any) -> None:
        length = {"Content-Length": str(work.size)}
        (await client.put(urls[0], content=blocks(), headers=length)).raise_for_status()

    async def small(client: Any) -> None:
        async def one(index: int) -> None:
            body = contents(where.files[index])
            (await client.put(urls[index], content=body)).raise_for_status()

        await _each(work, one)

    async def get(client: Any) -> None:
        async with client.stream("GET", urls[0]) as reply:
            reply.raise_for_status()
            with open(where.download, "wb") as file:
                async for block in reply.aiter_raw(BLOCK):
                    file.write(block)

    async def within(what: Callable[[Any], Awaitable[None]]) -> None:
        limits = http.Limits(
            max_connections=work.concurrency,
            max_keepalive_connections=work.concurrency,
        )
        async with http.AsyncClient(
            limits=limits, verify=trust or True, timeout=600
        ) as client:
            await what(client)

    verbs = {"put": put, "small": small, "get": get}
    return chosen(
        work,
        {
            name: lambda what=what: asyncio.run(within(what))
            for name, what in verbs.items()
        },
    )

"""A store that answers every PUT after a set delay, and does as little as it can.

``python raw_server.py DELAY`` prints its URL and serves until standard input ends. It
answers like OSS, with the CRC-64 of what came, and stores nothing, so that a listing is
empty: what is measured against it is the client.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

from fastcrc import crc64

IDS = itertools.count()  # each reply has one of its own
EMPTY = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


class Store(asyncio.Protocol):
    """One connection: PUT after PUT."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.data = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport) -> None:
        """Keep whom to answer."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is there as a whole."""
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.data[:end]).lower()
            _, found, rest = head.partition(b"content-length:")
            length = int(rest.split(b"\r\n")[0]) if found else 0
            if len(self.data) < end + 4 + length:
                return
            body = bytes(self.data[end + 4 : end + 4 + length])
            del self.data[: end + 4 + length]
            said = EMPTY if head.startswith(b"get") else ""
            reply = (
                f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n"
                'ETag: "5B3C1A2E053D763E1B002CC607C5A0FE"\r\n'
                f"x-oss-request-id: 5C06A3B6{next(IDS):016X}\r\n"
                f"x-oss-hash-crc64ecma: {crc64.xz(body)}\r\n\r\n{said}"
            ).encode()
            delay = 0.0 if said else self.delay
            asyncio.get_running_loop().call_later(delay, self.answer, reply)

    def answer(self, reply: bytes) -> None:
        """Send *reply*, if anybody is there still."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(reply)


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    delay = float(sys.argv[1])
    server = await loop.create_server(
        lambda: Store(delay), "127.0.0.1", 0, backlog=1024
    )
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}", flush=True)  # noqa: T201 - for whoever starts it
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())

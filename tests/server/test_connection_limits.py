"""Clients that say nothing, too little or too much do not hold the signer service."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import AnnouncingServer, listen, settle
from fsspec_osspresigned.server.connection_limits import (
    ConnectionGuard,
    ConnectionLimits,
    raise_file_limit,
)
from tests.server.conftest import pem

LIMITS = ConnectionLimits(
    head=60, body=60, reply=60, idle=60, head_bytes=1000, connections=10, handshake=60
)
SOON = 0.05
HEAD = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CALL = HEAD + b"abcde"

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connect:
    """Connects to a server, and hangs up at the end."""

    def __init__(self, guard: ConnectionGuard, port: int) -> None:
        self.guard = guard
        self.port = port
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self) -> Client:
        """Return one more connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer


async def answer(send: Any, body: bytes = b"ok") -> None:
    """Send a reply."""
    length = str(len(body)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def patient(_: Any, receive: Any, send: Any) -> None:
    """Read the body, then answer; hang up with who hangs up."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        if not message["more_body"]:
            await answer(send)
            break


@contextlib.asynccontextmanager
async def served(
    limits: ConnectionLimits,
    app: Callable[..., Awaitable[None]] = patient,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Connect]:
    """Serve *app*; yield a function that connects to it."""
    guard = ConnectionGuard(limits, tls)
    ready = asyncio.Event()
    config = guard.configure(app, timeout_graceful_shutdown=1)
    server = AnnouncingServer(config, ready.set)
    listener = listen("127.0.0.1", 0)
    connect = Connect(guard, listener.getsockname()[1])
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await ready.wait()
    sweeping = asyncio.create_task(guard.sweep(0.01))
    try:
        yield connect
    finally:
        for writer in connect.writers:
            writer.close()
        sweeping.cancel()
        server.should_exit = True
        await serving


async def end(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the service hangs up."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(1 << 20):
            found += block
    return bytes(found)


async def drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Send *data* again and again, a little at a time, until nobody listens."""
    with contextlib.suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0.005)


async def call(client: Client) -> bytes:
    """Return the reply to one good call, which leaves the connection open."""
    reader, writer = client
    writer.write(CALL)
    return await reader.readuntil(b"ok")


def run(play: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function."""
    asyncio.run(play())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "first", "more"),
    [
        ({"head": SOON}, b"", b""),
        ({"head": SOON}, b"POST / HTTP/1.1\r\n", b"X-A: 1\r\n"),
        ({"idle": SOON}, CALL + b"POST", b""),
        ({"head_bytes": 200}, b"POST / HTTP/1.1\r\n", b"X-A: 1\r\n"),
        ({"head_bytes": 200}, b"POST / HTTP/1.1\r\nX-A: ", b"a" * 20),
        ({"head_bytes": 200}, b"POST /", b"a" * 20),
        ({"body": SOON}, b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", b"a"),
        (
            {"body": SOON},
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\na\r\n",
        ),
        ({"body": SOON}, HEAD, b""),
        ({"idle": SOON}, CALL, b""),
        ({"idle": SOON}, CALL, b"\r\n"),
    ],
)
def test_client_that_does_not_get_on_is_cut_off(limits, first, more):
    """Whatever it sends, each state of a connection has an end."""

    async def play():
        async with served(evolve(LIMITS, **limits)) as connect:
            reader, writer = await connect()
            writer.write(first)
            dripping = asyncio.create_task(drip(writer, more))
            found = await end(reader)
            dripping.cancel()
            assert found.count(b"200 OK") == first.count(CALL)
            assert (await call(await connect())).startswith(b"HTTP/1.1 200")

    run(play)


@pytest.mark.parametrize("request_", [CALL, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"])
def test_every_head_has_an_end(request_):
    """The second request of a connection is not waited for longer than the first."""

    async def play():
        async with served(evolve(LIMITS, head=SOON)) as connect:
            reader, writer = await connect()
            writer.write(request_)
            await reader.readuntil(b"ok")
            writer.write(b"\r\nPOST")
            assert await end(reader) == b""

    run(play)


def test_long_body_is_no_long_head():
    """What comes along with a whole head is not counted as a part of it."""

    async def play():
        async with served(evolve(LIMITS, head_bytes=200)) as connect:
            reader, writer = await connect()
            for _ in range(2):
                writer.write(HEAD.replace(b"5", b"5000") + b"a" * 5000)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    run(play)


def test_early_reply_does_not_excuse_from_ending_the_request():
    """Who is refused before the body is read cannot trickle it for ever."""

    async def early(_, __, send):
        await answer(send)

    async def play():
        async with served(evolve(LIMITS, body=SOON), early) as connect:
            reader, writer = await connect()
            writer.write(HEAD + b"a")
            assert (await end(reader)).endswith(b"ok")
            reader, writer = await connect()
            writer.write(HEAD + b"a")
            await reader.readuntil(b"ok")
            writer.write(b"bcde" + CALL)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    run(play)


@pytest.mark.parametrize("pieces", [1, 200])
def test_client_that_does_not_read_is_cut_off(pieces):
    """A reply that nobody takes is dropped, made at once or bit by bit."""
    seen = []

    async def huge(scope, _, send):
        seen.append(scope)
        size = 20_000_000 // pieces
        headers = [(b"content-length", b"20000000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(pieces):
            more = number < pieces - 1
            message = {"type": "http.response.body", "body": b"x" * size}
            await send({**message, "more_body": more})

    async def play():
        limits = evolve(LIMITS, reply=SOON, body=SOON, idle=SOON)
        async with served(limits, huge) as connect:
            reader, writer = await connect()
            writer.transport.pause_reading()
            writer.write(CALL)
            # Nothing tells the end of a connection, if not the connection.
            while not seen or connect.guard.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            writer.transport.resume_reading()
            assert len(await end(reader)) < 20_000_000

    run(play)


def test_one_connection_too_many_costs_the_one_that_is_idle_longest():
    """The idle go first, then the silent; a call that has begun stays."""

    async def play():
        async with served(evolve(LIMITS, connections=3)) as connect:
            silent, _ = await connect()
            idle = [await connect() for _ in range(2)]
            for client in idle:
                await call(client)
            newcomers = []
            for client in idle:
                newcomers.append(await connect())
                assert await end(client[0]) == b""
            for client in newcomers:
                client[1].write(HEAD)
            await call(await connect())
            assert await end(silent) == b""
            for reader, writer in newcomers:
                writer.write(b"abcde")
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

    run(play)


def test_nobody_is_cut_off_while_served():
    """If all are being served, the newcomer has to come again."""
    begun = asyncio.Event()
    leave = asyncio.Event()

    async def slow(_, __, send):
        begun.set()
        await leave.wait()
        await answer(send)

    async def play():
        async with served(evolve(LIMITS, connections=1), slow) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await begun.wait()
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            newcomer, _ = await connect()
            assert await end(newcomer) == b""
            leave.set()
            for _ in range(2):
                await reader.readuntil(b"ok")

    run(play)


def test_body_that_does_not_come_makes_room():
    """Who announces a body and sends none is cut off before the newcomer is."""

    async def play():
        async with served(evolve(LIMITS, connections=2)) as connect:
            stuck = [await connect() for _ in range(2)]
            for reader, writer in stuck:
                writer.write(
                    HEAD.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
                )
                await reader.readuntil(b"100 Continue\r\n\r\n")
            await call(await connect())
            assert await end(stuck[0][0]) == b""
            stuck[1][1].write(b"abcde")
            await stuck[1][0].readuntil(b"ok")

    run(play)


@pytest.mark.parametrize("alone", [True, False])
def test_pipelined_requests_are_bounded(alone):
    """Requests sent without end and faster than replies do not fill the memory."""
    seen = []

    async def counting(_, __, send):
        seen.append(1)
        await asyncio.sleep(0)
        await answer(send)

    async def play():
        limits = evolve(LIMITS, head_bytes=4096, pipelined=16)
        async with served(limits, counting) as connect:
            reader, writer = await connect()
            request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
            if alone:
                writer.write(request * 10_000)
            else:
                dripping = asyncio.create_task(drip(writer, request * 100))
            found = await end(reader)
            if not alone:
                await dripping
            assert found.count(b"200 OK") < 1000
            assert len(seen) < 1000
            assert (await call(await connect())).startswith(b"HTTP/1.1 200")

    run(play)


def test_few_pipelined_requests_are_answered_in_order():
    """A client may send the next requests before it has the reply to the first."""

    async def named(scope, _, send):
        await answer(send, scope["path"].encode() + b"ok")

    async def play():
        async with served(LIMITS, named) as connect:
            reader, writer = await connect()
            for number in range(10):
                writer.write(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
            for number in range(10):
                assert (await reader.readuntil(b"ok")).endswith(b"/%dok" % number)

    run(play)


@pytest.mark.parametrize(
    ("limits", "more", "answered"),
    [
        ({"headers": 5}, b"A: 1\r\n" * 4, True),
        ({"headers": 5}, b"A: 1\r\n" * 5, False),
        ({"head_bytes": 200}, b"A: " + b"a" * 150 + b"\r\n", True),
        ({"head_bytes": 200}, b"A: " + b"a" * 250 + b"\r\n", False),
    ],
)
def test_heads_have_few_and_short_headers(limits, more, answered):
    """A head that comes whole keeps to the limits, too."""

    async def play():
        async with served(evolve(LIMITS, **limits)) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n" + more + b"\r\n")
            if answered:
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            else:
                assert b"200 OK" not in await end(reader)

    run(play)


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """The TLS side of a server."""
    certificate, key = pem(tmp_path_factory.mktemp("tls"), "server")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    return made


def trusting() -> ssl.SSLContext:
    """Return the TLS side of a client that trusts everybody."""
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


async def secure_call(port: int, data: bytes = CALL) -> bytes:
    """Return the reply to *data* over TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting())
    writer.write(data)
    found = await reader.readuntil(b"ok")
    writer.close()
    await writer.wait_closed()
    return found


@pytest.mark.parametrize("secure", [False, True])
def test_connection_that_is_reset_is_forgotten(context, secure):
    """No timer of the idle time holds it, so resets do not fill the memory."""

    async def play():
        async with served(LIMITS, tls=context if secure else None) as connect:
            made: weakref.WeakSet[object] = weakref.WeakSet()
            for _ in range(5):
                client = await asyncio.open_connection(
                    "127.0.0.1", connect.port, ssl=trusting() if secure else None
                )
                await call(client)
                made.update(connect.guard.connections)
                raw = client[1].get_extra_info("socket")
                linger = struct.pack("ii", 1, 0)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client[1].transport.abort()
            # Nothing tells the end of a connection, if not the connection.
            while connect.guard.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await settle()
            gc.collect()
            # The sweep may still name the last one that it looked at.
            assert len(made) <= 1

    run(play)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01"])
def test_handshake_has_an_end(context, first):
    """A client of a TLS port that says nothing, or too little, is cut off."""

    async def play():
        async with served(evolve(LIMITS, handshake=SOON), tls=context) as connect:
            reader, writer = await connect()
            writer.write(first)
            assert await end(reader) == b""
            assert not connect.guard.connections

    run(play)


def test_client_that_does_not_speak_tls_is_forgotten(context):
    """What is no handshake ends the connection and nothing else."""

    async def play():
        async with served(LIMITS, tls=context) as connect:
            reader, writer = await connect()
            writer.write(CALL)
            assert b"200 OK" not in await end(reader)
            assert not connect.guard.connections
            assert (await secure_call(connect.port)).startswith(b"HTTP/1.1 200")

    run(play)


def test_silent_connections_count_before_their_handshake(context):
    """Connections without a byte do not take the room of those with a call."""

    async def play():
        async with served(evolve(LIMITS, connections=5), tls=context) as connect:
            silent = [await connect() for _ in range(20)]
            for reader, _ in silent[:15]:
                assert await end(reader) == b""
            assert (await secure_call(connect.port)).startswith(b"HTTP/1.1 200")
            assert len(connect.guard.connections) <= 5

    run(play)


def test_newcomer_to_a_busy_tls_port_is_refused(context):
    """While all are being served, it is cut off before its handshake."""
    begun, leave = asyncio.Event(), asyncio.Event()

    async def slow(_, __, send):
        begun.set()
        await leave.wait()
        await answer(send)

    async def play():
        async with served(evolve(LIMITS, connections=1), slow, context) as connect:
            calling = asyncio.create_task(
                secure_call(connect.port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            )
            await begun.wait()
            newcomer, _ = await connect()
            assert await end(newcomer) == b""
            leave.set()
            assert (await calling).startswith(b"HTTP/1.1 200")

    run(play)


def test_call_that_comes_with_the_end_of_the_handshake_is_answered(context):
    """The bytes that travel together with the client's last word of TLS are kept."""

    async def play():
        async with served(LIMITS, tls=context) as connect:
            reader, writer = await connect()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = trusting().wrap_bio(incoming, outgoing)
            for _ in range(10):
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))
            client.write(CALL)
            writer.write(outgoing.read())
            found = b""
            while not found.endswith(b"ok"):
                incoming.write(await reader.read(1 << 16))
                with contextlib.suppress(ssl.SSLWantReadError):
                    while True:
                        found += client.read(1 << 16)
            assert found.startswith(b"HTTP/1.1 200")

    run(play)


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "fit"),
    [
        (256, 4096, 2064, 1000),
        (256, 512, 512, 224),
        (32, 32, 32, 1),
        (256, resource.RLIM_INFINITY, 2064, 1000),
        (4096, 4096, None, 1000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 1000),
    ],
)
def test_connections_fit_into_the_limit_of_files(monkeypatch, soft, hard, raised, fit):
    """A connection that cannot be accepted for want of files would stop all."""
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    assert raise_file_limit(1000) == fit
    assert asked == ([] if raised is None else [(raised, hard)])

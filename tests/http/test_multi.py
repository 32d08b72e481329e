"""Many small requests at once on the loop, and what servers do to each of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from fsspec_osspresigned.engine.engine import run, running
from fsspec_osspresigned.engine.scope import Scope
from fsspec_osspresigned.errors import (
    NetworkError,
    NetworkTimeoutError,
    OSSPresignedError,
    SourceChangedError,
)
from fsspec_osspresigned.http.body import SMALL, FileBody, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.handle import addresses_of
from fsspec_osspresigned.http.multi import Multi
from fsspec_osspresigned.http.transfer import Exchange, LargeReplyError
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from tests.engine_calls import Call
from tests.http.conftest import Peer, Server

SECONDS = 20.0  # a window that no busy machine lets pass


class Loop:
    """A transport that sends by the loop; ends with the test."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.transport = Transport(progress_timeout=seconds, allow_http=True)

    async def _send(
        self,
        url: str,
        data: Any = b"",
        method: str = "PUT",
        headers: Any = None,
        path: str | None = None,
        **facts: Any,
    ) -> Any:
        body = data if hasattr(data, "blocks") else MemoryBody(data)
        signed = SignedRequest(method=method, url=url, headers=headers)
        exchange = Exchange(with_crc=True, **facts)
        try:
            return await self.transport.send(signed, body, exchange, path)
        except LargeReplyError:  # as a client does
            exchange = evolve(exchange, in_thread=True)
            return await self.transport.send(signed, body, exchange, path)

    def send(self, *args: Any, **facts: Any) -> Any:
        """Send one request, and return its reply."""
        return run(self._send, *args, **facts)

    def begin(self, *args: Any, **facts: Any) -> Call:
        """Begin a request with the data, or the body."""

        async def send() -> Any:
            return await self._send(*args, **facts)

        return Call(send).begin()

    def send_all(self, jobs: list[tuple[Any, ...]], width: int = 64) -> list[Any]:
        """Send requests at once; return their replies and errors in order."""

        async def send(job: tuple[Any, ...]) -> Any:
            return await self._send(*job)

        async def main() -> list[Any]:
            scope = Scope(send, lambda job: job[0], width=width, on_error="return")
            return await scope.run(jobs)

        return run(main)


@pytest.fixture
def loop() -> Iterator[Callable[..., Loop]]:
    """Make senders, which are closed at the end, and look for what they leave."""
    made: list[Loop] = []

    def make(**facts: Any) -> Loop:
        made.append(Loop(**facts))
        return made[-1]

    yield make
    for each in made:
        each.transport.close()
    assert run(busy) == 0


async def busy() -> int:
    """Return the number of handles that the loop's multi has in use."""
    return len(running().owned[Multi]._busy)


def polite(peer: Peer) -> None:
    """Answer each request with its own target as the ETag."""
    while head := peer.request():
        name = head.split(b" ")[1].decode()
        peer.answer(f"ETag: {name}", f"x-oss-request-id: {name}")


def silent(peer: Peer) -> None:
    """Read a request, and say nothing."""
    peer.request()
    peer.server.done.wait()


# -- kept connections -------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("data", [b"", b"2"])
def test_request_on_a_connection_that_ends_is_not_sent_again(loop, serve, way, data):
    """The server may have acted on it, so its caller decides."""

    def dying(peer: Peer) -> None:
        peer.request()
        peer.answer()
        peer.request()
        (peer.reset if way == "reset" else peer.sock.close)()

    server: Server = serve(dying, polite)
    sender = loop()
    sender.send(f"{server.origin}/b/1", b"1")
    with pytest.raises(NetworkError) as caught:
        sender.send(f"{server.origin}/b/2", data)
    assert caught.value.sent
    assert server.targets == ["/b/1", "/b/2"]


# -- failures ---------------------------------------------------------------------------


def test_stall_of_one_delays_no_other(loop, serve):
    """A server that says nothing makes its own request fail, by the progress timeout."""
    quiet: Server = serve(silent)
    server: Server = serve(polite)
    sender = loop(seconds=1.0)
    stalled = sender.begin(f"{quiet.origin}/b/stalled", b"abc")
    for number in range(3):
        assert sender.send(f"{server.origin}/b/{number}").status == 200
    assert not stalled.has_ended
    error = stalled.wait()
    assert isinstance(error, NetworkTimeoutError)
    assert "while waiting for the answer: 3 of 3 bytes sent" in str(error)
    assert error.sent


@pytest.mark.parametrize("kept", [False, True], ids=["body", "sink"])
def test_reply_in_tiny_chunks_is_an_error(loop, serve, kept):
    """A megabyte of them would hold up the loop for seconds."""

    def tiny(peer: Peer) -> None:
        peer.request()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        peer.sock.sendall(b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n")

    server: Server = serve(tiny)
    sink = Kept() if kept else None
    with pytest.raises(NetworkError, match="comes in tiny pieces"):
        loop().send(f"{server.origin}/b/1", method="GET", sink=sink)


def test_failures_of_the_caller_are_its_own(loop, serve, tmp_path):
    """A file that changed and a callback that fails end one request."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    body = FileBody.of(str(path))
    path.write_bytes(b"another")

    def fail(count: int) -> None:
        raise ValueError("the bar is broken")

    server: Server = serve(polite)
    sender = loop()
    calls = [
        sender.begin(f"{server.origin}/b/1", body),
        sender.begin(f"{server.origin}/b/2", b"x", progress=fail),
        sender.begin(f"{server.origin}/b/3", b"x"),
    ]
    changed, failed, reply = (call.wait() for call in calls)
    assert isinstance(changed, SourceChangedError)
    assert isinstance(failed, ValueError)
    assert reply.status == 200


@pytest.mark.parametrize("blocks", [[b"ab"], [], [b"ab", b"cd"]])
def test_body_of_another_size_is_not_sent(loop, serve, blocks):
    """Fewer or more bytes than announced are no object."""

    class Wrong:
        size = 3

        def blocks(self) -> Iterator[memoryview]:
            yield from map(memoryview, blocks)

    server: Server = serve(polite)
    with pytest.raises(NetworkError, match=r"ends after \d of 3 bytes") as caught:
        loop().send(f"{server.origin}/b/1", Wrong())
    assert not caught.value.sent
    assert server.heads == []


def test_progress_is_reported_in_a_thread(loop, serve):
    """A callback may wait, and use a filesystem; the loop goes on meanwhile."""
    server: Server = serve(polite)
    sender, counts = loop(), []

    def progress(count: int) -> None:
        assert sender.send(f"{server.origin}/b/inner").status == 200
        counts.append(count)

    assert sender.send(f"{server.origin}/b/1", b"abc", progress=progress).status == 200
    assert counts == [3]


# -- large replies ----------------------------------------------------------------------


class Kept:
    """Keeps the body of a reply, and counts its beginnings."""

    def __init__(self) -> None:
        self.data, self.begun = b"", 0

    def begin(self) -> None:
        self.data = b""
        self.begun += 1

    def write(self, block: bytes) -> None:
        self.data += block


@pytest.mark.parametrize("chunked", [False, True])
def test_large_reply_is_read_by_a_thread(loop, serve, chunked):
    """An object that is large, or of unknown size, is asked for once more, and whole."""
    data = bytes(range(256)) * (2 * SMALL // 256)

    def generous(peer: Peer) -> None:
        while peer.request():
            if chunked:
                peer.sock.sendall(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
                )
            else:
                peer.answer(body=data)

    server, kept = serve(generous), Kept()
    reply = loop().send(f"{server.origin}/b/1", method="GET", sink=kept)
    assert (reply.status, reply.body) == (200, b"")
    assert (kept.data, kept.begun) == (data, 1)
    assert (len(server.heads), server.accepted) == (2, 2)
    server.threads[1].join(SECONDS)
    assert not server.threads[1].is_alive()  # the loop's connection is closed


# -- cancellation -----------------------------------------------------------------------


def until_closed(peer: Peer) -> None:
    """Say that a request has begun, and that its connection was closed."""
    peer.request()
    peer.server.asked.set()
    while peer.sock.recv(65536):
        pass
    peer.server.done.set()


def test_cancelled_request_closes_its_connection(loop, serve):
    """Its reply must reach no other request, and the loop continues."""
    server: Server = serve(until_closed, polite)
    server.asked = threading.Event()
    sender = loop()
    call = sender.begin(f"{server.origin}/b/1", method="GET")
    assert server.asked.wait(SECONDS)
    assert run(busy) == 1
    call.cancel()
    assert isinstance(call.wait(), asyncio.CancelledError)
    assert run(busy) == 0
    assert server.done.wait(SECONDS)
    assert sender.send(f"{server.origin}/b/2").headers["etag"] == "/b/2"


def test_cancelled_request_that_may_act_waits_for_its_reply(loop, serve):
    """A second cancellation ends the wait; both say that the outcome is unknown."""
    server: Server = serve(until_closed)
    server.asked = threading.Event()
    call = loop().begin(f"{server.origin}/b/1", b"x", path="b/1", grace=SECONDS)
    assert server.asked.wait(SECONDS)
    call.cancel()
    assert not call.has_ended
    call.cancel()
    error = call.wait(SECONDS / 2)
    assert isinstance(error, asyncio.CancelledError)
    assert error.__notes__ == [
        "whether the PUT of b/1 took effect is unknown: it was sent, and not answered"
    ]


# -- any order of events -----------------------------------------------------------------


class Chaos:
    """A server that does with each request what seeded dice say.

    It remembers the target of each request that it has read as a whole, and what it did.
    """

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - repeatable
        self.did: list[tuple[str, str, bytes]] = []

    def __call__(self, peer: Peer) -> None:
        while head := peer.request():
            name, body = head.split(b" ")[1].decode(), peer.body
            deed = self._dice.choice(
                [
                    *("good", "good", "good", "pieces", "closing", "stray", "refuse"),
                    *("cut", "reset", "silent", "garbage", "early"),
                ]
            )
            self.did.append((name, deed, body))
            if not self._do(peer, deed, name):
                return

    def _do(self, peer: Peer, deed: str, name: str) -> bool:
        """Answer; return whether the connection continues."""
        text = (
            f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: {name}\r\n"
            f"x-oss-request-id: {name}\r\n\r\nok"
        )
        if deed == "pieces":
            at = self._dice.randrange(1, len(text))
            peer.sock.sendall(text[:at].encode())
            peer.server.done.wait(0.01)
            peer.sock.sendall(text[at:].encode())
        elif deed == "stray":
            peer.sock.sendall((text + text).encode())
        elif deed == "refuse":
            peer.answer(f"x-oss-request-id: {name}", status="503 No", body=b"busy")
        elif deed == "cut":
            peer.sock.sendall(text[: self._dice.randrange(1, len(text))].encode())
        elif deed == "garbage":
            peer.sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
        elif deed == "reset":
            peer.reset()
        elif deed == "silent":
            peer.server.done.wait()
        elif deed == "early":
            peer.sock.sendall(text.encode())
            peer.sock.shutdown(socket.SHUT_WR)
        elif deed != "closing":
            peer.sock.sendall(text.encode())
        else:
            closing = text.replace("ETag", "Connection: close\r\nETag")
            peer.sock.sendall(closing.encode())
        return deed in ("good", "pieces", "refuse")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_any_order_of_replies_closes_and_stalls(
    loop, serve, authority, certified, monkeypatch, seed, tls
):
    """Each request ends once, with its own reply or one error, whatever others meet.

    A property: the dice of the server are seeded.
    """
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.file)
    chaos = Chaos(seed)

    def secure(peer: Peer) -> None:
        if tls:
            peer.secure(certified)
        chaos(peer)

    server: Server = serve(secure)
    origin = server.origin.replace("http", "https") if tls else server.origin
    jobs = [(f"{origin}/b/{n}", b"%d" % n * (1 + 997 * n % 3000)) for n in range(60)]
    outcomes = loop(seconds=1.0).send_all(jobs, width=8)
    read = {name: body for name, _, body in chaos.did}
    for (url, data), outcome in zip(jobs, outcomes, strict=True):
        name = url.removeprefix(origin)
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, OSSPresignedError)
        elif outcome.status == 200:
            assert outcome.headers["etag"] == name
            assert outcome.crc64 == crc64(data)
            assert read[name] == data
        else:
            assert outcome.headers["x-oss-request-id"] == name
            assert outcome.body == b"busy"
    # A request was sent twice only if nothing of the first one went out.
    assert len(chaos.did) == len({name for name, *_ in chaos.did})


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_forked_child_has_no_connection_of_its_parent(loop, serve):
    """Else a connection that the parent closes would stay open, and be always ready there."""
    server: Server = serve(polite)
    sender = loop()
    assert len(sender.send_all([(f"{server.origin}/b/{n}",) for n in range(4)])) == 4
    before = server.accepted
    child = os.fork()
    if not child:
        held = 0
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError, ValueError):
                held += addresses_of(int(name)) in open_ones(server)
        os._exit(held)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sender.send(f"{server.origin}/b/5").status == 200
    assert server.accepted == before


def open_ones(server: Server) -> set[Any]:
    """Return the addresses of the connections of *server*, as its clients see them."""
    pairs = ((sock.getsockname(), sock.getpeername()) for sock in server.socks)
    return {(own[0], peer[0], own[1], peer[1]) for own, peer in pairs}

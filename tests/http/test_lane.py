"""The lane: many requests at once by one thread, and what servers do to each of them."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fsspec_osspresigned.concurrency.thread_pool import Workers
from fsspec_osspresigned.concurrency.waiting import Event
from fsspec_osspresigned.errors import (
    NetworkError,
    NetworkTimeoutError,
    OSSPresignedError,
    SourceChangedError,
    UploadDiscardedError,
)
from fsspec_osspresigned.http.body import BLOCK, FileBody, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.lane import Lane, LaneTry
from fsspec_osspresigned.http.transport import Exchange, Transport
from fsspec_osspresigned.model import SignedRequest
from tests.http.conftest import Peer, Server

SECONDS = 20.0  # a window that no busy machine lets pass


class Road:
    """A lane with its transport and its openers; ends with the test."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.transport = Transport(progress_timeout=seconds, allow_http=True)
        self.openers = Workers("openers", 8)
        self.lane = Lane(self.transport, self.openers)

    def start(self, url: str, data: Any = b"", **facts: Any) -> LaneTry:
        """Begin a PUT of *data*, or of a body."""
        body = data if hasattr(data, "blocks") else MemoryBody.of(data)
        signed = SignedRequest(method="PUT", url=url)
        one = LaneTry(signed, body, Exchange(with_crc=True, **facts))
        self.lane.send(one)
        return one

    def wait_for(self, *tries: LaneTry) -> None:
        """Wait until all *tries* have ended."""
        left = set(tries)
        while left:
            left -= set(self.lane.wait(1.0))


@pytest.fixture
def road() -> Iterator[Callable[..., Road]]:
    """Make lanes, which are closed at the end."""
    made: list[Road] = []

    def make(**facts: Any) -> Road:
        made.append(Road(**facts))
        return made[-1]

    yield make
    for one in made:
        one.lane.close()
        one.transport.close()


def polite(peer: Peer) -> None:
    """Answer each request with its own target as the ETag."""
    while head := peer.request():
        name = head.split(b" ")[1].decode()
        peer.answer(f"ETag: {name}", f"x-oss-request-id: {name}")


def test_requests_share_few_connections(road, serve):
    """Each request gets its own answer, and a connection carries one after the other."""
    server: Server = serve(polite)
    one = road()
    tries = [one.start(f"{server.origin}/b/{n}", b"x" * n) for n in range(8)]
    one.wait_for(*tries)
    more = [one.start(f"{server.origin}/b/{n}", b"x" * n) for n in range(8, 40)]
    one.wait_for(*more)
    for number, each in enumerate((*tries, *more)):
        assert each.failure is None
        assert each.reply.headers["etag"] == f"/b/{number}"
        assert each.reply.crc64 == crc64(b"x" * number)
        assert each.reply.body_bytes == number
    assert server.accepted <= 32


def test_connections_go_back_to_the_pool(road, serve):
    """What the lane opened carries a request of the transport, and the other way round."""
    server: Server = serve(polite)
    one = road()
    one.wait_for(one.start(f"{server.origin}/b/1"))
    one.lane.wait(0.0)
    signed = SignedRequest(method="PUT", url=f"{server.origin}/b/2")
    assert one.transport.send(signed).status == 200
    one.wait_for(one.start(f"{server.origin}/b/3"))
    assert server.accepted == 1


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, BLOCK])
def test_bodies_of_all_sizes_arrive(road, serve, tmp_path, size):
    """From memory and from a file, also where a peer takes little at a time."""
    data = random.Random(size).randbytes(size)  # noqa: S311 - repeatable
    path = tmp_path / "file"
    path.write_bytes(data)
    server: Server = serve(polite, small=True)
    one = road()
    tries = [
        one.start(f"{server.origin}/b/1", data),
        one.start(f"{server.origin}/b/2", FileBody.of(str(path))),
    ]
    one.wait_for(*tries)
    assert [each.failure for each in tries] == [None, None]
    assert server.bodies == [data, data]


def test_connection_closed_while_idle_costs_no_try(road, serve):
    """A connection that ended in the pool is replaced, and nothing is told of it."""

    def once(peer: Peer) -> None:
        peer.request()
        peer.answer()

    server: Server = serve(once, polite)
    one = road()
    one.wait_for(one.start(f"{server.origin}/b/1"))
    one.lane.wait(0.0)
    for thread in server.threads[1:]:
        thread.join(10)
    again = one.start(f"{server.origin}/b/2")
    one.wait_for(again)
    assert again.failure is None
    assert server.accepted == 2


def test_stray_bytes_end_a_connection(road, serve):
    """What comes behind a response is never the beginning of another one."""
    told = Event()

    def talkative(peer: Peer) -> None:
        peer.request()
        peer.answer("ETag: first")
        peer.answer("ETag: stray")
        told.set()
        peer.server.done.wait()

    server: Server = serve(talkative, polite)
    one = road()
    first = one.start(f"{server.origin}/b/1")
    one.wait_for(first)
    assert told.wait(10)
    again = one.start(f"{server.origin}/b/2")
    one.wait_for(again)
    assert again.failure is None
    assert again.reply.headers["etag"] == "/b/2"


def test_stall_of_one_delays_no_other(road, serve):
    """A server that says nothing makes its own request fail, by the progress timeout."""

    def silent(peer: Peer) -> None:
        peer.request()
        peer.server.done.wait()

    quiet: Server = serve(silent)
    server: Server = serve(polite)
    one = road(seconds=1.0)
    stalled = one.start(f"{quiet.origin}/b/stalled", b"abc")
    others = [one.start(f"{server.origin}/b/{n}") for n in range(3)]
    one.wait_for(*others)
    assert stalled.failure is None
    one.wait_for(stalled)
    assert isinstance(stalled.failure, NetworkTimeoutError)
    assert "while waiting for the answer: 3 of 3 bytes sent" in str(stalled.failure)
    assert stalled.failure.sent


def test_no_connection_is_the_end_of_one_try(road, serve):
    """A port that refuses fails the requests to it."""
    server: Server = serve(polite)
    server.close()
    one = road()
    refused = one.start(f"{server.origin}/b/1")
    one.wait_for(refused)
    assert isinstance(refused.failure, NetworkError)
    assert not refused.failure.sent


def test_refusal_before_the_end_of_a_body_is_the_reply(road, serve):
    """An answer that comes while bytes are still to be sent ends the sending."""

    def hasty(peer: Peer) -> None:
        peer.head()
        peer.answer(status="403 Forbidden", body=b"no")
        peer.server.done.wait()

    server: Server = serve(hasty, small=True)
    one = road()
    refused = one.start(f"{server.origin}/b/1", bytes(128 * BLOCK))
    one.wait_for(refused)
    assert refused.failure is None
    assert (refused.reply.status, refused.reply.body) == (403, b"no")
    assert refused.reply.body_bytes < 128 * BLOCK


def test_failures_of_the_caller_are_its_own(road, serve, tmp_path):
    """A file that changed, a cancellation and a callback that fails end one request."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    body = FileBody.of(str(path))
    path.write_bytes(b"another")
    gone = Event()
    gone.set()

    def fail(count: int) -> None:
        if count > 0:
            raise ValueError("the bar is broken")

    server: Server = serve(polite)
    one = road()
    tries = [
        one.start(f"{server.origin}/b/1", body),
        one.start(f"{server.origin}/b/2", b"x", cancel=gone),
        one.start(f"{server.origin}/b/3", b"x", progress=fail),
        one.start(f"{server.origin}/b/4", b"x"),
    ]
    one.wait_for(*tries)
    kinds = [type(each.failure) for each in tries]
    assert kinds == [SourceChangedError, UploadDiscardedError, ValueError, type(None)]


def test_requests_go_through_tls(road, serve, authority, certified, monkeypatch):
    """TLS is spoken without waiting, and connections are used again."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.file)

    def secure(peer: Peer) -> None:
        peer.secure(certified)
        polite(peer)

    server: Server = serve(secure, small=True)
    one = road()
    origin = server.origin.replace("http", "https")
    data = random.Random(1).randbytes(BLOCK)  # noqa: S311 - repeatable
    first = [one.start(f"{origin}/b/{n}", data) for n in range(4)]
    one.wait_for(*first)
    tries = [one.start(f"{origin}/b/{n}", data) for n in range(4, 8)]
    one.wait_for(*tries)
    for number, each in enumerate((*first, *tries)):
        assert each.failure is None
        assert each.reply.headers["etag"] == f"/b/{number}"
    assert server.bodies == [data] * 8
    assert server.accepted <= 8


def test_end_of_a_lane_closes_what_is_open(road, serve):
    """Requests under way are dropped with their connections, also one that is opened late."""
    seen = Event()

    def silent(peer: Peer) -> None:
        seen.set()
        while peer.sock.recv(65536):
            pass
        peer.server.done.set()

    server: Server = serve(silent)
    one = road()
    one.start(f"{server.origin}/b/1", b"abc")
    while not seen.is_set():
        one.lane.wait(0.1)
    one.lane.close()
    assert server.done.wait(20)
    one.lane.wake()  # a worker that comes late


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
            name, body = head.split(b" ")[1].decode(), peer.server.bodies[-1]
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
        """Answer; return whether the connection goes on."""
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
    road, serve, authority, certified, monkeypatch, seed, tls
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
    one, count, width = road(seconds=2.0), 60, 8
    waiting = {f"/b/{n}": b"%d" % n * (1 + 997 * n % 3000) for n in range(count)}
    names: dict[LaneTry, str] = {}
    ended: dict[str, LaneTry] = {}
    while waiting or len(ended) < count:
        while waiting and len(names) - len(ended) < width:
            name, data = waiting.popitem()
            names[one.start(origin + name, data)] = name
        for each in one.lane.wait(1.0):
            assert names[each] not in ended
            ended[names[each]] = each
    read = {name: body for name, _, body in chaos.did}
    for name, each in ended.items():
        assert (each.reply is None) is not (each.failure is None)
        if each.reply is None:
            assert isinstance(each.failure, OSSPresignedError)
        elif each.reply.status == 200:
            assert each.reply.headers["etag"] == name
            assert each.reply.crc64 == crc64(read[name])
        else:
            assert each.reply.headers["x-oss-request-id"] == name
            assert each.reply.body == b"busy"
    # A request was sent twice only if nothing of the first one went out.
    assert len(chaos.did) == len({name for name, *_ in chaos.did})


def test_tls_in_tls_is_left_to_others(road, monkeypatch):
    """The lane makes no try where TLS goes through TLS, and says so."""
    monkeypatch.setenv("https_proxy", "https://127.0.0.1:1")
    one = road()
    left = one.start("https://b.example/1")
    one.wait_for(left)
    assert left.reply is None
    assert left.failure is None

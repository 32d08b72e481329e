"""The lane: many requests at once by one thread, and what servers do to each of them."""

from __future__ import annotations

import random
import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fsspec_osspresigned.concurrency.waiting import Event
from fsspec_osspresigned.errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
    OSSPresignedError,
    SourceChangedError,
    UploadDiscardedError,
)
from fsspec_osspresigned.http.body import BLOCK, SMALL, FileBody, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.exchange import Exchange
from fsspec_osspresigned.http.lane import Lane, LaneTry
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from tests.http.conftest import Peer, Server

SECONDS = 20.0  # a window that no busy machine lets pass


class Road:
    """A lane with its transport; ends with the test."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.transport = Transport(progress_timeout=seconds, allow_http=True)
        self.lane = Lane(self.transport)

    def start(
        self,
        url: str,
        data: Any = b"",
        method: str = "PUT",
        headers: Any = None,
        **facts: Any,
    ) -> LaneTry:
        """Begin a request with *data*, or with a body."""
        body = data if hasattr(data, "blocks") else MemoryBody.of(data)
        signed = SignedRequest(method=method, url=url, headers=headers)
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
    """What one lane opened carries the requests of the next lane."""
    server: Server = serve(polite)
    one = road()
    one.wait_for(one.start(f"{server.origin}/b/1"))
    one.lane.close()
    one.lane = Lane(one.transport)
    one.wait_for(one.start(f"{server.origin}/b/2"))
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


def test_server_that_has_gone(road, serve):
    """A kept connection that was closed, and a port where no server listens, are a failure."""
    server: Server = serve(polite)
    one = road()
    one.wait_for(one.start(f"{server.origin}/b/1"))
    server.close()
    last = one.start(f"{server.origin}/b/2")
    one.wait_for(last)
    assert isinstance(last.failure, NetworkError)


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


def test_each_server_has_its_own_connections(road, serve):
    """A connection that is free carries no request to another server."""
    first: Server = serve(polite)
    second: Server = serve(polite)
    one = road()
    one.wait_for(one.start(f"{first.origin}/b/1"))
    one.wait_for(one.start(f"{second.origin}/b/2"))
    assert (first.targets, second.targets) == (["/b/1"], ["/b/2"])


def test_body_waits_for_a_busy_server(road, serve):
    """A large body goes on when the server reads again, and the connection stays."""
    reads, data = Event(), bytes(128 * BLOCK)

    def busy(peer: Peer) -> None:
        assert reads.wait(SECONDS)
        polite(peer)

    server: Server = serve(busy)
    one = road()
    large = one.start(f"{server.origin}/b/1", data)
    assert one.lane.wait(0.1) == []
    reads.set()
    one.wait_for(large)
    assert large.failure is None
    assert large.reply.headers["etag"] == "/b/1"
    assert server.bodies == [data]
    one.wait_for(one.start(f"{server.origin}/b/2"))
    assert server.accepted == 1


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


def test_a_refusal_in_tiny_chunks_delays_no_other(road, serve):
    """Few of its bytes are bytes of the body, so the lane must not wait for more."""
    sent, other = Event(), Event()

    def tiny(peer: Peer) -> None:
        peer.request()
        peer.sock.sendall(
            b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        peer.sock.sendall(b"1\r\nx\r\n" * 30_000)
        sent.set()
        other.wait()
        peer.sock.sendall(b"0\r\n\r\n")

    def prompt(peer: Peer) -> None:
        peer.request()
        other.set()
        peer.answer()

    server: Server = serve(tiny, prompt)
    one = road()
    refused = one.start(f"{server.origin}/b/1")
    while not sent.is_set():
        one.lane.wait(0.01)
    one.wait_for(one.start(f"{server.origin}/b/2"), refused)
    assert refused.failure is None
    assert (refused.reply.status, refused.reply.body) == (403, b"x" * 30_000)


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


class Kept:
    """Keeps the body of a reply."""

    def __init__(self) -> None:
        self.data = b""

    def begin(self) -> None:
        self.data = b""

    def write(self, block: bytes) -> None:
        self.data += block


@pytest.mark.parametrize("line", [f"Content-Length: {2 * SMALL}", "Connection: close"])
def test_large_bodies_are_left_to_others(road, serve, line):
    """A body that is large, or tells no size, is not read by the lane."""

    def generous(peer: Peer) -> None:
        peer.request()
        peer.sock.sendall(f"HTTP/1.1 200 OK\r\n{line}\r\n\r\nsome".encode())
        peer.sock.recv(1)

    server: Server = serve(generous)
    one, kept = road(), Kept()
    large = one.start(f"{server.origin}/b/1", method="GET", sink=kept)
    one.wait_for(large)
    assert large.reply is None
    assert large.failure is None
    assert kept.data == b""
    server.threads[-1].join(SECONDS)
    assert not server.threads[-1].is_alive()  # the connection is closed


@pytest.mark.parametrize(
    ("url", "headers"),
    [("ftp://127.0.0.1/b/1", None), ("http://127.0.0.1/b/1", {"x": "a\nb"})],
    ids=["url", "header"],
)
def test_request_that_cannot_be_sent_ends_alone(road, serve, url, headers):
    """What may not be sent as it is fails, and the others go on."""
    server: Server = serve(polite)
    one = road()
    wrong = one.start(url, headers=headers)
    right = one.start(f"{server.origin}/b/2")
    one.wait_for(wrong, right)
    assert isinstance(wrong.failure, ConfigurationError)
    assert right.failure is None


def test_callback_that_fails_at_the_taking_back_is_told(road, serve):
    """Its error is the one of the try whose bytes it was to subtract."""

    def cut(peer: Peer) -> None:
        peer.request()

    def fail(count: int) -> None:
        if count < 0:
            raise ValueError("the bar is broken")

    server: Server = serve(cut)
    one = road()
    failed = one.start(f"{server.origin}/b/1", b"x", progress=fail)
    one.wait_for(failed)
    assert isinstance(failed.failure, ValueError)


def test_lane_without_descriptors_keeps_none(monkeypatch):
    """What was opened before the last one was refused is closed."""
    made: list[socket.socket] = []
    pair = socket.socketpair

    def made_pair() -> tuple[socket.socket, socket.socket]:
        made.extend(pair())
        return made[0], made[1]

    def refuse() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", made_pair)
    monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        Lane(Transport())
    assert [each.fileno() for each in made] == [-1, -1]


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


def test_connection_that_opens_after_the_end_is_closed(
    road, serve, authority, certified, monkeypatch
):
    """The end of a lane in the middle of a handshake leaves nothing open."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.file)
    come, goes_on = Event(), Event()

    def slow(peer: Peer) -> None:
        come.set()
        assert goes_on.wait(SECONDS)
        peer.secure(certified)
        peer.sock.recv(1)

    server: Server = serve(slow)
    one = road()
    one.start(server.origin.replace("http", "https") + "/b/1")
    while not come.is_set():
        one.lane.wait(0.1)
    one.lane.close()
    goes_on.set()
    server.threads[-1].join(SECONDS)
    assert not server.threads[-1].is_alive()


def test_end_of_a_lane_closes_what_has_not_begun(road, serve):
    """One request failed: the connection of the other one is closed."""

    def silent(peer: Peer) -> None:
        while peer.sock.recv(65536):
            pass
        peer.server.done.set()

    closed: Server = serve(polite)
    server: Server = serve(silent)
    closed.close()
    one = road()
    failed = one.start(f"{closed.origin}/b/1")
    one.start(f"{server.origin}/b/2")
    one.wait_for(failed)
    one.lane.close()
    assert server.done.wait(SECONDS)


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

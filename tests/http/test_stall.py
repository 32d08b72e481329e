"""A slow connection is fine and a stalled one is not, in every phase of a request."""

from __future__ import annotations

import time

import pytest

from fsspec_osspresigned.errors import NetworkTimeoutError
from fsspec_osspresigned.http.body import BLOCK, MemoryBody
from tests.http.conftest import Sink

QUERY = "/k?x-oss-signature=TOPSECRET"
WINDOW = 0.1
LONG = 0.5  # a window that must not end: a busy machine rests for a tenth and more
MIB = 1024 * 1024


def stall(peer):
    """Read nothing and send nothing."""
    peer.server.done.wait(10)


def times_out(send, server, words, *args, **kwargs):
    """Return the error of a request that must run into its window."""
    kwargs.setdefault("seconds", WINDOW)
    with pytest.raises(NetworkTimeoutError, match=words) as caught:
        send(server.origin + QUERY, *args, path="b/k", **kwargs)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.path == "b/k"
    assert error.sent is ("while sending" not in error.message)
    window = f"{kwargs['seconds']:g} s"
    assert f"no progress with {server.netloc} for {window} while" in error.message
    assert "TOPSECRET" not in str(error)
    return error


# -- sending ----------------------------------------------------------------------------


def test_peer_that_does_not_read(serve, send_by_thread):
    """The error names the phase, the seconds, and how much had gone out."""
    body = MemoryBody(bytes(64 * BLOCK))
    error = times_out(send_by_thread, serve(stall, small=True), "while sending: ", body)
    sent, _, size = error.message.partition("sending: ")[2].split()[:3]
    assert (int(sent) % BLOCK, int(size)) == (0, 64 * BLOCK)
    assert int(sent) < int(size)


def test_peer_that_reads_slowly(serve, send_by_thread):
    """Windows pass one after the other."""
    size = 8 * MIB

    def slowly(peer):
        peer.head()
        left = size - len(peer.ahead)
        while left:
            peer.server.done.wait(0.02)
            left -= len(peer.sock.recv(min(left, 128 * 1024)))
        peer.answer()

    server = serve(slowly)
    started = time.monotonic()
    body = MemoryBody(bytes(size))
    reply = send_by_thread(server.origin + QUERY, body, seconds=LONG)
    assert (reply.status, reply.body_bytes) == (200, size)
    assert time.monotonic() - started > LONG  # or the test shows nothing


# -- the answer -------------------------------------------------------------------------


def test_no_answer(serve, send):
    """Silence after a whole request leaves its outcome unknown."""

    def silent(peer):
        peer.request()
        stall(peer)

    server = serve(silent)
    times_out(
        send, server, "waiting for the answer: 3 of 3 bytes sent", MemoryBody(b"abc")
    )


# Each body takes five seconds, on the loop and in a thread.
@pytest.mark.parametrize("part", ["head", pytest.param("body", marks=pytest.mark.slow)])
def test_answer_that_drips_for_ever(serve, send, part):
    """Steady drops are progress; all but an object must be there in ten windows."""
    start = b"HTTP/1.1 200 OK\r\nX: " if part == "head" else b"HTTP/1.1 200 OK\r\n\r\n"

    def drip(peer):
        peer.request()
        peer.sock.sendall(start)
        while not peer.server.done.wait(0.01):
            peer.sock.sendall(b"x" * 100)

    words = "no progress" if part == "head" else "took too long in all, while"
    with pytest.raises(NetworkTimeoutError, match=words):
        send(serve(drip).origin + QUERY, MemoryBody(b"abc"), seconds=LONG)


def test_object_may_take_its_time(serve, send_by_thread):
    """A download may take many windows, and the time of its sink does not count."""
    window = 0.3

    class Slow(Sink):
        def write(self, block):
            time.sleep(6 * window)
            return super().write(block)

    server = serve(lambda peer: peer.request() and peer.answer(body=bytes(40_000)))
    sink = Slow()
    send_by_thread(server.origin + QUERY, method="GET", seconds=window, sink=sink)
    assert len(sink.getvalue()) == 40_000


# -- connecting -------------------------------------------------------------------------


def test_tls_that_does_not_begin(serve, send):
    """Silence in the handshake is a connection that never was."""
    server = serve(stall)
    with pytest.raises(NetworkTimeoutError) as caught:
        send(f"https://{server.netloc}{QUERY}", connect=0.1)
    assert caught.value.message == f"no connection to {server.netloc} within 0.1 s"
    assert not caught.value.sent

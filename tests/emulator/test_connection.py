"""Faults of the connection: what a client sees of them, and what is stored."""

from __future__ import annotations

import socket
import threading

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.emulator.wire import ClientConnection
from tests.emulator.conftest import refusal

BUCKET = "examplebucket"
ENDS = pytest.mark.parametrize(("reset", "end"), [(False, "closed"), (True, "reset")])


@pytest.mark.parametrize(
    ("members", "end", "count"),
    [
        ({"cut_after": 3}, "closed", 3),
        ({"cut_after": 3, "reset": True}, "reset", 3),
        ({"cut_after": 100}, "closed", 6),  # a cut behind the end is one at the end
        ({"cut_after": 0}, "closed", 0),
        ({"reset": True}, "reset", 0),
    ],
)
def test_cuts(peer, oss, poster, members, end, count):
    """The connection breaks at a byte of a PUT or of a form's file; nothing is stored."""
    fault = Fault(times=2, **members)
    oss.faults.add(fault)
    peer.ask("PUT", "cut", b"abcdef")
    assert peer.rest() == (b"", end)
    record = oss.requests[-1]
    assert (record.status, record.bytes, record.fault) == (None, count, fault)
    with pytest.raises(requests.ConnectionError):
        poster.post("k", b"abcdef")
    assert (oss.requests[-1].status, oss.requests[-1].bytes) == (None, count)
    assert oss.objects(BUCKET) == {}


@ENDS
def test_a_connection_that_can_be_used_once(make_peer, client, oss, reset, end):
    """With reused=True the first request works and the next one is broken."""
    member = {"reset": True} if reset else {"cut_after": 0}
    oss.faults.add(Fault(reused=True, times=None, **member))
    for _ in range(2):
        peer = make_peer(client)
        peer.ask("PUT", "first", b"1")
        assert peer.reply()[0] == 200
        peer.ask("PUT", "second")
        assert peer.rest() == (b"", end)
    first, second, third, _ = oss.requests
    assert first.connection == second.connection != third.connection
    assert oss.get(BUCKET, "second") is None
    oss.faults.add(Fault(reused=False, status=500))
    peer = make_peer(client)
    peer.ask("PUT", "first")
    assert peer.reply()[0] == 500


def test_a_connection_that_closes_between_requests(peer, oss):
    """hang_up sends the whole reply, and closes without having said so."""
    oss.faults.add(Fault(hang_up=True))
    peer.ask("PUT", "bye", b"x")
    came, end = peer.rest()
    assert came.startswith(b"HTTP/1.1 200 ")
    assert came.endswith(b"\r\n\r\n")
    assert b"connection" not in came.lower()
    assert end == "closed"
    assert oss.get(BUCKET, "bye").data() == b"x"
    assert oss.requests[-1].status == 200


@ENDS
def test_a_lost_reply(client, peer, oss, reset, end):
    """drop_reply acts, and not a byte comes back: a second Complete is NoSuchUpload."""
    oss.faults.add(Fault(action="PutObject", drop_reply=True, reset=reset))
    peer.ask("PUT", "lost", b"abc")
    assert peer.rest() == (b"", end)
    assert oss.get(BUCKET, "lost").data() == b"abc"
    upload, parts = client.uploaded("done", b"x")
    oss.faults.add(Fault(action="CompleteMultipartUpload", drop_reply=True))
    with pytest.raises(requests.ConnectionError):
        client.complete("done", upload, parts)
    assert oss.get(BUCKET, "done").data() == b"x"
    assert refusal(client.complete("done", upload, parts))[:2] == (404, "NoSuchUpload")


@ENDS
def test_a_reply_that_breaks_off(client, peer, oss, reset, end):
    """cut_reply_after counts bytes of the reply; negative ones from its end."""
    client.put("read", b"0123456789")
    oss.faults.add(Fault(action="GetObject", cut_reply_after=-3, reset=reset))
    peer.ask("GET", "read")
    came, how = peer.rest()
    assert came.endswith(b"\r\n\r\n0123456")
    assert b"content-length: 10\r\n" in came.lower()
    assert how == end
    assert oss.requests[-1].status == 200


@pytest.mark.parametrize(
    ("method", "after", "last"),
    [
        ("PUT", 17, b"HTTP/1.1 200 OK\r\n"),
        ("PUT", 0, b""),
        ("PUT", -100_000, b""),
        ("HEAD", 17, b"HTTP/1.1 200 OK\r\n"),
        ("HEAD", -1, b"\r\n\r"),  # the length that HEAD announces is no part of it
        ("HEAD", 10**6, b"\r\n\r\n"),
    ],
)
def test_a_head_that_breaks_off(client, peer, oss, method, after, last):
    """A cut may lie within the head, before it, or after it; the act was done."""
    client.put("head")
    oss.faults.add(Fault(cut_reply_after=after))
    peer.ask(method, "head")
    came, end = peer.rest()
    assert (came.endswith(last), bool(came), end) == (True, bool(last), "closed")
    assert oss.get(BUCKET, "head").size == (method == "HEAD")


def test_a_body_that_nobody_reads(make_peer, client, oss, recorded):
    """stall_after reads so far; the client's buffers fill and it cannot continue."""
    oss.faults.add(Fault(stall_after=1000))
    peer = make_peer(client)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    peer.ask("PUT", "stalled", b"x" * 1000, length=50_000_000)
    record = recorded()
    assert (record.status, record.bytes) == (None, 1000)
    peer.socket.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while sent < 49_000_000:
            sent += peer.socket.send(b"x" * 65536)
    peer.socket.close()
    client.put("next")
    assert oss.get(BUCKET, "stalled") is None
    assert len(oss.requests) == 2


@pytest.mark.parametrize(
    "members", [{"stall_after": 3}, {"stall_reply_after": 0}, {"stall_reply_after": 10}]
)
def test_a_pause(peer, oss, poster, members):
    """A stall with an end goes on: all is stored, and the connection can be used."""
    oss.faults.add(Fault(stall_for=0.06, times=3, **members))
    for _ in range(2):
        peer.ask("PUT", "paused", b"abcdef")
        assert peer.reply() == (200, b"")
    assert oss.get(BUCKET, "paused").data() == b"abcdef"
    assert [(r.status, r.bytes) for r in oss.requests] == [(200, 6), (200, 6)]
    assert poster.post("form", b"abcdef").status_code == 204
    assert oss.get(BUCKET, "form").data() == b"abcdef"


def test_a_reply_that_stops(client, peer, oss):
    """A reply stops in the middle and the connection stays open."""
    client.put("read", b"0123456789")
    oss.faults.add(Fault(action="GetObject", stall_reply_after=-4))
    peer.ask("GET", "read")
    came = b""
    while not came.endswith(b"012345"):
        came += peer.socket.recv(1)
    assert peer.is_silent()
    assert oss.requests[-1].status == 200


def test_slow_in_both_directions(client, poster, oss, monkeypatch):
    """Body and reply take as long as their bytes need, and all arrive."""
    waits = []

    async def wait(_, seconds):
        waits.append(seconds)

    monkeypatch.setattr(ClientConnection, "wait", wait)
    data = bytes(range(256)) * 40
    oss.faults.add(Fault(bytes_per_second=102_400, times=3))
    client.put("slow", data)
    assert sum(waits) == pytest.approx(0.1, abs=0.006)
    waits.clear()
    assert client.call("GET", "slow").content == data
    assert sum(waits) == pytest.approx(0.1, abs=0.006)
    assert max(waits) == pytest.approx(0.05)
    waits.clear()
    assert poster.post("k", data).status_code == 204
    assert sum(waits) == pytest.approx(0.1, abs=0.006)


def test_a_slow_reply_may_end_the_connection(peer, oss):
    """The connection is closed after a slow reply if the client asks for it."""
    oss.faults.add(Fault(bytes_per_second=100_000))
    peer.ask("PUT", "slow", b"x", extra="Connection: close\r\n")
    came, end = peer.rest()
    assert came.startswith(b"HTTP/1.1 200 ")
    assert end == "closed"


@pytest.mark.parametrize("after", [0, 70_000])
def test_an_early_answer(peer, oss, after):
    """The answer comes while the body is still being sent, then the end."""
    oss.faults.add(Fault(status=503, hang_up=True, early_after=after))
    peer.ask("PUT", "early", b"x" * 80_000, length=50_000_000)
    came, _ = peer.rest()
    assert came.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close\r\n" in came.lower()
    assert came.endswith(b"</Error>")
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        for _ in range(1000):
            peer.socket.sendall(b"x" * 65536)
    assert oss.get(BUCKET, "early") is None
    assert oss.requests[-1].bytes == after


def test_interim_answers(peer, oss):
    """1xx answers come before the final one, asked for or not."""
    oss.faults.add(Fault(interim=[100, 102, 103], times=None))
    for extra in ("", "Expect: 100-continue\r\n"):
        peer.ask("PUT", "interim", b"x", extra=extra)
        statuses = []
        while 200 not in statuses:
            statuses.append(peer.reply()[0])
        assert statuses[:3] == [100, 102, 103]
    assert oss.get(BUCKET, "interim").data() == b"x"


def test_a_client_that_leaves_a_stalled_connection(make_peer, client, oss, recorded):
    """The emulator notices it, also where it does not read."""
    oss.faults.add(Fault(stall_after=1, stall_for=600), Fault(stall_reply_after=0))
    for length in (10_000_000, 0):
        peer = make_peer(client)
        # More than is read at once. The end must fit into the system's buffers, too: it
        # comes after all bytes before it.
        peer.ask("PUT", "left", b"x" * min(length, 100_000), length=length)
        peer.socket.close()
    recorded(2)
    assert [record.status for record in oss.requests] == [None, None]
    assert oss.get(BUCKET, "left").size == 0


# The end of an emulator.


@pytest.mark.parametrize(
    "member",
    [{"stall_after": 1}, {"stall_reply_after": 0}, {"stall_reply_after": 20},
     {"delay": 600}, {"bytes_per_second": 0.01}],
)  # fmt: skip
def test_it_stops_with_stalled_connections(make_client, make_peer, member):
    """Stopping does not wait for what a fault holds, and the client sees the end."""
    with Emulator(faults=[Fault(**member)]) as oss:
        peer = make_peer(make_client(oss))
        peer.ask("PUT", "k", b"abc")
        while not oss.held:
            threading.Event().wait(0.005)
    peer.rest()
    assert len(oss.requests) == 1


def test_it_stops_while_a_body_comes_in(make_client, make_peer, monkeypatch):
    """Stopping waits for a running request only so long, and then breaks it."""
    monkeypatch.setattr("fsspec_osspresigned.emulator.server.GRACE", 0.05)
    with Emulator() as oss:
        peer = make_peer(make_client(oss))
        peer.ask("PUT", "k", b"abc", length=10, extra="Expect: 100-continue\r\n")
        assert peer.reply()[0] == 100
    peer.rest()
    assert [record.status for record in oss.requests] == [None]
    assert oss.get(BUCKET, "k") is None

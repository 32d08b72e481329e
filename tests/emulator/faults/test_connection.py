"""Faults of the connection: what a client sees of them, and what is stored."""

from __future__ import annotations

import socket
import threading

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.emulator.wire import ClientConnection

BUCKET = "examplebucket"
ENDS = pytest.mark.parametrize(("reset", "end"), [(False, "closed"), (True, "reset")])


@pytest.fixture(autouse=True)
def without_faults(oss):
    """Leave no fault for the next test."""
    oss.faults.clear()
    yield
    oss.faults.clear()


def last_record(oss, count=1):
    """Wait for so many records, and return the last."""
    while len(oss.requests) < count:
        threading.Event().wait(0.005)
    return oss.requests[-1]


@ENDS
def test_a_body_in_one_message_is_cut_too(peer, oss, reset, end):
    """However the body arrives, the connection breaks at the byte that was named."""
    oss.faults.add(Fault(cut_after=3, reset=reset))
    peer.ask("PUT", "cut", b"abcdef")
    assert peer.rest() == (b"", end)
    record = oss.requests[-1]
    assert (record.status, record.bytes) == (None, 3)
    assert record.fault.cut_after == 3
    assert oss.get(BUCKET, "cut") is None


def test_a_cut_behind_the_end_is_a_cut_at_the_end(peer, oss):
    """A body that is shorter than cut_after arrives whole and is not stored."""
    oss.faults.add(Fault(cut_after=100))
    peer.ask("PUT", "cut", b"abcdef")
    assert peer.rest()[0] == b""
    assert oss.requests[-1].bytes == 6
    assert oss.get(BUCKET, "cut") is None


def test_a_cut_before_the_first_byte(peer, oss):
    """cut_after=0 closes the connection once the head is there, body or none."""
    oss.faults.add(Fault(cut_after=0, times=2))
    peer.ask("PUT", "cut", b"")
    assert peer.rest() == (b"", "closed")
    assert oss.requests[-1].bytes == 0
    assert oss.get(BUCKET, "cut") is None


def test_a_cut_of_a_request_without_a_body(client, oss, peer):
    """What has no body is cut at its end, and does not act."""
    client.put("stays")
    oss.faults.add(Fault(action="DeleteObject", cut_after=5))
    peer.ask("DELETE", "stays")
    assert peer.rest() == (b"", "closed")
    assert oss.get(BUCKET, "stays") is not None


def test_a_cut_while_the_client_still_sends(client, oss):
    """A client that sends a large part sees its connection break; no part is kept."""
    upload = client.initiate("large")
    oss.faults.add(Fault(action="UploadPart", cut_after=100_000))
    with pytest.raises(requests.ConnectionError):
        client.part("large", upload, 1, b"x" * 5_000_000)
    assert last_record(oss, 2).bytes == 100_000
    (opened,) = [u for u in oss.uploads(BUCKET) if u.upload_id == upload]
    assert opened.parts == {}
    assert client.part("large", upload, 1, b"x").status_code == 200


def test_a_reset_at_once(peer, oss):
    """Reset alone answers the head with an RST and does not act."""
    oss.faults.add(Fault(reset=True))
    peer.ask("PUT", "reset", b"abc")
    assert peer.rest() == (b"", "reset")
    assert oss.requests[-1].status is None
    assert oss.get(BUCKET, "reset") is None


def test_a_storm_of_resets_is_the_same_each_time(client, oss):
    """A rate strikes the same keys for the same seed, whatever the order."""

    def storm(seed, keys):
        oss.clear()
        oss.faults.add(Fault(action="PutObject", reset=True, rate=0.3, seed=seed))
        struck = set()
        for key in keys:
            try:
                client.put(key)
            except requests.ConnectionError:
                struck.add(key)
        return struck

    keys = [f"storm/{number}" for number in range(40)]
    first = storm(1, keys)
    assert first == storm(1, keys[::-1])
    assert 4 <= len(first) <= 20
    assert first != storm(2, keys)
    assert all(oss.get(BUCKET, key) for key in keys if key not in first)


def test_a_storm_gets_through_in_the_end(client, oss):
    """Each try of one request is drawn anew."""
    oss.faults.add(Fault(status=503, rate=0.5, seed=3))
    statuses = [client.call("PUT", "again", data=b"x").status_code for _ in range(30)]
    assert set(statuses) == {200, 503}


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
def test_a_lost_reply(peer, oss, reset, end):
    """drop_reply stores the object, and not a byte comes back."""
    oss.faults.add(Fault(drop_reply=True, reset=reset))
    peer.ask("PUT", "lost", b"abc")
    assert peer.rest() == (b"", end)
    assert oss.get(BUCKET, "lost").data() == b"abc"


def test_a_complete_whose_reply_is_lost(client, oss, refusal):
    """The object is there, the upload is gone: the second try is NoSuchUpload."""
    upload = client.initiate("done")
    etag = client.part("done", upload, 1, b"x").headers["ETag"]
    oss.faults.add(Fault(action="CompleteMultipartUpload", drop_reply=True))
    with pytest.raises(requests.ConnectionError):
        client.complete("done", upload, [(1, etag)])
    assert oss.get(BUCKET, "done").data() == b"x"
    assert [u for u in oss.uploads(BUCKET) if u.upload_id == upload] == []
    reply = client.complete("done", upload, [(1, etag)])
    assert refusal(reply)[:2] == (404, "NoSuchUpload")


def test_a_complete_that_is_done_and_denied(client, oss, refusal):
    """acts=True completes, and the answer is NoSuchUpload all the same."""
    upload = client.initiate("both")
    etag = client.part("both", upload, 1, b"x").headers["ETag"]
    fault = Fault(action="Complete*", code="NoSuchUpload", acts=True)
    oss.faults.add(fault)
    reply = client.complete("both", upload, [(1, etag)])
    assert refusal(reply)[:2] == (404, "NoSuchUpload")
    assert oss.get(BUCKET, "both").data() == b"x"
    assert oss.requests[-1].fault is fault


@ENDS
def test_a_reply_that_breaks_off(client, peer, oss, reset, end):
    """cut_reply_after counts bytes of the reply; negative ones from its end."""
    client.put("read", b"0123456789")
    oss.faults.add(Fault(action="GetObject", cut_reply_after=-3, reset=reset))
    peer.ask("GET", "read")
    came, how = peer.rest()
    assert came.endswith(b"\r\n\r\n0123456")
    assert b"content-length: 10\r\n" in came
    assert how == end
    assert oss.requests[-1].status == 200


@pytest.mark.parametrize(("after", "length"), [(17, 17), (0, 0), (-100_000, 0)])
def test_a_head_that_breaks_off(peer, oss, after, length):
    """A cut may lie within the head, or before it; the act was done."""
    oss.faults.add(Fault(cut_reply_after=after))
    peer.ask("PUT", "head", b"x")
    assert peer.rest() == (b"HTTP/1.1 200 OK\r\n"[:length], "closed")
    assert oss.get(BUCKET, "head") is not None


def test_a_cut_behind_the_reply(peer, oss):
    """A reply that is shorter than cut_reply_after comes whole, then the end."""
    oss.faults.add(Fault(cut_reply_after=10**6))
    peer.ask("HEAD", "absent")
    came, end = peer.rest()
    assert came.startswith(b"HTTP/1.1 404 ")
    assert came.endswith(b"\r\n\r\n")
    assert end == "closed"


def test_a_body_that_nobody_reads(make_peer, client, oss):
    """stall_after reads so far; the client's buffers fill and it cannot go on."""
    oss.faults.add(Fault(stall_after=1000))
    peer = make_peer(client)
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    peer.ask("PUT", "stalled", b"x" * 1000, length=50_000_000)
    record = last_record(oss)
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


def test_a_pause_in_the_body(peer, oss):
    """A stall with an end goes on, and everything is stored."""
    oss.faults.add(Fault(stall_after=3, stall_for=0.06, cut_reply_after=10**6))
    peer.ask("PUT", "paused", b"abcdef")
    assert peer.rest()[0].startswith(b"HTTP/1.1 200 ")
    assert oss.get(BUCKET, "paused").data() == b"abcdef"
    assert [(r.status, r.bytes) for r in oss.requests] == [(200, 6)]


def test_a_reply_that_never_comes(peer, oss, client):
    """stall_reply_after=0 stores the object; the connection stays open and silent."""
    oss.faults.add(Fault(stall_reply_after=0))
    peer.ask("PUT", "silent", b"x")
    assert last_record(oss).status is None
    assert oss.get(BUCKET, "silent").data() == b"x"
    assert peer.is_silent()
    client.put("next")


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


@pytest.mark.parametrize("after", [0, 10])
def test_a_pause_in_the_reply(peer, oss, after):
    """A stalled reply with an end comes whole, and the connection can be used."""
    oss.faults.add(Fault(stall_reply_after=after, stall_for=0.06))
    for _ in range(2):
        peer.ask("PUT", "paused", b"x")
        assert peer.reply() == (200, b"")
    assert [record.status for record in oss.requests] == [200, 200]


def test_slow_in_both_directions(client, oss, monkeypatch):
    """Body and reply take as long as their bytes need, and all arrive."""
    waits = []

    async def wait(_, seconds):
        waits.append(seconds)

    monkeypatch.setattr(ClientConnection, "wait", wait)
    data = bytes(range(256)) * 40
    oss.faults.add(Fault(bytes_per_second=100_000, times=3))
    client.put("slow", data)
    assert sum(waits) == pytest.approx(len(data) / 100_000, abs=0.006)
    waits.clear()
    assert client.call("GET", "slow").content == data
    assert sum(waits) == pytest.approx(len(data) / 100_000, abs=0.006)
    assert max(waits) == pytest.approx(0.05)
    assert client.call("HEAD", "slow").headers["Content-Length"] == str(len(data))
    assert len({record.connection for record in oss.requests}) == 1


def test_a_traffic_limit_slows_as_a_fault_does(client, monkeypatch):
    """Bits a second, in a header or in the query, of the body and of the reply."""
    waits = []

    async def wait(_, seconds):
        waits.append(seconds)

    monkeypatch.setattr(ClientConnection, "wait", wait)
    data, limit = bytes(10_240), {"x-oss-traffic-limit": "819200"}
    client.put("limited", data, headers=limit)
    assert sum(waits) == pytest.approx(0.1, abs=0.006)
    waits.clear()
    assert client.call("GET", "limited", query=limit).content == data
    assert sum(waits) == pytest.approx(0.1, abs=0.006)
    waits.clear()
    assert (
        client.call("PUT", "k", headers={"x-oss-traffic-limit": "1"}).status_code == 400
    )
    assert waits == []


def test_a_slow_reply_may_end_the_connection(peer, oss):
    """What the client wants to close is closed behind a slow reply."""
    oss.faults.add(Fault(bytes_per_second=100_000))
    peer.ask("PUT", "slow", b"x", extra="Connection: close\r\n")
    came, end = peer.rest()
    assert came.startswith(b"HTTP/1.1 200 ")
    assert end == "closed"


@pytest.mark.parametrize("member", [{"early": True}, {"early_after": 70_000}])
def test_an_early_answer(make_peer, client, oss, member):
    """The answer comes while the body is still being sent, then the end."""
    oss.faults.add(Fault(status=503, hang_up=True, **member))
    peer = make_peer(client)
    peer.ask("PUT", "early", b"x" * 80_000, length=50_000_000)
    came, _ = peer.rest()
    assert came.startswith(b"HTTP/1.1 503 ")
    assert b"connection: close\r\n" in came
    assert came.endswith(b"</Error>")
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        for _ in range(1000):
            peer.socket.sendall(b"x" * 65536)
    assert oss.get(BUCKET, "early") is None
    assert oss.requests[-1].bytes == member.get("early_after", 0)


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


def test_a_client_that_leaves_a_stalled_connection(make_peer, client, oss):
    """The emulator notices it, also where it does not read."""
    oss.faults.add(Fault(stall_after=1, stall_for=600), Fault(stall_reply_after=0))
    for length in (10_000_000, 0):
        peer = make_peer(client)
        # More than is read at once. The end must fit into the system's buffers, too: it
        # comes after all bytes before it.
        peer.ask("PUT", "left", b"x" * min(length, 100_000), length=length)
        peer.socket.close()
    records = last_record(oss, 2), *oss.requests
    assert [record.status for record in records[1:]] == [None, None]
    assert oss.get(BUCKET, "left").size == 0


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


def test_it_stops_while_a_reply_is_not_read(
    make_client, make_peer, monkeypatch, caplog
):
    """A reply that waits for its reader, cut at its end, does not hold the stop up."""
    monkeypatch.setattr("fsspec_osspresigned.emulator.server.GRACE", 0.05)
    with Emulator() as oss:
        client = make_client(oss)
        client.put("large", b"x" * 20_000_000)
        oss.faults.add(Fault(hang_up=True))
        peer = make_peer(client)
        peer.ask("GET", "large")
        last_record(oss, 2)
    peer.rest()
    assert oss.requests[-1].status == 200
    assert not [r for r in caplog.records if r.name == "uvicorn.error" and r.exc_info]


def test_a_head_reply_may_be_cut(client, peer, oss):
    """The length that HEAD announces is no part of its reply."""
    client.put("k", b"0123456789")
    oss.faults.add(Fault(action="HeadObject", cut_reply_after=-1))
    peer.ask("HEAD", "k")
    came, _ = peer.rest()
    assert came.endswith(b"\r\n\r")

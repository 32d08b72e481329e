"""Request bodies that stall, break off, or are refused."""

from __future__ import annotations

import threading

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault
from tests.emulator.raw_requests import connect, raw_request

BUCKET = "examplebucket"
MIB = 1024 * 1024


def test_a_client_that_leaves_early(client, oss):
    """Fewer bytes than announced and a closed connection store nothing."""
    with connect(oss) as peer:
        peer.sendall(raw_request(client, "PUT", "short", 10) + b"abc")
    while not oss.requests:
        threading.Event().wait(0.005)
    assert oss.requests[-1].status is None
    assert oss.get(BUCKET, "short") is None


def test_a_client_that_stalls(make_client):
    """A body that does not go on is RequestTimeout, and the connection is closed."""
    with Emulator(body_timeout=0.05) as oss, connect(oss) as peer:
        peer.sendall(raw_request(make_client(oss), "PUT", "stalled", 10) + b"abc")
        reply = b"".join(iter(lambda: peer.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"<Code>RequestTimeout</Code>" in reply
        assert oss.get(BUCKET, "stalled") is None


def test_a_refusal_waits_for_a_client_that_still_sends(client, oss):
    """It answers when the body is here, so that it cannot be lost; no byte counts."""
    with connect(oss) as peer:
        request = raw_request(client, "PUT", "refused", 2 * MIB)
        head = request.replace(b"PUT", b"POST")  # which breaks the signature
        peer.sendall(head + bytes(MIB))
        peer.settimeout(0.05)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.settimeout(10)
        peer.sendall(bytes(MIB))
        reply = peer.recv(65536)
        while b"</Error>" not in reply:
            reply += peer.recv(65536)
    assert reply.startswith(b"HTTP/1.1 4")
    assert oss.requests[-1].bytes == 0


def test_expect_continue(client, oss):
    """A client that asks first is told to go on, or gets the refusal at once."""
    expect = "Expect: 100-continue\r\n"
    with connect(oss) as peer:
        peer.sendall(raw_request(client, "PUT", "asked", 3, expect))
        assert peer.recv(65536).startswith(b"HTTP/1.1 100 ")
        peer.sendall(b"abc")
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert oss.get(BUCKET, "asked").data() == b"abc"
    with connect(oss) as peer:
        request = raw_request(client, "PUT", "asked", 3, expect)
        peer.sendall(request.replace(b"PUT", b"GET"))
        assert peer.recv(65536).startswith(b"HTTP/1.1 403 ")


def test_a_chunked_body_may_announce_its_length(client, oss):
    """ali-oss sends both headers; the chunks count."""
    chunked = "Transfer-Encoding: chunked\r\n"
    with connect(oss) as peer:
        request = raw_request(client, "PUT", "both", 3, chunked)
        peer.sendall(request + b"3\r\nabc\r\n0\r\n\r\n")
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert oss.get(BUCKET, "both").data() == b"abc"


def test_a_chunked_body_stalls_and_goes_on(client, oss):
    """A stall in a body without a length loses none of its bytes."""
    oss.faults.add(Fault(stall_after=1, stall_for=0.01))
    chunked = "Transfer-Encoding: chunked\r\n"
    with connect(oss) as peer:
        request = raw_request(client, "PUT", "chunks", 3, chunked).replace(
            b"Content-Length: 3\r\n", b""
        )
        peer.sendall(request + b"3\r\nabc\r\n0\r\n\r\n")
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert oss.get(BUCKET, "chunks").data() == b"abc"


def test_a_get_may_announce_a_body_that_never_comes(client, oss):
    """It is answered, and its connection ends, as the next bytes mean nothing."""
    client.put("k", b"abc")
    with connect(oss) as peer:
        peer.sendall(raw_request(client, "GET", "k", 9))
        reply = b"".join(iter(lambda: peer.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b"\r\n\r\nabc")


def test_a_refused_body_does_not_end_the_connection(client, oss):
    """After an early refusal of a large body the connection goes on."""
    url = client.url("PUT", "k") + "&broken=1"
    assert client.send("PUT", url, data=b"x" * (3 * MIB)).status_code == 403
    client.put("k", b"next")
    assert oss.get(BUCKET, "k").data() == b"next"


def test_many_at_once(client, oss):
    """Eight uploads in parallel all arrive whole."""
    urls = {f"parallel/{i}": client.url("PUT", f"parallel/{i}") for i in range(8)}

    def put(key, url):
        data = key.encode() * (MIB // len(key) * 3)
        assert requests.put(url, data=data, timeout=30).status_code == 200

    threads = [threading.Thread(target=put, args=item) for item in urls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in urls:
        assert set(oss.get(BUCKET, key).data().decode().split("parallel/")) == {
            "",
            key[-1],
        }

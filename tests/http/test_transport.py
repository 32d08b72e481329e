"""Requests on the wire, to the byte, and the errors of broken connections."""

from __future__ import annotations

import asyncio
import socket
import traceback

import pytest

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
)
from fsspec_osspresigned.http.body import BLOCK, SLICE, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.transfer import Exchange, said
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from tests.engine_calls import Call
from tests.http.conftest import Sink, ok

QUERY = "?x-oss-signature=TOPSECRET"


def raw(data):
    """Answer one request with prepared bytes, then end the connection."""

    def script(peer):
        peer.request()
        peer.sock.sendall(data)

    return script


def headers_of(server, index=0):
    """Return names in lower case and values of a request."""
    lines = server.heads[index].decode().split("\r\n")[1:]
    pairs = (line.partition(": ") for line in lines)
    return {name.lower(): value for name, _, value in pairs}


def everything(error: BaseException) -> str:
    """Return all that a logger could print of an error."""
    lines = traceback.format_exception(error, chain=True)
    return "".join(lines) + repr(error) + repr(error.__dict__)


# -- the request ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1/k%zz", "broken percent escape"),
        ("http://127.0.0.1/k#f", "fragment"),
        ("http://127.0.0.1/a b", "blank"),
        ("ftp://127.0.0.1/", "not an absolute http"),
        ("http://b.example/k", "is plain http"),
    ],
)
def test_url_that_cannot_be_sent(url, words):
    """A target that cannot be sent unchanged is refused, and nothing is sent."""
    transport = Transport()
    signed = SignedRequest(method="PUT", url=url + QUERY)
    with pytest.raises(ConfigurationError, match=words) as caught:
        run(transport.send, signed, path="b/k")
    transport.close()
    assert "TOPSECRET" not in everything(caught.value)
    assert caught.value.path == "b/k"


@pytest.mark.parametrize("bad", ["\u20ac", "a\r\nb: c", "a\rb", "a\nb", "\U0001f600"])
@pytest.mark.parametrize("where", ["name", "value", "method"])
def test_header_that_cannot_be_sent(send, bad, where):
    """Characters that cannot be sent in a head are refused, and not shown."""
    name, value = (bad, "TOPSECRET") if where == "name" else ("x-oss-meta-a", bad)
    facts = {"method": bad} if where == "method" else {"headers": {name: value}}
    with pytest.raises(ConfigurationError, match="line break") as caught:
        send(f"http://127.0.0.1:9/k{QUERY}", path="b/k", **facts)
    assert "TOPSECRET" not in everything(caught.value)
    assert caught.value.path == "b/k"


def test_host_that_was_signed(serve, send):
    """A Host among the signed headers goes out as it is, and no second one."""
    server = serve(ok)
    send(server.origin + "/k", headers={"HOST": "b.example"})
    assert headers_of(server)["host"] == "b.example"
    assert server.heads[0].lower().count(b"host:") == 1


def test_headers_of_an_empty_body(serve, send):
    """Nothing is added but what HTTP needs; Content-Length is 0."""
    server = serve(ok)
    send(server.origin + "/k", headers={"X-Oss-Meta-A": "1"})
    assert headers_of(server) == {
        "host": server.netloc,
        "x-oss-meta-a": "1",
        "content-length": "0",
        "user-agent": "fsspec-osspresigned",
        "accept-encoding": "identity",
    }
    assert server.bodies == [b""]


def test_headers_that_were_signed_win(serve, send):
    """Defaults step back, and headers that no signature covers are added."""
    signed = {"user-agent": "mine", "Accept-Encoding": "x", "content-length": "3"}
    server = serve(ok)
    free = {"Range": "bytes=0-"}
    body = MemoryBody(b"abc")
    send(server.origin + "/k", body, headers=signed, free_headers=free)
    sent = headers_of(server)
    assert (sent["user-agent"], sent["accept-encoding"]) == ("mine", "x")
    assert (sent["content-length"], sent["range"]) == ("3", "bytes=0-")
    assert server.heads[0].lower().count(b"content-length") == 1


@pytest.mark.parametrize("name", ["Range", "range", "RANGE"])
def test_no_free_header_replaces_a_signed_one(serve, send, name):
    """Its value is part of the signature."""
    server = serve(ok)
    free = {"Range": "bytes=0-"}
    send(server.origin + "/k", headers={name: "bytes=5-9"}, free_headers=free)
    assert headers_of(server)["range"] == "bytes=5-9"
    assert server.heads[0].lower().count(b"\r\nrange:") == 1


def test_signed_for_another_length(send):
    """A body that cannot be sent as signed is refused at once."""
    headers = {"Content-Length": "4"}
    with pytest.raises(ConfigurationError, match="signed for 4 bytes, the body has 3"):
        send("http://127.0.0.1:1/k", MemoryBody(b"abc"), headers=headers)


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, 5 * BLOCK])
def test_body_is_never_chunked(serve, send, size):
    """All bytes go out plain, are counted, summed up and reported."""
    data, sent = bytes(i % 251 for i in range(size)), []
    server = serve(ok)
    facts = {"with_crc": True, "progress": sent.append}
    reply = send(server.origin + "/k", MemoryBody(data), **facts)
    assert server.bodies == [data]
    assert "transfer-encoding" not in headers_of(server)
    assert headers_of(server)["content-length"] == str(size)
    assert (reply.body_bytes, sum(sent), reply.crc64) == (size, size, crc64(data))
    assert (reply.status, reply.body, reply.etag) == (200, b"ok", '"E"')


def test_netrc_and_cookies_are_not_used(serve, send, monkeypatch, tmp_path):
    """An Authorization header or a cookie would break the signature, or leak."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login u password p\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    cookie = ("Connection: close", "Set-Cookie: a=b; Path=/")
    server = serve(lambda peer: peer.request() and peer.answer(*cookie))
    for index in range(2):
        send(server.origin + "/k")
        assert not {"authorization", "cookie"} & headers_of(server, index).keys()


# -- the answer -------------------------------------------------------------------------


def test_no_connection_in_time(send):
    """A host that swallows packets is a timeout before anything was sent."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    where = listener.getsockname()
    crowd = [socket.socket() for _ in range(4)]
    for one in crowd:  # the queue is full: further packets are dropped
        one.setblocking(False)
        one.connect_ex(where)
    with pytest.raises(NetworkTimeoutError, match="no connection to") as caught:
        send(f"http://127.0.0.1:{where[1]}/k{QUERY}", connect=0.1)
    assert not caught.value.sent
    for one in (*crowd, listener):
        one.close()


@pytest.mark.parametrize(
    ("head", "words"),
    [(b"", "does not state the size"), (b"Content-Length: 9\r\n", "failed: ")],
    ids=["without a length", "cut"],
)
def test_sink_wants_an_end(serve, send, head, words):
    """A body that was cut, or ends with the connection, is an error, however much came."""
    server = serve(raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\nsome"))
    with pytest.raises(NetworkError, match=words):
        send(server.origin + "/k", method="GET", sink=Sink())


@pytest.mark.parametrize("step", ["begin", "write"])
def test_sink_that_fails(serve, send, monkeypatch, step):
    """A full disk is a full disk, not a bad network."""

    def full(*_):
        raise OSError(28, "No space left on device")

    sink = Sink()
    monkeypatch.setattr(sink, step, full, raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        send(serve(ok).origin + "/k", method="GET", sink=sink)
    assert not isinstance(caught.value, NetworkError)


def test_content_encoding_is_not_undone(serve, send):
    """Bytes are those that were stored, whatever header they were stored with."""
    server = serve(
        lambda peer: peer.request() and peer.answer("Content-Encoding: gzip")
    )
    assert send(server.origin + "/k", method="GET").body == b"ok"


# -- the body ---------------------------------------------------------------------------


def test_cancelled_between_blocks(serve):
    """The next block is not sent, and what was sent is taken back."""
    sent = []

    def moved(count: int) -> None:
        sent.append(count)
        if len(sent) == 2:
            call.cancel()

    transport = Transport(allow_http=True)
    signed = SignedRequest(method="PUT", url=serve(ok).origin + "/k")
    body, exchange = MemoryBody(bytes(9 * SLICE)), Exchange(progress=moved)
    call = Call(transport.send, signed, body, exchange)
    assert isinstance(call.begin().wait(), asyncio.CancelledError)
    assert sent == [SLICE, SLICE, -2 * SLICE]
    transport.close()


# -- secrets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("Signature=TOPSECRET", "Signature=<hidden>"), ("Odd \x1b text", "Odd   text")],
)
def test_foreign_reasons_are_cleaned(reason, shown):
    """Errors of libcurl and the system show no secret and no control character."""
    assert said(reason) == shown

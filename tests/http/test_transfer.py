"""Heads and bodies of replies: what is read as http.client reads it, and what is refused."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading

import pytest

from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.body import MemoryBody
from tests.http.conftest import Sink, ok

QUERY = "/b/k?x-oss-signature=TOPSECRET"
OK = "HTTP/1.1 200 OK"


def written(*lines, body=b""):
    """Return a reply as it comes over the wire."""
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def raw(data, step=1 << 20):
    """Answer the first request with *data* in pieces, and every later one with "ok"."""

    def script(peer):
        peer.request()
        for start in range(0, len(data), step):
            peer.sock.sendall(data[start : start + step])
        peer.sock.shutdown(socket.SHUT_WR)

    return script


@contextlib.contextmanager
def theirs(data, method):
    """Yield what http.client makes of *data*."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(near, method=method)
        answer.begin()
        yield answer
        answer.close()


# -- as http.client ---------------------------------------------------------------------

HEADS = {
    "plain": (OK, "Content-Length: 5"),
    "no reason": ("HTTP/1.1 200", "Content-Length: 5"),
    "blank reason": ("HTTP/1.1 200 ", "Content-Length: 5"),
    "long reason": ("HTTP/1.1 404 No  such thing ", "Content-Length: 5"),
    "close": (OK, "Content-Length: 5", "Connection: close"),
    "1.0": ("HTTP/1.0 200 OK", "Content-Length: 5"),
    "zeros": (OK, "Content-Length: 0005"),
    "blanks": (OK, "Content-Length:   5  ", "X-A:\t b c \t"),
    "no blanks": (OK, "Content-Length:5"),
    "upper case": (OK, "CONTENT-LENGTH: 5", "X-OSS-Request-ID: AbC"),
    "colons": (OK, "Content-Length: 5", "Date: a:b:c", 'ETag: "a:b"'),
    "empty value": (OK, "Content-Length: 5", "X-A:", "X-B: "),
    "twice": (OK, "Content-Length: 5", "Vary: a", "vary: b", "Vary: c"),
    "latin-1": (OK, "Content-Length: 5", "X-A: \xe4\xf6\xfc"),
    "204": ("HTTP/1.1 204 No Content",),
    "304": ("HTTP/1.1 304 Not Modified", "Content-Length: 5"),
    "100 first": ("HTTP/1.1 100 Continue", "X-A: a", "", OK, "Content-Length: 5"),
    "404": ("HTTP/1.1 404 Not Found", "Content-Length: 5"),
    "999": ("HTTP/1.1 999 Odd", "Content-Length: 5"),
    "chunked": (OK, "Transfer-Encoding: Chunked"),
}


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("lines", HEADS.values(), ids=HEADS.keys())
def test_head_is_read_as_http_client_reads_it(serve, send, lines, method, step):
    """Status, headers and body are the same, in any pieces."""
    is_bodiless = method == "HEAD" or lines[0].split()[1] in ("204", "304")
    body = b"5\r\nhello\r\n0\r\n\r\n" if "Chunked" in lines[-1] else b"hello"
    data = written(*lines, body=b"" if is_bodiless else body)
    reply = send(serve(raw(data, step)).origin + QUERY, method=method)
    with theirs(data, method) as other:
        assert (reply.status, reply.body) == (other.status, other.read())
        joined = {  # http.client keeps blanks behind a value
            name.lower(): ", ".join(other.headers.get_all(name)).rstrip(" \t")
            for name in other.headers
        }
        assert reply.headers == joined


CHUNKED = {
    "plain": b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "extension": b"5;a=b\r\nhello\r\n0;x\r\n\r\n",
    "trailer": b"05\r\nhello\r\n0\r\nX-A: b\r\nETag: c\r\n\r\n",
    "hexadecimal": b"a\r\n0123456789\r\n0\r\n\r\n",
    "HEXADECIMAL": b"A\r\n0123456789\r\n0\r\n\r\n",
    "nothing": b"0\r\n\r\n",
    "nothing but a trailer": b"0\r\nX-A: b\r\n\r\n",
    "blanks": b"5 \r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize("body", CHUNKED.values(), ids=CHUNKED.keys())
def test_chunks_are_read_as_http_client_reads_them(serve, send, body, step):
    """It is the same body, in any pieces; a trailer changes no header."""
    data = written(OK, "Transfer-Encoding: chunked", "ETag: a", body=body)
    sink = Sink()
    reply = send(serve(raw(data, step)).origin + QUERY, method="GET", sink=sink)
    assert reply.headers == {"transfer-encoding": "chunked", "etag": "a"}
    with theirs(data, "GET") as other:
        assert sink.getvalue() == other.read()


# -- not as http.client -----------------------------------------------------------------


REFUSED = {
    "two lengths": (OK, "Content-Length: 5", "Content-Length: 6"),
    "two in one": (OK, "Content-Length: 5, 6"),
    "one and nothing": (OK, "Content-Length: 5,"),
    "two ways": (OK, "Content-Length: 5", "content-length : 05"),
    "endless length": (OK, "Content-Length: " + "9" * 5000),
    "switch": ("HTTP/1.1 101 Switching Protocols",),
    "next version": ("HTTP/2.0 200 OK",),
    "first version": ("HTTP/0.9 200 OK",),
    "no status": ("HTTP/1.1 OK",),
    "low status": ("HTTP/1.1 99 OK",),
    "rubbish": ("<html>",),
    "another protocol": ("RTSP/1.0 200 OK",),
    "other version": ("HTTP/1.2 200 OK", "Content-Length: 5"),
    "no number": (OK, "Content-Length: five"),
    "negative": (OK, "Content-Length: -5"),
    "empty length": (OK, "Content-Length:"),
    "other blanks": (OK, "Content-Length: \xa05"),
    "the same twice": (OK, "Content-Length: 5", "Content-Length: 5"),
    "no colon": (OK, "rubbish", "Content-Length: 5"),
    "no name": (OK, ": rubbish", "Content-Length: 5"),
    "folded first": (OK, " X-A: b", "Content-Length: 5"),
    "blank in front of the colon": (OK, "X-A : b", "Content-Length: 5"),
    "control character": (OK, "X-A: a\x1bb", "Content-Length: 5"),
    "bare CR": (OK, "X-A: a\rX-B: b", "Content-Length: 5"),
    "bare lines": ("HTTP/1.1 200 OK\nContent-Length: 5\n", ""),
    "bare first line": ("HTTP/1.1 200 OK\nContent-Length: 5",),
    "bare line": (OK, "ETag: a\nContent-Length: 5"),
    "bare end": (OK, "Content-Length: 5\r\n\nhell"),
    "two ends": (OK, "Content-Length: 5", "Transfer-Encoding: chunked"),
    "other coding": (OK, "Transfer-Encoding: gzip"),
    "coding and length": (OK, "Transfer-Encoding: gzip", "Content-Length: 5"),
    "two codings": (OK, "Transfer-Encoding: gzip, chunked"),
    "upgrade": ("HTTP/1.1 101 Go", "Connection: upgrade", "Upgrade: x"),
    "blank line": ("", OK),
    "endless": (OK, *["X-A: " + "a" * 1000] * 400),
    "endlessly coming": ("HTTP/1.1 100 Continue", "") * 20_000,
    "no length": (OK, "Server: x"),
}


# Their bodies end with the connection, which is enough where no sink wants an object.
ENDED = ("no length", "next version")


@pytest.mark.parametrize(
    ("name", "way"),
    [(name, way) for name in REFUSED for way in ("loop", "sink")[name in ENDED :]],
)
def test_refused_heads(serve, send_by_thread, name, way):
    """An invalid or ambiguous head is no reply, and the connection is not reused."""
    lines = REFUSED[name]
    server = serve(raw(written(*lines, body=b"hello")), ok)
    facts = {"in_thread": False} if way == "loop" else {"sink": Sink()}
    with pytest.raises(NetworkError):
        send_by_thread(server.origin + QUERY, method="GET", **facts)
    assert send_by_thread(server.origin + QUERY, in_thread=way != "loop").body == b"ok"
    assert server.accepted == 2


def test_cut_heads(serve, send):
    """A head that ends too early is none, wherever it is cut."""
    data = written(OK, "Content-Length: 0", "ETag: a")
    server = serve(*(raw(data[:cut]) for cut in range(len(data))))
    for _ in range(len(data)):
        with pytest.raises(NetworkError):
            send(server.origin + QUERY)
    assert server.accepted == len(data)


BAD_CHUNKS = {
    "negative": b"-1\r\n",
    "sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underline": b"0_5\r\nhello\r\n0\r\n\r\n",
    "other digits": b"\xb25\r\nhello\r\n0\r\n\r\n",
    "rubbish": b"hello\r\n0\r\n\r\n",
    "nothing": b"\r\nhello\r\n0\r\n\r\n",
    "endless": b"0" * 70_000,
    "huge": b"1" + b"0" * 20 + b"\r\nhello\r\n0\r\n\r\n",
    "no end": b"5\r\nhello",
    "cut": b"5\r\nhel",
    "end": b"",
    "endless extension": b"5;" + b"a" * 300_000,
    "endless trailer": b"0\r\nX-A: " + b"a" * 300_000,
    "no last chunk": b"5\r\nhello\r\n",
    "bad second chunk": b"5\r\nhello\r\nzz\r\n",
}


@pytest.mark.parametrize("way", ["loop", "sink"])
@pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_bad_chunks(serve, send_by_thread, body, way):
    """A body whose chunks are none is cut, and its connection is not used again."""
    server = serve(raw(written(OK, "Transfer-Encoding: chunked", body=body)), ok)
    facts = {"in_thread": False} if way == "loop" else {"sink": Sink()}
    with pytest.raises(NetworkError):
        send_by_thread(server.origin + QUERY, method="GET", **facts)
    assert send_by_thread(server.origin + QUERY, in_thread=way != "loop").body == b"ok"
    assert server.accepted == 2


# -- the connection ---------------------------------------------------------------------

FORGED = written(OK, "Content-Length: 6", body=b"forged")
UNSURE = {
    "bad chunk": written(
        OK, "Transfer-Encoding: chunked", body=b"5\r\nhello\r\nzz\r\n"
    ),
    "two ends": written(
        OK, "Content-Length: 5", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"
    ),
    "other coding": written(OK, "Transfer-Encoding: gzip", "Content-Length: 0"),
    "control character": written(OK, "X-A: a\x00b", "Content-Length: 0"),
    "bare CR": written(OK, "X-A: a\rContent-Length: 5", "Content-Length: 0"),
    "204 and a body": written("HTTP/1.1 204 No", "Content-Length: 60"),
    "two lengths": written(OK, "Content-Length: 0", "Content-Length: 60"),
    "more than announced": written(OK, "Content-Length: 4", body=b"hello"),
    "1.0": written("HTTP/1.0 200 OK", "Content-Length: 0"),
    "close": written(OK, "Content-Length: 0", "Connection: close"),
}


@pytest.mark.parametrize("data", UNSURE.values(), ids=UNSURE.keys())
def test_nothing_follows_a_bad_answer(serve, send, data):
    """Late bytes of a bad reply never count as the next reply."""
    first = threading.Event()

    def script(peer):
        peer.request()
        peer.sock.sendall(data)
        first.wait(5)
        peer.request()
        peer.sock.sendall(FORGED)

    server = serve(script, ok)
    with contextlib.suppress(NetworkError):
        send(server.origin + QUERY, MemoryBody(b"a"))
    first.set()
    assert send(server.origin + QUERY, MemoryBody(b"b")).body == b"ok"
    assert server.accepted == 2

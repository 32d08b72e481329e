"""Responses: what is read as http.client reads it, what is refused, what may follow."""

from __future__ import annotations

import contextlib
import gc
import http.client
import socket
import sys
import threading
import weakref

import pytest

from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.response_parser import (
    MAX_HEAD,
    ResponseError,
    ResponseParser,
)
from tests.interrupts import Interrupt

QUERY = "/b/k?x-oss-signature=TOPSECRET"
OK = "HTTP/1.1 200 OK"


def written(*lines, body=b""):
    """Return a response as it comes over the wire."""
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def parsed(data, method="GET", step=1 << 20):
    """Return the parser that was fed *data* in pieces, and the end if it wants more."""
    response = ResponseParser(method)
    for start in range(0, len(data), step):
        response.feed(data[start : start + step])
    if not response.complete:
        response.feed(b"")
    return response


@contextlib.contextmanager
def theirs(data, method="GET"):
    """Yield what http.client makes of it."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(data)
        far.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(near, method=method)
        answer.begin()
        yield answer
        answer.close()


def test_signal_while_a_reply_is_parsed():
    """What a signal handler raises in a callback of the parser is raised as it is.

    It is no error of the reply, which would be retried: Ctrl-C would be lost.
    """
    response = ResponseParser("GET")

    def trace(frame, event, _):
        if frame.f_code.co_name == "on_header":
            raise Interrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(Interrupt):
            response.feed(written(OK, "Content-Length: 5"))
    finally:
        sys.settrace(before)


# -- as http.client ---------------------------------------------------------------------

SAME = {
    "plain": (OK, "Content-Length: 5"),
    "no length": (OK, "Server: x"),
    "no headers": (OK,),
    "no reason": ("HTTP/1.1 200", "Content-Length: 0"),
    "blank reason": ("HTTP/1.1 200 ", "Content-Length: 0"),
    "long reason": ("HTTP/1.1 404 No  such thing ", "Content-Length: 0"),
    "chunked": (OK, "Transfer-Encoding: chunked"),
    "Chunked": (OK, "TRANSFER-ENCODING: Chunked"),
    "close": (OK, "Content-Length: 5", "Connection: close"),
    "Close": (OK, "Content-Length: 5", "connection: Close"),
    "close among others": (OK, "Content-Length: 5", "Connection: x, close"),
    "keep-alive": (OK, "Content-Length: 5", "Connection: keep-alive"),
    "1.0": ("HTTP/1.0 200 OK", "Content-Length: 5"),
    "1.0 keep-alive": (
        "HTTP/1.0 200 OK",
        "Content-Length: 5",
        "Connection: Keep-Alive",
    ),
    "1.0 no length": ("HTTP/1.0 200 OK", "Connection: keep-alive"),
    "zeros": (OK, "Content-Length: 0005"),
    "blanks": (OK, "Content-Length:   5  ", "X-A:\t b c \t"),
    "no blanks": (OK, "Content-Length:5"),
    "upper case": (OK, "CONTENT-LENGTH: 5", "X-OSS-Request-ID: AbC"),
    "colons": (OK, "Content-Length: 5", "Date: a:b:c", 'ETag: "a:b"'),
    "empty value": (OK, "Content-Length: 5", "X-A:", "X-B: "),
    "twice": (OK, "Content-Length: 5", "Vary: a", "vary: b", "Vary: c"),
    "latin-1": (OK, "Content-Length: 5", "X-A: \xe4\xf6\xfc"),
    "204": ("HTTP/1.1 204 No Content",),
    "204 length": ("HTTP/1.1 204 No Content", "Content-Length: 0"),
    "304": ("HTTP/1.1 304 Not Modified", "Content-Length: 5"),
    "100 first": ("HTTP/1.1 100 Continue", "", OK, "Content-Length: 5"),
    "404": ("HTTP/1.1 404 Not Found", "Content-Length: 5"),
    "999": ("HTTP/1.1 999 Odd", "Content-Length: 5"),
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("lines", SAME.values(), ids=SAME.keys())
def test_head_is_read_as_http_client_reads_it(lines, method):
    """Status, length, coding, life of the connection and headers are the same."""
    data = written(*lines)
    for step in (1, 1 << 20):
        response = ResponseParser(method)
        for start in range(0, len(data), step):
            response.feed(data[start : start + step])
        with theirs(data, method) as other:
            assert response.status == other.status
            assert response.reason.strip() == other.reason
            assert response.remaining == other.length
            if method != "HEAD":  # there is none, whatever the head says
                assert response.chunked == other.chunked
            assert response.reusable != other.will_close
            joined = {  # http.client keeps blanks behind a value
                name.lower(): ", ".join(other.headers.get_all(name)).rstrip(" \t")
                for name in other.headers
            }
            assert response.headers == joined


BODIES = {
    "length": ("Content-Length: 5", b"hello"),
    "to the end": ("Server: x", b"hello"),
    "chunked": ("Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "extension": ("Transfer-Encoding: chunked", b"5;a=b\r\nhello\r\n0;x\r\n\r\n"),
    "trailer": ("Transfer-Encoding: chunked", b"05\r\nhello\r\n0\r\nX-A: b\r\n\r\n"),
    "hexadecimal": ("Transfer-Encoding: chunked", b"a\r\n0123456789\r\n0\r\n\r\n"),
    "HEXADECIMAL": ("Transfer-Encoding: chunked", b"A\r\n0123456789\r\n0\r\n\r\n"),
    "nothing": ("Content-Length: 0", b""),
    "empty chunked": ("Transfer-Encoding: chunked", b"0\r\n\r\n"),
}


@pytest.mark.parametrize(("header", "body"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("step", [1, 3, 100])
def test_body_is_read_as_http_client_reads_it(header, body, step):
    """Whatever says where a body ends, it is the same body, in any steps."""
    data = written(OK, header, body=body)
    with theirs(data) as other:
        assert parsed(data, step=step).take() == other.read()


# -- not as http.client -----------------------------------------------------------------

FIELDS = {
    "folded": (("X-A: b", "  c", "\td ", "Content-Length: 5"), "b c d"),
    "folded at once": (("X-A:", " b", "Content-Length: 5"), "b"),
    "folded first": ((" X-A: b", "Content-Length: 5"), "b"),
}


@pytest.mark.parametrize(("lines", "value"), FIELDS.values(), ids=FIELDS.keys())
def test_folded_fields(lines, value):
    """A folded field is one (RFC 9112, 5.2)."""
    response = parsed(written(OK, *lines, body=b"hello"))
    assert " ".join(response.headers["x-a"].split()) == value
    assert (response.take(), response.reusable) == (b"hello", True)


def test_many_fields():
    """A proxy may add its own, and a hundred fields are no attack."""
    response = parsed(written(OK, *(f"X-{n}: v" for n in range(150))))
    assert response.headers == {f"x-{n}": "v" for n in range(150)}


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
    "blank in front of the colon": (OK, "X-A : b", "Content-Length: 5"),
    "control character": (OK, "X-A: a\x1bb"),
    "bare lines": ("HTTP/1.1 200 OK\nContent-Length: 0\n", ""),
    "two ends": (OK, "Content-Length: 5", "Transfer-Encoding: chunked"),
    "other coding": (OK, "Transfer-Encoding: gzip"),
    "two codings": (OK, "Transfer-Encoding: gzip, chunked"),
    "upgrade": ("HTTP/1.1 101 Go", "Connection: upgrade", "Upgrade: x"),
    "blank line": ("", OK),
    "endless": (OK, *["X-A: " + "a" * 1000] * 300),
    "endlessly coming": ("HTTP/1.1 100 Continue", "") * 20_000,
}


@pytest.mark.parametrize("step", [7, 1 << 20])
@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED.keys())
def test_refused_heads(lines, step):
    """What is no head, or can be read in two ways, is no response."""
    response = ResponseParser("GET")
    data = written(*lines, body=b"hello")
    with pytest.raises(ResponseError):
        for start in range(0, len(data), step):
            response.feed(data[start : start + step])
        response.feed(b"")
    assert not response.reusable


@pytest.mark.parametrize("cut", range(len(written(OK, "Content-Length: 0"))))
def test_cut_heads(cut):
    """A head that ends too early is none, wherever it is cut."""
    with pytest.raises(ResponseError, match="Connection closed before the end"):
        parsed(written(OK, "Content-Length: 0")[:cut])


def test_head_of_the_greatest_size():
    """A head may be as long as it may."""
    rest = MAX_HEAD - len(written(OK, "X-A: "))
    assert len(parsed(written(OK, "X-A: " + "a" * rest)).headers["x-a"]) == rest
    with pytest.raises(ResponseError, match="does not end"):
        parsed(written(OK, "X-A: a" + "a" * rest))


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_response_without_a_body_is_not_waited_for(status):
    """Where there is no body, there is none, whatever coding the head names."""
    response = ResponseParser("GET")
    response.feed(written(f"HTTP/1.1 {status}", "Transfer-Encoding: chunked"))
    assert (response.complete, response.chunked, response.take()) == (True, False, b"")


def test_consent_to_a_tunnel_has_no_body():
    """What a proxy says about a body of its consent does not count."""
    response = ResponseParser("CONNECT")
    response.feed(written(OK, "Content-Length: 5"))
    assert response.complete


CHUNKS = {
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
    "blanks": b"5 \r\nhello\r\n0\r\n\r\n",
    "bare lines": b"5\nhello\n0\n\n",
    "endless extension": b"5;" + b"a" * (MAX_HEAD + 1),
    "endless trailer": b"0\r\nX-A: " + b"a" * (MAX_HEAD + 1),
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_bad_chunks(chunks):
    """A body whose chunks are none is cut, and its connection is not used again."""
    response = ResponseParser("GET")
    response.feed(written(OK, "Transfer-Encoding: chunked"))
    with pytest.raises(ResponseError):
        response.feed(chunks)
        response.feed(b"")
    assert not response.reusable


def test_bytes_between_chunks_are_limited():
    """Extensions of chunks count anew after each piece of content."""
    response = ResponseParser("GET")
    response.feed(written(OK, "Transfer-Encoding: chunked"))
    for _ in range(3):
        response.feed(b"5;" + b"a" * (MAX_HEAD // 2) + b"\r\nhello\r\n")
    response.feed(b"0\r\n\r\n")
    assert (response.take(), response.reusable) == (b"hello" * 3, True)


def test_trailers_are_no_headers():
    """A field after the body cannot change what the head said."""
    response = ResponseParser("GET")
    response.feed(written(OK, "Transfer-Encoding: chunked", "ETag: a"))
    response.feed(b"2\r\nok\r\n0\r\nETag: b\r\nX-A: c\r\n\r\n")
    assert response.complete
    assert response.headers == {"transfer-encoding": "chunked", "etag": "a"}


def test_parser_is_freed_at_once():
    """No parser waits for the collector of cycles."""
    gc.disable()
    try:
        response = parsed(written(OK, "Content-Length: 5", body=b"hello"))
        gone = weakref.ref(response)
        del response
        assert gone() is None
    finally:
        gc.enable()


# -- the connection ---------------------------------------------------------------------

ENDS = {
    "whole": (OK, ("Content-Length: 5",), b"hello", True),
    "nothing": (OK, ("Content-Length: 0",), b"", True),
    "chunked": (OK, ("Transfer-Encoding: chunked",), b"5\r\nhello\r\n0\r\n\r\n", True),
    "204": ("HTTP/1.1 204 No Content", (), b"", True),
    "1.0": ("HTTP/1.0 200 OK", ("Content-Length: 5",), b"hello", False),
    "close": (OK, ("Content-Length: 5", "Connection: close"), b"hello", False),
    "to the end": (OK, (), b"hello", False),
    "old and chunked": (
        "HTTP/1.0 200 OK",
        ("Connection: keep-alive", "Transfer-Encoding: chunked"),
        b"5\r\nhello\r\n0\r\n\r\n",
        False,
    ),
    "more than announced": (OK, ("Content-Length: 4",), b"hello", False),
    "more chunks": (
        OK,
        ("Transfer-Encoding: chunked",),
        b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        False,
    ),
    "rubbish after chunks": (
        OK,
        ("Transfer-Encoding: chunked",),
        b"5\r\nhello\r\n0\r\n\r\nx",
        False,
    ),
    "204 and a body": (
        "HTTP/1.1 204 No Content",
        ("Content-Length: 5",),
        b"hello",
        False,
    ),
    "204 and chunks": (
        "HTTP/1.1 204 No Content",
        ("Transfer-Encoding: chunked",),
        b"0\r\n\r\n",
        False,
    ),
}


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(
    ("status", "lines", "body", "again"), ENDS.values(), ids=ENDS.keys()
)
def test_what_may_follow_a_response(status, lines, body, again, step):
    """A connection is used again if it is certain where its response ended."""
    response = parsed(written(status, *lines, body=body), step=step)
    assert (response.complete, response.reusable) == (True, again)


FORGED = written(OK, "Content-Length: 6", body=b"forged")
BAD = {
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
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_nothing_follows_a_bad_answer(serve, send, bad):
    """What comes late behind a bad answer is never taken for the next one."""
    first = threading.Event()

    def script(peer):
        peer.request()
        peer.sock.sendall(bad)
        first.wait(5)
        peer.request()
        peer.sock.sendall(FORGED)

    def fine(peer):
        while peer.request():
            peer.answer()

    server = serve(script, fine)
    with contextlib.suppress(NetworkError):
        send(server.origin + QUERY, MemoryBody.of(b"a"))
    first.set()
    assert send(server.origin + QUERY, MemoryBody.of(b"b")).body == b"ok"
    assert server.accepted == 2


@pytest.mark.parametrize("line", ["X-A: 1", " folded"])
def test_too_many_headers(line):
    """A head of thousands of lines is none, before it costs seconds."""
    assert parsed(written(OK, "X-A: 0", *[line] * 250)).status == 200
    with pytest.raises(ResponseError, match="too many headers"):
        parsed(written(OK, "X-A: 0", *[line] * 300))

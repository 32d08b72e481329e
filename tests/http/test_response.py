"""Heads of answers, as http.client reads them; and which connections live on."""

from __future__ import annotations

import contextlib
import gc
import http.client
import io
import socket
import threading

import pytest

from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.connection import MAX_HEAD, Answer, Phase, Watch

QUERY = "/b/k?x-oss-signature=TOPSECRET"
OK = "HTTP/1.1 200 OK"


def written(*lines, body=b""):
    """Return an answer as it comes over the wire."""
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


class Wire:
    """A socket from which prepared bytes come, *step* at a time."""

    def __init__(self, data, step=1 << 20):
        self.left = io.BytesIO(data)
        self.step = step

    def recv_into(self, buffer):
        """Give the next bytes."""
        data = self.left.read(min(len(buffer), self.step))
        buffer[: len(data)] = data
        return len(data)


def ours(data, method="GET", step=1 << 20, release=None):
    """Return our answer to a request, its head read."""
    wire = Wire(data, step)
    answer = Answer(wire, Watch(5.0, Phase.SEND), method, release)
    answer.begin()
    return answer


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


# -- as http.client ---------------------------------------------------------------------

SAME = {
    "plain": (OK, "Content-Length: 5"),
    "no length": (OK, "Server: x"),
    "no headers": (OK,),
    "no reason": ("HTTP/1.1 200", "Content-Length: 0"),
    "blank reason": ("HTTP/1.1 200 ", "Content-Length: 0"),
    "long reason": ("HTTP/1.1 404 No  such thing ", "Content-Length: 0"),
    "other version": ("HTTP/1.2 200 OK", "Content-Length: 5"),
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
    "no number": (OK, "Content-Length: five"),
    "negative": (OK, "Content-Length: -5"),
    "empty length": (OK, "Content-Length:"),
    "zeros": (OK, "Content-Length: 0005"),
    "blanks": (OK, "Content-Length: \t 5 \t", "X-A:\t b c \t"),
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
    data = written(*lines, body=b"hello")
    for step in (1, 1 << 20):
        answer = ours(data, method, step)
        with theirs(data, method) as other:
            assert answer.status_code == answer.code == other.status
            assert answer.reason == other.reason
            assert answer.version == other.version
            assert answer.length_remaining == other.length
            if method != "HEAD":  # there is none, whatever the head says
                assert answer.chunked == other.chunked
            assert answer.will_close == other.will_close
            joined = {  # http.client keeps blanks behind a value
                name.lower(): ", ".join(other.headers.get_all(name)).rstrip(" \t")
                for name in other.headers
            }
            assert answer.headers == joined
        assert answer.raw is answer
        answer.close()


BODIES = {
    "length": ("Content-Length: 5", b"hello"),
    "to the end": ("Server: x", b"hello"),
    "chunked": ("Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "extension": ("Transfer-Encoding: chunked", b"5;a=b\r\nhello\r\n0;x\r\n\r\n"),
    "trailer": ("Transfer-Encoding: chunked", b"05\r\nhello\r\n0\r\nX-A: b\r\n\r\n"),
    "hexadecimal": ("Transfer-Encoding: chunked", b"a\r\n0123456789\r\n0\r\n\r\n"),
    "HEXADECIMAL": ("Transfer-Encoding: chunked", b"A\r\n0123456789\r\n0\r\n\r\n"),
    "blanks": ("Transfer-Encoding: chunked", b"5 \r\nhello\r\n0\r\n\r\n"),
    "bare lines": ("Transfer-Encoding: chunked", b"5\nhello\r\n0\n\n"),
    "nothing": ("Content-Length: 0", b""),
    "empty chunked": ("Transfer-Encoding: chunked", b"0\r\n\r\n"),
}


@pytest.mark.parametrize(("header", "body"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("amount", [1, 3, 100, None])
def test_body_is_read_as_http_client_reads_it(header, body, amount):
    """Whatever says where a body ends, it is the same body, in any steps."""
    data = written(OK, header, body=body)
    answer, got = ours(data), b""
    while block := answer.read(amount):
        got += block
    with theirs(data) as other:
        assert got == other.read()
    answer.close()


# -- not as http.client -----------------------------------------------------------------

FIELDS = {
    "folded": (("X-A: b", "  c", "\td ", "Content-Length: 5"), {"x-a": "b c d"}),
    "folded at once": (("X-A:", " b", "Content-Length: 5"), {"x-a": "b"}),
    "folded first": ((" X-A: b", "Content-Length: 5"), {}),
    "folded after nothing": (("rubbish", " X-A: b", "Content-Length: 5"), {}),
    "no colon": (("rubbish", "Content-Length: 5"), {}),
    "no name": ((": rubbish", " more", "Content-Length: 5"), {}),
    "blank name": (("\t: rubbish", "Content-Length: 5"), {}),
    "blank in front of the colon": (("Content-Length : 5", "X-A : b"), {"x-a": "b"}),
    "other blanks": (
        ("\xa0X-A: \xa0b\x85", "Content-Length: 5"),
        {"\xa0x-a": "\xa0b\x85"},
    ),
    "twice": (("Content-Length: 5, 5", "Content-Length: 5"), {}),
    "many": ((*(f"X-{n}: v" for n in range(150)), "Content-Length: 5"), None),
}


@pytest.mark.parametrize(("lines", "wanted"), FIELDS.values(), ids=FIELDS.keys())
def test_odd_fields(lines, wanted):
    """What is no field is passed over, and hides none of those that are."""
    answer = ours(written(OK, *lines, body=b"hello"))
    found = {n: v for n, v in answer.headers.items() if n != "content-length"}
    assert found == (
        wanted if wanted is not None else {f"x-{n}": "v" for n in range(150)}
    )
    assert (answer.length, answer.will_close) == (5, False)
    assert answer.read() == b"hello"
    answer.close()


def test_other_blanks_are_part_of_a_length():
    """Only blanks of HTTP stand around a length: others make it none."""
    answer = ours(written(OK, "Content-Length: \xa05"))
    assert (answer.length, answer.will_close) == (None, True)
    answer.close()


REFUSED = {
    "two lengths": (OK, "Content-Length: 5", "Content-Length: 6"),
    "two in one": (OK, "Content-Length: 5, 6"),
    "one and nothing": (OK, "Content-Length: 5,"),
    "two ways": (OK, "Content-Length: 5", "content-length : 05"),
    "endless length": (OK, "Content-Length: " + "9" * 5000),
    "long line": (OK, "X-A: " + "a" * 65531 + "Content-Length: 5"),
    "long status": ("HTTP/1.1 200 " + "O" * 66000,),
    "switch": ("HTTP/1.1 101 Switching Protocols",),
    "next version": ("HTTP/2.0 200 OK",),
    "first version": ("HTTP/0.9 200 OK",),
    "no status": ("HTTP/1.1 OK",),
    "low status": ("HTTP/1.1 99 OK",),
    "rubbish": ("<html>",),
    "blank line": ("", OK),
    "endless": (OK, *["X-A: " + "a" * 1000] * 300),
    "endlessly coming": ("HTTP/1.1 100 Continue", "") * 20_000,
}


@pytest.mark.parametrize("lines", REFUSED.values(), ids=REFUSED.keys())
def test_refused_heads(lines):
    """What is no head, or can be read in two ways, is no answer."""
    said = []
    with pytest.raises(http.client.HTTPException):
        ours(written(*lines, body=b"hello"), release=said.append)
    gc.collect()
    assert True not in said


@pytest.mark.parametrize("cut", range(1, len(written(OK, "Content-Length: 0"))))
def test_cut_heads(cut):
    """A head that ends too early is none, wherever it is cut."""
    data = written(OK, "Content-Length: 0")[:cut]
    with pytest.raises(http.client.RemoteDisconnected):
        ours(data)
    with pytest.raises(http.client.RemoteDisconnected):
        ours(b"")


def test_head_of_the_greatest_size():
    """A head may be as long as it may, in lines as long as they may."""
    line = "X-A: " + "a" * (65536 - 7)
    rest = MAX_HEAD - 3 * 65536 - len(OK) - 4 - 8192
    answer = ours(written(OK, *[line] * 3, "X-B: " + "b" * rest), step=8192)
    assert len(answer.headers["x-b"]) == rest
    answer.close()


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_answer_without_a_body_is_not_waited_for(status):
    """Where there is no body, there is none, whatever coding the head names."""
    answer = ours(written(f"HTTP/1.1 {status}", "Transfer-Encoding: chunked"))
    assert answer.read(10) == b""
    assert (answer.length_remaining, answer.chunked) == (0, False)
    answer.close()


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
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_bad_chunks(chunks):
    """A body whose chunks are none is cut, and its connection is not used again."""
    said = []
    answer = ours(
        written(OK, "Transfer-Encoding: chunked", body=chunks), release=said.append
    )
    with pytest.raises(Exception, match="Connection aborted") as caught:
        while answer.read(1 << 16):
            pass
    assert isinstance(caught.value.__cause__, http.client.HTTPException)
    answer.close()
    assert said == [False]


def test_negative_chunk_reads_no_more_than_is_wanted():
    """A chunk of less than nothing is not taken for all that ever comes."""
    wire = Wire(
        written(OK, "Transfer-Encoding: chunked", body=b"-1\r\n") + bytes(1 << 20)
    )
    answer = Answer(wire, Watch(5.0, Phase.SEND), "GET")
    answer.begin()
    with pytest.raises(Exception, match="Connection aborted"):
        answer.read(10)
    assert wire.left.tell() < 1 << 17
    answer.close()


# -- the connection ---------------------------------------------------------------------

ENDS = {
    "whole": (OK, ("Content-Length: 5",), b"hello", True),
    "nothing": (OK, ("Content-Length: 0",), b"", True),
    "chunked": (OK, ("Transfer-Encoding: chunked",), b"5\r\nhello\r\n0\r\n\r\n", True),
    "204": ("HTTP/1.1 204 No Content", (), b"", True),
    "1.0": ("HTTP/1.0 200 OK", ("Content-Length: 5",), b"hello", False),
    "close": (OK, ("Content-Length: 5", "Connection: close"), b"hello", False),
    "to the end": (OK, (), b"hello", False),
    "cut": (OK, ("Content-Length: 6",), b"hello", False),
    "two ends": (
        OK,
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        b"5\r\nhello\r\n0\r\n\r\n",
        False,
    ),
    "other coding": (OK, ("Transfer-Encoding: gzip", "Content-Length: 0"), b"", False),
    "no coding": (OK, ("Transfer-Encoding:", "Content-Length: 0"), b"", False),
    "old and chunked": (
        "HTTP/1.0 200 OK",
        ("Connection: keep-alive", "Transfer-Encoding: chunked"),
        b"5\r\nhello\r\n0\r\n\r\n",
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


@pytest.mark.parametrize(
    ("status", "lines", "body", "again"), ENDS.values(), ids=ENDS.keys()
)
def test_what_may_follow_an_answer(status, lines, body, again):
    """A connection is used again if it is certain where its answer ended."""
    said = []
    answer = ours(written(status, *lines, body=body), release=said.append)
    with contextlib.suppress(Exception):
        while answer.read(3):
            pass
    answer.close()
    answer.close()
    assert said == [again]


def test_answer_that_nobody_read():
    """An answer that is dropped unread does not give its connection back for use."""
    said = []
    answer = ours(written(OK, "Content-Length: 5", body=b"hello"), release=said.append)
    assert answer.read(2) == b"he"
    del answer
    gc.collect()
    assert said == [False]


def test_read_of_nothing():
    """Nothing is wanted, nothing is read, and the rest comes all the same."""
    answer = ours(written(OK, "Content-Length: 5", body=b"hello"))
    assert answer.read(0) == b""
    assert answer.read(9) == b"hello"
    assert answer.read(9) == b""
    answer.close()


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


def test_long_line_brings_no_header_of_its_own(serve, send):
    """The end of a line that is too long is not taken for the next header."""

    def script(peer):
        peer.request()
        line = b"X-A: " + b"a" * 65531 + b'ETag: "forged"\r\n'
        peer.sock.sendall(OK.encode() + b"\r\n" + line + b"Content-Length: 0\r\n\r\n")

    with pytest.raises(NetworkError):
        send(serve(script).origin + QUERY, MemoryBody.of(b"a"))


@pytest.mark.parametrize("line", ["X-A: 1", " folded"])
def test_too_many_headers(line):
    """A head of thousands of lines is none, before it costs seconds."""
    assert ours(written(OK, "X-A: 0", *[line] * 250)).status == 200
    with pytest.raises(http.client.HTTPException, match="too many headers"):
        ours(written(OK, "X-A: 0", *[line] * 300))

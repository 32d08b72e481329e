"""What goes over the wire, to the byte, and what comes back when the wire is bad."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Iterator

import pytest

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
    SignerError,
)
from fsspec_osspresigned.http.body import BLOCK, SLICE, MemoryBody
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.http.transfer import Exchange, said
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from tests.engine_calls import Call

QUERY = "?x-oss-signature=TOPSECRET"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "E"\r\n\r\nok'
CLOSING = OK.replace(b"ETag", b"Connection: close\r\nETag")

Answer = bytes | Callable[[socket.socket], None]


class Wire:
    """A server that answers each connection with prepared bytes, or misbehaves."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.answers: list[Answer] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def start(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.thread.start()

    def _serve(self) -> None:
        for answer in self.answers:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                if callable(answer):
                    answer(connection)
                    continue
                self.received.append(read_request(connection))
                connection.sendall(answer)

    @property
    def target(self) -> bytes:
        """The target of the only request."""
        (request,) = self.received
        return request.split(b" ")[1]

    def headers(self, index: int = 0) -> dict[str, str]:
        """Names in lower case and values of a request."""
        head = self.received[index].partition(b"\r\n\r\n")[0].decode()
        pairs = (line.partition(": ") for line in head.split("\r\n")[1:])
        return {name.lower(): value for name, _, value in pairs}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self.listener.close()
        if self.thread.is_alive():
            self.thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    """Return one request, its body by Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        block = connection.recv(1 << 20)
        if not block:
            break
        body += block
    return head + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """Break the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A server of raw bytes."""
    one = Wire()
    yield one
    one.close()


@pytest.fixture
def transport() -> Iterator[Transport]:
    """A transport with short timeouts."""
    one = Transport(connect_timeout=5.0, progress_timeout=5.0)
    yield one
    one.close()


@pytest.fixture
def hasty() -> Iterator[Transport]:
    """A transport that waits for next to nothing."""
    one = Transport(connect_timeout=0.1, progress_timeout=0.1)
    yield one
    one.close()


def put(url: str, **facts) -> SignedRequest:
    """Return a signed PUT."""
    return SignedRequest(**{"method": "PUT", "url": url, **facts})


# -- the request ------------------------------------------------------------------------


@pytest.mark.parametrize(("tail", "target"), [("", b"/"), ("?a=%2b", b"/?a=%2b")])
def test_url_without_a_path(wire, transport, tail, target):
    """The root stands in for a missing path."""
    wire.start(OK)
    run(transport.send, put(wire.origin + tail))
    assert wire.target == target


def test_proxy_that_is_not_there(wire, monkeypatch):
    """A refused proxy is blamed, without its password."""
    wire.close()
    monkeypatch.setenv("http_proxy", f"http://u:PASSWORD@127.0.0.1:{wire.port}")
    allowing = Transport(allow_http=True)
    with pytest.raises(NetworkError, match=r"proxy or b\.example") as caught:
        run(allowing.send, put("http://b.example/k" + QUERY))
    assert "PASSWORD" not in everything(caught.value)
    assert not caught.value.sent


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
def test_url_that_cannot_be_sent(transport, url, words):
    """What would have to be changed is refused, and nothing is sent."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        run(transport.send, put(url + QUERY), exchange=Exchange(path="b/k"))
    assert "TOPSECRET" not in everything(caught.value)
    assert caught.value.path == "b/k"


@pytest.mark.parametrize("bad", ["\u20ac", "a\r\nb: c", "a\rb", "a\nb", "\U0001f600"])
@pytest.mark.parametrize("where", ["name", "value", "method"])
def test_header_that_cannot_be_sent(transport, bad, where):
    """What has no byte in a head, or ends a line, is refused, and nothing is shown."""
    name, value = (bad, "TOPSECRET") if where == "name" else ("x-oss-meta-a", bad)
    signed = put(
        f"http://127.0.0.1:9/k{QUERY}",
        method=bad if where == "method" else "PUT",
        headers={} if where == "method" else {name: value},
    )
    with pytest.raises(ConfigurationError, match="end of a line") as caught:
        run(transport.send, signed, exchange=Exchange(path="b/k"))
    assert "TOPSECRET" not in everything(caught.value)
    assert caught.value.path == "b/k"


def test_host_that_was_signed(wire, transport):
    """A Host among the signed headers goes out as it is, and no second one."""
    wire.start(OK)
    run(transport.send, put(wire.origin + "/k", headers={"HOST": "b.example"}))
    assert wire.headers()["host"] == "b.example"
    assert wire.received[0].lower().count(b"host:") == 1


def test_headers_of_an_empty_body(wire, transport):
    """Nothing is added but what HTTP needs; Content-Length is 0."""
    wire.start(OK)
    run(transport.send, put(wire.origin + "/k", headers={"X-Oss-Meta-A": "1"}))
    assert wire.headers() == {
        "host": f"127.0.0.1:{wire.port}",
        "x-oss-meta-a": "1",
        "content-length": "0",
        "user-agent": "fsspec-osspresigned",
        "accept-encoding": "identity",
    }
    assert wire.received[0].endswith(b"\r\n\r\n")


def test_headers_that_were_signed_win(wire, transport):
    """Defaults step back, and headers that no signature covers are added."""
    signed = {"user-agent": "mine", "Accept-Encoding": "x", "content-length": "3"}
    wire.start(OK)
    run(
        transport.send,
        put(wire.origin + "/k", headers=signed),
        MemoryBody.of(b"abc"),
        Exchange(free_headers={"Range": "bytes=0-"}),
    )
    found = wire.headers()
    assert (found["user-agent"], found["accept-encoding"]) == ("mine", "x")
    assert (found["content-length"], found["range"]) == ("3", "bytes=0-")
    assert wire.received[0].lower().count(b"content-length") == 1


def test_signed_for_another_length(transport):
    """A body that cannot be sent as signed is refused at once."""
    signed = put("http://127.0.0.1:1/k", headers={"Content-Length": "4"})
    with pytest.raises(ConfigurationError, match="signed for 4 bytes, the body has 3"):
        run(transport.send, signed, MemoryBody.of(b"abc"))


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, 5 * BLOCK])
def test_body_is_never_chunked(wire, transport, size):
    """All bytes go out plain, are counted, summed up and reported."""
    data, sent = bytes(i % 251 for i in range(size)), []
    wire.start(OK)
    reply = run(
        transport.send,
        put(wire.origin + "/k"),
        MemoryBody.of(data),
        Exchange(with_crc=True, progress=sent.append),
    )
    assert wire.received[0].partition(b"\r\n\r\n")[2] == data
    assert "transfer-encoding" not in wire.headers()
    assert wire.headers()["content-length"] == str(size)
    assert (reply.body_bytes, sum(sent), reply.crc64) == (size, size, crc64(data))
    assert (reply.status, reply.body, reply.etag) == (200, b"ok", '"E"')


def test_crc_is_computed_only_on_demand(wire, transport):
    """Who does not compare does not compute."""
    wire.start(OK)
    reply = run(transport.send, put(wire.origin + "/k"), MemoryBody.of(b"abc"))
    assert reply.crc64 is None


def test_netrc_and_cookies_are_not_used(wire, transport, monkeypatch, tmp_path):
    """An Authorization header or a cookie would break the signature, or leak."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login u password p\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with_cookie = CLOSING.replace(b"ETag", b"Set-Cookie: a=b; Path=/\r\nETag")
    wire.start(with_cookie, OK)
    for _ in range(2):
        run(transport.send, put(wire.origin + "/k"))
    for index in range(2):
        assert not {"authorization", "cookie"} & wire.headers(index).keys()


# -- the answer -------------------------------------------------------------------------


def everything(error: BaseException) -> str:
    """Return all that a logger could print of an error."""
    lines = traceback.format_exception(error, chain=True)
    return "".join(lines) + repr(error) + repr(error.__dict__)


BAD_REPLIES = [
    b"",
    b"HTTP/1.1 2",
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab",
    b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nshort",
]


@pytest.mark.parametrize("answer", BAD_REPLIES, ids=range(len(BAD_REPLIES)))
def test_bad_replies(wire, transport, answer):
    """Whatever is no complete answer leaves the outcome unknown."""
    wire.start(answer)
    with pytest.raises(NetworkError) as caught:
        run(
            transport.send,
            put(wire.origin + "/k" + QUERY),
            exchange=Exchange(path="b/k"),
        )
    error = caught.value
    assert not isinstance(error, NetworkTimeoutError)
    assert error.sent
    assert (error.path, error.__cause__, error.__context__) == ("b/k", None, None)
    assert "TOPSECRET" not in everything(error)


def test_reset(wire, transport):
    """A reset names the host and the reason of the system."""
    wire.start(reset)
    with pytest.raises(NetworkError, match=f"127.0.0.1:{wire.port}") as caught:
        run(transport.send, put(wire.origin + "/k" + QUERY))
    assert "TOPSECRET" not in everything(caught.value)


def test_failure_takes_progress_back(wire, transport):
    """Bytes of a try that failed were not sent."""
    wire.start(b"")
    sent = []
    with pytest.raises(NetworkError):
        run(
            transport.send,
            put(wire.origin + "/k"),
            MemoryBody.of(bytes(BLOCK)),
            Exchange(progress=sent.append),
        )
    assert sum(sent) == 0


def test_no_connection_in_time(hasty):
    """A host that swallows packets is a timeout before anything was sent."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    where = listener.getsockname()
    crowd = [socket.socket() for _ in range(4)]
    for one in crowd:  # the queue is full: further packets are dropped
        one.setblocking(False)
        one.connect_ex(where)
    with pytest.raises(NetworkTimeoutError, match="no connection to") as caught:
        run(hasty.send, put(f"http://127.0.0.1:{where[1]}/k{QUERY}"))
    assert not caught.value.sent
    for one in (*crowd, listener):
        one.close()


def test_waiting_for_ever_is_possible(wire):
    """No progress timeout means none on the socket."""
    wire.start(OK)
    patient = Transport(progress_timeout=None)
    assert run(patient.send, put(wire.origin + "/k")).status == 200
    patient.close()


class Sink(io.BytesIO):
    """Counts its beginnings."""

    begun = 0

    def begin(self) -> None:
        self.begun += 1
        self.truncate(0)


def test_sink_that_judges(wire, transport):
    """A sink that looks at the head first may refuse the body."""

    class Judge(Sink):
        def head(self, status, headers):
            raise SignerError(f"{status} {headers['etag']}")

    sink = Judge()
    wire.start(OK)
    with pytest.raises(SignerError, match='200 "E"'):
        run(transport.send, put(wire.origin + "/k"), exchange=Exchange(sink=sink))
    assert sink.begun == 0


def test_sink_wants_an_end(wire, transport):
    """A body that ends with the connection could be cut unnoticed."""
    wire.start(b"HTTP/1.1 200 OK\r\n\r\nsome")
    with pytest.raises(NetworkError, match="does not say how much"):
        run(
            transport.send,
            put(wire.origin + "/k", method="GET"),
            exchange=Exchange(sink=Sink(), in_thread=True),
        )


def test_sink_of_a_cut_body(wire, transport):
    """Half a body is an error, however much of it was written."""
    wire.start(OK.replace(b": 2", b": 9"))
    with pytest.raises(NetworkError):
        run(
            transport.send,
            put(wire.origin + "/k", method="GET"),
            exchange=Exchange(sink=Sink()),
        )


@pytest.mark.parametrize("step", ["begin", "write"])
def test_sink_that_fails(wire, transport, monkeypatch, step):
    """A full disk is a full disk, not a bad network."""

    def full(*_):
        raise OSError(28, "No space left on device")

    sink = Sink()
    monkeypatch.setattr(sink, step, full, raising=False)
    wire.start(OK)
    with pytest.raises(OSError, match="No space left") as caught:
        run(
            transport.send,
            put(wire.origin + "/k", method="GET"),
            exchange=Exchange(sink=sink),
        )
    assert not isinstance(caught.value, NetworkError)


def test_content_encoding_is_not_undone(wire, transport):
    """Bytes are those that were stored, whatever header they were stored with."""
    wire.start(OK.replace(b"ETag", b"Content-Encoding: gzip\r\nETag"))
    assert run(transport.send, put(wire.origin + "/k", method="GET")).body == b"ok"


# -- the body ---------------------------------------------------------------------------


def test_cancelled_between_blocks(wire, transport):
    """The next block is not sent, and what was sent is taken back."""
    sent = []

    def moved(count: int) -> None:
        sent.append(count)
        if len(sent) == 2:
            call.cancel()

    wire.start(OK)
    body, exchange = MemoryBody.of(bytes(9 * SLICE)), Exchange(progress=moved)
    call = Call(transport.send, put(wire.origin + "/k"), body, exchange)
    assert isinstance(call.begin().wait(), asyncio.CancelledError)
    assert sent == [SLICE, SLICE, -2 * SLICE]


# -- secrets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("Signature=TOPSECRET", "Signature=<hidden>"), ("Odd \x1b text", "Odd   text")],
)
def test_foreign_reasons_are_cleaned(reason, shown):
    """What libcurl or the system says holds no secret, and nothing for a terminal."""
    assert said(reason) == shown

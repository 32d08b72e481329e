"""Replies of servers: which are accepted, and which are refused."""

from __future__ import annotations

import socket
import threading

import pytest

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    NetworkError,
    StoreError,
)
from fsspec_osspresigned.http import transfer as connection
from fsspec_osspresigned.http.body import BLOCK, EMPTY, MemoryBody
from fsspec_osspresigned.http.transfer import Exchange
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import Action, Operation, SignedRequest
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.function import as_signer
from tests.http.conftest import Sink, ok

QUERY = "/b/k?x-oss-signature=TOPSECRET"
BIG = MemoryBody(bytes(64 * BLOCK))


class OneURL:
    """Signs everything with one URL."""

    def __init__(self, url):
        self.url = url

    def sign(self, operations):
        return [
            SignedRequest(method=o.action.method, url=self.url, headers=o.headers)
            for o in operations
        ]


@pytest.fixture
def call():
    """Call an operation with the retry policy, without its waits."""
    transport = Transport(connect_timeout=5.0, progress_timeout=5.0)

    def one(url, body=None, retries=5, **facts):
        policy = RetryPolicy(retries=retries, base=0.0)
        client = Client(Options(), as_signer(OneURL(url)), transport, policy=policy)
        size = body.size if body else None
        operation = Operation(
            action=Action.PutObject, bucket="b", key="k", content_length=size
        )
        return run(client.call, operation, body or EMPTY, Exchange(**facts))

    yield one
    transport.close()


# -- one connection, many requests ------------------------------------------------------


def test_connection_survives_an_error(serve, send):
    """An error body is read to its end, so the next request shares the connection."""

    def script(peer):
        peer.request()
        peer.answer(status="403 Forbidden", body=b"<Error/>" * 2000)
        ok(peer)

    server = serve(script)
    assert send(server.origin + QUERY, MemoryBody(b"a")).status == 403
    assert send(server.origin + QUERY, MemoryBody(b"b")).status == 200
    assert (server.accepted, server.bodies) == (1, [b"a", b"b"])


@pytest.mark.parametrize("reads", [0, 1, 8])
@pytest.mark.parametrize("way", ["close", "reset"])
def test_connection_closed_upon_a_request(serve, call, reads, way):
    """A connection that dies under a request is replaced; the body starts over."""

    def dying(peer):
        peer.request()
        peer.answer()
        peer.head()
        for _ in range(reads):
            peer.sock.recv(BLOCK)
        (peer.reset if way == "reset" else peer.sock.close)()

    server = serve(dying, ok)
    data = bytes(range(256)) * (5 * BLOCK // 64) + b"end"
    call(server.origin + QUERY, MemoryBody(b"first"), in_thread=True)
    reply = call(server.origin + QUERY, MemoryBody(data))
    assert reply.retries == 1
    assert server.bodies == [b"first", data]


# -- answers to no request --------------------------------------------------------------


class Waiting:
    """A body of two blocks; *before* runs before the block of its number."""

    size = 2 * BLOCK

    def __init__(self, before):
        self.before, self.asked = before, 0

    def blocks(self):
        for number in range(2):
            self.asked += 1
            if number in self.before:
                self.before[number]()
            yield memoryview(bytes(BLOCK))


def unasked(peer, sent):
    """Answer without having been asked, and say when it is on the way."""
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.answer("x-oss-request-id: 0", body=b"forged")
    sent.set()
    peer.server.done.wait(10)


@pytest.mark.parametrize("secure", [False, True])
def test_answer_before_the_first_request(
    serve, send_by_thread, certified, trusted, secure
):
    """Bytes sent before the request are no reply, and nothing is sent on that connection."""
    sent = threading.Event()

    def script(peer):
        if secure:
            peer.secure(certified)
        unasked(peer, sent)

    server = serve(script)
    url = f"{'https' if secure else 'http'}://{server.netloc}{QUERY}"
    # TLS hides whether bytes are a reply, so there the head may be sent.
    words = "answered before (it was asked|all bytes were sent)"
    with pytest.raises(NetworkError, match=words) as caught:
        send_by_thread(url, Waiting({0: lambda: sent.wait(5)}))
    assert not caught.value.sent
    assert server.bodies == []


@pytest.mark.parametrize("way", ["answer", "end", "reset"])
def test_answer_between_two_requests(serve, send_by_thread, way):
    """A late second answer, or the end, that comes while the next body is made."""
    asked, sent = threading.Event(), threading.Event()

    def script(peer):
        peer.request()
        peer.answer()
        asked.wait(5)
        if way == "answer":
            unasked(peer, sent)
        else:
            peer.reset() if way == "reset" else peer.sock.shutdown(socket.SHUT_RDWR)
            sent.set()

    def before():
        asked.set()
        sent.wait(5)

    server = serve(script, ok)
    send_by_thread(server.origin + QUERY)
    with pytest.raises(NetworkError, match="before it was asked") as caught:
        send_by_thread(server.origin + QUERY, Waiting({0: before}))
    assert not caught.value.sent
    assert send_by_thread(server.origin + QUERY, MemoryBody(b"next")).body == b"ok"
    assert server.bodies == [b"", b"next"]


@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden"])
def test_answer_in_the_middle_of_a_request(serve, send, status):
    """Nothing more is sent, a refusal counts, and a success proves nothing."""
    sent = threading.Event()

    def script(peer):
        peer.head()
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.answer(status=status, body=DENIED)
        sent.set()
        while peer.sock.recv(BLOCK):
            pass

    server = serve(script, ok)
    body = Waiting({1: lambda: sent.wait(5)})
    if status == "200 OK":
        with pytest.raises(NetworkError, match="before all bytes were sent"):
            send(server.origin + QUERY, body)
    else:
        reply = send(server.origin + QUERY, body)
        assert (reply.status, reply.body) == (403, DENIED)
        assert reply.body_bytes < body.size
    assert send(server.origin + QUERY).body == b"ok"
    assert server.accepted == 2


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_body_that_ends_early(serve, send_by_thread, status):
    """Fewer bytes than announced are no object, whatever is answered to them."""

    class Short:
        size = 3

        def blocks(self):
            yield memoryview(b"ab")

    def script(peer):
        peer.head()
        peer.answer(status=status)
        peer.server.done.wait(10)

    server = serve(script, ok)
    with pytest.raises(NetworkError, match=r"before all bytes|ends after 2 of 3 bytes"):
        reply = send_by_thread(server.origin + QUERY, Short())
        if reply.status == 404:  # it came in time to be read
            raise NetworkError("before all bytes")
    assert send_by_thread(server.origin + QUERY, MemoryBody(b"next")).status == 200
    assert (server.accepted, server.bodies) == (2, [b"next"])


@pytest.mark.parametrize("stray", [("x-oss-request-id: 1",), ()])
def test_answer_to_the_request_before(serve, send, stray):
    """An answer that comes once more, or without the number of all others, is refused."""

    def script(peer):
        for number in (0, 1):
            peer.request()
            peer.answer(f"x-oss-request-id: {number}")
        peer.request()
        peer.answer(*stray, status="204 No Content", body=b"")
        peer.answer("x-oss-request-id: 2", status="403 Forbidden", body=DENIED)

    server = serve(script, ok)
    assert send(server.origin + QUERY).status == 200
    assert send(server.origin + QUERY).status == 200
    with pytest.raises(NetworkError, match="not the one to this request") as caught:
        send(server.origin + QUERY, method="DELETE")
    assert caught.value.sent
    assert send(server.origin + QUERY).status == 200
    assert server.accepted == 2


@pytest.mark.parametrize("send", [False], indirect=True, ids=["loop"])
def test_answer_to_a_request_of_another_client(serve, send):
    """The first request of a client does not get the reply to one of another client."""

    def script(peer):
        for number in (0, 1):
            peer.request()
            peer.answer(f"x-oss-request-id: {number}")
        peer.request()
        peer.answer("x-oss-request-id: 1")

    server = serve(script, ok)
    for _ in range(2):
        assert send(server.origin + QUERY).status == 200
    with pytest.raises(NetworkError, match="not the one to this request"):
        send(server.origin + QUERY, seconds=6.0)  # by a transport of its own
    assert server.accepted == 1


# -- answers before the answer ----------------------------------------------------------


@pytest.mark.parametrize(
    "status", ["100 Continue", "102 Processing", "103 Early Hints"]
)
def test_interim_answers(serve, send, status):
    """Interim answers are passed over, before and after the body."""

    def script(peer):
        interim = f"HTTP/1.1 {status}\r\nLink: <x>\r\n\r\n".encode()
        for _ in range(2):
            peer.request()
            peer.sock.sendall(interim * 3)
            peer.answer(status="201 Created")

    server = serve(script)
    replies = [send(server.origin + QUERY, MemoryBody(b"abc")) for _ in range(2)]
    assert [reply.status for reply in replies] == [201, 201]
    assert server.bodies == [b"abc"] * 2


def test_headers_of_an_interim_answer_prove_nothing(serve, call):
    """The ETag and CRC of a 103 say nothing about the object that the reply confirms."""
    body = MemoryBody(b"abc")
    early = "ETag: x\r\nx-oss-hash-crc64ecma: 1\r\nLink: <x>\r\n"

    def script(peer):
        peer.request()
        peer.sock.sendall(f"HTTP/1.1 103 Early Hints\r\n{early}\r\n".encode())
        peer.answer("Server: AliyunOSS")

    headers = call(serve(script).origin + QUERY, body).headers
    assert headers["server"] == "AliyunOSS"
    assert headers.keys().isdisjoint({"etag", "x-oss-hash-crc64ecma", "link"})


def test_interim_answer_in_the_middle_of_a_request(serve, send_by_thread):
    """One that comes before the last block is passed over, too."""
    sent = threading.Event()

    def script(peer):
        peer.head()
        peer.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        sent.set()
        left = 2 * BLOCK - len(peer.ahead)
        while left:
            left -= len(peer.sock.recv(left))
        peer.answer(status="201 Created")

    body = Waiting({1: lambda: sent.wait(5)})
    assert send_by_thread(serve(script).origin + QUERY, body).status == 201


# -- answers before the end of the request ----------------------------------------------

DENIED = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"


def answer_early(peer):
    """Refuse upon the head."""
    peer.head()
    peer.answer(status="403 Forbidden", body=DENIED)


def then_stop(peer):
    """Refuse, and neither read nor close."""
    answer_early(peer)
    peer.server.done.wait(10)


def then_read(peer):
    """Refuse, and read anyway."""
    answer_early(peer)
    while peer.sock.recv(1 << 20):
        pass


@pytest.mark.parametrize("script", [then_stop, then_read])
def test_early_refusal(serve, send_by_thread, script):
    """The answer is the outcome, and the rest of the body swallows no later request."""
    server = serve(script, ok, small=True)
    sent = []
    reply = send_by_thread(server.origin + QUERY, BIG, seconds=3, progress=sent.append)
    assert (reply.status, reply.body, sum(sent)) == (403, DENIED, 0)
    reply = send_by_thread(server.origin + QUERY, MemoryBody(b"next"), seconds=3)
    assert reply.status == 200
    assert (server.accepted, server.bodies) == (2, [b"next"])


@pytest.mark.parametrize("way", ["close", "reset"])
def test_early_end(serve, send_by_thread, way):
    """No answer to half a body: the server cannot have acted on it."""

    def leave(peer):
        peer.head()
        (peer.reset if way == "reset" else peer.sock.close)()

    with pytest.raises(NetworkError, match=r"failed: [A-Z]") as caught:
        send_by_thread(serve(leave, small=True).origin + QUERY, BIG)
    assert not caught.value.sent


# -- lies -------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["403 Forbidden", "500 Oops"])
def test_long_error(serve, send, status):
    """A long error page is truncated, and still returned."""

    def script(peer):
        peer.request()
        peer.answer(status=status, body=b"<" * (4 * connection.MAX_ERROR))

    server = serve(script, ok)
    reply = send(server.origin + QUERY, sink=Sink())
    assert str(reply.status) in status
    assert len(reply.body) == connection.MAX_ERROR
    assert send(server.origin + QUERY).status == 200
    assert server.accepted == 2


def test_endless_answer(serve, send):
    """An answer that does not end is not collected."""

    def script(peer):
        peer.request()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(100):
            peer.sock.sendall(bytes(1 << 20))

    with pytest.raises(NetworkError, match="answered more than 8388608 bytes"):
        send(serve(script).origin + QUERY)


# -- headers ----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["\x00", "\x08", "\x1b[31m", "\x7f"])
def test_control_characters_in_a_header(serve, send, bad):
    """A header that would forge a line of a log or a terminal is no answer."""

    def script(peer):
        peer.request()
        peer.answer(f'ETag: "a{bad}b"')

    with pytest.raises(NetworkError, match=r"control char|NUL byte") as caught:
        send(serve(script).origin + QUERY)
    assert bad not in str(caught.value)


@pytest.mark.parametrize("name", ["ETag", "x-oss-hash-crc64ecma", "X-Oss-Version-Id"])
def test_eight_bit_control_characters_in_a_header_that_is_quoted(serve, send, name):
    """Receipts and messages show it, and 0x9b begins a command of a terminal."""

    def script(peer):
        peer.request()
        peer.answer(f"{name}: \x9b31m")

    with pytest.raises(NetworkError, match="control char"):
        send(serve(script).origin + QUERY)


def test_headers_of_the_user_may_have_any_letter(serve, send):
    """Chinese in UTF-8 has bytes that would be control characters in Latin-1."""
    name = "文件".encode().decode("latin-1")

    def script(peer):
        peer.request()
        peer.answer(f"Content-Disposition: {name}")

    headers = send(serve(script).origin + QUERY).headers
    assert headers["content-disposition"] == name


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(serve, call, status):
    """No redirect is followed; the error names the rule and not where it leads."""
    elsewhere = serve(ok)

    def script(peer):
        peer.request()
        where = f"{elsewhere.origin}/x?Signature=ELSEWHERE"
        peer.answer(f"Location: {where}", status=f"{status} Moved")

    with pytest.raises(StoreError, match="redirects are not followed") as caught:
        call(serve(script).origin + QUERY, MemoryBody(b"abc"))
    error = caught.value
    assert (error.status, error.tries, elsewhere.accepted) == (status, 1, 0)
    for hidden in ("ELSEWHERE", "TOPSECRET", "?"):
        assert hidden not in str(error)

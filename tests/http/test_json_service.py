"""Calls of JSON services: replies, faults, and secrets."""

from __future__ import annotations

import http.client
import logging
import ssl
import threading
import time
import traceback
from typing import Any

import pytest
import requests
import responses

from fsspec_osspresigned.errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
    SignerError,
)
from fsspec_osspresigned.http.json_service import JSONService
from fsspec_osspresigned.secret import SecretURL

URL = "https://sign.example.com/v1/sign"
QUERY = "?for=TOPSECRET%2f"
TOKEN = {"Authorization": "Bearer TOPSECRET"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def service() -> JSONService:
    """A service of a test's own servers."""
    return JSONService(connect_timeout=5.0, progress_timeout=5.0)


def ask(service: JSONService, url: str = URL, body: bytes = b"{}", **more: Any) -> Any:
    """Post a small document with a token."""
    method, limit = more.get("method", "POST"), more.get("limit", 9)
    return service.exchange(method, SecretURL(url), dict(TOKEN), body, limit)


def sends(*pieces: bytes, pause: float = 0.0) -> Any:
    """Return a script that reads a request and sends *pieces*."""

    def script(peer: Any) -> None:
        peer.request()
        for piece in pieces:
            peer.sock.sendall(piece)
            peer.server.done.wait(pause)

    return script


# -- what a service answers ---------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 302, 401, 503])
@responses.activate
def test_any_answer_is_returned(service, status):
    """The caller judges it; redirects are not followed, and cookies are not kept."""
    headers = {"Retry-After": "7", "Location": "https://other.example.com/"}
    responses.post(URL, status=status, body=b'{"a":1}', headers=headers)
    for _ in range(2):
        reply = ask(service)
        assert (reply.status, reply.body) == (status, b'{"a":1}')
        assert (reply.headers["retry-after"], reply.host) == ("7", "sign.example.com")
    first, second = (call.request for call in responses.calls)
    assert first.headers == second.headers
    assert first.body == b"{}"
    assert {
        name: first.headers[name] for name in ("Authorization", "Accept-Encoding")
    } == {
        **TOKEN,
        "Accept-Encoding": "identity",
    }


@responses.activate
def test_lengths_of_answers(service):
    """A longer answer is an error; a longer refusal is cut off."""
    responses.post(URL, body=b"123456789")
    responses.post(URL, body=b"1234567890")
    responses.post(URL, status=500, body=b"1234567890")
    assert ask(service).body == b"123456789"
    with pytest.raises(SignerError, match="/v1/sign answered with more than 9 bytes"):
        ask(service, URL + QUERY)
    assert ask(service).body == b"123456789"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://sign.example.com/", "is plain http"),
        ("ftp://sign.example.com/", "not an absolute http"),
        ("https://u:TOPSECRET@sign.example.com/", "user information"),
    ],
)
def test_url_that_is_not_permitted(service, url, words):
    """Nothing is sent."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        ask(service, url)
    assert "TOPSECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.ConnectTimeout(), ""),
        (requests.ConnectionError(ConnectionResetError("Signature=TOPSECRET")), ""),
        (
            requests.exceptions.SSLError("certificate verify failed"),
            "REQUESTS_CA_BUNDLE",
        ),
    ],
)
@responses.activate
def test_failures_of_requests_are_ours(service, error, words):
    """They name the host, and hide what may be secret."""
    responses.post(URL, body=error)
    with pytest.raises(NetworkError, match=f"sign.example.com.*{words}") as caught:
        ask(service)
    assert "TOPSECRET" not in str(caught.value)


# -- over sockets -------------------------------------------------------------------------


def test_a_connection_that_was_closed_is_opened_anew(serve, service):
    """A call succeeds although the server has closed the idle connection."""
    closed = threading.Semaphore(0)

    def script(peer: Any) -> None:
        sends(OK)(peer)
        peer.sock.close()
        closed.release()

    server = serve(script, script)
    for _ in range(2):
        assert ask(service, server.origin).body == b"ok"
        assert closed.acquire(timeout=10)
    assert server.accepted == 2


MISBEHAVING = {
    "nothing": (sends(), "failed: "),
    "reset": (lambda peer: (peer.request(), peer.reset()), "Connection reset by peer"),
    "cut": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok"), "failed: "),
    "no HTTP": (sends(b"hello\r\n\r\n"), "URL needs https"),
    "endless line": (sends(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000), "failed: "),
    "endless head": (sends(b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 999), "failed: "),
}


@pytest.mark.parametrize("name", MISBEHAVING)
def test_servers_that_misbehave(serve, service, name):
    """Each of them is an error that names the host."""
    script, words = MISBEHAVING[name]
    server = serve(script)
    with pytest.raises(NetworkError, match=words) as caught:
        ask(service, server.origin + "/sign" + QUERY)
    assert server.netloc in caught.value.message
    assert "TOPSECRET" not in shown(caught.value)


def test_silence(serve):
    """A server that accepts and says nothing is given up after the time for progress."""
    service = JSONService(progress_timeout=0.1)
    server = serve(lambda peer: peer.server.done.wait(10))
    with pytest.raises(
        NetworkTimeoutError, match=r"no progress with .* for 0.1 s while wait"
    ):
        ask(service, server.origin)


HEAD = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "head": ((HEAD + b"A: ", *[b"a"] * 200), "waiting for the answer"),
    "interim": ([b"HTTP/1.1 100 Continue\r\n\r\n"] * 200, "waiting for the answer"),
    "body": (
        (HEAD + b"Content-Length: 900\r\n\r\n", *[b"a"] * 200),
        "reading the answer",
    ),
    "chunks": (
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\na\r\n"] * 200),
        "reading the answer",
    ),
    "body without a length": ((HEAD + b"\r\n", *[b"a"] * 200), "reading the answer"),
}


# Each takes five seconds, so only one of them is a fast test.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "body" else pytest.mark.slow)
        for name in DRIPS
    ],
)
def test_drops_do_not_go_on_for_ever(serve, name):
    """Bytes that come steadily do not lengthen the exchange, nor look like a whole."""
    pieces, words = DRIPS[name]
    service = JSONService(progress_timeout=0.5)
    server = serve(sends(*pieces, pause=0.05))
    began = time.monotonic()
    with pytest.raises(
        NetworkTimeoutError, match=f"took too long in all, while {words}"
    ):
        ask(service, server.origin, limit=1000)
    assert 4.9 < time.monotonic() - began < 10


def test_tls(serve, service, certified, authority, monkeypatch):
    """Certificates are checked as requests checks them; the advice is part of the error."""

    def script(peer: Any) -> None:
        try:
            peer.secure(certified)
        except ssl.SSLError:
            return
        while peer.request():
            peer.answer()

    server = serve(script)
    url = server.origin.replace("http", "https") + "/sign" + QUERY
    with pytest.raises(NetworkError, match="REQUESTS_CA_BUNDLE names the file"):
        ask(service, url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.file)
    for _ in range(2):
        assert ask(service, url).body == b"ok"
    assert server.targets == ["/sign" + QUERY] * 2
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    with pytest.raises(NetworkError, match="no file with certificate authorities at"):
        ask(service, url)


@pytest.mark.parametrize("secure", [False, True])
def test_proxy(serve, certified, trusted, monkeypatch, secure):
    """A proxy of the environment forwards, or opens a tunnel; the query is whole."""
    service = JSONService(allow_http=True, progress_timeout=5.0)

    def script(peer: Any) -> None:
        if secure:
            peer.head()
            peer.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            peer.secure(certified)
        while peer.request():
            peer.answer()

    proxy = serve(script)
    scheme = "https" if secure else "http"
    monkeypatch.setenv(f"{scheme}_proxy", f"http://u:TOPSECRET@{proxy.netloc}")
    for _ in range(2):
        assert ask(service, f"{scheme}://b.example/sign{QUERY}").body == b"ok"
    asked = ["/sign" + QUERY] * 2 if secure else [f"http://b.example/sign{QUERY}"] * 2
    assert proxy.targets == (["b.example:443"] if secure else []) + asked
    assert b"proxy-authorization" in proxy.heads[0].lower()
    assert (b"proxy-authorization" in proxy.heads[-1].lower()) is not secure
    assert proxy.accepted == 1


# -- secrets ------------------------------------------------------------------------------


def shown(error: BaseException) -> str:
    """Return the traceback, with the exceptions that hang on *error*."""
    return "".join(traceback.format_exception(error))


def leave(peer: Any) -> None:
    """Read a request and go."""
    peer.request()


def test_logs_and_switches(serve, service, monkeypatch, caplog, capfd):
    """DEBUG lines show hosts and paths; a switch that prints all reaches nothing."""
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    bad = b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\nok"
    # Otherwise a connection that the server is about to close might be reused.
    last, bad = (s.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) for s in (OK, bad))
    server = serve(sends(last), sends(bad), leave)
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            ask(service, server.origin + "/sign" + QUERY)
        with pytest.raises(NetworkError):
            ask(service, server.origin + "/sign" + QUERY)
    lines = [r.getMessage() + str(r.args) + str(r.exc_text) for r in caplog.records]
    assert any('/sign HTTP/1.1" 200' in line for line in lines)
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    assert not any("TOPSECRET" in line for line in lines)
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""

"""Servers of raw bytes: what they do on a connection is a function of the test."""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from attrs import evolve

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.http.body import EMPTY
from fsspec_osspresigned.http.transfer import Exchange, LargeReplyError
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.ahead = b""
        self.body = b""  # of the last request

    def head(self) -> bytes:
        """Read the head of a request and remember it; empty at the end."""
        while b"\r\n\r\n" not in self.ahead:
            block = self.sock.recv(65536)
            if not block:
                return b""
            self.ahead += block
        head, _, self.ahead = self.ahead.partition(b"\r\n\r\n")
        self.server.heads.append(head)
        return head

    def request(self) -> bytes:
        """Read a request with its body, remember both, return the head; empty at the end."""
        head = self.head()
        size = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                size = int(line[15:])
        body = self.ahead
        while len(body) < size:
            block = self.sock.recv(1 << 20)
            if not block:
                return b""
            body += block
        self.ahead = body[size:]
        self.body = body[:size]
        if head:
            self.server.bodies.append(body[:size])
        return head

    def answer(self, *lines: str, status: str = "200 OK", body: bytes = b"ok") -> None:
        """Answer, with Content-Length."""
        size = f"Content-Length: {len(body)}"
        head = "\r\n".join((f"HTTP/1.1 {status}", size, *lines, "", ""))
        self.sock.sendall(head.encode("latin-1") + body)

    def reset(self) -> None:
        """Close with a reset."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def secure(self, context: ssl.SSLContext) -> None:
        """Go on in TLS."""
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.server.socks.append(self.sock)


Script = Callable[[Peer], object]


def ok(peer: Peer) -> None:
    """Answer every request."""
    while peer.request():
        peer.answer('ETag: "E"')


class Sink(io.BytesIO):
    """Keeps the body of the last reply in memory."""

    def begin(self) -> None:
        """Forget what an earlier try has written."""
        self.seek(0)
        self.truncate()


class Server:
    """Runs one script a connection; the last script serves all that follow."""

    def __init__(self, *scripts: Script, host: str = "127.0.0.1", small: bool) -> None:
        self.scripts = scripts
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.socks: list[socket.socket] = []
        self.accepted = 0
        self.done = threading.Event()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.socket(family)
        if small:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.listener.bind((host, 0))
        self.listener.listen()
        self.port = self.listener.getsockname()[1]
        self.netloc = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.origin = f"http://{self.netloc}"
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    @property
    def targets(self) -> list[str]:
        """The targets of all requests."""
        return [head.split(b" ")[1].decode() for head in self.heads]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(sock)
            script = self.scripts[min(self.accepted, len(self.scripts) - 1)]
            self.accepted += 1
            thread = threading.Thread(
                target=self._run, args=(script, Peer(self, sock)), daemon=True
            )
            self.threads.append(thread)
            thread.start()

    @staticmethod
    def _run(script: Script, peer: Peer) -> None:
        with contextlib.suppress(OSError):
            script(peer)
        peer.sock.close()

    def close(self) -> None:
        self.done.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self.listener.close()
        for sock in self.socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(5)
        for sock in self.socks:
            sock.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers; they end with the test."""
    servers: list[Server] = []

    def start(*scripts: Script, host: str = "127.0.0.1", small: bool = False) -> Server:
        servers.append(Server(*scripts, host=host, small=small))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def _sender(**usual: Any) -> Iterator[Callable[..., Any]]:
    transports: dict[tuple[Any, ...], Transport] = {}

    def one(
        url: str,
        body: Any = EMPTY,
        *,
        seconds: float | None = 5.0,
        connect: float = 5.0,
        method: str = "PUT",
        headers: Any = None,
        path: str | None = None,
        **facts: Any,
    ) -> Any:
        key = (seconds, connect)
        if key not in transports:
            transports[key] = Transport(
                connect_timeout=connect, progress_timeout=seconds, allow_http=True
            )
        signed = SignedRequest(method=method, url=url, headers=headers)
        exchange = Exchange(**usual | facts)
        try:
            return run(transports[key].send, signed, body, exchange, path)
        except LargeReplyError:  # as a client does
            exchange = evolve(exchange, in_thread=True)
            return run(transports[key].send, signed, body, exchange, path)

    yield one
    for transport in transports.values():
        transport.close()


@pytest.fixture(params=[False, True], ids=["loop", "thread"])
def send(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Send one signed request in both ways there are, and return the reply.

    The transport and its timeouts are the test's own. A large body goes by a thread in
    any case.
    """
    yield from _sender(in_thread=request.param)


@pytest.fixture
def send_by_thread() -> Iterator[Callable[..., Any]]:
    """Send one signed request by a worker thread, as one with a large body is sent."""
    yield from _sender(in_thread=True)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    """A private authority, and the file that names it as ``authority.file``."""
    one = trustme.CA()
    one.file = str(tmp_path_factory.mktemp("ca") / "ca.pem")
    one.cert_pem.write_to_path(one.file)
    return one


@pytest.fixture(scope="session")
def certified(authority: trustme.CA) -> ssl.SSLContext:
    """The TLS of servers with a certificate for loopback and ``*.example``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    names = ("127.0.0.1", "::1", "b.example", "xn--bcher-kva.example")
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the private authority, as users do for everything that uses requests."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.file)

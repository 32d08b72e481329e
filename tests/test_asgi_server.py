"""An ASGI app on a loopback port."""

from __future__ import annotations

import contextlib
import socket
import urllib.request

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer


async def hello(scope, receive, send):
    """Answer any request; the lifespan is nobody's business here."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def sick(scope, receive, send):
    """Fail to start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "sick"})


def test_app_answers_inside_the_block_only():
    """The port is taken while the block runs, and free after it."""
    server = LoopbackServer(hello)
    assert server.port == 0
    with server:
        with urllib.request.urlopen(server.url) as reply:
            assert reply.read() == b"hello"
        port = server.port
        with pytest.raises(OSError, match="in use"):
            LoopbackServer(hello, port).start()
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", port)),
    ):
        pass
    with server:
        assert server.port == port
    server.stop()


def test_app_that_does_not_start_is_an_error():
    """Nobody waits for an app that has given up."""
    server = LoopbackServer(sick)
    with (
        pytest.raises(RuntimeError, match="did not start"),
        contextlib.ExitStack() as s,
    ):
        s.enter_context(server)
    server.stop()

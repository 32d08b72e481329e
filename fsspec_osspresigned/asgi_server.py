"""ASGI servers: listening sockets, lossless shutdown, and an app server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import uvicorn

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose connections send small packets immediately.

    *host* is a name or an IPv4 address. With a colon, it is an IPv6 address. *port* 0
    lets the system choose a free port. Raises OSError if the socket cannot be bound to
    this address, for example because the port is taken.
    """
    # Accepted sockets inherit TCP_NODELAY. asyncio sets it only on sockets that name
    # their protocol; without it, the body of a reply waits 40 ms after its head.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def settle() -> None:
    for _ in range(3):  # a few turns of the loop, which run all scheduled callbacks
        await asyncio.sleep(0)


async def stop_accepting(listeners: Iterable[socket.socket]) -> None:
    """Stop accepting connections, and wait until asyncio has set up the accepted ones.

    If a server closes earlier, it drops such a connection without closing its socket.
    """
    loop = asyncio.get_running_loop()
    for listener in listeners:
        loop.remove_reader(listener)
    await settle()


class AnnouncingServer(uvicorn.Server):
    """A uvicorn server that calls *listening* when it begins to accept connections.

    When it stops, it waits for connections that are accepted but not yet set up.
    """

    def __init__(self, config: uvicorn.Config, listening: Callable[[], object]) -> None:
        super().__init__(config)
        self.listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await stop_accepting(sockets or [])
        await super().shutdown(sockets)
        await settle()


class LoopbackServer:
    """Serve *app* on 127.0.0.1 in a thread while the ``with`` block runs.

    The block begins when connections are accepted. Leaving it stops the server and
    frees the port; a request that still runs a second later is cancelled. The
    system chooses a free port; after the start, the attribute ``port`` has its number.

    Raises:
        RuntimeError: the app failed to start, or did not start within 30 seconds.
    """

    def __init__(self, app: Any) -> None:
        self.port = 0
        self._app = app
        self._stack = contextlib.ExitStack()

    @property
    def url(self) -> str:
        """Base URL of the server, without a trailing slash."""
        return f"http://{_LOOPBACK}:{self.port}"

    def start(self) -> None:
        listener = self._stack.enter_context(listen(_LOOPBACK, self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            loop="asyncio",
            ws="none",
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        ready = threading.Event()
        server = AnnouncingServer(config, ready.set)

        def run() -> None:
            # uvicorn leaves by SystemExit when the app refuses to start.
            with contextlib.suppress(SystemExit):
                server.run(sockets=[listener])
            ready.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._stack.callback(thread.join, _STOP_SECONDS)
        self._stack.callback(setattr, server, "should_exit", True)
        if not ready.wait(_START_SECONDS) or not server.started:
            self.stop()
            raise RuntimeError("the app did not start")

    def stop(self) -> None:
        """Stop the server; idempotent."""
        self._stack.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

"""One ASGI app on a loopback port in a background thread, for tests and the demo."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import uvicorn

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose connections answer at once.

    Accepted sockets inherit TCP_NODELAY. asyncio would set it only on sockets that name
    their protocol, and an answer's body would wait 40 ms behind its head.

    Args:
        host: address to listen on; with a colon it is IPv6.
        port: TCP port; 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def settle() -> None:
    """Let the loop do what is scheduled already."""
    for _ in range(3):
        await asyncio.sleep(0)


async def stop_accepting(listeners: Iterable[socket.socket]) -> None:
    """Accept nothing more, and let what was just accepted become a connection.

    asyncio drops such a connection unclosed if its server is closed in between.
    """
    loop = asyncio.get_running_loop()
    for listener in listeners:
        loop.remove_reader(listener)
    await settle()


class _AnnouncingServer(uvicorn.Server):
    """A server that says when it listens, so that nobody has to poll for it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await stop_accepting(sockets or [])
        await super().shutdown(sockets)
        await settle()


class LoopbackServer:
    """Serve *app* on 127.0.0.1 while the ``with`` block runs.

    Entering returns when connections are accepted; leaving stops the server and frees
    the port. A request that still runs a second later is cancelled.

    Args:
        app: any ASGI application.
        port: TCP port; 0 takes a free one.

    Raises:
        OSError: the port is taken.
        RuntimeError: the app failed to start.
    """

    def __init__(self, app: Any, port: int = 0) -> None:
        """Keep what to serve; nothing is bound before the block is entered."""
        self._app = app
        self._wanted = port
        self._socket: socket.socket | None = None
        self._server: _AnnouncingServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is bound; the wanted one outside the block."""
        if self._socket is None:
            return self._wanted
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Scheme, address and port, without a slash at the end."""
        return f"http://{_LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Bind, start the thread, and return when the app answers."""
        self._socket = listen(_LOOPBACK, self._wanted)
        self._wanted = self.port
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
        self._server = _AnnouncingServer(config)
        self._thread = threading.Thread(
            target=self._run, args=(self._server, self._socket), daemon=True
        )
        self._thread.start()
        if not self._server.ready.wait(_START_SECONDS) or not self._server.started:
            self.stop()
            msg = "the app did not start"
            raise RuntimeError(msg)

    def stop(self) -> None:
        """Stop serving and free the port; a second call does nothing."""
        if self._server is None or self._thread is None or self._socket is None:
            return
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        self._socket.close()
        self._server = self._thread = self._socket = None

    def __enter__(self) -> Self:
        """Start, and return the server itself."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, whatever happened inside."""
        self.stop()

    @staticmethod
    def _run(server: _AnnouncingServer, listener: socket.socket) -> None:
        try:
            # uvicorn leaves by SystemExit when the app refuses to start.
            with contextlib.suppress(SystemExit):
                server.run(sockets=[listener])
        finally:
            server.ready.set()

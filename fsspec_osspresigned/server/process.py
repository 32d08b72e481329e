"""Process of the signer service ``osspresigned serve``, from start to stop.

It speaks plain HTTP. TLS, slow clients and the number of connections are the business
of the reverse proxy before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from attrs import define, frozen

from ..asgi_server import AnnouncingServer, listen
from .app import create_ruled_app
from .log import STDOUT, LineHandler, log_call, say
from .reload import PolicyFile, watch
from .upload_page import page_routes

_IDLE_SECONDS = 75  # a proxy closes its idle connections before
_STOP_SECONDS = 35


@frozen(kw_only=True)
class ServiceSettings:
    """Options of ``osspresigned serve``."""

    policy_file: Path
    host: str = "127.0.0.1"
    port: int = 0  # 0 takes a free one
    log_keys: bool = False
    page: bool = False  # serve the page for browsers, too

    def url_of(self, listener: socket.socket) -> str:
        """Return the URL at which *listener* accepts connections."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{listener.getsockname()[1]}"


class _ServiceServer(AnnouncingServer):
    """uvicorn server that leaves signal handling to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The stock one raises SIGTERM again at the end, as if it had been ignored.
        yield


@define
class SignerProcess:
    """Signer service in this process."""

    settings: ServiceSettings
    policy: PolicyFile

    def serve(self, listener: socket.socket, started: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT, then finish the running calls.

        SIGHUP and a change of the file load the policy again; a policy with mistakes is
        ignored.
        """
        logging.basicConfig(handlers=[LineHandler()])
        asyncio.run(self._serve(listener, started))

    async def _serve(
        self, listener: socket.socket, started: Callable[[], None]
    ) -> None:
        server = _ServiceServer(self._config(), started)
        loop, hangup = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.handle_exit, number, None)
        watching = asyncio.create_task(watch(self.policy, hangup))
        await server.serve(sockets=[listener])
        watching.cancel()
        await asyncio.wait([watching])

    def _config(self) -> uvicorn.Config:
        page = page_routes(lambda: self.policy.signer.endpoint)
        app = create_ruled_app(
            lambda: self.policy.rules,
            limits=self.policy.limits,
            tell=lambda record: log_call(record, say, log_keys=self.settings.log_keys),
            routes=page if self.settings.page else (),
        )
        return uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            # What clients do wrong is no warning: they could fill the log with it.
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )


@STDOUT.in_thread()
def launch(settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: policy or keys are invalid; the message lists every mistake.
        OSError: the service cannot listen on the address.
    """
    # Every mistake is reported before the port is taken.
    policy = PolicyFile(path=settings.policy_file)
    policy.load()
    with listen(settings.host, settings.port) as listener:
        facts = {
            "url": settings.url_of(listener),
            "pid": os.getpid(),
            "tokens": len(policy.rules.tokens),
        }
        SignerProcess(settings, policy).serve(listener, lambda: say("started", **facts))
    say("stopped")

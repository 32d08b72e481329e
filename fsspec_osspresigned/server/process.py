"""Processes of the signer service ``osspresigned serve``, from start to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import uvicorn
from attrs import define, evolve, frozen

from ..asgi_server import AnnouncingServer, listen
from ..errors import ConfigurationError
from .app import create_ruled_app
from .connection_limits import ConnectionGuard, ConnectionLimits, raise_file_limit
from .log import STDOUT, LineHandler, log_call, say
from .reload import Certificate, PolicyFile, watch
from .supervisor import Supervisor
from .upload_page import page_routes

_STOP_SECONDS = 35  # longer than a body is waited for
# A browser that was here over TLS comes back over TLS alone, for a year.
_SECURE_HEADERS = [("Strict-Transport-Security", "max-age=31536000")]


@frozen(kw_only=True)
class ServiceSettings:
    """Options of ``osspresigned serve``."""

    policy_file: Path
    host: str = "127.0.0.1"
    port: int = 0  # 0 takes a free one
    workers: int = 1  # processes that share it
    ssl_certfile: Path | None = None  # None speaks plain HTTP
    ssl_keyfile: Path | None = None  # None if *ssl_certfile* holds it
    log_keys: bool = False
    page: bool = False  # serve the page for browsers, too

    def url_of(self, listener: socket.socket) -> str:
        """Return the URL at which *listener* accepts connections."""
        scheme = "http" if self.ssl_certfile is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{listener.getsockname()[1]}"


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
    certificate: Certificate | None  # None speaks plain HTTP

    @classmethod
    def load(cls, settings: ServiceSettings) -> SignerProcess:
        """Return the service with policy and certificate loaded.

        An error lists every mistake in them.
        """
        policy, certificate = PolicyFile(path=settings.policy_file), None
        policy.load()
        if settings.ssl_certfile is not None:
            certificate = Certificate(
                certfile=settings.ssl_certfile, keyfile=settings.ssl_keyfile
            )
            certificate.load()
        return cls(settings, policy, certificate)

    def serve(
        self,
        listener: socket.socket,
        started: Callable[[], None],
        *,
        lifeline: int | None = None,
    ) -> None:
        """Serve until SIGTERM or SIGINT, then finish the running calls.

        SIGHUP and a change of a file load policy and certificate again; a file with
        mistakes is ignored. End of file on *lifeline* acts like SIGTERM.
        """
        logging.basicConfig(handlers=[LineHandler()])
        asyncio.run(self._serve(listener, started, lifeline))

    async def _serve(
        self, listener: socket.socket, started: Callable[[], None], lifeline: int | None
    ) -> None:
        limits = ConnectionLimits()
        limits = evolve(limits, connections=raise_file_limit(limits.connections))
        tls = None if self.certificate is None else self.certificate.context
        guard = ConnectionGuard(limits, tls)
        server = _ServiceServer(self._configure(guard), started)
        loop, hangup = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.handle_exit, number, None)
        if lifeline is not None:

            def end() -> None:
                loop.remove_reader(lifeline)
                server.handle_exit(signal.SIGTERM, None)

            loop.add_reader(lifeline, end)
        watched = [self.policy, *filter(None, [self.certificate])]
        others = [
            asyncio.create_task(watch(watched, hangup)),
            asyncio.create_task(guard.sweep()),
        ]
        await server.serve(sockets=[listener])
        for task in others:
            task.cancel()
        await asyncio.wait(others)

    def _configure(self, guard: ConnectionGuard) -> uvicorn.Config:
        page = page_routes(lambda: self.policy.signer.endpoint)
        app = create_ruled_app(
            lambda: self.policy.rules,
            limits=self.policy.limits,
            tell=lambda record: log_call(record, say, log_keys=self.settings.log_keys),
            routes=page if self.settings.page else (),
        )
        return guard.configure(
            app,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
            headers=[] if guard.tls is None else _SECURE_HEADERS,
        )


@STDOUT.in_thread()
def launch(settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT, in this process or in several workers.

    Raises:
        ConfigurationError: policy, certificate or keys are invalid.
        OSError: the service cannot listen on the address.
    """
    # Every mistake is reported before the port is taken.
    service = SignerProcess.load(settings)
    facts = {"workers": settings.workers} if settings.workers > 1 else {}
    with listen(settings.host, settings.port) as listener:
        url, tokens = settings.url_of(listener), len(service.policy.rules.tokens)

        def started() -> None:
            say("started", url=url, pid=os.getpid(), tokens=tokens, **facts)

        if settings.workers > 1:
            started()
            supervisor = Supervisor(
                work=partial(work, settings), count=settings.workers, listener=listener
            )
            asyncio.run(supervisor.run())
        else:
            service.serve(listener, started)
    say("stopped")


@STDOUT.in_thread()
def work(settings: ServiceSettings, listener: socket.socket) -> None:
    """Run as one of several worker processes, until the supervisor stops or dies."""
    parent = multiprocessing.parent_process()
    try:
        service = SignerProcess.load(settings)
    except ConfigurationError as error:
        say("policy_refused", problems=list(error.problems))
        raise SystemExit(2) from None
    with listener:
        service.serve(
            listener,
            lambda: say("worker_started", pid=os.getpid()),
            lifeline=None if parent is None else parent.sentinel,
        )

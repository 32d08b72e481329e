"""Several processes of the signer service behind one port, and who looks after them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field, frozen

from ..asgi import listen
from .process import Certificate, PolicyKeeper, Say, say, serve, url_of

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_GOOD_SECONDS = 60.0  # who lived that long did not fail because of how it was started


@define(kw_only=True)
class Supervisor:
    """Starts the workers, starts them again if they die, and passes signals on.

    The workers share a listening socket and nothing else. Each has a pipe from here as
    its stdin, so that it stops even if this process is killed.

    Attributes:
        command: arguments of one worker, without the descriptor to listen on.
        count: how many workers.
        listener: the socket.
        say: where news go.
        first_wait: seconds before a worker that died at once is started again; they
            double.
    """

    command: Sequence[str]
    count: int
    listener: socket.socket
    say: Say = say
    first_wait: float = _FIRST_WAIT
    _running: set[asyncio.subprocess.Process] = field(factory=set, init=False)
    _stop: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def run(self) -> None:
        """Keep them running until SIGTERM or SIGINT; then let them finish."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        keepers = [asyncio.create_task(self._keep()) for _ in range(self.count)]
        await self._stop.wait()
        self.listener.close()
        self._pass_on(signal.SIGTERM)
        await asyncio.gather(*keepers)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self.first_wait
        while not self._stop.is_set():
            began = loop.time()
            code = await self._work()
            if self._stop.is_set():
                return
            if loop.time() - began > _GOOD_SECONDS:
                wait = self.first_wait
            self.say("worker_died", code=code, again_in=wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _work(self) -> int:
        descriptor = self.listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *self.command,
            str(descriptor),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=[descriptor],
        )
        self._running.add(process)
        # A stop that came while it was being started found it not yet here.
        if self._stop.is_set():
            process.terminate()
        try:
            return await process.wait()
        finally:
            self._running.discard(process)

    def _pass_on(self, number: int) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


@frozen(kw_only=True)
class Settings:
    """How ``osspresigned serve`` was called.

    Attributes:
        policy_file: TOML.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        workers: processes that share it.
        certfile: PEM of certificate and chain; None speaks plain HTTP.
        keyfile: PEM of the key; None if it stands in *certfile*.
        log_keys: name the objects in the log.
        page: serve the page for browsers, too.
    """

    policy_file: Path
    host: str = "127.0.0.1"
    port: int = 0
    workers: int = 1
    certfile: Path | None = None
    keyfile: Path | None = None
    log_keys: bool = False
    page: bool = False

    def certificate(self) -> Certificate | None:
        """Return the certificate, not yet loaded."""
        if self.certfile is None:
            return None
        return Certificate(self.certfile, self.keyfile, say)

    def worker_command(self) -> list[str]:
        """Return the command of one worker; the descriptor to listen on comes last."""
        command = [sys.executable, "-m", "fsspec_osspresigned", "serve"]
        for option, file in (
            ("--policy", self.policy_file),
            ("--ssl-certfile", self.certfile),
            ("--ssl-keyfile", self.keyfile),
        ):
            if file is not None:
                command += [option, os.fspath(file)]
        command += ["--log-keys"] * self.log_keys + ["--ui"] * self.page
        return [*command, "--listener"]


def launch(settings: Settings) -> None:
    """Serve until told to stop, in this process or in several workers.

    Raises:
        ConfigurationError: policy, certificate or keys are wrong.
        OSError: the address cannot be listened on.
    """
    # Every mistake is told before the port is taken.
    keeper = PolicyKeeper(settings.policy_file)
    keeper.load()
    certificate = settings.certificate()
    if certificate is not None:
        certificate.load()
    with listen(settings.host, settings.port) as listener:
        url = url_of(listener, settings.host, secure=certificate is not None)
        tokens = len(keeper.rules.tokens)
        facts = {"workers": settings.workers} if settings.workers > 1 else {}

        def started() -> None:
            say("started", url=url, pid=os.getpid(), tokens=tokens, **facts)

        if settings.workers > 1:
            started()
            supervisor = Supervisor(
                command=settings.worker_command(),
                count=settings.workers,
                listener=listener,
            )
            asyncio.run(supervisor.run())
        else:
            serve(
                keeper,
                listener,
                started=started,
                log_keys=settings.log_keys,
                certificate=certificate,
                page=settings.page,
            )
    say("stopped")


def work(settings: Settings, descriptor: int) -> None:
    """Serve as one of several workers, on a descriptor that the supervisor opened.

    Raises:
        ConfigurationError: as ``launch``.
    """
    keeper = PolicyKeeper(settings.policy_file)
    keeper.load()
    with socket.socket(fileno=descriptor) as listener:
        serve(
            keeper,
            listener,
            started=lambda: say("worker_started", pid=os.getpid()),
            log_keys=settings.log_keys,
            certificate=settings.certificate(),
            lifeline=sys.stdin.fileno(),
            page=settings.page,
        )

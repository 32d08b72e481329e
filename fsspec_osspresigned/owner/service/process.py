"""Process of the signer service ``osspresigned serve``, from start to stop.

It speaks plain HTTP. TLS, slow clients and the number of connections are the business
of the reverse proxy before it. The policy is loaded again while the service runs. The log
is one line of JSON on stdout for each event, without secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from attrs import define, field, frozen

from ...asgi_server import AnnouncingServer, listen
from ...errors import ConfigurationError
from ...files import FileStamp
from ...signers.keys import KeySigner, credential_provider
from ...units import shown_moment
from .app import AccessRecord, RateLimits, ServiceRules, create_ruled_app
from .policy import ENVIRONMENT, SignerSettings, parse_policies
from .upload_page import page_routes

Say = Callable[..., None]


@define
class LineWriter:
    """Writes lines to a file descriptor.

    No file object is used, because Python would wait for its lock at exit.
    """

    descriptor: int = 1
    most: int = 10_000  # lines that wait; more are dropped and counted
    _lines: queue.SimpleQueue[str | None] | None = field(default=None, init=False)
    _dropped: int = field(default=0, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    @contextlib.contextmanager
    def in_thread(self, patience: float = 1.0) -> Iterator[None]:
        """Write lines in a thread during the block, so a slow reader delays no call.

        At the end of the block, queued lines are written for at most *patience*
        seconds.
        """
        lines = self._lines = queue.SimpleQueue()
        thread = threading.Thread(target=self._drain, args=(lines,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._lines = None
            lines.put(None)
            thread.join(patience)

    def put(self, line: str) -> None:
        """Write *line*, or in a block of ``in_thread`` queue it for the thread.

        A line that does not fit into the queue is dropped and counted.
        """
        lines = self._lines
        if lines is None:
            self._write(line)
        elif lines.qsize() < self.most:
            lines.put(line)
        else:
            with self._lock:
                self._dropped += 1

    def _drain(self, lines: queue.SimpleQueue[str | None]) -> None:
        while (line := lines.get()) is not None:
            with self._lock:
                count, self._dropped = self._dropped, 0
            if count:
                self._write(_line("log_dropped", lines=count))
            self._write(line)

    def _write(self, line: str) -> None:
        data = f"{line}\n".encode()
        # A log whose reader is gone is no reason to stop signing.
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self.descriptor, data) :]


STDOUT = LineWriter()


class LineHandler(logging.Handler):
    """Log handler that writes warnings of libraries to the service log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record*, with its traceback if it has one."""
        say("warning", logger=record.name, text=self.format(record))


def say(event: str, **facts: Any) -> None:
    """Write one line of JSON with *facts* to stdout."""
    STDOUT.put(_line(event, **facts))


def _line(event: str, **facts: Any) -> str:
    return json.dumps({"time": shown_moment(time.time()), "event": event, **facts})


def log_call(record: AccessRecord, say: Say, *, log_keys: bool = False) -> None:
    """Log one call; *log_keys* adds the names of its objects."""
    facts: dict[str, Any] = {"paths": record.paths} if log_keys else {}
    if record.fault is not None:
        facts["fault"] = record.fault
    if record.status == HTTPStatus.UNAUTHORIZED:
        facts["client"] = record.client
    if record.unhashed is not None:
        problem = f"sha256 of {record.unhashed!r} is the token itself"
        facts["hint"] = f"{problem}: put there what serve --hash-token prints"
    refused = sum(record.codes.values())
    say(
        "sign",
        token=record.token,
        requests=record.requests,
        signed=record.requests - refused if record.status == HTTPStatus.OK else 0,
        status=record.status,
        codes=dict(record.codes),
        ms=record.milliseconds,
        **facts,
    )


_MAX_POLICY = 16 * 1024 * 1024


def make_signer(settings: SignerSettings) -> KeySigner:
    """Return the key signer with the settings of a policy file.

    A ConfigurationError lists all missing settings.
    """
    provider = credential_provider(settings.credentials)
    own = settings.credentials == ENVIRONMENT
    signer = KeySigner.from_options(
        settings.region,
        settings.endpoint,
        style=settings.style,
        credentials=None if own else provider,
    )
    key = provider() if own else None
    if key and key.security_token is not None and key.expires_at is None:
        msg = "OSS_SESSION_TOKEN is set and OSS_SESSION_EXPIRATION is not"
        raise ConfigurationError(f"{msg}: the URLs would outlive the temporary key")
    return signer


@define(kw_only=True)
class PolicyFile:
    """Rules of the service, from the last valid policy file."""

    path: Path
    max_bytes: int = _MAX_POLICY
    say: Say = say
    limits: RateLimits = field(factory=RateLimits)
    rules: ServiceRules = field(init=False)
    signer: KeySigner = field(init=False)
    _settings: SignerSettings | None = field(default=None, init=False)
    _stamp: object = field(default=None, init=False)  # None: to be read in any case
    _seen: object = field(default=None, init=False)
    _told: Sequence[str] = field(default=(), init=False)

    def load(self) -> dict[str, Any]:
        """Read the file and return facts for the log; an error keeps the old rules.

        A new signer is created if its settings changed.
        """
        self._stamp = FileStamp.read(self.path)
        policies = parse_policies(self._text())
        if policies.signer != self._settings:
            self.signer = make_signer(policies.signer)
            self._settings = policies.signer
        self.rules = ServiceRules(signer=self.signer, tokens=policies.tokens)
        self.limits.keep({policy.name for policy in policies.tokens.values()})
        return {"tokens": len(policies.tokens)}

    def refresh(self, *, force: bool = False) -> None:
        """Load the file again if it changed, or with *force*, and log the result.

        The file must be unchanged for one interval, because a partly written file can
        be a valid policy. After a failed load, it is read again at each interval, even
        without a change, because only its permissions may have been wrong.
        """
        now = FileStamp.read(self.path)
        rests, self._seen = now == self._seen, now
        if not force and (now == self._stamp or not rests):
            return
        try:
            facts = self.load()
        except Exception as error:  # noqa: BLE001 - the next one must still be read
            problems = getattr(error, "problems", (type(error).__name__,))
            self._stamp = None
            if force or problems != self._told:
                self.say("policy_refused", problems=list(problems))
            self._told = problems
        else:
            self._told = ()
            self.say("policy_reloaded", **facts)

    def _text(self) -> str:
        try:
            with self.path.open("rb") as file:
                data = file.read(self.max_bytes + 1)
            if len(data) <= self.max_bytes:
                return data.decode()
            problem = f"{self.path} is larger than {self.max_bytes} bytes"
        except OSError as error:
            problem = f"cannot read {self.path}: {error.strerror}"
        except UnicodeDecodeError as error:
            problem = f"{self.path} is not UTF-8 at byte {error.start}"
        raise ConfigurationError(problem)


async def watch(
    policy: PolicyFile, hangup: asyncio.Event, seconds: float = 1.0
) -> None:
    """Reload *policy* when *hangup* is set, by SIGHUP, or when its file changes.

    Changes are detected every *seconds*.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hangup.wait(), seconds)
        force = hangup.is_set()
        hangup.clear()
        await asyncio.to_thread(policy.refresh, force=force)


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

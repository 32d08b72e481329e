"""``osspresigned serve``: the signer service as a process that follows its policy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from attrs import define, field

from .errors import ConfigurationError
from .limiter import Limiter
from .policy import SignerSettings, parse_policies
from .service import Record, Rules, create_ruled_app
from .signers.keys import KeySigner
from .signers.providers import credential_provider

_CHECK_SECONDS = 1.0
_STOP_SECONDS = 30
_KEEP_ALIVE_SECONDS = 75
_MAX_POLICY = 16 * 1024 * 1024

Say = Callable[..., None]


def say(event: str, **facts: Any) -> None:
    """Write one line of JSON to stdout, at once."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"time": moment, "event": event, **facts})
    # A log that nobody reads any more is no reason to stop signing.
    with contextlib.suppress(OSError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def make_signer(settings: SignerSettings) -> KeySigner:
    """Return the key signer that a policy asks for.

    Raises:
        ConfigurationError: all that is missing or wrong, packages and variables too.
    """
    provider = credential_provider(settings.credentials)
    return KeySigner.from_options(
        settings.region,
        settings.endpoint,
        style=settings.style,
        credentials=None if settings.credentials == "environment" else provider,
    )


@define
class PolicyKeeper:
    """The rules of now, read from a file that may change.

    Attributes:
        path: the policy file.
        limiter: forgets the names that a new policy no longer has.
        say: where news go.
        rules: of the last policy without a mistake.
    """

    path: Path
    limiter: Limiter = field(factory=Limiter)
    say: Say = say
    rules: Rules = field(init=False)
    _settings: SignerSettings | None = field(default=None, init=False)
    _signer: KeySigner | None = field(default=None, init=False)
    _stamp: tuple[int, ...] | None = field(default=None, init=False)

    def load(self) -> None:
        """Read the file; what went before stays if there is a mistake.

        Raises:
            ConfigurationError: every mistake.
        """
        self._stamp = self._look()
        policies = parse_policies(self._text())
        if self._signer is None or policies.signer != self._settings:
            self._signer = make_signer(policies.signer)
            self._settings = policies.signer
        self.rules = Rules(signer=self._signer, tokens=policies.tokens)
        self.limiter.keep({policy.name for policy in policies.tokens.values()})

    def refresh(self, *, force: bool = False) -> None:
        """Load the file again if it changed, or by *force*, and tell how it went."""
        if not force and self._look() == self._stamp:
            return
        try:
            self.load()
        except ConfigurationError as error:
            self.say("policy_refused", problems=list(error.problems))
        else:
            self.say("policy_reloaded", tokens=len(self.rules.tokens))

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _text(self) -> str:
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_POLICY + 1)
            if len(data) > _MAX_POLICY:
                msg = f"{self.path} is larger than {_MAX_POLICY} bytes"
                raise ConfigurationError(msg)
            return data.decode()
        except OSError as error:
            msg = f"cannot read {self.path}: {error.strerror}"
            raise ConfigurationError(msg) from None
        except UnicodeDecodeError as error:
            msg = f"{self.path} is not UTF-8 at byte {error.start}"
            raise ConfigurationError(msg) from None


def log_call(record: Record, say: Say, *, log_keys: bool = False) -> None:
    """Say what happened in one call."""
    facts: dict[str, Any] = {"paths": record.paths} if log_keys else {}
    if record.fault is not None:
        facts["fault"] = record.fault
    refused = sum(record.codes.values())
    say(
        "sign",
        token=record.token,
        requests=record.requests,
        signed=record.requests - refused if record.status == 200 else 0,  # noqa: PLR2004 - HTTP status
        status=record.status,
        codes=dict(record.codes),
        ms=record.milliseconds,
        **facts,
    )


class _Server(uvicorn.Server):
    """A server that says where it listens, and leaves signals to its loop."""

    listening: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The stock one raises SIGTERM again at the end, as if nobody had obeyed it.
        yield


def serve(policy_file: Path, *, host: str, port: int, log_keys: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls that run.

    SIGHUP and a change of the file load the policy again; one with mistakes changes
    nothing.

    Raises:
        ConfigurationError: the policy, or the keys to sign with, are wrong.
        OSError: the address cannot be listened on.
    """
    keeper = PolicyKeeper(policy_file)
    keeper.load()
    app = create_ruled_app(
        lambda: keeper.rules,
        limiter=keeper.limiter,
        tell=lambda record: log_call(record, say, log_keys=log_keys),
    )
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=512) as listener:
        # asyncio does it only for sockets that name their protocol. Without it, each
        # reply of two pieces waits for a delayed acknowledgement: 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        server.listening = lambda: say(
            "started",
            url=f"http://{shown}:{bound}",
            pid=os.getpid(),
            tokens=len(keeper.rules.tokens),
        )
        asyncio.run(_run(server, listener, keeper))
    say("stopped")


async def _run(server: _Server, listener: socket.socket, keeper: PolicyKeeper) -> None:
    loop = asyncio.get_running_loop()
    hangup = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    watcher = asyncio.create_task(watch(keeper, hangup))
    await server.serve(sockets=[listener])
    watcher.cancel()
    await asyncio.wait([watcher])


async def watch(
    keeper: PolicyKeeper, hangup: asyncio.Event, seconds: float = _CHECK_SECONDS
) -> None:
    """Refresh *keeper* at each *hangup*, and every *seconds* if the file changed."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hangup.wait(), seconds)
        force = hangup.is_set()
        hangup.clear()
        await asyncio.to_thread(keeper.refresh, force=force)

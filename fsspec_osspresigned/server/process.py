"""``osspresigned serve``: the signer service as a process that follows its policy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import uvicorn
from attrs import define, evolve, field

from ..asgi import stop_accepting
from ..errors import ConfigurationError
from ..signers.keys import KeySigner, credential_provider
from ..signing.endpoint import Endpoint
from .app import Limiter, Record, Rules, create_ruled_app
from .guard import GuardedProtocol, Limits, PromptLoop, guarded, raise_file_limit, sweep
from .page_routes import page_routes
from .policy import ENVIRONMENT, SignerSettings, parse_policies

# The TLS certificate of the signer service, which may be renewed while it runs.

Stamp = tuple[int, ...] | None


def stamp_of(path: Path) -> Stamp:
    """Return what changes when the file *path* does; None if it cannot be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@define
class Certificate:
    """A certificate and its key, in files that something else renews.

    Attributes:
        certfile: PEM, the whole chain.
        keyfile: PEM, not encrypted; None if it stands in *certfile*.
        say: where news go.
        context: what new connections are encrypted with.
    """

    certfile: Path
    keyfile: Path | None
    say: Callable[..., None]
    context: ssl.SSLContext = field(factory=_context)
    _stamps: tuple[Stamp, Stamp] = field(default=(None, None), init=False)

    def load(self) -> None:
        """Read both files; what went before stays if there is a mistake.

        Raises:
            ConfigurationError: they cannot be read, or do not fit together.
        """
        self._stamps = self._look()
        # A pair that does not fit would spoil the context that is in use.
        for context in (_context(), self.context):
            try:
                # The word keeps OpenSSL from asking the terminal for one.
                context.load_cert_chain(self.certfile, self.keyfile, "")
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", None) or error.__class__.__name__
                if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                    reason = error.strerror
                files = f"{self.certfile} and {self.keyfile or 'its key'}"
                msg = f"the certificate {files} cannot be used: {reason}"
                raise ConfigurationError(msg) from None

    def refresh(self, *, force: bool = False) -> None:
        """Load the files again if they changed, or by *force*, and tell how it went."""
        if not force and self._look() == self._stamps:
            return
        try:
            self.load()
        except ConfigurationError as error:
            self.say("certificate_refused", problems=list(error.problems))
        else:
            self.say("certificate_reloaded")

    def _look(self) -> tuple[Stamp, Stamp]:
        return stamp_of(self.certfile), stamp_of(self.keyfile or self.certfile)


_CHECK_SECONDS = 1.0
_STOP_SECONDS = 30
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
    own = settings.credentials == ENVIRONMENT
    signer = KeySigner.from_options(
        settings.region,
        settings.endpoint,
        style=settings.style,
        credentials=None if own else provider,
    )
    if own:
        found = provider()
        if found.security_token is not None and found.expires_at is None:
            msg = (
                "OSS_SESSION_TOKEN is set and OSS_SESSION_EXPIRATION is not: the URLs "
                "would outlive the temporary key"
            )
            raise ConfigurationError(msg)
    return signer


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
    _stamp: Stamp = field(default=None, init=False)

    def load(self) -> None:
        """Read the file; what went before stays if there is a mistake.

        Raises:
            ConfigurationError: every mistake.
        """
        self._stamp = stamp_of(self.path)
        policies = parse_policies(self._text())
        if self._signer is None or policies.signer != self._settings:
            self._signer = make_signer(policies.signer)
            self._settings = policies.signer
        self.rules = Rules(signer=self._signer, tokens=policies.tokens)
        self.limiter.keep({policy.name for policy in policies.tokens.values()})

    @property
    def endpoint(self) -> Endpoint:
        """Where the URLs of now lead."""
        return cast("KeySigner", self._signer).endpoint

    def refresh(self, *, force: bool = False) -> None:
        """Load the file again if it changed, or by *force*, and tell how it went."""
        if not force and stamp_of(self.path) == self._stamp:
            return
        try:
            self.load()
        except ConfigurationError as error:
            self.say("policy_refused", problems=list(error.problems))
        else:
            self.say("policy_reloaded", tokens=len(self.rules.tokens))

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

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await stop_accepting(sockets or [])
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The stock one raises SIGTERM again at the end, as if nobody had obeyed it.
        yield

    def guarded(self) -> list[GuardedProtocol]:
        """Return the connections of now."""
        return cast("list[GuardedProtocol]", list(self.server_state.connections))


def url_of(listener: socket.socket, host: str, *, secure: bool) -> str:
    """Return the URL at which *listener* is reached."""
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if secure else "http"
    return f"{scheme}://{shown}:{listener.getsockname()[1]}"


def serve(
    keeper: PolicyKeeper,
    listener: socket.socket,
    *,
    started: Callable[[], None],
    log_keys: bool = False,
    certificate: Certificate | None = None,
    limits: Limits | None = None,
    lifeline: int | None = None,
    page: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the calls that run.

    SIGHUP and a change of a file load policy and certificate again; what has mistakes
    changes nothing.

    Args:
        keeper: of a policy that is loaded.
        listener: a socket that listens.
        started: called when connections are taken.
        log_keys: name the objects in the log.
        certificate: speak TLS with it; None speaks plain HTTP.
        limits: what a client may take.
        lifeline: a file descriptor whose end of file is as good as SIGTERM.
        page: serve the page for browsers, too.

    Raises:
        ConfigurationError: the certificate is wrong.
    """
    limits = limits or Limits()
    limits = evolve(limits, connections=raise_file_limit(limits.connections))
    app = create_ruled_app(
        lambda: keeper.rules,
        limiter=keeper.limiter,
        tell=lambda record: log_call(record, say, log_keys=log_keys),
        routes=page_routes(lambda: keeper.endpoint) if page else (),
    )
    config = uvicorn.Config(
        app,
        http=guarded(limits),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=int(limits.idle),
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    config.load()
    followed: list[Followed] = [keeper]
    if certificate is not None:
        certificate.load()
        config.ssl = certificate.context
        followed.append(certificate)
    server = _Server(config)
    server.listening = started
    with asyncio.Runner(loop_factory=PromptLoop) as runner:
        runner.run(_run(server, listener, followed, lifeline))


async def _run(
    server: _Server,
    listener: socket.socket,
    followed: Sequence[Followed],
    lifeline: int | None,
) -> None:
    loop = asyncio.get_running_loop()
    hangup = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    if lifeline is not None:

        def end() -> None:
            loop.remove_reader(lifeline)
            server.handle_exit(signal.SIGTERM, None)

        loop.add_reader(lifeline, end)
    others = [
        asyncio.create_task(watch(followed, hangup)),
        asyncio.create_task(sweep(server.guarded)),
    ]
    await server.serve(sockets=[listener])
    for task in others:
        task.cancel()
    await asyncio.wait(others)


class Followed(Protocol):
    """What is kept in a file that may change."""

    def refresh(self, *, force: bool = False) -> None:
        """Load it again if it changed, or by *force*."""
        ...


async def watch(
    followed: Sequence[Followed], hangup: asyncio.Event, seconds: float = _CHECK_SECONDS
) -> None:
    """Refresh *followed* at each *hangup*, and every *seconds* what changed."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hangup.wait(), seconds)
        force = hangup.is_set()
        hangup.clear()
        for one in followed:
            await asyncio.to_thread(one.refresh, force=force)

"""Reload of the policy and the TLS certificate while the service runs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import define, field

from ..concurrency.file_stamp import FileStamp
from ..errors import ConfigurationError
from ..signers.keys import KeySigner, credential_provider
from .app import RateLimits, ServiceRules
from .log import Say, say
from .policy import ENVIRONMENT, SignerSettings, parse_policies

_MAX_POLICY = 16 * 1024 * 1024


@define(kw_only=True)
class ReloadedFiles(ABC):
    """Base class of values from files, which are read again when they change."""

    kind: ClassVar[str]  # begins the names of its events
    say: Say = say
    _stamp: object = field(default=None, init=False)  # None: to be read in any case
    _seen: object = field(default=None, init=False)
    _told: Sequence[str] = field(default=(), init=False)

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Return the paths of the files to watch."""

    @abstractmethod
    def read(self) -> dict[str, Any]:
        """Read the files and return facts for the log; an error keeps the old value."""

    def load(self) -> dict[str, Any]:
        """Read the files and return facts for the log; an error keeps the old value."""
        self._stamp = self._look()
        return self.read()

    def refresh(self, *, force: bool = False) -> None:
        """Load the files again if they changed, or with *force*, and log the result.

        The files must be unchanged for one interval, because a partly written file can
        be a valid policy. After a failed load, they are read again at each interval,
        even without a change, because only their permissions may have been wrong.
        """
        now = self._look()
        rests, self._seen = now == self._seen, now
        if not force and (now == self._stamp or not rests):
            return
        try:
            facts = self.load()
        except Exception as error:  # noqa: BLE001 - the next one must still be read
            problems = getattr(error, "problems", (type(error).__name__,))
            self._stamp = None
            if force or problems != self._told:
                self.say(f"{self.kind}_refused", problems=list(problems))
            self._told = problems
        else:
            self._told = ()
            self.say(f"{self.kind}_reloaded", **facts)

    def _look(self) -> object:
        return [FileStamp.read(file) for file in self.files()]


@define(kw_only=True)
class Certificate(ReloadedFiles):
    """TLS certificate and private key; *context* encrypts new connections."""

    kind = "certificate"
    certfile: Path  # PEM, the whole chain
    keyfile: Path | None  # PEM, not encrypted; None if *certfile* holds it
    context: ssl.SSLContext = field(
        factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), init=False
    )

    def files(self) -> Sequence[Path]:
        """Return the paths of certificate and private key."""
        return [self.certfile, self.keyfile or self.certfile]

    def read(self) -> dict[str, Any]:
        """Load certificate and private key."""
        # A pair that does not fit would spoil the context that is in use.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            try:
                # The password keeps OpenSSL from asking the terminal for one.
                context.load_cert_chain(self.certfile, self.keyfile, "")
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                    reason = error.strerror
                else:
                    reason = getattr(error, "reason", None) or type(error).__name__
                files = f"{self.certfile} and {self.keyfile or 'its key'}"
                msg = f"the certificate {files} cannot be used: {reason}"
                raise ConfigurationError(msg) from None
        return {}


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
class PolicyFile(ReloadedFiles):
    """Rules of the service, from the last valid policy file."""

    kind = "policy"
    path: Path
    max_bytes: int = _MAX_POLICY
    limits: RateLimits = field(factory=RateLimits)
    rules: ServiceRules = field(init=False)
    signer: KeySigner = field(init=False)
    _settings: SignerSettings | None = field(default=None, init=False)

    def files(self) -> Sequence[Path]:
        """Return the path of the policy file."""
        return [self.path]

    def read(self) -> dict[str, Any]:
        """Load the policy file; create a new signer if its settings changed."""
        policies = parse_policies(self._text())
        if policies.signer != self._settings:
            self.signer = make_signer(policies.signer)
            self._settings = policies.signer
        self.rules = ServiceRules(signer=self.signer, tokens=policies.tokens)
        self.limits.keep({policy.name for policy in policies.tokens.values()})
        return {"tokens": len(policies.tokens)}

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
    watched: Sequence[ReloadedFiles], hangup: asyncio.Event, seconds: float = 1.0
) -> None:
    """Reload *watched* files when *hangup* is set, by SIGHUP, or when they change.

    Changes are detected every *seconds*.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hangup.wait(), seconds)
        force = hangup.is_set()
        hangup.clear()
        for one in watched:
            await asyncio.to_thread(one.refresh, force=force)

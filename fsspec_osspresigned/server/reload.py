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
    """A value that is read from files, and read again when they change.

    Attributes:
        kind: begins the names of its events.
        say: logs an event.
    """

    kind: ClassVar[str]
    say: Say = say
    _stamp: object = field(default=None, init=False)

    @abstractmethod
    def files(self) -> Sequence[Path]:
        """Return the files."""

    @abstractmethod
    def read(self) -> dict[str, Any]:
        """Read the files and return facts for the log; a mistake changes nothing."""

    def load(self) -> None:
        """Read the files; after a mistake the value of before stays.

        Raises:
            ConfigurationError: every mistake.
        """
        self._load()

    def refresh(self, *, force: bool = False) -> None:
        """Load the files again if they changed, or by *force*, and log the result."""
        if not force and self._look() == self._stamp:
            return
        try:
            facts = self._load()
        except ConfigurationError as error:
            self.say(f"{self.kind}_refused", problems=list(error.problems))
        else:
            self.say(f"{self.kind}_reloaded", **facts)

    def _load(self) -> dict[str, Any]:
        self._stamp = self._look()
        return self.read()

    def _look(self) -> object:
        return [FileStamp.read(file) for file in self.files()]


@define(kw_only=True)
class Certificate(ReloadedFiles):
    """A TLS certificate and its key.

    Attributes:
        certfile: PEM, the whole chain.
        keyfile: PEM, not encrypted; None if *certfile* holds it.
        context: encrypts new connections.
    """

    kind = "certificate"
    certfile: Path
    keyfile: Path | None
    context: ssl.SSLContext = field(
        factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), init=False
    )

    def files(self) -> Sequence[Path]:
        """Return both files."""
        return [self.certfile, self.keyfile or self.certfile]

    def read(self) -> dict[str, Any]:
        """Load both files.

        Raises:
            ConfigurationError: they cannot be read, or do not fit together.
        """
        # A pair that does not fit would spoil the context that is in use.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            try:
                # The password keeps OpenSSL from asking the terminal for one.
                context.load_cert_chain(self.certfile, self.keyfile, "")
            except (OSError, ValueError) as error:
                reason = getattr(error, "reason", None) or error.__class__.__name__
                if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
                    reason = error.strerror
                files = f"{self.certfile} and {self.keyfile or 'its key'}"
                msg = f"the certificate {files} cannot be used: {reason}"
                raise ConfigurationError(msg) from None
        return {}


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


@define(kw_only=True)
class PolicyFile(ReloadedFiles):
    """The rules of the service, from a policy file.

    Attributes:
        path: the policy file.
        max_bytes: size of the file at most.
        limits: rate limits; a new policy removes the names that it no longer has.
        rules: of the last policy without a mistake.
        signer: of the same policy.
    """

    kind = "policy"
    path: Path
    max_bytes: int = _MAX_POLICY
    limits: RateLimits = field(factory=RateLimits)
    rules: ServiceRules = field(init=False)
    signer: KeySigner = field(init=False)
    _settings: SignerSettings | None = field(default=None, init=False)

    def files(self) -> Sequence[Path]:
        """Return the policy file."""
        return [self.path]

    def read(self) -> dict[str, Any]:
        """Load the policy, and make a new signer if its settings changed.

        Raises:
            ConfigurationError: every mistake.
        """
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
            if len(data) > self.max_bytes:
                msg = f"{self.path} is larger than {self.max_bytes} bytes"
                raise ConfigurationError(msg)
            return data.decode()
        except OSError as error:
            msg = f"cannot read {self.path}: {error.strerror}"
            raise ConfigurationError(msg) from None
        except UnicodeDecodeError as error:
            msg = f"{self.path} is not UTF-8 at byte {error.start}"
            raise ConfigurationError(msg) from None


async def watch(
    watched: Sequence[ReloadedFiles], hangup: asyncio.Event, seconds: float = 1.0
) -> None:
    """Refresh *watched* at each *hangup*, and every *seconds* what changed."""
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hangup.wait(), seconds)
        force = hangup.is_set()
        hangup.clear()
        for one in watched:
            await asyncio.to_thread(one.refresh, force=force)

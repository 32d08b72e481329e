"""The policy file, which is reloaded while the service runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import Factory, define, field

from ...errors import ConfigurationError
from ...files import FileStamp
from ...signers.keys import KeySigner, credential_provider
from .app import ServiceRules
from .limits import RateLimits
from .policy import (
    ENVIRONMENT,
    Policy,
    SignerSettings,
    added_tokens,
    parse_policies,
)
from .token_store import TokenStore

_INTERVAL = 1.0  # seconds between two looks at the file


def make_signer(settings: SignerSettings) -> KeySigner:
    provider = credential_provider(settings.credentials)
    from_environment = settings.credentials == ENVIRONMENT
    try:
        signer = KeySigner.from_options(
            settings.region,
            settings.endpoint,
            style=settings.style,
            credentials=None if from_environment else provider,
        )
    except ConfigurationError as error:
        # The service has no option or argument with that name.
        own = "OSS_REGION, or region under [signer]"
        raise ConfigurationError(
            [text.replace("OSS_REGION or region=", own) for text in error.problems]
        ) from None
    key = provider() if from_environment else None
    if key and key.security_token is not None and key.expires_at is None:
        msg = "OSS_SESSION_TOKEN is set and OSS_SESSION_EXPIRATION is not"
        raise ConfigurationError(f"{msg}: the URLs would outlive the temporary key")
    return signer


@define(kw_only=True)
class PolicyFile:
    """The service's rules from the last valid policy file."""

    path: Path
    say: Callable[..., None]  # writes one event and its facts to the log
    store: TokenStore = field(
        default=Factory(lambda self: TokenStore.of(self.path), takes_self=True)
    )
    limits: RateLimits = field(factory=RateLimits)
    rules: ServiceRules = field(init=False)
    signer: KeySigner = field(init=False)
    _listed: Mapping[str, Policy] = field(init=False)  # tokens in the policy file
    _added: Sequence[Mapping[str, Any]] = field(factory=list, init=False)
    _settings: SignerSettings | None = field(default=None, init=False)
    _stamp: object = field(default=None, init=False)  # None: the file must be read
    _seen: object = field(default=None, init=False)
    _problems: Sequence[str] = field(factory=list, init=False)

    def load(self) -> dict[str, Any]:
        """Read the file, use its rules, and return facts for the log.

        ConfigurationError if it is invalid; then the old rules stay in use.
        """
        return self._load(self.store.entries())

    def _load(self, added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        self._stamp = FileStamp.read(self.path)
        policies = parse_policies(self._text())
        if policies.signer != self._settings:
            self.signer = make_signer(policies.signer)
            self._settings = policies.signer
        self._listed = policies.tokens
        self._merge(added)
        return {"tokens": len(self.rules.tokens)}

    def _merge(self, added: Sequence[Mapping[str, Any]]) -> None:
        """Use the tokens in the file, and the tokens *added* by the command line.

        If the file and an added token have the same name, the file's token is used,
        because both would share their limits.
        """
        names = {policy.name for policy in self._listed.values()}
        more = added_tokens(added).items()
        tokens = {key: policy for key, policy in more if policy.name not in names}
        self.rules = ServiceRules(signer=self.signer, tokens={**tokens, **self._listed})
        self.limits.keep({policy.name for policy in self.rules.tokens.values()})
        self._added = added

    def refresh(self, *, force: bool = False) -> None:
        """Reload the file if it changed or *force* is set, and log the result.

        Added and revoked tokens are read each time, even while the file is invalid.
        While the database cannot be read, the last tokens stay in use.

        The file must be unchanged for one interval, because a partly written file can
        be a valid policy. A failed load is repeated at each interval, because only the
        permissions of the file may have been wrong.
        """
        now = FileStamp.read(self.path)
        is_settled, self._seen = now == self._seen, now
        problems: list[str] = []
        if force or (now != self._stamp and is_settled):
            try:
                facts = self._load(self._added)
            except Exception as error:  # noqa: BLE001 - the next version must still be read
                self._stamp = None
                problems += _problems_of(error)
            else:
                self.say("policy_reloaded", **facts)
        try:
            if (added := self.store.entries()) != self._added:
                self._merge(added)
        except Exception as error:  # noqa: BLE001 - the next version must still be read
            problems += _problems_of(error)
        if problems and (force or problems != self._problems):
            self.say("policy_refused", problems=problems)
        self._problems = problems

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except OSError as error:
            problem = f"cannot read {self.path}: {error.strerror}"
        except UnicodeDecodeError as error:
            problem = f"{self.path} is not UTF-8 at byte {error.start}"
        raise ConfigurationError(problem)


def _problems_of(error: Exception) -> Sequence[str]:
    return getattr(error, "problems", (type(error).__name__,))


async def watch(policy: PolicyFile, hangup: asyncio.Event) -> None:
    """Reload *policy* when *hangup* is set, and after its file changed.

    The file is checked every second, and loaded when a second check finds no further
    change. Runs until it is cancelled.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hangup.wait(), _INTERVAL)
        force = hangup.is_set()
        hangup.clear()
        await asyncio.to_thread(policy.refresh, force=force)

"""Command ``osspresigned serve``: the reference signer service."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
from attrs import fields_dict, frozen

from ...errors import SITE, ConfigurationError
from ...owner.service.policy import (
    Policies,
    Policy,
    hash_token,
    parse_policies,
    token_problem,
)
from ...owner.service.token_store import TokenStore
from ...signers.base import Permissions
from ...units import shown_bytes, shown_text
from ...url_checks import is_loopback
from ..output import table
from .options import UncutGroup, examples, flag, needs, option, takes
from .permissions import rows

_EXAMPLES = """\
  osspresigned serve --policy policy.toml --check
  openssl rand -hex 32 | osspresigned serve --hash-token
  osspresigned serve --policy policy.toml
  osspresigned serve --policy policy.toml --ui --port 8081
"""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TOKENS = click.Path(dir_okay=False, path_type=Path)


@frozen(kw_only=True)
class PolicyOptions:
    # fmt: off
    policy_file: Path | None = option("--policy FILE",
        "TOML file with tokens and permissions; re-read on change.", type=_FILE)
    tokens_file: Path | None = option("--tokens FILE",
        "Database of added tokens and used quotas, which the service writes.  "
        "[default: the name of the policy with .sqlite3]", type=_TOKENS)
    # fmt: on

    def store(self) -> TokenStore:
        """Return the database of tokens; UsageError if no policy is given."""
        if self.policy_file is None:
            raise click.UsageError("this needs --policy FILE")
        return TokenStore.of(self.policy_file, self.tokens_file)

    def policies(self) -> Policies:
        """Return the policies of the file; ConfigurationError if it is invalid."""
        file = self.policy_file
        try:
            text = file.read_text("utf-8") if file else ""
        except UnicodeDecodeError as error:
            msg = f"{file} is not UTF-8 at byte {error.start}"
            raise ConfigurationError(msg) from None
        return parse_policies(text)


@frozen(kw_only=True)
class ServeOptions(PolicyOptions):
    # fmt: off
    host: str = option("--host", "Address to listen on, for a proxy with TLS.",
        default="127.0.0.1", show_default=True)
    port: int = option("--port", default=8080)
    log_keys: bool = flag("--log-keys", "Write object names to the access log.")
    page: bool = flag("--ui",
        "Also serve a page from which people upload with their browser.")
    uppy_origins: tuple[str, ...] = option("--uppy ORIGIN",
        "Also serve Uppy on this web site, such as https://app.example.com; may be "
        "repeated.", multiple=True)
    checks: bool = flag("--check",
        "Check the policy, print the permissions, and exit; needs no key.")
    wants_hash: bool = flag("--hash-token",
        "Read a token from stdin, print its hash for the policy, and exit.")
    # fmt: on


@takes
@click.group(cls=UncutGroup, invoke_without_command=True, epilog=examples(_EXAMPLES))
def serve(wanted: ServeOptions) -> None:
    """Run the reference signer service, which signs URLs by a policy."""
    if click.get_current_context().invoked_subcommand is not None:
        if wanted != ServeOptions():
            raise click.UsageError("write the options at the end of the command")
        return
    if wanted.wants_hash:
        token = sys.stdin.readline().rstrip("\r\n")
        if problem := token_problem(token):
            raise click.UsageError(f"the token {problem}")
        click.echo(hash_token(token))
        return
    wanted.store()  # raises an error if there is no policy
    if wanted.checks:
        for policy in wanted.policies().tokens.values():
            click.echo("\n".join(table([*_granted(policy)])))
            if policy.expires_at is not None and policy.expires_at <= time.time():
                warnings.warn(f"token {policy.name!r} has expired", stacklevel=2)
        return
    with needs("server"):
        from ...owner.service.process import ServiceSettings, launch  # noqa: PLC0415 - it needs an extra
    if not is_loopback(wanted.host):
        warnings.warn(
            f"{wanted.host} is not an address of this machine alone: let only a reverse "
            f"proxy with TLS and limits of connections reach it: {SITE}serve.html",
            stacklevel=2,
        )
    names = fields_dict(ServiceSettings)
    launch(ServiceSettings(**{name: getattr(wanted, name) for name in names}))


def _granted(policy: Policy) -> Iterator[tuple[str, str]]:
    yield "token", shown_text(policy.name)
    permitted = policy.permissions()
    permitted.pop("expires_in", None)
    yield from rows(Permissions(**permitted, expires_at=policy.expires_at))
    if policy.max_objects is not None:
        yield "objects", f"{policy.max_objects} at most"
    if policy.max_bytes is not None:
        yield "bytes", f"{shown_bytes(policy.max_bytes)} at most in all"
    if policy.callback is not None:
        yield "callback", policy.callback

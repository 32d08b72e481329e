"""Commands ``osspresigned serve token`` and ``serve invite``: tokens that expire."""

from __future__ import annotations

import json
import math
import secrets
import shlex
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import click
from attrs import frozen

from ...errors import ConfigurationError
from ...model import Action, split_path
from ...owner.service.policy import Policy, added_tokens, hash_token
from ...parsing import moment
from ...units import seconds_of, shown_bytes, shown_end, shown_text
from ...url_checks import is_loopback, service_problem
from .options import (
    SIZE,
    UncutGroup,
    examples,
    flag,
    object_path,
    option,
    read_by,
    takes,
)
from .serve import PolicyOptions

_INVITE = """\
  osspresigned serve invite partner --policy policy.toml --prefix examplebucket/partner/ --url https://sign.example.com
  osspresigned serve invite report --policy policy.toml --prefix examplebucket/q3/ --expires 2d --max-objects 1 --url https://sign.example.com
"""
_ADD = """\
  osspresigned serve token add lab --policy policy.toml --prefix examplebucket/lab/ --expires 90d
  osspresigned serve token list --policy policy.toml
  osspresigned serve token revoke lab --policy policy.toml
"""
_ACTIONS = (
    Action.PutObject,
    Action.InitiateMultipartUpload,
    Action.UploadPart,
    Action.CompleteMultipartUpload,
    Action.AbortMultipartUpload,
    Action.HeadObject,
)
_LOCAL = "http://127.0.0.1:8080"
_MAX_DAYS = 3650


def _life(text: str) -> int:
    if (end := moment(text)) is not None:
        text = f"{math.ceil(end - time.time())}s"
    return seconds_of(text, _MAX_DAYS)


@frozen(kw_only=True)
class TokenOptions(PolicyOptions):
    # fmt: off
    prefix: str = option("--prefix BUCKET/PREFIX/",
        "Where the token permits uploads; end it with a slash.",
        type=object_path, required=True)
    expires_in: int = option("--expires LIFE",
        "Lifetime of the token: 2h, 7d, 90d, or its end: 2026-12-31T18:00:00Z.",
        type=read_by(_life), default="7d", show_default=True)
    once: bool = flag("--once", "Permit one object only, as --max-objects 1.")
    max_objects: int | None = option("--max-objects N",
        "Number of objects; retries of a name count once.", type=click.IntRange(min=1))
    max_bytes: int | None = option("--max-bytes SIZE",
        "Bytes of all objects together: 10GiB.", type=SIZE)
    overwrite: bool = flag("--overwrite", "Permit replacing existing objects; zarr and xarray need it.")
    # fmt: on

    def add(self, name: str) -> str:
        """Add a token with *name* to the database, and return it.

        ConfigurationError if an option is invalid, or the name is taken.
        """
        bucket, prefix = split_path(self.prefix)
        shown = shown_text(self.prefix)
        if not prefix and not self.prefix.endswith("/"):
            msg = (
                f"--prefix {shown} is the whole bucket: add a prefix, or write {shown}/"
            )
            raise ConfigurationError(msg)
        if prefix and not prefix.endswith("/"):
            msg = f"--prefix {shown} also permits names that begin so: end it with a slash"
            raise ConfigurationError(msg)
        made = secrets.token_urlsafe(24)
        ends = datetime.fromtimestamp(int(time.time()) + self.expires_in, UTC)
        entry: dict[str, Any] = {
            "name": name,
            "sha256": hash_token(made),
            "buckets": [bucket],
            "prefixes": [prefix],
            "actions": [*_ACTIONS],
            "overwrite": self.overwrite,
            "expires": ends.isoformat(),
            "max_objects": 1 if self.once else self.max_objects,
            "max_bytes": self.max_bytes,
        }
        entry = {key: value for key, value in entry.items() if value is not None}
        [policy] = added_tokens([entry]).values()
        policies, store = self.policies(), self.store()
        listed = policies.tokens.values()
        if policy.name in {known.name for known in listed}:
            raise ConfigurationError(f"the policy already has a token {name!r}")
        tokens = [policy, *listed, *added_tokens(store.entries()).values()]
        if problem := policies.signer.problem(tokens):
            raise ConfigurationError(problem)
        store.add(entry)
        text = f"added to {store.path}, which the service must use (--tokens)"
        click.echo(text, err=True)
        return made


@takes
@click.command(epilog=examples(_INVITE))
@click.argument("name")
@click.option("--url", default=_LOCAL, show_default=True,
              help="Address at which uploaders reach the service.")  # fmt: skip
def invite(name: str, wanted: TokenOptions, url: str) -> None:
    """Invite someone to upload: make a token, and print an address and two commands.

    The address opens the upload page (serve --ui), which asks for nothing more. The next
    line is the token, for the commands. Whoever has one of them can upload until the
    token expires: send them like a password. An address in a browser's history stays
    there.
    """
    if problem := service_problem(url, allow_http=False):
        raise click.UsageError(f"--url {problem.removesuffix(', or allow_http=True')}")
    if is_loopback(urlsplit(url).hostname or ""):
        warnings.warn(f"{url} is this machine alone: give --url", stacklevel=2)
    made, url = wanted.add(name), url.rstrip("/")
    click.echo("the address needs serve --ui", err=True)
    prefix = shlex.quote(wanted.prefix)
    click.echo(f"{url}/#token={made}&{quote(wanted.prefix)}")
    click.echo(made)
    click.echo(
        "(umask 077; cat > osspresigned-token)   # paste the token, Enter, Ctrl-D"
    )
    click.echo(
        f"osspresigned put FILE {prefix} --signer {shlex.quote(url)} --token file:osspresigned-token"
    )


@click.group(cls=UncutGroup, epilog=examples(_ADD))
def token() -> None:
    """Add, list and revoke tokens beside those in the policy file.

    They take effect, and end, within a second; the service need not be restarted.
    """


@takes
@click.command(name="add")
@click.argument("name")
def add(name: str, wanted: TokenOptions) -> None:
    """Add a token for uploads, and print it; the database contains only its hash."""
    click.echo(wanted.add(name))


@takes
@click.command(name="list")
def list_tokens(wanted: PolicyOptions, *, as_json: bool) -> None:
    """List the added tokens, and those of the policy with a quota, with what is left."""
    store = wanted.store()
    tokens = [*added_tokens(store.entries()).values()]
    if store.path.exists():
        listed = wanted.policies().tokens
        tokens += [policy for policy in listed.values() if policy.has_quota]
    for policy in tokens:
        left = store.left(policy)
        if as_json:
            told = {"name": policy.name, **policy.permissions(), **left}
            click.echo(json.dumps(told))
        else:
            click.echo(", ".join(_facts(policy, left)))


def _facts(policy: Policy, left: dict[str, int]) -> Iterator[str]:
    yield f"{shown_text(policy.name)}: {shown_text(', '.join(policy.prefixes))}"
    if policy.expires_at is not None:
        yield shown_end(policy.expires_at, time.time())
    if policy.max_objects is not None:
        yield f"{left['objects_left']} of {policy.max_objects} objects left"
    if policy.max_bytes is not None:
        size = shown_bytes(left["bytes_left"])
        yield f"{size} of {shown_bytes(policy.max_bytes)} left"


@takes
@click.command(name="revoke")
@click.argument("name")
def revoke(name: str, wanted: PolicyOptions) -> None:
    """Revoke an added token; URLs that were signed for it stay valid until they expire."""
    if not wanted.store().revoke(name):
        msg = f"no added token is named {name!r}: remove a token of the policy from its file"
        raise ConfigurationError(msg)
    click.echo(f"revoked {shown_text(name)}", err=True)


for command in (add, list_tokens, revoke):
    token.add_command(command)

"""Command ``osspresigned permissions``: what a token permits."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import click
from attrs import asdict

from ...signers.base import Permissions
from ...units import (
    short_bytes,
    shown_bytes,
    shown_end,
    shown_moment,
    shown_seconds,
    shown_text,
)
from ..output import table
from .options import ConnectionOptions, examples, takes

_EXAMPLES = """\
  osspresigned permissions --signer https://sign.example.com --token file:token.txt
"""


@takes
@click.command(epilog=examples(_EXAMPLES))
def permissions(connection: ConnectionOptions, *, as_json: bool) -> None:
    """Show what a token of a signer service permits: where, what, and until when.

    Nothing is uploaded. For a URL, a map or a grant, use doctor.
    """
    found = connection.filesystem().permissions()
    if as_json:
        known = asdict(found, filter=lambda _, value: value is not None)
        if found.expires_at is not None:
            known["expires_at"] = shown_moment(found.expires_at)
        click.echo(json.dumps(known, indent=2))
        return
    click.echo("\n".join(table([*rows(found)])))


def rows(found: Permissions) -> Iterator[tuple[str, str]]:
    places = (p if p.endswith("/") else f"{p}..." for p in found.prefixes)
    yield "paths", shown_text(f"below {', '.join(places)}")
    yield "actions", shown_text(", ".join(found.actions))
    if found.max_size is not None:
        yield "size", f"{shown_bytes(found.max_size)} for each object at most"
    if found.objects_left is not None:
        yield "objects", f"{found.objects_left} left"
    if found.bytes_left is not None:
        yield "bytes", f"{short_bytes(found.bytes_left)} left"
    if found.content_types is not None:
        yield "content types", shown_text(", ".join(found.content_types))
    yield "overwrite", "permitted" if found.overwrite else "existing objects are kept"
    if found.max_expires_in is not None:
        yield "URLs", f"valid for {shown_seconds(found.max_expires_in)} at most"
    if found.expires_at is not None:
        yield "token expires", shown_end(found.expires_at, time.time())

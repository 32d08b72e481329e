"""The command ``osspresigned resume``: what was interrupted, and the end of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..checkpoint.directory import Checkpoint, Found
from ..checkpoint.journal import Record
from ..client.client import Client
from ..errors import (
    CheckpointInUseError,
    ConfigurationError,
    OSSPresignedError,
    UploadNotFoundError,
)
from ..filesystem.connect import client_for
from ..model import Action
from ..options.object_options import Target
from ..options.options import Options
from ..units import shown_bytes, shown_seconds, shown_text

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(short_help="List or abort the uploads that a checkpoint has kept.")
@click.option("--list", "listed", type=_DIRECTORY, metavar="DIR",
              help="Tell which uploads can be gone on with.")  # fmt: skip
@click.option("--abort", "aborted", type=_DIRECTORY, metavar="DIR",
              help="Abort them, and remove their journals.")  # fmt: skip
@click.argument("paths", nargs=-1, metavar="[BUCKET/KEY...]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with --list.")
@click.option("--signer", default="keys", show_default=True,
              help="What signs the aborts: keys, a URL, or MODULE:FUNCTION.")  # fmt: skip
@click.option(
    "--token", "signer_token", help="env:OSSPRESIGNED_... or file:PATH of its token."
)
@click.option("--region", help="Else OSS_REGION, or what the endpoint tells.")
@click.option("--endpoint", help="Else OSS_ENDPOINT, or the public one of the region.")
@click.option("--addressing-style", type=click.Choice(["virtual", "path", "cname"]))
@click.option("--allowed-host", "hosts", multiple=True, metavar="HOST[=BUCKET]",
              help="Host of signed URLs outside OSS; may be repeated.")  # fmt: skip
@click.option("--allow-http", is_flag=True, help="Plain http may leave this machine.")
def resume(
    listed: Path | None,
    aborted: Path | None,
    paths: Sequence[str],
    *,
    as_json: bool,
    hosts: Sequence[str],
    **facts: Any,
) -> int:
    """Look after the uploads that checkpoint=DIR has kept; all, or of BUCKET/KEY.

    To go on with one, run again what was interrupted. The exit code of --abort is 1 if
    an upload could not be aborted; its journal is kept then.
    """
    if (listed is None) == (aborted is None):
        raise click.UsageError("give --list DIR or --abort DIR")
    if aborted is None:
        found = _chosen(Checkpoint(str(listed)), paths)
        _list(found, as_json=as_json)
        return 0
    if as_json:
        raise click.UsageError("--json goes with --list")
    pairs = (host.lower().partition("=") for host in hosts)
    facts["allowed_hosts"] = {host: name or None for host, _, name in pairs} or None
    options = Options.from_storage_options(facts)
    checkpoint = Checkpoint(aborted)
    failed = False
    for one in _chosen(checkpoint, paths):
        said, done = _abort(checkpoint, one, options)
        failed |= not done
        name = one.record.head.path if one.record else one.name
        click.echo(f"{shown_text(name)}: {said}", err=not done)
    return 1 if failed else 0


def _chosen(checkpoint: Checkpoint, paths: Sequence[str]) -> list[Found]:
    """Return the journals of *paths*, of everything if there are none."""
    found = list(checkpoint.found())
    if not paths:
        return found
    wanted = {path.removeprefix("osspresigned://") for path in paths}
    found = [one for one in found if one.record and one.record.head.path in wanted]
    missing = wanted - {one.record.head.path for one in found if one.record}
    if missing:
        shown = ", ".join(shown_text(path) for path in sorted(missing))
        raise click.ClickException(f"no journal in there is of {shown}")
    return found


def _list(found: Sequence[Found], *, as_json: bool) -> None:
    now = time.time()
    if as_json:
        click.echo(json.dumps([_members(one, now) for one in found], indent=2))
        return
    for one in found:
        if one.record is None:
            click.echo(f"{shown_text(one.name)}: cannot be read")
            continue
        head = one.record.head
        facts = [
            shown_bytes(head.size),
            f"{len(one.record.parts)} of {head.parts} parts stored",
            f"begun {shown_seconds(max(0.0, now - head.created))} ago",
            f"upload {head.upload_id}",
            *(["its owner's"] if head.owners else []),
            *([f"in use by {one.in_use}"] if one.in_use else []),
        ]
        names = f"{shown_text(head.path)} from {shown_text(head.source)}"
        click.echo(f"{names}: {', '.join(facts)}")
    count = "1 upload" if len(found) == 1 else f"{len(found)} uploads"
    click.echo(count)


def _members(one: Found, now: float) -> dict[str, Any]:
    if one.record is None:
        return {"journal": one.name, "path": None, "in_use": one.in_use}
    head = one.record.head
    return {
        "journal": one.name,
        "path": head.path,
        "source": head.source,
        "size": head.size,
        "stored": sum(kept.part.size for kept in one.record.parts.values()),
        "parts": head.parts,
        "parts_stored": len(one.record.parts),
        "age": max(0.0, now - head.created),
        "upload_id": head.upload_id,
        "owners": head.owners,
        "in_use": one.in_use,
    }


def _abort(checkpoint: Checkpoint, one: Found, options: Options) -> tuple[str, bool]:
    """End one upload; return what to say, and whether its journal is gone."""
    try:
        held = checkpoint.hold_name(one.name)
    except CheckpointInUseError as error:
        return error.message, False
    if not held.is_ours:
        return "not aborted: its journal cannot be locked or read", False
    try:
        said = "the journal could not be read, and is removed"
        if held.record is not None:
            # No URL map is among the options, so nothing has to be opened.
            said = _end(client_for(options, str.encode), held.record)
        held.remove()
    except ConfigurationError:
        raise
    except OSSPresignedError as error:
        return f"not aborted: {error.message}", False
    finally:
        held.release()
    return said, True


def _end(client: Client, record: Record) -> str:
    """Abort the upload of *record*, unless it is its owner's."""
    head = record.head
    if head.owners:
        return (
            f"upload {head.upload_id} is its owner's to abort; the journal is removed"
        )
    operation = Target(path=head.path).operation(
        Action.AbortMultipartUpload, upload_id=head.upload_id
    )
    try:
        client.call(operation)
    except UploadNotFoundError:
        return f"upload {head.upload_id} was gone already"
    return f"upload {head.upload_id} is aborted"

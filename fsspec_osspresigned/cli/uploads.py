"""Commands ``uploads list`` and ``uploads abort``: interrupted uploads of a checkpoint."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from ..checkpoint.directory import Checkpoint, FoundJournal
from ..checkpoint.journal import JournalRecord
from ..client.client import Client
from ..errors import (
    CheckpointInUseError,
    ConfigurationError,
    OSSPresignedError,
    UploadNotFoundError,
)
from ..model import Action
from ..options.object_options import Target
from ..units import shown_bytes, shown_seconds, shown_text
from .options import ConnectionOptions, counted, takes

_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)
_paths = click.argument("paths", nargs=-1, metavar="[BUCKET/KEY...]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def uploads() -> None:
    """List or abort the interrupted uploads of a checkpoint directory.

    To resume one, run again what was interrupted.
    """


@uploads.command(name="list")
@click.argument("directory", type=_DIRECTORY, metavar="DIR")
@_paths
@_json
def list_uploads(directory: Path, paths: Sequence[str], *, as_json: bool) -> None:
    """List the uploads whose journals are in DIR; all, or those of BUCKET/KEY."""
    _list(_chosen(Checkpoint(str(directory)), paths), as_json=as_json)


@takes(connection=ConnectionOptions)
@uploads.command(name="abort")
@click.argument("directory", type=_DIRECTORY, metavar="DIR")
@_paths
def abort_uploads(
    directory: Path, paths: Sequence[str], connection: ConnectionOptions
) -> int:
    """Abort the uploads whose journals are in DIR, and remove the journals.

    Without --signer or --map, the keys of the environment sign. The exit code is 1 if an
    upload could not be aborted; its journal is kept.
    """
    return _abort_all(directory, paths, connection)


@takes(connection=ConnectionOptions)
@click.command(hidden=True)
@click.option("--list", "listed", type=_DIRECTORY, metavar="DIR")
@click.option("--abort", "aborted", type=_DIRECTORY, metavar="DIR")
@_paths
@_json
def resume(
    listed: Path | None,
    aborted: Path | None,
    paths: Sequence[str],
    *,
    as_json: bool,
    connection: ConnectionOptions,
) -> int:
    """Do what ``uploads list`` and ``uploads abort`` do: their old name."""
    if (listed is None) == (aborted is None):
        raise click.UsageError("give --list DIR or --abort DIR")
    word = "abort" if listed is None else "list"
    said = f"deprecated: use osspresigned uploads {word} DIR"
    click.echo(said, err=True)
    if listed is not None:
        _list(_chosen(Checkpoint(str(listed)), paths), as_json=as_json)
        return 0
    if as_json:
        raise click.UsageError("--json goes with --list")
    return _abort_all(str(aborted), paths, connection)


def _abort_all(
    directory: Path | str, paths: Sequence[str], connection: ConnectionOptions
) -> int:
    checkpoint = Checkpoint(str(directory))
    client = functools.cache(lambda: _client(connection))
    failed = False
    for one in _chosen(checkpoint, paths):
        said, done = _abort(checkpoint, one, client)
        failed |= not done
        name = one.record.head.path if one.record else one.name
        click.echo(f"{shown_text(name)}: {said}", err=not done)
    return 1 if failed else 0


def _client(connection: ConnectionOptions) -> Client:
    given = {} if connection.has_source else {"signer": "keys"}
    client: Client = connection.filesystem(**given).client
    return client


def _chosen(checkpoint: Checkpoint, paths: Sequence[str]) -> list[FoundJournal]:
    """Return the journals of *paths*; all of them without paths."""
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


def _list(found: Sequence[FoundJournal], *, as_json: bool) -> None:
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
    click.echo(counted(len(found), "upload"))


def _members(one: FoundJournal, now: float) -> dict[str, Any]:
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


def _abort(
    checkpoint: Checkpoint, one: FoundJournal, client: Callable[[], Client]
) -> tuple[str, bool]:
    """Abort one upload; return the message, and whether its journal is gone."""
    try:
        held = checkpoint.hold_name(one.name)
    except CheckpointInUseError as error:
        return error.message, False
    if not held.is_ours:
        return "not aborted: its journal cannot be locked or read", False
    try:
        said = "the journal could not be read, and is removed"
        if held.record is not None:
            said = _end(client, held.record)
        held.remove()
    except ConfigurationError:
        raise
    except OSSPresignedError as error:
        return f"not aborted: {error.message}", False
    finally:
        held.release()
    return said, True


def _end(client: Callable[[], Client], record: JournalRecord) -> str:
    """Abort the upload of *record*, unless its owner has to do that."""
    head = record.head
    if head.owners:
        return (
            f"upload {head.upload_id} is its owner's to abort; the journal is removed"
        )
    operation = Target(path=head.path).operation(
        Action.AbortMultipartUpload, upload_id=head.upload_id
    )
    try:
        client().call(operation)
    except UploadNotFoundError:
        return f"upload {head.upload_id} was gone already"
    return f"upload {head.upload_id} is aborted"

"""Commands ``uploads list`` and ``uploads abort``."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from ...client.client import Client
from ...engine.engine import run
from ...errors import (
    CheckpointInUseError,
    ConfigurationError,
    OSSPresignedError,
    UploadNotFoundError,
)
from ...model import Action
from ...options.of_objects import Target
from ...units import short_bytes, shown_seconds, shown_text
from ...upload.journal import Checkpoint, FoundJournal, JournalRecord
from ...upload.oss_calls import is_elsewhere
from .options import (
    ConnectionOptions,
    UncutGroup,
    confirmed,
    counted,
    default_journals,
    examples,
    object_path,
    takes,
)

_LIST = """\
  osspresigned uploads list
  osspresigned uploads list journals examplebucket/in/big.bin
"""
_ABORT = """\
  osspresigned uploads abort --dry-run
  osspresigned uploads abort journals examplebucket/in/big.bin --signer keys
  osspresigned uploads abort journals --yes
"""
_EXISTING = click.Path(exists=True, file_okay=False)
_directory = click.argument(
    "directory", required=False, type=_EXISTING, metavar="[DIR]"
)
_paths = click.argument("paths", nargs=-1, type=object_path, metavar="[BUCKET/KEY...]")


@click.group(cls=UncutGroup, epilog=examples(_LIST + _ABORT))
def uploads() -> None:
    """List or abort the interrupted uploads of a checkpoint directory.

    DIR is the directory of --checkpoint; by default, the one that --resume uses. To
    resume an upload, run the interrupted command again.
    """


@uploads.command(name="list", epilog=examples(_LIST))
@_directory
@_paths
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_uploads(directory: str | None, paths: Sequence[str], *, as_json: bool) -> None:
    """List the uploads whose journals are in DIR.

    Without BUCKET/KEY, all uploads are listed.
    """
    now = time.time()
    found = [_members(one, now) for one in _chosen(_checkpoint(directory), paths)]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for one in found:
        click.echo(_line(**one))
    click.echo(counted(len(found), "upload"))


@takes
@uploads.command(name="abort", epilog=examples(_ABORT))
@_directory
@_paths
@click.option(
    "--dry-run",
    "-n",
    is_flag=True,
    help="Print the planned actions, and change nothing.",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before aborting all.")
def abort_uploads(
    directory: str | None,
    paths: Sequence[str],
    *,
    dry_run: bool,
    yes: bool,
    connection: ConnectionOptions,
) -> int:
    """Abort the uploads whose journals are in DIR, and remove the journals.

    Without BUCKET/KEY the command aborts all uploads, and asks first. The keys in the
    environment sign, unless --signer or --map is given. The exit code is 1 if an upload
    could not be aborted, or is in another store; its journal is kept.
    """
    checkpoint = _checkpoint(directory)
    chosen = _chosen(checkpoint, paths)
    names = [shown_text(_name(one)) for one in chosen]
    if dry_run:
        for name in names:
            click.echo(f"{name}: would be aborted")
        return 0
    asks = names and not (paths or yes)
    if asks and not confirmed(names, what="upload", verb="abort"):
        return 1
    client = functools.cache(lambda: _client_of(connection))
    code = 0
    for name, one in zip(names, chosen, strict=True):
        try:
            click.echo(f"{name}: {_abort(checkpoint, one, client)}")
        except ConfigurationError:
            raise
        except OSSPresignedError as error:
            click.echo(f"{name}: not aborted: {error.message}", err=True)
            code = 1
    return code


def _client_of(connection: ConnectionOptions) -> Client:
    """Return the client for the given source, else for the keys in the environment."""
    if connection.has_source:
        return connection.filesystem().client
    try:
        return connection.filesystem(signer="keys").client
    except ConfigurationError as error:
        other = "without keys, give the --signer or --map that began the uploads"
        raise ConfigurationError([*error.problems, other]) from None


def _checkpoint(directory: str | None) -> Checkpoint:
    return Checkpoint(directory or default_journals())


def _chosen(checkpoint: Checkpoint, paths: Sequence[str]) -> list[FoundJournal]:
    """Return the journals of uploads to *paths*; without *paths*, all journals."""
    found = list(checkpoint.found())
    if not paths:
        return found
    wanted = set(paths)
    found = [one for one in found if one.record and one.record.head.path in wanted]
    missing = wanted - {one.record.head.path for one in found if one.record}
    if missing:
        shown = ", ".join(shown_text(path) for path in sorted(missing))
        raise click.ClickException(f"no journal in there is of {shown}")
    return found


def _name(one: FoundJournal) -> str:
    """Return the path of an upload, or the file name of an unreadable journal."""
    return one.record.head.path if one.record else one.name


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


def _line(journal: str, path: str | None, in_use: str | None, **more: Any) -> str:
    if path is None:
        return f"{shown_text(journal)}: cannot be read"
    size, age = short_bytes(more["size"]), shown_seconds(more["age"])
    owners = ", its owner's" if more["owners"] else ""
    user = f", in use by {in_use}" if in_use else ""
    return (
        f"{shown_text(path)} from {shown_text(more['source'])}: {size}, "
        f"{more['parts_stored']} of {more['parts']} parts stored, begun {age} ago, "
        f"upload {more['upload_id']}{owners}{user}"
    )


def _abort(
    checkpoint: Checkpoint, one: FoundJournal, client: Callable[[], Client]
) -> str:
    held = checkpoint.hold_name(one.name)
    try:
        if not held.is_ours:
            raise CheckpointInUseError("its journal cannot be locked or read")
        said = "the journal could not be read, and is removed"
        if held.record is not None:
            said = _end(client, held.record)
        held.remove()
    finally:
        held.release()
    return said


def _end(client: Callable[[], Client], record: JournalRecord) -> str:
    """Abort the upload in *record*, unless only the owner may abort it; return a message."""
    head = record.head
    upload = f"upload {head.upload_id}"
    if head.owners:
        return f"{upload} is its owner's to abort; the journal is removed"
    abort = Action.AbortMultipartUpload
    try:
        operation = Target(path=head.path).operation(abort, upload_id=head.upload_id)
        run(lambda: client().call(operation))
    except UploadNotFoundError as error:
        if is_elsewhere(error, head.host):
            began = f"{upload} was begun at {shown_text(head.host)}"
            asked = shown_text(error.host)
            raise UploadNotFoundError(
                f"{began}, and {asked} does not know it: its journal is kept",
                path=head.path,
            ) from None
        return f"{upload} was gone already"
    return f"{upload} is aborted"

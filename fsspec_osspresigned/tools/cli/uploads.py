"""Commands ``uploads list`` and ``uploads abort``."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from ...client.client import Client
from ...client.operations import is_elsewhere
from ...engine.engine import run
from ...errors import (
    ConfigurationError,
    OSSPresignedError,
    UploadInProgressError,
    UploadNotFoundError,
)
from ...model import Action
from ...options.target import Target
from ...units import short_bytes, shown_seconds, shown_text
from ...upload.journal import FoundJournal, JournalRecord, ResumeDirectory
from .options import (
    ConnectionOptions,
    UncutGroup,
    confirmed,
    counted,
    default_resume_dir,
    examples,
    object_path,
    takes,
)

_LIST = """\
  osspresigned uploads list
  osspresigned uploads list resume examplebucket/in/big.bin
"""
_ABORT = """\
  osspresigned uploads abort --dry-run
  osspresigned uploads abort resume examplebucket/in/big.bin --signer keys
  osspresigned uploads abort resume --yes
"""
_EXISTING = click.Path(exists=True, file_okay=False)
_directory = click.argument(
    "directory", required=False, type=_EXISTING, metavar="[DIR]"
)
_paths = click.argument("paths", nargs=-1, type=object_path, metavar="[BUCKET/KEY...]")


@click.group(cls=UncutGroup, epilog=examples(_LIST + _ABORT))
def uploads() -> None:
    """List or abort interrupted uploads that can be resumed.

    DIR is the directory of --resume-dir; by default, the one that --resume uses. To
    resume an upload, run the interrupted command again.
    """


@takes
@uploads.command(name="list", epilog=examples(_LIST))
@_directory
@_paths
def list_uploads(directory: str | None, paths: Sequence[str], *, as_json: bool) -> None:
    """List the interrupted uploads in DIR.

    Without BUCKET/KEY, all uploads are listed.
    """
    now = time.time()
    kept = ResumeDirectory(directory or default_resume_dir())
    rows = [_members(journal, now) for journal in _chosen(kept, paths)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(_line(**row))
    click.echo(counted(len(rows), "upload"))


@takes
@uploads.command(name="abort", epilog=examples(_ABORT))
@_directory
@_paths
def abort_uploads(
    directory: str | None,
    paths: Sequence[str],
    *,
    dry_run: bool,
    yes: bool,
    connection: ConnectionOptions,
) -> int:
    """Abort the interrupted uploads in DIR, and remove them from DIR.

    Without BUCKET/KEY the command aborts all uploads, and asks first. The keys in the
    environment sign, unless --signer or --map is given. The exit code is 1 if an upload
    could not be aborted, or is in another store; DIR keeps it.
    """
    kept = ResumeDirectory(directory or default_resume_dir())
    chosen = _chosen(kept, paths)
    names = [
        shown_text(journal.record.head.path if journal.record else journal.name)
        for journal in chosen
    ]
    if not names:
        click.echo("no upload to abort")
        return 0
    if dry_run:
        for name in names:
            click.echo(f"{name}: would be aborted")
        return 0
    asks = not (paths or yes)
    if asks and not confirmed(names, what="upload", verb="abort"):
        return 1
    signer = {} if connection.has_source else {"signer": "keys"}
    client = functools.cache(lambda: connection.filesystem(**signer).client)
    code = 0
    for name, journal in zip(names, chosen, strict=True):
        try:
            click.echo(f"{name}: {_abort(kept, journal.name, client)}")
        except ConfigurationError:
            raise
        except OSSPresignedError as error:
            click.echo(f"{name}: not aborted: {error.message}", err=True)
            code = 1
    return code


def _chosen(kept: ResumeDirectory, paths: Sequence[str]) -> list[FoundJournal]:
    journals = list(kept.found())
    if not paths:
        return journals
    by_path = [(each.record.head.path, each) for each in journals if each.record]
    if missing := {*paths} - {path for path, _ in by_path}:
        shown = ", ".join(shown_text(path) for path in sorted(missing))
        raise click.ClickException(f"no interrupted upload in there is of {shown}")
    return [journal for path, journal in by_path if path in paths]


def _members(journal: FoundJournal, now: float) -> dict[str, Any]:
    if journal.record is None:
        return {"journal": journal.name, "path": None, "in_use": journal.in_use}
    head, parts = journal.record.head, journal.record.parts
    return {
        "journal": journal.name,
        "path": head.path,
        "source": head.source,
        "size": head.size,
        "stored": sum(kept.part.size for kept in parts.values()),
        "parts": head.parts,
        "parts_stored": len(parts),
        "age": max(0.0, now - head.created),
        "upload_id": head.upload_id,
        "owners": head.owners,
        "in_use": journal.in_use,
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
        f"upload {shown_text(more['upload_id'])}{owners}{user}"
    )


def _abort(kept: ResumeDirectory, name: str, client: Callable[[], Client]) -> str:
    held = kept.hold_name(name)
    try:
        if not held.is_ours:
            raise UploadInProgressError("its resume file cannot be locked or read")
        message = "its resume file could not be read, and is removed"
        if held.record is not None:
            message = _end(client, held.record)
        held.remove()
    finally:
        held.release()
    return message


def _end(client: Callable[[], Client], record: JournalRecord) -> str:
    head = record.head
    upload = f"upload {head.upload_id}"
    if head.owners:
        return f"{upload} is its owner's to abort; its resume file is removed"
    abort = Action.AbortMultipartUpload
    try:
        operation = Target(path=head.path).operation(abort, upload_id=head.upload_id)
        caller = client()  # created here, because it may import a signer of the user
        run(lambda: caller.call(operation))
    except UploadNotFoundError as error:
        if is_elsewhere(error, head.host):
            began = f"{upload} was begun at {shown_text(head.host)}"
            asked = shown_text(error.host)
            raise UploadNotFoundError(
                f"{began}, and {asked} does not know it: its resume file is kept",
                path=head.path,
            ) from None
        return f"{upload} no longer existed"
    return f"{upload} is aborted"

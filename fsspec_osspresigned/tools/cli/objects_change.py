"""Commands ``rm``, ``cp`` and ``mv``, which delete, copy and move objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import click

from ...engine.engine import blocking, run
from ...engine.scope import Scope
from ...filesystem.destinations import Destination
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...filesystem.queries import expand, layout
from ...units import shown_text
from ..terminal import ExitCode, interruptible
from .options import (
    DRY_RUN,
    OBJECTS,
    RECURSIVE,
    STRICT,
    ConnectionOptions,
    ReportOptions,
    confirmed,
    examples,
    is_local,
    object_path,
    takes,
)
from .sync import FilteringCommand, FilterOptions, name_below

# Change of one object, given its path and its target; False: there was no object.
_Change: TypeAlias = Callable[[str, str], bool | None]

_RM = """\
  osspresigned rm examplebucket/in/a.csv --signer keys
  osspresigned rm examplebucket/in/ --recursive --dry-run --signer keys
  osspresigned rm examplebucket/in/ -r --include '*.tmp' --yes --signer keys
"""
_CP = """\
  osspresigned cp examplebucket/in/a.csv examplebucket/kept/ --signer keys
  osspresigned cp examplebucket/in/ examplebucket/kept/ -r --signer keys

To upload files there is put, to fetch objects get.
"""
_MV = """\
  osspresigned mv examplebucket/in/a.csv examplebucket/in/b.csv --signer keys
  osspresigned mv examplebucket/in/ examplebucket/done/ -r -n --signer keys
"""

_originals = click.argument("paths", nargs=-1, required=True, metavar="BUCKET/KEY...")
_target = click.argument("target", metavar="DEST")


@takes
@click.command(cls=FilteringCommand, epilog=examples(_RM))
@OBJECTS
@RECURSIVE
@DRY_RUN
@click.option(
    "--yes", "-y", is_flag=True, help="Do not ask for confirmation with --recursive."
)
def rm(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    dry_run: bool,
    yes: bool,
    report: ReportOptions,
    chosen: FilterOptions,
    connection: ConnectionOptions,
) -> int:
    """Delete objects, if your signer grants that. With --recursive it asks first."""
    filesystem = connection.filesystem(**STRICT)
    with interruptible():
        meant = run(expand, filesystem, list(paths), recursive, markers=True)
    takes_name = chosen.filter.takes
    names = [name for name in meant.files if takes_name(name_below(paths, name))]

    def is_there(name: str) -> bool:
        return meant.kinds[name] is not None or _is_there(filesystem, name)

    if dry_run:
        for name in filter(is_there, names):
            report.would(shown_text(name), "delete", path=name)
        return ExitCode.OK
    if recursive and names and not yes and not confirmed(names):
        return ExitCode.FAILED

    def delete(name: str, _: str) -> bool:
        if is_there(name):
            filesystem.rm_file(name)
            return True
        if not report.as_json:
            report.err.line(f"{shown_text(name)}: was not there")
        return False

    jobs = [Destination(name, "") for name in names]
    return _carry_out(report, "deleted", filesystem, delete, jobs)


def _is_there(filesystem: OSSPresignedFileSystem, name: str) -> bool:
    """Return whether an object exists; True if HeadObject is not granted."""
    try:
        kind = filesystem.info(name)["type"]
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    if kind == "directory":
        raise IsADirectoryError(21, "a prefix: add --recursive", name)
    return True


@takes
@click.command(epilog=examples(_CP))
@_originals
@_target
@RECURSIVE
@DRY_RUN
def cp(*, report: ReportOptions, connection: ConnectionOptions, **places: Any) -> int:
    """Copy objects inside the store, if your signer grants that.

    DEST is BUCKET/KEY for one object, BUCKET/PREFIX/ for several.
    """
    filesystem = connection.filesystem(**STRICT)
    verbs = "copy", "copied"
    return _place(report, verbs, filesystem, filesystem.cp_file, **places)


@takes
@click.command(epilog=examples(_MV))
@_originals
@_target
@RECURSIVE
@DRY_RUN
def mv(*, report: ReportOptions, connection: ConnectionOptions, **places: Any) -> int:
    """Move objects inside the store: copy, compare, and then delete.

    Your signer must grant reading, writing, HeadObject and deleting.
    """
    filesystem = connection.filesystem(**STRICT)
    verbs = "move", "moved"
    return _place(report, verbs, filesystem, filesystem.mv_file, **places)


def _place(
    report: ReportOptions,
    verbs: tuple[str, str],
    filesystem: OSSPresignedFileSystem,
    change: _Change,
    *,
    paths: tuple[str, ...],
    target: str,
    recursive: bool,
    dry_run: bool,
) -> int:
    for path in paths:
        if "://" not in path and (is_local(path) or os.path.lexists(path)):
            msg = (
                f"{path} is a file of this machine: osspresigned put uploads it "
                f"(write oss://{path} if the object is meant)"
            )
            raise click.UsageError(msg)
    if is_local(target):
        msg = f"{target} is a place on this machine: osspresigned get fetches objects"
        raise click.UsageError(msg)
    names, where = [object_path(path) for path in paths], object_path(target)
    if len(names) > 1 or "/" not in where:
        where = f"{where.rstrip('/')}/"
    with interruptible():
        if not recursive and (prefix := [name for name in names if name.endswith("/")]):
            raise IsADirectoryError(21, "a prefix: add --recursive", prefix[0])
        source = names if len(names) > 1 else names[0]
        jobs = run(layout, filesystem, source, where, recursive, None)
    tops = tuple(f"{name.rstrip('/')}/" for name in names)
    if recursive and any(job.target.startswith(tops) for job in jobs):
        msg = f"{target} lies in what is copied: name a place outside of it"
        raise click.UsageError(msg)
    if dry_run:
        for job in jobs:
            would_place(report, verbs[0], job, "target")
        return ExitCode.OK
    return _carry_out(report, verbs[1], filesystem, change, jobs)


def would_place(report: ReportOptions, verb: str, job: Destination, key: str) -> None:
    """Print what a dry run would do; *key* names the target in an event."""
    text = f"{verb} {shown_text(job.path)} to {shown_text(job.target)}"
    report.would(text, verb, **{"path": job.path, key: job.target})


def _carry_out(
    report: ReportOptions,
    verb: str,
    filesystem: OSSPresignedFileSystem,
    change: _Change,
    jobs: list[Destination],
) -> int:
    progress = report.progress(verb, files=len(jobs), fetching=True)

    def work(job: Destination) -> None:
        with progress.branched(job.path, job.target) as child:
            if change(job.path, job.target) is not False:
                child.set_size(0)

    async def call(job: Destination) -> None:
        await blocking(work, job)

    width = filesystem.client.options.connections
    scope: Scope[Destination, None] = Scope(
        call, lambda job: job.path, width=width, on_error="return"
    )
    return report.carry_out(verb, progress, lambda: run(scope.run_all, jobs))

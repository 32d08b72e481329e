"""Commands ``rm``, ``cp`` and ``mv``, which delete, copy and move objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from ...engine.engine import blocking, run
from ...engine.scope import Scope
from ...filesystem.destinations import Destination
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...filesystem.queries import expand, layout
from ...units import shown_text
from ..terminal import ExitCode, interruptible
from .options import (
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

T = TypeVar("T")

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

_sources = click.argument("paths", nargs=-1, required=True, type=object_path,
                          metavar="BUCKET/KEY...")  # fmt: skip
_originals = click.argument("paths", nargs=-1, required=True, metavar="BUCKET/KEY...")
_target = click.argument("target", metavar="DEST")
_recursive = click.option(
    "--recursive", "-r", is_flag=True, help="Include directories."
)
_dry_run = click.option("--dry-run", "-n", is_flag=True,
                        help="Print the planned actions, and change nothing.")  # fmt: skip


@takes
@click.command(cls=FilteringCommand, epilog=examples(_RM))
@_sources
@_recursive
@_dry_run
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
    progress = report.progress("deleted", files=len(names), fetching=True)

    def delete(name: str) -> None:
        with progress.branched(name, "") as child:
            if is_there(name):
                filesystem.rm_file(name)
                child.set_size(0)
            elif not report.as_json:
                report.err.line(f"{shown_text(name)}: was not there")

    return report.carry_out(
        "deleted", progress, lambda: _failures(filesystem, delete, str, names)
    )


def _failures(
    filesystem: OSSPresignedFileSystem,
    work: Callable[[T], None],
    name: Callable[[T], str],
    jobs: Sequence[T],
) -> dict[str, Exception]:
    """Call *work* for all *jobs* in worker threads; return the errors by name."""

    async def call(job: T) -> None:
        await blocking(work, job)

    width = filesystem.client.options.connections
    scope: Scope[T, None] = Scope(call, name, width=width, on_error="return")
    return run(scope.run_all, jobs)


def _is_there(filesystem: OSSPresignedFileSystem, name: str) -> bool:
    """Return whether an object exists; True if HeadObject is not granted."""
    try:
        found = filesystem.info(name)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    if found["type"] == "directory":
        raise IsADirectoryError(21, "a prefix: add --recursive", name)
    return True


@takes
@click.command(epilog=examples(_CP))
@_originals
@_target
@_recursive
@_dry_run
def cp(
    paths: tuple[str, ...],
    target: str,
    *,
    recursive: bool,
    dry_run: bool,
    report: ReportOptions,
    connection: ConnectionOptions,
) -> int:
    """Copy objects inside the store, if your signer grants that.

    DEST is BUCKET/KEY for one object, BUCKET/PREFIX/ for several.
    """
    filesystem = connection.filesystem(**STRICT)
    found = _placed(filesystem, paths, target, recursive)
    if dry_run:
        return _would(report, "copy", found)
    return _carry_out(report, "copied", filesystem, filesystem.cp_file, found)


@takes
@click.command(epilog=examples(_MV))
@_originals
@_target
@_recursive
@_dry_run
def mv(
    paths: tuple[str, ...],
    target: str,
    *,
    recursive: bool,
    dry_run: bool,
    report: ReportOptions,
    connection: ConnectionOptions,
) -> int:
    """Move objects inside the store: copy, compare, and then delete.

    Your signer must grant reading, writing, HeadObject and deleting.
    """
    filesystem = connection.filesystem(**STRICT)
    found = _placed(filesystem, paths, target, recursive)
    if dry_run:
        return _would(report, "move", found)
    return _carry_out(report, "moved", filesystem, filesystem.mv_file, found)


def _placed(
    filesystem: OSSPresignedFileSystem,
    paths: tuple[str, ...],
    target: str,
    recursive: bool,
) -> list[Destination]:
    """Return pairs of source and destination.

    Raises:
        UsageError: a local path was given, which needs ``put`` or ``get``.
    """
    _refuse_local(paths, target)
    names, where = [object_path(one) for one in paths], object_path(target)
    if len(names) > 1 or "/" not in where:
        where = f"{where.rstrip('/')}/"
    with interruptible():
        if not recursive and (prefix := [one for one in names if one.endswith("/")]):
            raise IsADirectoryError(21, "a prefix: add --recursive", prefix[0])
        source = names if len(names) > 1 else names[0]
        found = run(layout, filesystem, source, where, recursive, None)
    tops = tuple(f"{one.rstrip('/')}/" for one in names)
    if recursive and any(one.target.startswith(tops) for one in found):
        said = f"{target} lies in what is copied: name a place outside of it"
        raise click.UsageError(said)
    return found


def _refuse_local(paths: tuple[str, ...], target: str) -> None:
    for one in paths:
        if "://" not in one and (is_local(one) or os.path.lexists(one)):
            said = (
                f"{one} is a file of this machine: osspresigned put uploads it "
                f"(write oss://{one} if the object is meant)"
            )
            raise click.UsageError(said)
    if is_local(target):
        said = f"{target} is a place on this machine: osspresigned get fetches objects"
        raise click.UsageError(said)


def _would(report: ReportOptions, verb: str, found: list[Destination]) -> int:
    for one in found:
        said = f"{verb} {shown_text(one.path)} to {shown_text(one.target)}"
        report.would(said, verb, path=one.path, target=one.target)
    return ExitCode.OK


def _carry_out(
    report: ReportOptions,
    verb: str,
    filesystem: OSSPresignedFileSystem,
    change: Callable[[str, str], None],
    found: list[Destination],
) -> int:
    progress = report.progress(verb, files=len(found), fetching=True)

    def work(one: Destination) -> None:
        with progress.branched(one.path, one.target) as child:
            change(one.path, one.target)
            child.set_size(0)

    return report.carry_out(
        verb, progress, lambda: _failures(filesystem, work, lambda one: one.path, found)
    )

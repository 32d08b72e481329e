"""Commands ``get`` and ``cat``, which download objects."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence

import click

from ...console.exit import ExitCode, interruptible
from ...engine.engine import run
from ...filesystem.destinations import Destination
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...filesystem.look import layout
from ...units import shown_text
from ..help import examples
from ..options import (
    PLACE,
    STRICT,
    ConnectionOptions,
    TransferOptions,
    counted,
    object_path,
    takes,
)
from ..settings.filters import FilteringCommand, FilterOptions, name_below

_STDOUT = "-"

_GET = """\
  osspresigned get examplebucket/out/a.csv . --signer keys
  osspresigned get examplebucket/out/ results/ --recursive --signer keys
  osspresigned get examplebucket/out/ . -r -n --include '*.csv' --signer keys
  osspresigned get examplebucket/db.sql - --signer keys | psql db
"""
_CAT = """\
  osspresigned cat examplebucket/db.sql --signer keys | psql db
"""

_objects = click.argument("paths", nargs=-1, required=True, type=object_path,
                          metavar="BUCKET/KEY...")  # fmt: skip


@takes
@click.command(cls=FilteringCommand, epilog=examples(_GET))
@_objects
@click.argument("target", type=PLACE, metavar="DEST")
@click.option("--recursive", "-r", is_flag=True, help="Include directories.")
@click.option(
    "--dry-run",
    "-n",
    is_flag=True,
    help="Print the planned actions, and change nothing.",
)
def get(
    paths: tuple[str, ...],
    target: str,
    *,
    recursive: bool,
    dry_run: bool,
    chosen: FilterOptions,
    connection: ConnectionOptions,
    transfer: TransferOptions,
) -> int:
    """Download objects to a file, a directory, or standard output.

    DEST is - for standard output. A local file is replaced only after the whole object
    has arrived and its checksum agrees.
    """
    filesystem = connection.filesystem(**STRICT, **transfer.options())
    several = len(paths) > 1
    source = list(paths) if several else paths[0]
    where = os.path.join(target, "") if several else target
    if target == _STDOUT:
        if chosen.rules or dry_run:
            said = "with - for standard output, give single objects, without filters and --dry-run"
            raise click.UsageError(said)
        return _print_objects(filesystem, paths, transfer)
    progress = transfer.progress("fetched", fetching=True, recursive=recursive)
    fetch = functools.partial(
        filesystem.get, callback=progress, on_error=transfer.on_error
    )
    if not chosen.rules and not dry_run:
        act = functools.partial(fetch, source, where, recursive=recursive)
        return transfer.carry_out("fetched", progress, act)
    with interruptible():
        placed = run(layout, filesystem, source, where, recursive, None, local=True)
        takes_name = chosen.filter.takes
        found = [
            one
            for one in placed
            if not one.is_directory and takes_name(name_below(paths, one.path))
        ]
        if dry_run:
            return _would(transfer, filesystem, found, recursive=recursive)
    pairs = [one.path for one in found], [one.target for one in found]
    return transfer.carry_out("fetched", progress, functools.partial(fetch, *pairs))


def _would(
    transfer: TransferOptions,
    filesystem: OSSPresignedFileSystem,
    found: Sequence[Destination],
    *,
    recursive: bool,
) -> int:
    """Print the files that a run would download, and return the exit code.

    Raises IsADirectoryError if a source is a prefix, unless *recursive*.
    """
    for one in found:
        if not recursive and filesystem.info(one.path)["type"] == "directory":
            raise IsADirectoryError(21, "a prefix: add --recursive", one.path)
        said = f"fetch {shown_text(one.path)} to {shown_text(one.target)}"
        transfer.would(said, "fetch", path=one.path, local=one.target)
    transfer.remark(
        f"{counted(len(found), 'file')} to fetch", "plan", fetched=len(found)
    )
    return ExitCode.OK


@takes
@click.command(epilog=examples(_CAT))
@_objects
def cat(
    paths: tuple[str, ...], *, connection: ConnectionOptions, transfer: TransferOptions
) -> int:
    """Write objects to standard output, one after the other."""
    filesystem = connection.filesystem(**STRICT, **transfer.options())
    return _print_objects(filesystem, paths, transfer)


def _print_objects(
    filesystem: OSSPresignedFileSystem, paths: Sequence[str], transfer: TransferOptions
) -> int:
    """Write objects to standard output, one after the other."""
    if transfer.as_json:
        said = "--json and the object itself do not fit into one stream"
        raise click.UsageError(said)
    progress = transfer.progress("fetched", files=len(paths), fetching=True)

    def fetch() -> None:
        out = sys.stdout.buffer
        for path in paths:
            with progress.branched(path, _STDOUT) as child:
                filesystem.get_file(path, out, callback=child)
                out.flush()

    return transfer.carry_out("fetched", progress, fetch)

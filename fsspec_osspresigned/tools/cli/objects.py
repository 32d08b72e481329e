"""Commands on objects: ls, stat, url, get, cat, rm, cp and mv."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from glob import has_magic
from typing import Any, TypeAlias

import click
from attrs import evolve

from ...engine.engine import run, waiting
from ...engine.scope import Scope
from ...filesystem.destinations import Destination
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...filesystem.trees import expand, layout
from ...secret import SecretURL
from ...signing.signed_url import describe
from ...units import short_bytes, shown_end, shown_text
from ..failures import ExitCode
from ..interrupts import interruptible
from ..output import table
from .options import (
    OBJECTS,
    PLACE,
    STRICT,
    ConnectionOptions,
    ReportOptions,
    TransferOptions,
    confirmed,
    counted,
    default_resume_dir,
    examples,
    object_path,
    takes,
)
from .sync import FilteringCommand, FilterOptions, name_below

_LIFE = 3600  # default lifetime in seconds
_PREFIX = "a prefix: ls lists it"

_LS = """\
  osspresigned ls examplebucket/in/ --signer keys
  osspresigned ls examplebucket --recursive --long --signer keys
  osspresigned ls 'examplebucket/in/*.csv' --signer keys
"""
_STAT = """\
  osspresigned stat examplebucket/out/a.csv --signer keys
"""
_URL = """\
  osspresigned url examplebucket/out/a.csv --signer keys --expires 2h
  osspresigned url examplebucket/b.csv --method PUT --signer keys > link.url
"""


def _shown_time(when: datetime | None) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if when else ""


@takes
@click.command(epilog=examples(_LS))
@click.argument("path", type=object_path, metavar="BUCKET[/PREFIX or PATTERN]")
@click.option("--long", "-l", is_flag=True,
              help="Print size and time; the total goes to standard error.")  # fmt: skip
def ls(
    path: str,
    *,
    recursive: bool,
    long: bool,
    as_json: bool,
    connection: ConnectionOptions,
) -> None:
    """List objects, if your signer grants that."""
    filesystem = connection.filesystem(**STRICT)
    with interruptible():
        items = _listed(filesystem, path, recursive=recursive)
    if as_json:
        for item in items:
            click.echo(json.dumps(_members(item)))
        return
    shown = [
        ("/", "") if item["type"] == "directory" else ("", short_bytes(item["size"]))
        for item in items
    ]
    for item, (slash, size) in zip(items, shown, strict=True):
        name = shown_text(item["name"]) + slash
        time_ = _shown_time(item.get("LastModified"))
        click.echo(f"{size:>9}  {time_:20}  {name}" if long else name)
    if long:
        files = [item["size"] for item in items if item["type"] != "directory"]
        total = short_bytes(sum(files))
        click.echo(f"{counted(len(files), 'object')}, {total}", err=True)


def _listed(
    filesystem: OSSPresignedFileSystem, path: str, *, recursive: bool
) -> list[dict[str, Any]]:
    """Return ``info`` of the entries at *path*, or of all matches if it is a pattern.

    FileNotFoundError if nothing matches.
    """

    def find(name: str) -> list[dict[str, Any]]:
        return [*filesystem.find(name, detail=True).values()]

    if not has_magic(path):
        return find(path) if recursive else [*filesystem.ls(path, detail=True)]
    matching = [*filesystem.glob(path, detail=True).values()]
    if not matching:
        raise FileNotFoundError(2, "not found", path)
    if not recursive:
        return matching
    directories = [item["name"] for item in matching if item["type"] == "directory"]
    files = [item for item in matching if item["type"] != "directory"]
    return [*files, *itertools.chain.from_iterable(map(find, directories))]


def _members(item: dict[str, Any]) -> dict[str, Any]:
    when = item.get("LastModified")
    return {
        "path": item["name"],
        "type": item["type"],
        "size": item["size"],
        "modified": when.isoformat() if when else None,
        "etag": item.get("ETag"),
    }


@takes
@click.command(epilog=examples(_STAT))
@OBJECTS
def stat(
    paths: tuple[str, ...], *, as_json: bool, connection: ConnectionOptions
) -> None:
    """Show size and headers of objects, if your signer grants that."""
    filesystem = connection.filesystem(**STRICT)
    for number, path in enumerate(paths):
        with interruptible():
            info = filesystem.info(path)
            if info["type"] == "directory":
                raise IsADirectoryError(21, _PREFIX, path)
        crc = info.get("crc64")
        facts: dict[str, Any] = {
            "content_type": info.get("ContentType"),
            "storage_class": info.get("StorageClass"),
            "crc64": None if crc is None else str(crc),
            "version_id": info.get("version_id"),
        }
        if as_json:
            click.echo(json.dumps(_members(info) | facts))
            continue
        rows: dict[str, Any] = {
            "object": shown_text(path),
            "size": f"{short_bytes(info['size'])} ({info['size']} bytes)",
            "modified": _shown_time(info.get("LastModified")),
            "etag": info.get("ETag"),
            **{name.replace("_", " "): value for name, value in facts.items()},
        }
        if number:
            click.echo()
        known = [(name, shown_text(str(text))) for name, text in rows.items() if text]
        for line in table(known):
            click.echo(line)


@takes
@click.command(epilog=examples(_URL))
@click.argument("path", type=object_path, metavar="BUCKET/KEY")
@click.option("--method", type=click.Choice(["GET", "PUT", "HEAD", "DELETE"]),
              default="GET", show_default=True, help="Method of the request.")  # fmt: skip
def url(
    path: str, *, method: str, size: int | None, connection: ConnectionOptions
) -> None:
    """Print a presigned URL of one object, which is a secret.

    Anyone with the URL can send that request until it expires.
    """
    if size is not None and method != "PUT":
        raise click.UsageError(f"--size is for --method PUT: {method} sends no object")
    filesystem = connection.filesystem()
    with interruptible():
        life = connection.expires_in or _LIFE
        signed = filesystem.sign(path, life, method, size=size)
    click.echo(signed)  # only the URL goes to standard output, so it can be piped
    ends = shown_end(describe(SecretURL(signed)).expires_at, time.time())
    click.echo(f"a secret, valid for {method} until {ends}", err=True)


_STDOUT = "-"

_GET = """\
  osspresigned get examplebucket/out/a.csv . --signer keys
  osspresigned get examplebucket/out/ results/ --recursive --signer keys
  osspresigned get examplebucket/out/ . -r -n --include '*.csv' --signer keys
"""
_CAT = """\
  osspresigned cat examplebucket/db.sql --signer keys | psql db
"""


@takes
@click.command(cls=FilteringCommand, epilog=examples(_GET))
@OBJECTS
@click.option("--resume", is_flag=True,
              help="Keep what has arrived of large files, and resume downloads of an earlier run.")  # fmt: skip
@click.argument("target", type=PLACE, metavar="DEST")
def get(
    paths: tuple[str, ...],
    target: str,
    *,
    recursive: bool,
    resume: bool,
    dry_run: bool,
    chosen: FilterOptions,
    connection: ConnectionOptions,
    transfer: TransferOptions,
) -> int:
    """Download objects to a file or a directory; cat writes them to standard output.

    A local file is replaced only after the whole object has arrived and its checksum
    agrees.
    """
    if target == "-":
        raise click.UsageError("cat writes objects to standard output")
    places = [path for path in paths if path.endswith("/")]
    if places and not recursive:
        raise click.UsageError(f"{places[0]} is a directory: add --recursive")
    kept = {"resume_dir": default_resume_dir()} if resume else {}
    filesystem = connection.filesystem(**STRICT, **transfer.options(), **kept)
    several = len(paths) > 1
    source = list(paths) if several else paths[0]
    where: str | list[str] = os.path.join(target, "") if several else target
    with interruptible():
        placed = run(layout, filesystem, source, where, recursive, None, local=True)
        takes_name = chosen.filter.takes
        jobs = [
            job
            for job in placed
            if not job.is_directory and takes_name(name_below(paths, job.path))
        ]
        for job in jobs if dry_run else ():
            if not recursive and filesystem.info(job.path)["type"] == "directory":
                raise IsADirectoryError(21, "a prefix: add --recursive", job.path)
            _would_store(transfer, "fetch", job, "local")
    if dry_run:
        _total(transfer, len(jobs), "file", "fetch", "fetched")
        return ExitCode.OK
    progress = transfer.progress("fetched", files=len(jobs), fetching=True)

    def fetch() -> None:
        sources, targets = [job.path for job in jobs], [job.target for job in jobs]
        on_error = transfer.on_error
        filesystem.get(sources, targets, callback=progress, on_error=on_error)

    return transfer.carry_out(progress, fetch)


@takes
@click.command(epilog=examples(_CAT))
@OBJECTS
def cat(
    paths: tuple[str, ...], *, connection: ConnectionOptions, transfer: TransferOptions
) -> int:
    """Write objects to standard output, one after the other."""
    if transfer.as_json:
        msg = "--json and the object itself do not fit into one stream"
        raise click.UsageError(msg)
    filesystem = connection.filesystem(**STRICT, **transfer.options())
    # Print only the objects and failures, like other cat commands.
    transfer = evolve(transfer, quiet=not transfer.verbose)
    bar = not sys.stdout.isatty()
    progress = transfer.progress("fetched", bar=bar, files=len(paths), fetching=True)

    def fetch() -> None:
        out = sys.stdout.buffer
        for path in paths:
            with progress.branched(path, _STDOUT) as child:
                try:
                    filesystem.get_file(path, out, callback=child)
                except FileNotFoundError:
                    _refuse_prefix(filesystem, path)
                    raise
                out.flush()

    return transfer.carry_out(progress, fetch)


def _refuse_prefix(filesystem: OSSPresignedFileSystem, path: str) -> None:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        if filesystem.info(path)["type"] == "directory":
            raise IsADirectoryError(21, _PREFIX, path)


# function for one object; its arguments are path and target
_Change: TypeAlias = Callable[[str, str], object]

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

    def check(name: str) -> None:
        """Raise FileNotFoundError if HeadObject shows that no object has *name*."""
        with contextlib.suppress(PermissionError):
            kind = meant.kinds[name] or filesystem.info(name)["type"]
            if kind == "directory":
                raise IsADirectoryError(21, "a prefix: add --recursive", name)

    if dry_run:
        count = 0
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                check(name)
                report.would(f"delete {shown_text(name)}", "delete", path=name)
                count += 1
        _total(report, count, "object", "delete", "deleted")
        return ExitCode.OK
    if recursive and names and not yes and not confirmed(names):
        return ExitCode.FAILED

    def delete(name: str, _: str) -> None:
        check(name)
        filesystem.rm_file(name)

    jobs = [Destination(name, "") for name in names]
    return _carry_out(report, "deleted", filesystem, delete, jobs)


@takes
@click.command(epilog=examples(_CP))
@_originals
@_target
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
    verbs = "copy", "copied"
    copies = functools.partial(_copied, report, verbs, filesystem, filesystem.cp_file)
    return copies(paths, target, recursive=recursive, dry_run=dry_run)


@takes
@click.command(epilog=examples(_MV))
@_originals
@_target
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
    verbs = "move", "moved"
    moves = functools.partial(_copied, report, verbs, filesystem, filesystem.mv_file)
    return moves(paths, target, recursive=recursive, dry_run=dry_run)


def _copied(
    report: ReportOptions,
    verbs: tuple[str, str],
    filesystem: OSSPresignedFileSystem,
    change: _Change,
    paths: Sequence[str],
    target: str,
    *,
    recursive: bool,
    dry_run: bool,
) -> int:
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
        msg = (
            f"{target} is inside of a copied source: choose a destination outside of it"
        )
        raise click.UsageError(msg)
    if dry_run:
        for job in jobs:
            _would_store(report, verbs[0], job, "target")
        _total(report, len(jobs), "object", *verbs)
        return ExitCode.OK
    return _carry_out(report, verbs[1], filesystem, change, jobs)


def _total(report: ReportOptions, count: int, what: str, verb: str, done: str) -> None:
    """Print the last line of a dry run: the number of objects or files to change.

    *done* is the key of this number in the JSON event.
    """
    text = f"{counted(count, what)} to {verb}"
    report.remark(text, "plan", **{done: count})


def _would_store(report: ReportOptions, verb: str, job: Destination, key: str) -> None:
    """Print one action of a dry run: *verb*, source and target of *job*.

    *key* is the key of the target in the JSON event.
    """
    text = f"{verb} {shown_text(job.path)} to {shown_text(job.target)}"
    report.would(text, verb, **{"path": job.path, key: job.target})


def _carry_out(
    report: ReportOptions,
    verb: str,
    filesystem: OSSPresignedFileSystem,
    change: _Change,
    jobs: list[Destination],
) -> int:
    missing: dict[str, Any] = {"skips": FileNotFoundError, "skip_word": "missing"}
    skips = missing if verb == "deleted" else {}
    progress = report.progress(verb, files=len(jobs), fetching=True, **skips)

    def work(job: Destination) -> None:
        with progress.branched(job.path, job.target):
            change(job.path, job.target)

    async def call(job: Destination) -> None:
        await waiting(work, job)

    width = filesystem.client.options.connections
    scope: Scope[Destination, None] = Scope(
        call, lambda job: job.path, width=width, on_error="return"
    )
    return report.carry_out(progress, lambda: run(scope.run_all, jobs))

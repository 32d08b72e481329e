"""The commands ``get``, ``ls``, ``rm`` and ``url``: objects that are there already."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

import click

from ..concurrency.workers import Cancellation, Transfers
from ..console.exit import ExitCode, interruptible
from ..console.progress import short_bytes
from ..filesystem.write import OSSPresignedFileSystem
from ..secret import SecretURL
from ..signing.signed_url import describe
from ..units import MIB, shown_end, shown_text
from .options import Connection, Transfer, many_connection_options, transfer_options

_STDOUT = "-"
_LIFE = 3600  # seconds
_MOST_SHOWN = 10  # names, before somebody is asked
# A question about what cannot be seen is an error here, and not "there is none".
_STRICT = {"unknown": "error"}

_GET = """\
Examples:

\b
  osspresigned get examplebucket/out/a.csv . --signer keys
  osspresigned get examplebucket/out/ results/ --recursive --signer keys
  osspresigned get examplebucket/db.sql - --signer keys | psql db
"""
_LS = """\
Examples:

\b
  osspresigned ls examplebucket/in/ --signer keys
  osspresigned ls examplebucket --recursive --long --signer keys
"""
_RM = """\
Examples:

\b
  osspresigned rm examplebucket/in/a.csv --signer keys
  osspresigned rm examplebucket/in/ --recursive --dry-run --signer keys
"""
_URL = """\
Examples:

\b
  osspresigned url examplebucket/out/a.csv --signer keys --expires 2h
  osspresigned url examplebucket/in/b.csv --method PUT --signer keys > link.url
"""


@click.command(
    epilog=_GET,
    short_help="Fetch objects into a file, a directory, or standard output.",
)
@click.argument("paths", nargs=-1, required=True, metavar="BUCKET/KEY...")
@click.argument("target", metavar="DEST")
@click.option("--recursive", "-r", is_flag=True, help="Directories with all in them.")
@many_connection_options
@transfer_options
def get(
    paths: tuple[str, ...],
    target: str,
    *,
    recursive: bool,
    connection: Connection,
    transfer: Transfer,
) -> int:
    """Fetch objects into DEST: a file, a directory, or - for standard output.

    A local file is replaced only when all of an object is there and has been compared.
    """
    filesystem = connection.filesystem(**_STRICT, **transfer.options())
    if target == _STDOUT:
        return _print_objects(filesystem, paths, transfer)
    progress = transfer.progress(fetching=True)
    names = list(paths) if len(paths) > 1 else paths[0]
    if len(paths) > 1:
        target = os.path.join(target, "")

    def fetch() -> None:
        filesystem.get(
            names,
            target,
            recursive=recursive,
            callback=progress,
            on_error=transfer.on_error,
        )

    return transfer.carry_out("fetched", progress, fetch)


def _print_objects(
    filesystem: OSSPresignedFileSystem, paths: Sequence[str], transfer: Transfer
) -> int:
    """Write objects to standard output, one after the other."""
    if transfer.as_json:
        raise click.UsageError(
            "--json and the object itself do not fit into one stream"
        )
    progress = transfer.progress(files=len(paths), fetching=True)

    def fetch() -> None:
        for path in paths:
            with progress.branched(path, _STDOUT) as child:
                _copy(filesystem, path, child)

    return transfer.carry_out("fetched", progress, fetch)


def _copy(filesystem: OSSPresignedFileSystem, path: str, child: Any) -> None:
    with filesystem.open(path, "rb") as source:
        child.set_size(getattr(source, "size", None))
        while block := source.read(MIB):
            sys.stdout.buffer.write(block)
            child.relative_update(len(block))
    sys.stdout.buffer.flush()


@click.command(epilog=_LS)
@click.argument("path", metavar="BUCKET[/PREFIX]")
@click.option("--recursive", "-r", is_flag=True, help="All objects, at any depth.")
@click.option("--long", "-l", is_flag=True, help="With size and time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@many_connection_options
def ls(
    path: str, *, recursive: bool, long: bool, as_json: bool, connection: Connection
) -> None:
    """List objects, where the signer signs that."""
    filesystem = connection.filesystem(**_STRICT)
    with interruptible():
        items = (
            list(filesystem.find(path, detail=True).values())
            if recursive
            else filesystem.ls(path, detail=True)
        )
    for line in _rows(items, long=long, as_json=as_json):
        click.echo(line)


def _rows(
    items: Sequence[dict[str, Any]], *, long: bool, as_json: bool
) -> Iterator[str]:
    for item in items:
        is_directory = item["type"] == "directory"
        when = item.get("LastModified")
        if as_json:
            yield json.dumps(
                {
                    "path": item["name"],
                    "type": item["type"],
                    "size": item["size"],
                    "modified": when.isoformat() if when else None,
                    "etag": item.get("ETag"),
                }
            )
            continue
        name = shown_text(item["name"]) + ("/" if is_directory else "")
        if not long:
            yield name
            continue
        size = "" if is_directory else short_bytes(item["size"])
        time_ = when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if when else ""
        yield f"{size:>9}  {time_:20}  {name}"


@click.command(epilog=_RM)
@click.argument("paths", nargs=-1, required=True, metavar="BUCKET/KEY...")
@click.option("--recursive", "-r", is_flag=True, help="Directories with all in them.")
@click.option("--dry-run", is_flag=True, help="Tell what would be deleted.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, with --recursive.")
@click.option("--json", "as_json", is_flag=True, help="Print the end as JSON.")
@many_connection_options
def rm(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    connection: Connection,
) -> int:
    """Delete objects, where the signer signs that. With --recursive it asks first."""
    filesystem = connection.filesystem(**_STRICT)
    transfer = Transfer(as_json=as_json)
    with interruptible():
        meant = filesystem._expanded(  # noqa: SLF001 - no verb tells, markers too
            list(paths), recursive=recursive, maxdepth=None, markers=True
        )
    if dry_run:
        for name in meant.files:
            click.echo(shown_text(name))
        return ExitCode.OK
    if recursive and not yes and not _agreed(meant.files):
        return ExitCode.FAILED
    progress = transfer.progress(files=len(meant.files))

    def delete(name: str, _: Cancellation) -> None:
        with progress.branched("", name):
            filesystem.rm_file(name)

    client = filesystem.client
    width = max(1, min(client.options.max_concurrency, len(meant.files)))
    run = Transfers(client.files, width, delete, str, on_error="return")
    act = functools.partial(run.failures_of, meant.files)
    return transfer.carry_out("deleted", progress, act)


def _agreed(names: Sequence[str]) -> bool:
    """Ask whether all of that shall go; only somebody at a terminal can say so."""
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to ask: give --yes, or --dry-run first")
    for name in names[:_MOST_SHOWN]:
        click.echo(shown_text(name), err=True)
    if len(names) > _MOST_SHOWN:
        click.echo(f"and {len(names) - _MOST_SHOWN} more", err=True)
    return click.confirm(f"delete {len(names)} objects?", err=True)


@click.command(epilog=_URL)
@click.argument("path", metavar="BUCKET/KEY")
@click.option("--method", type=click.Choice(["GET", "PUT", "HEAD", "DELETE"]),
              default="GET", show_default=True, help="What the URL is for.")  # fmt: skip
@many_connection_options
def url(path: str, *, method: str, connection: Connection) -> None:
    """Print a presigned URL of one object, which is a secret.

    Whoever has it can do what it is for until it expires.
    """
    filesystem = connection.filesystem()
    life = connection.options.get("expires_in", _LIFE)
    with interruptible():
        signed = filesystem.sign(path, life, method)
    click.echo(signed)  # alone, so that it can be piped
    ends = shown_end(describe(SecretURL(signed)).expires_at, time.time())
    click.echo(f"a secret, good for {method} until {ends}", err=True)

"""Commands ``get``, ``ls``, ``rm`` and ``url``: objects that exist already."""

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

from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import Transfers
from ..console.exit import ExitCode, interruptible
from ..filesystem.filesystem import OSSPresignedFileSystem
from ..filesystem.look import expand
from ..secret import SecretURL
from ..signing.signed_url import describe
from ..units import short_bytes, shown_end, shown_text
from .options import (
    PLACE,
    ConnectionOptions,
    TransferOptions,
    confirmed,
    examples,
    object_path,
    takes,
)

_STDOUT = "-"
_LIFE = 3600  # seconds
# An object that the token may not look at is an error here, not a missing one.
_STRICT = {"unknown": "error"}

_GET = """\
  osspresigned get examplebucket/out/a.csv . --signer keys
  osspresigned get examplebucket/out/ results/ --recursive --signer keys
  osspresigned get examplebucket/db.sql - --signer keys | psql db
"""
_LS = """\
  osspresigned ls examplebucket/in/ --signer keys
  osspresigned ls examplebucket --recursive --long --signer keys
"""
_RM = """\
  osspresigned rm examplebucket/in/a.csv --signer keys
  osspresigned rm examplebucket/in/ --recursive --dry-run --signer keys
"""
_URL = """\
  osspresigned url examplebucket/out/a.csv --signer keys --expires 2h
  osspresigned url examplebucket/in/b.csv --method PUT --signer keys > link.url
"""


@takes
@click.command(epilog=examples(_GET))
@click.argument("paths", nargs=-1, required=True, type=object_path,
                metavar="BUCKET/KEY...")  # fmt: skip
@click.argument("target", type=PLACE, metavar="DEST")
@click.option("--recursive", "-r", is_flag=True, help="Include directories.")
def get(
    paths: tuple[str, ...],
    target: str,
    *,
    recursive: bool,
    connection: ConnectionOptions,
    transfer: TransferOptions,
) -> int:
    """Fetch objects into a file, a directory, or standard output.

    DEST is - for standard output. A local file is replaced only after the whole object
    has arrived and its checksum agrees.
    """
    filesystem = connection.filesystem(**_STRICT, **transfer.options())
    if target == _STDOUT:
        return _print_objects(filesystem, paths, transfer)
    progress = transfer.progress(fetching=True, recursive=recursive)
    several = len(paths) > 1
    fetch = functools.partial(
        filesystem.get,
        list(paths) if several else paths[0],
        os.path.join(target, "") if several else target,
        recursive=recursive,
        callback=progress,
        on_error=transfer.on_error,
    )
    return transfer.carry_out("fetched", progress, fetch)


def _print_objects(
    filesystem: OSSPresignedFileSystem, paths: Sequence[str], transfer: TransferOptions
) -> int:
    """Write objects to standard output, one after the other."""
    if transfer.as_json:
        said = "--json and the object itself do not fit into one stream"
        raise click.UsageError(said)
    progress = transfer.progress(files=len(paths), fetching=True)

    def fetch() -> None:
        out = sys.stdout.buffer
        for path in paths:
            with progress.branched(path, _STDOUT) as child:
                filesystem.get_file(path, out, callback=child)
                out.flush()

    return transfer.carry_out("fetched", progress, fetch)


@takes
@click.command(epilog=examples(_LS))
@click.argument("path", type=object_path, metavar="BUCKET[/PREFIX]")
@click.option("--recursive", "-r", is_flag=True, help="All objects, at any depth.")
@click.option("--long", "-l", is_flag=True, help="With size and time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def ls(
    path: str,
    *,
    recursive: bool,
    long: bool,
    as_json: bool,
    connection: ConnectionOptions,
) -> None:
    """List objects, if your signer grants that."""
    filesystem = connection.filesystem(**_STRICT)
    with interruptible():
        if recursive:
            items = [*filesystem.find(path, detail=True).values()]
        else:
            items = filesystem.ls(path, detail=True)
    for line in _rows(items, long=long, as_json=as_json):
        click.echo(line)


def _rows(
    items: Sequence[dict[str, Any]], *, long: bool, as_json: bool
) -> Iterator[str]:
    for item in items:
        is_directory = item["type"] == "directory"
        when = item.get("LastModified")
        if as_json:
            members = {
                "path": item["name"],
                "type": item["type"],
                "size": item["size"],
                "modified": when.isoformat() if when else None,
                "etag": item.get("ETag"),
            }
            yield json.dumps(members)
            continue
        name = shown_text(item["name"]) + ("/" if is_directory else "")
        if not long:
            yield name
            continue
        size = "" if is_directory else short_bytes(item["size"])
        time_ = when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if when else ""
        yield f"{size:>9}  {time_:20}  {name}"


@takes
@click.command(epilog=examples(_RM))
@click.argument("paths", nargs=-1, required=True, type=object_path,
                metavar="BUCKET/KEY...")  # fmt: skip
@click.option("--recursive", "-r", is_flag=True, help="Include directories.")
@click.option("--dry-run", "-n", is_flag=True, help="Print what would be deleted.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask, with --recursive.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def rm(
    paths: tuple[str, ...],
    *,
    recursive: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    connection: ConnectionOptions,
) -> int:
    """Delete objects, if your signer grants that. With --recursive it asks first."""
    filesystem = connection.filesystem(**_STRICT)
    transfer = TransferOptions(as_json=as_json)
    with interruptible():
        meant = expand(filesystem, list(paths), recursive, markers=True)

    def is_there(name: str) -> bool:
        return meant.kinds[name] is not None or _is_there(filesystem, name)

    if dry_run:
        for name in filter(is_there, meant.files):
            click.echo(shown_text(name))
        return ExitCode.OK
    if recursive and not yes:
        if not sys.stdin.isatty():
            said = "standard input is no terminal: give --yes, or --dry-run first"
            raise click.UsageError(said)
        if not confirmed(meant.files):
            return ExitCode.FAILED
    progress = transfer.progress(files=len(meant.files), fetching=True)

    def delete(name: str, _: Cancellation) -> None:
        with progress.branched(name, "") as child:
            if is_there(name):
                filesystem.rm_file(name)
                child.set_size(0)
            elif not as_json:
                transfer.err.line(f"{shown_text(name)}: was not there")

    client = filesystem.client
    width = max(1, min(client.options.max_concurrency, len(meant.files)))
    run = Transfers(client.files, width, delete, str, on_error="return")
    return transfer.carry_out("deleted", progress, lambda: run.failures_of(meant.files))


def _is_there(filesystem: OSSPresignedFileSystem, name: str) -> bool:
    """Return whether an object is there; True where looking is not granted."""
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
@click.command(epilog=examples(_URL))
@click.argument("path", type=object_path, metavar="BUCKET/KEY")
@click.option("--method", type=click.Choice(["GET", "PUT", "HEAD", "DELETE"]),
              default="GET", show_default=True, help="Method of the request.")  # fmt: skip
def url(path: str, *, method: str, connection: ConnectionOptions) -> None:
    """Print a presigned URL of one object, which is a secret.

    Everybody who has the URL can send that request until it expires.
    """
    filesystem = connection.filesystem()
    with interruptible():
        signed = filesystem.sign(path, connection.expires_in or _LIFE, method)
    click.echo(signed)  # alone, so that it can be piped
    ends = shown_end(describe(SecretURL(signed)).expires_at, time.time())
    click.echo(f"a secret, good for {method} until {ends}", err=True)

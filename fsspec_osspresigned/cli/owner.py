"""The commands of owners: ``sign``, ``inspect`` and ``check map``."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from ..console.terminal import Output, pairs, table, table_or_pairs
from ..filesystem.base import read_url
from ..model import FORBID_OVERWRITE, MAX_PARTS, STORAGE_CLASSES
from ..owner import sign as owner_sign
from ..owner.check import Intent, check_map
from ..owner.inspect import about_entry, about_url, is_web, read
from ..owner.sign import Cut, Order, Signed
from ..secret import SecretURL
from ..signers.keys import KeySigner
from ..units import (
    MIB,
    bytes_of,
    rate_of,
    seconds_of,
    shown_bytes,
    shown_end,
    shown_seconds,
    shown_text,
)
from ..url_map.source import load, write_text

_PART_SIZE = 8 * MIB
_OF_ENTRY = ("object", "what", "until", "headers", "where")


def _read_by(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return *convert* with errors as click shows them."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return converted


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        msg = "write it as NAME=VALUE"
        raise ValueError(msg)
    return name.strip(), value.strip()


_LIFE = _read_by(seconds_of)
_SIZE = _read_by(bytes_of)
_RATE = _read_by(rate_of)
_HEADER = _read_by(_header)


def register(group: click.Group) -> None:
    """Add the commands of owners to *group*."""
    for command in (sign, inspect, check):
        group.add_command(command)


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="BUCKET/KEY | FILES...")
@click.option("--to", metavar="BUCKET/PREFIX/",
              help="Where local files and directories go, as fs.put() places them.")  # fmt: skip
@click.option("--method", type=click.Choice(["PUT", "GET", "HEAD", "DELETE"]),
              default="PUT", show_default=True)  # fmt: skip
@click.option("--expires", type=_LIFE, metavar="LIFE", default="1h", show_default=True,
              help="Life of the URLs: 90s, 30m, 2h, 7d.")  # fmt: skip
@click.option("--parts", type=click.IntRange(1, MAX_PARTS),
              help="Begin a multipart upload, and sign this many parts.")  # fmt: skip
@click.option("--file-size", type=_SIZE, metavar="BYTES",
              help="Begin a multipart upload, and sign the parts of this many bytes.")  # fmt: skip
@click.option(
    "--part-size", type=_SIZE, metavar="BYTES", help="Bytes of a part.  [default: 8MiB]"
)
@click.option("--owner-completes", is_flag=True,
              help="Of parts: hand out no Complete, you do that from the receipts.")  # fmt: skip
@click.option("--header", "headers", type=_HEADER, multiple=True, metavar="NAME=VALUE",
              help="Sign this header; may be repeated.")  # fmt: skip
@click.option("--content-type", help="Sign this Content-Type.")
@click.option("--storage-class", type=click.Choice(STORAGE_CLASSES))
@click.option("--no-overwrite", is_flag=True,
              help="An object that is there stays, the upload is refused.")  # fmt: skip
@click.option("--output", metavar="FILE",
              help="Secret file to write, - for a pipe.  [default: urls.json]")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--json-lines", is_flag=True,
              help="Write JSON Lines (urls.jsonl) instead of a URL map.")  # fmt: skip
@click.option("--print", "printed", is_flag=True,
              help="Print the URL of a single object instead of writing a file.")  # fmt: skip
@click.option("--region", help="Else OSS_REGION, or what the endpoint tells.")
@click.option("--endpoint", help="Else OSS_ENDPOINT, or the public one of the region.")
@click.option("--addressing-style", type=click.Choice(["virtual", "path", "cname"]))
@click.option("--signature-version", type=click.Choice(["v4", "v1"]), default="v4",
              show_default=True)  # fmt: skip
def sign(
    sources: tuple[str, ...],
    *,
    to: str | None,
    expires: int,
    output: str | None,
    force: bool,
    json_lines: bool,
    printed: bool,
    region: str | None,
    endpoint: str | None,
    addressing_style: str | None,
    signature_version: str,
    **wished: Any,
) -> None:
    """Sign URLs for others, with the keys in the environment.

    Reads OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and, for a temporary key,
    OSS_SESSION_TOKEN. Writes a secret file that only you can read: a URL map.
    """
    order = _order(**wished)
    paths = _paths(sources, to, order)
    place = _place(
        output, force=force, json_lines=json_lines, printed=printed, order=order
    )
    if place is None and (len(paths) > 1 or order.cut is not None):
        raise click.UsageError(
            "--print is for one URL: leave it out, a file is written"
        )
    signer = KeySigner.from_options(
        region=region,
        endpoint=endpoint,
        version=signature_version,
        expires_in=expires,
        style=addressing_style,
    )
    signed = owner_sign.sign(signer, paths, order)
    if place is None:
        _print_url(signed)
        return
    text = signed.lines_text() if json_lines else signed.map_text()
    if place == "-":
        click.echo(text, nl=False)
    else:
        try:
            write_text(text, place)
        except OSError:
            owner_sign.forget(signer, signed)
            raise
    _say_written(signed, place)


def _order(
    *,
    method: owner_sign.Method,
    parts: int | None,
    file_size: int | None,
    part_size: int | None,
    owner_completes: bool,
    headers: Sequence[tuple[str, str]],
    content_type: str | None,
    storage_class: str | None,
    no_overwrite: bool,
) -> Order:
    named = {
        "Content-Type": content_type,
        "x-oss-storage-class": storage_class,
        FORBID_OVERWRITE: "true" if no_overwrite else None,
    }
    wanted = {name: value for name, value in named.items() if value is not None}
    in_parts = parts is not None or file_size is not None
    if method != "PUT" and (wanted or in_parts):
        raise click.UsageError(f"{method} sends no object: only --header fits it")
    if parts is not None and file_size is not None:
        raise click.UsageError("--parts and --file-size: give one of them")
    if part_size is not None and not in_parts:
        raise click.UsageError("--part-size needs --parts, or --file-size")
    if owner_completes and not in_parts:
        raise click.UsageError("--owner-completes needs --parts, or --file-size")
    names = [name.lower() for name in (*wanted, *(name for name, _ in headers))]
    for name in names:
        if names.count(name) > 1:
            raise click.UsageError(f"the header {name} is given twice")
    cut = None
    if in_parts:
        cut = Cut.of(
            part_size=_PART_SIZE if part_size is None else part_size,
            parts=parts,
            file_size=file_size,
        )
    return Order(
        method=method,
        headers={**wanted, **dict(headers)},
        cut=cut,
        owner_completes=owner_completes,
    )


def _paths(sources: tuple[str, ...], to: str | None, order: Order) -> list[str]:
    if any(is_web(source) for source in sources):
        raise click.UsageError("name objects as BUCKET/KEY, not by a URL")
    if to is None:
        if len(sources) > 1:
            raise click.UsageError("several files need --to BUCKET/PREFIX/")
        path = sources[0].removeprefix("osspresigned://")
        bucket, _, key = path.partition("/")
        if not bucket or not key:
            hint = "one object is BUCKET/KEY, local files need --to BUCKET/PREFIX/"
            raise click.UsageError(f"{path!r} is no object: {hint}")
        return [path]
    if order.cut is not None:
        raise click.UsageError("parts are of one object: BUCKET/KEY without --to")
    files = owner_sign.local_objects(sources, to)
    if problems := list(owner_sign.too_large(files)):
        raise click.ClickException("\n".join(problems))
    return list(files)


def _place(
    output: str | None, *, force: bool, json_lines: bool, printed: bool, order: Order
) -> str | None:
    """Return where the URLs go, before anything is signed; None prints the only one."""
    if printed:
        if output is not None or json_lines:
            raise click.UsageError("--print writes no file: leave out the others")
        return None
    if order.method == "DELETE" and not json_lines:
        hint = "use --json-lines or --print"
        raise click.UsageError(f"a URL map has no place for the DELETE of one: {hint}")
    if output == "-":
        if sys.stdout.isatty():
            raise click.UsageError("URLs do not go to a terminal: pipe them somewhere")
        return output
    place = output or ("urls.jsonl" if json_lines else "urls.json")
    if os.path.lexists(place) and not force:
        hint = "use --output for another place, or --force"
        raise click.ClickException(f"{place} is there already: {hint}")
    folder = os.path.dirname(place) or "."
    if os.path.isdir(place) or not os.path.isdir(folder):
        raise click.ClickException(f"{place} is no place for a file")
    return place


def _print_url(signed: Signed) -> None:
    """Print the URL alone, so that it can be piped; all else goes to standard error."""
    click.echo(signed.url_text())
    (request,) = signed.requests.values()
    for name, value in request.headers.items():
        click.echo(f"send exactly this header: {name}: {value}", err=True)
    click.echo(f"{signed.method} until {shown_end(*_end(signed))}", err=True)


def _say_written(signed: Signed, place: str) -> None:
    what = _count(signed.count, "object")
    for entry in signed.entries.values():
        if entry.parts:
            size = shown_bytes(entry.part_size or 0)
            what += f" in up to {len(entry.parts)} parts of {size}"
            what += f", upload {entry.upload_id}"
            what += ", which you complete" if entry.complete == "external" else ""
    where = "standard output" if place == "-" else f"{place} (mode 0600, a secret)"
    click.echo(f"{signed.method} of {what} signed: {where}", err=True)
    click.echo(f"valid until {shown_end(*_end(signed))}", err=True)


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _end(signed: Signed) -> tuple[float, float]:
    return signed.expires_at, time.time()


@click.command()
@click.argument("reference", metavar="REFERENCE|MAP")
def inspect(reference: str) -> None:
    """Tell what a presigned URL or a URL map is for.

    Signatures are not shown. REFERENCE is a file or file:PATH, env:NAME, - for standard
    input, or any URL that fsspec can read.
    """
    with _warnings_said():
        found = read(reference, read_url)
    now, room = time.time(), Output(sys.stdout).room
    if isinstance(found, SecretURL):
        lines = pairs(list(about_url(found, now)), room)
    else:
        rows = [
            (shown_text(path), *about_entry(entry, now))
            for path, entry in found.items()
        ]
        lines = table_or_pairs(_OF_ENTRY, rows, room)
    for line in lines:
        click.echo(line)


@click.group()
def check() -> None:
    """Find mistakes before the first byte is sent."""


@check.command(name="map", short_help="Check a URL map, alone or for files.")
@click.argument("place", metavar="MAP")
@click.argument("files", nargs=-1, metavar="[FILES...]")
@click.option("--to", metavar="BUCKET/PREFIX/",
              help="Where FILES go, as fs.put() places them.")  # fmt: skip
@click.option("--rate", type=_RATE, metavar="MB/s",
              help="Expected megabytes per second: do the URLs live long enough?")  # fmt: skip
@click.option("--header", "headers", type=_HEADER, multiple=True, metavar="NAME=VALUE",
              help="Header that the uploads will ask for; may be repeated.")  # fmt: skip
@click.option("--receipts", is_flag=True,
              help="The uploader sets receipts=, from which you complete.")  # fmt: skip
@click.option("--allow-http", is_flag=True, help="The uploader sets allow_http=True.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_map_command(
    place: str,
    files: tuple[str, ...],
    to: str | None,
    rate: float | None,
    headers: tuple[tuple[str, str], ...],
    *,
    receipts: bool,
    allow_http: bool,
    as_json: bool,
) -> int:
    """Check the URL map MAP, alone or for FILES; exit code 1 if there are problems."""
    if files and to is None:
        raise click.UsageError("FILES need --to BUCKET/PREFIX/, where they go")
    if not files and (to is not None or rate is not None or headers):
        raise click.UsageError("--to, --rate and --header are about FILES: name some")
    with _warnings_said():
        source = load(place, read_url, allow_http=allow_http)
    url_map = source.current()
    found = owner_sign.local_objects(files, to) if to is not None else {}
    problems = check_map(
        url_map,
        Intent(
            files=found,
            headers=dict(headers),
            rate=rate,
            now=time.time(),
            receipts=receipts,
            allow_http=allow_http,
            local=source.local,
        ),
    )
    if as_json:
        listed = [{"path": p.path, "kind": p.kind, "problem": p.text} for p in problems]
        counts = {"objects": len(url_map), "files": len(found)}
        click.echo(json.dumps({**counts, "problems": listed}, indent=2))
        return 1 if problems else 0
    for line in table([(shown_text(p.path), p.kind, p.text) for p in problems]):
        click.echo(line)
    total = sum(map(os.path.getsize, found.values()))
    took = f", {shown_seconds(total / rate)} at that rate" if rate else ""
    said = _count(len(problems), "problem") if problems else "no problems"
    objects, local = _count(len(url_map), "object"), _count(len(found), "file")
    click.echo(f"{objects} in the map, {local}{took}: {said}")
    return 1 if problems else 0


@contextmanager
def _warnings_said() -> Iterator[None]:
    """Say warnings in one line each, as everything else here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        click.echo(f"warning: {warning.message}", err=True)

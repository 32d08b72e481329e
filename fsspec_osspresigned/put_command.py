"""The command ``osspresigned put``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from .connection_options import Connection, connection_options
from .exit_code import ExitCode
from .filesystem import OSSPresignedFileSystem
from .model import MIB, Receipt
from .put_plan import PutPlan
from .transfer_options import Storing, Transfer, storing_options, transfer_options
from .transfer_progress import TransferProgress

_STDIN = "-"
_EXAMPLES = """\
Examples:

\b
  osspresigned put report.csv --url-file link.url
  osspresigned put report.csv --url-file -            (paste the URL, then Enter)
  osspresigned put data 'logs/*.gz' examplebucket/in/ --map urls.json
  pg_dump db | osspresigned put - examplebucket/db.sql \\
      --signer https://sign.example.com --token env:OSSPRESIGNED_TOKEN
  osspresigned put big.bin examplebucket/big.bin --signer keys --resume

DIR goes to BUCKET/PREFIX/DIR/..., DIR/ without its own name to BUCKET/PREFIX/...
docs/cli.md lists the exit codes.
"""


@click.command(
    epilog=_EXAMPLES,
    short_help="Upload files, directories, or standard input.",
)
@click.argument("arguments", nargs=-1, required=True, metavar="FILES... DEST")
@connection_options
@transfer_options
@storing_options
def put(
    arguments: tuple[str, ...],
    *,
    connection: Connection,
    transfer: Transfer,
    storing: Storing,
) -> int:
    """Upload FILES - files, directories, patterns or - for standard input - to DEST.

    DEST is BUCKET/KEY for one file, BUCKET/PREFIX/ for several. With --url-file one
    file goes to the object of that URL, and DEST may be left out.
    """
    sources, target = _split(arguments, connection)
    target = target.removeprefix("osspresigned://")
    if _STDIN in sources:
        return _put_stdin(sources, target, connection, transfer, storing)
    plan = PutPlan.of(sources, target) if target else None
    places: dict[str, str] = {}
    progress: TransferProgress

    def stored(receipt: Receipt) -> None:
        progress.stored(places.get(receipt.path, ""), receipt)

    filesystem = connection.filesystem(**storing.options(transfer, stored))
    if plan is None:
        plan = PutPlan.one(sources[0], connection.path(filesystem, ""))
    if not plan.files and not plan.failures:
        raise click.UsageError(f"no file is in {', '.join(sources)}")
    places.update(plan.files)
    for one in plan.left_out:
        transfer.err.line(f"left out: {one}")
    progress = transfer.progress(
        files=len(plan.files) + len(plan.failures), size=plan.size
    )
    for failure in plan.failures:
        progress.fail(failure.path, failure.local, failure.error)

    def send() -> None:
        filesystem.put(
            list(plan.files.values()),
            list(plan.files),
            callback=progress,
            on_error=transfer.on_error,
        )

    stops = transfer.fail_fast and progress.failures
    code = transfer.carry_out("stored", progress, _nothing if stops else send)
    if code is ExitCode.INTERRUPTED and storing.resumes and not transfer.as_json:
        transfer.err.line("run the same again, and stored parts are not sent again")
    return code


def _nothing() -> None:
    """Send nothing: the first failure is there already."""


def _split(
    arguments: Sequence[str], connection: Connection
) -> tuple[tuple[str, ...], str]:
    """Return sources and target; the one URL knows its target by itself."""
    if connection.url_file is None:
        if len(arguments) == 1:
            raise click.UsageError(
                f"where to? osspresigned put {arguments[0]} BUCKET/KEY, or --url-file"
            )
        return tuple(arguments[:-1]), arguments[-1]
    most = 2  # a file, and the object that the URL is for
    if len(arguments) > most:
        raise click.UsageError("--url-file is one presigned URL, for one file")
    return tuple(arguments[:1]), "".join(arguments[1:])


def _put_stdin(
    sources: Sequence[str],
    target: str,
    connection: Connection,
    transfer: Transfer,
    storing: Storing,
) -> int:
    if len(sources) > 1:
        raise click.UsageError(
            "- is standard input, and one object: give no other file"
        )
    if connection.url_file == _STDIN:
        raise click.UsageError("standard input is either the file or the URL, not both")
    if target and (not target.partition("/")[2] or target.endswith("/")):
        raise click.UsageError(f"{target!r} is no object: give BUCKET/KEY")
    progress: TransferProgress

    def stored(receipt: Receipt) -> None:
        progress.stored(_STDIN, receipt)

    filesystem = connection.filesystem(**storing.options(transfer, stored))
    path = target or connection.path(filesystem, "")
    progress = transfer.progress(files=1)

    def send() -> None:
        with progress.branched(_STDIN, path) as child:
            _stream(filesystem, path, child.relative_update)

    return transfer.carry_out("stored", progress, send)


def _stream(
    filesystem: OSSPresignedFileSystem, path: str, moved: Callable[[int], Any]
) -> None:
    with filesystem.open(path, "wb") as sink:
        while block := sys.stdin.buffer.read(MIB):
            sink.write(block)
            moved(len(block))

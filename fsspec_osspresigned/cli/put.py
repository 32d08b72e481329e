"""Command ``osspresigned put``: uploads of files, trees and standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from attrs import define, field, frozen

from ..console.exit import ExitCode, Failure
from ..console.progress import TransferProgress
from ..errors import ConfigurationError
from ..filesystem.destinations import Kind, LocalTree
from ..filesystem.filesystem import OSSPresignedFileSystem
from ..model import Receipt
from ..units import MIB
from .options import StoringOptions, TransferOptions, UploadConnectionOptions, takes

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


@define
class PutPlan:
    """Files to upload.

    Attributes:
        files: ``bucket/key`` -> local file.
        size: bytes of all of them, as they are now.
        failures: files that cannot be read, and are not tried.
        left_out: paths that are neither files nor directories.
    """

    files: dict[str, str] = field(factory=dict)
    size: int = 0
    failures: list[Failure] = field(factory=list)
    left_out: list[str] = field(factory=list)

    @classmethod
    def for_sources(cls, sources: Sequence[str], target: str) -> PutPlan:
        """Place *sources* as ``fs.put`` places each of them; slashes alone decide.

        Args:
            sources: files, directories with their content, and patterns.
            target: ``bucket/key`` for one file; ``bucket/prefix/`` for anything.

        Raises:
            ConfigurationError: *target* names no bucket, or two files would become one
                object.
        """
        if not target.partition("/")[0]:
            raise ConfigurationError(
                f"{target!r} names no bucket: the last argument is where to, "
                "BUCKET/KEY or BUCKET/PREFIX/"
            )
        plan = cls()
        problems: list[str] = []
        for source in sources:
            problems += plan.add(source, target if "/" in target else f"{target}/")
        if problems:
            raise ConfigurationError(problems)
        return plan

    @classmethod
    def for_file(cls, source: str, path: str) -> PutPlan:
        """Place one file at *path*.

        Raises:
            ConfigurationError: it is a directory.
        """
        if os.path.isdir(source):
            raise ConfigurationError(
                f"{source} is a directory, the URL is for one file"
            )
        return cls(files={path: source}, size=_size_of(source))

    def add(self, source: str, target: str) -> list[str]:
        """Place one source, and return the problems with it."""
        problems = []
        try:
            tree = LocalTree(source, target)
        except FileNotFoundError as error:
            self.failures.append(Failure(source, source, error))
            return []
        for found in tree:
            if found.problem is not None:
                self.failures.append(Failure(found.path, found.local, found.problem))
            elif found.kind is Kind.FILE:
                if found.path in self.files:
                    other = self.files[found.path]
                    problems.append(
                        f"{found.local} and {other} would both become {found.path}"
                    )
                self.files[found.path] = found.local
                self.size += _size_of(found.local)
            elif found.kind is not Kind.DIRECTORY:
                self.left_out.append(f"{found.local} ({found.kind.value})")
        return problems


def _size_of(local: str) -> int:
    """Return the size of a file; 0 if it cannot be read, which its upload reports."""
    try:
        return os.path.getsize(local)
    except OSError:
        return 0


@takes(
    connection=UploadConnectionOptions,
    transfer=TransferOptions,
    storing=StoringOptions,
)
@click.command(
    epilog=_EXAMPLES,
    short_help="Upload files, directories, or standard input.",
)
@click.argument("arguments", nargs=-1, required=True, metavar="FILES... DEST")
def put(
    arguments: tuple[str, ...],
    *,
    connection: UploadConnectionOptions,
    transfer: TransferOptions,
    storing: StoringOptions,
) -> int:
    """Upload FILES - files, directories, patterns or - for standard input - to DEST.

    DEST is BUCKET/KEY for one file, BUCKET/PREFIX/ for several. With --url-file one
    file goes to the object of that URL, and DEST may be left out.
    """
    sources, target = _split(arguments, connection)
    target = target.removeprefix("osspresigned://")
    upload = _Put(connection, transfer, storing)
    if _STDIN not in sources:
        return upload.files(sources, target)
    if len(sources) > 1:
        raise click.UsageError(
            "- is standard input, and one object: give no other file"
        )
    if connection.url_file == _STDIN:
        raise click.UsageError("standard input is either the file or the URL, not both")
    if target and (not target.partition("/")[2] or target.endswith("/")):
        raise click.UsageError(f"{target!r} is no object: give BUCKET/KEY")
    return upload.stdin(target)


def _split(
    arguments: Sequence[str], connection: UploadConnectionOptions
) -> tuple[tuple[str, ...], str]:
    """Return sources and target; one URL has a target of its own."""
    if connection.url_file is None:
        if len(arguments) == 1:
            raise click.UsageError(
                f"where to? osspresigned put {arguments[0]} BUCKET/KEY, or --url-file"
            )
        return tuple(arguments[:-1]), arguments[-1]
    most = 2  # a file, and the object of the URL
    if len(arguments) > most:
        raise click.UsageError("--url-file is one presigned URL, for one file")
    return tuple(arguments[:1]), "".join(arguments[1:])


@frozen
class _Put:
    """One call of the command."""

    connection: UploadConnectionOptions
    transfer: TransferOptions
    storing: StoringOptions

    def _filesystem(self, stored: Callable[[Receipt], None]) -> OSSPresignedFileSystem:
        return self.connection.filesystem(**self.storing.options(self.transfer, stored))

    def files(self, sources: Sequence[str], target: str) -> ExitCode:
        transfer = self.transfer
        plan = PutPlan.for_sources(sources, target) if target else None
        places: dict[str, str] = {}
        progress: TransferProgress

        def stored(receipt: Receipt) -> None:
            progress.stored(places.get(receipt.path, ""), receipt)

        filesystem = self._filesystem(stored)
        if plan is None:
            path = self.connection.path(filesystem, "")
            plan = PutPlan.for_file(sources[0], path)
        if not plan.files and not plan.failures:
            raise click.UsageError(f"no file is in {', '.join(sources)}")
        places.update(plan.files)
        for one in plan.left_out:
            transfer.err.line(f"left out: {one}")
        count = len(plan.files) + len(plan.failures)
        progress = transfer.progress(files=count, size=plan.size)
        for failure in plan.failures:
            progress.fail(failure.path, failure.local, failure.error)

        def send() -> None:
            if transfer.fail_fast and progress.failures:
                return
            filesystem.put(
                list(places.values()),
                list(places),
                callback=progress,
                on_error=transfer.on_error,
            )

        code = transfer.carry_out("stored", progress, send)
        resumable = code is ExitCode.INTERRUPTED and self.storing.resumes
        if resumable and not transfer.as_json:
            transfer.err.line("run the same again, and stored parts are not sent again")
        return code

    def stdin(self, target: str) -> ExitCode:
        progress = self.transfer.progress(files=1)
        filesystem = self._filesystem(lambda one: progress.stored(_STDIN, one))
        path = self.connection.path(filesystem, target)

        def send() -> None:
            with progress.branched(_STDIN, path) as child:
                _copy_stdin(filesystem, path, child.relative_update)

        return self.transfer.carry_out("stored", progress, send)


def _copy_stdin(
    filesystem: OSSPresignedFileSystem, path: str, moved: Callable[[int], Any]
) -> None:
    with filesystem.open(path, "wb") as sink:
        while block := sys.stdin.buffer.read(MIB):
            sink.write(block)
            moved(len(block))

"""Command ``osspresigned put``: uploads of files, trees and standard input."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from attrs import define, field, frozen

from ...errors import ConfigurationError
from ...filesystem.destinations import (
    Kind,
    LocalEntry,
    LocalTree,
    RegularFile,
    is_special,
    local_path,
)
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...model import Receipt
from ...signing.endpoint import check_key
from ...units import MIB, short_bytes, shown_local, shown_text
from ...upload.plan import refuse_expired
from ..sync.plan import Filter
from ..terminal import ExitCode, Failure, code_of_all, told
from .options import (
    PLACE,
    StoringOptions,
    TransferOptions,
    UploadConnectionOptions,
    counted,
    examples,
    object_path,
    takes,
)
from .sync import FilteringCommand, FilterOptions, name_below

_STDIN = "-"
_ALL = Filter()
_EXAMPLES = """\
  osspresigned put report.csv --url-file link.url
  osspresigned put report.csv --url-file -
  osspresigned put data 'logs/*.gz' examplebucket/in/ --map urls.json
  osspresigned put data examplebucket/in/ --grant grant.json
  osspresigned put data examplebucket/in/ --signer keys --exclude '*.tmp' -n
  pg_dump db | osspresigned put - examplebucket/db.sql \\
      --signer https://sign.example.com --token env:OSSPRESIGNED_TOKEN
  osspresigned put big.bin examplebucket/big.bin --signer keys --resume

With --url-file - paste the URL, then press Enter.
DIR goes to BUCKET/PREFIX/DIR/..., DIR/ without its own name to BUCKET/PREFIX/...
If DEST has no slash at its end, DIR goes there without its own name, too.
Directories are always walked. The help of the whole program lists the exit codes.
"""


@define
class PutPlan:
    """Files to upload (``bucket/key`` -> local file), and their total size in bytes."""

    files: dict[str, str] = field(factory=dict)
    size: int = 0
    failures: list[Failure] = field(factory=list)  # cannot be read, and are not tried
    left_out: list[str] = field(factory=list)  # neither files nor directories
    pipes: set[str] = field(factory=set)  # that the command line names

    def add(self, sources: Sequence[str], target: str, chosen: Filter = _ALL) -> None:
        """Add *sources*; as in ``fs.put``, a trailing slash decides the destination."""
        if not target.partition("/")[0]:
            raise ConfigurationError(
                f"{target!r} names no bucket: the last argument is where to, "
                "BUCKET/KEY or BUCKET/PREFIX/"
            )
        problems = []
        for source in sources:
            try:
                tree = LocalTree(source, target if "/" in target else f"{target}/")
            except FileNotFoundError as error:
                self.failures.append(Failure(source, source, error))
                continue
            top = [local_path(source)]
            for found in (one for one in tree if _is_meant(one, chosen, top)):
                local, path = found.local, found.path
                if (problem := _problem_of(found)) is not None:
                    self.failures.append(Failure(path, local, problem))
                elif found.is_sent:
                    if other := self.files.get(path):
                        problems.append(f"{local} and {other} would both become {path}")
                    self.add_file(local, path, is_pipe=found.is_pipe)
                elif found.kind is not Kind.DIRECTORY:
                    self.left_out.append(f"{local} ({found.kind.value})")
        if problems:
            raise ConfigurationError(problems)

    def sources(self) -> list[Any]:
        """Return the local paths for ``fs.put``, in the order of ``files``."""
        return [
            local if local in self.pipes else RegularFile(local)
            for local in self.files.values()
        ]

    def add_file(self, local: str, path: str, *, is_pipe: bool) -> None:
        """Add a file; if it cannot be read, its upload reports the error later."""
        self.files[path] = local
        if is_pipe:
            self.pipes.add(local)
        with contextlib.suppress(OSError):
            self.size += os.path.getsize(local)


def _is_meant(found: LocalEntry, chosen: Filter, top: Sequence[str]) -> bool:
    """Return whether the filters include an entry found below *top*."""
    name = name_below(top, found.local)
    return chosen.takes(name) if found.problem is None else not chosen.skips(name)


def _problem_of(found: LocalEntry) -> OSError | None:
    """Return why a directory entry cannot be read or stored; None if it can."""
    if found.problem is not None:
        return found.problem
    if found.is_sent and (wrong := check_key(found.path.partition("/")[2])):
        return ConfigurationError(wrong)
    return None


@takes
@click.command(cls=FilteringCommand, epilog=examples(_EXAMPLES))
@click.argument(
    "arguments", nargs=-1, required=True, type=PLACE, metavar="FILES... DEST"
)
@click.option(
    "--dry-run",
    "-n",
    is_flag=True,
    help="Print the planned actions, and change nothing.",
)
def put(
    arguments: tuple[str, ...],
    *,
    dry_run: bool,
    chosen: FilterOptions,
    connection: UploadConnectionOptions,
    transfer: TransferOptions,
    storing: StoringOptions,
) -> int:
    """Upload files, directories, or standard input.

    FILES are files, directories, patterns, or - for standard input. DEST is BUCKET/KEY
    for one file, BUCKET/PREFIX/ for several. With --url-file one file goes to the object
    of that URL, and DEST may be left out.
    """
    sources, target = _split(arguments, connection)
    target = object_path(target)
    upload = _Put(connection, transfer, storing)
    if _STDIN not in sources:
        return upload.files(sources, target, chosen.filter, dry_run=dry_run)
    if dry_run or chosen.rules:
        raise click.UsageError("standard input has no filter and no dry run")
    if len(sources) > 1:
        said = "- is standard input, and one object: give no other file"
        raise click.UsageError(said)
    if connection.url_file == _STDIN:
        raise click.UsageError("standard input is either the file or the URL, not both")
    if target and (not target.partition("/")[2] or target.endswith("/")):
        raise click.UsageError(f"{target!r} is not an object: give BUCKET/KEY")
    return upload.stdin(target)


def _split(
    arguments: Sequence[str], connection: UploadConnectionOptions
) -> tuple[Sequence[str], str]:
    """Return sources and target; with ``--url-file``, the URL decides the target."""
    if connection.url_file is None:
        if len(arguments) == 1:
            raise click.UsageError(
                f"where to? osspresigned put {arguments[0]} BUCKET/KEY, or --url-file"
            )
        return arguments[:-1], arguments[-1]
    source, *target = arguments
    if target[1:]:
        raise click.UsageError("--url-file is one presigned URL, for one file")
    if os.path.isdir(source):
        raise click.UsageError(f"{source} is a directory, the URL is for one file")
    return [source], "".join(target)


@frozen
class _Put:
    connection: UploadConnectionOptions
    transfer: TransferOptions
    storing: StoringOptions

    def _filesystem(self, stored: Callable[[Receipt], None]) -> OSSPresignedFileSystem:
        return self.connection.filesystem(**self.storing.options(self.transfer, stored))

    def _name(self, *paths: str) -> None:
        """Print *paths*, the objects for which the presigned URL was signed."""
        if not (self.transfer.quiet or self.transfer.as_json):
            self.transfer.err.line(f"to {', '.join(map(shown_text, paths))}")

    def files(
        self, sources: Sequence[str], target: str, chosen: Filter, *, dry_run: bool
    ) -> ExitCode:
        transfer, plan = self.transfer, PutPlan()
        if target:
            plan.add(sources, target, chosen)
        progress = transfer.progress(files=0, size=0)
        places = plan.files
        filesystem = self._filesystem(
            lambda one: progress.stored(places.get(one.path, ""), one)
        )
        if not target:
            local, path = sources[0], self.connection.path(filesystem, "")
            plan.add_file(local, path, is_pipe=is_special(local))
        if not places and not plan.failures:
            fits = " that the filters include" if chosen.rules else ""
            raise click.UsageError(f"no file{fits} is in {', '.join(sources)}")
        if not target:
            self._name(*places)
        for one in plan.left_out:
            transfer.err.line(f"left out: {one}")
        if dry_run:
            return self._would(filesystem, plan)
        progress.meter.files = len(places) + len(plan.failures)
        progress.meter.size = plan.size
        for failure in plan.failures:
            progress.fail(failure.path, failure.local, failure.error)

        def send() -> None:
            if not (transfer.fail_fast and progress.failures):
                filesystem.put(
                    plan.sources(),
                    list(places),
                    callback=progress,
                    on_error=transfer.on_error,
                )

        return self._ended(transfer.carry_out("stored", progress, send), filesystem)

    def _ended(self, code: ExitCode, filesystem: OSSPresignedFileSystem) -> ExitCode:
        """Return *code*; after Ctrl-C, print a hint if the sent parts are not kept."""
        transfer, options = self.transfer, filesystem.client.options
        if code is ExitCode.INTERRUPTED and not (
            self.storing.keeps_parts or transfer.quiet or transfer.as_json
        ):
            hint = "parts of unfinished files are not kept; --resume would keep them"
            by_grant = options.grant is not None and options.signer is None
            if self.connection.url_file is not None or by_grant:
                hint = "each file is one request: the next run sends unfinished files whole"
            elif options.url_map is not None:
                hint = (
                    "the next run sends unfinished files whole; --resume would keep the "
                    "stored parts of entries with part URLs"
                )
            transfer.err.line(hint)
        return code

    def _would(self, filesystem: OSSPresignedFileSystem, plan: PutPlan) -> ExitCode:
        """Print the files that a run would store, and the files without a signature."""
        transfer, signer, failures = self.transfer, filesystem.client.signer, []
        total = 0
        for path, local in plan.files.items():
            try:
                refuse_expired(signer.grant(path), path)
                size = os.path.getsize(local)
            except OSError as error:
                failures.append(Failure(path, local, error))
                continue
            total += size
            said = f"store {shown_text(path)} from {shown_local(local)}"
            said = f"{said}, {short_bytes(size)}"
            transfer.would(said, "store", path=path, local=local, size=size)
        count = len(plan.files) - len(failures)
        failures += plan.failures
        for one in failures:
            said = f"{shown_text(one.path)}: cannot be stored: {told(one.error)}"
            if transfer.as_json:
                transfer.would("", "failed", **one.as_dict())
            else:
                transfer.err.line(said)
        said = f"{counted(count, 'file')}, {short_bytes(total)} to store"
        transfer.remark(said, "plan", files=count, bytes=total)
        return code_of_all([one.error for one in failures], went_well=count)

    def stdin(self, target: str) -> ExitCode:
        progress = self.transfer.progress(files=1)
        filesystem = self._filesystem(lambda one: progress.stored(_STDIN, one))
        path = self.connection.path(filesystem, target)
        if not target:
            self._name(path)

        def send() -> None:
            with (
                progress.branched(_STDIN, path) as child,
                filesystem.open(path, "wb") as sink,
            ):
                while block := sys.stdin.buffer.read(MIB):
                    sink.write(block)
                    child.relative_update(len(block))

        return self.transfer.carry_out("stored", progress, send)

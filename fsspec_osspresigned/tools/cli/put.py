"""Command ``osspresigned put``: uploads of files, trees and standard input."""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
from attrs import define, field, frozen

from ...errors import ConfigurationError, ObjectExistsError
from ...filesystem.destinations import (
    Kind,
    LocalEntry,
    local_entries,
    local_path,
)
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...model import Receipt
from ...secret import redact
from ...signing.endpoint import check_key
from ...units import MIB, short_bytes, shown_local, shown_text
from ...upload.plan import refuse_expired
from ...url_checks import has_signature
from ..failures import ExitCode, Failure, code_of_all, told
from ..language import translated_list, translated_whole
from ..progress import TransferProgress
from ..sync.plan import Filter, NameList
from .options import (
    PLACE,
    RECURSIVE,
    StoringOptions,
    TransferOptions,
    UploadConnectionOptions,
    counted,
    examples,
    is_file_name,
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
  osspresigned put data examplebucket/in/ --signer keys --ignore-existing
  osspresigned put big.bin examplebucket/big.bin --signer keys --resume
  osspresigned put photo.jpg --upload-server dashscope \\
      --upload-server-option model=qwen-vl-plus

With --url-file - paste the URL, then press Enter.
The help of the whole program lists the exit codes.
"""


@define
class PutPlan:
    files: dict[str, str] = field(factory=dict)  # bucket/key -> local path
    size: int = 0  # sum of the file sizes in bytes
    # files that cannot be read, so they are not sent
    failures: list[Failure] = field(factory=list)
    # paths that are neither files nor directories
    left_out: list[str] = field(factory=list)

    def add(self, sources: Sequence[str], target: str, chosen: Filter = _ALL) -> None:
        """Add the files of *sources* that *chosen* includes, each with its destination.

        If *target* ends with a slash or is a bucket, each source keeps its name below
        it; a source that ends with a slash is replaced by its content. Any other
        *target* is the new name of one source. A pattern stands for all sources that
        match it. A source that does not exist is added to ``failures``.

        ConfigurationError if *target* has no bucket, if it is a single name for several
        sources, or if two files have the same destination.
        """
        if not target.partition("/")[0]:
            raise ConfigurationError(
                f"{target!r} names no bucket: the last argument is where to, "
                "BUCKET/KEY or BUCKET/PREFIX/"
            )
        where = target if "/" in target else f"{target}/"
        tops = [top for source in sources for top in _matching(source)]
        if len(tops) > 1 and not where.endswith("/"):
            msg = f"for several files, end the destination with a slash: {target}/"
            raise ConfigurationError(msg)
        problems: list[str] = []
        for source in tops:
            try:
                entries = local_entries(source, where)
            except FileNotFoundError as error:
                self.failures.append(Failure(source, source, error))
            else:
                problems += self._add_tree(entries, [local_path(source)], chosen)
        if problems:
            raise ConfigurationError(problems)

    def _add_tree(
        self, entries: Iterable[LocalEntry], top: Sequence[str], chosen: Filter
    ) -> Iterator[str]:
        """Add the *entries* that *chosen* includes; yield clashes of destinations.

        *top* has the source; the names for filters are relative to it.
        """
        for entry in entries:
            local, path, name = entry.local, entry.path, name_below(top, entry.local)
            no_problem = entry.problem is None
            if not (chosen.takes(name) if no_problem else not chosen.skips(name)):
                continue
            if entry.problem is not None:
                self.failures.append(Failure(path, local, entry.problem))
            elif entry.is_sent and has_signature(path):
                # such as a file that wget has named after a presigned URL
                error = ConfigurationError(
                    "its name holds a signature, like a URL: rename it"
                )
                self.failures.append(Failure(redact(path), redact(local), error))
            elif entry.is_sent and (wrong := check_key(path.partition("/")[2])):
                self.failures.append(Failure(path, local, ConfigurationError(wrong)))
            elif entry.is_sent:
                if other := self.files.get(path):
                    yield f"{local} and {other} would both become {path}"
                self.add_file(local, path)
            elif entry.kind is not Kind.DIRECTORY:
                self.left_out.append(f"{local} ({entry.kind.value})")

    def add_file(self, local: str, path: str) -> None:
        """Add a file; if it cannot be read, its upload reports the error later."""
        self.files[path] = local
        with contextlib.suppress(OSError):
            self.size += os.path.getsize(local)


def _matching(source: str) -> list[str]:
    """Return the local paths to which a shell would expand *source*."""
    if os.path.lexists(source) or not glob.has_magic(source):
        return [source]
    if "**" in source:
        msg = f"{source}: ** is not for put: give the directory, and --include"
        raise click.UsageError(msg)
    return sorted(glob.glob(os.path.expanduser(source))) or [source]


@takes
@click.command(cls=FilteringCommand, epilog=examples(_EXAMPLES))
@RECURSIVE
@click.argument(
    "arguments", nargs=-1, required=True, type=PLACE, metavar="FILES... DEST"
)
@click.option("--ignore-existing", is_flag=True,
              help="Skip files whose object exists.")  # fmt: skip
def put(
    arguments: tuple[str, ...],
    *,
    dry_run: bool,
    ignore_existing: bool,
    chosen: FilterOptions,
    connection: UploadConnectionOptions,
    transfer: TransferOptions,
    storing: StoringOptions,
) -> int:
    """Upload files, directories, or standard input.

    FILES are files, directories (always with all they contain), patterns, or - for
    standard input.

    If DEST ends with a slash, each of FILES keeps its name below it: DIR becomes
    BUCKET/PREFIX/DIR/..., and only DIR/ becomes BUCKET/PREFIX/... Without the slash,
    DEST is the new name of one file or directory. A quoted pattern counts as the files
    that match it.

    DEST may be left out with --url-file, which takes one file for the object of that
    URL, and with --upload-server, if the server gives names.
    """
    sources, target = _split(arguments, connection)
    target = object_path(target)
    if ignore_existing and transfer.fail_fast:
        raise click.UsageError("--ignore-existing and --fail-fast: give one of them")
    upload = _Put(connection, transfer, storing, ignore_existing)
    if _STDIN not in sources:
        return upload.files(sources, target, chosen.filter, dry_run=dry_run)
    if dry_run or chosen.rules or ignore_existing:
        msg = "standard input has no filter, no dry run and no --ignore-existing"
        raise click.UsageError(msg)
    if len(sources) > 1:
        msg = "- is standard input, and one object: give no other file"
        raise click.UsageError(msg)
    if connection.url_file == _STDIN:
        raise click.UsageError("standard input is either the file or the URL, not both")
    if target and (not target.partition("/")[2] or target.endswith("/")):
        raise click.UsageError(f"{target!r} is not an object: give BUCKET/KEY")
    return upload.stdin(target)


def _split(
    arguments: Sequence[str], connection: UploadConnectionOptions
) -> tuple[Sequence[str], str]:
    if connection.url_file is None:
        default = connection.default_destination
        # A pattern that the shell expanded ends with a file, which cannot be a
        # destination.
        if default and (len(arguments) == 1 or os.path.isfile(arguments[-1])):
            return arguments, default
        *sources, last = arguments
        if not sources:
            msg = f"a destination is missing: osspresigned put {last} BUCKET/KEY"
            or_url = "" if connection.has_source else ", or --url-file"
            raise click.UsageError(f"{msg}{or_url}")
        if is_file_name(last) and os.path.isfile(last):
            msg = (
                f"{last} is a file, but the last argument is the destination: give "
                "BUCKET/KEY; a file of signatures is for --url-file, --map or --grant"
            )
            raise click.UsageError(msg)
        return sources, last
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
    ignores_existing: bool = False

    def _filesystem(self, stored: Callable[[Receipt], None]) -> OSSPresignedFileSystem:
        options = self.storing.options(self.transfer, stored)
        if self.connection.upload_server is not None and not self.transfer.as_json:
            options["receipts"] = self._naming(options.get("receipts"))
        if self.ignores_existing:
            options["overwrite"] = False
        return self.connection.filesystem(**options)

    def _naming(
        self, take: Callable[[Receipt], None] | None
    ) -> Callable[[Receipt], None]:
        """Return a function for receipts that prints the server's name of an object.

        The function then calls *take*, unless it is None.
        """

        def name(receipt: Receipt) -> None:
            if receipt.location is not None and self.storing.receipts != "-":
                self.transfer.out.line(shown_text(receipt.location))
            if take is not None:
                take(receipt)

        return name

    def _progress(self, **facts: Any) -> TransferProgress:
        # An upload server may choose other names. ``_naming`` prints those.
        return self.transfer.progress(
            places=self.connection.upload_server is None, **facts
        )

    def files(
        self, sources: Sequence[str], target: str, chosen: Filter, *, dry_run: bool
    ) -> ExitCode:
        transfer, plan = self.transfer, PutPlan()
        if target:
            plan.add(sources, target, chosen)
        ignored = ObjectExistsError if self.ignores_existing else None
        progress = self._progress(size=0, skips=ignored)
        locals_of = plan.files
        filesystem = self._filesystem(
            lambda receipt: progress.stored(locals_of.get(receipt.path, ""), receipt)
        )
        if not target:
            local, path = sources[0], self.connection.path(filesystem)
            plan.add_file(local, path)
        if not locals_of and not plan.failures:
            named = any(isinstance(rule, NameList) for rule in chosen.rules)
            fits = " that the list names" if named else " that the filters include"
            fits = fits if chosen.rules else ""
            raise click.UsageError(f"no file{fits} is in {', '.join(sources)}")
        for name in plan.left_out:
            transfer.err.line(translated_whole(f"left out: {shown_text(name)}"))
        if dry_run:
            return self._would(filesystem, plan)
        progress.files = len(locals_of) + len(plan.failures)
        progress.bytes = plan.size
        for failure in plan.failures:
            progress.fail(failure.path, failure.local, failure.error)

        def send() -> None:
            if transfer.fail_fast and progress.failures:
                return
            files, on_error = list(locals_of.values()), transfer.on_error
            filesystem.put(files, list(locals_of), callback=progress, on_error=on_error)

        return transfer.carry_out(progress, send)

    def _would(self, filesystem: OSSPresignedFileSystem, plan: PutPlan) -> ExitCode:
        transfer, signer, failures = self.transfer, filesystem.client.signer, []
        count = total = skipped = 0
        for path, local in plan.files.items():
            try:
                refuse_expired(signer.grant(path), path)
                if self.ignores_existing and filesystem.exists(path):
                    skipped += 1
                    continue
                size = os.path.getsize(local)
            except OSError as error:
                failures.append(Failure(path, local, error))
                continue
            total += size
            text = f"upload {shown_text(path)} from {shown_local(local)}, {short_bytes(size)}"
            transfer.would(text, "store", path=path, local=local, size=size)
            count += 1
        failures += plan.failures
        for failure in failures:
            reason = f"cannot be uploaded: {told(failure.error)}"
            text = f"{shown_text(failure.path)}: {reason}"
            transfer.would(text, "failed", transfer.err, **failure.as_dict())
        texts = [f"{counted(count, 'file')}, {short_bytes(total)} to upload"]
        texts += [f"{skipped} skipped"] if skipped else []
        plan_text = translated_list(texts, "; ")
        transfer.remark(plan_text, "plan", files=count, bytes=total)
        return code_of_all([each.error for each in failures], went_well=count)

    def stdin(self, target: str) -> ExitCode:
        progress = self._progress(files=1)
        filesystem = self._filesystem(functools.partial(progress.stored, _STDIN))
        path = self.connection.path(filesystem, target)

        def send() -> None:
            with (
                progress.branched(_STDIN, path) as child,
                filesystem.open(path, "wb") as sink,
            ):
                while block := sys.stdin.buffer.read(MIB):
                    sink.write(block)
                    child.relative_update(len(block))

        return self.transfer.carry_out(progress, send)

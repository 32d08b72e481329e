"""Command ``osspresigned sync``: transfers of new and changed files.

The filter options --include, --exclude and --filter-from apply in the order in which they
are typed.
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from glob import has_magic
from typing import Any, ClassVar

import click
from attrs import define, frozen

from ...errors import ConfigurationError
from ...model import Receipt
from ...units import short_bytes, shown_text
from ..failures import ExitCode, code_of_all, told
from ..language import translated, translated_list
from ..progress import TransferProgress
from ..sync.plan import Extra, Filter, How, NameList, Rule, Why
from ..sync.sync import EventKind, SyncEvent, SyncResult, sync, sync_down
from .options import (
    MAX_SHOWN,
    PAIRS,
    PLACE,
    RECURSIVE,
    STRICT,
    GroupingCommand,
    StoringConnectionOptions,
    StoringOptions,
    TransferOptions,
    confirmed,
    default_resume_dir,
    examples,
    flag,
    is_local,
    object_path,
    option,
    takes,
)

_ONLY_HERE = "only in SRC"
_RULES = "fsspec_osspresigned.filter_rules"
_COMMENTS = ("#", ";")


def _lines(file_name: str, option: str) -> list[str]:
    try:
        with click.open_file(file_name, encoding="utf-8") as file:
            return str(file.read()).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise click.UsageError(f"{option} {file_name}: {why}") from None


def _read(file_name: str) -> Iterator[Rule]:
    for number, line in enumerate(
        map(str.strip, _lines(file_name, "--filter-from")), 1
    ):
        if not line or line.startswith(_COMMENTS):
            continue
        try:
            yield Rule.of(line)
        except ConfigurationError as error:
            msg = f"--filter-from {file_name}, line {number}: {error.message}"
            raise click.UsageError(msg) from None


def _names(file_name: str) -> Iterator[NameList]:
    lines = (line.removesuffix("\r") for line in _lines(file_name, "--files-from"))
    # `find .` writes names with "./", rclone with "/".
    names = (line.removeprefix("./").removeprefix("/") for line in lines)
    yield NameList(frozenset(filter(None, names)))


_READERS: dict[str, Callable[[str], Iterable[Rule | NameList]]] = {
    "include": lambda glob: [Rule(takes=True, glob=glob)],
    "exclude": lambda glob: [Rule(takes=False, glob=glob)],
    "filter_from": _read,
    "files_from": _names,
}


class FilteringCommand(GroupingCommand):
    """Command that preserves the order in which filter options were typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        parsed, _, order = self.make_parser(ctx).parse_args(args=list(args))
        values = {name: iter(parsed.get(name) or ()) for name in _READERS}
        typed = [
            (name, next(values[name]))
            for name in (str(parameter.name) for parameter in order)
            if name in _READERS
        ]
        ctx.meta[_RULES] = [
            rule for name, value in typed for rule in _READERS[name](value)
        ]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and return its exit code.

        Prints the names in --files-from that were not found. If there are any, the exit
        code 1 replaces 0.
        """
        code = super().invoke(ctx)
        lists = (rule for rule in ctx.meta[_RULES] if isinstance(rule, NameList))
        missing = sorted({name for each in lists for name in each.names - each.seen})
        for name in missing[:MAX_SHOWN]:
            click.echo(
                f"{shown_text(name)}: named in --files-from, not found", err=True
            )
        if len(missing) > MAX_SHOWN:
            click.echo(f"and {len(missing) - MAX_SHOWN} more", err=True)
        return code or (ExitCode.FAILED if missing else code)


@frozen(kw_only=True)
class FilterOptions:
    group: ClassVar = "Filters"
    # fmt: off
    include: Sequence[str] = option("--include GLOB",
        "Include files that match. If this is the first rule, exclude all others. May be "
        "repeated.",
        multiple=True)
    exclude: Sequence[str] = option("--exclude GLOB",
        "Exclude files that match. May be repeated; the last rule that matches decides.",
        multiple=True)
    filter_from: Sequence[str] = option("--filter-from FILE",
        "Read rules from a file: + GLOB or - GLOB per line.", multiple=True, type=PLACE)
    files_from: Sequence[str] = option("--files-from FILE",
        "Only the files that FILE names, one per line, relative to the directory.",
        multiple=True, type=PLACE)
    # fmt: on

    def __attrs_post_init__(self) -> None:
        if self.files_from and (self.include or self.exclude or self.filter_from):
            msg = "--files-from cannot be combined with filters: leave out --include, --exclude, --filter-from"
            raise click.UsageError(msg)

    @property
    def rules(self) -> tuple[Rule | NameList, ...]:
        return tuple(click.get_current_context().meta[_RULES])

    @property
    def filter(self) -> Filter:
        return Filter(self.rules)


def name_below(arguments: Iterable[str], path: str) -> str:
    """Return the name of *path* for filters; *path* is in one of *arguments*.

    The name is relative to this argument, or to the directory before its first
    wildcard.
    """
    for argument in arguments:
        top = argument.rstrip("/")
        if has_magic(argument):
            steps = argument.split("/")
            top = "/".join(itertools.takewhile(lambda step: not has_magic(step), steps))
        if path.startswith(f"{top}/") and len(path) > len(top) + 1:
            return path[len(top) + 1 :]
    return path.rpartition("/")[2]


_EXAMPLES = """\
  osspresigned sync data examplebucket/backup --signer keys --dry-run
  osspresigned sync data examplebucket/backup --signer keys --delete --yes
  osspresigned sync data examplebucket/in --map urls.json --state sent.jsonl
  osspresigned sync data examplebucket/in --signer https://sign.example.com \\
      --token env:OSSPRESIGNED_TOKEN --state sent.jsonl --exclude '*.tmp'
  osspresigned sync data examplebucket/in --grant grant.json \\
      --state sent.jsonl
  osspresigned sync s3://theirs/data examplebucket/data --signer keys \\
      --source-option anon=true --include '*.parquet'
  osspresigned sync data examplebucket/in --signer keys --check
  osspresigned sync examplebucket/out ./results --signer keys --dry-run
  osspresigned sync examplebucket/out ./results --signer keys --delete

Of --include and --exclude the last one that fits a name decides. *.csv fits
in every directory, /a.csv from the top only, tmp/ a directory with all in it, ** also
slashes.
"""


@frozen(kw_only=True)
class SyncCommandOptions:
    # fmt: off
    dry_run: bool = option("--dry-run")
    check: bool = flag("--check",
        "Only compare the bytes of both sides; the exit code is 1 if they differ.")
    size_only: bool = flag("--size-only", "Compare only sizes, not times.")
    checksum: bool = flag("--checksum",
        "Compare the bytes by CRC-64: reads every file.")
    delete: bool = flag("--delete",
        "Delete objects that SRC does not have, unless something failed.")
    yes: bool = option("--yes")
    max_delete: int | None = option("--max-delete N",
        "Do nothing if more than N objects would be deleted.", type=click.IntRange(0))
    state: str | None = option("--state FILE",
        "Record sent files in FILE; needed if listing is not granted.",
        type=click.Path(dir_okay=False))
    ignore_times: bool = flag("--ignore-times", "Send all files, changed or not.")
    source_options: Mapping[str, str] = option("--source-option NAME=VALUE",
        "Option of the filesystem of SRC.", **PAIRS)
    # fmt: on

    @property
    def asks(self) -> bool:
        return self.delete and not self.yes and not self.dry_run

    def __attrs_post_init__(self) -> None:
        if self.check and (self.delete or self.ignore_times or self.dry_run):
            msg = (
                "--check changes nothing: leave out --delete, --ignore-times and "
                "--dry-run"
            )
            raise click.UsageError(msg)
        if self.size_only and self.checksum:
            raise click.UsageError("--size-only and --checksum: give one of them")
        if self.max_delete is not None and not self.delete:
            raise click.UsageError("--max-delete needs --delete")
        if self.asks and not sys.stdin.isatty():
            msg = "--delete needs --yes if standard input is not a terminal"
            raise click.UsageError(msg)

    @property
    def compare(self) -> How:
        if self.size_only:
            return How.SIZE
        return How.CHECKSUM if self.checksum or self.check else How.TIME


def _value(text: str) -> Any:
    """Return the value of JSON text such as ``true``; return other text unchanged."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@takes
@click.command(name="sync", cls=FilteringCommand, epilog=examples(_EXAMPLES))
@RECURSIVE
@click.argument("source", type=PLACE, metavar="SRC")
@click.argument("destination", type=PLACE, metavar="DEST")
def sync_command(
    source: str,
    destination: str,
    *,
    wanted: SyncCommandOptions,
    chosen: FilterOptions,
    connection: StoringConnectionOptions,
    transfer: TransferOptions,
    storing: StoringOptions,
) -> int:
    """Transfer new and changed files from SRC to DEST. Only --delete deletes.

    To upload, SRC is a directory, or the URL of one that fsspec can read, and DEST is
    BUCKET/PREFIX. To download, SRC is BUCKET/PREFIX, and DEST is a local directory that
    is written as ./in, /data/in or ~/in. The content of SRC goes right below DEST.
    """
    if wanted.delete and chosen.files_from:
        raise click.UsageError("--files-from and --delete: give one of them")
    down = is_local(destination)
    for_uploads = wanted.state or wanted.source_options or connection.grant
    if down and (for_uploads or storing != StoringOptions(resume=storing.resume)):
        msg = "--state, --source-option, --grant and options of objects are for uploads"
        raise click.UsageError(f"{msg}, and {destination} is a local directory")
    root = object_path(source if down else destination).strip("/")
    done = "fetched" if down else "uploaded"
    progress = transfer.progress(done, size=0)
    verb = "compare" if wanted.check else "fetch" if down else "send"
    report = _Report(transfer, progress, root, verb)
    common: dict[str, Any] = {
        "filters": chosen.rules,
        "compare": wanted.compare,
        "delete": wanted.delete,
        "max_delete": wanted.max_delete,
        "ignore_times": wanted.ignore_times,
        "fail_fast": transfer.fail_fast,
        "confirm": functools.partial(_ask, down=down) if wanted.asks else None,
        "on_error": "return",
    }
    if down:
        kept = {"resume_dir": default_resume_dir()} if storing.resume else {}
        filesystem = connection.filesystem(**STRICT, **transfer.options(), **kept)
        both = object_path(source), destination
        run = functools.partial(sync_down, *both, filesystem=filesystem, **common)
    else:
        options = storing.options(transfer, report.stored)
        run = functools.partial(
            sync,
            source,
            object_path(destination),
            filesystem=connection.filesystem(**options),
            source_options={
                name: _value(text) for name, text in wanted.source_options.items()
            },
            state=wanted.state,
            **common,
        )
    if wanted.check:
        return report.differences(run(dry_run=True))
    if wanted.dry_run:
        result = run(dry_run=True)
        report.would(result)
        return exit_code(result)

    def act() -> None:
        report.end(run(on_event=report.hear))

    code = transfer.carry_out(progress, act, report.counts)
    # The result also counts files that needed no transfer.
    return code if report.result is None else exit_code(report.result)


def exit_code(result: SyncResult) -> ExitCode:
    """Return the exit code of a sync; files that need no transfer count as done."""
    if result.is_complete:
        return ExitCode.OK
    would = len(result.plan.send) if result.dry_run else 0
    went_well = result.sent + result.same + len(result.deleted) + would
    code = code_of_all(result.problems.values(), went_well=went_well)
    return code or ExitCode.FAILED


def _ask(extra: Sequence[Extra], *, down: bool) -> None:
    names, what = [each.name for each in extra], "local file" if down else "object"
    if not confirmed(names, "would be deleted: ", " (--dry-run lists all)", what):
        raise click.ClickException("nothing was done")


@define
class _Report:
    transfer: TransferOptions
    progress: TransferProgress
    root: str
    verb: str  # "send", "fetch" or "compare"
    result: SyncResult | None = None

    def stored(self, receipt: Receipt) -> None:
        name = receipt.path.removeprefix(f"{self.root}/")
        self.progress.stored(name, receipt)

    def hear(self, event: SyncEvent) -> None:
        remark, name = self.transfer.remark, event.name
        if event.kind is EventKind.BYTES:
            self.progress.move(event.size)
        elif event.kind is EventKind.BEGIN:
            self.progress.begin(f"{self.root}/{name}")
        elif event.kind in (EventKind.SENT, EventKind.FETCHED):
            path = f"{self.root}/{name}"
            self.progress.end_one(path, name, event.size)
        elif event.upload is not None:
            self.progress.on_upload_event(event.upload)
        elif event.error is not None:
            self.progress.fail(f"{self.root}/{name}", name, event.error)
        elif event.kind is EventKind.PLAN:
            self.progress.files = event.count
            self.progress.bytes = event.size
        elif event.kind is EventKind.LEFT_OUT:
            text = f"left out: {shown_text(name)} ({event.why})"
            remark(text, "left_out", name=name, why=event.why)
        elif event.kind is EventKind.DELETED:
            text = f"deleted: {shown_text(name)}"
            remark(text, "deleted", name=name, size=event.size)

    def would(self, result: SyncResult) -> None:
        would, plan = self.transfer.would, result.plan
        for item in plan.send:
            name, size = item.entry.name, item.entry.size
            shown = "?" if size is None else short_bytes(size)
            text = f"{self.verb} {shown_text(name)} ({item.why}, {shown})"
            would(text, self.verb, name=name, size=size, why=item.why)
        extra = [] if result.kept else plan.extra
        for each in extra:
            text = f"delete {shown_text(each.name)}"
            would(text, "delete", name=each.name, size=each.size)
        self._rest(result)
        self._say(result, "plan", len(plan.send), len(extra))

    def differences(self, result: SyncResult) -> ExitCode:
        """Print the differences between both sides, and return the exit code."""
        differing = [
            (
                each.entry.name,
                each.entry.size,
                _ONLY_HERE if each.why is Why.NEW else each.why,
            )
            for each in result.plan.send
        ]
        differing += [
            (each.name, each.size, "only in DEST") for each in result.unmatched
        ]
        for name, size, why in differing:
            shown = "" if size is None else f", {short_bytes(size)}"
            text = shown_text(name) + translated(f": {why}{shown}")
            self.transfer.would(text, "differs", name=name, size=size, why=why)
        self._rest(result)
        code = ExitCode.FAILED if differing else ExitCode.OK
        if result.problems:
            code = code_of_all(
                result.problems.values(), went_well=len(differing) + result.same
            )
        self.transfer.remark(
            f"{len(differing)} different, {result.same} same",
            "check",
            different=len(differing),
            same=result.same,
            exit_code=int(code),
        )
        return code

    def _rest(self, result: SyncResult) -> None:
        """Print the entries of the source that are not files, and the failures."""
        for name, what in result.plan.left_out.items():
            self.hear(SyncEvent(EventKind.LEFT_OUT, name, why=what))
        for name, error in result.problems.items():
            text, reason = f"cannot {self.verb} {shown_text(name)}", told(error)
            err = self.transfer.err
            self.transfer.would(
                f"{text}: {reason}", "failed", err, name=name, error=reason
            )

    def end(self, result: SyncResult) -> None:
        self.result = result
        if self.transfer.as_json:
            self._say(result, "sync", result.sent, len(result.deleted))

    def counts(self) -> list[str]:
        return [] if self.result is None else _counted(self.result)

    def _say(self, result: SyncResult, event: str, sent: int, deleted: int) -> None:
        self.transfer.remark(
            translated_list([f"{sent} to {self.verb}", *_counted(result)]),
            event,
            **{result.verb: sent},
            same=result.same,
            deleted=deleted,
            kept=result.kept,
            left_out=len(result.left_out),
            uncovered=sorted(result.uncovered),
            exit_code=int(exit_code(result)),
        )


def _counted(result: SyncResult) -> list[str]:
    extra = [] if result.kept else result.plan.extra
    counts = {
        "same": result.same,
        "to delete": len(extra) if result.dry_run else 0,
        "deleted": len(result.deleted),
        "kept, because something failed": result.kept,
        "left out": len(result.left_out),
        "not covered": len(result.uncovered) if result.dry_run else 0,
    }
    return [f"{number} {what}" for what, number in counts.items() if number]

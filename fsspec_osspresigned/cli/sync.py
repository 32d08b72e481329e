"""The command ``osspresigned sync``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from ..console.exit import why
from ..console.progress import Events, TransferProgress, short_bytes
from ..model import Receipt
from ..syncing.filter import Rule
from ..syncing.plan import Extra, How
from ..syncing.result import EventKind, SyncEvent, SyncResult
from ..syncing.sync import sync
from ..units import shown_text
from .options import (
    PAIR,
    Connection,
    Storing,
    Transfer,
    connection_options,
    storing_options,
    transfer_options,
)

_SHOWN = 10  # names that are shown before somebody is asked
_RULES = "fsspec_osspresigned.sync_rules"
_EXAMPLES = """\
Examples:

\b
  osspresigned sync data examplebucket/backup --signer keys --dry-run
  osspresigned sync data examplebucket/backup --signer keys --delete --yes
  osspresigned sync data examplebucket/in --map urls.json --state sent.jsonl
  osspresigned sync data examplebucket/in --signer https://sign.example.com \\
      --token env:OSSPRESIGNED_TOKEN --state sent.jsonl --exclude '*.tmp'
  osspresigned sync s3://theirs/data examplebucket/data --signer keys \\
      --source-option anon=true --include '*.parquet'

Of --include and --exclude the last one that fits a name decides; docs/sync.md says
what a GLOB is.
"""


class _InOrder(click.Command):
    """A command that keeps the order in which rules were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the rules beside what click makes of the arguments."""
        options, _, order = self.make_parser(ctx).parse_args(args=list(args))
        globs = {name: iter(options.get(name) or ()) for name in ("include", "exclude")}
        ctx.meta[_RULES] = [
            Rule(one.name == "include", next(globs[one.name]))
            for one in order
            if one.name in globs
        ]
        return super().parse_args(ctx, args)


def _value(text: str) -> Any:
    """Return JSON where it is some, else the text: ``anon=true``."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command(name="sync", cls=_InOrder, epilog=_EXAMPLES)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DEST")
@click.option("--dry-run", "-n", is_flag=True, help="Only tell what would be done.")
@click.option("--include", multiple=True, metavar="GLOB",
              help="Take what fits; alone, nothing else is taken. May be repeated.")  # fmt: skip
@click.option("--exclude", multiple=True, metavar="GLOB",
              help="Leave out what fits, on both sides. May be repeated.")  # fmt: skip
@click.option("--size-only", is_flag=True, help="Compare sizes, and no times.")
@click.option("--checksum", is_flag=True,
              help="Compare the bytes by CRC-64: reads every file.")  # fmt: skip
@click.option("--delete", is_flag=True,
              help="Delete objects that SRC does not have, if all else went well.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@click.option("--max-delete", type=click.IntRange(0), metavar="N",
              help="Do nothing if more than N objects would be deleted.")  # fmt: skip
@click.option("--state", type=click.Path(dir_okay=False), metavar="FILE",
              help="Remember what was sent; needed where nobody may list.")  # fmt: skip
@click.option("--always", is_flag=True, help="Send all, whatever is known.")
@click.option("--source-option", "source_options", type=PAIR, multiple=True,
              metavar="NAME=VALUE", help="Option of the filesystem of SRC.")  # fmt: skip
@connection_options
@transfer_options
@storing_options
def sync_command(
    source: str,
    destination: str,
    *,
    dry_run: bool,
    include: Sequence[str],
    exclude: Sequence[str],
    size_only: bool,
    checksum: bool,
    yes: bool,
    source_options: Sequence[tuple[str, str]],
    connection: Connection,
    transfer: Transfer,
    storing: Storing,
    **wishes: Any,
) -> int:
    """Send what is new or changed in SRC, so that DEST equals it.

    SRC is a directory, or the URL of one that fsspec can read; DEST is BUCKET/PREFIX.
    What is in SRC goes right below DEST.
    """
    del include, exclude  # in their order they are with the context
    if size_only and checksum:
        raise click.UsageError("--size-only and --checksum: give one of them")
    if connection.url_file is not None:
        raise click.UsageError("--url-file is one object: sync needs --map or --signer")
    if wishes["max_delete"] is not None and not wishes["delete"]:
        raise click.UsageError("--max-delete goes with --delete")
    asks = wishes["delete"] and not yes and not dry_run
    if asks and not sys.stdin.isatty():
        raise click.UsageError("--delete needs --yes where nobody can be asked")
    progress = transfer.progress(files=0, size=0)
    telling = _Telling(transfer, progress, destination.rstrip("/"))
    arguments = {
        **wishes,
        "filesystem": connection.filesystem(
            **storing.options(transfer, telling.stored)
        ),
        "source_options": {name: _value(text) for name, text in source_options},
        "filters": click.get_current_context().meta[_RULES],
        "compare": _how(size_only=size_only, checksum=checksum),
        "fail_fast": transfer.fail_fast,
        "confirm": telling.ask if asks else None,
        "on_error": "return",
    }
    if dry_run:
        result = sync(source, destination, dry_run=True, **arguments)
        telling.would(result)
        return result.exit_code

    def act() -> None:
        result = sync(source, destination, on_event=telling.hear, **arguments)
        telling.end(result)

    code = transfer.carry_out("stored", progress, act)
    # What was there already went well, too.
    return code if telling.result is None else telling.result.exit_code


def _how(*, size_only: bool, checksum: bool) -> How:
    if size_only:
        return How.SIZE
    return How.CHECKSUM if checksum else How.TIME


class _Telling:
    """What a sync says to people, or to programs."""

    def __init__(
        self, transfer: Transfer, progress: TransferProgress, root: str
    ) -> None:
        self._transfer = transfer
        self._progress = progress
        self._root = root.removeprefix("osspresigned://")
        self.result: SyncResult | None = None

    def _line(self, text: str) -> None:
        if not self._transfer.quiet and not self._transfer.as_json:
            self._transfer.err.line(text)

    def _say(self, event: str, **members: Any) -> None:
        if self._transfer.as_json:
            Events(self._transfer.out).say(event, **members)

    def stored(self, receipt: Receipt) -> None:
        """Tell about a stored object, with its name below the source."""
        name = receipt.path.removeprefix(f"{self._root}/")
        self._progress.stored(name, receipt)

    def hear(self, event: SyncEvent) -> None:
        """Take in one step."""
        if event.kind is EventKind.BYTES:
            self._progress.move(event.size)
        elif event.kind is EventKind.SENT:
            self._progress.end_one(is_file=True)
        elif event.error is not None:
            self._progress.fail(f"{self._root}/{event.name}", event.name, event.error)
        elif event.kind is EventKind.PLAN:
            self._progress.meter.files = event.count
            self._progress.meter.size = event.size
        elif event.kind is EventKind.LEFT_OUT:
            self._line(f"left out: {shown_text(event.name)} ({event.why})")
            self._say("left_out", name=event.name, why=event.why)
        elif event.kind is EventKind.DELETED:
            self._line(f"deleted: {shown_text(event.name)}")
            self._say("deleted", name=event.name, size=event.size)

    def ask(self, extra: Sequence[Extra]) -> None:
        """Ask whether *extra* shall go.

        Raises:
            click.ClickException: it shall not.
        """
        for one in extra[:_SHOWN]:
            click.echo(f"would be deleted: {shown_text(one.name)}", err=True)
        if len(extra) > _SHOWN:
            click.echo(
                f"and {len(extra) - _SHOWN} more (--dry-run lists all)", err=True
            )
        if not click.confirm(f"Delete {len(extra)} objects?", err=True):
            raise click.ClickException("nothing was done")

    def would(self, result: SyncResult) -> None:
        """Tell what a run would do: one line, or one event, for each object."""
        out, plan = self._transfer.out, result.plan
        as_json = self._transfer.as_json
        for item in plan.send:
            name, size = item.entry.name, item.entry.size
            self._say("send", name=name, size=size, why=item.why)
            if not as_json:
                shown = "?" if size is None else short_bytes(size)
                out.line(f"send {shown_text(name)} ({item.why}, {shown})")
        for extra in [] if result.kept else plan.extra:
            self._say("delete", name=extra.name, size=extra.size)
            if not as_json:
                out.line(f"delete {shown_text(extra.name)}")
        for name, what in plan.left_out.items():
            self.hear(SyncEvent(EventKind.LEFT_OUT, name, why=what))
        for name, error in result.problems.items():
            self._say("failed", name=name, error=why(error))
            if not as_json:
                self._transfer.err.line(f"cannot send {shown_text(name)}: {why(error)}")
        self._counts(result, "to send", len(plan.send), 0 if result.kept else len(plan.extra))  # fmt: skip

    def end(self, result: SyncResult) -> None:
        """Tell what the summary of the transfer does not."""
        self.result = result
        self._counts(result, "sent", result.sent, len(result.deleted))

    def _counts(self, result: SyncResult, verb: str, sent: int, deleted: int) -> None:
        counts = {
            "same": result.same,
            "deleted" if verb == "sent" else "to delete": deleted,
            "kept, because something failed": result.kept,
            "left out": len(result.left_out),
            "not covered": len(result.uncovered),
        }
        said = [f"{number} {what}" for what, number in counts.items() if number]
        self._line(", ".join([f"{sent} {verb}", *said]))
        self._say(
            "plan" if result.dry_run else "sync",
            sent=sent,
            same=result.same,
            deleted=deleted,
            kept=result.kept,
            left_out=len(result.left_out),
            uncovered=sorted(result.uncovered),
            exit_code=int(result.exit_code),
        )

"""The options of a command that moves bytes: how fast, how many, and who is told.

``@transfer_options`` hands a command ``transfer=``, a :class:`Transfer`;
``@storing_options`` hands one that stores objects ``storing=``, a :class:`Storing`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import field, frozen

from .errors import UploadDiscardedError, UploadErrors
from .exit_code import ExitCode
from .interruption import interruptible
from .model import KIB, Receipt
from .options import STORAGE_CLASSES
from .rate import Rate
from .receipts import ReceiptFile, receipt_writer
from .summary import Summary
from .terminal import Output
from .transfer_progress import Events, Lines, Quiet, TransferProgress
from .units import bytes_of

F = TypeVar("F", bound=Callable[..., Any])

_LEAST_RATE = 16 * KIB
# Slower than this no connection should be: stores and proxies end those that idle.
_LEAST_EACH = 64 * KIB
_MOST_JOBS = 16  # the default of max_concurrency


def _stdout() -> Output:
    return Output(sys.stdout)


def _stderr() -> Output:
    return Output(sys.stderr)


@frozen(kw_only=True)
class Transfer:
    """How a command moves bytes.

    Attributes:
        jobs: requests in flight at most; None for the default.
        rate: bytes a second over all of them; None for no limit.
        as_json: whether events go to standard output.
        quiet: whether only failures are told.
        fail_fast: whether the first failure stops the rest.
        out, err: standard output and standard error.
    """

    jobs: int | None = None
    rate: Rate | None = None
    as_json: bool = False
    quiet: bool = False
    fail_fast: bool = False
    out: Output = field(factory=_stdout)
    err: Output = field(factory=_stderr)

    @property
    def on_error(self) -> str:
        """What the verbs of the filesystem are told."""
        return "raise" if self.fail_fast else "return"

    def options(self) -> dict[str, Any]:
        """Return storage options; a slow line gets few connections."""
        jobs = self.jobs
        if self.rate is not None:
            fitting = max(1, int(self.rate.per_second // _LEAST_EACH))
            jobs = min(jobs or _MOST_JOBS, fitting)
        return {} if jobs is None else {"max_concurrency": jobs}

    def progress(self, **facts: Any) -> TransferProgress:
        """Return the callback for a verb; *facts* are those of TransferProgress."""
        display: Quiet | Events = Lines(self.err)
        if self.as_json:
            display = Events(self.out)
        elif self.quiet:
            display = Quiet()
        return TransferProgress(display, rate=self.rate, **facts)

    def lift(self) -> None:
        """Let nobody wait for the rate any more; may be called by a signal's handler."""
        if self.rate is not None:
            self.rate.lift()

    def carry_out(
        self, verb: str, progress: TransferProgress, act: Callable[[], object]
    ) -> ExitCode:
        """Do what a command is for, tell how it ended, and return the exit code.

        Args:
            verb: ``stored``, ``fetched`` or ``deleted``, for the last line.
            progress: counts while *act* runs.
            act: does it. What it raises about a single file is in the summary; what is
                wrong with the whole is raised.
        """
        interrupted = given_up = False
        try:
            with interruptible(self.lift):
                act()
        except KeyboardInterrupt:
            interrupted = True
        except UploadErrors as error:
            given_up = True
            for path, one in error.failures.items():
                progress.fail(path, "", one)
        except BrokenPipeError:
            raise
        except OSError as error:
            if not any(error is one.error for one in progress.failures.values()):
                raise
        meter = progress.meter
        failures = [
            one
            for one in progress.failures.values()
            if not (interrupted and isinstance(one.error, UploadDiscardedError))
        ]
        summary = Summary(
            verb=verb,
            done=meter.files_done,
            files=meter.files,
            failures=failures,
            size=None if verb == "deleted" else meter.done,
            seconds=meter.seconds,
            interrupted=interrupted,
            given_up=given_up or progress.given_up,
        )
        self.say(summary)
        return summary.code

    def say(self, summary: Summary) -> None:
        """Tell how it ended."""
        if self.as_json:
            Events(self.out).say("end", **summary.as_dict())
            return
        *failures, last = summary.lines(self.err.room)
        for line in failures:
            self.err.line(self.err.red(line))
        if not self.quiet or summary.code:
            self.err.line(last)


@frozen(kw_only=True)
class Storing:
    """What objects are stored with, and what is kept of that.

    Attributes:
        given: storage options.
        receipts: a file, a directory, or ``-``; None for nobody.
    """

    given: dict[str, Any]
    receipts: str | None = None

    @property
    def resumes(self) -> bool:
        """Whether an interrupted upload can be gone on with."""
        return "checkpoint" in self.given

    def options(self, transfer: Transfer, stored: Callable[[Receipt], None]) -> Any:
        """Return storage options; *stored* is called for each object, if that is wanted.

        Only then: who completes an upload from receipts must have asked for them.

        Raises:
            ConfigurationError: there is no place for receipts.
        """
        options = {**transfer.options(), **self.given}
        takers = [stored] if transfer.as_json else []
        if self.receipts == "-":
            takers.append(_printer(transfer.out))
        elif self.receipts is not None:
            takers.append(_keeper(self.receipts))
        if takers:

            def take(receipt: Receipt) -> None:
                for one in takers:
                    one(receipt)

            options["receipts"] = take
        return options


def _printer(out: Output) -> Callable[[Receipt], None]:
    return lambda receipt: out.line(json.dumps(receipt.as_dict()))


def _keeper(place: str) -> Callable[[Receipt], None]:
    """Return what appends to a file; *place* is a directory if it looks like one."""
    if place.endswith("/") or os.path.isdir(place):
        return receipt_writer(place)
    path = Path(os.path.expanduser(place)).absolute()
    if not path.parent.is_dir():
        raise click.UsageError(
            f"--receipts {place}: there is no directory {path.parent}"
        )
    return ReceiptFile(path)


def pair_of(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``.

    Raises:
        ValueError: it is none.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        msg = "write it as NAME=VALUE"
        raise ValueError(msg)
    return name.strip(), value.strip()


def rate_of(text: str) -> Rate:
    """Read bytes a second: ``500K``, ``10MiB``, ``2M/s``.

    Raises:
        ValueError: it is none, or too slow for any connection.
    """
    size = bytes_of(text.strip().removesuffix("/s"))
    if size < _LEAST_RATE:
        msg = f"{text[:40]!r} is too slow: 16K a second is the least"
        raise ValueError(msg)
    return Rate(size)


def _read_by(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return *convert* with errors as click shows them."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return converted


SIZE = _read_by(bytes_of)
PAIR = _read_by(pair_of)
_RATE = _read_by(rate_of)

# fmt: off
_TRANSFER = (
    click.option("--jobs", type=click.IntRange(1, 1024),
                 help=f"Requests in flight at most.  [default: {_MOST_JOBS}]"),
    click.option("--bwlimit", "rate", type=_RATE, metavar="BYTES/s",
                 help="Bytes a second over all of them: 500K, 10MiB."),
    click.option("--fail-fast", is_flag=True, help="Stop at the first failure."),
    click.option("--json", "as_json", is_flag=True,
                 help="Print events as JSON lines, and nothing else."),
    click.option("--quiet", "-q", is_flag=True, help="Tell failures only."),
)
_STORING = (
    click.option("--header", "headers", type=PAIR, multiple=True, metavar="NAME=VALUE",
                 help="Header to send, signed so; may be repeated."),
    click.option("--metadata", type=PAIR, multiple=True, metavar="NAME=VALUE",
                 help="Header x-oss-meta-NAME; may be repeated."),
    click.option("--content-type", help="Else the signer may choose by the name."),
    click.option("--storage-class", type=click.Choice(STORAGE_CLASSES)),
    click.option("--no-overwrite", is_flag=True,
                 help="An object that is there stays: an error, never replaced."),
    click.option("--part-size", type=SIZE, metavar="BYTES",
                 help="Bytes of a part of a large file.  [default: 8MiB]"),
    click.option("--resume", is_flag=True,
                 help="Keep journals, and go on where an earlier run ended."),
    click.option("--checkpoint", metavar="DIR", type=click.Path(file_okay=False),
                 help="Where the journals are; means --resume.  "
                      "[default: ~/.local/state/osspresigned]"),
    click.option("--receipts", metavar="FILE|DIR/|-",
                 help="Append a JSON line for each stored object."),
)
# fmt: on


def transfer_options(function: F) -> F:
    """Add the options to a command; it gets ``transfer``."""

    @functools.wraps(function)
    def command(
        *arguments: Any,
        jobs: int | None,
        rate: Rate | None,
        fail_fast: bool,
        as_json: bool,
        quiet: bool,
        **rest: Any,
    ) -> Any:
        transfer = Transfer(
            jobs=jobs, rate=rate, as_json=as_json, quiet=quiet, fail_fast=fail_fast
        )
        return function(*arguments, transfer=transfer, **rest)

    for option in reversed(_TRANSFER):
        command = option(command)
    return command  # type: ignore[return-value]  # the same with other keywords


def storing_options(function: F) -> F:
    """Add the options to a command; it gets ``storing``. Needs ``transfer``, too."""

    @functools.wraps(function)
    def command(
        *arguments: Any,
        transfer: Transfer,
        headers: Sequence[tuple[str, str]],
        metadata: Sequence[tuple[str, str]],
        no_overwrite: bool,
        resume: bool,
        receipts: str | None,
        **rest: Any,
    ) -> Any:
        names = ("content_type", "storage_class", "part_size", "checkpoint")
        given = {name: rest.pop(name) for name in names}
        if given["checkpoint"] is None and resume:
            given["checkpoint"] = journals()
        given = {name: value for name, value in given.items() if value is not None}
        if headers:
            given["headers"] = dict(headers)
        if metadata:
            given["metadata"] = dict(metadata)
        if no_overwrite:
            given["overwrite"] = False
        if receipts == "-" and transfer.as_json:
            raise click.UsageError("--json prints the receipts already: leave out one")
        storing = Storing(given=given, receipts=receipts)
        return function(*arguments, transfer=transfer, storing=storing, **rest)

    for option in reversed(_STORING):
        command = option(command)
    return command  # type: ignore[return-value]  # the same with other keywords


def journals() -> str:
    """Return the directory for ``--resume``: below XDG_STATE_HOME, or ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "osspresigned")

"""The options of a command that moves bytes: how fast, how many, and who is told.

``@transfer_options`` hands a command ``transfer=``, a :class:`Transfer`;
``@storing_options`` hands one that stores objects ``storing=``, a :class:`Storing`.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from attrs import field, frozen

from ..client.receipts import ReceiptFile, receipt_writer
from ..console.exit import ExitCode, interruptible
from ..console.progress import Display, Events, Lines, RateLimit, TransferProgress
from ..console.summary import Summary
from ..console.terminal import Output, warnings_said
from ..errors import ConfigurationError, UploadDiscardedError, UploadErrors
from ..filesystem.write import OSSPresignedFileSystem
from ..model import STORAGE_CLASSES, Receipt
from ..owner.inspect import is_presigned
from ..secret import Secret, resolve_text
from ..signers.presigned import OneURLSigner
from ..units import KIB, bytes_of, seconds_of

# Third-party packages that only some commands need.


@contextmanager
def needs(name: str) -> Iterator[None]:
    """Turn a missing third-party package into one line that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fsspec_osspresigned"):
            raise
        raise click.UsageError(
            f"this needs the package {error.name}: "
            f"pip install 'fsspec-osspresigned[{name}]'"
        ) from error


# The options of a command that say where signatures come from.

F = TypeVar("F", bound=Callable[..., Any])

_MAX_URL_FILE = 64 * KIB
_SOURCES = (
    "here that is --map MAP, --signer SIGNER or, to upload one file, --url-file FILE"
)
REMEDY = (
    "a presigned URL on the command line can be read by everybody on this machine (ps) "
    "and stays in the shell's history: save it in a file and name that, or paste it "
    "into standard input (-); to upload with it, --url-file FILE or --url-file -"
)


@frozen
class Connection:
    """What the options of a command say about signatures.

    Attributes:
        options: storage options as they were given; without the URL.
        url_file: where one presigned URL is: a file, ``-`` or ``env:NAME``; None if
            signatures come from elsewhere.
    """

    options: Mapping[str, Any]
    url_file: str | None = None

    def filesystem(self, **more: Any) -> OSSPresignedFileSystem:
        """Return the filesystem that is meant; *more* storage options count first.

        Raises:
            ConfigurationError: with every problem of the options.
        """
        given = {**self.options, **more}
        if self.url_file is None:
            try:
                return OSSPresignedFileSystem(**given)
            except ConfigurationError as error:
                if "url_map" in given or "signer" in given:
                    raise
                raise ConfigurationError([*error.problems, _SOURCES]) from None
        signer = OneURLSigner(
            _reader(self.url_file), allow_http=bool(given.get("allow_http"))
        )
        return OSSPresignedFileSystem(**{**given, "signer": signer})

    def path(self, filesystem: OSSPresignedFileSystem, given: str) -> str:
        """Return ``bucket/key``; nothing *given* means the object of the one URL."""
        if given or self.url_file is None:
            return given
        return str(getattr(filesystem.client.signer, "path", ""))


def _reader(place: str) -> Callable[[], Secret]:
    """Return what reads the one URL; standard input is read once, and only now."""
    if place == "-":
        text = url_of(_pasted())
        return lambda: text
    reference = place if place.startswith(("env:", "file:")) else f"file:{place}"
    return lambda: url_of(resolve_text(reference).reveal())


def _pasted() -> str:
    """Return standard input; at a terminal one line, which is not shown."""
    if sys.stdin.isatty():
        said = "paste the presigned URL (it is not shown), then Enter"
        return str(click.prompt(said, hide_input=True, err=True))
    return sys.stdin.buffer.read(_MAX_URL_FILE).decode("utf-8-sig", "replace")


def url_of(text: str) -> Secret:
    """Return the one URL of *text*, as it was pasted from a message.

    Raises:
        ConfigurationError: there is none, or more than one line.
    """
    text = text.removeprefix("\ufeff").strip().strip("<>\"'")
    if not text:
        raise ConfigurationError("--url-file holds nothing: paste the presigned URL")
    if "\n" in text or "\r" in text:
        msg = "--url-file holds several lines: a presigned URL is one, without breaks"
        raise ConfigurationError(msg)
    return Secret(text)


def refuse_presigned(arguments: Sequence[str]) -> None:
    """Refuse a command line that holds a presigned URL, wherever that stands.

    Raises:
        click.UsageError: with what to do instead.
    """
    for argument in arguments:
        if is_presigned(argument) or is_presigned(argument.partition("=")[2]):
            raise click.UsageError(REMEDY)


def _life(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else seconds_of(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


# fmt: off
_URL_FILE = click.option(
    "--url-file", metavar="FILE|-",
    help="One presigned URL: in a file, on standard input (-), or env:NAME.",
)
_OPTIONS = (
    click.option("--map", "url_map", metavar="MAP",
                 help="URL map: a file, env:NAME, or a URL that fsspec can read."),
    click.option("--signer", metavar="SIGNER",
                 help="A signer's URL, keys (from the environment), or MODULE:FUNCTION."),
    click.option("--token", "signer_token", metavar="REFERENCE",
                 help="The signer's token: env:OSSPRESIGNED_... or file:PATH."),
    click.option("--region", help="Of keys; else OSS_REGION."),
    click.option("--endpoint", help="Of keys; else OSS_ENDPOINT, or that of the region."),
    click.option("--addressing-style", type=click.Choice(["virtual", "path", "cname"]),
                 help="Of keys: how the bucket is addressed."),
    click.option("--expires", "expires_in", callback=_life, metavar="LIFE",
                 help="Life that is wished for signatures: 90s, 30m, 2h.  [default: 1h]"),
    click.option("--allowed-host", "hosts", multiple=True, metavar="HOST[=BUCKET]",
                 help="Host of signed URLs outside OSS; may be repeated."),
    click.option("--allow-http", is_flag=True, help="Plain http may leave this machine."),
    click.option("--retries", type=click.IntRange(0, 100),
                 help="Tries after a failed one.  [default: 5]"),
    click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                 help="How long nothing may move.  [default: 60]"),
)
# fmt: on
_NAMES = (
    "url_map",
    "signer",
    "signer_token",
    "region",
    "endpoint",
    "addressing_style",
    "expires_in",
    "retries",
    "timeout",
)


def connection_options(function: F) -> F:
    """Add the options to a command; it gets ``connection``, a :class:`Connection`.

    While the command runs, warnings are lines on standard error.
    """
    return _URL_FILE(many_connection_options(function))


def many_connection_options(function: F) -> F:
    """Add them without ``--url-file``: one URL is for one upload, and nothing else."""

    @functools.wraps(function)
    def command(
        *arguments: Any,
        url_file: str | None = None,
        hosts: Sequence[str],
        allow_http: bool,
        **rest: Any,
    ) -> Any:
        given = {name: rest.pop(name) for name in _NAMES}
        options = {name: value for name, value in given.items() if value is not None}
        if url_file is not None and ("url_map" in options or "signer" in options):
            raise click.UsageError("--url-file stands alone: leave out --map, --signer")
        if allow_http:
            options["allow_http"] = True
        if hosts:
            pairs = (host.lower().partition("=") for host in hosts)
            options["allowed_hosts"] = {host: name or None for host, _, name in pairs}
        place = url_file
        if place is not None and place != "-" and not place.startswith("env:"):
            place = os.path.abspath(os.path.expanduser(place.removeprefix("file:")))
        connection = Connection(options, place)
        with warnings_said():
            return function(*arguments, connection=connection, **rest)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value]  # the same with other keywords


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
    rate: RateLimit | None = None
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
        display: Display = Lines(self.err)
        if self.as_json:
            display = Events(self.out)
        elif self.quiet:
            display = Display()
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


def rate_of(text: str) -> RateLimit:
    """Read bytes a second: ``500K``, ``10MiB``, ``2M/s``.

    Raises:
        ValueError: it is none, or too slow for any connection.
    """
    size = bytes_of(text.strip().removesuffix("/s"))
    if size < _LEAST_RATE:
        msg = f"{text[:40]!r} is too slow: 16K a second is the least"
        raise ValueError(msg)
    return RateLimit(size)


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
        rate: RateLimit | None,
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

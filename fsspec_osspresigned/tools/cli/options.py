"""Shared options of commands, collected into frozen values.

:func:`option` declares an option as a field of an attrs class. A command names such
classes as annotations of its parameters; ``@takes`` adds their options to the command
and passes one instance of each.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_type_hints

import click
from attrs import field, fields, frozen, has

from ...errors import ConfigurationError, UploadErrors
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...filesystem.receipts import ReceiptFile, receipt_writer
from ...model import (
    CONNECTIONS,
    MAX_SMALL,
    STORAGE_CLASSES,
    STYLES,
    Receipt,
)
from ...options.trust import trust
from ...secret import Secret
from ...signers.description import names_objects
from ...units import KIB, bytes_of, rate_of, seconds_of, shown_text
from ...url_checks import is_presigned, scheme_of
from ..failures import ExitCode
from ..interrupts import interruptible
from ..language import HelpFormatter, translated, translated_whole
from ..output import Output, log_taken, message_of
from ..progress import RateLimit, TransferProgress
from ..summary import Summary

C = TypeVar("C", bound=click.Command)

_MAX_URL_FILE = 64 * KIB
_MIN_RATE = 16 * KIB
# The store or a proxy may close a slower connection, because it looks idle.
_MIN_RATE_EACH = 64 * KIB
# Maximum number of requests in flight if --bwlimit is given and parts are kept.
_IN_FLIGHT_KEPT = 2
# An object that the token may not read is reported as an error, not as missing.
STRICT = {"if_unverifiable": "error"}
_LOG = "fsspec_osspresigned"
_OF_RESUMING = (f"{_LOG}.upload.resume", f"{_LOG}.objects.download")
_OF_FAILURES = f"{_LOG}.upload.upload"
_FILES = "files/"  # destination if the server chooses the names
MAX_SHOWN = 10  # names that a command shows before it asks whether to delete them
_REMEDY = (
    "a presigned URL on the command line can be read by everybody on this machine (ps) "
    "and stays in the shell's history: save it in a file and name that, or paste it "
    "into standard input (-); to upload with it, --url-file FILE or --url-file -"
)


def read_by(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a click type that calls *convert*; its ValueError becomes a UsageError."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return converted


def _pair_of(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError("write it as NAME=VALUE")
    return name.strip(), value.strip()


def _host_of(text: str) -> tuple[str, str | None]:
    host, _, bucket = text.lower().partition("=")
    return host, bucket or None


def _limit_of(text: str) -> RateLimit:
    if (rate := rate_of(text)) < _MIN_RATE:
        raise ValueError(f"{text[:40]!r} is too slow: 16K a second is the least")
    return RateLimit(rate)


def object_path(text: str) -> str:
    """Return *text* without ``oss://`` or ``osspresigned://``: ``bucket/key``.

    UsageError for any other scheme.
    """
    path = text.removeprefix("osspresigned://").removeprefix("oss://")
    if scheme := scheme_of(path):
        raise click.UsageError(f"{scheme} is no scheme here: write BUCKET/KEY")
    return path


def is_local(text: str) -> bool:
    """Return whether *text* can only be a local path, such as ``./in`` or ``/in``."""
    return text in (".", "..") or bool(re.match(r"/|\.\.?[/\\]|~|[A-Za-z]:[/\\]", text))


def is_file_name(text: str) -> bool:
    """Return whether *text* may name a file, but no bucket of OSS, which has no dot."""
    return "." in text and "/" not in text


# with this type, the shell completes file names
PLACE = click.Path(readable=False, allow_dash=True)
SIZE = read_by(bytes_of)
LIFE = read_by(seconds_of)
PAIR = read_by(_pair_of)
OBJECTS = click.argument("paths", nargs=-1, required=True, type=object_path,
                         metavar="BUCKET/KEY...")  # fmt: skip

_GROUP = "Options"
_FLAG: dict[str, Any] = {"is_flag": True, "default": False}
PAIRS: dict[str, Any] = {"type": PAIR, "multiple": True, "converter": dict}


def _row(flags: str, text: str, **settings: Any) -> tuple[str, dict[str, Any]]:
    return flags.split(maxsplit=1)[0], {"flags": flags, "help": text, **settings}


# Options that several commands have, by their first flag.
SHARED: dict[str, dict[str, Any]] = dict([
    _row("--recursive -r", "Include directories.", **_FLAG),
    _row("--dry-run -n", "Print the planned actions, and change nothing.", **_FLAG),
    _row("--yes -y", "Do not ask first.", **_FLAG),
    _row("--json", "Print JSON.", **_FLAG),
    _row("--token REFERENCE", "Bearer token: env:OSSPRESIGNED_... or file:PATH."),
    _row("--region", "For keys.  [default: OSS_REGION, or that of the endpoint]"),
    _row("--endpoint",
         "For keys.  [default: OSS_ENDPOINT, or the region's public endpoint]"),
    _row("--addressing-style",
         "For keys: how URLs name the bucket: in the host (virtual), in the path, or by a "
         "domain of its own (cname).", type=click.Choice(STYLES)),
    _row("--allowed-host HOST[=BUCKET]",
         "Further permitted host of signed URLs; may be repeated.",
         **{**PAIRS, "type": read_by(_host_of)}),
    _row("--allow-http", "Permit plain http to other machines.", **_FLAG),
    _row("--to BUCKET/PREFIX/", "Destination of local files, as for fs.put().",
         type=object_path),
    _row("--header NAME=VALUE", "Header to sign and send; may be repeated.", **PAIRS),
    _row("--content-type", "Content-Type to sign and send."),
    _row("--storage-class", "Storage class of the objects.",
         type=click.Choice(STORAGE_CLASSES)),
    _row("--no-overwrite", "Do not permit replacing an existing object.", **_FLAG),
    _row("--part-size BYTES", "Size of a part in bytes.", type=SIZE),
    _row("--expires LIFE", "Lifetime of signatures: 90s, 30m, 2h, 7d.  [default: 1h]",
         type=LIFE),
    _row("--output -o FILE", "Output file, which is secret; - for a pipe.", type=PLACE),
    _row("--force", "Replace the file if it exists.", **_FLAG),
    _row("--size BYTES", "Size of the upload in bytes.", type=SIZE),
    _row("--upload-server-option NAME=VALUE",
         "Option of the upload server; may be repeated.", **PAIRS),
    _row("--port", "TCP port; 0 selects a free port.", type=click.IntRange(0, 65535),
         show_default=True),
])  # fmt: skip


def option(flags: str, text: str | None = None, **settings: Any) -> Any:
    """Return a field of an options class: a click option that has the field's name.

    *flags* are the flags and, if the option takes a value, its name: ``-o FILE``.
    *settings* are arguments of ``click.Option``; *converter* is passed to the field.
    Omitted arguments come from the row of ``SHARED`` with the same flag.
    """
    settings = {**SHARED.get(flags, {}), **settings}
    if text is not None:
        settings["help"] = text
    words = settings.pop("flags", flags).split()
    if not words[-1].startswith("-"):
        settings["metavar"] = words.pop()
    default = settings.get("default", () if settings.get("multiple") else None)
    converter = settings.pop("converter", None)
    declared = {"flags": words, "settings": settings}
    return field(default=default, converter=converter, metadata=declared)


def flag(flags: str, text: str) -> Any:
    return option(flags, text, is_flag=True, default=False)


def takes(command: C) -> C:
    """Add options to *command*, according to the annotations and names of its parameters.

    A parameter whose annotation is an attrs class gets an instance with all its options.
    A parameter that has the name of a row of ``SHARED`` gets the value of that option.
    Returns *command*.
    """
    callback: Any = command.callback
    known = {parameter.name for parameter in command.params}
    declared = {}
    for name, kind in get_type_hints(callback).items():
        flag = f"--{name.removeprefix('as_').replace('_', '-')}"
        if has(kind):
            own = [each for each in fields(kind) if "flags" in each.metadata]
            declared[name] = kind, [each.name for each in own]
            group = getattr(kind, "group", _GROUP)
            command.params += [
                _parameter(each.name, each.metadata, group) for each in own
            ]
        elif flag in SHARED and name not in known:
            command.params.append(_parameter(name, option(flag).metadata))

    @functools.wraps(callback)
    def collected(**values: Any) -> Any:
        for name, (kind, own) in declared.items():
            values[name] = kind(**{each: values.pop(each) for each in own})
        return callback(**values)

    command.callback = collected
    return command


def _parameter(
    name: str, declared: Mapping[str, Any], group: str = _GROUP
) -> click.Option:
    return _Option([*declared["flags"], name], group=group, **declared["settings"])


class _Option(click.Option):
    def __init__(self, *arguments: Any, group: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.group = group


class GroupingCommand(click.Command):
    """Command whose help lists its options in groups, by the classes that declare them."""

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            if isinstance(each, click.Option) and (record := each.get_help_record(ctx)):
                groups.setdefault(getattr(each, "group", _GROUP), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


# Accepted by commands that always include directories, because users of other tools
# expect it.
RECURSIVE = click.option("--recursive", "-r", is_flag=True, hidden=True,
                         expose_value=False, help="Directories are always included.")  # fmt: skip


@contextlib.contextmanager
def needs(name: str) -> Iterator[None]:
    """Within the block, raise UsageError for a missing package.

    The error names the extra *name* to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fsspec_osspresigned"):
            raise
        remedy = f"pip install 'fsspec-osspresigned[{name}]'"
        msg = f"this needs the package {error.name}: {remedy}"
        raise click.UsageError(msg) from error


def counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def asked(question: str, *, yes: bool = False) -> bool:
    """Ask *question*, and return the answer; with *yes*, True without asking.

    UsageError if standard input is not a terminal.
    """
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("standard input is not a terminal: give --yes")
    return yes or click.confirm(question, err=True)


def confirmed(
    names: Sequence[str],
    prefix: str = "",
    more: str = "",
    what: str = "object",
    verb: str = "delete",
) -> bool:
    """Print the first *names*, ask whether to *verb* all, and return the answer."""
    for name in names[:MAX_SHOWN]:
        click.echo(f"{translated(prefix)}{shown_text(name)}", err=True)
    if len(names) > MAX_SHOWN:
        click.echo(translated(f"and {len(names) - MAX_SHOWN} more{more}"), err=True)
    question = f"{verb} {counted(len(names), what)}?"
    return asked(translated_whole(question))


def without_none(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def refuse_presigned(arguments: Sequence[str]) -> None:
    """Raise UsageError if an argument is a presigned URL; name the right option."""
    for argument in arguments:
        if is_presigned(argument) or is_presigned(argument.partition("=")[2]):
            raise click.UsageError(_REMEDY)


@frozen(kw_only=True)
class ConnectionOptions:
    group: ClassVar = "Signatures and connections"
    # fmt: off
    url_map: str | None = option("--map MAP",
        "URL map: a file, env:NAME, or a URL that fsspec can read.", type=PLACE)
    signer: str | None = option("--signer SIGNER",
        "A signer's URL, keys (from the environment), or MODULE:FUNCTION.")
    signer_token: str | None = option("--token")
    region: str | None = option("--region")
    endpoint: str | None = option("--endpoint")
    addressing_style: str | None = option("--addressing-style")
    expires_in: int | None = option("--expires")
    allowed_hosts: Mapping[str, str | None] = option("--allowed-host")
    allow_http: bool = option("--allow-http")
    retries: int | None = option("--retries",
        "Maximum number of retries of a request.  [default: 5]", type=click.IntRange(0, 100))
    # fmt: on

    @property
    def options(self) -> dict[str, Any]:
        """Storage options from the command line; a presigned URL is not among them."""
        names = [each.name for each in fields(type(self))]
        options = {name: getattr(self, name) for name in names if name != "url_file"}
        options["allowed_hosts"] = self.allowed_hosts or None
        options["allow_http"] = self.allow_http or None
        options["upload_server_options"] = options.get("upload_server_options") or None
        return without_none(**options)

    @property
    def has_source(self) -> bool:
        return not {"url_map", "grant", "signer", "upload_server"}.isdisjoint(
            self.options
        )

    def filesystem(self, **more: Any) -> OSSPresignedFileSystem:
        """Return the filesystem for these options; options in *more* take precedence.

        The options count as trusted, because the user typed them.
        """
        trust(self.options)
        return OSSPresignedFileSystem(**{**self.options, **more})


# no slots, because subclasses have a second base class
@frozen(kw_only=True, slots=False)
class UploadServerOptions:
    # fmt: off
    upload_server: str | None = option("--upload-server NAME[+URL]",
        "Server of uploads: dashscope, companion+https://..., FILE.toml+https://...",
        type=PLACE)
    upload_server_options: Mapping[str, str] = option("--upload-server-option")
    # fmt: on


@frozen(kw_only=True)
class StoringConnectionOptions(ConnectionOptions, UploadServerOptions):
    """Connection options of uploads, which may also use a grant or an upload server."""

    # fmt: off
    grant: str | None = option("--grant GRANT",
        "Grant for a whole prefix: a file, env:NAME, a server's URL, or one that fsspec "
        "can read.", type=PLACE)
    # fmt: on

    @property
    def default_destination(self) -> str:
        """Destination of files if the user gives none; empty if the user must give one.

        For an upload server that names objects itself, it is ``files/``, a placeholder.
        A presigned URL needs no destination either, but does not use this property.
        """
        is_named = self.upload_server is not None and names_objects(self.upload_server)
        return _FILES if is_named else ""


@frozen(kw_only=True)
class UploadConnectionOptions(StoringConnectionOptions):
    """Connection options of uploads, which may also use one presigned URL.

    UsageError if another source of signatures is given beside the URL.
    """

    # fmt: off
    url_file: str | None = option("--url-file FILE|-",
        "One presigned URL, with its headers in further lines: in a file, on standard "
        "input (-), or env:NAME.", type=PLACE)
    # fmt: on

    def __attrs_post_init__(self) -> None:
        if self.url_file is not None and self.has_source:
            msg = "--url-file cannot be combined with other sources: leave out --map, --grant, --signer, --upload-server"
            raise click.UsageError(msg)

    def filesystem(self, **more: Any) -> OSSPresignedFileSystem:
        if self.url_file is not None:
            more["presigned_url"] = _presigned_url(self.url_file)
        return super().filesystem(**more)

    def path(self, filesystem: OSSPresignedFileSystem, path: str = "") -> str:
        """Return *path*, or the path of the presigned URL's object if *path* is empty.

        Empty if there is no presigned URL, or if it does not show its object.
        """
        if path or self.url_file is None:
            return path
        return str(getattr(filesystem.client.signer, "path", ""))


def _presigned_url(reference: str) -> Secret | str:
    """Return the presigned URL of standard input (``-``), or *reference* itself."""
    if reference.startswith("env:"):
        return reference
    if reference != "-":
        local = os.path.expanduser(reference.removeprefix("file:"))
        return f"file:{os.path.abspath(local)}"
    if sys.stdin.isatty():
        msg = "paste the presigned URL (it is not shown), then Enter"
        text = str(click.prompt(msg, hide_input=True, err=True))
    else:
        text = sys.stdin.buffer.read(_MAX_URL_FILE).decode("utf-8-sig", "replace")
    text = text.strip()
    if len(text.splitlines()) == 1:
        text = text.strip("<>\"'")
    if not text:
        raise ConfigurationError("--url-file holds nothing: paste the presigned URL")
    return Secret(text)


@frozen(kw_only=True)
class ReportOptions:
    group: ClassVar = "Transfer and output"
    # fmt: off
    as_json: bool = option("--json", "Print events as JSON lines, and nothing else.")
    quiet: bool = flag("--quiet -q", "Print only failures.")
    verbose: bool = flag("--verbose -v",
        "Print each finished file, each retry, and resumed uploads.")
    # fmt: on
    out: Output = field(factory=lambda: Output(sys.stdout))
    err: Output = field(factory=lambda: Output(sys.stderr))

    def __attrs_post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise click.UsageError("--quiet and --verbose: give one of them")

    @property
    def rate(self) -> RateLimit | None:
        return None

    def event(self, event: str, **members: Any) -> None:
        self.out.line(json.dumps({"event": event, **members}))

    def would(
        self, text: str, event: str, output: Output | None = None, /, **members: Any
    ) -> None:
        """Print *text*; with --json, print *event* with *members* instead.

        *output* None prints the text to standard output, where events always go.
        """
        if self.as_json:
            self.event(event, **members)
        elif output is None:  # phrases within names must not be translated
            self.out.line(translated_whole(text))
        else:
            output.line(translated(translated_whole(text)))

    def remark(self, text: str, event: str, **members: Any) -> None:
        """Print *text* to standard error, unless --quiet is given.

        With --json, print *event* with *members* to standard output instead, even with
        --quiet.
        """
        if self.as_json or not self.quiet:
            self.would(text, event, self.err, **members)

    def progress(
        self, verb: str = "uploaded", *, bar: bool = True, **facts: Any
    ) -> TransferProgress:
        return TransferProgress(
            verb,
            bar=bar and not (self.as_json or self.quiet),
            say=self.err.line if self.verbose and not self.as_json else None,
            event=self.event if self.as_json else None,
            rate=self.rate,
            **facts,
        )

    def carry_out(
        self,
        progress: TransferProgress,
        act: Callable[[], object],
        also: Callable[[], Sequence[str]] = list,
    ) -> ExitCode:
        """Call *act*, print a summary, and return the exit code.

        The summary also covers errors of single files, and Ctrl-C. Other errors are
        raised. *also* is called at the end, and returns more texts for the summary.
        """

        def end(*, terminated: bool = False) -> ExitCode:
            progress.close()
            summary = Summary(progress, also(), terminated)
            self._print(summary)
            return summary.code

        try:
            with (
                progress,
                self._log_shown(),
                interruptible(
                    progress.interrupt, at_sigterm=lambda: end(terminated=True)
                ),
            ):
                act()
        except KeyboardInterrupt as error:
            progress.interrupt()
            if not getattr(error, "__notes__", ()):
                # no request was sent whose reply is missing
                progress.in_flight.clear()
        except UploadErrors as error:
            progress.given_up = True
            for path, failure in error.failures.items():
                progress.fail(path, "", failure)
        except OSError as error:
            failures = progress.failures.values()
            is_listed = any(error is failure.error for failure in failures)
            if isinstance(error, BrokenPipeError) or not is_listed:
                raise
        return end()

    @contextlib.contextmanager
    def _log_shown(self) -> Iterator[None]:
        if self.as_json or self.quiet:
            yield
            return

        def show(record: logging.LogRecord) -> None:
            if record.name != _OF_FAILURES:  # the summary already names the failures
                self.err.line(message_of(record))

        names = [_LOG] if self.verbose else _OF_RESUMING
        with contextlib.ExitStack() as logs:
            for name in names:
                logs.enter_context(log_taken(name, logging.INFO, show))
            yield

    def _print(self, summary: Summary) -> None:
        if self.as_json:
            self.event("end", **summary.as_dict())
            return
        *failures, last = summary.lines()
        for line in failures:
            self.err.line(self.err.red(line))
        if not self.quiet or summary.code:
            self.err.line(last)


@frozen(kw_only=True)
class TransferOptions(ReportOptions):
    # fmt: off
    max_concurrency: int | None = option("--max-concurrency N",
        f"Maximum number of concurrent requests.  [default: {CONNECTIONS}, up to "
        f"{MAX_SMALL} for small files]",
        type=click.IntRange(1, 1024))
    rate: RateLimit | None = option("--bwlimit BYTES/s",
        "Maximum bytes per second of all requests: 500K, 10MiB.",
        type=read_by(_limit_of))
    fail_fast: bool = flag("--fail-fast", "Stop at the first failure.")
    # fmt: on

    @property
    def on_error(self) -> str:
        return "raise" if self.fail_fast else "return"

    def options(self) -> dict[str, Any]:
        """Return storage options: the number of connections, or none for the default.

        A low --bwlimit reduces the number, because a slow connection may look idle.
        """
        connections = self.max_concurrency
        if self.rate is not None:
            fitting = max(1, int(self.rate.per_second // _MIN_RATE_EACH))
            connections = min(connections or CONNECTIONS, fitting)
        return without_none(max_concurrency=connections)


@frozen(kw_only=True)
class StoringOptions:
    group: ClassVar = "Objects and resuming"
    # fmt: off
    headers: Mapping[str, str] = option("--header")
    metadata: Mapping[str, str] = option("--metadata NAME=VALUE",
        "Header x-oss-meta-NAME; may be repeated.", **PAIRS)
    content_type: str | None = option("--content-type",
        "Content-Type; by default guessed from the name of the object.")
    storage_class: str | None = option("--storage-class")
    no_overwrite: bool = option("--no-overwrite",
        "Fail instead of replacing an existing object.")
    part_size: int | None = option("--part-size",
        "Size of a part of a large file in bytes.  [default: 1 to 16 MiB, by its size]")
    resume: bool = flag("--resume",
        "Resume uploads of an earlier run, and keep parts of uploads that fail.")
    resume_dir: str | None = option("--resume-dir DIR",
        "Directory that records the parts; implies --resume.  "
        "[default: ~/.local/state/osspresigned]", type=click.Path(file_okay=False))
    receipts: str | None = option("--receipts FILE|DIR/|-",
        "Append a JSON line for each uploaded object.", type=PLACE)
    # fmt: on

    def options(
        self, transfer: TransferOptions, stored: Callable[[Receipt], None]
    ) -> dict[str, Any]:
        """Return storage options; with --json, *stored* is called for each object.

        Only --json and --receipts set the option ``receipts``. With that option, the
        package assumes that the owner may complete the uploads from receipts.
        """
        takers = [stored] if transfer.as_json else []
        if self.receipts == "-":
            if transfer.as_json:
                msg = "--json prints the receipts already: leave out one"
                raise click.UsageError(msg)
            out = transfer.out
            takers.append(lambda receipt: out.line(json.dumps(receipt.as_dict())))
        elif self.receipts is not None:
            takers.append(_keeper(self.receipts))

        def take(receipt: Receipt) -> None:
            for taker in takers:
                taker(receipt)

        kept = self.resume_dir or (default_resume_dir() if self.resume else None)
        limits = transfer.options()
        if kept is not None and transfer.rate is not None:
            # If the process ends, all parts in flight are lost. They also share the
            # rate, so each takes longer.
            connections = limits["max_concurrency"]
            limits["max_concurrency"] = min(connections, _IN_FLIGHT_KEPT)
        return limits | without_none(
            headers=self.headers or None,
            metadata=self.metadata or None,
            content_type=self.content_type,
            storage_class=self.storage_class,
            overwrite=False if self.no_overwrite else None,
            part_size=self.part_size,
            resume_dir=kept,
            receipts=take if takers else None,
        )


def _keeper(destination: str) -> Callable[[Receipt], None]:
    if destination.endswith("/") or os.path.isdir(destination):
        return receipt_writer(destination)
    file = Path(os.path.expanduser(destination)).absolute()
    if not file.parent.is_dir():
        msg = f"--receipts {destination}: there is no directory {file.parent}"
        raise click.UsageError(msg)
    return ReceiptFile(file)


def default_resume_dir() -> str:
    """Return the default ``resume_dir``, in XDG_STATE_HOME or ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "osspresigned")


def examples(lines: str) -> str:
    """Return the end of a help text: the example *lines*, not rewrapped."""
    return f"Examples:\n\n\b\n{lines}"


class _Context(click.Context):
    formatter_class = HelpFormatter


class UncutGroup(click.Group):
    """Command group that lists its commands in the order of addition.

    Their help texts are not cut off.
    """

    context_class = _Context

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        cmd.context_class = _Context
        # characters; more than any help text has
        cmd.short_help = cmd.get_short_help_str(1000)
        super().add_command(cmd, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)

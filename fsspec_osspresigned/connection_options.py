"""The options of a command that say where signatures come from.

``@connection_options`` adds them to a command and hands it ``connection=``, whose
``filesystem()`` is what they mean. Nothing is read or sent before that is called.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from attrs import frozen

from .errors import ConfigurationError
from .filesystem import OSSPresignedFileSystem
from .model import KIB
from .options import resolve_text
from .owner_inspect import is_presigned
from .secret import Secret
from .signers.url import OneURLSigner
from .terminal import warnings_said
from .units import seconds_of

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

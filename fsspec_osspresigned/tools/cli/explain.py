"""Command ``osspresigned explain``: why a store refused the upload of any program."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator

import click

from ...errors import ConfigurationError
from ...owner.explain import Explained, explain
from ...owner.refusal import MAX_TEXT
from ...units import shown_text
from ..failures import code_of, in_flags
from ..language import translated
from ..output import table
from .options import PLACE, examples, takes

_EXAMPLES = """\
  osspresigned explain refusal.txt
  osspresigned explain SignatureDoesNotMatch
  osspresigned explain --json < refusal.txt
"""
# text that may follow a URL and must not stay in the shell's history
_TOKEN = re.compile("(?i)security-?token")


@takes
@click.command(name="explain", epilog=examples(_EXAMPLES))
@click.argument("texts", nargs=-1, type=PLACE, metavar="[FILE|TEXT|-]...")
def explain_command(*, texts: tuple[str, ...], as_json: bool) -> int:
    """Explain why a store refused an upload of any program.

    The store is OSS or an S3-compatible one. Give everything that you have: the reply of
    the store, the output of curl -v, the exception of an SDK, and the presigned URL, in a
    FILE or on standard input (-). TEXT must not contain a presigned URL or a token.
    Without an argument, paste the refusal. Nothing is sent. No signature, token or key
    ID is printed. The exit code is that of an upload by put.
    """
    explained = explain("\n".join(map(_read, texts or ("-",))))
    if as_json:
        click.echo(json.dumps(explained.as_dict(), indent=2))
    else:
        rows = [(translated(n), translated(t)) for n, t in _rows(explained)]
        click.echo("\n".join(table(rows)))
    return code_of(explained.kind(""))


def _read(place: str) -> str:
    """Return the text of standard input (``-``), of a file, or *place* itself.

    UsageError if *place* itself contains a token; ConfigurationError if it looks like
    the name of a missing file.
    """
    if place == "-":
        if sys.stdin.isatty():
            click.echo(translated("paste the refusal, then Enter and Ctrl-D"), err=True)
        data = sys.stdin.buffer.read(MAX_TEXT + 1)
    elif os.path.isfile(place):
        with open(place, "rb") as file:
            data = file.read(MAX_TEXT + 1)
    elif _TOKEN.search(place):
        msg = "the text holds a token: save it in a file, or pipe it"
        raise click.UsageError(msg)
    elif re.fullmatch(r"\S*[./]\S*", place):
        raise ConfigurationError(f"there is no file {place}")
    else:
        return place
    return data.decode("utf-8-sig", "replace")


def _rows(explained: Explained) -> Iterator[tuple[str, str]]:
    status = f"HTTP {explained.status}" if explained.status else ""
    marks = [f"EC {explained.ec}"] if explained.ec else []
    marks += [f"request ID {explained.request_id}"] if explained.request_id else []
    named = " ".join(filter(None, (status, explained.code)))
    yield "refusal", ", ".join(filter(None, (named, *marks)))
    if explained.message:
        yield "message", shown_text(explained.message)
    yield from explained.url
    if explained.sent:
        yield "sent", shown_text(explained.sent)
    if explained.received:
        yield "received", shown_text(explained.received)
    for line in explained.differences:
        yield "difference", shown_text(line)
    for each in explained.causes:
        yield each.evidence, shown_text(each.cause)
        yield "remedy", shown_text(in_flags(each.remedy))

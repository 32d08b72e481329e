"""Language of the command line: Chinese by the locale or ``OSSPRESIGNED_LANG``, or English.

``chinese.toml`` has the translations, by their English texts. Only what people read is
translated: JSON, names, and what another program prints stay as they are.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import click

# As of gettext, with one of our own first.
_VARIABLES = ("OSSPRESIGNED_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
_HOLE = re.escape("{}")
_COUNTS = "counts"  # the section of texts that are translated as a whole


def is_chinese() -> bool:
    """Return whether the first variable of the language that is set names Chinese."""
    named = (os.environ.get(name) for name in _VARIABLES)
    return next(filter(None, named), "").lower().startswith("zh")


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """Return the sections: Chinese texts by English ones; ``{}`` stands for any text."""
    text = files(__package__).joinpath("chinese.toml").read_text("utf-8")
    return tomllib.loads(text)


def translated(text: str) -> str:
    """Return *text* with its known phrases in Chinese, if that is the language."""
    if not is_chinese():
        return text
    rows = [
        row
        for section, texts in catalogue().items()
        if section != _COUNTS
        for row in texts.items()
    ]
    pattern = _pattern(tuple(rows))
    return pattern.sub(lambda match: _filled(match, rows), text)


def translated_count(text: str) -> str:
    """Return *text*, which is a count such as ``3 failed``, in Chinese."""
    if not is_chinese():
        return text
    rows = [*catalogue()[_COUNTS].items()]
    match = _pattern(tuple(rows)).fullmatch(text)
    return text if match is None else _filled(match, rows)


@cache
def _pattern(rows: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    """Return a pattern of the English texts of *rows*; the name of a group is its number."""
    # The longest first, because it may contain a shorter one.
    ordered = sorted(enumerate(rows), key=lambda row: -len(row[1][0]))
    each = (f"(?P<r{number}>{_as_pattern(row[0])})" for number, row in ordered)
    return re.compile("|".join(each))


def _as_pattern(english: str) -> str:
    whole = re.escape(english)
    if english[0].isalnum():  # no part of a word
        whole = rf"(?<![\w-]){whole}"
    if whole.endswith(_HOLE):  # up to the next clause
        whole = f"{whole.removesuffix(_HOLE)}([^;:]+)"
    elif english[-1].isalnum():
        whole = rf"{whole}(?![\w-])"
    return whole.replace(_HOLE, "(.+?)")


def _filled(match: re.Match[str], rows: Sequence[tuple[str, str]]) -> str:
    name = match.lastgroup or ""
    chinese = rows[int(name.removeprefix("r"))][1]
    first = match.re.groupindex[name]
    return chinese.format(*match.groups()[first : first + chinese.count("{}")])


class HelpFormatter(click.HelpFormatter):
    """Formatter of click that writes help in the language of the user."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the line with the command and the names of its arguments."""
        super().write_usage(prog, args, translated(prefix or "Usage: "))

    def write_heading(self, heading: str) -> None:
        """Write the title of a section."""
        super().write_heading(translated(heading))

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        super().write_text("\n\n".join(map(_paragraph, text.split("\n\n"))))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], *args: Any, **more: Any
    ) -> None:
        """Write names and their texts in two columns."""
        super().write_dl(
            [(name, _paragraph(text)) for name, text in rows], *args, **more
        )


def _paragraph(text: str) -> str:
    if not is_chinese():
        return text
    if text.startswith("\b"):  # its lines stay as they are
        return "\n".join(map(translated, text.split("\n")))
    return translated(" ".join(text.split()))

"""Language of the command line: English, or Chinese by locale or ``OSSPRESIGNED_LANG``.

``chinese.toml`` maps English texts to Chinese ones. Only texts for people are
translated. JSON, names, and the output of other programs are not changed.
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

# gettext's variables, after one of this package.
_VARIABLES = ("OSSPRESIGNED_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
_HOLE = re.escape("{}")
_WHOLE = "whole"  # section with texts that are translated only as a whole
_GLUE = "\u2060"  # replaces a blank at which no line may break
# characters that take two columns each
_WIDE = re.compile("([\u3001-\u9fff\uff00-\uff60])")
# Blanks after an opening bracket, and before a closing bracket, comma, colon or full
# stop.
_NO_BREAK = re.compile("(?<=\uff08) | (?=[\u3001\u3002\uff09\uff0c\uff1a\uff1b\uff1f])")
_FILLED = re.compile(f"{_WIDE.pattern}[ {_GLUE}]")


def is_chinese() -> bool:
    """Return whether the first language variable that is set selects Chinese."""
    named = (os.environ.get(name) for name in _VARIABLES)
    return next(filter(None, named), "").lower().startswith("zh")


@cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """Return the sections, which map English texts to Chinese; ``{}`` is any text."""
    text = files(__package__).joinpath("chinese.toml").read_text("utf-8")
    return tomllib.loads(text)


def translated(text: str) -> str:
    """Return *text* with its known phrases in Chinese, if that is the language."""
    if not is_chinese():
        return text
    rows = [
        row
        for section, texts in catalogue().items()
        if section != _WHOLE
        for row in texts.items()
    ]
    # The last placeholder of a phrase ends with its clause.
    pattern = _pattern(tuple(rows), "[^;:]+")
    return pattern.sub(lambda match: _filled(match, rows), text)


def translated_whole(text: str) -> str:
    """Return *text*, such as ``3 failed``, in Chinese if the whole text is known."""
    if not is_chinese():
        return text
    rows = [*catalogue()[_WHOLE].items()]
    match = _pattern(tuple(rows), ".+").fullmatch(text)
    return text if match is None else _filled(match, rows)


def translated_list(texts: Iterable[str], mark: str = ", ") -> str:
    """Return *texts*, each translated as a whole, with *mark* between them."""
    return translated_whole(mark).join(map(translated_whole, texts))


@cache
def _pattern(rows: tuple[tuple[str, str], ...], last: str) -> re.Pattern[str]:
    """Return a pattern of the English texts in *rows*; each group is named by its number.

    *last* is the pattern for a placeholder at the end of a text.
    """
    # The longest text comes first, because it may contain a shorter one.
    ordered = sorted(enumerate(rows), key=lambda row: -len(row[1][0]))
    each = (f"(?P<r{number}>{_as_pattern(row[0], last)})" for number, row in ordered)
    return re.compile(f"(?:{'|'.join(each)})(?:[:;,] )?")


def _as_pattern(english: str, last: str) -> str:
    whole = re.escape(english)
    if whole.startswith(_HOLE):
        # a leading placeholder matches only a number, so it takes no other text before
        # it
        whole = rf"(?<!\S)(\d\S*){whole.removeprefix(_HOLE)}"
    elif english[0].isalnum():  # a match within a word does not count
        whole = rf"(?<![\w-]){whole}"
    if whole.endswith(_HOLE):
        whole = f"{whole.removesuffix(_HOLE)}({last})"
    elif english[-1].isalnum():
        whole = rf"{whole}(?![\w-])"
    return whole.replace(_HOLE, "(.+?)")


def _filled(match: re.Match[str], rows: Sequence[tuple[str, str]]) -> str:
    name = match.lastgroup or ""
    chinese = rows[int(name.removeprefix("r"))][1]
    first = match.re.groupindex[name]
    text = chinese.format(*match.groups()[first : first + chinese.count("{}")])
    mark = match.string[match.end(name) : match.end()]
    return text + catalogue()[_WHOLE].get(mark, mark)


class HelpFormatter(click.HelpFormatter):
    """Formatter of click that writes help in the language of the user.

    click wraps lines only at blanks, and counts a Chinese character as one column.
    Until the text is complete, each character is followed by a blank or glue, which
    solves both problems.
    """

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

    def getvalue(self) -> str:
        """Return the text."""
        return _FILLED.sub(r"\1", super().getvalue())


def _paragraph(text: str) -> str:
    if not is_chinese():
        return text
    if text.startswith("\b"):  # the lines of such a paragraph are not wrapped
        text = "\n".join(map(translated, text.split("\n")))
    else:
        text = translated(" ".join(text.split()))
    return _NO_BREAK.sub(_GLUE, _WIDE.sub(r"\1 ", text))

"""Help texts that fit narrow terminals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import click
from click.formatting import wrap_text

_LEAST_ROOM = 24  # columns of an explanation beside what it explains
_INNER = 6  # columns before the second line of a command
_UNCUT = 1000  # characters, more than any first sentence has
# A command, or its second line; words may be quoted.
_is_command = re.compile(r" +(\S.*)?(osspresigned |--[a-z]).*|      ssh .*").fullmatch
_row_of = re.compile(r"( +)(\S+) {2,}(\S.*)").fullmatch
_WORDS = re.compile(r"(?:'[^']*'|[^ '])+")
# The same, but options together with their values.
_UNITS = re.compile(r"(?:--?[a-z-]+ (?![-\\|]))?(?:'[^']*'|[^ '])+")


def examples(lines: str) -> str:
    """Return the end of a help text: the example *lines*, not rewrapped."""
    return f"Examples:\n\n\b\n{lines}"


class NarrowFormatter(click.HelpFormatter):
    """Help formatter; on a narrow terminal, explanations are below their options."""

    def write_text(self, text: str) -> None:
        """Write paragraphs; a long command becomes lines that end in a backslash."""
        room = self.width - self.current_indent
        lines = (
            [line] if len(line) <= room else _fitted(line, room)
            for line in text.split("\n")
        )
        super().write_text("\n".join(line for group in lines for line in group))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write a list of terms with their explanations."""
        rows = list(rows)
        longest = min(col_max, max(len(term) for term, _ in rows))
        room = self.width - self.current_indent - longest - col_spacing
        if room >= _LEAST_ROOM:
            super().write_dl(rows, col_max, col_spacing)
            return
        front = " " * self.current_indent
        for term, text in rows:
            for line in _term_lines(term, self.width - self.current_indent):
                self.write(f"{front}{line}\n")
            if text:
                inner = f"{front}    "
                self.write(f"{wrap_text(text, self.width, inner, inner)}\n")


def _fitted(line: str, room: int) -> list[str]:
    """Return *line* wrapped to *room* columns, if it is a command or a table row.

    Other lines are returned unchanged.
    """
    if row := _row_of(line):
        return [f"{row[1]}{row[2]}", f"{row[1]}    {row[3]}"]
    if not _is_command(line):
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    inner = max(indent, " " * _INNER)
    room -= len(inner) + len(" \\")
    units = _UNITS.findall(line)
    words = [
        word
        for unit in units
        for word in ([unit] if len(unit) <= room else _WORDS.findall(unit))
    ]
    found = _filled(words, room)
    return [indent + found[0], *(inner + one for one in found[1:])]


def _filled(words: Sequence[str], room: int) -> list[str]:
    """Return *words* in lines of *room* columns, all but the last ending in a backslash."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) > room and word != "\\":
            lines[-1] += " \\"
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return lines


def _term_lines(term: str, room: int) -> Iterator[str]:
    """Yield the lines of an option's name, broken at spaces and between choices."""
    line = ""
    for piece in re.findall(r"[^ |]*[ |]?", term):
        if line and len(line) + len(piece.rstrip()) > room:
            yield line.rstrip()
            line = "  "
        line += piece
    yield line


class HelpContext(click.Context):
    """click context whose help texts fit the terminal."""

    formatter_class = NarrowFormatter


class UncutGroup(click.Group):
    """Command group that lists its commands in the order of addition, unabridged."""

    context_class = HelpContext

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; a summary that is too long for a line is wrapped, not cut."""
        cmd.short_help = cmd.get_short_help_str(_UNCUT)
        cmd.context_class = HelpContext
        super().add_command(cmd, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of commands in the order in which they were added."""
        del ctx
        return list(self.commands)

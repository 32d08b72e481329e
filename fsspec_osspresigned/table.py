"""Rows of text: in columns, or below each other where columns would not fit."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

_GAP = "  "
_WHOLE = "object"  # a name that is not broken at its blanks: people copy it


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* in columns; the last one keeps its own length."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(cells).rstrip()


def pairs(rows: Sequence[tuple[str, str]], room: int | None) -> Iterator[str]:
    """Yield names and values; long values go on below themselves, but for objects.

    Args:
        rows: pairs of a name and its value.
        room: columns of a line; None for lines of any length.
    """
    if room is None:
        yield from table(rows)
        return
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        head = f"{name:<{width}}{_GAP}"
        if name == _WHOLE:
            yield f"{head}{value}"
        else:
            yield from wrapped(value, room, head)


def table_or_pairs(
    head: Sequence[str], rows: Sequence[Sequence[str]], room: int | None
) -> Iterator[str]:
    """Yield *rows* below *head*; as a block for each of them if that would not fit.

    Args:
        head: the names of the columns.
        rows: what is below each of them.
        room: columns of a line; None for lines of any length.
    """
    lines = list(table([head, *rows]))
    if room is None or max(map(len, lines)) <= room:
        yield from lines
        return
    for number, row in enumerate(rows):
        if number:
            yield ""
        yield from pairs(list(zip(head, row, strict=True)), room)


def wrapped(text: str, room: int, head: str = "") -> list[str]:
    """Return *text* in lines that are broken at blanks only.

    Args:
        text: of one line.
        room: columns of a line; a longer word has a line for itself.
        head: before the first line; the others are indented as far.
    """
    return textwrap.wrap(
        text,
        room,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )

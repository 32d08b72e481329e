"""HTML tables, as notebooks show values that have ``_repr_html_``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[object]]
) -> str:
    """Return *rows* below *head* as one table; no text in them is taken as HTML."""
    lines = [f"<tr>{_cells('th', head)}</tr>"]
    lines += (f"<tr>{_cells('td', row)}</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption>{''.join(lines)}</table>"


def _cells(tag: str, texts: Iterable[object]) -> str:
    return "".join(f"<{tag}>{escape(str(text))}</{tag}>" for text in texts)

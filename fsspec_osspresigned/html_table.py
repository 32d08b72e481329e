"""HTML tables for notebooks, which call ``_repr_html_`` to show a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def html_table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[object]]
) -> str:
    """Return an HTML table of *rows* with the caption *title* and column names *head*.

    Texts are escaped.
    """
    from html import escape  # noqa: PLC0415 - its table of entities is only for notebooks

    def cells(tag: str, texts: Iterable[object]) -> str:
        return "".join(f"<{tag}>{escape(str(text))}</{tag}>" for text in texts)

    lines = [f"<tr>{cells('th', head)}</tr>"]
    lines += (f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><caption>{escape(title)}</caption>{''.join(lines)}</table>"

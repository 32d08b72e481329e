"""The parts of pages that tests write: between ``<!-- begin NAME -->`` and its end."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def _place(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(<!-- begin {name} -->\n\n)(.*?)(\n<!-- end {name} -->\n)", re.DOTALL
    )


def read(page: str, name: str) -> str:
    """Return what the page has between its marks."""
    found = _place(name).search((DOCS / page).read_text("utf-8"))
    assert found, f"docs/{page} has no marks of {name}"
    return found[2]


def write(page: str, name: str, text: str) -> None:
    """Put *text* between the marks."""
    path = DOCS / page
    old = path.read_text("utf-8")
    path.write_text(_place(name).sub(lambda m: m[1] + text + m[3], old), "utf-8")

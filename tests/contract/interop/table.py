"""The tables of docs/interop.md: written from the markers of the tests beside it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from attrs import frozen

PAGE = Path(__file__).parents[3] / "docs" / "interop.md"
_VERSION = re.compile(r" \d[\w.+-]*$")
COLUMNS = 7  # of a table, beside the client: more do not fit a page
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"

CLIENTS = "Clients of other projects against the emulator"
SIGNED_THERE = "URLs signed by other tools, used by this filesystem"
SIGNED_HERE = "URLs signed by this package, used by other clients"
GRANTS = "Grants of other servers, used by this filesystem"
FORMS = "Forms signed by this package, sent by other clients"
SERVED = "Uploaders of web sites, signed for by `osspresigned serve`"
BROKERS = "Servers of uploads, used by this filesystem"
TABLES = "Tables of other projects, stored by this filesystem"
READ_THERE = "Objects written by this filesystem, read by other clients"
SECTIONS = (
    *(CLIENTS, SIGNED_THERE, SIGNED_HERE, GRANTS, FORMS),
    *(SERVED, BROKERS, TABLES, READ_THERE),
)


@frozen(order=True)
class Cell:
    """One thing that one client is tested for; *note* is what to know about it."""

    section: str
    who: str
    what: str
    note: str = ""


def cells_of(items: Iterable[object]) -> list[Cell]:
    """Return what the marker ``interop(section, who, what, note="")`` says of tests."""
    found = set()
    for item in items:
        for mark in item.iter_markers("interop"):  # type: ignore[attr-defined]
            if mark.args:
                found.add(Cell(*mark.args, **mark.kwargs))
    return sorted(found)


def tables(cells: Iterable[Cell]) -> str:
    """Return the tables in Markdown, without versions."""
    lines = []
    for section in SECTIONS:
        rows: dict[str, dict[str, str]] = {}
        for cell in (c for c in cells if c.section == section):
            row = rows.setdefault(cell.who, {})
            row[cell.what] = cell.note or row.get(cell.what) or "yes"
        columns = sorted({what for row in rows.values() for what in row})
        lines += ["", f"### {section}"]
        for begin in range(0, len(columns), COLUMNS):
            some = columns[begin : begin + COLUMNS]
            lines += ["", f"| client | {' | '.join(some)} |"]
            lines.append(f"|---|{'---|' * len(some)}")
            for who in sorted(rows, key=str.lower):
                said = [rows[who].get(what, "-") for what in some]
                lines.append(f"| {who} | {' | '.join(said)} |")
    return "\n".join([*lines, ""])


def version_of(name: str) -> str:
    """Return the installed version of a client; empty if it cannot be told."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
    for folder in os.environ.get("NODE_PATH", "").split(os.pathsep):
        package = Path(folder, name, "package.json")
        if folder and package.is_file():
            return str(json.loads(package.read_text("utf-8"))["version"])
    program = shutil.which({"fetch": "node"}.get(name, name))
    if program is None:
        return ""
    told = subprocess.run([program, "--version"], capture_output=True, check=False)
    found = re.search(r"\d+(\.\d+)+", told.stdout.decode())
    return found[0] if found else ""


def with_versions(text: str, known: Mapping[str, str]) -> str:
    """Return tables with what is installed here, or else with what is *known*."""
    return _each_name(
        text, lambda name: f"{name} {version_of(name) or known.get(name, '')}".strip()
    )


def without_versions(text: str) -> str:
    """Return tables as they are without versions, to be compared."""
    return _each_name(text, lambda name: _VERSION.sub("", name))


def versions_in(text: str) -> dict[str, str]:
    """Return the versions that tables name."""
    found = {}

    def note(name: str) -> str:
        bare, _, version = name.rpartition(" ")
        if _VERSION.search(name):
            found[bare] = version
        return name

    _each_name(text, note)
    return found


def _each_name(text: str, change: Callable[[str], str]) -> str:
    def row(found: re.Match[str]) -> str:
        names = [change(name) for name in found[1].split(", ")]
        return f"| {', '.join(names)} |"

    return re.sub(r"(?m)^\| (?!client \|)([^|]+?) \|", row, text)


def on_page() -> str:
    """Return the tables that the page has."""
    text = PAGE.read_text("utf-8")
    return text.partition(BEGIN)[2].partition(END)[0]


def write(text: str) -> None:
    """Put *text* between the marks of the page."""
    head, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", "utf-8")

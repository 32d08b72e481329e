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
PLACE = ("interop.md", "tables")

CLIENTS = "Clients of other projects against the emulator"
SIGNED_THERE = "URLs signed by other tools, used by this filesystem"
SIGNED_HERE = "URLs signed by this package, used by other clients"
GRANTS = "Grants of other servers, used by this filesystem"
FORMS = "Forms signed by this package, sent by other clients"
SERVED = "Uploaders of web sites, signed for by `osspresigned serve`"
UPLOAD_SERVERS = "Servers of uploads, used by this filesystem"
UPLOAD_CLIENTS = "Clients of servers of uploads, at the servers of our tests"
TABLES = "Tables of other projects, stored by this filesystem"
READ_THERE = "Objects written by this filesystem, read by other clients"
SECTIONS = (
    *(CLIENTS, SIGNED_THERE, SIGNED_HERE, GRANTS, FORMS),
    *(SERVED, UPLOAD_SERVERS, UPLOAD_CLIENTS, TABLES, READ_THERE),
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
    """Return the tables in Markdown, without versions: what was tried of each client.

    Entries with the same note are grouped, with the note in parentheses.
    """
    lines: list[str] = []
    for section in SECTIONS:
        rows: dict[str, dict[str, str]] = {}
        for cell in (c for c in cells if c.section == section):
            row = rows.setdefault(cell.who, {})
            row[cell.what] = cell.note or row.get(cell.what, "")
        lines += [f"### {section}", "", "| client | tried |", "|---|---|"]
        for who in sorted(rows, key=str.lower):
            notes: dict[str, list[str]] = {}
            for what, note in sorted(rows[who].items(), key=lambda one: one[1] != ""):
                notes.setdefault(note, []).append(what)
            told = [
                f"{', '.join(sorted(whats))}{f' ({note})' if note else ''}"
                for note, whats in notes.items()
            ]
            lines.append(f"| {who} | {'; '.join(told)} |")
        lines.append("")
    return "\n".join(lines)


def version_of(name: str) -> str:
    """Return the installed version of a client; empty if it is unknown."""
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

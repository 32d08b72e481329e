"""From results to the tables of a terminal, the plots and the pages of the documentation.

    python -m benchmarks.report RESULTS.json [MORE.json ...] [--fill OLD.json]
    python -m benchmarks.report --print RESULTS.json

Results of several machines and days are kept apart, and tables show the worst of them.
Of one machine and day, the first file that has a row gives it, and a later one adds
candidates: those that need an environment of their own (ossfs). `--fill` takes only what
no other file has: with docs/performance/results.json, which is read before it is written,
what was not run again is kept.

A page holds what is generated between `<!-- begin NAME -->` and `<!-- end NAME -->`;
all else is written by hand.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import defaults, tables
from .results import (
    Results,
    UnreadableError,
    compact,
    judged_again,
    merged,
    place_of,
    read,
    worst,
)
from .results import filled as filled_up
from .tables import NETWORK, markdown, plain
from .work import GIB

ROOT = Path(__file__).parent.parent
_NONE = "*Not measured.*"
_MEASURED = {  # suite -> what it measures
    "targets": "targets and clients",
    "rough": "bad input",
    "growth": "growth",
    "defaults": "defaults",
    "all": "all",
}


class UnmarkedError(Exception):
    """A page has no place for what belongs there, or a place for nothing."""


def main(given: Sequence[str] | None = None) -> int:
    """Print the tables and write pages and plots; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report")
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--fill", type=Path, help="results for rows that were not run")
    parser.add_argument("--print", action="store_true", help="write nothing")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args(given)
    try:
        results = merged(map(read, arguments.results))
        if arguments.fill:
            results = filled_up(results, read(arguments.fill))
        results = judged_again(results)
        print(told(results))
        if arguments.print:
            return 0
        return write(results, arguments.docs)
    except (UnreadableError, UnmarkedError) as error:
        print(error, file=sys.stderr)
        return 2


def told(results: Results) -> str:
    """Return all tables for a terminal."""
    head = machine(results).replace("`", "").replace("**", "")
    results = worst(results)
    return "\n\n".join(
        [
            head,
            *(
                f"{title}\n\n{plain(table)}"
                for title, table in (
                    ("Targets", tables.targets(results)),
                    ("Clients", tables.peers(results)),
                    ("Growth", tables.growth(results)),
                    ("Defaults", defaults.table(results)),
                )
                if len(table) > 1
            ),
        ]
    )


def network(results: Results) -> tables.Table:
    """Return what was reached as on a network, without the targets."""
    found = tables.targets(results, NETWORK)
    return [[*line[:3], line[4].partition(" of ")[0]] for line in found]


def write(results: Results, docs: Path) -> int:
    """Write pages, plots and the JSON they come from; 1 if plots cannot be drawn."""
    folder = docs / "performance"
    folder.mkdir(parents=True, exist_ok=True)
    status = 0
    if importlib.util.find_spec("matplotlib") is None:
        print("no plots: there is no matplotlib", file=sys.stderr)
        status = 1
    else:
        from . import plots  # noqa: PLC0415 - the tables need no matplotlib

        drawn = plots.draw(worst(results), folder)
        for path in folder.glob("*.svg"):
            if path.name not in drawn:
                path.unlink()
    for name, texts in pieces(results).items():
        path = docs / name
        path.write_text(filled(path.read_text(), texts, name))
    (folder / "results.json").write_text(compact(results))
    return status


def pieces(results: Results) -> dict[str, dict[str, str]]:
    """Return for each page what stands between its markers."""
    shown = worst(results)
    return {
        "performance.md": {"network": _table(network(shown))},
        "measurements.md": {
            "machine": machine(results),
            "targets": _table(tables.targets(shown)),
            "peers": _table(tables.peers(shown)),
            "growth": _table(tables.growth(shown)),
            "defaults": defaults.said(shown) or _NONE,
        },
    }


def _table(table: tables.Table) -> str:
    return markdown(table) if len(table) > 1 else _NONE


def filled(page: str, pieces: Mapping[str, str], name: str) -> str:
    """Return *page* with *pieces* between their markers.

    Raises:
        UnmarkedError: A piece has no pair of markers, or a pair has no piece.
    """
    pattern = re.compile(r"(<!-- begin ([\w-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
    marked = [match[2] for match in pattern.finditer(page)]
    if sorted(marked) != sorted(pieces):
        raise UnmarkedError(
            f"{name}: marked are {', '.join(sorted(marked)) or 'none'}, "
            f"there are {', '.join(sorted(pieces))}"
        )
    return pattern.sub(lambda m: f"{m[1]}\n{pieces[m[2]].strip()}\n\n{m[3]}", page)


def machine(results: Results) -> str:
    """Return what the figures were taken on, and when."""
    machines = {place_of(run)[:2]: run["machine"] for run in reversed(results["runs"])}
    places = [*reversed(machines)]
    several = len(places) > 1
    lines = []
    for number, place in enumerate(places, 1):
        lines += _described(machines[place], f"Machine {number}: " if several else "")
        runs = [run for run in results["runs"] if place_of(run)[:2] == place]
        lines.append(f"* Runs: {', '.join(dict.fromkeys(map(_told_run, runs)))}.")
    for name, why in sorted(results["missing"].items()):
        lines.append(f"* Left out: `{name}`, {why}.")
    if any(run["quick"] for run in results["runs"]):
        lines.append(
            "* **A quick run proves that bytes arrive, and nothing about time.**"
        )
    return "\n".join(lines)


def _told_run(run: Mapping[str, Any]) -> str:
    """Return what a run measured, when, and how often each client ran."""
    what = _MEASURED.get(run["suite"], run["suite"])
    quick = ", quick" if run["quick"] else ""
    return f"{what} {run['taken'][:10]} ({run['rounds']} x{quick})"


def _described(machine: Mapping[str, Any], name: str) -> list[str]:
    packages = ", ".join(f"{n} {v}" for n, v in machine["packages"].items())
    programs = ", ".join(
        f"{name} {version_of(text)}" for name, text in machine["programs"].items()
    )
    system = f"{machine['system']} {machine['kernel']}, Python {machine['python']}"
    memory = f"{machine['memory'] / GIB:.0f} GiB"
    return [
        f"* {name}{machine['cpu']}, {machine['cores']} cores, {memory}, {system}.",
        f"* {packages}.",
        f"* {programs}.",
    ]


def version_of(text: str) -> str:
    """Return the version in the first line that a program says of itself."""
    found = re.search(r"\d+(\.\d+)+\w*", text)
    return found[0] if found else text


if __name__ == "__main__":
    raise SystemExit(main())

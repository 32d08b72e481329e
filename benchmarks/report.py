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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import defaults, scale, tables
from .results import (
    Results,
    UnreadableError,
    compact,
    judged_again,
    merged,
    place_of,
    read,
    series,
    worst,
)
from .results import filled as filled_up
from .tables import GROUPS, SERIES, markdown, plain
from .work import GIB

ROOT = Path(__file__).parent.parent
_NONE = "*Not measured.*"
_MEASURED = {  # suite -> what it measures
    "targets": "speed and memory against the targets and other clients",
    "rough": "difficult conditions",
    "growth": "how time and memory grow with the work",
    "defaults": "part sizes and connections, to choose the defaults",
    "all": "all of the suites",
}
_ALT = {
    "put": "One PUT: time of every client over that of curl",
    "multipart": "A file in parts: time of every client over that of the loop by hand",
    "stream": "A stream: time of every client over that of the file object by hand",
    "small": "Small files: time of every client over that of the reference",
    "get": "Downloads: time of every client over that of the loop by hand",
    "start": "A new interpreter: time of every client over that of the script by hand",
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
    texts = [machine(results).replace("`", "").replace("**", "")]
    results = worst(results)
    texts.append("Targets\n\n" + plain(targets(results)))
    for group, (title, _) in GROUPS.items():
        if tables.peers_of(results, group):
            head = f"{title}: ratio, processor, memory"
            texts.append(f"{head}\n\n{plain(tables.peers(results, group))}")
    if _has(results, "rough-"):
        texts.append("Bad input\n\n" + plain(tables.rough(results)))
    for name, (_, title) in SERIES.items():
        if series(results, name):
            texts.append(f"Growth: {title}\n\n{plain(tables.growth(results, name))}")
    if series(results, "sweep"):
        texts.append("Defaults\n\n" + plain(defaults.table(results)))
    return "\n\n".join(texts)


def targets(results: Results) -> tables.Table:
    """Return the table of targets, with that of the defaults at its end."""
    return [*tables.targets(results), *defaults.judged(results)]


def _has(results: Results, start: str) -> bool:
    return any(row["name"].startswith(start) for row in results["rows"])


def _has_targets(results: Results) -> bool:
    return len(targets(results)) > 1


def write(results: Results, docs: Path) -> int:
    """Write pages, plots and the JSON they come from; 1 if plots cannot be drawn."""
    folder = docs / "performance"
    folder.mkdir(parents=True, exist_ok=True)
    status, drawn = 0, []
    everything, results = results, worst(results)
    if importlib.util.find_spec("matplotlib") is None:
        print("no plots: there is no matplotlib", file=sys.stderr)
        status = 1
        drawn = sorted(path.name for path in folder.glob("*.svg"))
    else:
        from . import plots  # noqa: PLC0415 - the tables need no matplotlib

        drawn = plots.draw(results, folder)
        for path in folder.glob("*.svg"):
            if path.name not in drawn:
                path.unlink()
    places = {
        "performance.md": {
            "targets": _table(_has_targets(results), targets, results),
            "peers": peers(results, drawn),
            "rough": _table(_has(results, "rough-"), tables.rough, results),
        },
        "benchmarks.md": {"machine": machine(everything), "setup": setup(results)},
        "growth.md": {
            "growth": growth(results, drawn),
            "defaults": sweep(results, drawn),
        },
        "scale.md": {
            "carries": markdown(scale.carries(results)),
            "spread": _table(bool(series(results, "dask")), scale.spread, results),
        },
    }
    for name, pieces in places.items():
        path = docs / name
        path.write_text(filled(path.read_text(), pieces, name))
    (folder / "results.json").write_text(compact(everything))
    return status


def _table(
    known: bool, make: Callable[[Results], tables.Table], results: Results
) -> str:
    return markdown(make(results)) if known else _NONE


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
    for number, run in enumerate(results["runs"], 1):
        count = sum(
            row["run"] == number - 1
            or any(one.get("run") == number - 1 for one in row["candidates"].values())
            for row in results["rows"]
        )
        where = f"machine {places.index(place_of(run)[:2]) + 1}" if several else ""
        line = _told_run(run, number, where or f"the {run['machine']['cpu']}", count)
        if run["quick"]:
            line += " **A quick run: its figures prove that bytes arrive, and say "
            line += "nothing about time.**"
        lines.append(line)
    for name, why in sorted(results["missing"].items()):
        lines.append(f"* Left out: `{name}`, {why}.")
    return "\n".join(lines)


def _told_run(run: Mapping[str, Any], number: int, where: str, count: int) -> str:
    """Return a line about one run, whose figures *count* rows use."""
    what = _MEASURED.get(run["suite"], f"the suite {run['suite']}")
    rounds, day = run["rounds"], run["taken"][:10]
    times = {1: "once", 2: "twice"}.get(rounds, f"{rounds} times")
    used = "1 row uses" if count == 1 else f"{count} rows use"
    line = f"* **Run {number}** measured {what}, on {day}, on {where}. Each client ran "
    return f"{line}{times} for each row; {used} its figures."


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


def peers(results: Results, drawn: Sequence[str]) -> str:
    """Return plots and tables of all groups."""
    texts = []
    for group, (title, _) in GROUPS.items():
        rows = tables.peers_of(results, group)
        if rows:
            plot = _image(f"peers-{group}", _ALT[group], drawn)
            texts.append(f"### {title}\n\n{plot}")
            texts.append(markdown(tables.peers(results, group)))
    return "\n\n".join(texts) or _NONE


def setup(results: Results) -> str:
    """Return how each peer was set up."""
    lines = [["", "what proves the bytes", "how it was set up"]]
    shown = {
        name
        for group in GROUPS
        for row in tables.peers_of(results, group)
        for name in row["candidates"]
    }
    for name, about in results["about"].items():
        if name in shown:
            lines.append([f"`{name}`", about["checks"], about["note"]])
    return markdown(lines) if shown else _NONE


def _image(name: str, alt: str, drawn: Sequence[str]) -> str:
    if f"{name}.svg" not in drawn:
        return ""
    return f"![{alt}](performance/{name}.svg)"


def growth(results: Results, drawn: Sequence[str]) -> str:
    """Return plots and tables of all series."""
    texts = []
    for name, (_, title) in SERIES.items():
        if series(results, name):
            plot = _image(f"growth-{name}", f"Time and memory: {title}", drawn)
            texts.append(f"**{title[0].upper()}{title[1:]}**\n\n{plot}".strip())
            texts.append(markdown(tables.growth(results, name)))
    return "\n\n".join(texts) or _NONE


def sweep(results: Results, drawn: Sequence[str]) -> str:
    """Return plots and table of the defaults."""
    if not series(results, "sweep"):
        return _NONE
    cut = "Time over part size, for each size, rate and latency"
    whole = "Time over size: one body against parts, for each rate and latency"
    texts = [
        _image("defaults-parts", cut, drawn),
        _image("defaults-threshold", whole, drawn),
        defaults.said(results),
        markdown(defaults.table(results)),
    ]
    return "\n\n".join(filter(None, texts))


if __name__ == "__main__":
    raise SystemExit(main())

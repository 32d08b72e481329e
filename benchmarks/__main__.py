"""The one command: builds the sink, makes the data, runs and compares everybody.

    python -m benchmarks --quick
    python -m benchmarks --rounds 5 --out build/bench
    python -m benchmarks --rows put-1g,small-0ms --only osspresigned,boto3
    python -m benchmarks --rows=-many-* --only ours
    python -m benchmarks --suite rough

Tables come from `benchmarks.report`, which also reads the JSON of several runs at once.

Only one run at a time on a machine that does nothing else says anything about time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import evolve

from . import report
from .data import Data
from .measure import Plan, run
from .suites import growth, rough, sweep
from .work import GRANT, MAP, OURS, ROWS, SERVE, Row, quick

_SUITES = ("targets", "rough", "growth", "defaults")
_OURS, _NONE = frozenset((OURS, MAP, SERVE, GRANT)), frozenset[str]()


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="correctness, not time")
    parser.add_argument("--suite", choices=(*_SUITES, "all"), default="targets")
    parser.add_argument(
        "--rows", type=_names, help="names, or beginnings with a *; after a - left out"
    )
    parser.add_argument(
        "--only", type=_names, default=(), help="candidates to run; ours: all of ours"
    )
    parser.add_argument("--rounds", type=int, help="measured rounds (5; sweep 1)")
    parser.add_argument("--out", type=Path, help="directory, or FILE.json, of results")
    parser.add_argument("--docs", type=Path, help="directory of pages to fill in")
    parser.add_argument("--data", type=Path, help="directory of files, kept for later")
    parser.add_argument("--stop", type=float, default=10.0, help="rest of a writer")
    parser.add_argument("--cell-limit", type=float, default=8.0, metavar="SECONDS")
    parser.add_argument("--all-peers", action="store_true", help="none may be missing")
    parser.add_argument("--list", action="store_true", help="name the rows, and end")
    return parser.parse_args(given)


def rows_of(
    suite: str, *, stop: float, limit: float
) -> tuple[list[Row], list[dict[str, object]]]:
    """Return the rows of a suite, and the cells that it leaves out."""
    if suite == "all":
        rows: list[Row] = []
        skipped: list[dict[str, object]] = []
        for one in _SUITES:
            more, left = rows_of(one, stop=stop, limit=limit)
            rows, skipped = rows + more, skipped + left
        return rows, skipped
    if suite == "defaults":
        return sweep(limit)
    known = {"targets": ROWS, "rough": rough(stop), "growth": growth()}
    return list(known[suite]), []


def chosen(rows: Sequence[Row], names: Sequence[str] | None) -> list[Row]:
    """Return the rows that are named; a name may end with a star.

    A name after a minus leaves its rows out; with no other names, of all.

    Raises:
        ValueError: A name fits none.
    """
    left_out = [name[1:] for name in names or () if name.startswith("-")]
    wanted = [name for name in names or () if not name.startswith("-")]
    found = [] if wanted else list(rows)
    for name in wanted:
        found += [row for row in _called(rows, name) if row not in found]
    for name in left_out:
        without = _called(rows, name)
        found = [row for row in found if row not in without]
    return found


def _called(rows: Sequence[Row], name: str) -> list[Row]:
    stem = name.removesuffix("*")
    fits = [
        row
        for row in rows
        if row.name == name or (stem != name and row.name.startswith(stem))
    ]
    if not fits:
        raise ValueError(f"no row is called {name}: --list names them")
    return fits


def main(given: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 1 if anything was wrong."""
    arguments = _arguments(given)
    rows, skipped = rows_of(
        arguments.suite, stop=arguments.stop, limit=arguments.cell_limit
    )
    try:
        rows = chosen(rows, arguments.rows)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.list:
        for row in rows:
            print(f"{row.name:26} {row.title}")
        return 0
    if arguments.quick:
        rows = [quick(row) for row in rows]
    usual = 1 if arguments.quick or arguments.suite == "defaults" else 5
    with tempfile.TemporaryDirectory(prefix="bench-data-") as scratch:
        plan = Plan(
            rows=rows,
            data=Data(arguments.data or Path(scratch)),
            suite=arguments.suite,
            rounds=arguments.rounds or usual,
            only=frozenset(arguments.only)
            | (_OURS if "ours" in arguments.only else _NONE),
            quick=arguments.quick,
            all_peers=arguments.all_peers,
            say=lambda line: print(line, flush=True),
            skipped=skipped,
        )
        path = _place(arguments.out or Path(scratch), arguments.suite)
        result = run(evolve(plan, done=lambda result: _write(path, result)))
        told = ["--docs", str(arguments.docs)] if arguments.docs else ["--print"]
        status = report.main([str(path), *told]) if result["rows"] else 0
    for line in result["wrong"]:
        print(f"wrong: {line}", file=sys.stderr)
    return 1 if result["wrong"] else status


def _place(out: Path, suite: str) -> Path:
    path = out if out.suffix == ".json" else out / f"{suite}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(path: Path, result: dict[str, Any]) -> None:
    """Write after every row: a run of hours may be interrupted."""
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(result, indent=1) + "\n")
    fresh.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())

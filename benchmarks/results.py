"""Results of runs: read, put together, and kept in few bytes.

What `python -m benchmarks --out` writes is described in `measure`. What is kept beside
the documentation is the same with less: single rounds and defaults of the work are left
out, what is said about a candidate stands once (`about`), figures have four digits, and
`runs` lists the files it was put together from.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .work import ROWS, Work

VERSION = 1
_DIGITS = 4
_RUN = ("suite", "taken", "quick", "rounds", "machine")
_PLAIN = Work("", "", 0).as_dict()
_PLACES = {row.name: place for place, row in enumerate(ROWS)}
Results = dict[str, Any]


class UnreadableError(Exception):
    """A file is no result of a run."""


def read(path: Path) -> Results:
    """Return one file of results in the form that `merged` takes and gives.

    Raises:
        UnreadableError: It is none, or of another version.
    """
    try:
        given = json.loads(path.read_text())
        found = _opened(given)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(f"{path}: no results: {error!r}"[:300]) from None
    return found


def _opened(given: Mapping[str, Any]) -> Results:
    if given["version"] != VERSION:
        raise ValueError(f"version {given['version']}, not {VERSION}")
    runs = given.get("runs") or [{name: given[name] for name in _RUN}]
    for run in runs:
        # What somebody's own build is called tells readers nothing.
        kernel = re.match(r"[\d.]*", run["machine"]["kernel"])
        run["machine"] = {**run["machine"], "kernel": kernel[0] if kernel else ""}
    about = dict(given.get("about", {}))
    rows = []
    for row in given["rows"]:
        candidates = {}
        for name, one in row["candidates"].items():
            kept = dict(one)
            kept.pop("rounds", None)
            told = {key: kept.pop(key) for key in ("checks", "note") if key in kept}
            if told:
                about.setdefault(name, told)
            candidates[name] = kept
        rows.append(
            {
                "run": 0,
                **row,
                "work": {**_PLAIN, **row["work"]},
                "candidates": candidates,
            }
        )
    return {
        "version": VERSION,
        "runs": list(runs),
        "about": about,
        "rows": rows,
        "missing": dict(given["missing"]),
        "skipped": list(given["skipped"]),
    }


def merged(several: Iterable[Results]) -> Results:
    """Put results together; the first that has a row gives it. Targets are in order.

    A candidate that only a later file has in a row is added, with the ratio to the
    reference of its own run and the number of that run as `run`: peers that need an
    environment of their own are measured so. Figures are rounded here, so that what is
    shown is what is kept.
    """
    found: Results = {
        "version": VERSION,
        "runs": [],
        "about": {},
        "rows": [],
        "missing": {},
        "skipped": [],
    }
    rows: dict[str, dict[str, Any]] = {}
    for one in several:
        found["runs"] += [run for run in one["runs"] if run not in found["runs"]]
        number = [found["runs"].index(run) for run in one["runs"]]
        for name, told in one["about"].items():
            found["about"].setdefault(name, told)
        for name, why in one["missing"].items():
            found["missing"].setdefault(name, why)
        known = {cell["name"] for cell in found["skipped"]}
        found["skipped"] += [c for c in one["skipped"] if c["name"] not in known]
        for row in one["rows"]:
            run = number[row["run"]]
            candidates = {
                name: {
                    **taken,
                    **({"run": number[taken["run"]]} if "run" in taken else {}),
                }
                for name, taken in row["candidates"].items()
            }
            first = rows.get(row["name"])
            if first is None:
                rows[row["name"]] = {**row, "run": run, "candidates": candidates}
                continue
            runs = found["runs"]
            if runs[run]["quick"] != runs[first["run"]]["quick"]:
                continue  # figures that mean nothing, beside those that do
            for name, taken in candidates.items():
                if name not in first["candidates"]:
                    first["candidates"][name] = {"run": run, **taken}
                    first["failed"].pop(name, None)
    found["rows"] = sorted(rows.values(), key=lambda row: _place(row["name"]))
    seen = {name for row in found["rows"] for name in row["candidates"]}
    for name in seen & set(found["missing"]):
        del found["missing"][name]
    found["skipped"] = [c for c in found["skipped"] if c["name"] not in rows]
    rounded: Results = _rounded(_used(found))
    return rounded


def _place(name: str) -> int:
    """Return where a row of the targets stands in the table; others come behind."""
    return _PLACES.get(name, len(_PLACES))


def _used(results: Results) -> Results:
    """Leave out runs of which nothing is left."""
    owners = [
        one
        for row in results["rows"]
        for one in (row, *row["candidates"].values())
        if "run" in one
    ]
    used = sorted({one["run"] for one in owners}) or [0]
    for one in owners:
        one["run"] = used.index(one["run"])
    return {**results, "runs": [results["runs"][number] for number in used]}


def compact(results: Results) -> str:
    """Return *results* as JSON, a line for each row, the same for the same figures."""
    rows = []
    for row in results["rows"]:
        work = {k: v for k, v in row["work"].items() if v != _PLAIN.get(k)}
        rows.append({**row, "work": work})
    members = [
        f"{json.dumps(name)}: {_line(value)}"
        for name, value in results.items()
        if name != "rows"
    ]
    lines = ",\n".join(_line(row) for row in rows)
    return "{" + ",\n".join([*members, f'"rows": [\n{lines}\n]']) + "}\n"


def _line(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _rounded(value: Any) -> Any:
    """Return *value* with four digits in every float, at any depth."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if isinstance(value, float) and value and math.isfinite(value):
        short = float(f"{value:.{_DIGITS}g}")
        return int(short) if short.is_integer() and abs(short) < 1 << 53 else short
    return value


def series(results: Results, name: str) -> list[dict[str, Any]]:
    """Return the rows of a series that ran, in order."""
    return [
        row for row in results["rows"] if row["series"] == name and row["candidates"]
    ]

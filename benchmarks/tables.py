"""Tables of results, as cells; and cells as Markdown or for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from .results import Results, series
from .work import GIB, MIB, OURS, references

Table = list[list[str]]
COMPARED = (
    *("put-1g", "multipart-capped", "multipart-uncapped", "stream-capped"),
    *("stream-1m", "small-20ms", "small-0ms", "get-1g"),
)
# As on a network: with latency, or a rate of each connection.
NETWORK = (*("multipart-capped", "stream-capped", "small-20ms", "gather", "get-1g"),)
SERIES: Mapping[str, str] = {
    "files": "n files of 1 KiB, 32 in flight, no latency",
    "size": "one file of n bytes in parts, 8 connections, no cap",
    "threads": "1 GiB in parts over n connections, no cap",
    "dask": "16 files of 64 MiB from n dask workers of one thread, 50 MB/s a connection",
    "map": "a URL map of n entries is opened, and one object sent",
}
ELSEWHERE = ("dask",)  # these work in other processes, which are not measured
_NAMES = {"bound": "latency alone"}
_LIMITS = {"ratio": "ratio", "rss": "memory", "linear": "cost of an item"}


def seconds(value: float) -> str:
    """Return a time with its unit."""
    if value >= 1000:
        return f"{value:,.0f} s"
    if value >= 1:
        return f"{value:.3g} s"
    if value >= 1e-3:
        return f"{value * 1e3:.3g} ms"
    return f"{value * 1e6:.3g} µs"


def mebibytes(value: float) -> str:
    """Return bytes as MiB."""
    found = value / MIB
    return f"{found:.1f} MiB" if 0.05 <= found < 10 else f"{found:.0f} MiB"


def targets(results: Results, only: Collection[str] = ()) -> Table:
    """Return the table of targets: a line for each candidate of a row that has any.

    *only*: names of the rows to show; all by default.
    """
    lines = [["work", "time", "of the reference", "at most", "memory", "met"]]
    for row in results["rows"]:
        if only and row["name"] not in only:
            continue
        names = dict.fromkeys(target["candidate"] for target in row["targets"])
        lines += [_judged(row, name) for name in names]
    return lines


def _judged(row: Mapping[str, Any], name: str) -> list[str]:
    wanted = {t["kind"]: t for t in row["targets"] if t["candidate"] == name}
    title = title_of(row) if name == OURS else f"{title_of(row)}: `{name}`"
    found = row["candidates"].get(name)
    if found is None:
        return [title, "did not run", "", "", "", "**no**"]
    wall = found["wall"]["median"]
    ours = seconds(found["micros"] / 1e6) if row["verb"] == "sign" else seconds(wall)
    memory = mebibytes(found["rss"]["median"]) if row["work"]["size"] else ""
    if "rss" in wanted:
        memory += f" of {wanted['rss']['most'] / MIB:.0f}"
    share = _of_reference(row, name)
    most = f"{wanted['ratio']['most']:g}" if "ratio" in wanted else ""
    if "linear" in wanted:
        share = f"{wanted['linear']['reached']:.2f} of the first's cost of one"
        most = f"{wanted['linear']['most']:g}"
    if "micros" in wanted:
        most = f"{wanted['micros']['most']:g} µs"
    if "seconds" in wanted:
        most = seconds(wanted["seconds"]["most"])
    return [title, ours, share, most, memory, _verdict(wanted.values())]


def _of_reference(row: Mapping[str, Any], name: str) -> str:
    """Return the ratio with its reference; for bad input that of their times."""
    reference = row["reference"]
    if reference is None or reference == name:
        return ""
    if reference == "bound":
        best = "bound"
    else:
        walls = {
            one: row["candidates"][one]["wall"]["median"]
            for one in references(reference)
            if one in row["candidates"]
        }
        if not walls:
            return f"`{reference}` did not run"
        best = min(walls, key=lambda one: walls[one])
    ratio = row["candidates"][name]["ratio"]
    told = f"{ratio['median']:.2f} " if ratio else ""
    return told + _NAMES.get(best, f"`{best}`")


def title_of(row: Mapping[str, Any]) -> str:
    """Return what a row is called, without its name."""
    return str(row["title"]).removesuffix(f", {row['name']}")


def _verdict(targets: Collection[Mapping[str, Any]]) -> str:
    missed = [_LIMITS.get(t["kind"], "time") for t in targets if not t["met"]]
    if missed:
        return f"**no**: {', '.join(missed)}"
    return "yes" if targets else ""


def is_peer(name: str) -> bool:
    """Return whether it is neither ours nor written by hand for this comparison."""
    return not name.startswith((OURS, "hand:"))


def peers(results: Results) -> Table:
    """Return for each client its ratios in the rows of `COMPARED`, ours first."""
    rows = [row for row in results["rows"] if row["name"] in COMPARED]
    rows = [row for row in rows if any(map(is_peer, row["candidates"]))]
    names: dict[str, list[float]] = {}
    for row in rows:
        for name, one in row["candidates"].items():
            if (name == OURS or is_peer(name)) and one["ratio"]:
                names.setdefault(name, []).append(math.log(one["ratio"]["median"]))
    order = sorted(names, key=lambda n: (n != OURS, sum(names[n]) / len(names[n]), n))
    lines = [["", "checks", *map(title_of, rows)]]
    for name in order:
        cells = [_cell(row, name) for row in rows]
        lines.append([f"`{name}`", checks(results, name), *cells])
    return lines


def checks(results: Results, name: str) -> str:
    """Return in a word what proves the bytes to a candidate."""
    told = results["about"].get(name, {}).get("checks", "")
    return re.split(r"[ ,(]", told, maxsplit=1)[0]


def _cell(row: Mapping[str, Any], name: str) -> str:
    found = row["candidates"].get(name)
    if found is None:
        return "failed" if name in row["failed"] else ""
    return f"{found['ratio']['median']:.2f}" if found["ratio"] else ""


def point(row: Mapping[str, Any]) -> float:
    """Return where a row stands on the axis of its series."""
    work = row["work"]
    many = {"files": "count", "size": "size", "map": "count"}
    return work[many.get(row["series"], "concurrency")]


def growth(results: Results) -> Table:
    """Return a line for each series: at each point the time of one, and the memory."""
    lines = [["growth", "time of one, memory"]]
    for name, title in SERIES.items():
        points = [f"{_at(row)}: {_cost(row, name)}" for row in series(results, name)]
        if points:
            lines.append([title, "; ".join(points)])
    return lines


def _at(row: Mapping[str, Any]) -> str:
    at = point(row)
    return f"{at / MIB:,.0f} MiB" if row["series"] == "size" else f"{at:,}"


def _cost(row: Mapping[str, Any], name: str) -> str:
    (found,) = list(row["candidates"].values())[:1]
    wall, at, work = found["wall"]["median"], point(row), row["work"]
    memory = mebibytes(found["rss"]["median"])
    if name == "size":
        return f"{seconds(wall / at * GIB)} a GiB, {memory}"
    if name in ("files", "map"):
        return f"{seconds(wall / at)}, {memory}"
    rate = f"{work['count'] * work['size'] / wall / 1e6:,.0f} MB/s"
    return rate if name in ELSEWHERE else f"{rate}, {memory}"


def markdown(table: Table) -> str:
    """Return a table of Markdown."""
    head, *body = [[cell.replace("|", "\\|") for cell in line] for line in table]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(table: Table) -> str:
    """Return a table for a terminal."""
    clean = [[cell.replace("**", "").replace("`", "") for cell in ln] for ln in table]
    widths = [max(map(len, column)) for column in zip(*clean, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in clean
    ]
    return "\n".join(line.rstrip() for line in lines)

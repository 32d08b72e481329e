"""Tables of results, as cells; and cells as Markdown or for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from .results import Results, series
from .work import GIB, MIB, OURS, references

Table = list[list[str]]
GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "put": ("One PUT", ("put",)),
    "multipart": ("A file in parts", ("multipart",)),
    "stream": ("A stream", ("stream",)),
    "small": ("Many small files", ("small", "gather")),
    "get": ("Downloads", ("get", "ranges")),
    "start": ("A new interpreter", ("start",)),
}
SERIES: Mapping[str, tuple[str, str]] = {
    "files": ("files", "n files of 1 KiB, 32 in flight, no latency"),
    "size": ("bytes", "one file of n bytes in parts, 8 connections, no cap"),
    "threads": ("connections", "1 GiB in parts over n connections, no cap"),
    "dask": (
        "worker processes",
        "16 files of 64 MiB from n dask workers of one thread, 50 MB/s a connection",
    ),
    "map": ("entries", "a URL map of n entries is opened, and one object sent"),
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


def ratios(spread: Mapping[str, float] | None) -> str:
    """Return least, median and most."""
    if spread is None:
        return ""
    return " / ".join(f"{spread[key]:.2f}" for key in ("min", "median", "max"))


def targets(results: Results) -> Table:
    """Return the table of targets: a line for each candidate of a row that has any."""
    lines = [
        [
            *("work", "ours", "reference", "ratio: min / median / max", "at most"),
            *("memory", "at most", "processor", "run", "met"),
        ]
    ]
    for row in results["rows"]:
        if row["name"].startswith("rough-"):
            continue
        names = dict.fromkeys(target["candidate"] for target in row["targets"])
        lines += [_judged(row, name) for name in names]
    return lines


def _judged(row: Mapping[str, Any], name: str) -> list[str]:
    wanted = {t["kind"]: t for t in row["targets"] if t["candidate"] == name}
    title = title_of(row) if name == OURS else f"{title_of(row)}: `{name}`"
    found = row["candidates"].get(name)
    if found is None:
        return [title, "did not run", *[""] * 7, "**no**"]
    wall = found["wall"]["median"]
    ours = seconds(found["micros"] / 1e6) if row["verb"] == "sign" else seconds(wall)
    memory = mebibytes(found["rss"]["median"]) if row["work"]["size"] else ""
    most = f"{wanted['ratio']['most']:g}" if "ratio" in wanted else ""
    if "linear" in wanted:
        linear = wanted["linear"]
        most = f"{linear['most']:g} x the first's cost of one: {linear['reached']:.2f}"
    if "micros" in wanted:
        most = f"{wanted['micros']['most']:g} µs"
    return [
        title,
        ours,
        _reference(row, name),
        ratios(found["ratio"]),
        most,
        memory,
        mebibytes(wanted["rss"]["most"]) if "rss" in wanted else "",
        seconds(found["cpu"]["median"]),
        _run_of(row, found),
        _verdict(wanted.values()),
    ]


def _run_of(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return the number of a figure's run, and the ratios of the others."""
    others = [
        f"{int(run) + 1}: {ratio:.2f}"
        for run, ratio in sorted(found.get("elsewhere", {}).items())
    ]
    return "; ".join([f"{found.get('run', row['run']) + 1}", *others])


def title_of(row: Mapping[str, Any]) -> str:
    """Return what a row is called, without its name."""
    return str(row["title"]).removesuffix(f", {row['name']}")


def _reference(row: Mapping[str, Any], name: str) -> str:
    reference = row["reference"]
    if reference is None or reference == name:
        return ""
    if reference == "bound":
        return f"{_NAMES['bound']}, {seconds(row['bound'])}"
    walls = {
        one: row["candidates"][one]["wall"]["median"]
        for one in references(reference)
        if one in row["candidates"]
    }
    if not walls:
        return f"`{reference}` did not run"
    best = min(walls, key=lambda one: walls[one])
    return f"`{best}`, {seconds(walls[best])}"


def _verdict(targets: Collection[Mapping[str, Any]]) -> str:
    missed = [_LIMITS.get(t["kind"], "time") for t in targets if not t["met"]]
    if missed:
        return f"**no**: {', '.join(missed)}"
    return "yes" if targets else ""


def peers_of(results: Results, group: str) -> list[dict[str, Any]]:
    """Return the rows of a group in which others than ours and references ran."""
    return [
        row
        for row in results["rows"]
        if row["verb"] in GROUPS[group][1]
        and row["series"] is None
        and not row["name"].startswith("rough-")
        and any(is_peer(name) for name in row["candidates"])
    ]


def is_peer(name: str) -> bool:
    """Return whether it is neither ours nor written by hand for this comparison."""
    return not name.startswith((OURS, "hand:"))


def peers(results: Results, group: str) -> Table:
    """Return a table of a group: a line for each candidate, a column for each row."""
    rows = peers_of(results, group)
    names: dict[str, list[float]] = {}
    for row in rows:
        for name, one in row["candidates"].items():
            if name != row["less"]:
                share = (one["ratio"] or one["wall"])["median"]
                names.setdefault(name, []).append(math.log(max(share, 1e-6)))
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
    ratio = f"{found['ratio']['median']:.2f}" if found["ratio"] else ""
    texts = [ratio, seconds(found["cpu"]["median"]), mebibytes(found["rss"]["median"])]
    return ", ".join(filter(None, texts)) + (" †" if "run" in found else "")


def rough(results: Results) -> Table:
    """Return the table of bad input."""
    lines = [
        [
            *("what is bad", "link and producer alone", "ours", "at most"),
            *("memory", "at most", "reference", "met"),
        ]
    ]
    for row in results["rows"]:
        if not row["name"].startswith("rough-"):
            continue
        found = row["candidates"].get(OURS)
        wanted = {target["kind"]: target for target in row["targets"]}
        lines.append(
            [
                title_of(row),
                seconds(row["ideal"]) if row["ideal"] else "-",
                seconds(found["wall"]["median"]) if found else "did not run",
                seconds(wanted["seconds"]["most"]) if "seconds" in wanted else "",
                mebibytes(found["rss"]["median"]) if found else "",
                mebibytes(wanted["rss"]["most"]) if "rss" in wanted else "",
                _reference(row, OURS),
                _verdict(row["targets"]),
            ]
        )
    return lines


def point(row: Mapping[str, Any]) -> float:
    """Return where a row stands on the axis of its series."""
    work = row["work"]
    many = {"files": "count", "size": "size", "map": "count"}
    return work[many.get(row["series"], "concurrency")]


def growth(results: Results, name: str) -> Table:
    """Return the points of one series."""
    lines = [[SERIES[name][0], "time", "of one", "processor", "memory"]]
    for row in series(results, name):
        (found,) = list(row["candidates"].values())[:1]
        wall, at = found["wall"]["median"], point(row)
        if name == "size":
            of_one = f"{seconds(wall / at * GIB)} a GiB"
        elif name in ("files", "map"):
            of_one = seconds(wall / at)
        else:
            of_one = (
                f"{row['work']['count'] * row['work']['size'] / wall / 1e6:,.0f} MB/s"
            )
        shown = f"{at / MIB:,.0f} MiB" if name == "size" else f"{at:,}"
        costs = ["", ""]
        if name not in ELSEWHERE:
            memory = mebibytes(found["rss"]["median"])
            costs = [seconds(found["cpu"]["median"]), memory]
        lines.append([shown, seconds(wall), of_one, *costs])
    return lines


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

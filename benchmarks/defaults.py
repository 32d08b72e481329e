"""The sweep for defaults: which parts on which link, and what our defaults lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.base import Grant
from fsspec_osspresigned.upload.plan import plan_for

from .results import Results, series
from .tables import Table, seconds
from .work import MIB

_FEW = 1.15
_LINE = 2  # points of which a line is drawn


def link(work: Mapping[str, Any]) -> str:
    """Return latency and rate for readers."""
    rate = f"{work['rate'] / 1e6:.0f} MB/s" if work["rate"] else "no cap"
    return f"{work['latency'] * 1000:.0f} ms, {rate}"


def in_one(work: Mapping[str, Any]) -> bool:
    """Return whether a cell of the sweep sends the object as one body."""
    return work["verb"] == "put" or work["part_size"] >= work["size"]


def default_cell(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the cell of one link and size that is nearest to what defaults do."""
    options = Options()
    plan = plan_for(Grant(), options, rows[0]["work"]["size"], path="examplebucket/key")
    fits = [row for row in rows if in_one(row["work"]) != plan.multipart]
    if not plan.multipart or not fits:
        return fits[0] if fits else None

    def far(row: Mapping[str, Any]) -> tuple[float, float]:
        work = row["work"]
        off = work["part_size"] / plan.part_size
        return abs(work["concurrency"] - options.connections), max(off, 1 / off)

    return min(fits, key=far)


def cells(results: Results) -> dict[tuple[float, float, int], list[dict[str, Any]]]:
    """Return the cells of the sweep by latency, rate (0: no cap) and size."""
    found: dict[tuple[float, float, int], list[dict[str, Any]]] = {}
    for row in series(results, "sweep"):
        work = row["work"]
        key = (work["latency"], work["rate"] or 0.0, work["size"])
        found.setdefault(key, []).append(row)
    order = sorted(found, key=lambda key: (key[2], key[0], key[1] or float("inf")))
    return {key: found[key] for key in order}


def wall(row: Mapping[str, Any]) -> float:
    """Return the median time of the one candidate of a row."""
    return next(iter(row["candidates"].values()))["wall"]["median"]


def table(results: Results) -> Table:
    """Return for each size and link the best cell, and what the defaults take."""
    lines = [["size", "latency, rate", "best", "", "defaults", "of the best"]]
    for rows in cells(results).values():
        best, ours = min(rows, key=wall), default_cell(rows)
        shown = ["-", ""]
        if ours is not None:
            shown = [_cut(ours["work"]), f"{wall(ours) / wall(best):.2f}"]
        work = best["work"]
        size = f"{work['size'] / MIB:,.0f} MiB"
        lines.append([size, link(work), _cut(work), seconds(wall(best)), *shown])
    return lines


def _cut(work: Mapping[str, Any]) -> str:
    if in_one(work):
        return "one body"
    return f"{work['part_size'] / MIB:g} MiB x {work['concurrency']}"


def curve(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Return part size (MiB) and time over that of the best part size.

    All with as many connections as by default; with another number of them where fewer
    than two part sizes were measured with so many.
    """
    by_width: dict[int, dict[int, float]] = {}
    for row in rows:
        work = row["work"]
        if not in_one(work):
            times = by_width.setdefault(work["concurrency"], {})
            times[work["part_size"]] = wall(row)
    if not by_width:
        return []
    width = Options().connections
    if len(by_width.get(width, {})) < _LINE:
        width = max(by_width, key=lambda n: (len(by_width[n]), -abs(n - width)))
    times = by_width[width]
    best = min(times.values())
    return [(size / MIB, times[size] / best) for size in sorted(times)]


def thresholds(
    results: Results,
) -> dict[tuple[float, float], list[tuple[int, float, float]]]:
    """Return by latency and rate: size, time of one body, time of the best parts."""
    found: dict[tuple[float, float], list[tuple[int, float, float]]] = {}
    for (latency, rate, size), rows in cells(results).items():
        whole = [wall(row) for row in rows if in_one(row["work"])]
        parts = [wall(row) for row in rows if not in_one(row["work"])]
        if whole and parts:
            found.setdefault((latency, rate), []).append((size, min(whole), min(parts)))
    return found


def said(results: Results) -> str:
    """Return on how many links the defaults lose, and where most."""
    losses = []
    for (_, _, size), rows in cells(results).items():
        ours = default_cell(rows)
        if ours is not None and len(rows) > 1:
            losses.append((wall(ours) / min(map(wall, rows)), size, link(ours["work"])))
    if not losses:
        return ""
    few = sum(share <= _FEW for share, *_ in losses)
    worst, size, where = max(losses)
    text = (
        f"The defaults take at most {_FEW * 100 - 100:.0f} % longer than the best settings "
        f"on {few} of {len(losses)} pairs of size and link; at worst they take "
        f"{worst:.2f} times as long ({size / MIB:,.0f} MiB at {where})."
    )
    if skipped := len(results["skipped"]):
        text += (
            f" {skipped} combinations of settings and link were not measured, because the "
            "link alone would take too long."
        )
    return text

"""From what runs took to spreads, ratios and judgements; pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .work import OURS, Row, Target, Work


def bound(work: Work) -> float:
    """Return the seconds that latency alone takes for small files."""
    return math.ceil(work.count / work.concurrency) * work.latency


def summarized(
    row: Row, rounds: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Return the figures of each candidate, ours first, then by median wall time.

    Ratios are taken within each round; `row.less` is taken off both sides first.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, runs in rounds.items():
        kept = []
        for index, one in enumerate(runs):
            off = rounds[row.less][index]["wall"] if row.less in rounds else 0.0
            base: float | None = None
            if row.reference == "bound":
                base = bound(row.work) or None
            elif found_in := [n for n in row.references if n in rounds]:
                base = min(rounds[n][index]["wall"] for n in found_in) - off
            ratio = (one["wall"] - off) / base if base and base > 0 else None
            taken = {key: one[key] for key in ("wall", "cpu", "rss")}
            kept.append({**taken, "ratio": ratio})
        found[name] = {
            "rounds": kept,
            **{key: _spread([one[key] for one in kept]) for key in kept[0]},
            "micros": statistics.median(one["wall"] for one in kept)
            / max(1, row.work.count)
            * 1e6,
        }
    order = sorted(found, key=lambda n: (n != OURS, found[n]["wall"]["median"]))
    return {name: found[name] for name in order}


def _spread(values: Sequence[Any]) -> dict[str, Any] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    middle = statistics.median(known)
    return {"min": min(known), "median": middle, "max": max(known)}


def judged(target: Target, found: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return each limit of *target* beside what was reached, by medians."""

    def median(key: str) -> Any:
        spread = found[key] if found else None
        return spread["median"] if spread else None

    pairs = (
        ("ratio", target.ratio, median("ratio")),
        ("rss", target.rss, median("rss")),
        ("seconds", target.seconds, median("wall")),
        ("micros", target.micros, found["micros"] if found else None),
    )
    return [
        {
            "candidate": target.candidate,
            "kind": kind,
            "most": most,
            "reached": reached,
            "met": reached is not None and reached <= most,
        }
        for kind, most, reached in pairs
        if most is not None
    ]


def judge_series(rows: Sequence[Row], found: Sequence[dict[str, Any]]) -> None:
    """Add to each later point of a linear series what an item costs over the first's."""
    by_name = {one["name"]: one for one in found}
    first: dict[tuple[str, str], float] = {}
    for row in rows:
        one = by_name.get(row.name)
        if row.linear is None or row.series is None or one is None:
            continue
        for name in dict.fromkeys(target.candidate for target in row.targets):
            if name not in one["candidates"]:
                continue
            micros = one["candidates"][name]["micros"]
            base = first.setdefault((row.series, name), micros)
            if base == micros:
                continue
            reached = micros / base
            one["targets"].append(
                {
                    "candidate": name,
                    "kind": "linear",
                    "most": row.linear,
                    "reached": reached,
                    "met": reached <= row.linear,
                }
            )
            one["ok"] = all(target["met"] for target in one["targets"])

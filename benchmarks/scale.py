"""What one process carried, and how many of them fill what a store documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .results import Results, series
from .tables import Table, mebibytes, seconds, title_of
from .work import GIB, MAP, OURS, SERVE

# Of one account in one region, by Alibaba Cloud's page of limits: see docs/scale.md.
LIMIT_BITS = 10e9
LIMIT_REQUESTS = 10_000
_BYTES = ("put-1g", "multipart-uncapped", "tls-multipart", "stream-1m", "get-1g")
_FILES = (
    ("small-0ms", OURS),
    ("small-20ms", OURS),
    ("many-100k", MAP),
    ("small-serve", SERVE),
)


def carries(results: Results) -> Table:
    """Return rates of one process, its processor time, and how many fill a limit."""
    lines = [
        [
            "one process, measured",
            "carries",
            "processor",
            "fill 10 Gbit/s, or 10,000 requests/s",
        ]
    ]
    rows = {row["name"]: row for row in results["rows"]}
    for name in _BYTES:
        found = _found(rows, name, OURS)
        if found is not None:
            lines.append(_bytes(rows[name], found))
    for name, who in _FILES:
        found = _found(rows, name, who)
        if found is not None:
            lines.append(_files(rows[name], found, who))
    for name, version in (("sign-v4", "V4"), ("sign-v1", "V1")):
        found = _found(rows, name, OURS)
        if found is not None:
            rate = 1e6 / found["micros"]
            lines.append(
                [f"signing, {version}", f"{rate:,.0f} signatures/s",
                 f"{seconds(found['micros'] / 1e6)} each", _many(LIMIT_REQUESTS, rate)]
            )  # fmt: skip
    opened = series(results, "map")
    if opened:
        row = opened[-1]
        found = next(iter(row["candidates"].values()))
        lines.append(
            [f"opening a URL map of {row['work']['count']:,} entries",
             f"{row['work']['count'] / found['wall']['median']:,.0f} entries/s",
             f"{seconds(found['cpu']['median'])}, {mebibytes(found['rss']['median'])}",
             ""]
        )  # fmt: skip
    return lines


def _found(
    rows: Mapping[str, Mapping[str, Any]], name: str, who: str
) -> Mapping[str, Any] | None:
    return rows[name]["candidates"].get(who) if name in rows else None


def _bytes(row: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    size = row["work"]["size"]
    rate = size / found["wall"]["median"]
    cost = found["cpu"]["median"] / size * GIB
    cores = found["cpu"]["median"] / size * LIMIT_BITS / 8
    # What the link decides, another link would decide otherwise.
    count = "" if row["work"]["rate"] else f"{_many(LIMIT_BITS / 8, rate)}; "
    return [
        title_of(row),
        f"{rate / 1e6:,.0f} MB/s",
        f"{seconds(cost)} a GiB",
        f"{count}{cores:.1f} cores",
    ]


def _files(row: Mapping[str, Any], found: Mapping[str, Any], who: str) -> list[str]:
    count = row["work"]["count"]
    rate = count / found["wall"]["median"]
    title = title_of(row) if who == OURS else f"{title_of(row)}: `{who}`"
    return [
        title,
        f"{rate:,.0f} files/s",
        f"{seconds(found['cpu']['median'] / count)} a file",
        _many(LIMIT_REQUESTS, rate),
    ]


def _many(limit: float, rate: float) -> str:
    return f"{math.ceil(limit / rate):,}"


def spread(results: Results) -> Table:
    """Return what more dask workers bring."""
    lines = [["dask workers", "time", "carries", "of one"]]
    rows = series(results, "dask")
    first = None
    for row in rows:
        found = next(iter(row["candidates"].values()))
        taken = found["wall"]["median"]
        first = first or taken
        total = row["work"]["size"] * row["work"]["count"]
        lines.append(
            [f"{row['work']['concurrency']}", seconds(taken),
             f"{total / taken / 1e6:,.0f} MB/s", f"{first / taken:.2f}"]
        )  # fmt: skip
    return lines

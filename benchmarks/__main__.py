"""Measures all works with all clients, interleaved, and records what they took.

    python -m benchmarks             prints the tables
    python -m benchmarks --record    ... and writes them into docs/performance.md
    python -m benchmarks --quick     small bodies, whose checksums are compared; no time
    python -m benchmarks --only pipe,put --rounds 9 --before ../another-checkout

Each run is a process of its own, against the sink (`sink.c`), which is another. In each
round all clients of a work run one after the other, so a slow minute affects all alike.
Only a machine that does nothing else says anything about time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from fastcrc import crc64

from . import report
from .clients import BUCKET, CLIENTS, OURS, missing
from .sink import Sink, ask, pattern
from .work import BEFORE, GIB, MIB, WORKS, Work

ROOT = Path(__file__).parent.parent
_TIMEOUT = 300.0


class WrongError(Exception):
    """A client failed, or other bytes arrived than were sent."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only", help="names of works, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="that bytes arrive")
    parser.add_argument("--record", action="store_true", help="write results and page")
    parser.add_argument("--before", help="another checkout, as one more client")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else [work.name for work in WORKS]
    works = [work for work in WORKS if work.name in names]
    if len(works) != len(names):
        parser.error(f"works: {', '.join(work.name for work in WORKS)}")
    if given.record and (given.only or given.quick or given.before):
        parser.error("only a whole run can be recorded")
    started = time.monotonic()
    lost = {name: why for name in CLIENTS if (why := missing(name))}
    for why in lost.values():
        print(f"left out: {why}", flush=True)
    rows, wrong = [], []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=_memory()) as folder:
        for work in works:
            clients = [OURS, *([BEFORE] if given.before else [])]
            clients += [name for name in work.clients if name not in lost]
            try:
                rows.append(_row(work, clients, Path(folder), given))
                print(json.dumps(rows[-1]), flush=True)
            except WrongError as error:
                wrong.append(f"wrong: {work.name}: {error}")
                print(wrong[-1], flush=True)
    print(f"{time.monotonic() - started:.0f} s")
    if given.quick or wrong:
        return bool(wrong)
    found = {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "rounds": given.rounds,
        "machine": report.machine(),
        "rows": rows,
    }
    print(report.table(found))
    if given.record:
        report.record(found)
    return 0


def _memory() -> str | None:
    """Return a directory in memory with room for all files; None: there is none."""
    place = "/dev/shm"  # noqa: S108 - a directory of its own is made there
    with suppress(OSError):
        if shutil.disk_usage(place).free > 3 * GIB:
            return place
    return None


def _row(
    work: Work, clients: list[str], folder: Path, given: argparse.Namespace
) -> dict[str, Any]:
    """Run one work and return its medians.

    Raises:
        WrongError: Naming the client.
    """
    size = work.quick() if given.quick else work
    source = _source(size, folder)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in clients}
    calls: list[float] = []
    row: dict[str, Any] = {"name": work.name, "clients": {}}
    with ExitStack() as stack:
        sink = stack.enter_context(
            Sink(
                latency=size.latency,
                rate=size.rate,
                tls=size.tls,
                crc=given.quick,
                size=size.size if size.reads else 0,
            )
        )
        for _ in range(1 if given.quick else given.rounds):
            for name in clients:
                taken[name].append(_run(work, name, sink, source, given))
            if work.calls:
                found = _run(work, OURS, sink, source, given, calls=True)
                calls.append(found["calls"])
    if calls:
        row["calls"] = round(median(calls))
    for name, runs in taken.items():
        count = size.of(name).count
        one = {key: median(run[key] for run in runs) for key in ("wall", "cpu", "rss")}
        ratios = [
            (ours["wall"] / size.count) / (run["wall"] / count)
            for ours, run in zip(taken[OURS], runs, strict=True)
        ]
        row["clients"][name] = {
            "count": count,
            "wall": float(f"{one['wall']:.3g}"),
            "cpu": float(f"{one['cpu']:.3g}"),
            "rss": int(one["rss"]),
            "ratio": float(f"{median(ratios):.3g}"),
        }
    return row


def _source(work: Work, folder: Path) -> Path:
    """Return a directory with the files of a work; made once for each size."""
    place = folder / f"{work.size}x{work.count}"
    if work.verb == "first" or work.reads:
        place = folder / "none"
    if place.exists():
        return place
    place.mkdir()
    if place.name == "none":
        return place
    for at in range(work.count):
        with (place / f"{at:06d}.bin").open("wb") as file:
            for start in range(0, work.size, 64 * MIB):
                file.write(os.urandom(min(64 * MIB, work.size - start)))
    return place


def _run(
    work: Work,
    name: str,
    sink: Sink,
    source: Path,
    options: argparse.Namespace,
    *,
    calls: bool = False,
) -> dict[str, Any]:
    """Run one client in a process of its own and return what `one` printed."""
    with tempfile.TemporaryDirectory(prefix="one-", dir=source.parent) as target:
        given = {
            "client": name,
            "work": work.name,
            "quick": options.quick,
            "before": options.before,
            "calls": calls,
            "url": sink.url,
            "ca": sink.ca,
            "source": str(source),
            "target": target,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.one", json.dumps(given)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_TIMEOUT,
                cwd=ROOT,
            )
        except subprocess.TimeoutExpired:
            raise WrongError(f"{name}: did not end in {_TIMEOUT:.0f} s") from None
        if done.returncode:
            raise WrongError(f"{name}: {done.stderr.strip()[-1000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        size = (work.quick() if options.quick else work).of(name)
        if not calls:
            counted(size, name, found["stats"])
        if options.quick:
            _proved(size, name, sink, source, Path(target))
    return found


def counted(work: Work, name: str, stats: dict[str, int]) -> None:
    """Refuse a run of which not exactly the bytes and objects arrived."""
    total = work.size * work.count
    wanted: dict[str, int] = {}
    if work.verb == "info":
        wanted = {"heads": work.count}
    elif work.reads:
        wanted = {"sent": total}
    elif work.verb != "first":
        wanted = {"bytes": total, "objects": work.count}
    stats = {**stats, "objects": stats["puts"] + stats["completed"]}
    found = {key: stats[key] for key in wanted}
    if found != wanted:
        raise WrongError(f"{name}: {found}, not {wanted}")


def _proved(work: Work, name: str, sink: Sink, source: Path, target: Path) -> None:
    """Compare the checksum of each object that was stored, or file that was read."""
    if work.verb in ("first", "cat", "info"):
        return
    for at in range(work.count):
        key = f"{at:06d}.bin"
        if work.reads:
            same = target.joinpath(key).read_bytes() == pattern(0, work.size)
        else:
            told = ask(sink.url, sink.ca, f"/{BUCKET}/bench/{key}", method="HEAD")
            same = int(told) == crc64.xz(source.joinpath(key).read_bytes())
        if not same:
            raise WrongError(f"{name}: {key}: other bytes arrived")


if __name__ == "__main__":
    raise SystemExit(main())

"""Runs the candidates of each row, interleaved, and keeps what they took.

One row: every candidate runs once against a sink that computes checksums, which proves
that the right bytes arrive and warms up what can be warmed; then all of them, A B C
A B C, once a round, against a sink that only counts. Each run is a process of its own.

The producer of a stream makes every block anew in the first run, and hands out the same
ones again and again in the measured ones: these time the client, that one shows what a
client holds that keeps what is written, and is the least that any round tells as `rss`.

What `run` returns, and `--out` writes, is JSON:

    version     1
    taken       UTC, ISO 8601
    suite       name; quick: bool; rounds: int
    machine     system, kernel, cpu (model), cores, memory (bytes), python (version),
                packages {name: version}, programs {name: version line}, limits (text)
    rows        list, in order:
        name, title, verb, work {fields of Work}, ideal (seconds of link and producer),
        reference (candidates with | between them, "bound", null), less (candidate, null), series (null)
        bound       seconds, if the reference is "bound"
        candidates  {name: {
            checks, note    texts
            proof           "crc64": checksums of all bodies are right; "bytes": their
                            number is; "none": nothing arrives in this work
            rounds          [{wall, cpu, rss, ratio}]: seconds, seconds, bytes, and wall
                            over that of the reference in the same round (null)
            wall, cpu, rss, ratio   {min, median, max}; ratio may be null
            micros          median wall over count, microseconds
        }}, ours first, then by median
        failed      {name: text}: what did not run, or sent wrong bytes
        targets     [{candidate, kind, most, reached, met}]; kind: "ratio", "rss",
                    "seconds", "micros", "linear"; reached null: it did not run
        ok          all targets met; null if there are none. Who was not asked
                    to run (--only) is not judged
    missing     {candidate: what this machine lacks}
    skipped     [{name, ideal}]: cells of the sweep that would take too long
    wrong       ["row: candidate: text"]: what makes the command fail
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from .candidates import Candidate, registry
from .data import Data
from .figures import bound, judge_series, judged, summarized
from .machine import machine
from .sink import Sink
from .work import MANY, OURS, Row, Work

_TIMEOUT = 900.0
_QUICK_TIMEOUT = 60.0
_RECEIVED = ("put", "multipart", "stream", "start", "map", *MANY)
_FULL_PROOF = ("osspresigned", "hand:")
_SILENT = "hand:bare"
_AT_ONCE = 4
Say = Callable[[str], None]


class WrongError(Exception):
    """A candidate failed, or other bytes came than were sent."""


@frozen
class Plan:
    """What to run.

    Attributes:
        rows: In this order.
        data: Makes the files.
        suite: The name of the rows, for the report.
        rounds: Measured runs of each candidate.
        only: Candidates to run, and the references they need. Empty: all.
        quick: Correctness only: one run, which proves, and is the only round; the first
            row of each verb, and of TLS, has all candidates, the others ours and the
            reference.
        all_peers: A Python peer that is missing is an error.
        say: Takes one line of progress.
    """

    rows: Sequence[Row]
    data: Data
    suite: str = "targets"
    rounds: int = 5
    only: frozenset[str] = frozenset()
    quick: bool = False
    all_peers: bool = False
    say: Say = print
    skipped: Sequence[Mapping[str, object]] = ()
    done: Callable[[dict[str, Any]], None] = field(default=lambda _: None)


def run(plan: Plan) -> dict[str, Any]:
    """Run everything and return what was measured."""
    known = registry()
    missing = {n: why for n, c in known.items() if (why := c.missing())}
    result: dict[str, Any] = {
        "version": 1,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "suite": plan.suite,
        "quick": plan.quick,
        "rounds": plan.rounds,
        "machine": machine(),
        "rows": [],
        "missing": missing,
        "skipped": list(plan.skipped),
        "wrong": [],
    }
    for name, why in missing.items():
        plan.say(f"left out: {name}: {why}")
        if plan.all_peers and known[name].needs:
            result["wrong"].append(f"{name}: {why}")
    seen: set[str] = set()
    for number, row in enumerate(plan.rows, 1):
        kind = "tls" if row.work.tls else row.work.verb
        first = kind not in seen
        seen.add(kind)
        taking = _taking(row, known, missing, plan, everybody=first or not plan.quick)
        if not taking:
            continue
        started = time.monotonic()
        found = _row(row, taking, plan)
        result["rows"].append(found)
        result["wrong"] += [f"{row.name}: {n}: {e}" for n, e in found["failed"].items()]
        took = time.monotonic() - started
        plan.say(f"[{number}/{len(plan.rows)}] {_line(found)}  ({took:.0f} s)")
        plan.done(result)
    judge_series(plan.rows, result["rows"])
    plan.done(result)
    return result


def _taking(
    row: Row,
    known: Mapping[str, Candidate],
    missing: Mapping[str, str],
    plan: Plan,
    *,
    everybody: bool,
) -> list[Candidate]:
    """Return who runs in a row."""
    needed = {*row.references, row.less}
    needed |= {t.candidate for t in row.targets if not t.candidate.startswith(OURS)}
    wanted = {OURS, *(target.candidate for target in row.targets), *row.only}
    found = []
    for name, one in known.items():
        if name in missing or row.work.verb not in one.verbs:
            continue
        if name not in needed:
            if not row.takes(name) or not (everybody or name in wanted):
                continue
            if plan.only and name not in plan.only:
                continue
        found.append(one)
    return found


def _row(row: Row, taking: Iterable[Candidate], plan: Plan) -> dict[str, Any]:
    work = row.work
    plan.data.warm(work)
    names = {one.name: one for one in taking}
    failed: dict[str, str] = {}
    proofs: dict[str, str] = {}
    rounds: dict[str, list[dict[str, Any]]] = {}
    fresh: dict[str, int] = {}
    # The sweep has hundreds of cells of one kind: their bytes are counted only.
    proves = row.series != "sweep" or plan.quick
    for name, found in _proved(list(names), work, plan, proves=proves).items():
        if isinstance(found, WrongError):
            failed[name] = str(found)
        else:
            proofs[name], taken = found
            rounds[name] = [taken] if plan.quick else []
            fresh[name] = taken["rss"] if work.verb == "stream" else 0
    with _sink(work, crc=False) as sink:
        for _ in range(0 if plan.quick else plan.rounds):
            for name in [name for name in rounds if name not in failed]:
                try:
                    taken = run_one(name, work, sink, plan.data)
                    check_count(name, work, taken)
                    taken["rss"] = max(taken["rss"], fresh[name])
                    rounds[name].append(taken)
                except WrongError as error:
                    failed[name] = str(error)
    whole = {n: taken for n, taken in rounds.items() if n not in failed}
    candidates = summarized(row, whole)
    for name, one in candidates.items():
        about = {"checks": names[name].checks, "note": names[name].note}
        candidates[name] = {**about, "proof": proofs[name], **one}
    targets = [
        limit
        for target in row.targets
        if target.candidate in names
        for limit in judged(target, candidates.get(target.candidate))
    ]
    result = {
        "name": row.name,
        "title": row.title,
        "verb": work.verb,
        "work": work.as_dict(),
        "ideal": work.ideal,
        "reference": row.reference,
        "less": row.less,
        "series": row.series,
        "candidates": candidates,
        "failed": failed,
        "targets": targets,
        "ok": all(target["met"] for target in targets) if targets else None,
    }
    if row.reference == "bound":
        result["bound"] = bound(work)
    return result


def _proved(
    names: Sequence[str], work: Work, plan: Plan, *, proves: bool
) -> dict[str, tuple[str, dict[str, Any]] | WrongError]:
    """Run each once and return what proves it, and what it took; or what was wrong.

    At once where time does not count: starting Python is what a small run takes.
    """
    if not proves:
        return dict.fromkeys(names, ("bytes", {"rss": 0}))
    work = evolve(work, fresh=True)

    def one(name: str) -> tuple[str, dict[str, Any]] | WrongError:
        timeout = _QUICK_TIMEOUT if plan.quick else _TIMEOUT
        with _sink(work, crc=True) as sink:
            try:
                taken = run_one(name, work, sink, plan.data, timeout)
                return proof(name, work, taken, plan.data), taken
            except WrongError as error:
                return error

    with ThreadPoolExecutor(_AT_ONCE if plan.quick else 1) as threads:
        return dict(zip(names, threads.map(one, names), strict=True))


def _sink(work: Work, *, crc: bool) -> Sink:
    reads = work.verb in ("get", "ranges", "heads")
    return Sink(
        latency=work.latency,
        rate=work.rate,
        tls=work.tls,
        crc=crc,
        size=work.size if reads else 0,
        slow=(work.slow, work.slow_by) if work.slow else None,
    )


def run_one(
    name: str, work: Work, sink: Any, data: Data, timeout: float = _TIMEOUT
) -> dict[str, Any]:
    """Run one candidate in a process of its own and return what it printed.

    Raises:
        WrongError: It failed, with the last lines of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        where = {
            "url": sink.url,
            "ca": sink.ca,
            "source": data.source(work),
            "directory": directory,
        }
        texts = json.dumps(work.as_dict()), json.dumps(where)
        command = [sys.executable, "-m", "benchmarks.run_one", name, *texts]
        root = Path(__file__).parent.parent
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                cwd=root,
            )
        except subprocess.TimeoutExpired:
            raise WrongError(f"did not end in {timeout:.0f} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise WrongError(said[-1][:300])
    return dict(json.loads(lines[-1]))


def check_count(name: str, work: Work, taken: Mapping[str, Any]) -> None:
    """Refuse a run of which not exactly the bytes and objects arrived.

    Raises:
        WrongError: Saying what came instead.
    """
    if not work.total:
        return
    stats = taken["stats"]
    if work.verb == "heads":
        _same("HEADs", stats["heads"], work.count)
        return
    if name == _SILENT:
        _same("bytes", stats["bytes"], 0)
    elif work.verb in _RECEIVED:
        _same("bytes", stats["bytes"], work.total)
        whole = stats["puts"] + stats["completed"]
        objects = work.count if work.verb in (*MANY, "start") else 1
        if not stats.get("appends"):
            _same("objects", whole, objects)
    elif stats["sent"] < work.total:
        _same("bytes sent", stats["sent"], work.total)
    if work.verb == "get":
        _same("bytes in the file", taken["size"], work.size)
        _same("CRC-64 of the file", taken["crc64"], taken["stated"])


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongError(f"{what}: {found}, not {wanted}")


def proof(name: str, work: Work, taken: Mapping[str, Any], data: Data) -> str:
    """Return what proves that the right bytes came; see the JSON's `proof`.

    Raises:
        WrongError: They did not.
    """
    check_count(name, work, taken)
    if not work.total:
        return "none"
    if work.verb not in _RECEIVED:
        return "crc64" if work.verb == "get" else "bytes"
    if work.verb == "start":
        return "bytes"  # the scripts send what they please
    if taken["stats"]["crc64"] in data.proofs(work):
        return "crc64"
    # Peers may cut parts otherwise, or frame what they send.
    if name.startswith(_FULL_PROOF):
        raise WrongError("the checksums of what arrived are not those of what was sent")
    return "bytes"


def _line(found: Mapping[str, Any]) -> str:
    """Return one line about a row: ours, and whether its targets are met."""
    texts = [found["name"].ljust(24)]
    for name, one in list(found["candidates"].items())[:1]:
        ratio = f" x{one['ratio']['median']:.2f}" if one["ratio"] else ""
        rss = one["rss"]["median"] / (1 << 20)
        texts.append(f"{name} {one['wall']['median']:.2f} s{ratio} +{rss:.0f} MiB")
    texts.append({True: "ok", False: "MISSED", None: ""}[found["ok"]])
    texts += [f"FAILED {name}: {error}" for name, error in found["failed"].items()]
    return "  ".join(texts)

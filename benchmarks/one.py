"""One client does one work, once, in this process, and prints what it took as JSON.

wall    seconds
cpu     seconds of processor, user and system, with those of child processes
rss     bytes by which the resident memory grew at its peak, or all of a child's
calls   Python calls of an object in all threads; only if asked for, then no time
stats   what the sink counted meanwhile
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import evolve

from .clients import CLIENTS, Job
from .sink import ask
from .work import BEFORE, KIB, WORKS, Work

_KINDS = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def main(text: str) -> None:
    """Run what the JSON *text* says: see `run` in `__main__`."""
    given = json.loads(text)
    name, url, ca = given["client"], given["url"], given["ca"]
    if name == BEFORE:  # nothing has imported this package yet
        sys.path.insert(0, given["before"])
    work = next(work for work in WORKS if work.name == given["work"])
    work = (work.quick() if given["quick"] else work).of(name)
    if given["calls"]:
        work = evolve(work, count=min(work.count, 1000))
    source, target = Path(given["source"]), Path(given["target"])
    counter = _Counter()
    if given["calls"]:  # before the first thread
        threading.setprofile(counter)
        sys.setprofile(counter)
    client = CLIENTS[name](work, url, ca)
    if work.verb != "first":
        client.ready(_small(work, target))()
    done = client.ready(Job(work, _part(source, work, target), target, "bench/"))
    ask(url, ca, "/__reset")
    counter.on = given["calls"]
    found = _measured(done)
    counter.on = False
    sys.setprofile(None)
    if given["calls"]:
        found["calls"] = counter.count / work.count
    # Nothing is closed: a client may say goodbye by requests.
    found["stats"] = json.loads(ask(url, ca, "/__stats"))
    print(json.dumps(found), flush=True)
    os._exit(0)


class _Counter:
    """Counts calls of Python functions, and resumptions of coroutines."""

    def __init__(self) -> None:
        self.on, self.count = False, 0

    def __call__(self, _frame: Any, event: str, _argument: Any) -> None:
        if event == "call" and self.on:
            self.count += 1


def _small(work: Work, target: Path) -> Job:
    """Return a job that warms a client up: libraries, and one connection."""
    small = evolve(work, size=min(work.size, KIB), count=min(work.count, 2))
    source, place = target / "warm-source", target / "warm-target"
    source.mkdir()
    place.mkdir()
    job = Job(small, source, place, "warm/")
    for path in job.files():
        path.write_bytes(b"w" * small.size)
    return job


def _part(source: Path, work: Work, target: Path) -> Path:
    """Return a directory with the files of this work only."""
    names = sorted(os.listdir(source))
    if work.reads or len(names) == work.count:
        return source
    place = target / "source"
    place.mkdir()
    for name in names[: work.count]:
        shutil.copyfile(source / name, place / name)
    return place


def _measured(done: Callable[[], object]) -> dict[str, Any]:
    gc.collect()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before, children = _status("VmRSS"), _children()
    used, started = _cpu(), time.perf_counter()
    done()
    wall, cpu = time.perf_counter() - started, _cpu() - used
    child = _children() if _children() > children else 0
    return {"wall": wall, "cpu": cpu, "rss": max(_status("VmHWM") - before, child)}


def _cpu() -> float:
    both = [resource.getrusage(kind) for kind in _KINDS]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    found = next(line for line in lines if line.startswith(name))
    return int(found.split()[1]) * KIB


if __name__ == "__main__":
    main(sys.argv[1])

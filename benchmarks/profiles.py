"""Where the time of each hot path goes, by layer.

    python -m benchmarks.profiles [PATH ...] [--against DIR] [--rounds N]

Each path runs in processes of its own: plainly, for its processor time and what the
kernel counts beside it (with one worker, and with as many as usual); under cProfile in
every thread, on the clock of the thread's own processor time; and under strace, where
that is installed, for its system calls. DIR is another checkout of the project, whose
package is run by turns with this one.

cProfile makes short functions look longer than they are: its shares tell where to look,
the plain runs tell how much there is.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve

from .candidates import Where, registry
from .data import Data
from .sink import Sink
from .work import GIB, GRANT, KIB, MAP, MIB, OURS, SERVE, Work

SIGNING = "signing"
PLANNING = "planning, records"
EXCHANGE = "own exchange"
LIBRARIES = "requests, urllib3, http.client"
FILES = "files"
CRC = "CRC-64"
SOCKETS = "sockets, TLS"
PRODUCER = "the caller"
LAYERS = (SIGNING, PLANNING, EXCHANGE, LIBRARIES, FILES, CRC, SOCKETS, PRODUCER)

_SMALL = Work("small", "small", 4 * KIB, 5000, concurrency=32)
PATHS: dict[str, tuple[str, Work]] = {
    "small": (OURS, _SMALL),
    "small-map": (MAP, _SMALL),
    "small-grant": (GRANT, _SMALL),
    "small-serve": (SERVE, _SMALL),
    "put": (OURS, Work("put", "put", GIB, concurrency=1)),
    "multipart": (OURS, Work("multipart", "multipart", GIB)),
    "tls-multipart": (OURS, Work("tls-multipart", "multipart", GIB, tls=True)),
    "stream-1m": (OURS, Work("stream-1m", "stream", GIB)),
    "stream-64k": (OURS, Work("stream-64k", "stream", GIB, block=64 * KIB)),
    "stream-4k": (OURS, Work("stream-4k", "stream", GIB, block=4 * KIB)),
    "get": (OURS, Work("get", "get", GIB)),
    "ranges": (OURS, Work("ranges", "ranges", GIB, 1000, block=16 * KIB)),
    "sign-v4": (OURS, Work("sign-v4", "sign", 0, 20_000)),
    "sign-v1": (OURS, Work("sign-v1", "sign", 0, 20_000, version="v1")),
}
# Folders of the package, or single modules of them; all others plan and record.
_PLACES = {
    **dict.fromkeys(("signers", "signing", "url_map", "secret", "dialects"), SIGNING),
    "http": EXCHANGE,
    **dict.fromkeys(("http/body", "objects/download"), FILES),
}
_OF_C = (
    (re.compile(r"_socket\.socket|_ssl\.|socket_"), SOCKETS),
    (re.compile(r"crc64|\bxz\b"), CRC),
    (re.compile(r"_io\.(?!Buffered|Bytes|String)|io\.open|posix\."), FILES),
)
_LIBRARY = r"/(requests|urllib3|email)/|/http/client\.py|/(ssl|socket)\.py"
_ELSEWHERE = (
    (re.compile(_LIBRARY), LIBRARIES),
    (re.compile(r"/fsspec/"), PLANNING),
    (re.compile(r"/benchmarks/"), PRODUCER),
)
_PACKAGE = re.compile(r"/fsspec_osspresigned/((\w+)(?:/\w+)*)\.py$")

Function = tuple[str, int, str]
Timings = Mapping[Function, tuple[int, int, float, float, Mapping[Function, Any]]]


def layer_of(function: Function) -> str | None:
    """Return the layer that a function is of; None if it is of whoever calls it."""
    file, _, name = function
    if file == "~":
        return next((layer for it, layer in _OF_C if it.search(name)), None)
    if found := _PACKAGE.search(file):
        return _PLACES.get(found[1]) or _PLACES.get(found[2], PLANNING)
    return next((layer for it, layer in _ELSEWHERE if it.search(file)), None)


def by_layer(timings: Timings) -> dict[str, float]:
    """Return seconds by layer; what is of no layer goes to its callers, in proportion."""
    sums: Counter[str] = Counter()

    def give(function: Function, seconds: float, way: frozenset[Function]) -> None:
        layer = layer_of(function)
        callers = {
            caller: told[3]
            for caller, told in timings[function][4].items()
            if caller in timings and caller not in way
        }
        whole = sum(callers.values())
        if layer is not None or not whole:
            sums[layer or PLANNING] += seconds
            return
        for caller, share in callers.items():
            if share:
                give(caller, seconds * share / whole, way | {function})

    for function, (_, _, own, _, callers) in timings.items():
        if layer_of(function) is not None or not callers:
            give(function, own, frozenset())
            continue
        for caller, told in callers.items():  # exact for those who call directly
            if caller in timings:
                give(caller, told[2], frozenset({function}))
    return dict(sums)


class Profiles:
    """One profile for each thread that runs something of ours."""

    def __init__(self) -> None:
        """Profile nothing yet."""
        self._found: list[cProfile.Profile] = []
        self._lock = threading.Lock()

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call *function* under a profile of its own."""
        profile = cProfile.Profile(time.thread_time)
        try:
            return profile.runcall(function, *args, **kwargs)
        finally:
            with self._lock:
                self._found.append(profile)

    @contextmanager
    def of_engine(self) -> Iterator[None]:
        """Run under profiles whatever the engine and its workers do in the block."""
        from fsspec_osspresigned.engine import engine, threads  # noqa: PLC0415 - of that tree

        profile, run_job = cProfile.Profile(time.thread_time), threads.Job.run

        async def begin() -> None:
            profile.enable()

        async def end() -> None:
            profile.disable()

        threads.Job.run = lambda job: self.run(run_job, job)  # type: ignore[method-assign]
        engine.run(begin)
        try:
            yield
        finally:
            engine.run(end)
            threads.Job.run = run_job  # type: ignore[method-assign]
            self._found.append(profile)

    def timings(self) -> Timings:
        """Return them all as one."""
        stats = pstats.Stats(*self._found)
        return stats.stats  # type: ignore[attr-defined]


def child(name: str, work: Work, mode: str, where: Where) -> dict[str, Any]:
    """Run one path in this process and return what it took."""
    timed = registry()[PATHS[name][0]].prepare(work, where)
    profiles = Profiles()
    with where.closing:
        if mode == "idle":
            return {}
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        if mode == "profile":
            with profiles.of_engine():
                profiles.run(timed)
        else:
            timed()
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF)
    found: dict[str, Any] = {
        "wall": wall,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "switches": after.ru_nvcsw - before.ru_nvcsw,
        "faults": after.ru_minflt - before.ru_minflt,
    }
    if mode == "profile":
        timings = profiles.timings()
        found["layers"] = by_layer(timings)
        most = sorted(timings.items(), key=lambda item: -item[1][2])[:30]
        found["most"] = [
            [f"{os.path.basename(f)}:{line} {n}", told[1], told[2]]
            for (f, line, n), told in most
        ]
    return found


class Runner:
    """Starts the processes of one path."""

    def __init__(self, name: str, sink: Sink, data: Data, scratch: str) -> None:
        """Use *sink* for all of them."""
        self._name = name
        self._work = PATHS[name][1]
        self._sink = sink
        self._data = data
        self._scratch = scratch

    def run(
        self, tree: str, mode: str, prefix: Sequence[str] = (), **changes: Any
    ) -> dict[str, Any]:
        """Run it once."""
        work = evolve(self._work, **changes)
        self._data.warm(work)
        where = {
            "url": self._sink.url,
            "ca": self._sink.ca,
            "directory": self._scratch,
            "source": self._data.source(work),
        }
        told = [self._name, json.dumps(work.as_dict()), mode, json.dumps(where), tree]
        module = f"{__package__}.profiles"
        command = [*prefix, sys.executable, "-m", module, "--child", *told]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        # Else the next one would pay for what this one left: to free it takes a while.
        Path(self._scratch, "download.bin").unlink(missing_ok=True)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def calls(self, tree: str) -> tuple[Counter[str], float]:
        """Return system calls by name, and files (or MiB) that they were for."""
        work = self._work
        less: dict[str, int] = {"concurrency": 1}
        if work.verb in ("put", "multipart", "stream"):  # the sink decides of a "get"
            less["size"] = 128 * MIB
        else:
            less["count"] = min(500, work.count)
        calls: Counter[str] = Counter()
        for mode in ("plain", "idle"):
            log = Path(self._scratch, "strace")
            prefix = ("strace", "-f", "-c", "-o", os.fspath(log))
            self.run(tree, mode, prefix, **less)
            found = Counter(dict(counted(log.read_text())))
            calls.update(found) if mode == "plain" else calls.subtract(found)
        return calls, units(evolve(work, **less))[0]


def counted(table: str) -> Iterator[tuple[str, int]]:
    """Read the table of strace: share, seconds, microseconds a call, calls, errors."""
    for line in table.splitlines():
        words = line.split()
        if len(words) > 4 and words[3].isdigit() and words[-1] != "total":
            yield words[-1], int(words[3])


def units(work: Work) -> tuple[float, str]:
    """Return how many of what *work* is made of."""
    if work.verb in ("put", "multipart", "stream", "get"):
        return work.size / MIB, "MiB"
    return work.count, {"small": "file", "ranges": "range"}.get(work.verb, "URL")


def _plain(
    runner: Runner, trees: Mapping[str, str], rounds: int, width: int, count: float
) -> None:
    taken: dict[str, list[dict[str, Any]]] = {tree: [] for tree in trees}
    for _ in range(rounds):
        for tree, place in trees.items():
            taken[tree].append(runner.run(place, "plain", concurrency=width))
    for tree, runs in taken.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        cpu = middle["user"] + middle["system"]
        print(
            f"  {tree:7}{width:3} at once: {cpu / count * 1e6:9.1f} us CPU "
            f"({middle['system'] / cpu:4.0%} system), "
            f"{middle['wall'] / count * 1e6:9.1f} us wall, "
            f"{middle['switches'] / count:6.2f} switches, "
            f"{middle['faults'] / count:6.2f} faults",
            flush=True,
        )


def _shares(runner: Runner, trees: Mapping[str, str], count: float) -> None:
    layers = {}
    for tree, place in trees.items():
        found = runner.run(place, "profile", concurrency=1)
        whole = sum(found["layers"].values())
        layers[tree] = {k: v / whole for k, v in found["layers"].items()}
        if os.environ.get("PROFILES_MOST"):
            for what, calls, seconds in found["most"]:
                print(f"    {seconds / whole:6.1%} {calls / count:8.2f}  {what}")
    print(f"  {'share of the profile':34}" + "".join(f"{t:>9}" for t in trees))
    for layer in LAYERS:
        shares = [layers[tree].get(layer, 0.0) for tree in trees]
        if max(shares) > 0.0005:
            print(f"    {layer:32}" + "".join(f"{share:9.1%}" for share in shares))


def _show(name: str, runner: Runner, trees: Mapping[str, str], rounds: int) -> None:
    work = PATHS[name][1]
    count, unit = units(work)
    print(f"\n{name}: each number for one {unit}", flush=True)
    for width in sorted({1, work.concurrency}):
        if width == 1 or work.verb != "sign":
            _plain(runner, trees, rounds, width, count)
    _shares(runner, trees, count)
    if shutil.which("strace") is None or work.verb == "sign":
        return
    for tree, place in trees.items():
        calls, over = runner.calls(place)
        most = ", ".join(
            f"{n} {c / over:.2f}" for n, c in calls.most_common(12) if c > 0.02 * over
        )
        print(f"  {tree:7}{calls.total() / over:7.2f} system calls: {most}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Profile what is asked for, or all."""
    if arguments[:1] == ["--child"]:
        name, work_text, mode, where_text, tree = arguments[1:]
        sys.path.insert(0, tree)
        given = json.loads(where_text)
        source = given["source"]
        names = sorted(os.listdir(source)) if source else []
        where = Where(files=tuple(f"{source}/{one}" for one in names), **given)
        found = child(name, Work.from_dict(json.loads(work_text)), mode, where)
        print(json.dumps(found), flush=True)
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles")
    parser.add_argument("paths", nargs="*", metavar="PATH", help=", ".join(PATHS))
    parser.add_argument("--against", metavar="DIR", help="another checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="where the files are kept")
    given = parser.parse_args(arguments)
    if unknown := set(given.paths) - set(PATHS):
        parser.error(f"no such path: {', '.join(sorted(unknown))}")
    trees = {"before": given.against} if given.against else {}
    trees["after" if given.against else "now"] = os.getcwd()
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        data = Data(given.data or Path(scratch, "data"))
        for name in given.paths or PATHS:
            work = PATHS[name][1]
            size = work.size if work.verb in ("get", "ranges") else 0
            with Sink(tls=work.tls, size=size) as sink:
                runner = Runner(name, sink, data, scratch)
                _show(name, runner, trees, given.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

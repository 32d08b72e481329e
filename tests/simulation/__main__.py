"""``python -m tests.simulation``: runs programs, finds failures, and shrinks them.

--seed N          one program; prints one line with the hash of its trace
--seeds A:B       those programs, or A,B,C
--minutes M       fresh programs on all cores, for that long
--file PATH       a program from a file
--limit SECONDS   of real time for one program; one that takes longer is undecided,
                  because the machine may be slow

The exit code is 1 if a program failed, or if 400 or more left something unreached that
``reached`` names, and 2 if all of them are undecided.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import secrets
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

_REAL_TIME, _REAL_WRITE = time.time, os.write

if os.environ.get("PYTHONHASHSEED") != "0":  # makes the order of sets of texts fixed
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

import concurrent.futures.thread  # noqa: E402, F401 - the import needs real locks

import fsspec  # noqa: E402, F401 - the import needs real locks
import requests  # noqa: E402, F401 - the import needs real locks

from . import marks, world  # noqa: E402 - must precede all modules of the package

world.install()

from .programs import Program, draw, smaller  # noqa: E402
from .reached import wanted  # noqa: E402
from .simulate import simulate  # noqa: E402

# minimum number of programs that together must reach everything in ``wanted``
_MANY = 400
_UNDECIDED = "undecided: it did not end within the limit of real time"


class Child:
    """One program in a separate process."""

    def __init__(self, program: Program, limit: float, place: str = "") -> None:
        self.program, self.limit, self.end = program, limit, _REAL_TIME() + limit
        self.place = place  # directory that an earlier life has left
        sys.stdout.flush()
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.reader)
            self._live(writer)
        os.close(writer)
        self.data = b""

    def _live(self, writer: int) -> None:
        def tell(result: Any) -> None:
            facts = {n: getattr(result, n) for n in result.__slots__ if n[0] != "_"}
            data = json.dumps({**facts, "marks": [*marks]}).encode()
            while data:
                data = data[_REAL_WRITE(writer, data) :]
            os._exit(0)

        simulate(self.program, tell, self.place)

    def result(self) -> dict[str, Any] | None:
        """Return how the program ended; None while it runs."""
        if _REAL_TIME() >= self.end:
            os.kill(self.pid, signal.SIGKILL)
            self._bury()
            return {"problem": _UNDECIDED}
        ready, _, _ = select.select([self.reader], [], [], 0)
        if not ready:
            return None
        block = os.read(self.reader, 1 << 16)
        self.data += block
        if block:
            return None
        self._bury()
        if not self.data:
            return {"problem": "the process died"}
        result: dict[str, Any] = json.loads(self.data)
        if not result["crashed"]:
            return result
        second = Child(self.program, self.limit, result["crashed"]).wait()
        second["digest"] = f"{result['digest']}+{second.get('digest', '')}"
        both = Counter(result["reached"]) + Counter(second.get("reached", {}))
        both_marks = [*result["marks"], *second.get("marks", [])]
        facts = {"calls": result["calls"], "reached": both, "marks": both_marks}
        return {**second, **facts}

    def _bury(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self.reader)

    def wait(self) -> dict[str, Any]:
        while (result := self.result()) is None:
            select.select([self.reader], [], [], 0.5)
        return result


def _requests(result: dict[str, Any]) -> int:
    return sum(n for name, n in result["reached"].items() if name[:5] == "call ")


def shown(seed: int, result: dict[str, Any]) -> str:
    if result["problem"]:
        return f"seed {seed}: {result['problem']}"
    return (
        f"seed {seed}: ok, {result['calls']} calls, {_requests(result)} requests, "
        f"{result['steps']} steps, {result['seconds']:.0f} s, trace {result['digest']}"
    )


def kind(problem: str) -> str:
    """Return a text that is equal for all failures of one defect."""
    return problem[:40]


def shrink(child: Child, problem: str, seconds: float) -> Program:
    """Return the smallest program found that fails in the same way."""
    program = child.program
    end = _REAL_TIME() + seconds
    while _REAL_TIME() < end:
        for candidate in smaller(program):
            if _REAL_TIME() > end:
                break
            result = Child(candidate, child.limit).wait()
            if result["problem"] and kind(result["problem"]) == kind(problem):
                program = candidate
                break
        else:
            break
    return program


def run_all(
    programs: Iterator[Program], until: float, given: argparse.Namespace
) -> int:
    """Begin *programs* before the time *until*, and return the exit code."""
    running: list[Child] = []
    cores = os.cpu_count() or 1
    failed = undecided = done = 0
    longest, reached = 0.0, Counter[str]()
    began, hours = _REAL_TIME(), 0.0
    while True:
        while len(running) < cores and _REAL_TIME() < until:
            program = next(programs, None)
            if program is None:
                break
            running.append(Child(program, given.limit))
        if not running:
            break
        select.select([child.reader for child in running], [], [], 0.5)
        for child in list(running):
            if (result := child.result()) is None:
                continue
            running.remove(child)
            done += 1
            problem = result["problem"]
            reached.update(result.get("reached", {}))
            longest = max(longest, result.get("longest", 0.0))
            hours += result.get("seconds", 0.0) / 3600
            if problem or not given.quiet:
                print(shown(child.program["seed"], result), flush=True)
            if passed := result.get("marks"):
                print(f"seed {child.program['seed']} has the marks", *passed)
            if problem == _UNDECIDED:
                undecided += 1
            elif problem:
                failed += 1
                until = 0.0 if given.first else until
                if given.shrink:
                    small = shrink(child, problem, given.shrink)
                    print(json.dumps(small), flush=True)
    more = f", {undecided} undecided" if undecided else ""
    missing = [name for name in wanted() if not reached[name]] if done >= _MANY else []
    if missing:
        print(f"never reached: {', '.join(missing)}")
    if done >= _MANY:
        print(f"the longest wait after an interrupt or a cancellation: {longest:.1f} s")
        took = (_REAL_TIME() - began) / hours
        print(f"{hours:.1f} virtual hours, each in {took:.0f} s of real time")
    print(f"{done} programs, {failed} failed{more}")
    return 1 if failed or missing else 2 if 0 < undecided == done else 0


def main() -> int:
    gc.freeze()  # each program looks for garbage only among its own objects
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--file")
    parser.add_argument("--limit", type=float, default=120.0, metavar="SECONDS")
    parser.add_argument("--program", action="store_true", help="print the program")
    parser.add_argument("--shrink", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--first", action="store_true", help="end at the first failure")
    given = parser.parse_args()
    until = float("inf")
    seeds: Iterable[int]
    if given.file:
        with open(given.file, encoding="utf-8") as file:
            return run_all(iter([json.load(file)]), until, given)
    if given.seed is not None:
        seeds = [given.seed]
        if given.program:
            print(json.dumps(draw(given.seed), indent=1))
    elif given.seeds:
        first, colon, last = given.seeds.partition(":")
        seeds = range(int(first), int(last)) if colon else map(int, first.split(","))
    else:
        start = secrets.randbelow(10**9)
        print(f"seeds from {start}")
        until = _REAL_TIME() + 60 * (given.minutes or 1)
        seeds, given.quiet = range(start, 10**10), True
    return run_all(map(draw, seeds), until, given)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.simulation``: runs programs, finds failures, and makes them small.

--seed N          one program; prints one line with the hash of its trace
--seeds A:B       those programs
--minutes M       fresh programs on all cores, for that long
--file PATH       a program from a file
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import signal
import sys
import time
from typing import Any

_REAL_TIME, _REAL_WRITE = time.time, os.write

if os.environ.get("PYTHONHASHSEED") != "0":  # sets of texts have one order
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

import concurrent.futures.thread  # noqa: E402, F401 - it keeps locks of the system

import fsspec  # noqa: E402, F401 - likewise
import requests  # noqa: E402, F401 - likewise

from . import world  # noqa: E402 - before anything of the package

world.install()

from .programs import Program, draw, smaller  # noqa: E402
from .simulate import simulate  # noqa: E402

_LIMIT = 120.0  # real seconds for one program


class Child:
    """One program in a process of its own."""

    def __init__(self, program: Program, place: str = "") -> None:
        self.program, self.began = program, _REAL_TIME()
        self.place = place  # what an earlier life has left
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
            data = json.dumps(facts).encode()
            while data:
                data = data[_REAL_WRITE(writer, data) :]
            os._exit(0)

        simulate(self.program, tell, self.place)

    def result(self) -> dict[str, Any] | None:
        """Return how the program ended; None while it runs."""
        ready, _, _ = select.select([self.reader], [], [], 0)
        if ready:
            block = os.read(self.reader, 1 << 16)
            self.data += block
            if block:
                return None
            os.waitpid(self.pid, 0)
            os.close(self.reader)
            if not self.data:
                return {"problem": "the process died"}
            result: dict[str, Any] = json.loads(self.data)
            if not result["crashed"]:
                return result
            second = Child(self.program, result["crashed"]).wait()
            second["digest"] = f"{result['digest']}+{second.get('digest', '')}"
            return {**second, "calls": result["calls"]}
        if _REAL_TIME() - self.began > _LIMIT:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.reader)
            return {"problem": f"no end within {_LIMIT:.0f} real seconds"}
        return None

    def wait(self) -> dict[str, Any]:
        while (result := self.result()) is None:
            select.select([self.reader], [], [], 0.5)
        return result


def shown(seed: int, result: dict[str, Any]) -> str:
    if result["problem"]:
        return f"seed {seed}: {result['problem']}"
    return (
        f"seed {seed}: ok, {result['calls']} calls, {sum(result['counts'].values())} requests, "
        f"{result['steps']} steps, {result['seconds']:.0f} s, trace {result['digest']}"
    )


def kind(problem: str) -> str:
    """Return what two failures of one defect have in common."""
    return problem[:40]


def shrink(program: Program, problem: str, seconds: float) -> Program:
    """Return the smallest program found that fails in the same way."""
    end = _REAL_TIME() + seconds
    while _REAL_TIME() < end:
        for candidate in smaller(program):
            if _REAL_TIME() > end:
                break
            result = Child(candidate).wait()
            if result["problem"] and kind(result["problem"]) == kind(problem):
                program = candidate
                break
        else:
            break
    return program


def run_all(
    seeds: Any, until: float, *, quiet: bool, shrinks: float, first_only: bool = False
) -> int:
    running: list[tuple[int, Child]] = []
    cores = os.cpu_count() or 1
    failed = done = 0
    seeds = iter(seeds)
    while True:
        while len(running) < cores and _REAL_TIME() < until:
            seed = next(seeds, None)
            if seed is None:
                break
            running.append((seed, Child(draw(seed))))
        if not running:
            break
        select.select([child.reader for _, child in running], [], [], 0.5)
        for pair in list(running):
            seed, child = pair
            if (result := child.result()) is None:
                continue
            running.remove(pair)
            done += 1
            if result["problem"] or not quiet:
                print(shown(seed, result), flush=True)
            if result["problem"]:
                failed += 1
                until = 0.0 if first_only else until
                if shrinks:
                    small = shrink(child.program, result["problem"], shrinks)
                    print(json.dumps(small), flush=True)
    print(f"{done} programs, {failed} failed")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--file")
    parser.add_argument("--program", action="store_true", help="print the program")
    parser.add_argument("--shrink", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--first", action="store_true", help="end at the first failure")
    given = parser.parse_args()
    never = float("inf")
    if given.file:
        with open(given.file, encoding="utf-8") as file:
            program = json.load(file)
        result = Child(program).wait()
        print(shown(program["seed"], result))
        return bool(result["problem"])
    if given.seed is not None:
        if given.program:
            print(json.dumps(draw(given.seed), indent=1))
        return run_all([given.seed], never, quiet=False, shrinks=given.shrink) and 1
    if given.seeds:
        first, _, last = given.seeds.partition(":")
        seeds = range(int(first), int(last))
        return (
            run_all(
                seeds,
                never,
                quiet=given.quiet,
                shrinks=given.shrink,
                first_only=given.first,
            )
            and 1
        )
    first = secrets.randbelow(10**9)
    print(f"seeds from {first}")
    until = _REAL_TIME() + 60 * (given.minutes or 1)
    return (
        run_all(iter(range(first, 10**10)), until, quiet=True, shrinks=given.shrink)
        and 1
    )


if __name__ == "__main__":
    sys.exit(main())

"""A program of calls that run at the same time: ``python mixed_load.py PLAN``.

PLAN is JSON with the members of ``Plan``. The program prints ``done`` and ends with
code 0. If it has not ended after ``limit`` seconds, it prints the stacks of all threads
and ends with code 1.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import asdict, field, frozen

from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

ROOT = "examplebucket"
MANY = 40
SMALL = {f"{n:02}": b"value %d" % n for n in range(MANY)}


@frozen
class Plan:
    """What the program does.

    Attributes:
        threads: names of the functions of ``VERBS`` that threads call.
        coroutines: the same for one event loop, which awaits them together.
        options: storage options.
        size: bytes of a large object.
        rounds: calls of each thread and each coroutine, one after the other.
        limit: seconds until the program gives up.
    """

    threads: list[str] = field(factory=list)
    coroutines: list[str] = field(factory=list)
    options: dict[str, Any] = field(factory=dict)
    size: int = 5_000_000
    rounds: int = 1
    limit: float = 60.0

    def argument(self) -> str:
        """Return the plan as an argument of the program."""
        return json.dumps(asdict(self))


def small_values(root: str) -> dict[str, bytes]:
    """Return path -> value of the small objects below *root*."""
    return {f"{root}/{key}": value for key, value in SMALL.items()}


def large_value(size: int) -> bytes:
    """Return the bytes of a large object."""
    block = bytes(range(251))
    return (block * (size // len(block) + 1))[:size]


def pipe(fs: Any, root: str, _: Plan) -> None:
    """Store many values by one call."""
    fs.pipe(small_values(root))


def large(fs: Any, root: str, plan: Plan) -> None:
    """Store a large value in parts."""
    fs.pipe_file(f"{root}/large", large_value(plan.size))


def cat(fs: Any, root: str, _: Plan) -> None:
    """Read many objects by one call."""
    fs.pipe(small_values(root))
    assert fs.cat(list(small_values(root))) == small_values(root)


def single(fs: Any, root: str, _: Plan) -> None:
    """Store and read one small object after the other."""
    for path, value in list(small_values(root).items())[:8]:
        fs.pipe_file(path, value)
        assert fs.cat_file(path) == value


def stream(fs: Any, root: str, plan: Plan) -> None:
    """Write and read a file of unknown size."""
    data = large_value(plan.size // 2)
    with fs.open(f"{root}/stream", "wb") as file:
        for start in range(0, len(data), 60_000):
            file.write(data[start : start + 60_000])
    with fs.open(f"{root}/stream") as file:
        assert file.read() == data


def copy(fs: Any, root: str, plan: Plan) -> None:
    """Copy many objects and a large one, and delete the copies."""
    fs.pipe({**small_values(f"{root}/from"), f"{root}/from/large": bytes(plan.size)})
    fs.copy(f"{root}/from/", f"{root}/to/", recursive=True)
    assert fs.cat_file(f"{root}/to/large", 0, 10) == bytes(10)
    fs.rm(f"{root}/to", recursive=True)


def tree(fs: Any, root: str, plan: Plan) -> None:
    """Store a directory of files, and download it."""
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place, "source"), Path(place, "target")
        source.mkdir()
        for key, value in SMALL.items():
            (source / key).write_bytes(value)
        (source / "large").write_bytes(large_value(plan.size))
        fs.put(f"{source}/", f"{root}/tree/", recursive=True)
        fs.get(f"{root}/tree/", f"{target}/", recursive=True)
        for file in source.iterdir():
            assert (target / file.name).read_bytes() == file.read_bytes()


VERBS: dict[str, Callable[[Any, str, Plan], None]] = {
    one.__name__: one for one in (pipe, large, cat, single, stream, copy, tree)
}


async def gathered_pipe(fs: Any, root: str, _: Plan) -> None:
    """Store many values by one coroutine."""
    await fs._pipe(small_values(root))


async def gathered_large(fs: Any, root: str, plan: Plan) -> None:
    """Store a large value in parts."""
    await fs._pipe_file(f"{root}/large", large_value(plan.size))


async def gathered_single(fs: Any, root: str, _: Plan) -> None:
    """Store and read one value by each coroutine."""
    values = small_values(root)
    await asyncio.gather(*(fs._pipe_file(*pair) for pair in values.items()))
    assert await asyncio.gather(*map(fs._cat_file, values)) == list(values.values())


async def gathered_cat(fs: Any, root: str, _: Plan) -> None:
    """Read many objects by one coroutine."""
    await fs._pipe(small_values(root))
    assert await fs._cat(list(small_values(root))) == small_values(root)


GATHERED: dict[str, Callable[[Any, str, Plan], Any]] = {
    "pipe": gathered_pipe,
    "large": gathered_large,
    "single": gathered_single,
    "cat": gathered_cat,
}


def run(plan: Plan, fs: Any) -> None:
    """Run all calls of *plan* on *fs*; raise the first failure when all have ended."""
    failures: list[BaseException] = []
    begin = threading.Barrier(len(plan.threads) + bool(plan.coroutines))

    def call(number: int, verb: str) -> None:
        try:
            begin.wait()
            for once in range(plan.rounds):
                VERBS[verb](fs, f"{ROOT}/thread-{number}/{once}", plan)
        except BaseException as error:  # noqa: BLE001 - raised by the main thread
            failures.append(error)

    async def call_together() -> None:
        for once in range(plan.rounds):
            await asyncio.gather(
                *(
                    GATHERED[verb](fs, f"{ROOT}/coroutine-{number}/{once}", plan)
                    for number, verb in enumerate(plan.coroutines)
                )
            )

    threads = [
        threading.Thread(target=call, args=pair, daemon=True)
        for pair in enumerate(plan.threads)
    ]
    for thread in threads:
        thread.start()
    if plan.coroutines:
        begin.wait()
        asyncio.run(call_together())
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def main() -> None:
    """Run the plan of the command line."""
    plan = Plan(**json.loads(sys.argv[1]))
    faulthandler.dump_traceback_later(plan.limit, exit=True)
    fs = OSSPresignedFileSystem(signer="keys", **plan.options)
    sys.stdout.write(f"begun {os.getpid()}\n")
    sys.stdout.flush()
    run(plan, fs)
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()

"""A random walk over the verbs of one filesystem, which knows what it must find.

``python walk.py WORKERS ROUNDS OPTIONS`` runs many at the same time in the current
directory; OPTIONS are storage options as JSON. After 150 seconds it prints the stacks of
all threads, and fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import hashlib
import json
import random
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

ROOT = "examplebucket"


class Boom(Exception):  # noqa: N818 - it stands for anything
    """The exception of a user's body."""


def content(name: str, draw: random.Random) -> bytes:
    """Return bytes that say whose they are; one in eight makes several parts."""
    size = draw.choice([1, 100, 5_000, 5_000, 20_000, 20_000, 99_999, 260_000])
    return hashlib.sha256(name.encode()).digest() * (size // 32 + 1)


class Worker:
    """One thread's random walk; what it must find at the end is ``wanted``."""

    def __init__(self, fs, name: str, place) -> None:
        self.fs = fs
        self.name = name
        self.root = f"{ROOT}/{name}"
        self.place = place
        self.draw = random.Random(name)  # noqa: S311 - to be the same in each run
        self.wanted: dict[str, bytes] = {}
        self.error: BaseException | None = None

    def run(self, rounds: int) -> None:
        """Do *rounds* random things."""
        try:
            for number in range(rounds):
                self.draw.choice(
                    [
                        self.pipe,
                        self.put,
                        self.open,
                        self.commits,
                        self.fails,
                        self.reads,
                        self.downloads,
                        self.removes,
                        self.copies,
                        self.coroutines,
                    ]
                )(f"{number:03}")
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def pipe(self, key: str) -> None:
        values = {
            f"{key}/{n}": content(f"{self.name}{key}{n}", self.draw) for n in "abc"
        }
        self.fs.pipe({f"{self.root}/{one}": data for one, data in values.items()})
        self.wanted |= values

    def put(self, key: str) -> None:
        source = self.place / f"{self.name}-{key}"
        source.mkdir()
        data = content(f"{self.name}{key}", self.draw)
        for name in "ab":
            (source / name).write_bytes(data)
        self.fs.put(f"{source}/", f"{self.root}/{key}/", recursive=True)
        self.wanted |= {f"{key}/a": data, f"{key}/b": data}

    def open(self, key: str) -> None:
        data = content(f"{self.name}{key}", self.draw)
        with self.fs.open(f"{self.root}/{key}", "wb") as file:
            for start in range(0, len(data), 70_000):
                file.write(data[start : start + 70_000])
        self.wanted[key] = data

    def commits(self, key: str) -> None:
        with self.fs.transaction:
            before = dict(self.wanted)
            self.open(f"{key}-1")
            self.pipe(f"{key}-2")
            self.put(f"{key}-3")
            new = set(self.wanted) - set(before)
            assert not any(self.fs.exists(f"{self.root}/{one}") for one in new)

    def fails(self, key: str) -> None:
        before = dict(self.wanted)
        with contextlib.suppress(Boom), self.fs.transaction:
            self.open(f"{key}-no")
            self.pipe(f"{key}-no-2")
            raise Boom
        self.wanted = before

    def reads(self, _: str) -> None:
        for key in self.draw.sample(sorted(self.wanted), min(3, len(self.wanted))):
            assert self.fs.cat_file(f"{self.root}/{key}") == self.wanted[key]
            with self.fs.open(f"{self.root}/{key}") as file:
                assert file.read() == self.wanted[key]

    def downloads(self, _: str) -> None:
        if not self.wanted:
            return
        with tempfile.TemporaryDirectory(dir=self.place) as target:
            self.fs.get(f"{self.root}/", f"{target}/", recursive=True)
            files = [path for path in Path(target).rglob("*") if path.is_file()]
            found = {str(f.relative_to(target)): f.read_bytes() for f in files}
        assert found == self.wanted

    def removes(self, _: str) -> None:
        for key in self.draw.sample(sorted(self.wanted), min(1, len(self.wanted))):
            self.fs.rm_file(f"{self.root}/{key}")
            del self.wanted[key]

    def copies(self, number: str) -> None:
        for key in self.draw.sample(sorted(self.wanted), min(1, len(self.wanted))):
            self.fs.cp_file(f"{self.root}/{key}", f"{self.root}/{number}-copy")
            self.wanted[f"{number}-copy"] = self.wanted[key]

    def coroutines(self, key: str) -> None:
        values = {
            f"{key}-{n}": content(f"{self.name}{key}{n}", self.draw) for n in "ab"
        }

        async def gathered() -> None:
            await asyncio.gather(
                *(
                    self.fs._pipe_file(f"{self.root}/{one}", data)
                    for one, data in values.items()
                )
            )

        asyncio.run(gathered())
        self.wanted |= values

    def check(self) -> None:
        """Compare everything that is stored, and remove it."""
        if self.error is not None:
            raise self.error
        wanted = {f"{self.root}/{key}": data for key, data in self.wanted.items()}
        assert sorted(self.fs.find(self.root)) == sorted(wanted)
        if wanted:
            assert self.fs.cat(sorted(wanted)) == wanted
            self.fs.rm(sorted(wanted))


def crowd(fs: Any, names: Iterable[str], place: Path, rounds: int) -> None:
    """Let a worker for each name walk in a thread of its own, and check all of them."""
    workers = [Worker(fs, name, place) for name in names]
    threads = [
        threading.Thread(target=worker.run, args=(rounds,), daemon=True)
        for worker in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for worker in workers:
        worker.check()


def main(workers: str, rounds: str, options: str) -> None:
    faulthandler.dump_traceback_later(150, exit=True)
    fs = OSSPresignedFileSystem(signer="keys", **json.loads(options))
    crowd(fs, map(str, range(int(workers))), Path.cwd(), int(rounds))


if __name__ == "__main__":
    main(*sys.argv[1:])

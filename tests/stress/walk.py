"""Random verbs of one filesystem, which know what each object may be afterwards.

``python walk.py WORKERS ROUNDS OPTIONS`` runs many at the same time in the current
directory; OPTIONS are storage options as JSON. After 150 seconds it prints the stacks of
all threads, and fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import random
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fsspec_osspresigned import sync
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART as PART

ROOT = "examplebucket"
SIZES = [0, 1, 5_000, PART - 1, 3 * PART + 1]


class Boom(Exception):  # noqa: N818 - it stands for anything
    """The exception of a user's body."""


class Walk:
    """A random walk over the verbs, with twelve objects below *root*.

    Attributes:
        may: name -> the bytes that the object may have; None: it may not be there.
    """

    def __init__(self, fs: Any, root: str, place: Path, seed: object) -> None:
        self.fs, self.root, self.place = fs, root, place
        self.draw = random.Random(seed)  # noqa: S311 - to be the same in each run
        self.may: dict[str, set[bytes | None]] = {}
        self.verbs = [
            *(self.pipe_file, self.pipe, self.put_file, self.put, self.stream),
            *(self.touch, self.transaction, self.fails, self.copy, self.move),
            *(self.remove, self.cat_file, self.cat, self.get_file, self.get),
            *(self.reader, self.ranges, self.find, self.info, self.coroutine),
            self.sync,
        ]

    def next(self) -> Callable[[], None]:
        """Return the next verb; an object is there for it."""
        if all(None in values for values in self.may.values()):
            self.pipe()
        return self.draw.choice(self.verbs)

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def name(self) -> str:
        """Return the name of an object, new or not."""
        return f"{self.draw.randrange(12):02}"

    def there(self) -> str:
        """Return the name of an object that is stored."""
        return self.draw.choice([n for n, may in self.may.items() if None not in may])

    def is_there(self) -> dict[str, bytes]:
        """Return name -> the bytes of each object that is stored."""
        found = ((name, next(iter(values))) for name, values in self.may.items())
        return {name: data for name, data in found if data is not None}

    def new(self, most: int = 1) -> dict[str, bytes]:
        """Return bytes for some names, each of which may have them from now on."""
        made = {}
        for name in {self.name() for _ in range(most)}:
            made[name] = self.draw.randbytes(self.draw.choice(SIZES))
            self.may.setdefault(name, {None}).add(made[name])
        return made

    def stored(self, made: dict[str, bytes | None]) -> None:
        """From now on the objects are these, and nothing else."""
        self.may |= {name: {data} for name, data in made.items()}

    def files(self, made: dict[str, bytes]) -> str:
        """Return a directory with the files *made*, and nothing else."""
        place = self.target()
        place.mkdir()
        for name, data in made.items():
            (place / name).write_bytes(data)
        return str(place)

    def target(self) -> Path:
        """Return the name of a local file, or of a directory, that does not exist."""
        return self.place / f"{self.draw.getrandbits(64):016x}"

    # -- verbs that write ---------------------------------------------------------------

    def pipe_file(self) -> None:
        ((name, data),) = (made := self.new()).items()
        self.fs.pipe_file(self.path(name), data)
        self.stored(made)

    def pipe(self) -> None:
        made = self.new(6)
        self.fs.pipe({self.path(name): data for name, data in made.items()})
        self.stored(made)

    def put_file(self) -> None:
        (name,) = made = self.new()
        self.fs.put_file(f"{self.files(made)}/{name}", self.path(name))
        self.stored(made)

    def put(self) -> None:
        made = self.new(6)
        self.fs.put(f"{self.files(made)}/", f"{self.root}/", recursive=True)
        self.stored(made)

    def sync(self) -> None:
        made = self.new(4)
        sync(self.files(made), f"{self.root}/", filesystem=self.fs)
        self.stored(made)

    def stream(self) -> None:
        ((name, data),) = (made := self.new()).items()
        with self.fs.open(self.path(name), "wb") as file:
            for start in range(0, len(data), 70_000):
                file.write(data[start : start + 70_000])
        self.stored(made)

    def touch(self) -> None:
        name = self.name()
        self.may.setdefault(name, {None}).add(b"")
        self.fs.touch(self.path(name))
        self.stored({name: b""})

    def transaction(self) -> None:
        made = self.new(4)
        with self.fs.transaction:
            for name, data in made.items():
                self.fs.pipe_file(self.path(name), data)
        self.stored(made)

    def fails(self) -> None:
        data = self.draw.randbytes(3 * PART)
        with contextlib.suppress(Boom), self.fs.transaction:
            with self.fs.open(self.path(self.name()), "wb") as file:
                file.write(data)
            self.fs.pipe_file(self.path(self.name()), data)
            raise Boom

    def copy(self) -> None:
        source, target = self.there(), self.name()
        (data,) = self.may[source]
        self.may.setdefault(target, {None}).add(data)
        self.fs.cp_file(self.path(source), self.path(target))
        self.stored({target: data})

    def move(self) -> None:
        source, target = self.there(), self.name()
        if source == target:
            return
        (data,) = self.may[source]
        self.may[source].add(None)
        self.may.setdefault(target, {None}).add(data)
        self.fs.mv_file(self.path(source), self.path(target))
        self.stored({source: None, target: data})

    def remove(self) -> None:
        names = {self.there() for _ in range(3)}
        for name in names:
            self.may[name].add(None)
        self.fs.rm([self.path(name) for name in sorted(names)])
        self.stored(dict.fromkeys(names))

    def coroutine(self) -> None:
        made = self.new(3)

        async def gathered() -> None:
            work = (self.fs._pipe_file(self.path(n), d) for n, d in made.items())
            await asyncio.gather(*work)

        asyncio.run(gathered())
        self.stored(made)

    # -- verbs that read ----------------------------------------------------------------

    def cat_file(self) -> None:
        name = self.there()
        assert {self.fs.cat_file(self.path(name))} == self.may[name]

    def cat(self) -> None:
        names = {self.there() for _ in range(5)}
        found = self.fs.cat([self.path(name) for name in names])
        wanted = {self.path(name): next(iter(self.may[name])) for name in names}
        assert found == wanted or found == next(iter(wanted.values()))

    def get_file(self) -> None:
        name, target = self.there(), self.target()
        self.fs.get_file(self.path(name), str(target))
        assert {target.read_bytes()} == self.may[name]

    def get(self) -> None:
        target = self.target()
        self.fs.get(f"{self.root}/", f"{target}/", recursive=True)
        found = {path.name: path.read_bytes() for path in target.iterdir()}
        assert found == self.is_there()

    def reader(self) -> None:
        name = self.there()
        with self.fs.open(self.path(name), "rb", block_size=PART) as file:
            found = file.read(10) + file.read()
        assert {found} == self.may[name]

    def ranges(self) -> None:
        name = self.there()
        (data,) = self.may[name]
        starts = [*range(0, max(len(data), 1), PART)]
        ends = [start + PART for start in starts]
        paths = [self.path(name)] * len(starts)
        assert b"".join(self.fs.cat_ranges(paths, starts, ends)) == data

    def find(self) -> None:
        assert self.fs.find(self.root) == sorted(map(self.path, self.is_there()))

    def info(self) -> None:
        name = self.there()
        (data,) = self.may[name]
        assert self.fs.info(self.path(name))["size"] == len(data)


def walk(one: Walk, rounds: int, errors: list[BaseException]) -> None:
    """Do *rounds* random things; all objects are whole then, and are removed."""
    try:
        for _ in range(rounds):
            one.next()()
        one.find()
        if wanted := {one.path(n): data for n, data in one.is_there().items()}:
            assert one.fs.cat([*wanted]) in (wanted, *wanted.values())
            one.fs.rm(sorted(wanted))
    except BaseException as error:  # noqa: BLE001 - the test looks at it
        errors.append(error)


def crowd(fs: Any, names: Iterable[str], place: Path, rounds: int) -> None:
    """Let a walk for each name go on in a thread of its own, and check all of them."""
    errors: list[BaseException] = []
    with tempfile.TemporaryDirectory(dir=place) as folder:
        threads = [
            threading.Thread(
                target=walk,
                args=(Walk(fs, f"{ROOT}/{n}", Path(folder), n), rounds, errors),
                daemon=True,
            )
            for n in names
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for error in errors:
        raise error


def main(workers: str, rounds: str, options: str) -> None:
    faulthandler.dump_traceback_later(150, exit=True)
    fs = OSSPresignedFileSystem(signer="keys", **json.loads(options))
    crowd(fs, map(str, range(int(workers))), Path.cwd(), int(rounds))


if __name__ == "__main__":
    main(*sys.argv[1:])

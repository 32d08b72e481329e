"""Exceptions from a signal handler, at random moments of all verbs, in one process.

As by Ctrl-C in a notebook, or by an alarm that bounds the time of a cell: the process
continues. ``INTERRUPTS=10000`` is a longer storm.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import random
import signal
import sys
import time
from collections import Counter, deque

import pytest

from fsspec_osspresigned import sync
from fsspec_osspresigned.engine.engine import current, run
from fsspec_osspresigned.engine.limits import memory_budget, request_limiter
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART as PART
from tests.interrupts import settle

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(0),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer"),
]

BUCKET = "examplebucket"
COUNT = int(os.environ.get("INTERRUPTS", "1000"))
HANG = 60.0  # seconds after which an operation is held to hang
SIZES = [0, 1, 5_000, PART - 1, 3 * PART + 1]


class Storm:
    """Runs verbs, each with one interrupt, and knows what they may leave.

    Attributes:
        may: key -> the bytes that it may have; None: it may not be there.
        ends: how the operations ended, by verb.
        takes: verb -> the seconds that it takes.
    """

    def __init__(self, oss, fs, place, seed: int) -> None:
        self.oss, self.fs, self.place = oss, fs, place
        self.draw = random.Random(seed)  # noqa: S311 - to be the same in each run
        self.may: dict[str, set[bytes | None]] = {}
        self.ends: Counter[tuple[str, str]] = Counter()
        self.last: deque[tuple[str, str]] = deque(maxlen=4)
        self.takes: dict[str, float] = {}
        self.armed = False
        self.verbs = [
            *(self.pipe_file, self.pipe, self.put_file, self.put, self.stream),
            *(self.touch, self.transaction, self.copy, self.move, self.remove),
            *(self.cat_file, self.cat, self.get_file, self.get, self.reader),
            *(self.ranges, self.find, self.info, self.coroutine, self.sync),
        ]

    def handle(self, *_) -> None:
        """Interrupt whatever runs."""
        if self.armed:
            self.armed = False
            # As Ctrl-C does it: asyncio's loop would lose calls by any other exception.
            signal.raise_signal(signal.SIGINT)

    def run(self) -> None:
        """Do one thing, interrupted at a random moment, and look at what is stored."""
        if all(None in values for values in self.may.values()):
            self.pipe()
        verb = self.draw.choice(self.verbs)
        name, began = verb.__name__, time.monotonic()
        faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__)
        try:
            try:
                # An interrupt at the end of ``asyncio.run`` leaves its own handler, which
                # would interrupt the next loop of asyncio where that loses a call.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self.armed = True
                # Some come too late, so that every verb is also seen to end well.
                moment = self.draw.uniform(1e-6, 1.5 * self.takes.get(name, 0.01))
                signal.setitimer(signal.ITIMER_REAL, moment)
                verb()
                self.armed = False
                end = "done"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (KeyboardInterrupt, asyncio.CancelledError):
            # ``asyncio.run`` raises the second one for an interrupt at its very start.
            end = "cut"
        self.ends[name, end] += 1
        self.last.append((name, end))
        if end == "cut":
            self.takes[name] = 1.1 * self.takes.get(name, 0.01)
            settle(self.oss)
        else:
            took = time.monotonic() - began
            self.takes[name] = 0.8 * self.takes.get(name, took) + 0.2 * took
        faulthandler.cancel_dump_traceback_later()
        self.check()

    def check(self) -> None:
        """Every object is one of those that it may be, whole."""
        found = self.oss.objects(BUCKET)
        assert set(found) <= set(self.may)
        for key, values in self.may.items():
            now = bytes(found[key]) if key in found else None
            size = None if now is None else len(now)
            assert now in values, f"{key}: {size} bytes after {list(self.last)}"
            values.intersection_update({now})

    def key(self) -> str:
        """Return the name of an object, new or not."""
        return f"d/{self.draw.randrange(12):02}"

    def there(self) -> str:
        """Return the name of an object that is stored."""
        keys = [key for key, values in self.may.items() if None not in values]
        return self.draw.choice(keys)

    def new(self, *keys: str) -> dict[str, bytes]:
        """Return bytes for *keys*, each of which may have them from now on."""
        made = {}
        for key in keys or (self.key(),):
            size = self.draw.choice(SIZES)
            made[key] = self.draw.randbytes(size)
            self.may.setdefault(key, {None}).add(made[key])
        return made

    def stored(self, made: dict[str, bytes | None]) -> None:
        """From now on the objects are these, and nothing else."""
        self.may |= {key: {data} for key, data in made.items()}

    # -- verbs that write ---------------------------------------------------------------

    def pipe_file(self) -> None:
        ((key, data),) = (made := self.new()).items()
        self.fs.pipe_file(f"{BUCKET}/{key}", data)
        self.stored(made)

    def pipe(self) -> None:
        made = self.new(*{self.key() for _ in range(6)})
        self.fs.pipe({f"{BUCKET}/{key}": data for key, data in made.items()})
        self.stored(made)

    def files(self, made: dict[str, bytes]) -> str:
        """Return a directory with the files *made*, and nothing else."""
        place = self.place / f"{self.draw.getrandbits(64):016x}"
        for key, data in made.items():
            path = place / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(place)

    def put_file(self) -> None:
        (key,) = made = self.new()
        self.fs.put_file(f"{self.files(made)}/{key}", f"{BUCKET}/{key}")
        self.stored(made)

    def put(self) -> None:
        made = self.new(*{self.key() for _ in range(6)})
        self.fs.put(f"{self.files(made)}/", f"{BUCKET}/", recursive=True)
        self.stored(made)

    def sync(self) -> None:
        made = self.new(*{self.key() for _ in range(4)})
        sync(self.files(made), f"{BUCKET}/", filesystem=self.fs)
        self.stored(made)

    def stream(self) -> None:
        ((key, data),) = (made := self.new()).items()
        with self.fs.open(f"{BUCKET}/{key}", "wb") as file:
            for start in range(0, len(data), 70_000):
                file.write(data[start : start + 70_000])
        self.stored(made)

    def touch(self) -> None:
        key = self.key()
        self.may.setdefault(key, {None}).add(b"")
        self.fs.touch(f"{BUCKET}/{key}")
        self.stored({key: b""})

    def transaction(self) -> None:
        made = self.new(*{self.key() for _ in range(4)})
        with self.fs.transaction:
            for key, data in made.items():
                self.fs.pipe_file(f"{BUCKET}/{key}", data)
        self.stored(made)

    def copy(self) -> None:
        source, target = self.there(), self.key()
        (data,) = self.may[source]
        self.may.setdefault(target, {None}).add(data)
        self.fs.cp_file(f"{BUCKET}/{source}", f"{BUCKET}/{target}")
        self.stored({target: data})

    def move(self) -> None:
        source, target = self.there(), self.key()
        if source == target:
            return
        (data,) = self.may[source]
        self.may[source].add(None)
        self.may.setdefault(target, {None}).add(data)
        self.fs.mv_file(f"{BUCKET}/{source}", f"{BUCKET}/{target}")
        self.stored({source: None, target: data})

    def remove(self) -> None:
        keys = {self.there() for _ in range(3)}
        for key in keys:
            self.may[key].add(None)
        self.fs.rm([f"{BUCKET}/{key}" for key in sorted(keys)])
        self.stored(dict.fromkeys(keys))

    def coroutine(self) -> None:
        made = self.new(*{self.key() for _ in range(3)})

        async def gathered() -> None:
            work = (self.fs._pipe_file(f"{BUCKET}/{k}", v) for k, v in made.items())
            await asyncio.gather(*work)

        asyncio.run(gathered())
        self.stored(made)

    # -- verbs that read ----------------------------------------------------------------

    def cat_file(self) -> None:
        key = self.there()
        assert {self.fs.cat_file(f"{BUCKET}/{key}")} == self.may[key]

    def cat(self) -> None:
        keys = {self.there() for _ in range(5)}
        found = self.fs.cat([f"{BUCKET}/{key}" for key in keys])
        wanted = {f"{BUCKET}/{key}": next(iter(self.may[key])) for key in keys}
        assert found == wanted or found == next(iter(wanted.values()))

    def get_file(self) -> None:
        key = self.there()
        target = self.place / f"{self.draw.getrandbits(64):016x}"
        self.fs.get_file(f"{BUCKET}/{key}", str(target))
        assert {target.read_bytes()} == self.may[key]

    def get(self) -> None:
        self.there()
        target = self.place / f"{self.draw.getrandbits(64):016x}"
        self.fs.get(f"{BUCKET}/d/", f"{target}/", recursive=True)
        found = {f"d/{path.name}": path.read_bytes() for path in target.iterdir()}
        wanted = {key: next(iter(values)) for key, values in self.may.items()}
        assert found == {key: data for key, data in wanted.items() if data is not None}

    def reader(self) -> None:
        key = self.there()
        with self.fs.open(f"{BUCKET}/{key}", "rb", block_size=PART) as file:
            found = file.read(10) + file.read()
        assert {found} == self.may[key]

    def ranges(self) -> None:
        key = self.there()
        (data,) = self.may[key]
        starts = [*range(0, max(len(data), 1), PART)]
        ends = [start + PART for start in starts]
        paths = [f"{BUCKET}/{key}"] * len(starts)
        assert b"".join(self.fs.cat_ranges(paths, starts, ends)) == data

    def find(self) -> None:
        found = self.fs.find(f"{BUCKET}/d")
        wanted = [f"{BUCKET}/{k}" for k, v in self.may.items() if None not in v]
        assert found == sorted(wanted)

    def info(self) -> None:
        key = self.there()
        (data,) = self.may[key]
        assert self.fs.info(f"{BUCKET}/{key}")["size"] == len(data)


async def in_flight() -> int:
    """Return the number of requests that the limiter counts."""
    return request_limiter().in_flight


# What a finalizer or a callback raises is told, and goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings(
    "ignore:.*was not published:fsspec_osspresigned.errors.DiscardWarning"
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a coroutine that did not begin
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file of ``write_bytes``
@pytest.mark.parametrize("seed", range(2))
def test_storm(oss, tmp_path, capsys, monkeypatch, caplog, seed):
    """Nothing hangs, is wrong, or stays behind but what the documentation names."""
    caplog.set_level("ERROR")
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=PART, multipart_threshold=2 * PART, max_concurrency=4
    )
    storm = Storm(oss, fs, tmp_path, seed)
    before = signal.signal(signal.SIGALRM, storm.handle)
    began = time.monotonic()
    try:
        for _ in range(COUNT // 2):
            storm.run()
    finally:
        signal.signal(signal.SIGALRM, before)
    seconds = time.monotonic() - began
    for verb in storm.verbs:  # all of it still works
        verb()
        storm.check()
    gc.collect()
    end = time.monotonic() + 30
    while any(one.parts for one in oss.uploads(BUCKET)) and time.monotonic() < end:
        time.sleep(0.05)
    left = oss.uploads(BUCKET)
    ends = Counter(end for _, end in storm.ends.elements())
    with capsys.disabled():
        print(  # noqa: T201 - the figures that this test is for
            f"\n{COUNT // 2} operations in {seconds:.0f} s: {dict(ends)}; "
            f"{len(left)} uploads left, {sum(bool(u.parts) for u in left)} with parts"
        )
    for verb in storm.verbs:
        assert {end for name, end in storm.ends if name == verb.__name__}
    assert not any(one.parts for one in left)
    # An interrupt in the reply to Initiate leaves an upload that nobody can name.
    assert len(left) <= ends["cut"] / 25 + 2
    assert memory_budget().used == 0
    assert run(in_flight) == 0
    while current().is_busy and time.monotonic() < end:
        time.sleep(0.05)
    assert not current().is_busy

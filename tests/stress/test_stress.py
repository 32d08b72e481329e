"""Everything at once, from many threads and processes: no deadlock and no mixing up."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import hashlib
import logging
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

pytestmark = pytest.mark.slow

ROOT = "examplebucket"
THREADS = 32


class Boom(Exception):  # noqa: N818 - it stands for anything
    """What a user's body raises."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """End the process, with the stacks of all threads, if it takes longer."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def fs(monkeypatch) -> Iterator[OSSPresignedFileSystem]:
    """One filesystem for all, with small parts, and its store as ``fs.oss``."""
    with Emulator() as oss:
        key = oss.credentials
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
        monkeypatch.setenv("OSS_ENDPOINT", oss.url)
        monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
        made = OSSPresignedFileSystem(
            signer="keys", part_size="100KiB", multipart_threshold="150KiB"
        )
        made.oss = oss
        yield made


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


def storm(fs, place, rounds: int, threads: int = THREADS) -> None:
    """Let *threads* workers loose on one filesystem, and compare what is stored."""
    workers = [Worker(fs, f"w{n:02}", place) for n in range(threads)]
    running = [threading.Thread(target=w.run, args=(rounds,)) for w in workers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    failed = [worker.error for worker in workers if worker.error is not None]
    assert not failed
    wanted = {
        f"{worker.name}/{key}": data
        for worker in workers
        for key, data in worker.wanted.items()
    }
    found = fs.oss.objects(ROOT)
    assert set(found) == set(wanted)
    assert all(bytes(found[key]) == data for key, data in wanted.items())
    assert not fs.oss.uploads(ROOT)
    assert not fs._intrans


@pytest.mark.slow
def test_32_threads_on_one_filesystem(fs, tmp_path):
    """Mixed verbs and transactions: each thread finds exactly what it wrote."""
    with within(50):
        storm(fs, tmp_path, rounds=2)


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_32_threads_for_long(fs, tmp_path):
    """The same, until every pair of verbs has met."""
    with within(550):
        storm(fs, tmp_path, rounds=100)


def fork(run) -> int:
    """Run *run* in a forked child and return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        child = os.fork()
    if child:
        return child
    code = 1
    try:  # pragma: no cover - seen by its exit code
        # A child that hangs must not hang the test; and the log file of the tests may
        # have been locked by another thread, for ever, in the moment of the fork.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(40)
        logging.disable(logging.CRITICAL)
        run()
        code = 0
    finally:  # pragma: no cover - seen by its exit code
        os._exit(code)


def forks(fs, place, children: int) -> None:
    """Fork again and again while threads write; each child writes its own."""
    stop = threading.Event()
    busy = [Worker(fs, f"w{n}", place) for n in range(4)]

    def keep_busy(worker: Worker) -> None:
        number = 0
        while not stop.is_set() and worker.error is None:
            worker.name, number = f"{worker.name[:2]}-{number}", number + 1
            worker.run(1)

    running = [threading.Thread(target=keep_busy, args=(one,)) for one in busy]
    for thread in running:
        thread.start()
    try:
        for number in range(children):

            def run(number=number) -> None:
                fs.pipe({f"{ROOT}/c{number}/{n}": b"c" for n in range(4)})
                with fs.transaction, fs.open(f"{ROOT}/c{number}/t", "wb") as file:
                    file.write(bytes(250_000))
                assert fs.exists(f"{ROOT}/c{number}/t")

            child = fork(run)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in running:
            thread.join()
    assert not [worker.error for worker in busy if worker.error]
    stored = fs.oss.objects(ROOT)
    ours = [key for key in stored if key.startswith("c")]
    assert len(ours) == 5 * children
    assert not fs.oss.uploads(ROOT)


@pytest.mark.slow
def test_forks_while_threads_write(fs, tmp_path):
    """A child inherits no lock, no thread and no transaction that could stop it."""
    with within(50):
        forks(fs, tmp_path, children=3)


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_many_forks_while_threads_write(fs, tmp_path):
    """The same a hundred times, to meet every lock in every state."""
    with within(550):
        forks(fs, tmp_path, children=100)

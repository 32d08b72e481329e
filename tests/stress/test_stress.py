"""Everything at once, from many threads and processes: no deadlock and no mixing up."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from tests.stress.walk import ROOT, Worker

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """End the process, with the stacks of all threads, if it takes longer."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def fs(oss) -> OSSPresignedFileSystem:
    """One filesystem for all, with small parts, and its store as ``fs.oss``."""
    made = OSSPresignedFileSystem(
        signer="keys", part_size="100KiB", multipart_threshold="150KiB"
    )
    made.oss = oss
    return made


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
        # have been locked by another thread, forever, in the moment of the fork.
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

    def write(name: str) -> None:
        fs.pipe({f"{ROOT}/{name}/{n}": b"c" for n in range(4)})
        with fs.transaction, fs.open(f"{ROOT}/{name}/t", "wb") as file:
            file.write(bytes(250_000))
        assert fs.exists(f"{ROOT}/{name}/t")

    # A fork in the middle of an import leaves a lock of Python taken: all is loaded first.
    write("before")
    running = [threading.Thread(target=keep_busy, args=(one,)) for one in busy]
    for thread in running:
        thread.start()
    try:
        for number in range(children):
            child = fork(lambda number=number: write(f"c{number}"))
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

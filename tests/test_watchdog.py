"""The watchdog finds threads that wait for ever, and no others."""

from __future__ import annotations

import threading
import time

import pytest

from fsspec_osspresigned.concurrency.job_runner import Transfers
from fsspec_osspresigned.concurrency.thread_pool import Workers
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.upload.parts_in_flight import PartsInFlight
from tests import watchdog


def eventually(true):
    """Wait until *true* returns something true, and return it."""
    end = time.monotonic() + 5
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.001)
    return found


def test_thread_that_waits_for_ever_is_found():
    """A thread in an endless wait is reported with its stack; until another works."""
    window, body = PartsInFlight(1, 1 << 30), MemoryBody(b"")
    window.enter(1, body)
    waits = threading.Thread(target=window.drain)
    waits.start()
    (stack,) = eventually(watchdog.stuck).values()
    assert "in drain" in stack
    worker = threading.Thread(target=window.drain, args=(0.5,))
    worker.start()
    eventually(lambda: not watchdog.stuck())
    worker.join()
    assert watchdog.stuck()
    window.leave(1, body)
    waits.join()
    assert not watchdog.stuck()


def test_stuck_thread_fails_one_test():
    """The tests after the one that left it pass, until another thread is stuck."""
    window, body = PartsInFlight(1, 1 << 30), MemoryBody(b"")
    window.enter(1, body)
    dog = watchdog.Watchdog(grace=0.0)
    waits = [threading.Thread(target=window.drain) for _ in range(2)]
    for number, thread in enumerate(waits, 1):
        thread.start()
        eventually(lambda number=number: len(watchdog.stuck()) == number)
        with pytest.raises(pytest.fail.Exception, match="in drain"):
            list(dog.pytest_runtest_teardown())
        assert list(dog.pytest_runtest_teardown()) == [None]
    window.leave(1, body)
    for thread in waits:
        thread.join()


def test_thread_that_waits_for_a_lock_is_found():
    """A lock that stays taken shows in the line that waits for it."""
    gate = threading.Event()

    def jobs():
        yield from "ab"
        gate.wait()

    run = Transfers(Workers("locked", 2), 2, lambda job, _: job, str)
    run.start(jobs())
    eventually(lambda: len(watchdog.stuck()) == 2)
    gate.set()
    assert run.finish() == [*"ab"]
    assert not watchdog.stuck()


def test_idle_pool_is_no_finding():
    """Idle threads wait for work that may come."""
    workers = Workers("idle", 2)
    workers.submit(int).result(5)
    assert not watchdog.stuck()
    assert not watchdog.unserved()


def test_jobs_without_a_thread_are_found(monkeypatch):
    """A job that no thread will do is reported; a cancelled one is not."""
    workers = Workers("left", 1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _: None)
        future = workers.submit(int)
    assert [*watchdog.unserved().values()] == ["left: 1 jobs"]
    future.cancel()
    assert not watchdog.unserved()

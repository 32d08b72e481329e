"""The watchdog finds threads and coroutines that wait for ever, and no others."""

from __future__ import annotations

import asyncio
import queue
import threading
import time

import pytest
from fsspec.callbacks import Callback

from fsspec_osspresigned.engine.engine import (
    blocking,
    call_user,
    current,
    in_background,
    run,
)
from fsspec_osspresigned.filesystem.callbacks import SharedCallback
from tests import watchdog


def eventually(true):
    """Wait until *true* returns something true, and return it."""
    end = time.monotonic() + 5
    while not (value := true()):
        assert time.monotonic() < end
        time.sleep(0.001)
    return value


@pytest.fixture
def gate():
    """An event that is set at the end, so that a failure leaves no thread behind."""
    event, set_event = threading.Event(), threading.Event.set
    yield event
    set_event(event)


def begin_waiting(gate, *timeout):
    """Start a thread that waits for code of the user, which waits for *gate*."""
    thread = threading.Thread(target=run, args=(call_user, gate.wait, *timeout))
    thread.start()
    return thread


def test_thread_that_waits_for_ever_is_found(gate):
    """A worker in an endless wait is reported with its stack; until another works."""
    waits = begin_waiting(gate)
    (stack,) = eventually(watchdog.stuck).values()
    assert "in wait" in stack
    assert len(watchdog.unfinished()) == 1
    works = begin_waiting(gate, 0.5)
    eventually(lambda: not watchdog.stuck())
    works.join()
    eventually(watchdog.stuck)
    gate.set()
    waits.join()
    eventually(lambda: not watchdog.stuck() and not watchdog.unfinished())


def test_stuck_thread_fails_one_test(gate):
    """The tests after the one that left it pass, until another thread is stuck."""
    dog = watchdog.Watchdog(grace=0.0)
    waits = []
    for number in (1, 2):
        waits.append(begin_waiting(gate))
        eventually(lambda number=number: len(watchdog.stuck()) == number)
        with pytest.raises(pytest.fail.Exception, match="in wait"):
            list(dog.pytest_runtest_teardown())
        assert list(dog.pytest_runtest_teardown()) == [None]
    gate.set()
    for thread in waits:
        thread.join()


def test_thread_that_waits_for_a_lock_is_found(gate):
    """A lock that stays taken shows in the line that waits for it."""

    class Waits(Callback):
        def relative_update(self, inc=1):
            gate.wait()

    callback = SharedCallback(Waits())
    threads = [threading.Thread(target=callback.add, args=(1,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(watchdog.stuck()) == 2)
    gate.set()
    for thread in threads:
        thread.join()
    assert not watchdog.stuck()


def test_thread_that_starts_another_is_no_finding(gate, monkeypatch):
    """It waits until the other one has begun, which a busy machine may delay."""
    set_event, late = threading.Event.set, queue.SimpleQueue()

    def set_late(event):
        if threading.get_ident() != starter:
            late.put(None)
            gate.wait()
        set_event(event)

    def start():
        nonlocal starter
        starter = threading.get_ident()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Event, "set", set_late)
            threading.Thread(target=int).start()

    starter = None
    calls = threading.Thread(target=run, args=(call_user, start))
    calls.start()
    late.get()
    for _ in range(100):  # it may not wait at first
        assert not watchdog.stuck()
        time.sleep(0.001)
    set_event(gate)
    calls.join()


def test_coroutine_that_waits_for_ever_is_found():
    """A coroutine that nothing wakes fails one test, although no thread waits for it."""

    async def hang():
        waiter.append(asyncio.current_task())
        await asyncio.Event().wait()

    waiter = []
    dog = watchdog.Watchdog(grace=0.0)
    in_background(hang)
    eventually(lambda: waiter and watchdog.unfinished())
    with pytest.raises(pytest.fail.Exception, match="hang"):
        list(dog.pytest_runtest_teardown())
    assert list(dog.pytest_runtest_teardown()) == [None]
    current().post(waiter[0].cancel)
    eventually(lambda: not watchdog.unfinished())


def test_idle_engine_is_no_finding():
    """Idle threads, and the loop, wait for work that may come."""
    run(blocking, int)
    assert not watchdog.stuck()
    assert not watchdog.unfinished()

"""What threads wait for, and what exceptions of signal handlers leave of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from fsspec_osspresigned.concurrency import budget, circuit, job_runner, waiting
from fsspec_osspresigned.concurrency.budget import Budget, Lease, Turns
from fsspec_osspresigned.concurrency.circuit import Circuit
from fsspec_osspresigned.concurrency.job_runner import Transfers
from fsspec_osspresigned.concurrency.thread_pool import Workers
from fsspec_osspresigned.concurrency.waiting import (
    Changes,
    Event,
    Future,
    LoopWaiter,
    wait_for_all,
    wait_for_one,
)
from fsspec_osspresigned.errors import StoreUnavailableError
from tests.interrupts import Interrupt, at_line

SECONDS = 10.0


def in_thread(function, *args):
    """Start *function* in a thread, and return it."""
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def ended(thread):
    """Return whether *thread* ends."""
    thread.join(SECONDS)
    return not thread.is_alive()


# -- changes ----------------------------------------------------------------------------


def test_what_is_there_is_not_waited_for():
    """What may be done at once takes no lock and no bell."""
    assert Changes().wait_for(lambda: True, 0)


def test_change_lets_one_look_again():
    """A change that is told ends the wait; without one it ends after its seconds."""
    changes, found = Changes(glance=60.0), []
    thread = in_thread(changes.wait_for, lambda: bool(found))
    assert not changes.wait_for(lambda: bool(found), 0.01)
    found.append(1)
    assert thread.is_alive()
    changes.tell()
    changes.tell()
    assert ended(thread)
    assert changes.waiting == 0


def test_look_that_fails():
    """What it raises reaches the caller, who does not wait any more."""
    changes, looks = Changes(), []

    def look():
        looks.append(1)
        assert len(looks) < 3
        return False

    with pytest.raises(AssertionError):
        changes.wait_for(look)
    assert changes.waiting == 0


# -- events -----------------------------------------------------------------------------


def test_event_wakes_all():
    """Setting it ends every wait, once or again, and those that begin later."""
    event = Event()
    threads = [in_thread(event.wait) for _ in range(3)]
    event.set()
    event.set()
    assert all(ended(thread) for thread in threads)
    assert event.is_set()
    assert event.wait()


def test_event_that_does_not_come():
    """A wait ends after its seconds, none at all included."""
    event = Event()
    assert not event.wait(0.01)
    assert not event.wait(0)
    assert not event.wait(-1)


def test_waiter_that_was_not_called(monkeypatch):
    """A waiter looks again by itself."""
    monkeypatch.setattr(waiting, "_GLANCE", 0.01)
    event = Event()
    thread = in_thread(event.wait)

    def cut():
        raise Interrupt

    for line in itertools.count():
        reached = []

        def act(reached=reached):
            reached.append(True)
            cut()

        with contextlib.suppress(Interrupt), at_line(waiting.__file__, line, act):
            event.set()
        if event.is_set() or not reached:
            break
    assert ended(thread)


# -- futures ----------------------------------------------------------------------------


def test_result():
    """A result is there for all who ask, before and after."""
    future, found = Future(), []
    thread = in_thread(lambda: found.append(future.result()))
    assert future.start()
    assert not future.done()
    future.set_result(7)
    assert ended(thread)
    assert found == [future.result(0)] == [7]
    assert future.done()
    assert future.exception() is None


def test_failure():
    """What the job raised is raised, each time."""
    future = Future()
    future.start()
    future.set_exception(KeyError("k"))
    for _ in range(2):
        with pytest.raises(KeyError, match="k"):
            future.result()


def test_job_that_takes_too_long():
    """Waiting has an end, and the job goes on."""
    future = Future()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    future.set_result(1)
    assert future.result() == 1


def test_cancelled_before_it_starts():
    """It does not start any more, and whoever waits is told."""
    future = Future()
    thread = in_thread(future.wait)
    assert future.cancel()
    assert future.cancel()
    assert ended(thread)
    assert (future.start(), future.cancelled(), future.done()) == (False, True, True)
    with pytest.raises(CancelledError):
        future.result()


def test_cancelled_too_late():
    """What has started ends as it would have."""
    future = Future()
    future.start()
    assert not future.cancel()
    assert not future.done()
    future.set_result(1)
    assert (future.result(), future.cancelled()) == (1, False)


def test_callbacks():
    """Each is called once, also one that comes late."""
    future, called = Future(), []
    future.call_at_end(lambda: called.append("early"))
    future.set_result(None)
    future.call_at_end(lambda: called.append("late"))
    future.cancel()
    assert called == ["early", "late"]


def test_wait_for_some():
    """One that has ended is enough for the one, and nothing is for the other."""
    futures = [Future(), Future()]
    one, both = in_thread(wait_for_one, futures), in_thread(wait_for_all, futures)
    futures[1].set_result(None)
    assert ended(one)
    assert both.is_alive()
    futures[0].cancel()
    assert ended(both)
    wait_for_one([])
    wait_for_all([])


# -- interrupts -------------------------------------------------------------------------


def interrupted(files, work):
    """Do *work* with an interrupt at each line of *files*; return how many there are."""
    count = 0
    for file in files:
        for line in itertools.count():
            reached = []

            def act(reached=reached):
                reached.append(True)
                raise Interrupt

            with contextlib.suppress(Interrupt), at_line(file, line, act):
                work()
            if not reached:
                break
            count += 1
    return count


def test_interrupt_at_each_line_of_a_run():
    """Whatever is interrupted, the run ends, its jobs too, and the pool does the next."""
    pool = Workers("test", 2, patience=0.2)
    running = []

    def job(number, cancel):
        running.append(number)
        time.sleep(0.001)
        running.remove(number)

    def run():
        try:
            Transfers(pool, 2, job, str).run(range(4))
        finally:
            assert not running

    files = [waiting.__file__, job_runner.__file__]
    counts = []
    thread = in_thread(lambda: counts.append(interrupted(files, run)))
    thread.join(60)
    assert not thread.is_alive()
    assert counts[0] > 50
    assert pool.submit(divmod, 7, 2).result(SECONDS) == (3, 1)


class Waits:
    """A thing to wait for; ``go`` waits, and ``free`` lets it go on from another thread."""

    def __init__(self, go, free, file):
        self.go, self.free = go, free
        self.files = (waiting.__file__, file, threading.__file__)


def waits_for_turn():
    """A request waits for the turn of another one."""
    turns = Turns(Budget(), 1)
    first = turns.take()

    def go():
        try:
            with turns.take():
                assert turns.in_flight == 1
        finally:
            turns.tell()

    def free():
        first.close()
        turns.tell()

    return Waits(go, free, budget.__file__)


def waits_for_memory():
    """A writer waits for bytes that another one gives back."""
    one = Budget()
    leases = [Lease(one, 10)]
    return Waits(lambda: one.wait(10, bool), leases.clear, budget.__file__)


def waits_for_probe():
    """A request waits for the one that is let through, which succeeds."""
    one = Circuit(1, pause=0.0, longest=0.0)
    failure = StoreUnavailableError("503", path="b/k")
    with contextlib.suppress(StoreUnavailableError), one.turn("b/k"):
        raise failure
    probe = one.turn("b/k")
    probe.__enter__()

    def go():
        with one.turn("b/k"):
            pass

    return Waits(go, lambda: probe.__exit__(None, None, None), circuit.__file__)


@pytest.mark.parametrize(
    "make",
    [waits_for_turn, waits_for_memory, waits_for_probe],
    ids=lambda make: make.__name__,
)
def test_interrupt_at_each_line_of_a_wait(make):
    """The interrupt itself is what is raised, and the next one waits and goes on."""
    looked = set()
    first = make()
    first.free()  # else the probe is collected at any time, and perhaps interrupted
    for file in range(len(first.files)):
        for line in itertools.count():
            waits, reached = make(), []

            def act(reached=reached):
                reached.append(sys._getframe(2).f_code.co_name)
                raise Interrupt

            timer = threading.Timer(0.03, waits.free)
            timer.start()
            with contextlib.suppress(Interrupt), at_line(waits.files[file], line, act):
                waits.go()
            timer.join()
            assert ended(in_thread(waits.go)), (file, line)
            looked.update(reached)
            if not reached:
                break
    assert "wait_for" in looked


def test_the_loop_is_called_once_for_jobs_that_end_together(monkeypatch):
    """A thousand coroutines do not wake their loop a thousand times."""
    jobs = [Future[int]() for _ in range(1_000)]
    calls = []

    async def main():
        loop, waiter = asyncio.get_running_loop(), LoopWaiter.of_running_loop()
        call = loop.call_soon_threadsafe
        monkeypatch.setattr(
            loop, "call_soon_threadsafe", lambda f: calls.append(f) or call(f)
        )
        waiting = [asyncio.create_task(waiter.wait_for(job)) for job in jobs]
        await asyncio.sleep(0)
        assert LoopWaiter.of_running_loop() is waiter
        for number, job in enumerate(jobs):
            job.set_result(number)
        await asyncio.gather(*waiting)

    asyncio.run(main())
    assert len(calls) == 1


def test_a_job_ends_although_its_call_was_lost(monkeypatch):
    """The next look finds it, and later jobs call the loop again."""
    job, later = Future[int](), Future[int]()

    async def main():
        loop, waiter = asyncio.get_running_loop(), LoopWaiter.of_running_loop()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", lambda f: None)
            task = asyncio.create_task(waiter.wait_for(job))
            await asyncio.sleep(0)
            job.set_result(1)
        await task
        task = asyncio.create_task(waiter.wait_for(later))
        await asyncio.sleep(0)
        threading.Timer(0.01, later.set_result, (2,)).start()
        await task

    asyncio.run(main())
    assert job.result(0) + later.result(0) == 3


def test_a_cancelled_wait_leaves_its_job_alone():
    """The job ends as usual, and others that wait for it get their turn."""
    job = Future[int]()

    async def main():
        waiter = LoopWaiter.of_running_loop()
        first, second = (asyncio.create_task(waiter.wait_for(job)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert not job.done()
        job.set_result(1)
        await second

    asyncio.run(main())
    assert job.result(0) == 1


def test_a_job_may_end_after_its_loop():
    """The thread that ends it is not disturbed by a loop that is closed."""
    job = Future[int]()

    async def main():
        task = asyncio.create_task(LoopWaiter.of_running_loop().wait_for(job))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(main())
    job.set_result(1)
    assert job.result(0) == 1

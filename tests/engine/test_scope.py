"""Scopes: many jobs, a few at a time, which end together."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from fsspec_osspresigned.engine import abort_at_exit
from fsspec_osspresigned.engine.engine import current, run
from fsspec_osspresigned.engine.scope import Scope, in_parallel
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    UploadDiscardedError,
)
from tests.engine_calls import Call

DAY = 86400.0


def run_all(work, jobs, width=4, **facts):
    """Run a scope; return its results, or its error."""

    async def main():
        return await Scope(work, str, width=width, **facts).run(jobs)

    return run(main)


# -- results ----------------------------------------------------------------------------


def test_iterators_are_read_by_a_thread():
    """They may wait for a disk, or use a filesystem; the loop goes on meanwhile."""
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)

    def jobs():
        for number in range(3):
            assert threading.current_thread().name.startswith("osspresigned-user")
            time.sleep(0.05)
            assert run(asyncio.sleep, 0, number) == number
            yield number

    async def work(job):
        return job

    async def main():
        ticking = asyncio.create_task(tick())
        try:
            return await Scope(work, str, width=2).run(jobs())
        finally:
            ticking.cancel()

    assert run(main) == [0, 1, 2]
    assert len(ticks) > 10


def test_next_chunk_is_read_while_jobs_run():
    """A job waits until the iterator has yielded more jobs than a chunk has."""
    has_read_ahead = asyncio.Event()

    def jobs():
        for number in range(300):
            if number == 200:
                current().post(has_read_ahead.set)
            yield number

    async def work(job):
        await asyncio.wait_for(has_read_ahead.wait(), 10)
        return job

    assert run_all(work, jobs()) == [*range(300)]


def test_error_of_a_chunk_in_advance_comes_after_the_jobs_before():
    """All jobs that an iterator has yielded in whole chunks are run before its error."""
    done = []

    def jobs():
        yield from range(128)
        raise OSError("the disk is gone")

    async def work(job):
        await asyncio.sleep(0.001)
        done.append(job)

    with pytest.raises(OSError, match="the disk is gone"):
        run_all(work, jobs(), width=1)
    assert done == [*range(128)]


# -- refusals ---------------------------------------------------------------------------


def refusing(*, code="AccessDenied", action=None, every=1):
    """Return a function that refuses each job but the first of *every*."""

    async def work(job):
        if every > 1 and job % every == 0:
            return job
        error = AccessDeniedError("no", path=f"b/{job}", status=403, action=action)
        error.code = code if isinstance(code, str) else code(job)
        raise error

    return work


@pytest.mark.parametrize(
    "work",
    [refusing(every=16), refusing(code=lambda job: f"Code{job % 2}")],
    ids=["a success between", "others"],
)
def test_refusals_that_differ_end_nothing(work):
    """A success, or a refusal of another kind, begins the count again."""
    results = run_all(work, range(100), 1, on_error="return")
    assert len(results) == 100


@pytest.mark.timeout(20)
def test_a_cycle_of_exceptions():
    """Exceptions of the user may refer to each other; the scope ends nevertheless."""
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first

    async def work(job):
        raise first

    with pytest.raises(ValueError, match="a"):
        run_all(work, [1])


# -- the end ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Scope, in_parallel])
def test_second_cancellation_reaches_the_cleaning(kind):
    """It hurries the jobs, and still none outlives the scope."""
    events, begun = [], threading.Event()

    async def work(_):
        begun.set()
        try:
            await asyncio.sleep(DAY)
        finally:
            try:
                await asyncio.sleep(DAY)
            finally:
                await asyncio.sleep(0.02)
                events.append("job has ended")

    async def main():
        if kind is Scope:
            await Scope(work, str, width=1).run([1])
        else:
            await in_parallel(work, [1], 1)

    call = Call(main).begin()
    assert begun.wait(10)
    call.cancel()
    assert not call.has_ended
    call.cancel()
    assert isinstance(call.wait(), asyncio.CancelledError)
    assert events == ["job has ended"]


def test_termination_begins_nothing(monkeypatch):
    """After SIGTERM no job is taken, and what was left undone is said."""
    done = []

    async def work(job):
        done.append(job)
        monkeypatch.setattr(abort_at_exit, "is_terminating", True)

    with pytest.raises(UploadDiscardedError, match="SIGTERM"):
        run_all(work, range(10), 1)
    assert done == [0]


# -- in_parallel ------------------------------------------------------------------------


def test_in_parallel_ends_with_the_first_failure(caplog):
    """The others are cancelled and waited for; of several failures one is raised."""
    running = set()

    async def work(job):
        running.add(job)
        try:
            await asyncio.sleep(0 if job in (2, 3) else DAY)
            raise OSError("no")
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            raise ValueError("while it was cancelled") from None
        finally:
            running.remove(job)

    async def main():
        await in_parallel(work, range(100), 4)

    with pytest.raises(OSError, match="no"):
        run(main)
    assert not running
    gc.collect()
    assert not [
        each for each in caplog.records if "never retrieved" in each.getMessage()
    ]

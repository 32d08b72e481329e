"""The loop guard finds what it is for."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time

import pytest

from fsspec_osspresigned.engine.engine import run, running
from tests.loop_guard import LoopGuard


@pytest.fixture
def guard(request):
    """The guard of this run; it forgets what these tests do on purpose."""
    guard = request.config.pluginmanager.get_plugin("loop guard")
    yield guard
    guard.problems.clear()


def problems_of(guard):
    """Return what the guard would report after this test."""
    hook = guard.pytest_runtest_teardown()
    next(hook)
    with contextlib.suppress(StopIteration):
        next(hook)


def test_callback_that_takes_long(guard: LoopGuard):
    """Half a second of processor time is too long; a wait is none."""

    async def work(end):
        while time.thread_time() < end:
            pass

    async def main(seconds):
        await work(time.thread_time() + seconds)
        await asyncio.sleep(0.1)

    run(main, 0.05)
    problems_of(guard)
    run(main, 0.7)
    with pytest.raises(pytest.fail.Exception, match="the loop was held for 0"):
        problems_of(guard)


def test_exception_that_is_lost(guard: LoopGuard):
    """It is reported when the task is dropped."""

    async def fails():
        raise ValueError("lost")

    async def main():
        running().loop.create_task(fails())
        await asyncio.sleep(0.01)

    run(main)
    gc.collect()
    with pytest.raises(pytest.fail.Exception, match="never retrieved"):
        problems_of(guard)

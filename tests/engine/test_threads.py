"""Worker threads: reused, ended when idle, and done without where none can start."""

from __future__ import annotations

import asyncio
import errno
import threading
import time

import pytest

from fsspec_osspresigned.engine import threads
from fsspec_osspresigned.engine.engine import blocking, run, running


def refuse(*_):
    """Do as a system without another thread does."""
    raise RuntimeError("can't start new thread")


async def idents(count):
    """Return the threads that do *count* jobs, one after the other."""
    return [await blocking(threading.get_ident) for _ in range(count)]


def test_threads_are_used_again():
    """One job after the other needs one thread."""
    assert len(set(run(idents, 20))) == 1


def test_idle_threads_end(no_engine):
    """They end although the engine is in use; the next job gets another one."""

    def alive(ident):
        return ident in (thread.ident for thread in threading.enumerate())

    async def main():
        before = {await blocking(threading.current_thread) for _ in range(3)}
        end = time.monotonic() + 10
        while any(thread.is_alive() for thread in before):
            assert time.monotonic() < end
            await asyncio.sleep(0.005)
        return await blocking(int, "7")

    assert run(main) == 7


def test_jobs_wait_for_a_thread(no_engine, monkeypatch):
    """If no other thread can start, jobs are done one after the other by one."""
    begun, go = threading.Event(), threading.Event()

    def first():
        begun.set()
        go.wait(10)
        return threading.get_ident()

    async def main():
        task = asyncio.create_task(blocking(first))
        assert await asyncio.to_thread(begun.wait, 10)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            others = [asyncio.create_task(blocking(threading.get_ident)) for _ in "abc"]
            await asyncio.sleep(0.1)
            assert not any(other.done() for other in others)
            go.set()
            done = await asyncio.gather(task, *others)
        assert running().threads.busy == 0
        return done

    assert len(set(run(main))) == 1


def test_cancelled_job_that_waits_for_a_thread(no_engine, monkeypatch):
    """It ends at once, and is never done."""
    go, done = threading.Event(), []

    async def main():
        busy = asyncio.create_task(blocking(go.wait, 10))
        await asyncio.sleep(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            waits = asyncio.create_task(blocking(done.append, 1))
            await asyncio.sleep(0.01)
            waits.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waits
        go.set()
        await busy
        await asyncio.sleep(0.1)

    run(main)
    assert done == []


def test_job_without_a_thread_that_waits_for_the_engine(no_engine, monkeypatch):
    """The loop does it, so it cannot wait for the loop: the error says what is missing."""

    async def nothing():
        pass

    async def main():
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(OSError, match="no thread can be started") as caught:
                await blocking(run, nothing)
        return caught.value

    assert run(main).errno == errno.EAGAIN


def test_thread_that_can_start_later(no_engine, monkeypatch):
    """A job that waits gets a thread as soon as there is one."""
    go, tries = threading.Event(), []
    start = threading.Thread.start

    def later(thread):
        tries.append(thread)
        if len(tries) < 3:
            refuse()
        start(thread)

    async def main():
        task = asyncio.create_task(blocking(go.wait, 10))
        await asyncio.sleep(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", later)
            await blocking(go.set)
        return await task

    assert run(main)
    assert len(tries) == 3


@pytest.mark.parametrize("has_busy_thread", [False, True])
def test_job_without_any_thread(no_engine, monkeypatch, has_busy_thread):
    """It is done by the loop, at once if no thread could ever take it."""
    monkeypatch.setattr(threads, "RETRY_INTERVAL", 0.005)
    go = threading.Event()

    async def main():
        waits = asyncio.create_task(
            blocking(go.wait, 10) if has_busy_thread else idle()
        )
        await asyncio.sleep(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            here = await blocking(threading.get_ident)
            with pytest.raises(ZeroDivisionError):
                await blocking(lambda: 1 / 0)
        go.set()
        await waits
        assert here == threading.get_ident()
        return await blocking(threading.get_ident) != here

    assert run(main)


async def idle():
    """Do nothing."""

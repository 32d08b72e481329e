"""Worker threads: reused, and ended when they are idle."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fsspec_osspresigned.engine import threads
from fsspec_osspresigned.engine.engine import blocking, run
from tests.engine.conftest import wait_until


async def idents(count):
    """Return the threads that do *count* jobs, one after the other."""
    return [await blocking(threading.get_ident) for _ in range(count)]


def test_threads_are_used_again():
    """One job after the other needs one thread."""
    assert len(set(run(idents, 20))) == 1


def test_idle_threads_end(no_engine, monkeypatch):
    """They end although the engine stays; the next job gets another one."""
    monkeypatch.setattr(threads, "IDLE", 0.02)
    (thread,) = {run(blocking, threading.current_thread) for _ in range(1)}
    wait_until(lambda: not thread.is_alive())
    assert run(blocking, int, "7") == 7


def test_cancelled_job_that_waits_for_a_thread(no_engine, monkeypatch):
    """It ends at once, and is never done."""
    monkeypatch.setattr("fsspec_osspresigned.engine.engine.WORKERS", 1)
    begun, go, done = threading.Event(), threading.Event(), []

    def first():
        begun.set()
        go.wait(10)

    async def main():
        busy = asyncio.create_task(blocking(first))
        waits = asyncio.create_task(blocking(done.append, 1))
        await asyncio.sleep(0.01)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        go.set()
        await busy
        return await blocking(int, "7")

    assert run(main) == 7
    assert done == []


def test_no_thread_for_a_job(no_engine, monkeypatch):
    """The call gets the error of the system, and the next one tries anew."""

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    run(asyncio.sleep, 0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread can be started"):
            run(blocking, int, "7")
    assert run(blocking, int, "7") == 7

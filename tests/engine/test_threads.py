"""Worker threads: reused, and ended when they are idle."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fsspec_osspresigned.engine.engine import blocking, run


async def idents(count):
    """Return the threads that do *count* jobs, one after the other."""
    return [await blocking(threading.get_ident) for _ in range(count)]


def test_threads_are_used_again():
    """One job after the other needs one thread."""
    assert len(set(run(idents, 20))) == 1


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

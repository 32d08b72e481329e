"""Background work that can be stopped and never keeps the process alive."""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import threading
import time
import weakref

import pytest

from fsspec_osspresigned.concurrency import thread_pool
from fsspec_osspresigned.concurrency.thread_pool import Workers, run_jobs_here


def test_work_and_its_failure_reach_the_caller():
    """A future brings the result, or the exception, whatever its kind."""
    workers = Workers("w", 2)
    assert workers.submit(divmod, 7, 2).result(5) == (3, 1)
    failed = workers.submit(sys.exit, 3)
    assert isinstance(failed.exception(5), SystemExit)


def test_no_more_threads_than_allowed():
    """Threads start as needed, are used again, and have names."""
    workers = Workers("pool", 2)
    gate, names = threading.Event(), set()
    started = threading.Semaphore(0)

    def task():
        names.add(threading.current_thread().name)
        started.release()
        assert gate.wait(5)

    futures = [workers.submit(task) for _ in range(5)]
    assert started.acquire(timeout=5)
    assert started.acquire(timeout=5)
    assert names == {"pool-1", "pool-2"}
    gate.set()
    for future in futures:
        future.result(5)
    assert names == {"pool-1", "pool-2"}


def test_a_job_that_others_may_wait_for_runs_where_it_is_submitted():
    """Inside the block a full pool makes no job wait, and afterwards all is as before."""
    workers, gate = Workers("full", 1), threading.Event()
    me = threading.current_thread()
    busy = workers.submit(gate.wait, 5)
    with run_jobs_here():
        with run_jobs_here():
            assert workers.submit(threading.current_thread).result(0) is me
        assert workers.submit(threading.current_thread).result(0) is me
    queued = workers.submit(threading.current_thread)
    gate.set()
    assert busy.result(5)
    assert queued.result(5) is not me


def test_a_job_in_the_thread_of_its_pool_leaves_that_thread_busy():
    """Else a later job would be left to a thread that does not come back."""
    workers, gate = Workers("two", 2), threading.Event()

    def task():
        with run_jobs_here():
            workers.submit(int).result(0)
        workers.submit(gate.set)
        return gate.wait(5)

    assert workers.submit(task).result(5)


def test_idle_thread_is_used_again():
    """One task after another needs one thread."""
    workers = Workers("one", 9)
    for _ in range(50):
        workers.submit(int).result(5)
    assert workers.threads <= 1  # it ends soon where many are idle


def ended(workers):
    """Wait until the pool has no thread."""
    end = time.monotonic() + 5
    while workers.threads and time.monotonic() < end:
        time.sleep(0.002)
    assert not workers.threads


def test_idle_thread_ends():
    """An idle thread ends after the patience, and the next job starts another one."""
    workers = Workers("brief", 2, patience=0.01)
    for _ in range(3):
        workers.submit(int).result(5)
        ended(workers)


def test_few_threads_of_many_pools_stay_idle(monkeypatch):
    """A process of many filesystems does not keep the threads of all of them."""
    monkeypatch.setattr(thread_pool, "MOST_IDLE", 3)
    pools = [Workers(f"one of many {number}", 2) for number in range(10)]
    for _ in range(2):
        for pool in pools:
            pool.submit(int).result(5)
        end = time.monotonic() + 20
        while sum(pool.threads for pool in pools) > 3:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_pool_works_after_a_rest():
    """After more jobs than threads and a rest, a single job finds a thread again."""
    workers = Workers("rested", 4, patience=0.01)
    for _ in range(10):
        for future in [workers.submit(time.sleep, 0.001) for _ in range(40)]:
            future.result(5)
        ended(workers)
        assert workers.submit(divmod, 7, 2).result(5) == (3, 1)
        assert workers.waiting == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_has_a_pool_of_its_own():
    """In a forked child the pool works at once, although the parent used its threads."""
    workers = Workers("forked", 1)
    gate = threading.Event()
    busy = workers.submit(gate.wait, 5)
    if not (child := os.fork()):
        os._exit(workers.submit(int, "7").result(5))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    gate.set()
    assert busy.result(5)


def test_cancelled_before_it_began():
    """Queued work that was cancelled never runs."""
    workers, gate, ran = Workers("w", 1), threading.Event(), []
    first = workers.submit(gate.wait, 5)
    second = workers.submit(ran.append, 1)
    assert second.cancel()
    gate.set()
    assert first.result(5)
    workers.submit(int).result(5)
    assert ran == []


def test_no_thread_can_be_started(monkeypatch):
    """The caller does the task itself, unless it is a finalizer; nothing is miscounted."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    workers, ran = Workers("w", 1), []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        here = workers.submit(threading.current_thread).result(0)
        assert here is threading.current_thread()
        assert isinstance(workers.submit(divmod, 1, 0).exception(0), ZeroDivisionError)
        with pytest.raises(SystemExit):
            workers.submit(sys.exit)
        with pytest.raises(RuntimeError, match="start"):
            workers.queue(ran.append, 1)
        assert workers.waiting == 0
    workers.submit(ran.append, 2).result(5)
    assert ran == [2]


def test_idle_threads_keep_nothing_alive():
    """A part's buffer is freed although its thread waits for more."""
    workers = Workers("w", 1)

    class Buffer:
        pass

    buffer = Buffer()
    gone = weakref.ref(buffer)
    workers.submit(id, buffer).result(5)
    del buffer
    end = time.monotonic() + 5
    while gone() is not None and time.monotonic() < end:
        gc.collect()
    assert gone() is None


def test_process_ends_although_work_is_queued():
    """Nobody waits for it any more, so it is not finished behind the user's back."""
    code = (
        "import time; from fsspec_osspresigned.concurrency.thread_pool import Workers\n"
        "w = Workers('w', 1)\n"
        "for _ in range(3): w.submit(time.sleep, 60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=30, check=False)
    assert done.returncode == 0


def test_job_that_comes_at_the_last_moment():
    """A thread that is about to end does a job that was queued in this moment."""
    late = queue.SimpleQueue()

    class LastMoment:
        """The end of a thread's patience: a job comes just after it looked for one."""

        def __bool__(self):
            late.put(workers.submit(threading.current_thread))
            return False

    class Bell:
        """The lock in which idle threads wait."""

        def __init__(self):
            self.lock, self.acquire = threading.Lock(), self.first_jobs
            self.release = self.lock.release
            self.lock.acquire()

        def first_jobs(self, timeout):
            self.acquire = self.end_of_patience
            return self.lock.acquire(timeout=timeout)

        def end_of_patience(self, timeout):
            self.acquire = self.lock.acquire
            return LastMoment()

    workers = Workers("late", 1, bell=Bell)
    first = workers.submit(threading.current_thread).result(10)
    assert late.get(timeout=10).result(10) is first

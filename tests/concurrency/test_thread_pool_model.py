"""Model test of the thread pool: jobs, rests, failed starts and interrupts in any order.

The threads wait in a lock of the test, which decides when a wait times out, so no test
sleeps for the patience of a thread.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from fsspec_osspresigned.concurrency import thread_pool
from fsspec_osspresigned.concurrency.thread_pool import Workers
from tests.interrupts import Interrupt, at_line, tracer

SECONDS = 10  # within which everything happens on a busy machine
NAMES = itertools.count()
FILE = thread_pool.__file__


class Bell:
    """Lock whose time-outs come when the test says so."""

    def __init__(self):
        self._changed = threading.Condition()
        self._rings = False
        self._expiring = 0
        self.idle = 0

    def release(self):
        """Wake one thread."""
        with self._changed:
            if self._rings:
                raise RuntimeError("release unlocked lock")
            self._rings = True
            self._changed.notify()

    def acquire(self, timeout):
        """Wait for ``release``, or time out on demand."""
        assert timeout > 0
        with self._changed:
            self.idle += 1
            self._changed.wait_for(lambda: self._rings or self._expiring)
            self.idle -= 1
            rung, self._rings = self._rings, False
            self._expiring -= not rung
            return rung

    def rests(self):
        """Return whether no waiting thread has a reason to wake up."""
        return not (self.idle and (self._rings or self._expiring))

    def expire(self, count):
        """Let *count* waits time out."""
        with self._changed:
            self._expiring = count
            self._changed.notify_all()


def eventually(true):
    """Wait until *true* returns something true."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.0005)


class Run:
    """A pool, its bell, and the jobs that were submitted."""

    def __init__(self, size):
        self.bell = Bell()
        self.size = size
        self.name = f"model{next(NAMES)}"
        self.pool = Workers(self.name, size, bell=lambda: self.bell)
        self.jobs = []  # future and gate
        self.at_once = 0
        self.most = 0
        self._lock = threading.Lock()

    def living(self):
        """Return how many threads of the pool live."""
        return sum(
            thread.is_alive() and thread.name.startswith(f"{self.name}-")
            for thread in threading.enumerate()
        )

    def submit(self, gate=None):
        """Submit a job that waits for *gate*."""
        self.jobs.append((self.pool.submit(self._job, gate), gate))

    def _job(self, gate):
        with self._lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        if gate is not None:
            assert gate.wait(SECONDS)
        with self._lock:
            self.at_once -= 1
        return "done"

    def interrupted(self, line):
        """Submit a job; return whether an interrupt before *line* lost its future."""

        def act():
            raise Interrupt

        try:
            with at_line(FILE, line, act):
                self.submit()
        except Interrupt:
            return True
        return False

    def settle(self):
        """Wait until each thread is idle, or in a job whose gate is shut."""

        def settled():
            counted = self.bell.idle + self.at_once
            return self.bell.rests() and self.pool.threads == self.living() == counted

        eventually(settled)

    def finish(self):
        """Check that all jobs are done, and that all threads end."""
        for future, gate in self.jobs:
            if gate is not None:
                gate.set()
            if not future.cancelled():
                assert future.result(SECONDS) == "done"
        self.rest()
        self.submit()
        assert self.jobs[-1][0].result(SECONDS) == "done"
        self.rest()
        self.bell.expire(1_000)  # for a thread whose start is not over yet
        assert not self.pool.waiting
        assert self.most <= self.size

    def rest(self):
        """Let all threads end, also those whose start is not over."""

        def over():
            self.bell.expire(1_000)
            return not self.living() and not self.pool.threads

        eventually(over)
        self.bell.expire(0)


class Pool(RuleBasedStateMachine):
    """Jobs, rests, failed starts and interrupts in any order."""

    @initialize(size=st.integers(1, 3))
    def begin(self, size):
        """Start with an empty pool."""
        self.run = Run(size)
        self.exact = True

    @rule(shut=st.booleans())
    def submit(self, shut):
        """Submit a job that ends at once, or waits."""
        self.run.submit(threading.Event() if shut else None)

    @rule(index=st.integers(0, 9))
    def open_gate(self, index):
        """Let one job end."""
        shut = [gate for _, gate in self.run.jobs if gate and not gate.is_set()]
        if shut:
            shut[index % len(shut)].set()

    @rule(index=st.integers(0, 9))
    def cancel(self, index):
        """Cancel a job that may not have begun."""
        if self.run.jobs:
            self.run.jobs[index % len(self.run.jobs)][0].cancel()

    @rule()
    def time_out(self):
        """Let one thread wait in vain."""
        self.run.bell.expire(min(self.run.bell.idle, 1))

    @rule()
    def rest(self):
        """Let all idle threads end."""
        self.run.bell.expire(self.run.bell.idle)

    @rule()
    def fail_to_start(self):
        """Submit a job while no thread can be started."""
        self.exact = False
        alive = self.run.pool.threads

        def refuse(_):
            raise RuntimeError("can't start new thread")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            self.run.submit()
        assert alive or self.run.jobs[-1][0].done()

    @rule(line=st.integers(0, 40))
    def interrupt(self, line):
        """Interrupt a submit."""
        self.exact = False
        self.run.interrupted(line)

    @rule(line=st.integers(0, 40))
    def finalize(self, line):
        """Let a finalizer submit in the middle of a submit."""
        with at_line(FILE, line, self.run.submit):
            self.run.submit()

    @invariant()
    def every_job_has_a_thread(self):
        """A waiting job has a thread; each thread that is needed is there."""
        self.run.settle()
        pool, size = self.run.pool, self.run.size
        waits = sum(not f.done() for f, _ in self.run.jobs) - self.run.at_once
        assert pool.threads <= size
        if waits:
            assert pool.threads == size if self.exact else pool.threads

    def teardown(self):
        """Open all gates and rest."""
        if hasattr(self, "run"):
            self.run.finish()


TestPool = Pool.TestCase
TestPool.settings = settings(
    stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize("rested", [False, True], ids=["new", "rested"])
@pytest.mark.parametrize("size", [1, 3])
def test_interrupt_at_each_line_of_submit(size, rested):
    """After an interrupt at any step, the pool does its jobs and its threads end."""
    for line in itertools.count():
        run = Run(size)
        if rested:
            run.submit()
            run.rest()
        cut = run.interrupted(line)
        run.finish()
        if not cut:
            break
    assert line > 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_by_a_real_signal():
    """Interrupts of submits at random moments leave a pool that works."""
    rng = random.Random(1)  # noqa: S311 - repeatable
    pool = Workers("cut", 2, patience=0.005)
    cut, armed = 0, False

    def handle(*_):
        if armed:
            raise Interrupt

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for number in range(2_000):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 1e-4))
                pool.submit(int)
                armed = False
            except (Interrupt, RuntimeError):  # or a lock of the library was cut
                armed = False
                cut += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            if number % 100 == 0:
                assert pool.submit(divmod, 7, 2).result(SECONDS) == (3, 1)
                eventually(lambda: not pool.threads)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert pool.submit(divmod, 7, 2).result(SECONDS) == (3, 1)
    assert cut
    eventually(lambda: not pool.threads and not pool.waiting)


@pytest.mark.parametrize("size", [1, 3])
def test_finalizer_at_each_line_of_a_worker(size):
    """A finalizer may submit at any step of a thread; each job is done."""
    for line in range(60):
        run = Run(size)
        before = threading.gettrace()
        threading.settrace(tracer(FILE, line, run.submit))
        try:
            run.submit()
            assert run.jobs[0][0].result(SECONDS) == "done"
            run.rest()
        finally:
            threading.settrace(before)
        run.finish()
    assert len(run.jobs) == 2  # the last line was behind the end of the thread

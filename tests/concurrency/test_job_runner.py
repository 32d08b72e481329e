"""A few workers over many jobs."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from fsspec_osspresigned.concurrency.job_runner import OVER, Task, Transfers
from fsspec_osspresigned.concurrency.thread_pool import Workers
from fsspec_osspresigned.errors import ReceiptFailedError, UploadErrors


@pytest.fixture
def pool():
    """Four workers."""
    return Workers("test", 4)


def test_all_jobs_are_done(pool):
    """Each job is done once, whatever the number of workers."""
    run = Transfers(pool, 3, lambda job, _: job * 2, str)
    assert sorted(run.run(iter(range(100)))) == list(range(0, 200, 2))
    assert Transfers(pool, 1, lambda job, _: job, str).run([]) == []


def test_a_job_may_run_jobs_of_its_own(pool):
    """All workers of a pool may do so at once, though none is left for the inner jobs."""
    gate = threading.Barrier(4, timeout=10)

    def work(job, _):
        gate.wait()
        return sum(Transfers(pool, 4, lambda inner, _: inner * job, str).run(range(5)))

    assert Transfers(pool, 4, work, str).run(range(4)) == [0, 10, 20, 30]


def test_jobs_are_taken_as_workers_become_free(pool):
    """An endless supply is not read ahead."""
    taken = []

    def jobs():
        for n in range(1000):
            taken.append(n)
            yield n

    def work(job, _):
        if job == 5:
            raise ValueError(job)

    with pytest.raises(ValueError, match="5"):
        Transfers(pool, 2, work, str).run(jobs())
    assert len(taken) < 1000


def test_several_failures_are_one_error(pool):
    """Every failure of a job that was under way is kept, with its name."""
    gate = threading.Barrier(3, timeout=10)

    def work(job, _):
        gate.wait()
        raise OSError(job)

    with pytest.raises(UploadErrors, match="3 transfers failed: ") as caught:
        Transfers(pool, 3, work, lambda job: f"job {job}").run(range(9))
    assert set(caught.value.failures) == {"job 0", "job 1", "job 2"}


def test_what_is_no_exception_cancels_everything(pool):
    """SystemExit in a worker reaches the caller, and the others stop."""
    seen = []

    def work(job, cancel):
        seen.append(cancel)
        if job == 0:
            raise SystemExit(3)
        cancel.wait(10)

    with pytest.raises(SystemExit):
        Transfers(pool, 2, work, str).run(range(1000))
    assert len(seen) <= 2
    assert seen[0].is_set()


def test_a_supply_that_fails_is_an_error(pool):
    """What the iterator of jobs raises is raised, not swallowed."""

    def jobs():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        Transfers(pool, 1, lambda job, _: job, str).run(jobs())


def test_a_receipt_that_fails_stops_no_job(pool):
    """What is stored is done: the others go on, and the failure is told at the end."""
    done = []

    def work(job, _):
        done.append(job)
        if job == 1:
            raise ReceiptFailedError("stored, but", path="b/k")

    with pytest.raises(ReceiptFailedError):
        Transfers(pool, 1, work, str).run(range(5))
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("on_error", ["omit", "return"])
@pytest.mark.parametrize("kind", [OSError, ValueError])
def test_records_of_failures_hold_no_variables(pool, kind, on_error):
    """A failure that is kept does not keep the bytes of its job, nor does its cause."""

    class Bytes:
        pass

    held = []

    def fail(_job, _cancel):
        inner, outer = Bytes(), Bytes()
        held.extend((weakref.ref(inner), weakref.ref(outer)))

        def read(_):
            raise KeyError(1)

        try:
            read(inner)
        except KeyError:
            raise kind(outer and "failed")  # noqa: B904 - with its context

    run = Transfers(pool, 2, fail, str, on_error=on_error)
    found = run.outcomes(range(3))
    gc.collect()
    assert [ref() for ref in held] == [None] * 6
    assert [type(error) for error in run.failures.values()] == [kind] * 3
    assert len(found) == (3 if on_error == "return" else 0)
    traces = [error.__traceback__ for error in run.failures.values()]
    assert all(trace is None for trace in traces) is (kind is OSError)


class Stepper:
    """A driver that does one step of each task after the other, in a thread."""

    def __init__(self, *, ends_early: bool = False) -> None:
        self.waited_for, self._ends_early = [], ends_early
        self.threads = Workers("driver", 1)

    def submit(self, function):
        return self.threads.submit(function)

    def run(self, take, width, pool):
        tasks = []
        while len(tasks) < width and (task := take()) is not None:
            tasks.append(task)
        while tasks:
            task = tasks.pop(0)
            wanted = task.advance("an answer" if task in self.waited_for else None)
            if wanted is not OVER:
                self.waited_for.append(task)
                tasks.append(task)
            elif not self._ends_early and (more := take()) is not None:
                tasks.append(more)
        return not self._ends_early


def test_driver_does_the_steps():
    """Results come in order, failures as always, and an answer goes back to its job."""
    pool = Workers("files", 2)

    def work(job, cancel):
        got = yield job
        if job == 3:
            raise KeyError(job)
        return job, got

    run = Transfers(pool, 3, work, str, on_error="return", driver=Stepper())
    found = run.outcomes(range(6))
    assert [one for one in found if isinstance(one, tuple)] == [
        (job, "an answer") for job in (0, 1, 2, 4, 5)
    ]
    assert isinstance(found[3], KeyError)


def test_workers_do_what_a_driver_leaves():
    """They get no answers: what a step waits for is done where it stands."""
    pool = Workers("files", 2)

    def work(job, cancel):
        got = yield job
        return job, got

    driver = Stepper(ends_early=True)
    found = Transfers(pool, 2, work, str, driver=driver).run(range(9))
    assert [job for job, _ in found] == list(range(9))
    assert [got for _, got in found[2:]] == [None] * 7


def test_one_job_has_no_driver():
    """Nothing is won by it."""

    def work(job, cancel):
        yield None
        return job

    driver = Stepper()
    assert Transfers(Workers("files", 1), 1, work, str, driver=driver).run([7]) == [7]
    assert not driver.waited_for


def test_steps_that_are_given_up_end_at_once():
    """Their clean-up runs before the caller goes on."""
    ended = []

    def steps():
        try:
            yield None
        finally:
            ended.append(True)

    task = Task(steps(), ended.append, ended.append)
    assert task.advance() is None
    task.abandon()
    assert ended == [True]

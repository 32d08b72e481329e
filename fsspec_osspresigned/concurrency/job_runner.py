"""Job runner: calls one function for many jobs, in threads that stop together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any, Generic, Protocol, TypeVar, cast

from ..errors import ReceiptFailedError, UploadErrors
from ..model import Action
from ..tracebacks import without_frames
from . import abort_at_exit
from .cancellation import Cancellation
from .thread_pool import Workers
from .waiting import Event, Future, wait_for_all, wait_for_one

T = TypeVar("T")
R = TypeVar("R")

ON_ERROR = ("raise", "omit", "return")

# Equal refusals one after the other that end the whole: no other job would be let in.
_REFUSALS = 16
_REFUSED = (401, 403)
_NOTHING = object()  # in the place of the result of a job


OVER = object()  # what a task returns that has ended
LATER = object()  # in the place of a task: there is none now, but others may come


def run_steps(steps: Generator[Any, Any, R]) -> R:
    """Run the generator *steps* to its end in this thread, and return its result."""
    try:
        while True:
            steps.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()  # at once, if an interrupt came


class Task:
    """One job as a generator, which yields before each wait; reports result or error."""

    def __init__(
        self,
        steps: Generator[Any, Any, Any],
        keep: Callable[[Any], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._steps, self._keep, self._fail = steps, keep, fail

    def advance(self, answer: Any = None) -> Any:
        """Run the job to its next wait, and return the request to send.

        Returns None before another kind of wait, ``OVER`` at the end. Raises only a
        BaseException that is not an Exception, after cancelling all jobs.
        """
        try:
            return self._steps.send(answer)
        except StopIteration as end:
            self._keep(end.value)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        return OVER

    def finish(self, answer: Any = None) -> None:
        """Run the rest of the job in this thread; raises like ``advance``."""
        while self.advance(answer) is not OVER:
            answer = None

    def abandon(self) -> None:
        """Cancel the job between two steps."""
        self._steps.close()


class Driver(Protocol):
    """Protocol: runs many tasks in one thread, except steps that wait."""

    def submit(self, function: Callable[[], None]) -> Future[None] | None:
        """Call *function* in a thread that may call ``run``, or return None."""
        ...

    def run(self, take: Callable[[], Task | None], width: int, pool: Workers) -> bool:
        """Run the tasks that *take* returns, *width* at a time, until it returns None.

        Steps that wait run in *pool*. Returns False if the caller should run the
        remaining tasks in *pool* as well.
        """
        ...


class Transfers(Generic[T, R]):
    """Runs one function for many jobs, in at most *width* workers of *pool*.

    The first *width* jobs are taken at once, so that no worker is woken for nothing.

    After the first failure, no further job starts, and running jobs are finished. Jobs
    continue if *on_error* says so, or if only the receipt of a job could not be
    written. KeyboardInterrupt, and any other BaseException that is not an Exception,
    cancels running jobs too. All jobs have ended when ``run`` returns or raises. After
    16 equal refusals (401, 403) in a row, no further job ever starts.

    Args:
        work: runs one job; receives its cancellation.
        name: returns a job's path, for errors.
        on_error: ``raise`` the failure, ``return`` failures in place of results, or
            ``omit`` them.
        cancel: another thread sets this event to stop; the results so far are then
            returned.
        driver: runs the jobs step by step; *work* then returns generators.

    Attributes:
        failures: name of a job -> its exception, in the order of failure.
    """

    def __init__(
        self,
        pool: Workers,
        width: int,
        work: Callable[[T, Cancellation], R | Generator[Any, Any, R]],
        name: Callable[[T], str],
        *,
        on_error: str = "raise",
        cancel: Cancellation | None = None,
        driver: Driver | None = None,
    ) -> None:
        self.failures: dict[str, Exception] = {}
        self._pool = pool
        self._width = width
        self._work = work
        self._name = name
        self._driver = driver
        self._on_error = on_error
        self._lock = threading.Lock()
        self._cancel = Cancellation(cancel)
        self._futures: list[Future[None]] = []
        # Of all that took jobs: an interrupt may have come before a future was kept.
        self._loops: list[Event] = []
        # In the order of jobs; _NOTHING until it is there.
        self._results: list[Any] = []
        self._refusals: list[tuple[Any, ...]] = []  # the last ones in a row, all equal
        self._failed = False

    def run(self, jobs: Iterable[T]) -> list[R]:
        """Run all *jobs* and return the results; raises like ``finish``."""
        found = self.outcomes(jobs)
        return [one for one in found if not isinstance(one, Exception)]

    def outcomes(self, jobs: Iterable[T]) -> list[R | Exception]:
        """Run all *jobs*; return their results, and exceptions of failed jobs.

        Raises like ``finish``.
        """
        self.start(jobs)
        return self.finish()

    def failures_of(self, jobs: Iterable[T]) -> dict[str, Exception]:
        """Run *jobs*, and return the exceptions of failed jobs by name."""
        self.start(jobs)
        self._join()
        return self.failures

    def start(self, jobs: Iterable[T]) -> None:
        """Hand *jobs* to the pool; call ``finish`` or ``stop`` afterwards."""
        try:
            rest = iter(jobs)
            first = list(islice(rest, self._width))
            self._width, source = len(first), chain(first, rest)
            if self._pool.is_caller:  # all of its threads may be waiting like this one
                self._loop(source)
                return
            if self._driver is not None and self._width > 1:
                driven = self._driver.submit(partial(self._drive, self._driver, source))
                if driven is not None:
                    self._futures.append(driven)
                    return
            for _ in range(self._width):
                self._futures.append(self._pool.submit(self._loop, source))
        except BaseException:
            self.stop()
            raise

    def finish(self) -> list[R | Exception]:
        """Wait for all jobs, and return their results in the order of the jobs.

        With ``on_error="return"``, exceptions stand in place of results.

        Raises:
            UploadErrors: several jobs failed, or each was refused.
            Exception: the exception of the only failed job.
        """
        self._join()
        failures, given_up = self.failures, self._is_refused()
        if failures and (self._on_error == "raise" or given_up):
            if len(failures) == 1:
                raise next(iter(failures.values()))
            shown = "; ".join(f"{p}: {e}" for p, e in list(failures.items())[:3])
            actions = {getattr(one, "action", None) for one in failures.values()}
            what = "deletions" if actions == {Action.DeleteObject} else "transfers"
            msg = f"{len(failures)} {what} failed: {shown}"
            if given_up:
                msg = f"stopped after {_REFUSALS} equal refusals in a row; {msg}"
            raise UploadErrors(msg, failures=failures)
        return [one for one in self._results if one is not _NOTHING]

    def stop(self) -> None:
        """Cancel all jobs, and wait until they have ended."""
        self._cancel.set()
        self._drop_queued()
        wait_for_all(self._futures)
        for ended in self._loops.copy():
            ended.wait()

    def _join(self) -> None:
        # The waits have no limit: each future is a job of a pool, so it has a thread.
        try:
            wait_for_one(self._futures)
            self._drop_queued()  # no job is left for a loop that has not begun
            wait_for_all(self._futures)
        except BaseException:
            self.stop()
            raise
        for future in self._futures:
            if not future.cancelled():
                future.result()

    def _drop_queued(self) -> None:
        for future in self._futures:
            future.cancel()

    def _loop(self, jobs: Iterator[T]) -> None:
        ended = Event()
        self._loops.append(ended)
        try:
            for task in iter(lambda: self._take(jobs), None):
                task.finish()
        finally:
            ended.set()

    def _drive(self, driver: Driver, jobs: Iterator[T]) -> None:
        ended = Event()
        self._loops.append(ended)
        try:
            if not driver.run(lambda: self._take(jobs), self._width, self._pool):
                loops = [
                    self._pool.submit(self._loop, jobs) for _ in range(self._width)
                ]
                self._futures += loops
                wait_for_all(loops)
        finally:
            ended.set()

    def _take(self, jobs: Iterator[T]) -> Task | None:
        """Return the next job; None if there is none, or if all jobs are cancelled."""
        with self._lock:
            if self._is_over():
                return None
            try:
                job = next(jobs)
            except StopIteration:
                return None
            index = len(self._results)
            self._results.append(_NOTHING)
        return Task(
            self._steps(job),
            lambda result: self._keep(index, result),
            lambda error: self._fail(index, job, error),
        )

    def _steps(self, job: T) -> Generator[Any, Any, Any]:
        if self._driver is None:
            return self._one_step(job)
        return cast("Generator[Any, Any, R]", self._work(job, self._cancel))

    def _one_step(self, job: T) -> Generator[Any, Any, Any]:
        yield from ()
        return self._work(job, self._cancel)

    def _keep(self, index: int, result: Any) -> None:
        with self._lock:
            self._results[index] = result
            self._refusals.clear()

    def _fail(self, index: int, job: T, error: BaseException) -> None:
        if not isinstance(error, Exception):
            self._cancel.set()
            return
        with self._lock:
            self._add_failure(index, self._name(job), error)

    def _is_over(self) -> bool:
        stops = self._on_error == "raise" and self._failed
        given_up = self._cancel.is_set() or abort_at_exit.is_terminating()
        return stops or given_up or self._is_refused()

    def _is_refused(self) -> bool:
        return len(self._refusals) >= _REFUSALS

    def _add_failure(self, index: int, name: str, error: Exception) -> None:
        self.failures[name] = without_frames(error)
        self._failed |= not isinstance(error, ReceiptFailedError)
        if self._on_error == "return":
            self._results[index] = error
        status = getattr(error, "status", None)
        refusal = (type(error), status, getattr(error, "code", None))
        if refusal not in self._refusals:
            self._refusals.clear()
        if status in _REFUSED:
            self._refusals.append(refusal)

"""Many files at once: a few workers over an iterator, that stop and are waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Generic, TypeVar

from .errors import UploadErrors
from .workers import Cancellation, Workers

T = TypeVar("T")
R = TypeVar("R")

ON_ERROR = ("raise", "omit", "return")

# Equal refusals one after the other that end the whole: nobody is let in any more.
_REFUSALS = 16
_REFUSED = (401, 403)


class _Absent:
    """Stands where a job has no result."""


_ABSENT = _Absent()


class Transfers(Generic[T, R]):
    """Runs one function over many jobs.

    The first failure stops the handing out of jobs, unless *on_error* says otherwise;
    those under way are finished. KeyboardInterrupt cancels those too, as does whatever
    else is no Exception. In all cases nothing runs any more when ``run`` returns or
    raises. 16 equal refusals (401, 403) one after the other end it in any case.

    Attributes:
        failures: name of a job -> what it raised, in the order in which they failed.
    """

    def __init__(
        self,
        pool: Workers,
        width: int,
        work: Callable[[T, Cancellation], R],
        name: Callable[[T], str],
        *,
        on_error: str = "raise",
        cancel: Cancellation | None = None,
    ) -> None:
        """Set up.

        Args:
            pool: where the workers run.
            width: how many at most.
            work: does one job; gets a cancellation to pass on.
            name: a job's path, for errors.
            on_error: ``raise``; ``return`` failures in the place of results; or
                ``omit`` them.
            cancel: set from elsewhere to give up: what is done is returned then.
        """
        self.failures: dict[str, Exception] = {}
        self._pool = pool
        self._width = width
        self._work = work
        self._name = name
        self._on_error = on_error
        self._lock = threading.Lock()
        self._cancel = Cancellation(cancel)
        self._futures: list[Future[None]] = []
        self._results: list[R | Exception | _Absent] = []
        self._refusal: tuple[object, ...] = ()
        self._refusals = 0

    def run(self, jobs: Iterable[T]) -> list[R]:
        """Do all *jobs* and return the results, in the order of the jobs.

        Raises:
            UploadErrors: several jobs failed, or each was refused.
            Exception: what the only failing job raised.
        """
        found = self.outcomes(jobs)
        return [one for one in found if not isinstance(one, Exception)]

    def outcomes(self, jobs: Iterable[T]) -> list[R | Exception]:
        """Do all *jobs* and return results, and failures if they are to be returned.

        Raises:
            UploadErrors: several jobs failed, or each was refused.
            Exception: what the only failing job raised.
        """
        self.start(jobs)
        return self.finish()

    def finish(self) -> list[R | Exception]:
        """Wait for what was started, and return what ``outcomes`` does.

        Raises:
            UploadErrors: several jobs failed, or each was refused.
            Exception: what the only failing job raised.
        """
        failures = self.join()
        given_up = self._refusals >= _REFUSALS
        if failures and (self._on_error == "raise" or given_up):
            if len(failures) == 1:
                raise next(iter(failures.values()))
            shown = "; ".join(f"{p}: {e}" for p, e in list(failures.items())[:3])
            msg = f"{len(failures)} transfers failed: {shown}"
            if given_up:
                msg = f"given up after {_REFUSALS} equal refusals in a row; {msg}"
            raise UploadErrors(msg, failures=failures)
        return [one for one in self._results if not isinstance(one, _Absent)]

    def failures_of(self, jobs: Iterable[T]) -> dict[str, Exception]:
        """Do *jobs* and return what failed, without raising it."""
        self.start(jobs)
        return self.join()

    def start(self, jobs: Iterable[T]) -> None:
        """Begin with *jobs*; what is begun must be joined, or stopped."""
        source = iter(jobs)
        try:
            for _ in range(self._width):
                self._futures.append(self._pool.submit(self._loop, source))
        except BaseException:
            self.stop()
            raise

    def join(self) -> dict[str, Exception]:
        """Wait until all is done, and return what failed."""
        try:
            wait(self._futures, return_when=FIRST_COMPLETED)
            _drop_queued(self._futures)  # no job is left for a loop that has not begun
            wait(self._futures)
        except BaseException:
            self.stop()
            raise
        for future in self._futures:
            if not future.cancelled():
                future.result()
        return self.failures

    def stop(self) -> None:
        """Give all up; nothing runs any more when this returns."""
        self._cancel.set()
        _drop_queued(self._futures)
        wait(self._futures)

    def _loop(self, jobs: Iterator[T]) -> None:
        while True:
            with self._lock:
                if self._is_over():
                    return
                try:
                    job = next(jobs)
                except StopIteration:
                    return
                index = len(self._results)
                self._results.append(_ABSENT)
            try:
                result = self._work(job, self._cancel)
            except Exception as error:  # noqa: BLE001 - raised by run
                with self._lock:
                    self._note(index, self._name(job), error)
            except BaseException:
                self._cancel.set()
                raise
            else:
                with self._lock:
                    self._results[index] = result
                    self._refusals = 0

    def _is_over(self) -> bool:
        stops = self._on_error == "raise" and self.failures
        return bool(stops) or self._refusals >= _REFUSALS or self._cancel.is_set()

    def _note(self, index: int, name: str, error: Exception) -> None:
        self.failures[name] = error
        if self._on_error == "return":
            self._results[index] = error
        status = getattr(error, "status", None)
        refusal = (type(error), status, getattr(error, "code", None))
        equal = status in _REFUSED and refusal == self._refusal
        self._refusals = self._refusals + 1 if equal else int(status in _REFUSED)
        self._refusal = refusal


def _drop_queued(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        future.cancel()

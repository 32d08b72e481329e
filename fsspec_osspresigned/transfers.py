"""Many files at once: a few workers over an iterator, that stop and are waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import wait
from typing import Generic, TypeVar

from .errors import UploadErrors
from .workers import Cancellation, Workers

T = TypeVar("T")
R = TypeVar("R")


class Transfers(Generic[T, R]):
    """Runs one function over many jobs.

    The first failure stops the handing out of jobs; those under way are finished.
    KeyboardInterrupt cancels those too, as does whatever else is no Exception. In all
    cases nothing runs any more when ``run`` returns or raises.
    """

    def __init__(
        self,
        pool: Workers,
        width: int,
        work: Callable[[T, Cancellation], R],
        name: Callable[[T], str],
    ) -> None:
        """Set up.

        Args:
            pool: where the workers run.
            width: how many at most.
            work: does one job; gets a cancellation to pass on.
            name: a job's path, for errors.
        """
        self._pool = pool
        self._width = width
        self._work = work
        self._name = name
        self._lock = threading.Lock()
        self._cancel = Cancellation()
        self._failures: dict[str, Exception] = {}
        self._results: list[R] = []

    def run(self, jobs: Iterable[T]) -> list[R]:
        """Do all *jobs* and return the results, in no special order.

        Raises:
            UploadErrors: several jobs failed.
            Exception: what the only failing job raised.
        """
        source = iter(jobs)
        futures = [self._pool.submit(self._loop, source) for _ in range(self._width)]
        try:
            wait(futures)
        except BaseException:
            self._cancel.set()
            wait(futures)
            raise
        for future in futures:
            future.result()
        if len(self._failures) == 1:
            raise next(iter(self._failures.values()))
        if self._failures:
            shown = "; ".join(f"{p}: {e}" for p, e in list(self._failures.items())[:3])
            msg = f"{len(self._failures)} transfers failed: {shown}"
            raise UploadErrors(msg, failures=self._failures)
        return self._results

    def _loop(self, jobs: Iterator[T]) -> None:
        while True:
            with self._lock:
                if self._failures or self._cancel.is_set():
                    return
                try:
                    job = next(jobs)
                except StopIteration:
                    return
            try:
                result = self._work(job, self._cancel)
            except Exception as error:  # noqa: BLE001 - raised by run
                with self._lock:
                    self._failures[self._name(job)] = error
            except BaseException:
                self._cancel.set()
                raise
            else:
                with self._lock:
                    self._results.append(result)

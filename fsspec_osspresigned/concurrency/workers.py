"""Thread pool: daemon threads that take jobs in order and die with the process."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import partial
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar

from ..errors import UploadErrors

# Seconds that a thread waits for work before it ends.
PATIENCE = 30.0

P = ParamSpec("P")
T = TypeVar("T")
Job: TypeAlias = "tuple[Future[Any], Callable[[], Any]]"

# All pools of this process.
POOLS: weakref.WeakSet[Workers] = weakref.WeakSet()


class Cancellation(threading.Event):
    """An event that also sets those made under it, not those above."""

    def __init__(self, above: Cancellation | None = None) -> None:
        """Begin not set, unless the one above is."""
        super().__init__()
        self._below: weakref.WeakSet[Cancellation] = weakref.WeakSet()
        self._lock = threading.RLock()  # a finalizer may come back in here
        if above is not None:
            above._add(self)  # noqa: SLF001 - same class
            if above.is_set():
                self.set()

    def set(self) -> None:
        """Set it and all below it."""
        super().set()
        with self._lock:
            below = list(self._below)
        for event in below:
            event.set()

    def _add(self, one: Cancellation) -> None:
        with self._lock:
            self._below.add(one)


class Workers:
    """Pool of at most *size* daemon threads, started on demand, ended when idle.

    Unlike ``concurrent.futures.ThreadPoolExecutor`` it does not keep the interpreter
    alive for queued work: an abandoned upload must not be finished unseen.

    A waiting job always has a thread, and the count of threads cannot drift:

    * Each thread enters and leaves ``_threads`` itself. An exception from a signal
      handler hits the main thread only; all it leaves is an entry in ``_starting`` that
      the next ``submit`` removes.
    * A job is queued before threads are counted, and a thread leaves before it looks
      for jobs a last time. So the order of steps does not matter, even to a finalizer
      that submits in the middle of one.

    Args:
        name: threads are called ``name-1`` and so on.
        size: threads at most.
        patience: seconds that a thread waits for a job before it ends; None stands for
            ``PATIENCE``.
        bell: makes the lock in which idle threads wait: ``release`` wakes one of them.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        patience: float | None = None,
        bell: Callable[[], threading.Lock] = threading.Lock,
    ) -> None:
        self.name = name
        self._size = size
        self._patience = patience
        self._make_bell = bell
        self.reset()
        POOLS.add(self)

    def reset(self) -> None:
        """Forget jobs and threads; for a forked child, which has none of them."""
        self._jobs: deque[Job] = deque()
        # Not a SimpleQueue: before Python 3.13 its time-out may never end.
        self._bell = self._make_bell()
        self._lock = threading.RLock()
        self._starting: set[threading.Thread] = set()
        self._threads: set[threading.Thread] = set()
        self._busy: set[threading.Thread] = set()

    @property
    def waiting(self) -> int:
        """The number of jobs that no thread has taken yet."""
        return len(self._jobs)

    @property
    def abandoned(self) -> int:
        """The number of waiting jobs that have no thread and were not cancelled."""
        jobs = () if self._threads else tuple(self._jobs)
        return sum(not future.cancelled() for future, _ in jobs)

    @property
    def threads(self) -> int:
        """The number of threads."""
        return len(self._threads)

    def submit(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Queue ``function(*args, **kwargs)`` and return its future at once.

        Raises:
            RuntimeError: the pool has no thread and none can be started, as when the
                interpreter ends.
        """
        future: Future[T] = Future()
        self._jobs.append((future, partial(function, *args, **kwargs)))
        try:
            self._find_threads()
        except BaseException as error:
            if not isinstance(error, RuntimeError) or not self._threads:
                future.cancel()
                raise
        return future

    def _find_threads(self) -> None:
        """Wake a thread for the waiting jobs, and start one if too few are idle."""
        if self._jobs:
            with suppress(RuntimeError):  # it rings already
                self._bell.release()
        if self.waiting <= len(self._threads) - len(self._busy):
            return
        with self._lock:
            for thread in list(self._starting):
                if not thread.is_alive():  # its start failed or was interrupted
                    self._starting.discard(thread)
            count = len(self._threads) + len(self._starting)
            if count < self._size and self.waiting > count - len(self._busy):
                thread = threading.Thread(
                    target=self._work, name=f"{self.name}-{count + 1}", daemon=True
                )
                self._starting.add(thread)
                thread.start()

    def _work(self) -> None:
        me = threading.current_thread()
        with self._lock:
            self._starting.discard(me)
            if len(self._threads) >= self._size:  # started twice, after an interrupt
                return
            self._threads.add(me)
        while True:
            patience = PATIENCE if self._patience is None else self._patience
            rung = self._bell.acquire(timeout=patience)
            try:
                future, task = self._jobs.popleft()
            except IndexError:
                if not rung and self._may_end(me):
                    return
                continue
            self._busy.add(me)
            # A submit that counted this thread as idle has started none.
            with suppress(Exception):
                self._find_threads()
            self._run(me, future, task)
            del future, task  # an idle thread must not keep a part's buffer alive

    def _run(
        self, me: threading.Thread, future: Future[Any], task: Callable[[], Any]
    ) -> None:
        try:
            try:
                if not future.set_running_or_notify_cancel():
                    return
                result = task()
            finally:
                self._busy.discard(me)  # first, so that the waiter's next job takes it
        except BaseException as error:  # noqa: BLE001 - the waiter gets all of them
            future.set_exception(error)
        else:
            future.set_result(result)

    def _may_end(self, me: threading.Thread) -> bool:
        with self._lock:
            self._threads.discard(me)
            if not self._jobs:
                return True
            self._threads.add(me)
            return False


def _reset_all() -> None:
    for pool in list(POOLS):
        pool.reset()


os.register_at_fork(after_in_child=_reset_all)


# Many files at once: a few workers over an iterator, that stop and are waited for.

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
        # The waits have no limit: each future is a job of a pool, so it has a thread.
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

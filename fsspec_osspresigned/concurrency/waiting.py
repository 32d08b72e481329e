"""Waiting for changes, events and results, robust against signal handlers.

``threading`` and ``concurrent.futures`` wait with Python code around locks. If a signal
handler raises an exception at the wrong moment, such a lock stays taken or is released
twice: other threads wait forever, or the exception is lost. Here each step is one
instruction of the interpreter, and each waiter has its own lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_GLANCE = (
    1.0  # seconds after which a waiter looks again: an interrupt may cost it a call
)
_RUNNING, _CANCELLED = "running", "cancelled"


class Changes:
    """Condition variable: threads wait until a change is reported.

    A waiting thread checks again every *glance* seconds, in case a notification is
    missed.
    """

    def __init__(self, glance: float = 0.1) -> None:
        self._glance = glance
        self._bells: list[threading.Lock] = []

    @property
    def waiting(self) -> int:
        """Number of threads that wait for a change."""
        return len(self._bells)

    def tell(self) -> None:
        """Wake the waiting threads; safe in a finalizer and a signal handler."""
        for bell in self._bells.copy():
            with suppress(RuntimeError):  # it has rung
                bell.release()

    def wait_for(self, may: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until *may* returns True, at most *seconds*; return whether it did.

        *may* is called without a lock. If only one thread may succeed, *may* must
        ensure that. *seconds* None waits without a limit.
        """
        if may():
            return True
        end = None if seconds is None else time.monotonic() + seconds
        bell = threading.Lock()
        bell.acquire()
        self._bells.append(bell)
        try:
            while not may():
                left = self._glance
                if end is not None:
                    left = min(left, end - time.monotonic())
                if left <= 0:
                    return False
                bell.acquire(timeout=left)
        finally:
            self._bells.remove(bell)
        return True


class Event:
    """A flag that is set once, and on which threads can wait.

    Attributes:
        changes: told when the flag is set; several events may share it.
    """

    def __init__(self, changes: Changes | None = None) -> None:
        self._is_set = False
        self.changes = changes or Changes(_GLANCE)

    def is_set(self) -> bool:
        """Return whether the event is set."""
        return self._is_set

    def set(self) -> None:
        """Set the flag, and wake the waiting threads."""
        self._is_set = True
        self.changes.tell()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the event is set, at most *seconds*; return whether it is set."""
        return self.changes.wait_for(self.is_set, seconds)


class Future(Generic[T]):
    """Result of a job that another thread runs."""

    def __init__(self) -> None:
        self._claims: list[str] = []  # the first one counts
        self._ended = Event()
        self._callbacks: list[Callable[[], object]] = []
        self._result: T | None = None
        self._error: BaseException | None = None

    def start(self) -> bool:
        """Claim the job for the calling thread; return False if it was cancelled."""
        self._claims.append(_RUNNING)
        return self._claims[0] is _RUNNING

    def cancel(self) -> bool:
        """Cancel the job if it has not started; return whether it is cancelled."""
        self._claims.append(_CANCELLED)
        if not self.cancelled():
            return False
        self._end()
        return True

    def cancelled(self) -> bool:
        """Return whether the job was cancelled before it started."""
        return self._claims[:1] == [_CANCELLED]

    def done(self) -> bool:
        """Return whether the job has ended or was cancelled."""
        return self._ended.is_set() or self.cancelled()

    def set_result(self, result: T) -> None:
        """End the job successfully with *result*."""
        self._result = result
        self._end()

    def set_exception(self, error: BaseException) -> None:
        """End the job as failed with *error*."""
        self._error = error
        self._end()

    def call_at_end(self, callback: Callable[[], object]) -> None:
        """Call *callback*, in any thread, when the job ends, or at once if it has ended."""
        self._callbacks.append(callback)
        if self._ended.is_set():
            self._call_back()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the job ends, at most *seconds*; return whether it has ended."""
        return self._ended.wait(seconds)

    def exception(self, seconds: float | None = None) -> BaseException | None:
        """Return the exception of the job; waits and raises like ``result``."""
        if not self.wait(seconds):
            raise TimeoutError("the job has not ended")
        if self.cancelled():
            raise CancelledError
        return self._error

    def result(self, seconds: float | None = None) -> T:
        """Return the result of the job, or raise its exception.

        Raises:
            TimeoutError: the job has not ended within *seconds*; None waits without a
                limit.
            CancelledError: the job was cancelled.
        """
        error: Any = self.exception(seconds)
        try:
            if error is not None:
                raise error
            return self._result  # type: ignore[return-value]  # the job has ended
        finally:
            del error  # its frames lead here, and would keep each other

    def _end(self) -> None:
        self._ended.set()
        self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            with suppress(IndexError):  # another thread was first
                self._callbacks.pop()()


def wait_for_one(futures: Iterable[Future[Any]]) -> None:
    """Wait until one of *futures* has ended; return immediately if there are none."""
    any_ended = Event()
    count = 0
    for count, future in enumerate(futures, 1):  # noqa: B007 - its last value counts
        future.call_at_end(any_ended.set)
    if count:
        any_ended.wait()


def wait_for_all(futures: Iterable[Future[Any]]) -> None:
    """Wait until all *futures* have ended."""
    for future in futures:
        future.wait()

"""Waiting for changes, events and results, robust against signal handlers.

``threading`` and ``concurrent.futures`` wait with Python code around locks. If a signal
handler raises an exception at the wrong moment, such a lock stays taken or is released
twice: other threads wait forever, or the exception is lost. Here each step is one
instruction of the interpreter, and each waiter has its own lock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

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
            while True:  # on a condition, Python 3.13 may skip `finally`
                if may():
                    return True
                left = self._glance
                if end is not None:
                    left = min(left, end - time.monotonic())
                if left <= 0:
                    return False
                bell.acquire(timeout=left)
        finally:
            self._bells.remove(bell)


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


class LoopWaiter:
    """Lets the coroutines of one event loop wait for jobs of other threads.

    The loop is woken once for all jobs that have ended meanwhile. Every second, one timer
    looks for ended jobs, because an interrupt may cost the loop its call.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[asyncio.Future[None], Future[Any]] = {}
        self._ended: deque[asyncio.Future[None]] = deque()
        self._is_called = self._is_timed = False

    @classmethod
    def of_running_loop(cls) -> LoopWaiter:
        """Return the waiter of the running loop, which all its coroutines share."""
        loop = asyncio.get_running_loop()
        found = _waiters.get(loop)
        return found or _waiters.setdefault(loop, cls(loop))

    async def wait_for(self, work: Future[Any]) -> None:
        """Wait until *work* has ended; cancelling the coroutine does not cancel *work*."""
        done = self._loop.create_future()
        self._waiting[done] = work
        self._keep_looking()
        work.call_at_end(partial(self._tell, done))
        try:
            await done
        finally:
            del self._waiting[done]

    def _tell(self, done: asyncio.Future[None]) -> None:
        """Note that the job of *done* has ended; called in any thread."""
        self._ended.append(done)
        if not self._is_called:
            self._is_called = True
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._is_called = False  # first, so that what ends from now on calls again
        while self._ended:
            _complete(self._ended.popleft())

    def _keep_looking(self) -> None:
        if not self._is_timed:
            self._is_timed = True
            self._loop.call_later(_GLANCE, self._look)

    def _look(self) -> None:
        self._wake()
        for done, work in self._waiting.items():
            if work.done():
                _complete(done)
        self._is_timed = False
        if self._waiting:
            self._keep_looking()


def _complete(done: asyncio.Future[None]) -> None:
    if not done.done():  # its coroutine may have been cancelled
        done.set_result(None)


# A waiter lives as long as a coroutine or a timer of its loop needs it.
_waiters: WeakValueDictionary[asyncio.AbstractEventLoop, LoopWaiter] = (
    WeakValueDictionary()
)

"""What all uploads of a process share: memory for what is written, requests in flight.

A budget never locks anybody up: whoever has nothing of it may always have something,
and waits only for what will be given back without it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

# Seconds after which somebody who waits looks again, whoever has told it what.
_GLANCE = 0.1


class Budget:
    """Counts what is used of something."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        # A finalizer that gives back may come in the middle of any of these.
        self._changed = threading.Condition(threading.RLock())
        self._waiting = 0
        self.used = 0

    def take(self, amount: int) -> None:
        """Use *amount* more, at once."""
        with self._changed:
            self.used += amount

    def give(self, amount: int) -> None:
        """Give *amount* back."""
        with self._changed:
            self.used -= amount
            if self._waiting:
                self._changed.notify_all()

    def wait(self, limit: int, may: Callable[[], bool] = lambda: False) -> None:
        """Wait until less than *limit* is used, or *may* returns True."""
        with self._changed:
            self._wait(limit, may)

    def claim(self, limit: int, may: Callable[[], bool]) -> None:
        """Wait as ``wait`` does, and use one more."""
        with self._changed:
            self._wait(limit, may)
            self.used += 1

    def _wait(self, limit: int, may: Callable[[], bool]) -> None:
        self._waiting += 1
        try:
            while self.used >= limit and not may():
                self._changed.wait(_GLANCE)
        finally:
            self._waiting -= 1


class Turns:
    """Requests of one client in flight: at most *limit* in the process, or one of ours.

    Used as a context manager, by many threads.
    """

    def __init__(self, budget: Budget, limit: int) -> None:
        """Have nothing in flight."""
        self._budget = budget
        self._limit = limit
        self._lock = threading.Lock()
        self._mine = 0

    def __enter__(self) -> Self:
        """Wait for a turn."""
        self._budget.claim(self._limit, lambda: not self._mine)
        with self._lock:
            self._mine += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let somebody else have it."""
        with self._lock:
            self._mine -= 1
        self._budget.give(1)


class Lease:
    """Bytes that are used as long as this object lives."""

    def __init__(self, budget: Budget, amount: int) -> None:
        """Use *amount* bytes."""
        self._budget = budget
        self._amount = amount
        budget.take(amount)

    def more(self, amount: int) -> None:
        """Use *amount* bytes more."""
        self._budget.take(amount)
        self._amount += amount

    def __del__(self) -> None:
        """Give all of them back."""
        self._budget.give(self._amount)


class _Process:
    """The budgets of one process."""

    def __init__(self) -> None:
        self.memory = Budget()
        self.requests = Budget()


# Keyed by process: what the parent uses, a forked child will never give back.
_processes: dict[int, _Process] = {}


def of_process() -> _Process:
    """Return the budgets of this process."""
    return _processes.setdefault(os.getpid(), _Process())

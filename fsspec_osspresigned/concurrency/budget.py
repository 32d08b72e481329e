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
    """Counts what is used of something.

    Attributes:
        lock: to be held by whoever changes *used*.
        used: bytes, or requests.
    """

    def __init__(self) -> None:
        """Begin with nothing used."""
        # A finalizer that gives back may come in the middle of any of these. An
        # interrupt may come at the end of "with" of a condition, and leave it locked.
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._waiting = 0
        self.used = 0

    def give(self, amount: int) -> None:
        """Give *amount* back."""
        with self.lock:
            self.used -= amount
            if self._waiting:
                self._changed.notify_all()

    def wait(self, limit: int, may: Callable[[], bool]) -> None:
        """Wait until less than *limit* is used, or *may* returns True.

        Whoever holds ``lock`` has it again when that is so.
        """
        with self.lock:
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
        self._mine = 0

    def __enter__(self) -> Self:
        """Wait for a turn."""
        budget = self._budget
        with budget.lock:  # else several would find that none of ours is in flight
            budget.wait(self._limit, lambda: not self._mine)
            budget.used += 1
            self._mine += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let somebody else have it."""
        with self._budget.lock:
            self._mine -= 1
            self._budget.give(1)


class Lease:
    """Bytes that are used as long as this object lives."""

    def __init__(self, budget: Budget, amount: int) -> None:
        """Use *amount* bytes."""
        self._budget = budget
        self._pid = os.getpid()
        self._amount = 0
        self.more(amount)

    def more(self, amount: int) -> None:
        """Use *amount* bytes more."""
        with self._budget.lock:  # no interrupt comes between the two
            self._amount += amount
            self._budget.used += amount

    def __del__(self) -> None:
        """Give all of them back."""
        # After a fork nobody may be left who would unlock the parent's budget.
        if os.getpid() == self._pid:
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

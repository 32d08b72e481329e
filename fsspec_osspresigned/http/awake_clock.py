"""Awake clock: excludes time in which the process was suspended from time limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar


class AwakeClock:
    """Monotonic clock of one task, without the time while the process was suspended.

    A process cannot notice that it was suspended (SIGSTOP, a debugger, a frozen
    container). But a request is looked at about every second, so the time beyond that
    was not spent waiting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._suspended: ContextVar[float] = ContextVar("suspended", default=0.0)

    def exclude(self, seconds: float) -> None:
        """Exclude *seconds* in which the process was suspended."""
        if seconds:
            self._suspended.set(self._suspended.get() + seconds)

    def __call__(self) -> float:
        """Return the seconds since an arbitrary start, without suspended time."""
        return self._clock() - self._suspended.get()


AWAKE = AwakeClock()

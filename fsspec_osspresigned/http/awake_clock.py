"""Awake clock: excludes time in which the process was suspended from time limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class AwakeClock(threading.local):
    """Monotonic clock of one thread, without the time while the process was suspended.

    A process cannot notice that it was suspended (SIGSTOP, a debugger, a frozen
    container). But libcurl looks at a request about every second, so the time beyond that
    was not spent waiting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._suspended = clock, 0.0

    def exclude(self, seconds: float) -> None:
        """Exclude *seconds* in which the process was suspended."""
        self._suspended += seconds

    def __call__(self) -> float:
        """Return the seconds since an arbitrary start, without suspended time."""
        return self._clock() - self._suspended


AWAKE = AwakeClock()

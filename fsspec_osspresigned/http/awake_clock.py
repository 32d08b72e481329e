"""Awake clock: excludes time in which the process was suspended from time limits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable


class AwakeClock(threading.local):
    """Monotonic clock of one thread, without the time while the process was suspended.

    A process cannot notice that it was suspended (SIGSTOP, a debugger, a frozen
    container). But each waiting step has a timeout, so any time beyond the timeout was
    not spent waiting.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last, self._most, self._stopped = clock(), math.inf, 0.0

    def step(self, most: float) -> float:
        """Begin a step of at most *most* seconds; return the ``time.monotonic`` time."""
        now = self._clock()
        self._stopped += max(0.0, now - self._last - self._most)
        self._last, self._most = now, most
        return now

    def __call__(self) -> float:
        """Return the seconds since an arbitrary start, without suspended time."""
        return self.step(math.inf) - self._stopped


AWAKE = AwakeClock()

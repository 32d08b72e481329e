"""Parts in flight: how many parts of one upload are sent at a time."""

from __future__ import annotations

import threading

from ..concurrency.budget import Budget, of_process
from ..http.body import Body, PartBody

_GLANCE = 0.1  # seconds after which a thread that waits looks again


class PartsInFlight:
    """Lets *most* parts be in flight at a time, fewer where memory is short.

    From *memory_limit* used bytes of *memory* on, parts that hold some of it are sent one
    by one. *memory* None takes the budget of the process.
    """

    def __init__(
        self, most: int, memory_limit: int, memory: Budget | None = None
    ) -> None:
        self._numbers: set[int] = set()
        self._most, self._memory_limit = most, memory_limit
        self._memory = memory or of_process().memory
        # Not "with" of the condition: an interrupt at its end would leave it locked. A
        # signal handler that discards the upload may come back in here.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    @property
    def count(self) -> int:
        """How many parts are in flight."""
        return len(self._numbers)

    def enter(self, number: int, body: Body) -> None:
        """Wait until part *number* may be sent; it must ``leave``, also if this raises."""
        with self._lock:
            # No limit: see ``drain``. But a handler that waits in here takes notifications.
            while not self._changed.wait_for(lambda: self.count < self._most, _GLANCE):
                pass
            self._numbers.add(number)
        if isinstance(body, PartBody):
            # Parts in flight give their memory back without us.
            self._memory.wait(self._memory_limit, lambda: self.count == 1)

    def leave(self, number: int, body: Body) -> None:
        """Let the next part in, and give the buffer of *body* back."""
        if isinstance(body, PartBody):
            body.release()
        with self._lock:
            self._numbers.discard(number)
            self._changed.notify_all()

    def drain(self, seconds: float | None = None) -> None:
        """Wait until nothing is in flight, *seconds* at most; None sets no limit."""
        with self._lock:
            # Each part in flight has a job in the pool, which leaves in any case.
            self._changed.wait_for(lambda: not self.count, seconds)

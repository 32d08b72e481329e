"""Parts in flight: how many parts of one upload are sent at a time."""

from __future__ import annotations

import threading

from ..concurrency.budget import Budget, of_process
from ..http.body import Body, PartBody


class PartsInFlight:
    """Lets *most* parts be in flight at a time, fewer where memory is short.

    From *memory_limit* used bytes of *memory* on, parts that hold some of it are sent one
    by one. *memory* None takes the budget of the process.
    """

    def __init__(
        self, most: int, memory_limit: int, memory: Budget | None = None
    ) -> None:
        self.count = 0
        self._most, self._memory_limit = most, memory_limit
        self._memory = memory or of_process().memory
        # Not "with" of the condition: an interrupt at its end would leave it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def enter(self, body: Body) -> None:
        """Wait until *body* may be sent; it must ``leave`` afterwards."""
        with self._lock:
            # No limit: see ``drain``.
            self._changed.wait_for(lambda: self.count < self._most)
            self.count += 1
        if isinstance(body, PartBody):
            try:
                # Parts in flight give their memory back without us.
                self._memory.wait(self._memory_limit, lambda: self.count == 1)
            except BaseException:
                self.leave(body)
                raise

    def leave(self, body: Body) -> None:
        """Let the next part in, and give the buffer of *body* back."""
        if isinstance(body, PartBody):
            body.release()
        with self._lock:
            self.count -= 1
            self._changed.notify_all()

    def drain(self, seconds: float | None = None) -> None:
        """Wait until nothing is in flight, *seconds* at most; None sets no limit."""
        with self._lock:
            # Each part in flight has a job in the pool, which leaves in any case.
            self._changed.wait_for(lambda: not self.count, seconds)

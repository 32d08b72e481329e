"""Parts in flight: limit of the parts of one upload that are sent at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..concurrency.budget import Budget, of_process
from ..concurrency.waiting import Changes
from ..http.body import Body, PartBody


class PartsInFlight:
    """Semaphore for at most *most* parts in flight, fewer if memory is short.

    When *memory* has *memory_limit* bytes in use, parts that hold memory are sent one
    by one. *memory* None uses the budget of the process.
    """

    def __init__(
        self, most: int, memory_limit: int, memory: Budget | None = None
    ) -> None:
        self._numbers: set[int] = set()
        self._most, self._memory_limit = most, memory_limit
        self._memory = memory or of_process().memory
        self._lock = threading.RLock()  # a signal handler may come back in here
        self._changes = Changes()

    @property
    def count(self) -> int:
        """Number of parts in flight."""
        return len(self._numbers)

    def enter(self, number: int, body: Body) -> None:
        """Wait until part *number* may be sent; call ``leave`` even if this raises."""

        def may() -> bool:
            with self._lock:
                if self.count >= self._most:
                    return False
                self._numbers.add(number)
                return True

        self._changes.wait_for(may)  # no limit: see ``drain``
        if isinstance(body, PartBody):
            # Parts in flight give their memory back without us.
            self._memory.wait(self._memory_limit, lambda: self.count == 1)

    def wait_for_memory(self, may: Callable[[], bool]) -> None:
        """Wait until *may* returns True, or no part is in flight."""
        self._memory.wait(0, lambda: may() or not self.count)

    def leave(self, number: int, body: Body) -> None:
        """Record that part *number* is no longer in flight, and release its buffer."""
        if isinstance(body, PartBody):
            body.release()
        self._numbers.discard(number)
        self._changes.tell()
        self._memory.tell()

    def drain(self, seconds: float | None = None) -> None:
        """Wait until no part is in flight, at most *seconds*; None is no limit."""
        # Each part in flight has a job in the pool, which leaves in any case.
        self._changes.wait_for(lambda: not self.count, seconds)

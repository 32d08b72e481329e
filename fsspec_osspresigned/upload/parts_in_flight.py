"""Parts in flight: how many parts of one upload are sent at a time."""

from __future__ import annotations

import threading

from ..concurrency.budget import Budget, of_process
from ..concurrency.future import Changes
from ..http.body import Body, PartBody


class PartsInFlight:
    """Limit of *most* parts in flight at a time, fewer if memory is short.

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
        """How many parts are in flight."""
        return len(self._numbers)

    def enter(self, number: int, body: Body) -> None:
        """Wait until part *number* may be sent; call ``leave`` also if this raises."""

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

    def leave(self, number: int, body: Body) -> None:
        """Allow the next part, and return the buffer of *body*."""
        if isinstance(body, PartBody):
            body.release()
        self._numbers.discard(number)
        self._changes.tell()

    def drain(self, seconds: float | None = None) -> None:
        """Wait until no part is in flight, *seconds* at most; None has no limit."""
        # Each part in flight has a job in the pool, which leaves in any case.
        self._changes.wait_for(lambda: not self.count, seconds)

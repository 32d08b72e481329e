"""Cancellation: a tree of events, in which setting an event sets all its children."""

from __future__ import annotations

from contextvars import ContextVar

from .waiting import Event

# Of the coroutine for which this context works: what begins here ends with it.
of_coroutine: ContextVar[Cancellation | None] = ContextVar("osspresigned", default=None)


class Cancellation(Event):
    """An event that is also set if its parent event is set.

    *above* is the parent. None uses the event of the coroutine that waits for this
    call, if there is one.
    """

    def __init__(self, above: Cancellation | None = None) -> None:
        self._above = above or of_coroutine.get()
        # All events of a tree share their waiters: most events never have one.
        super().__init__(self._above.changes if self._above else None)

    def is_set(self) -> bool:
        """Return whether this event or one of its ancestors is set."""
        return self._is_set or (self._above is not None and self._above.is_set())

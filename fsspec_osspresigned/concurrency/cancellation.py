"""Cancellation: a tree of events, in which setting an event sets all its children."""

from __future__ import annotations

import threading
import weakref
from contextvars import ContextVar

from .waiting import Event

# Of the coroutine for which this context works: what begins here ends with it.
of_coroutine: ContextVar[Cancellation | None] = ContextVar("osspresigned", default=None)


class Cancellation(Event):
    """An event that also sets its child events.

    *above* is the parent. None uses the event of the coroutine that waits for this
    call, if there is one.
    """

    def __init__(self, above: Cancellation | None = None) -> None:
        super().__init__()
        above = above or of_coroutine.get()
        self._below: weakref.WeakSet[Cancellation] | None = None  # most have none
        self._lock = threading.RLock()  # a finalizer may come back in here
        if above is not None:
            above.add(self)

    def add(self, below: Cancellation) -> None:
        """Add the child event *below*; set it immediately if this event is set."""
        with self._lock:
            self._below = self._below or weakref.WeakSet()
            self._below.add(below)
        if self.is_set():
            below.set()

    def set(self) -> None:
        """Set this event and all its descendants."""
        super().set()
        with self._lock:
            below = list(self._below or ())
        for event in below:
            event.set()

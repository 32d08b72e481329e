"""The parts of one upload that are in flight: how many, and until when one waits."""

from __future__ import annotations

import threading

from .body import Body, PartBody
from .budget import of_process


class Window:
    """Lets some parts be in flight at a time, fewer where memory is short."""

    def __init__(self, width: int, memory_limit: int) -> None:
        """Have nothing in flight.

        Args:
            width: parts at most.
            memory_limit: bytes of the process's memory from which on parts that hold
                some of it go out one by one.
        """
        self.memory_limit = memory_limit
        self._width = width
        self._memory = of_process().memory
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0

    def enter(self, body: Body) -> None:
        """Wait until *body* may go out; what entered must leave."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self._width)
            self._inside += 1
        if isinstance(body, PartBody):
            try:
                # What is in flight gives its memory back by itself.
                self._memory.wait(self.memory_limit, lambda: self._inside == 1)
            except BaseException:
                self.leave(body)
                raise

    def leave(self, body: Body) -> None:
        """Let the next one in; nobody reads *body* any more."""
        if isinstance(body, PartBody):
            body.release()
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def drain(self, seconds: float | None = None) -> None:
        """Wait until nothing is in flight, *seconds* at most; None waits for ever."""
        with self._changed:
            self._changed.wait_for(lambda: not self._inside, seconds)

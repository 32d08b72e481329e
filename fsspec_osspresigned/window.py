"""The parts of one upload that are in flight: how many, and until when one waits."""

from __future__ import annotations

import threading
import time

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
        self._free = threading.Semaphore(width)
        self._lock = threading.Lock()
        self._inside = 0

    def enter(self, body: Body) -> None:
        """Wait until *body* may go out; what entered must leave."""
        self._free.acquire()
        self._count(1)
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
        self._count(-1)
        self._free.release()

    def drain(self, seconds: float = 1e9) -> None:
        """Wait until nothing is in flight, that is, until the whole window is free."""
        end = time.monotonic() + seconds
        taken = 0
        try:
            while taken < self._width:
                left = max(0.0, end - time.monotonic())
                if not self._free.acquire(timeout=left):
                    break
                taken += 1
        finally:
            if taken:
                self._free.release(taken)

    def _count(self, change: int) -> None:
        with self._lock:
            self._inside += change

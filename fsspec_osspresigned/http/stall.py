"""Timers: detect stalled connections."""

from __future__ import annotations

import time

# Bytes a second below which a connection counts as stalled.
SLOWEST = 256.0
SOON = 0.05  # minimum of seconds between two checks, because libcurl offers many
# maximum of seconds that count between two checks; the process did not wait longer
_STEP = 1.25


class StalledError(TimeoutError):
    """Too few bytes moved within a window, or the deadline has passed (*late*)."""

    def __init__(self, seconds: float, *, late: bool = False) -> None:
        super().__init__(f"{seconds:g} s without progress")
        self.seconds, self.late = seconds, late


class ProgressTimer:
    """Enforces a minimum transfer rate of one connection.

    Only time spent waiting for the network counts, so a slow source or sink, or a busy
    machine, is not mistaken for a slow network. A new window starts as soon as enough
    bytes have moved.

    *seconds* is the length of a window; inf sets no limit. *began* is the
    ``time.monotonic`` at which the connection was open.
    """

    def __init__(self, seconds: float, began: float) -> None:
        self.seconds = seconds
        self._looked = began
        self._paused = self._waited = 0.0
        self._moved = self._gained = 0

    def exclude(self, seconds: float) -> None:
        self._paused += seconds

    def count(self, moved: int, deadline: float) -> None:
        """Record that *moved* bytes have moved since the start.

        Raises StalledError if too few moved within a window, or *deadline* has passed, by
        ``time.monotonic``.
        """
        now = time.monotonic()
        if now - self._looked < SOON:  # for example at the end, after the last bytes
            return
        step = min(max(0.0, now - self._looked - self._paused), _STEP)
        self._waited += step
        self._looked, self._paused = now, 0.0
        gained, self._moved = moved - self._moved, moved
        self._gained += gained
        if self._gained and self._gained >= SLOWEST * self.seconds:
            self._gained, self._waited = 0, 0.0
        late = now >= deadline
        # The bytes that moved since the last check may be the last ones.
        waited = self._waited - step if gained else self._waited
        if late or waited >= self.seconds:
            raise StalledError(self.seconds, late=late)

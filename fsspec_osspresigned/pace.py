"""Whether an upload will end before its presigned URLs do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

_log = logging.getLogger(__name__)

# Seconds of an upload after which its rate says something.
_WARMED_UP = 2.0


class Pace:
    """Measures one upload whose URLs were all signed beforehand; warns once.

    Args:
        path: ``bucket/key``, for the warning.
        size: bytes in all; None for a stream, which nobody can foretell.
        ends: when its URLs end, seconds since the epoch; None if that is not known.
        clock: seconds that only grow.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        path: str,
        size: int | None,
        ends: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Begin now."""
        self._path = path
        self._size = size
        self._ends = ends
        self._clock = clock
        self._now = now
        self._started = clock()
        self._sent = 0

    def sent(self, count: int) -> None:
        """Note *count* bytes more; call it from one thread at a time."""
        self._sent += count
        spent = self._clock() - self._started
        if self._size is None or self._ends is None or spent < _WARMED_UP:
            return
        left = (self._size - self._sent) * spent / max(self._sent, 1)
        if self._now() + left <= self._ends:
            return
        when = datetime.fromtimestamp(self._ends, UTC).isoformat(" ", "seconds")
        _log.warning(
            "%s: at this rate the last parts start after their presigned URLs end, at "
            "%s: ask the owner for URLs that live %d s longer, or for larger parts",
            self._path,
            when,
            self._now() + left - self._ends + 1,
        )
        self._ends = None

"""Expiry watch: warns that presigned URLs will expire before the upload ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

_log = logging.getLogger(__name__)

# Seconds of an upload after which its rate says something.
_WARMED_UP = 2.0


class ExpiryWatch:
    """Measures one upload whose URLs were all signed beforehand; warns once.

    Args:
        path: ``bucket/key``, for the warning.
        size: bytes in all; None for a stream, which is not watched.
        expires_at: when its URLs expire, seconds since the epoch; None if unknown.
        clock: monotonic seconds.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        path: str,
        size: int | None,
        expires_at: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._size = size
        self._expires_at = expires_at
        self._clock = clock
        self._now = now
        self._started = clock()
        self._sent = 0

    def add(self, count: int) -> None:
        """Count *count* bytes more; call it from one thread at a time."""
        self._sent += count
        spent = self._clock() - self._started
        if self._size is None or self._expires_at is None or spent < _WARMED_UP:
            return
        left = (self._size - self._sent) * spent / max(self._sent, 1)
        late = self._now() + left - self._expires_at
        if late <= 0:
            return
        when = datetime.fromtimestamp(self._expires_at, UTC).isoformat(" ", "seconds")
        _log.warning(
            "%s: at this rate the last parts start after their presigned URLs end, at "
            "%s: ask the owner for URLs that live %d s longer, or for larger parts",
            self._path,
            when,
            late + 1,
        )
        self._expires_at = None

"""Expiry watch: warns that presigned URLs will expire before the upload ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from attrs import Factory, define, field

from ..units import shown_moment

_log = logging.getLogger(__name__)

# Seconds of an upload after which its rate says something.
_WARMED_UP = 2.0


@define
class ExpiryWatch:
    """Estimate of when an upload ends; warns once if its URLs expire sooner.

    For uploads whose URLs were all signed in advance.

    Attributes:
        size: total size in bytes; None for a stream, which is not watched.
        expires_at: expiry time of the URLs, seconds since the epoch; None if unknown.
        clock: returns monotonic seconds.
        now: returns seconds since the epoch.
    """

    path: str
    size: int | None
    expires_at: float | None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    _started: float = field(
        init=False, default=Factory(lambda self: self.clock(), takes_self=True)
    )
    _sent: int = field(init=False, default=0)

    def add(self, count: int) -> None:
        """Add *count* bytes to those sent, and warn if the URLs will expire too early.

        Call it from one thread at a time.
        """
        self._sent += count
        spent = self.clock() - self._started
        if self.size is None or self.expires_at is None or spent < _WARMED_UP:
            return
        left = (self.size - self._sent) * spent / max(self._sent, 1)
        late = self.now() + left - self.expires_at
        if late > 0:
            _log.warning(
                "%s: at this rate the last parts start after their presigned URLs "
                "expire, at %s: ask the owner for URLs that live %d s longer, or for larger parts",
                self.path,
                shown_moment(self.expires_at),
                late + 1,
            )
            self.expires_at = None

"""How fast bytes may go, over all workers of a command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BURST = 0.25  # seconds' worth that may go at once after a pause


class Rate:
    """A bucket of tokens, one a byte, filled evenly. Safe for many threads.

    Who takes more than is there goes into debt and waits until it is paid, so blocks of
    any size keep the rate.

    Args:
        per_second: bytes.
        clock: seconds that never run backwards.
        wait: waits that many seconds, shorter if the rate was lifted meanwhile; None
            for a wait of its own.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Begin with a full bucket."""
        self.per_second = per_second
        self._clock = clock
        self._lifted = False
        # No event: it takes a lock, and `lift` is called by the handler of a signal.
        self._wait = wait or self._sleep
        self._lock = threading.Lock()
        self._paid = clock() - _BURST  # until when all that went is paid for

    def take(self, size: int) -> None:
        """Take *size* bytes, and wait until they may have gone."""
        if self._lifted:
            return
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now - _BURST) + size / self.per_second
            seconds = self._paid - now
        if seconds > 0:
            self._wait(seconds)

    def lift(self) -> None:
        """Let everybody go at once from now on."""
        self._lifted = True

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._lifted and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

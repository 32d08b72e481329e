"""Rate limits that allow short bursts: requests (token bucket), bytes per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from attrs import Factory, define, field

_BURST = 0.25  # seconds' worth of bytes that may go at once after a pause
_NAP = 0.1  # seconds after which a wait looks whether the limit was lifted


@define
class TokenBucket:
    """A token bucket, which is full at first; the caller must hold a lock.

    Attributes:
        tokens: number of tokens that are added in *period* seconds, evenly.
        burst: capacity of the bucket, as the number of seconds in which it is filled.
        clock: function that returns monotonic seconds.
    """

    tokens: float
    period: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _paid: float = field(
        init=False,
        default=Factory(lambda self: self.clock() - self.burst, takes_self=True),
    )

    def wait(self) -> float:
        """Return the seconds until a token is available; 0 if there is one now."""
        return max(0.0, self._after(1) - self.clock())

    def spend(self, count: float = 1) -> float:
        """Take *count* tokens, even below zero.

        Return the seconds until the bucket is at zero.
        """
        self._paid = self._after(count)
        return max(0.0, self._paid - self.clock())

    def _after(self, count: float) -> float:
        paid = max(self._paid, self.clock() - self.burst)
        return paid + count * self.period / self.tokens


@define
class RateLimit:
    """Limit of bytes per second over all threads; :meth:`lift` ends the limit.

    A thread that exceeds the limit waits until its excess is worked off, so blocks of
    any size keep the rate.

    Attributes:
        per_second: bytes per second.
        clock: function that returns monotonic seconds.
        sleep: function that waits for a number of seconds.
    """

    per_second: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    _lifted: bool = field(default=False, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _bucket: TokenBucket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._bucket = TokenBucket(self.per_second, 1.0, _BURST, self.clock)

    def take(self, size: int) -> None:
        """Count *size* bytes, and wait until the rate is within the limit."""
        with self._lock:
            end = self.clock() + self._bucket.spend(size)
        while not self._lifted and (left := end - self.clock()) > 0:
            self.sleep(min(left, _NAP))

    def lift(self) -> None:
        """End the limit and all waits.

        Takes no lock, so a signal handler may call this.
        """
        self._lifted = True

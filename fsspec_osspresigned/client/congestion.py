"""Congestion: limits on what is sent to a bucket at a time.

Each bucket has a circuit breaker and a window of small requests. They follow the
replies, are kept only in memory, and decide how many requests are in flight, never what
is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..engine.engine import within_user_code
from ..engine.limits import RequestLimits
from ..errors import NetworkError, OSSPresignedError, StoreUnavailableError
from ..model import CONNECTIONS
from ..options.options import Options
from .retry import RetryPolicy

_MAX_SLOWDOWN = 1.5  # times the base: slower replies end the growth of the window
_STEP = 8  # requests that a round adds, once the limit was met
_REST = 1.0  # seconds without growth after a refusal: limits count requests a second
_LIFE = 30.0  # seconds for which the base holds: networks change
_REFUSALS = (429, 503)


class CircuitBreaker:
    """Circuit breaker of one bucket; *threshold* failures in a row open it.

    While it is open, only one request at a time probes the store, and the next one only
    after a pause. All other requests wait. If the probe fails, the waiting requests fail
    with an error like that of the probe, and are not sent.

    *pause* is the number of seconds between the first two probes; it doubles, up to
    *longest*.
    """

    def __init__(
        self,
        threshold: int,
        *,
        pause: float,
        longest: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = threshold
        self._pause = self._next_pause = pause
        self._longest = longest
        self._clock = clock
        self._quiet_until = 0.0
        self._failures = 0
        self._is_probing = False
        self._probes = 0
        self._waiters: set[asyncio.Future[None]] = set()
        # A factory: the error itself would keep its frames, and their data, alive.
        self._last: Callable[[str], OSSPresignedError] | None = None

    @property
    def is_open(self) -> bool:
        return self._failures >= self._threshold

    async def enter(self, path: str) -> bool:
        """Wait until a request may be sent; return True if the request is the probe.

        Returns False if the breaker is closed, or for a request within the user's code,
        which never waits. If a probe fails during the wait, an error like that of the probe
        is raised for *path*. Otherwise ``leave`` must be called when the request has ended.
        """
        if within_user_code():
            return False
        seen = self._probes
        while self.is_open and self._last is not None:
            if self._probes > seen:
                raise self._last(path)
            wait = self._quiet_until - self._clock()
            if not self._is_probing and wait <= 0:
                self._is_probing = True
                return True
            await self._changed(None if self._is_probing else wait)
        return False

    def leave(self, error: BaseException | None, *, probes: bool) -> None:
        if error is None and not (self._failures or probes):
            return  # nearly always
        if probes:
            self._is_probing = False
        if isinstance(error, StoreUnavailableError | NetworkError):
            self._failures += 1
            self._last = _again(error)
            if probes:
                self._probes += 1
                self._quiet_until = self._clock() + self._next_pause
                self._next_pause = min(self._longest, 2 * self._next_pause)
        elif error is None or getattr(error, "status", None) is not None:
            self._failures = 0
            self._next_pause = self._pause
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _changed(self, seconds: float | None) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            self._waiters.discard(waiter)


def _again(failure: OSSPresignedError) -> Callable[[str], OSSPresignedError]:
    kind, retry_after = type(failure), failure.retry_after
    message = f"not sent, for all requests fail now: {failure.message}"

    def make(path: str) -> OSSPresignedError:
        error = kind(message, path=path, retry_after=retry_after)
        if isinstance(error, NetworkError):
            error.sent = False
        return error

    return make


class RequestWindow:
    """Limit of the small requests in flight to a bucket.

    The window halves after a reply 429 or 503, and grows in rounds (AIMD: additive
    increase, multiplicative decrease). A round has as many replies as the window permits
    requests.

    At the end of a round, the lower quartile of its durations is compared with the base.
    The base is the least quartile so far, measured anew every 30 s. A quartile is used,
    because a queue delays all replies, and jitter only some. The window doubles in each
    round until replies take longer or a reply is 429 or 503; afterwards it grows by 8 a
    round.
    """

    def __init__(
        self,
        most: int,
        *,
        first: int = CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = self._first = min(first, most)  # requests that may be in flight
        self._max, self._clock = most, clock
        self._doubles = True
        self._seconds: list[float] = []  # of this round
        self._is_full = False
        self._base, self._base_until = 0.0, 0.0
        self._refused_at = -_REST
        self._ignored = 0  # refusals of requests that were sent before the last halving

    def note(self, seconds: float, in_flight: int) -> None:
        """Record a reply that took *seconds* with *in_flight* requests in flight."""
        self._ignored = max(0, self._ignored - 1)
        # What is being signed, or tried again, takes room in the window, too.
        self._is_full |= in_flight * 4 >= self.size * 3
        self._seconds.append(seconds)
        if len(self._seconds) < self.size:
            return
        durations, self._seconds = sorted(self._seconds), []
        is_full, self._is_full = self._is_full, False
        self._end_round(durations[len(durations) // 4], is_full=is_full)

    def note_failure(self, failure: BaseException) -> None:
        if not isinstance(failure, StoreUnavailableError):
            return
        if failure.status not in _REFUSALS:
            return
        if self._ignored:
            self._ignored -= 1
            return
        self._ignored = self.size - 1
        self.size = max(1, self.size // 2)
        self._doubles, self._refused_at = False, self._clock()
        self._seconds = []

    def _end_round(self, quartile: float, *, is_full: bool) -> None:
        now = self._clock()
        if now >= self._base_until:
            # Replies of a smaller window say what the link takes without a queue.
            is_first = self._base_until == 0
            self._base, self._base_until = quartile, now + _LIFE
            if not is_first:
                self.size = max(min(self.size, self._first), self.size // 2)
                return
        self._base = min(self._base, quartile)
        if quartile > self._base * _MAX_SLOWDOWN:
            self._doubles = False
        elif is_full and now - self._refused_at >= _REST:
            grown = self.size * 2 if self._doubles else self.size + _STEP
            self.size = min(self._max, grown)


class BucketState:
    """Circuit breaker and limits of one client's requests to one bucket."""

    def __init__(
        self, options: Options, policy: RetryPolicy, clock: Callable[[], float]
    ) -> None:
        # Half of the longest wait is the mean one of a worker that tries alone.
        self.breaker = CircuitBreaker(
            options.connections,
            pause=policy.base / 2,
            longest=policy.cap / 2,
            clock=clock,
        )
        self.window = RequestWindow(options.max_small, clock=clock)
        self.in_flight = 0  # small requests
        self._large = options.max_connections
        self.limits = RequestLimits(
            small=self._max_small,
            large=self._large,
            total=options.max_concurrency or max(self._large, options.max_small),
        )

    def _max_small(self) -> int:
        if not self.breaker.is_open:
            return self.window.size
        # The requests wait for the probe, and are not sent if it fails.
        return max(self.window.size, self._large)

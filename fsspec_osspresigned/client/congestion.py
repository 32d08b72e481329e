"""Congestion control: limits for the requests in flight to each bucket.

Each bucket has a circuit breaker, a window of small requests, and one of large
requests, which worker threads send. They follow the replies, and are kept only in
memory. They decide how many requests are in flight, but not which ones are sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..engine.engine import is_user_code
from ..engine.limits import RequestLimits, RequestPlace, request_limiter
from ..errors import NetworkError, OSSPresignedError, StoreUnavailableError
from ..model import CONNECTIONS
from ..options.options import Options
from .retry import RetryPolicy

# multiple of the base time; slower replies stop the growth of the window
_MAX_SLOWDOWN = 1.5
_STEP = 8  # requests that a round adds, once the window no longer doubles
_REST = 1.0  # seconds without growth after a refusal, or after growth that did not help
_LIFE = 30.0  # seconds after which the base is measured again, because networks change
_REFUSALS = (429, 503)
_FIRST_LARGE = 4
_GAIN = 1.1  # a doubled window must raise the rate by this factor
_QUICK = 250e6  # bytes a second of a connection that needs few others beside it
_MIN_SLOW, _MAX_SLOW = 0.005, 0.1  # seconds after which a large request is slow


class CircuitBreaker:
    """Circuit breaker of one bucket; *threshold* failures in a row open it.

    While it is open, one request at a time probes the store, with a pause between
    probes. All other requests wait. If the probe fails, the waiting requests fail with
    a similar error, and are not sent.

    *pause* is the number of seconds between the first two probes; it doubles, up to
    *longest*.

    Attributes:
        is_open: *threshold* requests in a row have failed.
    """

    is_open = False

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
        # A factory for the last error. The error itself would keep its frames and their
        # data alive.
        self._last: Callable[[str], OSSPresignedError] | None = None

    async def enter(self, path: str) -> bool:
        """Wait until a request may be sent; return True if the request is the probe.

        Returns False if the breaker is closed, or for a request within the user's code,
        which never waits. If a probe fails during the wait, a similar error is raised
        for *path*. Otherwise ``leave`` must be called when the request has ended.
        """
        if is_user_code.get():
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
            return  # the usual case: a success while nothing has failed
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
        self.is_open = self._failures >= self._threshold
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
    message = f"not sent, because all requests fail now: {failure.message}"

    def make(path: str) -> OSSPresignedError:
        error = kind(message, path=path, retry_after=retry_after)
        if isinstance(error, NetworkError):
            error.sent = False
        return error

    return make


class _Window:
    """Limit of requests in flight to a bucket, which halves after a reply 429 or 503."""

    def __init__(self, most: int, first: int, clock: Callable[[], float]) -> None:
        self.size = self._first = min(first, most)  # requests that may be in flight
        self._max, self._clock = most, clock
        self._ignored = 0  # refusals of requests that were sent before the last halving

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
        self._rest()

    def _rest(self) -> None:
        """Do not grow for some time, because the window has just halved."""
        raise NotImplementedError


class RequestWindow(_Window):
    """Limit of the small requests in flight to a bucket.

    The window grows in rounds (AIMD: additive increase, multiplicative decrease). A
    round ends after as many replies as the window permits requests.

    At the end of a round, the lower quartile of its durations is compared with the
    base. The base is the lowest quartile so far; it is measured again every 30 s.
    Quartiles are used because a queue delays all replies, but jitter delays only some.
    The window doubles in each round until replies take longer or a reply is 429 or 503.
    After that, it grows by 8 in each round.
    """

    def __init__(
        self, most: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(most, CONNECTIONS, clock)
        self._doubles = True
        self._seconds: list[float] = []  # durations of the replies in this round
        self._is_full = False
        self._base, self._base_until = 0.0, 0.0
        self._refused_at = -_REST
        self.in_flight = 0

    def note(self, seconds: float, in_flight: int) -> None:
        """Record a reply that took *seconds* with *in_flight* requests in flight."""
        self._ignored = max(0, self._ignored - 1)
        # Requests that are being signed or retried also take room, so three quarters
        # suffice.
        self._is_full |= in_flight * 4 >= self.size * 3
        self._seconds.append(seconds)
        if len(self._seconds) < self.size:
            return
        durations, self._seconds = sorted(self._seconds), []
        is_full, self._is_full = self._is_full, False
        self._end_round(durations[len(durations) // 4], is_full=is_full)

    def _rest(self) -> None:
        self._doubles, self._refused_at = False, self._clock()
        self._seconds = []

    def _end_round(self, quartile: float, *, is_full: bool) -> None:
        now = self._clock()
        if now >= self._base_until:
            # The replies of a smaller window show how long the link takes without a
            # queue.
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


class LargeWindow(_Window):
    """Limit of the large requests in flight to a bucket, which worker threads send.

    The window begins with 4, because more threads only cost time on a quick link. A
    round ends after twice as many replies as the window permits requests. After a
    round, the window doubles. If the next round is not at least a tenth faster in bytes
    per second, the window returns to its old size, and does not change for a second.

    A slow link gets all its connections at once. If no round has ended, and no reply
    arrives within the time that a request takes at 250 MB/s, the window opens to its
    maximum.
    """

    def __init__(
        self, most: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(most, _FIRST_LARGE, clock)
        self.answered = 0  # number of requests with a reply
        # start of the round; None while the window has room
        self._began: float | None = None
        self._bytes = self._replies = 0  # bytes and replies in this round
        self._is_measured = False  # True after the first whole round
        # Size and rate before the window doubled.
        self._before: tuple[int, float] | None = None
        self._rests_until = 0.0

    def note(self, size: int, *, is_awaited: bool) -> None:
        """Record a reply to a request that has moved *size* bytes.

        *is_awaited* means that another request waits for room in the window.
        """
        self.answered += 1
        self._ignored = max(0, self._ignored - 1)
        if not is_awaited:  # the rate is limited by the caller, not by the window
            self._began = None
            return
        self._bytes += size
        self._replies += 1
        now = self._clock()
        if self._began is not None:
            if self._replies < 2 * self.size:
                return
            self._end_round(self._bytes, now - self._began)
        self._began, self._bytes, self._replies = now, 0, 0

    def note_slow(self, answered: int) -> None:
        """Record that a request takes long, while others wait.

        *answered* is the value of the window's ``answered`` when the request began.
        """
        is_quick = self._is_measured or self.answered > answered
        if not is_quick and self._clock() >= self._rests_until:
            self.size = self._max

    def _end_round(self, count: int, seconds: float) -> None:
        self._is_measured = True
        rate, now = count / max(seconds, 1e-6), self._clock()
        before, self._before = self._before, None
        if before is not None and rate < before[1] * _GAIN:
            self.size, self._rests_until = before[0], now + _REST
        elif now >= self._rests_until and self.size < self._max:
            self._before = self.size, rate
            self.size = min(self._max, 2 * self.size)

    def _rest(self) -> None:
        self._before = self._began = None
        self._rests_until = self._clock() + _REST


class BucketState:
    """Circuit breaker and limits of the requests of *client* to one bucket."""

    def __init__(
        self,
        client: object,
        options: Options,
        policy: RetryPolicy,
        clock: Callable[[], float],
    ) -> None:
        # Half of the longest retry delay is the mean delay of a worker that retries
        # alone.
        self.breaker = CircuitBreaker(
            options.connections,
            pause=policy.base / 2,
            longest=policy.cap / 2,
            clock=clock,
        )
        self.small = RequestWindow(options.max_small, clock=clock)
        self.large = LargeWindow(options.max_connections, clock=clock)
        self._max_large = options.max_connections
        limits = RequestLimits(
            small=self._max_small,
            large=lambda: self.large.size,
            threads=self._max_large,
            total=options.max_concurrency or max(self._max_large, options.max_small),
        )
        self.place_of_small = RequestPlace(client, limits, is_small=True)
        self.place_of_large = RequestPlace(client, limits, is_small=False)

    def _max_small(self) -> int:
        if not self.breaker.is_open:
            return self.small.size
        # The waiting requests are sent only if the probe succeeds.
        return max(self.small.size, self._max_large)

    @contextmanager
    def watching(self, place: RequestPlace, size: int) -> Iterator[None]:
        """Let the window grow if a large request of *size* bytes at *place* is slow."""
        limiter, answered = request_limiter(), self.large.answered

        def note() -> None:
            if limiter.is_awaited(place):
                self.large.note_slow(answered)
                limiter.admit()

        seconds = min(max(size / _QUICK, _MIN_SLOW), _MAX_SLOW)
        timer = asyncio.get_running_loop().call_later(seconds, note)
        try:
            yield
        finally:
            timer.cancel()

"""Link estimate: round trip, rate, and the best number of small requests at a time.

The three values are measured with the requests sent, and kept only in memory. The part
size and the number of small requests in flight depend on the values.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import frozen

from ..errors import StoreUnavailableError
from ..model import CONNECTIONS, Action
from ..units import KIB, MIB

LATENCY_BOUND = 16 * KIB  # bytes of a body up to which the round trip decides
_LARGE = MIB  # bytes from which on the rate decides
_SHARE = 1 / 8  # of the way to a worse sample
_MOST = 15 / 16  # of the time of a large request, that may be its round trip
_BEARABLE = 1.5  # times the base, that a reply may take for the window to grow
_STEP = 8  # requests that a round adds, once the limit was met
_REST = 1.0  # seconds without growth after a refusal: limits count requests a second
_LIFE = 30.0  # seconds for which the base holds: networks change
_REFUSALS = (429, 503)


@frozen
class Link:
    """Properties of the link to one bucket's endpoint.

    Attributes:
        round_trip: duration in seconds of a request without a body.
        rate: bytes per second of one connection.
        parts: whether this process has begun a multipart upload in the bucket, which
            proves that multipart uploads are permitted.
    """

    round_trip: float
    rate: float
    parts: bool = False


class LinkEstimate:
    """Moving estimate of the link's properties.

    Several threads may call it without a lock, because a lost sample does not matter. A
    better sample counts fully and a worse one little, because waiting and other
    requests on the same link can only make a sample worse.
    """

    def __init__(self) -> None:
        self._round_trip: float | None = None
        self._rate: float | None = None
        self._parts = False

    @property
    def link(self) -> Link | None:
        """The estimate; None until a small and a large request have been answered."""
        if self._round_trip is None or self._rate is None:
            return None
        return Link(self._round_trip, self._rate, self._parts)

    def note(self, action: Action, size: int, seconds: float) -> None:
        """Record a completed request with a body of *size* bytes that took *seconds*."""
        self._parts |= action is Action.InitiateMultipartUpload
        if size <= LATENCY_BOUND:
            old, new = self._round_trip, seconds
            is_better = old is not None and new < old
            self._round_trip = _after(old, new, is_better=is_better)
        elif size >= _LARGE:
            waiting = min(self._round_trip or 0, seconds * _MOST)
            old, new = self._rate, size / max(seconds - waiting, 1e-6)
            is_better = old is not None and new > old
            self._rate = _after(old, new, is_better=is_better)


def _after(old: float | None, new: float, *, is_better: bool) -> float:
    return new if old is None or is_better else old + _SHARE * (new - old)


class RequestWindow:
    """Limit of the small requests in flight to a bucket; thread-safe like LinkEstimate.

    The window grows while replies take as long as before, and halves after a reply 429
    or 503 (AIMD: additive increase, multiplicative decrease). A round has as many
    replies as the window permits requests. The lower quartile of their durations is
    compared with the base, the least quartile so far, because a queue delays all
    replies and jitter only some. The window doubles in each round until replies take
    longer or a reply is 429 or 503; afterwards the window grows by 8 a round.

    Attributes:
        size: number of requests that may be in flight.
    """

    def __init__(
        self,
        most: int,
        *,
        first: int = CONNECTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size = self._first = min(first, most)
        self._most, self._clock = most, clock
        self._doubles = True
        self._seconds: list[float] = []  # of this round
        self._is_full = False
        self._base, self._base_until = 0.0, 0.0
        self._refused_at = -_REST
        self._ignored = 0  # refusals of requests that were sent before the last halving

    def note(self, seconds: float, in_flight: int) -> float | None:
        """Record a reply that took *seconds* with *in_flight* requests in flight.

        If this reply ends a round, returns the shortest duration in the round in
        seconds, else None.
        """
        self._ignored = max(0, self._ignored - 1)
        # What is being signed, or tried again, takes room in the window, too.
        self._is_full |= in_flight * 4 >= self.size * 3
        noted = self._seconds  # a refusal in another thread begins a new round
        noted.append(seconds)
        if len(noted) < self.size:
            return None
        found, self._seconds = sorted(noted), []
        is_full, self._is_full = self._is_full, False
        self._end_round(found[len(found) // 4], is_full=is_full)
        return found[0]

    def note_failure(self, failure: BaseException) -> None:
        """Halve the window if *failure* is a reply 429 or 503."""
        is_refusal = (
            isinstance(failure, StoreUnavailableError) and failure.status in _REFUSALS
        )
        if not is_refusal:
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
        if quartile > self._base * _BEARABLE:
            self._doubles = False
        elif is_full and now - self._refused_at >= _REST:
            grown = self.size * 2 if self._doubles else self.size + _STEP
            self.size = min(self._most, grown)

"""Circuit breaker: while a store keeps failing, only one request at a time probes it.

After several failures in a row, the next probe is sent only after a growing pause. The
other requests wait. If the probe fails, they fail with the error of the probe, and are
not sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from ..errors import NetworkError, OSSPresignedError, StoreUnavailableError
from .engine import within_user_code


class CircuitBreaker:
    """Circuit breaker of one bucket; *threshold* failures in a row open it.

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
        """True if the circuit is open, so that only one request at a time is sent."""
        return self._failures >= self._threshold

    async def enter(self, path: str) -> bool:
        """Wait until a request may be sent; return True if the request is the probe.

        Code of the user does not wait. If the probe fails during the wait, its error is
        raised for *path*. ``leave`` must be called when the request has ended.
        """
        return self.is_open and not within_user_code() and await self._enter(path)

    def leave(self, error: BaseException | None, *, probes: bool) -> None:
        """Record the end of a request, with the *error* that it raised or None."""
        if error is None:
            if self._failures or probes:
                self._leave(probes=probes, is_answered=True, failure=None)
            return
        is_failure = isinstance(error, StoreUnavailableError | NetworkError)
        self._leave(
            probes=probes,
            is_answered=getattr(error, "status", None) is not None and not is_failure,
            failure=error if is_failure else None,
        )

    async def _enter(self, path: str) -> bool:
        """Wait until a request may be sent; return True if the request is the probe."""
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

    async def _changed(self, seconds: float | None) -> None:
        """Wait until a request has ended, *seconds* at most."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait((waiter,), timeout=seconds)
        finally:
            self._waiters.discard(waiter)

    def _leave(self, *, probes: bool, is_answered: bool, failure: Any) -> None:
        if probes:
            self._is_probing = False
        if is_answered:
            self._failures = 0
            self._next_pause = self._pause
        if failure is not None:
            self._failures += 1
            self._last = _again(failure)
            if probes:
                self._probes += 1
                self._quiet_until = self._clock() + self._next_pause
                self._next_pause = min(self._longest, 2 * self._next_pause)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def _again(failure: OSSPresignedError) -> Callable[[str], OSSPresignedError]:
    """Return a function that makes an error like *failure* for another path."""
    kind, retry_after = type(failure), failure.retry_after
    message = f"not sent, for all requests fail now: {failure.message}"

    def make(path: str) -> OSSPresignedError:
        error = kind(message, path=path, retry_after=retry_after)
        if isinstance(error, NetworkError):
            error.sent = False
        return error

    return make

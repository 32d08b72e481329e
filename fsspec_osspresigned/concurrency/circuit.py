"""Circuit breaker: while a store keeps failing, only one request at a time probes it.

After several failures in a row, of any workers, the next probe is sent only after a
growing pause. The other workers wait. If the probe fails, their requests fail with the
error of the probe, and are not sent.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ..errors import NetworkError, OSSPresignedError, StoreUnavailableError
from .waiting import Changes, Event

_LOST = 60.0  # seconds after which a probe that was interrupted is held to be lost


class Circuit:
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
        self._pause = pause
        self._longest = longest
        self._clock = clock
        self._next_pause = pause
        self._quiet_until = 0.0
        self._lock = threading.RLock()
        self._changes = Changes()
        self._failures = 0
        self._probed_until = 0.0
        self._probes = 0
        # A factory: the error itself would keep its frames, and their data, alive.
        self._last: Callable[[str], OSSPresignedError] | None = None

    @property
    def is_open(self) -> bool:
        """True if the circuit is open, so that only one request at a time is sent."""
        return self._failures >= self._threshold

    def note_answer(self) -> None:
        """Record that the store has answered a request that was sent without ``turn``."""
        if self._failures:
            self._leave(probes=False, answered=True, failure=None)

    @contextlib.contextmanager
    def turn(
        self, path: str, cancel: Event | None = None, *, sent: bool = False
    ) -> Iterator[None]:
        """Wait until a request may be sent; record its result at the end of the block.

        *sent* skips the wait. If the probe fails during the wait, its error is raised for
        *path*.
        """
        probes = not sent and self._enter(path, cancel)
        failure: OSSPresignedError | None = None
        answered = False
        try:
            yield
            answered = True
        except OSSPresignedError as error:
            if isinstance(error, StoreUnavailableError | NetworkError):
                failure = error
            else:
                answered = error.status is not None
            raise
        finally:
            self._leave(probes=probes, answered=answered, failure=failure)

    def _enter(self, path: str, cancel: Event | None) -> bool:
        """Wait until a request may be sent; return True if the request is the probe."""
        seen, waited, probes = self._probes, False, False

        def may() -> bool:
            nonlocal waited, probes
            with self._lock:
                last = self._last
                if last is None or self._failures < self._threshold:
                    return True
                gone = cancel is not None and cancel.is_set()
                if waited and (gone or self._probes > seen):
                    raise last(path)
                waited, now = True, self._clock()
                probes = max(self._quiet_until, self._probed_until) <= now
                if probes:
                    self._probed_until = now + _LOST
                return probes

        self._changes.wait_for(may)
        return probes

    def _leave(
        self, *, probes: bool, answered: bool, failure: OSSPresignedError | None
    ) -> None:
        with self._lock:
            if probes:
                self._probed_until = 0.0
            if answered:
                self._failures = 0
                self._next_pause = self._pause
            if failure is not None:
                self._failures += 1
                self._last = _again(failure)
                if probes:
                    self._probes += 1
                    self._quiet_until = self._clock() + self._next_pause
                    self._next_pause = min(self._longest, 2 * self._next_pause)
        self._changes.tell()


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

"""Token bucket: a rate that allows short bursts."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import Factory, define, field


@define
class TokenBucket:
    """A bucket of tokens, filled evenly and full at first; its owner locks.

    Attributes:
        tokens: flow in evenly every *period* seconds.
        burst: seconds' worth that fits in.
        clock: seconds that never run backwards.
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
        """Return the seconds until a token is in the bucket; 0 if there is one."""
        return max(0.0, self._after(1) - self.clock())

    def spend(self, count: float = 1) -> float:
        """Take *count* tokens, into debt if need be; return the seconds to pay it."""
        self._paid = self._after(count)
        return max(0.0, self._paid - self.clock())

    def _after(self, count: float) -> float:
        paid = max(self._paid, self.clock() - self.burst)
        return paid + count * self.period / self.tokens

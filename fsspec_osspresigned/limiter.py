"""How much each name may have in a minute: counted here, decided by the caller."""

from __future__ import annotations

import time
from collections.abc import Callable

from attrs import define, field

_MINUTE = 60.0


@define
class Limiter:
    """A bucket of tokens for each name, filled evenly; one minute's worth fits in.

    Attributes:
        clock: seconds that never run backwards.
    """

    clock: Callable[[], float] = time.monotonic
    _levels: dict[str, tuple[float, float]] = field(factory=dict, init=False)

    def wait(self, name: str, per_minute: int) -> float:
        """Return the seconds until *name* may have one more; 0 takes it at once."""
        now = self.clock()
        level, since = self._levels.get(name, (float(per_minute), now))
        level = min(per_minute, level + (now - since) * per_minute / _MINUTE)
        if level < 1:
            return (1 - level) * _MINUTE / per_minute
        self._levels[name] = (level - 1, now)
        return 0.0

    def charge(self, name: str, count: int) -> None:
        """Take *count* more, into debt if need be: a batch is not cut in pieces."""
        level, since = self._levels.get(name, (0.0, self.clock()))
        self._levels[name] = (level - count, since)

    def keep(self, names: set[str]) -> None:
        """Forget all but *names*."""
        for name in self._levels.keys() - names:
            del self._levels[name]

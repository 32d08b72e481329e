"""The clock that the emulator believes: a source, and how far it is off."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define


@define
class Clock:
    """Seconds since the epoch; called like ``time.time``.

    Attributes:
        source: the clock underneath.
        offset: seconds that the emulator is ahead of it; negative for behind.
    """

    source: Callable[[], float]
    offset: float = 0.0

    def __call__(self) -> float:
        """Return the time as the emulator believes it."""
        return self.source() + self.offset

    def jump(self, seconds: float) -> None:
        """Move forward by *seconds*, or back if they are negative."""
        self.offset += seconds

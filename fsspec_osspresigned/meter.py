"""How far a transfer of many files is, and how that is said in a line."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from attrs import Factory, define, field

from .model import KIB

_WINDOW = 15.0  # seconds that the rate looks back
_SPACING = 0.25  # seconds between two samples of it
_LEAST_BAR, _MOST_BAR = 8, 40  # characters
_MINUTE = 60
_HOUR = 3600


@define
class Meter:
    """Counts; its owner locks.

    Attributes:
        clock: seconds that never run backwards.
        files, size: all files and their bytes, as far as they are known.
        files_done, done: those that are finished, and bytes that have moved.
        files_failed: files that could not be.
    """

    clock: Callable[[], float] = time.monotonic
    files: int = 0
    size: int = 0
    files_done: int = 0
    files_failed: int = 0
    done: int = 0
    started: float = field(
        init=False, default=Factory(lambda self: self.clock(), takes_self=True)
    )
    _samples: deque[tuple[float, int]] = field(factory=deque, init=False)

    def move(self, count: int) -> None:
        """Count bytes that have moved; negative when a failed try is taken back."""
        self.done += count
        now = self.clock()
        samples = self._samples
        if not samples or now - samples[-1][0] >= _SPACING:
            samples.append((now, self.done))
        while now - samples[0][0] > _WINDOW:
            samples.popleft()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self.clock() - self.started

    @property
    def rate(self) -> float:
        """Bytes a second of late; 0 before anything has moved."""
        since, before = self._samples[0] if self._samples else (self.started, 0)
        if self.clock() - since < _SPACING:
            since, before = self.started, 0
        return max(0.0, (self.done - before) / max(self.clock() - since, 1e-3))

    @property
    def left(self) -> float | None:
        """Seconds to the end, as it looks; None if nobody can tell."""
        rate = self.rate
        return max(0, self.size - self.done) / rate if rate and self.size else None

    @property
    def share(self) -> float:
        """How much is done, 0 to 1; by files if there are no bytes."""
        if self.size:
            return min(1.0, self.done / self.size)
        return min(1.0, self.files_done / self.files) if self.files else 0.0

    def line(self, width: int) -> str:
        """Return one line of at most *width* characters: what fits, the bar last."""
        percent = f"{self.share:4.0%}"
        moved = _of(short_bytes(self.done), short_bytes(self.size))
        rate = f"{short_bytes(self.rate)}/s"
        left = "" if self.left is None else short_seconds(self.left)
        files = f"{self.files_done}/{self.files} files"
        if self.files_failed:
            files += f", {self.files_failed} failed"
        chosen: list[str] = []
        for wanted in (percent, moved, left, rate, files):
            if wanted and len("  ".join([*chosen, wanted])) <= width:
                chosen.append(wanted)
        text = "  ".join(chosen)
        room = min(width - len(text) - 3, _MOST_BAR)
        if room >= _LEAST_BAR:
            text = f"[{'#' * round(room * self.share):<{room}}] {text}"
        return text[:width]

    def sentence(self) -> str:
        """Return the same for a log: no bar, and no width."""
        left = self.left
        ends = "" if left is None else f", {short_seconds(left)} left"
        failed = f", {self.files_failed} failed" if self.files_failed else ""
        return (
            f"{self.files_done} of {self.files} files, {short_bytes(self.done)} of "
            f"{short_bytes(self.size)}, {short_bytes(self.rate)}/s{ends}{failed}"
        )


def _of(done: str, size: str) -> str:
    """Return ``3.1/12.3 MiB``; both units where they differ."""
    number, _, unit = done.partition(" ")
    return f"{number if size.endswith(f' {unit}') else done}/{size}"


def short_bytes(number: float) -> str:
    """Return *number* in three digits and a unit: ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1000:  # noqa: PLR2004 - three digits
            digits = 0 if unit == "B" or number >= 100 else 1  # noqa: PLR2004
            return f"{number:.{digits}f} {unit}"
        number /= KIB
    return f"{number:.1f} TiB"


def short_seconds(seconds: float) -> str:
    """Return a duration as a clock shows it: ``0:05``, ``2:03:04``."""
    whole = round(min(seconds, 359_999))
    hours, rest = divmod(whole, _HOUR)
    minutes, left = divmod(rest, _MINUTE)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"

"""What a transfer of many files tells while it runs, and what it has told at the end.

On a terminal a line that changes; elsewhere a line now and then; or JSON events.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from attrs import Factory, define, field
from fsspec.callbacks import Callback

from ..errors import UploadDiscardedError
from ..model import Receipt
from ..units import KIB
from .exit import ExitCode, Failure, code_of
from .terminal import Output

# How fast bytes may go, over all workers of a command.

_BURST = 0.25  # seconds' worth that may go at once after a pause


class Rate:
    """A bucket of tokens, one a byte, filled evenly. Safe for many threads.

    Who takes more than is there goes into debt and waits until it is paid, so blocks of
    any size keep the rate.

    Args:
        per_second: bytes.
        clock: seconds that never run backwards.
        wait: waits that many seconds, shorter if the rate was lifted meanwhile; None
            for a wait of its own.
    """

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Begin with a full bucket."""
        self.per_second = per_second
        self._clock = clock
        self._lifted = False
        # No event: it takes a lock, and `lift` is called by the handler of a signal.
        self._wait = wait or self._sleep
        self._lock = threading.Lock()
        self._paid = clock() - _BURST  # until when all that went is paid for

    def take(self, size: int) -> None:
        """Take *size* bytes, and wait until they may have gone."""
        if self._lifted:
            return
        with self._lock:
            now = self._clock()
            self._paid = max(self._paid, now - _BURST) + size / self.per_second
            seconds = self._paid - now
        if seconds > 0:
            self._wait(seconds)

    def lift(self) -> None:
        """Let everybody go at once from now on."""
        self._lifted = True

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._lifted and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))


# How far a transfer of many files is, and how that is said in a line.

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


_LIVE = 0.1  # seconds between two drawings
_EVENTS = 1.0
_LINES = 10.0
# So many that got no answer, one after the other, and nobody else is tried: each of them
# has waited for its retries already.
_SILENT = 16


class Display(Protocol):
    """Shows a transfer; called by one thread at a time."""

    every: float

    def moved(self, meter: Meter) -> None:
        """Show how far it is; not more often than *every* seconds."""
        ...

    def stored(self, local: str, receipt: Receipt) -> None:
        """Show an object that is stored."""
        ...

    def failed(self, failure: Failure) -> None:
        """Show what failed, as soon as it does."""
        ...


class Quiet:
    """Shows nothing."""

    every = float("inf")

    def moved(self, meter: Meter) -> None:
        """Show nothing."""

    def stored(self, local: str, receipt: Receipt) -> None:
        """Show nothing."""

    def failed(self, failure: Failure) -> None:
        """Show nothing."""


class Lines(Quiet):
    """A line that changes on a terminal, and one now and then elsewhere."""

    def __init__(self, output: Output) -> None:
        """Show nothing yet."""
        self._output = output
        self.every = _LIVE if output.live else _LINES

    def moved(self, meter: Meter) -> None:
        """Draw or write a line."""
        if self._output.live:
            self._output.draw(meter.line(self._output.width))
        else:
            self._output.line(meter.sentence())


class Events:
    """One JSON object a line for everything that happens."""

    every = _EVENTS

    def __init__(self, output: Output) -> None:
        """Write nothing yet."""
        self._output = output

    def say(self, event: str, **members: Any) -> None:
        """Write one event."""
        self._output.line(json.dumps({"event": event, **members}))

    def moved(self, meter: Meter) -> None:
        """Say how far it is."""
        self.say(
            "progress",
            files_done=meter.files_done,
            files_failed=meter.files_failed,
            files=meter.files,
            bytes_done=meter.done,
            bytes=meter.size,
            rate=round(meter.rate),
            seconds_left=None if meter.left is None else round(meter.left, 1),
        )

    def stored(self, local: str, receipt: Receipt) -> None:
        """Say the receipt."""
        self.say("stored", local=local, **receipt.as_dict())

    def failed(self, failure: Failure) -> None:
        """Say what failed, and what became of it."""
        self.say("failed", **failure.as_dict())


class TransferProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """The callback of ``put`` and ``get``: counts, keeps failures and holds the rate.

    Attributes:
        meter: the counts.
        failures: what failed, by ``bucket/key``.
        given_up: whether so much got no answer that the rest is not tried.

    Args:
        display: who is told.
        files: how many there will be; None until fsspec says so.
        size: their bytes; None to add up what the files say.
        rate: how fast bytes may go; None for no limit.
        fetching: objects are what is read, not what is written.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        display: Display,
        *,
        files: int | None = None,
        size: int | None = None,
        rate: Rate | None = None,
        fetching: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Tell nothing yet."""
        super().__init__()
        self.meter = Meter(clock, files=files or 0, size=size or 0)
        self.failures: dict[str, Failure] = {}
        self.given_up = False
        self._silent = 0
        self._display = display
        self._knows_files = files is not None
        self._knows_size = size is not None
        self._rate = rate
        self._fetching = fetching
        self._clock = clock
        self._lock = threading.Lock()
        self._shown = clock()

    def set_size(self, size: int | None) -> None:
        """Take the number of files from fsspec."""
        super().set_size(size)
        if not self._knows_files:
            self.meter.files = size or 0

    def branched(self, path_1: str, path_2: str, **_: Any) -> Callback:
        """Return the callback of one file: its source, and where it goes.

        Raises:
            UploadDiscardedError: it is not to be tried, for nobody answers.
        """
        if self.given_up:
            msg = "not tried: nobody answers"
            raise UploadDiscardedError(msg, path=path_1 if self._fetching else path_2)
        if self._fetching:
            return _OneFile(self, path_1, path_2, may_be_none=True)
        return _OneFile(self, path_2, path_1)

    def relative_update(self, inc: int = 1) -> None:
        """Take that files are done from fsspec; the files themselves say so first."""
        super().relative_update(inc)

    def end_one(self, *, is_file: bool) -> None:
        """Count one that went well; a directory was counted as a file before."""
        with self._lock:
            self._silent = 0
            if is_file:
                self.meter.files_done += 1
            else:
                self.meter.files -= 1
            self._show()

    def stored(self, local: str, receipt: Receipt) -> None:
        """Tell about a stored object."""
        with self._lock:
            self._display.stored(local, receipt)

    def fail(self, path: str, local: str, error: BaseException) -> None:
        """Keep a failure, once for each path."""
        with self._lock:
            if path not in self.failures:
                self.failures[path] = Failure(path, local, error)
                self.meter.files_failed += 1
                silent = code_of(error) is ExitCode.NETWORK
                self._silent = self._silent + 1 if silent else 0
                self.given_up = self.given_up or self._silent >= _SILENT
                self._display.failed(self.failures[path])

    def expect(self, size: int) -> None:
        """Add to the bytes to come, where they were not known beforehand."""
        if not self._knows_size:
            with self._lock:
                self.meter.size += size

    def move(self, count: int) -> None:
        """Count bytes, and wait as long as the rate says."""
        with self._lock:
            self.meter.move(count)
            self._show()
        if self._rate is not None and count > 0:
            self._rate.take(count)

    def _show(self) -> None:
        now = self._clock()
        if now - self._shown >= self._display.every:
            self._shown = now
            self._display.moved(self.meter)


class _OneFile(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Counts the bytes of one file."""

    def __init__(
        self,
        root: TransferProgress,
        path: str,
        local: str,
        *,
        may_be_none: bool = False,
    ) -> None:
        super().__init__()
        self._may_be_none = may_be_none  # a directory, which never tells its bytes
        self._root = root
        self._path = path
        self._local = local

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None:
            self._root.end_one(is_file=self.size is not None or not self._may_be_none)
        elif isinstance(error, Exception):
            self._root.fail(self._path, self._local, error)

    def set_size(self, size: int | None) -> None:
        before = self.size or 0
        super().set_size(size)
        self._root.expect((size or 0) - before)

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self._root.move(inc)

    def absolute_update(self, value: int) -> None:
        self.relative_update(value - self.value)

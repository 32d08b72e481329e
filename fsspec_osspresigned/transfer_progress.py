"""What a transfer of many files tells while it runs, and what it has told at the end.

On a terminal a line that changes; elsewhere a line now and then; or JSON events.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from fsspec.callbacks import Callback

from .errors import UploadDiscardedError
from .exit_code import ExitCode, code_of
from .failure import Failure
from .meter import Meter
from .model import Receipt
from .rate import Rate
from .terminal import Output

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

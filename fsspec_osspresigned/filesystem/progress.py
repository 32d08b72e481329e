"""Progress in bytes, for people and for fsspec's callbacks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from fsspec.callbacks import DEFAULT_CALLBACK, Callback, NoOpCallback

from ..units import short_bytes

_WIDTH = 24  # characters of the bar


def is_heard(callback: Callback) -> bool:
    """Return whether *callback* does anything with what it is told."""
    return callback is not DEFAULT_CALLBACK and not isinstance(callback, NoOpCallback)


def bytes_counter(
    callback: Callback, size: int, lock: threading.Lock
) -> Callable[[int], None] | None:
    """Return what reports bytes to *callback*, one call at a time; None if it ignores them."""
    if not is_heard(callback):
        return None
    with lock:
        callback.set_size(size)

    def count(sent: int) -> None:
        with lock:
            callback.relative_update(sent)

    return count


class BytesProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """A progress bar that counts bytes over all files of a call.

    fsspec's contract counts files at the root and bytes at the children; this callback
    adds up the children. Works for ``put``, ``get`` and for the call of one file.

    Args:
        stream: where the bar is drawn; None for standard error.
        label: what stands in front.
        every: seconds between two drawings.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        label: str = "",
        every: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.total = 0
        self.done = 0
        self._branched = False
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._longest = 0
        self._label = label
        self._every = every
        self._started = time.monotonic()
        self._drawn = 0.0
        self._lock = threading.Lock()

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Callback:
        """Return the callback of one file, whose bytes are added to ours."""
        del path_1, path_2, kwargs
        if not self._branched:
            self._branched, self.total, self.done = True, 0, 0
        return _FileBytes(self)

    def set_size(self, size: int | None) -> None:
        """Take the bytes of one file; files of a whole call are not counted."""
        super().set_size(size)
        if not self._branched:
            self.total = size or 0

    def relative_update(self, inc: int = 1) -> None:
        """Take bytes that were sent; negative when a failed try is taken back."""
        super().relative_update(inc)
        if not self._branched:
            self.add(0, inc)

    def absolute_update(self, value: int) -> None:
        """Take how many bytes were sent so far."""
        self.relative_update(value - self.value)

    def add(self, total: int, done: int) -> None:
        """Add to the bytes expected and the bytes done, and draw now and then."""
        with self._lock:
            self.total += total
            self.done += done
            now = time.monotonic()
            if self._live and now - self._drawn >= self._every:
                self._drawn = now
                self._draw(now)

    def close(self) -> None:
        """Draw the last state and end the line: all that a file or a pipe gets."""
        with self._lock:
            self._draw(time.monotonic())
            self._stream.write("\n")
            self._stream.flush()

    def _draw(self, now: float) -> None:
        share = min(1.0, self.done / self.total) if self.total else 1.0
        rate = self.done / max(now - self._started, 1e-6)
        bar = "#" * round(_WIDTH * share)
        text = (
            f"{self._label}[{bar:<{_WIDTH}}] {share:4.0%} "
            f"{short_bytes(self.done)} of {short_bytes(self.total)}, {short_bytes(rate)}/s"
        )
        self._longest = max(self._longest, len(text))
        if self._live:
            self._stream.write(f"\r{text:<{self._longest}}")
        else:
            self._stream.write(text)
        self._stream.flush()


class _FileBytes(Callback):  # type: ignore[misc]  # fsspec is untyped
    """The bytes of one file."""

    def __init__(self, root: BytesProgress) -> None:
        super().__init__()
        self._root = root

    def set_size(self, size: int | None) -> None:
        before = self.size or 0
        super().set_size(size)
        self._root.add((size or 0) - before, 0)

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self._root.add(0, inc)

    def absolute_update(self, value: int) -> None:
        self.relative_update(value - self.value)

"""Progress in bytes, for people and for fsspec's callbacks."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fsspec.callbacks import Callback, NoOpCallback

from ..units import short_bytes

_WIDTH = 24  # characters of the bar


class SharedCallback:
    """A callback of fsspec that is told by several threads, one call at a time."""

    def __init__(self, callback: Callback, lock: threading.Lock | None = None) -> None:
        self.is_heard = not isinstance(callback, NoOpCallback)
        self._callback = callback
        self._lock = lock or threading.Lock()

    @property
    def counter(self) -> Callable[[int], None] | None:
        """What counts bytes; None if nothing is heard, which costs nothing."""
        return self.add if self.is_heard else None

    def set_size(self, size: int | None) -> None:
        """Tell how much there is; None if that is unknown."""
        with self._lock:
            self._callback.set_size(size)

    def add(self, count: int) -> None:
        """Tell how much more is done; negative when a failed try is taken back."""
        with self._lock:
            self._callback.relative_update(count)

    @contextmanager
    def of_file(self, source: str, target: str) -> Iterator[SharedCallback]:
        """Yield the callback of one file, which is counted here when it is done."""
        if not self.is_heard:  # 32 workers would queue for the lock
            yield self
            return
        with self._lock:
            child = self._callback.branched(source, target)
        with child:
            yield SharedCallback(child, self._lock)
        self.add(1)


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

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Take the bytes of one file; files of a whole call are not counted."""
        super().call(hook_name, **kwargs)
        if not self._branched:
            self.add((self.size or 0) - self.total, self.value - self.done)

    def add(self, total: int, done: int) -> None:
        """Add to the bytes expected and the bytes done, and draw now and then."""
        with self._lock:
            self.total += total
            self.done += done
            now = time.monotonic()
            if done and self._live and now - self._drawn >= self._every:
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
        self._stream.write(f"\r{text:<{self._longest}}" if self._live else text)
        self._stream.flush()


class _FileBytes(Callback):  # type: ignore[misc]  # fsspec is untyped
    """The bytes of one file."""

    def __init__(self, root: BytesProgress) -> None:
        super().__init__()
        self._root = root
        self._told = (0, 0)

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        super().call(hook_name, **kwargs)
        size, value = self._told
        self._told = self.size or 0, self.value
        self._root.add(self._told[0] - size, self._told[1] - value)

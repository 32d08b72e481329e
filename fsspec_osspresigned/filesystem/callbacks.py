"""Progress in bytes: a progress bar, and thread-safe calls of fsspec's callbacks."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from fsspec.callbacks import Callback, NoOpCallback

from ..engine.engine import blocking, user_code
from ..units import short_bytes

if TYPE_CHECKING:
    from ..upload.resume import UploadEvent

_WIDTH = 24  # characters of the bar
_LINES_EVERY = 10.0  # seconds between two lines of a file or a pipe


class SharedCallback:
    """An fsspec callback that several worker threads call, one at a time.

    The callback may call any filesystem.

    With many files, the callback counts the files, and its branches count the bytes. A
    callback without branches, such as most bars, counts the bytes of all files.

    If the callback has a method ``on_upload_event``, it is called with each
    ``UploadEvent``.
    """

    def __init__(self, callback: Callback, lock: threading.Lock | None = None) -> None:
        self.is_heard = not isinstance(callback, NoOpCallback)
        self._callback = callback
        self._lock = lock or threading.Lock()
        self.knows_size = False  # of many files, all together
        kind = type(callback)
        bases = Callback.branched, Callback.branch
        self._counts_bytes = (kind.branched, kind.branch) == bases

    @property
    def counter(self) -> Callable[[int], None] | None:
        """The function that counts bytes; None if the callback ignores them."""
        return self.add if self.is_heard else None

    @property
    def on_event(self) -> Callable[[UploadEvent], None] | None:
        """The function to call with events of the upload; None if nothing listens."""
        listener = getattr(self._callback, "on_upload_event", None)
        if listener is None:
            return None

        def call(event: UploadEvent) -> None:
            with self._lock, user_code():
                listener(event)

        return call

    def set_size(self, size: int | None) -> None:
        """Set the total size in bytes; None if it is unknown."""
        with self._lock, user_code():
            self._callback.set_size(size)

    def expect(self, files: int, size: int | None = None) -> None:
        """Set number and total size of the files.

        *size* None adds the size of each file when its transfer begins.
        """
        self.knows_size = size is not None
        self.set_size(size if self._counts_bytes else files)

    def add(self, count: int) -> None:
        """Add *count* bytes that were sent; a negative *count* subtracts a failed try."""
        with self._lock, user_code():
            self._callback.relative_update(count)

    async def tell_size(self, size: int | None) -> None:
        """Do ``set_size`` in a worker thread, if anything listens."""
        if self.is_heard:
            await blocking(self.set_size, size)

    @asynccontextmanager
    async def of_file(self, source: str, target: str) -> AsyncIterator[SharedCallback]:
        """Yield the callback of one file; count the file at the end of the block."""
        if not self.is_heard:
            yield self
        elif self._counts_bytes:
            yield _OneOfMany(self, self._callback, self._lock)
        else:
            branches: list[Any] = []  # none if a cancellation comes before it
            try:
                await blocking(self._branch, branches, source, target)
                yield SharedCallback(branches[0], self._lock)
            except BaseException as error:
                for child in branches:
                    await blocking(self._leave, child, error)
                raise
            await blocking(self._leave, branches[0], None)
            await blocking(self.add, 1)

    def _branch(self, branches: list[Any], source: str, target: str) -> None:
        with self._lock, user_code():
            branches.append(self._callback.branched(source, target).__enter__())

    def _leave(self, child: Any, error: BaseException | None) -> None:
        with self._lock, user_code():
            trace = error.__traceback__ if error is not None else None
            child.__exit__(None if error is None else type(error), error, trace)


class _OneOfMany(SharedCallback):
    """Callback of one of many files; it adds the file's bytes to those of all files."""

    def __init__(
        self, whole: SharedCallback, callback: Callback, lock: threading.Lock
    ) -> None:
        super().__init__(callback, lock)
        self._whole = whole
        self._size = 0

    def set_size(self, size: int | None) -> None:
        """Add *size* to the total of all files, unless that total was set in advance."""
        if not self._whole.knows_size:
            with self._lock, user_code():
                total = (self._callback.size or 0) + (size or 0) - self._size
                self._callback.set_size(total)
                self._size = size or 0


class BytesProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """A progress bar of bytes, for one file or for all files of ``put`` and ``get``.

    A terminal and a notebook show a bar of tqdm, if it is installed, else a simple bar.
    A file or a pipe gets a line every 10 seconds, and one at the end. Use it in a
    ``with`` block, or call ``close``, which ends the line of the bar.

    Args:
        stream: text stream for the simple bar; None uses tqdm, or standard error.
        label: text before the bar.
        every: seconds between two updates.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        label: str = "",
        every: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty() or _is_of_notebook(self._stream)
        self._tqdm = _tqdm() if self._live and stream is None else None
        self._bar: Any = None
        self._longest = 0
        self._label = label
        self._every = every if self._live else max(every, _LINES_EVERY)
        self._started = time.monotonic()
        self._drawn = self._started if not self._live else 0.0

    @property
    def total(self) -> int:
        """The total size in bytes; 0 while it is unknown."""
        return self.size or 0

    @property
    def done(self) -> int:
        """The number of bytes transferred."""
        return int(self.value)

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Redraw the bar if *every* seconds have passed or all bytes are transferred."""
        super().call(hook_name, **kwargs)
        now = time.monotonic()
        is_whole = self._live and self.done == self.total
        if self.done and (is_whole or now - self._drawn >= self._every):
            self._drawn = now
            self._draw(now)
            if not self._live:
                self._stream.write("\n")

    def close(self) -> None:
        """Draw the final state of the bar, and end the line."""
        self._draw(time.monotonic())
        if self._bar is not None:
            self._bar.close()
            return
        self._stream.write("\n")
        self._stream.flush()

    def _draw(self, now: float) -> None:
        if self._tqdm is not None:
            self._move_bar(self._tqdm)
            return
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

    def _move_bar(self, tqdm: Callable[..., Any]) -> None:
        if self._bar is None:
            self._bar = tqdm(
                desc=self._label.rstrip(": ") or None,
                total=self.size,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                mininterval=0,
                miniters=0,
            )
            # The first bytes took time too, before the first drawing.
            waited = time.monotonic() - self._started
            self._bar.start_t -= waited
            self._bar.last_print_t -= waited
        if self._bar.total != self.size:  # a widget is told by `reset` alone
            started = self._bar.start_t
            self._bar.reset(self.size)
            self._bar.start_t = started
        self._bar.update(self.done - self._bar.n)


def _is_of_notebook(stream: TextIO) -> bool:
    """Return whether *stream* belongs to a notebook, where lines can be overwritten."""
    return type(stream).__module__.partition(".")[0] == "ipykernel"


def _tqdm() -> Callable[..., Any] | None:
    """Return tqdm's class for a terminal or a notebook; None if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of a notebook without widgets, which gets text
        try:
            found: Callable[..., Any] = import_module("tqdm.auto").tqdm
        except ImportError:
            return None
    return found

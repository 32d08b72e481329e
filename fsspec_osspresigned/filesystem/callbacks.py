"""Thread-safe calls of fsspec's callbacks."""

from __future__ import annotations

import errno
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import Callback, NoOpCallback

from ..engine.engine import user_code, waiting
from ..errors import UploadDiscardedError
from ..units import MIB

if TYPE_CHECKING:
    from ..upload.resume import UploadEvent


class SharedCallback:
    """Wrapper of an fsspec callback that only one thread at a time calls.

    The callback may use any filesystem. In a transfer of many files, a callback with
    branches counts the files, and its branches count the bytes. A callback without
    branches, such as most bars, counts the bytes of all files. If the callback has a
    method ``on_upload_event``, it is called with each ``UploadEvent``.
    """

    def __init__(self, callback: Callback, lock: threading.Lock | None = None) -> None:
        self.is_heard = not isinstance(callback, NoOpCallback)
        self._callback = callback
        self._lock = lock or threading.Lock()
        self.knows_size = False  # True once the total size of all files is known
        kind = type(callback)
        bases = Callback.branched, Callback.branch
        self._counts_bytes = (kind.branched, kind.branch) == bases

    @property
    def on_event(self) -> Callable[[UploadEvent], None] | None:
        listener = getattr(self._callback, "on_upload_event", None)
        if listener is None:
            return None

        def call(event: UploadEvent) -> None:
            with self._lock, user_code():
                listener(event)

        return call

    def set_size(self, size: int | None) -> None:
        with self._lock, user_code():
            self._callback.set_size(size)

    def expect(self, files: int, size: int | None = None) -> None:
        """Set the total of a transfer of many *files*, which have *size* bytes together.

        With *size* None, the size of each file is added when the file begins.
        """
        self.knows_size = size is not None
        self.set_size(size if self._counts_bytes else files)

    def add(self, count: int) -> None:
        """Add *count* sent bytes; a negative number subtracts those of a failed try."""
        with self._lock, user_code():
            self._callback.relative_update(count)

    @asynccontextmanager
    async def of_file(self, source: str, target: str) -> AsyncIterator[SharedCallback]:
        """Yield the callback of one file; count the file when the block succeeds."""
        if not self.is_heard:
            yield self
        elif self._counts_bytes:
            yield _OneOfMany(self, self._callback, self._lock)
        else:
            # stays empty if the call is cancelled before it begins
            branches: list[Any] = []
            try:
                await waiting(self._branch, branches, source, target)
                yield SharedCallback(branches[0], self._lock)
            except BaseException as error:
                for child in branches:
                    await waiting(self._leave, child, error)
                raise
            await waiting(self._leave, branches[0], None)
            await waiting(self.add, 1)

    def _branch(self, branches: list[Any], source: str, target: str) -> None:
        with self._lock, user_code():
            branches.append(self._callback.branched(source, target).__enter__())

    def _leave(self, child: Any, error: BaseException | None) -> None:
        with self._lock, user_code():
            trace = error.__traceback__ if error is not None else None
            child.__exit__(None if error is None else type(error), error, trace)


class _OneOfMany(SharedCallback):
    """Callback of one file of many; it adds its bytes to a common count."""

    def __init__(
        self, whole: SharedCallback, callback: Callback, lock: threading.Lock
    ) -> None:
        super().__init__(callback, lock)
        self._whole = whole
        self._size = 0

    def set_size(self, size: int | None) -> None:
        if not self._whole.knows_size:
            with self._lock, user_code():
                total = (self._callback.size or 0) + (size or 0) - self._size
                self._callback.set_size(total)
                self._size = size or 0


class BlockCopy:
    """Copies an open source into a sink block by block, in a worker thread."""

    def __init__(self, path: str, callback: SharedCallback) -> None:
        self._path, self._callback = path, callback  # path of the object, for errors
        self._is_stopped = False
        self._sink: Any = None

    def stop(self) -> None:
        """Stop ``run``, from another thread, and discard the sink."""
        self._is_stopped = True
        if self._sink is not None:
            self._sink.abandon()

    def check(self) -> None:
        if self._is_stopped:
            raise UploadDiscardedError("the transfer was cancelled", path=self._path)

    def discards(self, sink: Any) -> None:
        """Let ``stop`` discard *sink*, a file of this filesystem open for writing.

        ``stop`` then also interrupts the publication of the object, which follows
        ``run``. Raises UploadDiscardedError if ``stop`` was called before.
        """
        self._sink = sink
        self.check()

    def run(self, source: Any, sink: Any) -> int:
        """Copy all bytes, and return their number; OSError if *sink* takes fewer."""
        size = 0
        while block := source.read(MIB):
            self.check()
            written = sink.write(block)
            if isinstance(written, int) and written < len(block):
                # open(..., buffering=0) and files of sockets may write less
                text = f"the open file took {written} of {len(block)} bytes"
                raise OSError(errno.EIO, f"{text}: give a buffered file", self._path)
            self._callback.add(len(block))
            size += len(block)
        return size

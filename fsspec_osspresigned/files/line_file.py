"""Line file: an append-only text file that stays readable after a crash."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable
from typing import Self

from ..system import BINARY, NOFOLLOW, open_regular


class LineFile:
    """Appends lines to the open file *descriptor*; thread-safe.

    *is_torn* means that the last line is incomplete, so a new line is started. *sync*
    flushes each line to disk (``fsync``) before ``append`` returns.
    """

    def __init__(
        self, descriptor: int, *, is_torn: bool = False, sync: bool = False
    ) -> None:
        self._descriptor: int | None = descriptor
        self._is_torn = is_torn
        self._sync = sync
        self._lock = threading.Lock()

    @classmethod
    def create(cls, place: str, lines: Iterable[bytes], *, sync: bool = False) -> Self:
        """Replace *place* atomically with a file of *lines*, mode 0600, flushed.

        Raises OSError if it cannot be written; *place* is then unchanged.
        """
        new = f"{place}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # of a process that died right here
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | BINARY
        made = cls(os.open(new, flags, 0o600), sync=sync)
        try:
            made.append(b"".join(lines))
            made.flush()
            made.close()  # Windows renames no open file
            os.replace(new, place)
        except BaseException:
            made.close()
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        # The rename lasts, too; some file systems cannot, and need not be told.
        with contextlib.suppress(OSError):
            directory = os.open(os.path.dirname(place), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return cls.reopen(place, sync=sync)

    @classmethod
    def reopen(cls, place: str, *, is_torn: bool = False, sync: bool = False) -> Self:
        """Open the regular file *place*, which must not be a link, to append lines."""
        descriptor = open_regular(place, os.O_WRONLY | os.O_APPEND | NOFOLLOW)
        return cls(descriptor, is_torn=is_torn, sync=sync)

    def append(self, line: bytes) -> None:
        """Append *line*, which ends with a line feed; does nothing after ``close``.

        Raises OSError if the disk is full or broken; earlier lines stay complete.
        """
        with self._lock:
            if self._descriptor is None:
                return
            data = b"\n" + line if self._is_torn else line
            self._is_torn = True
            _write(self._descriptor, data)
            self._is_torn = False
            if self._sync:
                os.fsync(self._descriptor)

    def flush(self) -> None:
        """Flush all appended lines to disk; raises OSError."""
        with self._lock:
            if self._descriptor is not None:
                os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]

"""A local file that appears as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading


class PartialFile:
    """Is written under another name beside its place, at offsets, by several threads.

    Nothing is made before the first byte: what cannot be fetched leaves no directory.
    """

    def __init__(self, place: str) -> None:
        """Make nothing yet."""
        self._place = place
        self._name = ""
        self._descriptor = -1
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return self._descriptor >= 0

    def resize(self, size: int) -> None:
        """Make the file *size* bytes long."""
        os.ftruncate(self._opened(), size)

    def write(self, data: bytes, offset: int) -> None:
        """Write *data* at *offset*."""
        descriptor, view = self._opened(), memoryview(data)
        while view:
            done = self._write_at(descriptor, view, offset)
            view, offset = view[done:], offset + done

    def _write_at(self, descriptor: int, data: memoryview, offset: int) -> int:
        write = getattr(os, "pwrite", None)
        if write is not None:
            return int(write(descriptor, data, offset))
        with self._lock:  # Windows has no such call
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)

    def publish(self) -> None:
        """Put the file in its place; what was there is replaced."""
        self._opened()  # an empty one, too
        self._close()
        os.replace(self._name, self._place)
        self._name = ""

    def discard(self) -> None:
        """Remove what was not published. Idempotent."""
        with self._lock:
            self._close()
            if self._name:
                with contextlib.suppress(OSError):
                    os.unlink(self._name)
            self._name = ""

    def _opened(self) -> int:
        with self._lock:
            if self._descriptor < 0:
                parent = os.path.dirname(os.path.abspath(self._place))
                os.makedirs(parent, exist_ok=True)
                name = os.path.join(parent, f".osspresigned-{secrets.token_hex(8)}")
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                self._descriptor = os.open(name, flags, 0o666)
                self._name = name
            return self._descriptor

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

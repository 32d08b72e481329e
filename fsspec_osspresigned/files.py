"""Local files that several processes share: locks, stamps and files of lines.

A lock excludes other processes and threads, and is released if its owner dies. A stamp
detects changes to a file. A line file is append-only and stays readable after a crash.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Iterable
from importlib import import_module
from typing import Self

from attrs import frozen

from .compat import (
    BINARY,
    NOFOLLOW,
    at_fork,
    open_regular,
    read_at,
    write_at,
)

# maximum bytes of the text in a lock file, which names the locking process; Windows
# locks the byte after it
_NOTE = 200


class LockedError(Exception):
    """The lock is taken; the message names its process, if known."""


class FileLock:
    """An exclusive lock on a separate lock file, which ``release`` removes.

    ``flock`` (on Windows, ``msvcrt.locking``) ends with the process, so a killed
    process leaves no lock behind. The lock also excludes other threads of the same
    process.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def take(cls, path: str) -> FileLock:
        """Create and lock the lock file *path*, without waiting; return the lock.

        Raises:
            LockedError: another process or thread has the lock.
            OSError: the file cannot be created or locked, is not regular, or has a
                second name (a hard link). Its directory must exist.
        """
        while True:
            flags = os.O_RDWR | os.O_CREAT | NOFOLLOW
            descriptor = open_regular(path, flags, one_link=True)
            try:
                lock(descriptor)
                if is_at(descriptor, path):
                    _sign(descriptor)
                    return cls(path, descriptor)
                os.close(descriptor)  # the last owner has just removed the file
            except BlockingIOError:
                owner = read_at(descriptor, _NOTE, 0).decode("ascii", "replace")
                os.close(descriptor)
                raise LockedError(owner or "another process") from None
            except BaseException:
                os.close(descriptor)
                raise

    def release(self) -> None:
        """Remove the lock file and unlock; idempotent."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                try:
                    # The name is removed first, so a process that locks the path later
                    # locks another file.
                    os.unlink(self._path)
                except PermissionError:  # Windows cannot remove an open file
                    self.forget()
                    os.unlink(self._path)
            self.forget()

    def forget(self) -> None:
        """Close the descriptor without removing the lock file; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock(descriptor: int) -> None:
    """Lock an open file without waiting; BlockingIOError if another has locked it."""
    try:
        import fcntl  # noqa: PLC0415 - Windows has no such module
    except ImportError:
        msvcrt = import_module("msvcrt")
        # another process may read the name before it is written
        os.lseek(descriptor, _NOTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, "locked") from None
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_at(descriptor: int, path: str) -> bool:
    """Return whether *path* still is the name of the open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _sign(descriptor: int) -> None:
    text = f"process {os.getpid()} on {socket.gethostname()}"
    with contextlib.suppress(OSError):  # if the disk is full, only the name is missing
        os.ftruncate(descriptor, 0)
        write_at(descriptor, memoryview(text.encode("ascii", "replace")[:_NOTE]), 0)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def forget_all() -> None:
    """Close the parent's locks in a forked child, which would otherwise hold them."""
    for lock in list(_held):
        lock.forget()


at_fork(after_in_child=forget_all)


@frozen
class FileStamp:
    """Time, size and inode of a file; if two stamps differ, the file has changed.

    ``facts`` is None if the file is missing or cannot be looked up.
    """

    facts: tuple[int, int, int] | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FileStamp:
        try:
            status = os.stat(path)
        except OSError:
            return cls()
        return cls((status.st_mtime_ns, status.st_size, status.st_ino))


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
    def create(cls, path: str, lines: Iterable[bytes], *, sync: bool = False) -> Self:
        """Replace *path* with a file of *lines*, and return the file, open for appending.

        The file has mode 0600, and is flushed to disk before it is renamed to *path*.
        Raises OSError if it cannot be written; *path* is then unchanged.
        """
        new = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # the file of a process that was killed at this point
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | BINARY
        file = cls(os.open(new, flags, 0o600), sync=sync)
        try:
            file.append(b"".join(lines))
            file.flush()
            file.close()  # Windows cannot rename an open file
            os.replace(new, path)
        except BaseException:
            file.close()
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        # Sync the directory, so that the rename survives a crash. Some file systems
        # cannot.
        with contextlib.suppress(OSError):
            directory = os.open(os.path.dirname(path), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return cls.reopen(path, sync=sync)

    @classmethod
    def reopen(cls, path: str, *, is_torn: bool = False, sync: bool = False) -> Self:
        """Open *path*, a regular file and no symbolic link, to append lines.

        Raises OSError if it cannot be opened.
        """
        descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | NOFOLLOW)
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

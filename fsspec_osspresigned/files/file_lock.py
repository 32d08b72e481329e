"""File lock: exclusive among processes and threads, released if its owner dies."""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from importlib import import_module

from ..system import (
    NOFOLLOW,
    after_fork_in_child,
    open_regular,
    read_at,
    write_at,
)

_NOTE = 200  # bytes that are read of the owner's name


class LockedError(Exception):
    """The lock is taken.

    The message names the process that has it, if that is known.
    """


class FileLock:
    """An exclusive lock on a separate lock file, which ``release`` removes.

    ``flock`` (on Windows, ``msvcrt.locking``) ends with the process, so a killed
    process leaves no lock behind. Two threads of one process exclude each other too.
    """

    def __init__(self, place: str, descriptor: int) -> None:
        self._place = place
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def take(cls, place: str) -> FileLock:
        """Lock the file *place* in an existing directory; LockedError if it is taken.

        Raises OSError if the file cannot be created or locked, is not regular, or is a
        hard link to another file.
        """
        while True:
            flags = os.O_RDWR | os.O_CREAT | NOFOLLOW
            descriptor = open_regular(place, flags, one_link=True)
            try:
                _lock(descriptor)
                if _is_at(descriptor, place):
                    _sign(descriptor)
                    return cls(place, descriptor)
                os.close(descriptor)  # its last owner removed it just now
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
                    os.unlink(
                        self._place
                    )  # first: what is locked later is another file
                except PermissionError:  # Windows removes no open file
                    self.forget()
                    os.unlink(self._place)
            self.forget()

    def forget(self) -> None:
        """Close the descriptor without removing the lock file; idempotent."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> None:
    """Lock an open file; BlockingIOError if another descriptor has the lock."""
    try:
        import fcntl  # noqa: PLC0415 - Windows has none
    except ImportError:
        msvcrt = import_module("msvcrt")
        os.lseek(descriptor, _NOTE, os.SEEK_SET)  # others may read the name before it
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:
            raise BlockingIOError(error.errno, "locked") from None
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(descriptor: int, place: str) -> bool:
    """Return whether *place* is still the file that *descriptor* has open."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    return False


def _sign(descriptor: int) -> None:
    """Write the name of this process into the lock file; ignore a full disk."""
    text = f"process {os.getpid()} on {socket.gethostname()}"
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        write_at(descriptor, memoryview(text.encode("ascii", "replace")[:_NOTE]), 0)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def forget_all() -> None:
    """Close all inherited locks in a forked child, which would otherwise keep them."""
    for lock in list(_held):
        lock.forget()


after_fork_in_child(forget_all)

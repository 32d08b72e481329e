"""A lock that only one process has, and that ends with it however it ends."""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from ..errors import ConfigurationError

# Not everywhere, and then there are no locks.
fcntl: ModuleType | None = import_module("fcntl") if find_spec("fcntl") else None

_NOTE = 200  # bytes that are read of who holds a lock


class LockedError(Exception):
    """Somebody else has the lock; the text says who, as far as it is known."""


class FileLock:
    """An exclusive lock on a file of its own, which goes away with the lock.

    ``flock`` ends with the process, so a killed one leaves nothing that blocks. Two
    threads of one process exclude each other too.
    """

    def __init__(self, place: str, descriptor: int) -> None:
        """Keep what :meth:`take` has locked."""
        self._place = place
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def take(cls, place: str) -> FileLock:
        """Lock *place*, a path whose directory exists, without waiting.

        Raises:
            LockedError: somebody else has it.
            ConfigurationError: this system has no ``flock``.
            OSError: the file cannot be made.
        """
        if fcntl is None:
            msg = "checkpoint= needs file locks, which this system does not have"
            raise ConfigurationError(msg)
        _watch_forks()
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(place, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, place):
                    _sign(descriptor)
                    return cls(place, descriptor)
                os.close(descriptor)  # its last holder removed it just now
            except BlockingIOError:
                holder = os.pread(descriptor, _NOTE, 0).decode("ascii", "replace")
                os.close(descriptor)
                raise LockedError(holder or "another process") from None
            except BaseException:
                os.close(descriptor)
                raise

    def release(self) -> None:
        """Remove the file and let go; idempotent."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._place)  # first: what is locked later is another file
            self.forget()

    def forget(self) -> None:
        """Let go of the descriptor, and leave the file to whoever else has it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _is_at(descriptor: int, place: str) -> bool:
    """Return whether *place* still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(place))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Write who we are, for the message that others get; a full disk is no matter."""
    text = f"process {os.getpid()} on {socket.gethostname()}"
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("ascii", "replace")[:_NOTE], 0)


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _after_fork() -> None:
    # A child shares the open file, and would keep the lock when its parent has died.
    for lock in list(_held):
        lock.forget()


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_after_fork)

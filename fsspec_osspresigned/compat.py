"""Compatibility: functions that some platforms lack, safe opening, and lazy names."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Self

# Flags of ``os.open`` that only some systems know.
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
# ``os.open`` does not wait for the other end of a pipe
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
# without it, Windows writes CR LF for each line feed
BINARY = getattr(os, "O_BINARY", 0)
READ_ONLY = os.O_RDONLY | _NONBLOCK | BINARY

# A file server may hold a lease on a file, which it gives up when the file is opened.
_LEASE_TRIES, _LEASE_WAIT = 100, 0.05

_POLL_INTERVAL = 0.1  # seconds between two checks whether to stop waiting for a stream
# On other systems, a pipe that no program has opened yet looks like one that has ended.
_CAN_STOP = sys.platform == "linux"

_moving = threading.Lock()  # threads share the file position of a descriptor


def lazy(
    package: str, **names: str
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` for *package*.

    Each keyword of *names* is a module of the package. Its value lists the public names
    in that module, separated by spaces. A name is loaded on first use.
    """
    homes = {name: module for module in names for name in names[module].split()}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f".{homes[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    def public() -> list[str]:
        return sorted(homes)

    return public(), load, public


class SpecialFileError(OSError):
    """The path is a pipe, a socket or a device, so it was not opened.

    This is no ``ConfigurationError``, because another program may have just replaced
    the file.
    """


def open_regular(
    path: str | os.PathLike[str],
    flags: int = os.O_RDONLY,
    mode: int = 0o600,
    *,
    one_link: bool = False,
) -> int:
    """Open *path* if it is a regular file, and return its descriptor.

    A pipe is refused without waiting for its other end. The opened file is checked, so
    a replacement of *path* at the last moment is noticed. A new file gets *mode*.
    *one_link* refuses a file with a second name (a hard link).

    Raises:
        SpecialFileError: *path* is a pipe, a socket or a device.
        IsADirectoryError: *path* is a directory.
        OSError: the file cannot be opened, or *one_link* refuses it (EMLINK).
    """
    try:
        descriptor = _opened(path, flags | _NONBLOCK | BINARY, mode)
    except OSError as error:
        if error.errno == errno.ENXIO:
            # the path is a socket, or a pipe that no program reads
            raise _special(path) from None
        raise
    try:
        _check(os.fstat(descriptor), path, one_link=one_link)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(
    status: os.stat_result, path: str | os.PathLike[str], *, one_link: bool
) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise _special(path)
    if one_link and status.st_nlink > 1:
        raise OSError(errno.EMLINK, "a hard link to another file", os.fspath(path))


def _special(path: str | os.PathLike[str]) -> SpecialFileError:
    return SpecialFileError(errno.EINVAL, "not a regular file", os.fspath(path))


def _opened(path: str | os.PathLike[str], flags: int, mode: int) -> int:
    for _ in range(_LEASE_TRIES):
        with contextlib.suppress(BlockingIOError):
            return os.open(path, flags, mode)
        time.sleep(_LEASE_WAIT)
    return os.open(path, flags, mode)


def at_fork(**functions: Callable[[], object]) -> None:
    """Call ``os.register_at_fork``; does nothing on systems without fork."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(**functions)


def has_received(descriptor: int) -> bool:
    """Return whether a socket has unread bytes, or was closed by the peer."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([descriptor], [], [], 0)[0])


class Stream:
    """A pipe, a device or a file without a size, open for reading or for *writing*.

    *check* is called before each read and write. On Linux, it is also called ten times
    a second while a read or a write waits. An exception that *check* raises ends the
    call. *regular* means that *path* must be a regular file; otherwise SpecialFileError
    is raised.
    """

    def __init__(
        self,
        path: str,
        check: Callable[[], object],
        *,
        writing: bool = False,
        regular: bool = False,
    ) -> None:
        self._check, self._is_writing = check, writing
        flags = BINARY | ((os.O_WRONLY | os.O_TRUNC) if writing else os.O_RDONLY)
        if regular:
            self._descriptor = open_regular(path, flags)
        else:
            self._descriptor = self._opened(path, flags | (_NONBLOCK * _CAN_STOP))

    def _opened(self, path: str, flags: int) -> int:
        while True:
            try:
                return _opened(path, flags, 0o600)
            except OSError as error:
                if error.errno != errno.ENXIO or not (self._is_writing and _CAN_STOP):
                    raise
            self._check()  # no program reads the pipe yet
            time.sleep(_POLL_INTERVAL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most *size*; ``b""`` at the end of the stream."""
        while True:
            self._wait()
            with contextlib.suppress(BlockingIOError):
                # another program has read the bytes first
                return os.read(self._descriptor, size)

    def write(self, data: bytes) -> None:
        """Write all of *data*."""
        left = memoryview(data)
        while left:
            self._wait()
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(self._descriptor, left) :]

    def _wait(self) -> None:
        self._check()
        if not _CAN_STOP:
            return
        poll = select.poll()
        poll.register(
            self._descriptor, select.POLLOUT if self._is_writing else select.POLLIN
        )
        while not poll.poll(_POLL_INTERVAL * 1000):
            self._check()


def open_files() -> int:
    """Return how many files this process may open: at most 1,024, or 512 on Windows."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 512  # the limit of Windows's C library
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1024 if limit == resource.RLIM_INFINITY else min(1024, limit)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read at most *size* bytes at *offset*; safe for many threads."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, offset)
    with _moving:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of *data* at *offset*; safe for many threads."""
    while data:
        if hasattr(os, "pwrite"):
            done = os.pwrite(descriptor, data, offset)
        else:
            with _moving:
                os.lseek(descriptor, offset, os.SEEK_SET)
                done = os.write(descriptor, data)
        data, offset = data[done:], offset + done

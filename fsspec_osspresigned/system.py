"""System functions that some platforms lack: fork, poll, reads at an offset."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Any

# Flags of ``os.open`` that only some systems know.
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # a pipe is not waited for
BINARY = getattr(os, "O_BINARY", 0)  # Windows would write CR LF for each line feed

_moving = threading.Lock()  # a descriptor has one position for all threads


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Call *function* in each forked child; does nothing on systems without fork."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=function)


def incoming(sock: Any) -> Callable[[], bool]:
    """Return a function that tells whether *sock* has received bytes or was closed."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return lambda: bool(poll.poll(0))
    return lambda: bool(select.select([sock], [], [], 0)[0])


def open_files() -> int:
    """Return how many files this process may open, 1,024 at most."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 512  # the limit of its C library
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

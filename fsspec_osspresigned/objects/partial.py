"""Partial file: ranges of a large download that a later process can reuse.

It is in the directory of the destination. After the bytes of the object, it has a
digest that identifies the object, and one byte for each range, which is 1 after the
range has reached the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import Self

from attrs import define

from ..compat import NOFOLLOW, open_regular, read_at, write_at
from ..files import is_at, lock
from ..units import MIB

PREFIX = ".osspresigned-"  # `put` and `sync` leave out names with this prefix
_DIGEST = 32  # bytes of the digest


@define(eq=False)
class PartialFile:
    """The open and locked partial file *name*; *done* has a mark for each range."""

    name: str
    descriptor: int
    total: int  # bytes of the whole object
    done: bytearray

    @classmethod
    def open(cls, path: str, content: str, total: int, ranges: int) -> Self | None:
        """Open or create the partial file of the destination *path*.

        A new file gets the permissions of *path*. If the file belongs to another
        content than *content*, it is emptied. Returns None if the file cannot be used:
        another process uses it, it belongs to another user, it is no regular file, or
        the directory has no locks.
        """
        directory, base = os.path.split(os.path.abspath(path))
        os.makedirs(directory, exist_ok=True)
        digest = hashlib.sha256(os.fsencode(base)).hexdigest()[:16]
        name = os.path.join(directory, PREFIX + digest)
        flags, mode = os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o666
        with contextlib.suppress(OSError):
            mode = os.stat(path).st_mode & 0o777
        try:
            descriptor = open_regular(name, flags, mode, one_link=True)
        except OSError:
            return None
        try:
            lock(descriptor)
            # The last owner may have just published the file.
            if is_at(descriptor, name) and _is_own(descriptor):
                return cls(
                    name, descriptor, total, _marks(descriptor, content, total, ranges)
                )
        except OSError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def mark(self, descriptor: int, index: int) -> None:
        """Record that range *index* is written, after it has reached the disk."""
        os.fsync(descriptor)
        write_at(descriptor, memoryview(b"\1"), self.total + _DIGEST + index)
        self.done[index] = 1


def blocks(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes *start* to *stop* of a file."""
    while start < stop:
        block = read_at(descriptor, min(MIB, stop - start), start)
        if not block:
            raise OSError("the partial file was cut")
        yield block
        start += len(block)


def _is_own(descriptor: int) -> bool:
    return os.name != "posix" or os.fstat(descriptor).st_uid == os.geteuid()


def _marks(descriptor: int, content: str, total: int, ranges: int) -> bytearray:
    digest = hashlib.sha256(content.encode()).digest()
    end = read_at(descriptor, _DIGEST + ranges + 1, total)
    if len(end) == _DIGEST + ranges and end.startswith(digest):
        return bytearray(end[_DIGEST:])
    os.ftruncate(descriptor, 0)
    write_at(descriptor, memoryview(digest + bytes(ranges)), total)
    return bytearray(ranges)

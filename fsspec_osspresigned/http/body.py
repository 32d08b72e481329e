"""Request bodies that can be read several times.

Each pass over a body starts at its first byte, so a retry sends exactly the same bytes.
If a file has changed between two passes, an error is raised, so two versions are never
mixed.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import IO, Protocol

from attrs import define, frozen

from ..compat import SpecialFileError, open_regular, read_at, write_at
from ..errors import ConfigurationError, SourceChangedError

BLOCK = 256 * 1024
# bytes of the largest body, of a request or a reply, that the loop sends
SMALL = 256 * 1024
SLICE = 1024 * 1024  # bytes in memory that are hashed and sent at once
_JOIN = 2 * SLICE  # bytes of small pieces that are joined without the interpreter lock
_READ = 512 * 1024  # bytes of one read of a file, as many as libcurl asks for


class Body(Protocol):
    """Protocol of a request body with a known number of bytes."""

    @property
    def size(self) -> int: ...

    def blocks(self) -> Iterator[memoryview]:
        """Yield all bytes in blocks; each block is valid until the next one is read.

        Raises SourceChangedError if the source has changed.
        """
        ...


class Source(Body, Protocol):
    """Protocol of a body that can be split into parts."""

    def part(self, offset: int, size: int) -> Body:
        """Return the *size* bytes at *offset* as a separate body, without copying."""
        ...

    def check(self) -> None:
        """Raise SourceChangedError if the source changed after this body was created."""
        ...


class MemoryBody:
    """Body in any contiguous buffer, which the caller must not change during the upload."""

    __slots__ = ("__weakref__", "size", "view")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(data).cast("B")  # a view avoids a copy
        self.size = len(self.view)

    def blocks(self) -> Iterator[memoryview]:
        if self.size <= SLICE:
            return iter((self.view,) if self.size else ())
        starts = range(0, self.size, SLICE)
        return (self.view[start : start + SLICE] for start in starts)

    def part(self, offset: int, size: int) -> MemoryBody:
        return MemoryBody(self.view[offset : offset + size])

    def check(self) -> None:
        """Do nothing, because the caller must not change the bytes."""


EMPTY = MemoryBody(b"")


def bytes_in(body: Body) -> bytes:
    """Return all bytes of *body*, from one pass over it."""
    if type(body) is MemoryBody:
        return bytes(body.view)
    whole = bytearray()
    for block in body.blocks():
        whole += block
    return bytes(whole)


@define(eq=False)
class PartBody:
    """One part of a stream, held in memory as several pieces."""

    pieces: tuple[memoryview | bytes, ...]
    size: int
    # Function that is called once, when the memory of the pieces is no longer needed.
    given_back: Callable[[], object] | None = None

    def blocks(self) -> Iterator[memoryview]:
        """Yield all bytes; large pieces are sliced, and small pieces joined."""
        # A part may have thousands of pieces, so no Python code here runs for each
        # small one.
        sizes = [*map(len, self.pieces)]
        ends = [0, *accumulate(sizes)]
        first = 0
        while first < len(sizes):
            stop = max(first + 1, bisect_right(ends, ends[first] + _JOIN) - 1)
            if max(sizes[first:stop]) >= BLOCK:
                is_large = [size >= BLOCK for size in sizes[first:stop]]
                stop = first + max(1, is_large.index(True))
            if stop - first > 1:
                view = memoryview(b"".join(self.pieces[first:stop]))
                yield view
                view.release()  # otherwise the next part needs new memory pages
            else:
                view = memoryview(self.pieces[first])
                for start in range(0, sizes[first], SLICE):
                    yield view[start : start + SLICE]
            first = stop

    def release(self) -> None:
        """Release the memory; idempotent. The body must not be read after this call."""
        given_back, self.given_back = self.given_back, None
        if given_back is not None:
            given_back()


@frozen
class Fingerprint:
    """Identity of a file's content: device, inode, size, and times in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime_ns: int  # a program can reset mtime after an edit, but not ctime
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        times = status.st_mtime_ns, status.st_ctime_ns
        return cls(status.st_dev, status.st_ino, status.st_size, *times)

    def fits(self, status: os.stat_result) -> bool:
        # Replacing or removing the file changes only ctime.
        is_same = not status.st_nlink or status.st_ctime_ns == self.ctime_ns
        return (
            is_same
            and status.st_mtime_ns == self.mtime_ns
            and status.st_size == self.size
            and status.st_ino == self.inode
            and status.st_dev == self.device
        )


def has_its_size(path: str, status: os.stat_result) -> bool:
    """Return whether the content of a regular file is as long as its stat states.

    False for files in /proc. Only a small file without disk blocks is read for this
    check. A large file without disk blocks is sparse, so its size is right.
    """
    # File systems without sparse files also report no blocks.
    if getattr(status, "st_blocks", 1) or status.st_size > BLOCK:
        return True
    with io.FileIO(path, opener=open_regular) as handle:
        return len(handle.read(status.st_size + 1)) == status.st_size


@frozen(eq=False)
class FileBody:
    """A range of a regular file, which is opened and read in blocks for each pass.

    The last block is sent only after a check that the file has not changed. A server that
    receives fewer bytes than announced stores nothing.
    """

    path: str
    offset: int
    size: int
    fingerprint: Fingerprint

    @classmethod
    def of(cls, path: str, status: os.stat_result | None = None) -> FileBody:
        """Return a body of the whole file *path*; *status* is its current stat result.

        Without *status*, the size that stat states is checked, too. With *status*, a
        small file is not opened yet, so if it is unreadable, the error is raised when
        the body is sent.

        Raises:
            FileNotFoundError, PermissionError: the file cannot be read.
            IsADirectoryError: *path* is a directory.
            ConfigurationError: *path* is not a regular file, or does not have the size
                of its stat.
        """
        current = status or os.stat(path)
        is_regular = stat.S_ISREG(current.st_mode)
        try:
            if status is None and is_regular and not has_its_size(path, current):
                msg = "its content differs from its stated size: put_file sends it as a stream"
                raise ConfigurationError(msg, path=path)
            if status is None or current.st_size > BLOCK or not is_regular:
                with io.FileIO(path, opener=open_regular) as handle:
                    current = os.fstat(handle.fileno())
        except SpecialFileError:
            msg = "not a regular file: open it and write to fs.open(..., 'wb')"
            raise ConfigurationError(msg, path=path) from None
        return cls(path, 0, current.st_size, Fingerprint.of(current))

    def blocks(self) -> Iterator[memoryview]:
        left, block = self.size, b""
        with self._opened() as handle:
            self._check(os.fstat(handle.fileno()))
            if self.offset:
                handle.seek(self.offset)
            while left:
                block = handle.read(min(_READ, left))
                if not block:
                    raise self._changed()
                left -= len(block)
                if left:
                    yield memoryview(block)
            self._check(os.fstat(handle.fileno()))
        # The file is closed, because a block that waits to be sent needs no descriptor.
        if block:
            yield memoryview(block)

    def part(self, offset: int, size: int) -> FileBody:
        return FileBody(self.path, self.offset + offset, size, self.fingerprint)

    def check(self) -> None:
        with self._opened() as handle:
            self._check(os.fstat(handle.fileno()))

    def _opened(self) -> io.FileIO:
        try:
            return io.FileIO(self.path, opener=open_regular)
        except SpecialFileError:  # the file was replaced, for example by a pipe
            raise self._changed() from None

    def _check(self, status: os.stat_result) -> None:
        if not self.fingerprint.fits(status):
            raise self._changed()

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(
            "the file changed while it was uploaded; nothing was published: "
            "upload it again when no program writes to it",
            path=self.path,
        )


def loaded(body: Body) -> MemoryBody:
    """Return the bytes of *body* in memory, from one pass over it."""
    return MemoryBody(bytes_in(body))


@frozen(eq=False)
class _SpooledPart:
    """Range of an unnamed temporary file that several parts share."""

    file: IO[bytes]
    offset: int
    size: int

    def blocks(self) -> Iterator[memoryview]:
        at, end = self.offset, self.offset + self.size
        while block := read_at(self.file.fileno(), min(BLOCK, end - at), at):
            at += len(block)
            yield memoryview(block)

    def part(self, offset: int, size: int) -> _SpooledPart:
        return _SpooledPart(self.file, self.offset + offset, size)

    def check(self) -> None:
        """Do nothing, because no other process can open the file."""


class SpooledBody:
    """Body in a new temporary file in ``TMPDIR``. Thread-safe."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `close` closes the file
        self._lock = threading.Lock()
        self.size = 0

    def append(self, body: Body) -> _SpooledPart:
        """Append the bytes of *body*, and return them as a separate body.

        A full disk raises OSError; bytes appended before are kept.
        """
        with self._lock:
            end = self.size
            for block in body.blocks():
                write_at(self._file.fileno(), block, end)
                end += len(block)
            part = _SpooledPart(self._file, self.size, body.size)
            self.size += body.size
        return part

    def blocks(self) -> Iterator[memoryview]:
        return _SpooledPart(self._file, 0, self.size).blocks()

    def close(self) -> None:
        """Close the file, which deletes it; waits for a running ``append``."""
        with self._lock:
            self._file.close()

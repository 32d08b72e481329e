"""Bodies of objects: segments in memory or in files, written once, never changed."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Self

from attrs import define, frozen

from ...http.body import combine, crc64
from ...units import MIB

CHUNK = MIB


@define(eq=False)
class Segment:
    """Bytes that do not change: held in memory, or in a file that dies with it."""

    size: int
    memory: bytes = b""
    path: Path | None = None

    @property
    def name(self) -> str:
        """The name of its file; empty if it has none."""
        return "" if self.path is None else self.path.name

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``start:stop``; both lie within the segment."""
        if self.path is None:
            return self.memory[start:stop]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@frozen(kw_only=True)
class Piece:
    """A whole body as it came in: its segment and what was computed on the way."""

    segment: Segment
    size: int
    md5: str
    crc64: int

    @property
    def etag(self) -> str:
        """The MD5 in upper case, without quotes."""
        return self.md5.upper()


@frozen
class Body:
    """The bytes of an object: one segment, or those of its parts in order."""

    segments: tuple[Segment, ...] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(segment.size for segment in self.segments)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes ``start:stop`` in pieces of at most 1 MiB."""
        offset = 0
        for segment in self.segments:
            first = max(start - offset, 0)
            last = min(stop - offset, segment.size)
            for at in range(first, last, CHUNK):
                yield segment.read(at, min(at + CHUNK, last))
            offset += segment.size

    def read(self) -> bytes:
        """Return all bytes."""
        return b"".join(self.chunks(0, self.size))


class Spool:
    """Takes a body in while computing MD5 and CRC-64; beyond *limit* it goes to a file.

    Used as a context manager: a body that was not finished leaves nothing behind.
    """

    def __init__(self, folder: Folder, limit: int) -> None:
        """Start an empty body; a *limit* below zero means a file from the start."""
        self._folder = folder
        self._limit = limit
        self._memory = bytearray()
        self._file: tuple[Path, IO[bytes]] | None = None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = 0
        self.size = 0

    def __enter__(self) -> Self:
        """Return itself."""
        if self._limit < 0:
            self._spill()
        return self

    def __exit__(self, *_: object) -> None:
        """Throw away what was not finished."""
        if self._file is not None:
            path, file = self._file
            file.close()
            path.unlink()

    def write(self, data: bytes | bytearray) -> None:
        """Take *data* in; it may be called from a thread, one at a time."""
        self._md5.update(data)
        self._crc = crc64(data, self._crc)
        self.size += len(data)
        if self._file is None and self.size > self._limit:
            self._spill()
        if self._file is None:
            self._memory += data
        else:
            self._file[1].write(data)

    def finish(self) -> Piece:
        """Return what was taken in; nothing may be written after it."""
        if self._file is None:
            segment = Segment(self.size, bytes(self._memory))
        else:
            path, file = self._file
            file.close()
            segment = self._folder.segment(path, self.size)
            self._file = None
        return Piece(
            segment=segment,
            size=self.size,
            md5=self._md5.hexdigest(),
            crc64=self._crc,
        )

    def _spill(self) -> None:
        path = self._folder.new_path()
        file = path.open("wb")
        self._file = path, file
        file.write(self._memory)
        self._memory = bytearray()


class Folder:
    """The directory of body files; a file goes when its last reader lets go of it."""

    def __init__(self, path: Path | None = None) -> None:
        """Use *path*, whose files stay; None makes a temporary one when needed."""
        self._path = path
        self._open = [True]
        self._sweeper: weakref.finalize[[str], Folder] | None = None

    @property
    def path(self) -> Path:
        """The directory."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="osspresigned-emulator-"))
            self._sweeper = weakref.finalize(self, shutil.rmtree, str(self._path))
        return self._path

    def new_path(self) -> Path:
        """Return a name for a new file."""
        return self.path / uuid.uuid4().hex

    def segment(self, path: Path, size: int) -> Segment:
        """Return the file as a segment, deleted when nothing refers to it any more."""
        segment = Segment(size, path=path)
        finalizer = weakref.finalize(segment, _remove, path, self._open)
        # What a disk store still refers to at exit must stay.
        finalizer.atexit = False
        return segment

    def sweep(self, wanted: Iterable[str]) -> None:
        """Delete the files that nobody refers to: a crash left them."""
        names = set(wanted)
        for path in self.path.iterdir():
            if path.name not in names:
                path.unlink()

    def close(self) -> None:
        """Stop deleting; a temporary directory goes as a whole."""
        self._open[0] = False
        if self._sweeper is not None:
            self._sweeper()


def _remove(path: Path, is_open: list[bool]) -> None:
    if is_open[0]:
        path.unlink(missing_ok=True)


def combined(pieces: Iterable[tuple[int, int]]) -> int:
    """Return the CRC-64 of a whole from ``(CRC-64, size)`` of its parts in order."""
    total = 0
    for crc, size in pieces:
        total = combine(total, crc, size)
    return total

"""Bodies of stored objects: immutable segments in memory or in files."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Self

from attrs import define, frozen

from ...http.checksums import crc64
from ...units import MIB

CHUNK = MIB


@define(eq=False)
class Segment:
    """Immutable bytes: in memory, or in a file that is deleted with the last reference."""

    size: int
    memory: bytes = b""
    path: Path | None = None

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes ``start:stop``, which must be within the segment."""
        if self.path is None:
            return self.memory[start:stop]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@frozen
class Piece:
    """Received body with its hexadecimal MD5.

    *number* and *modified* are set only for a part of a multipart upload.
    """

    body: Segment
    md5: str
    crc64: int
    number: int = 0
    modified: float = 0.0

    @property
    def size(self) -> int:
        """Size of the body in bytes."""
        return self.body.size

    @property
    def etag(self) -> str:
        """The ETag of the body: its MD5 in upper case, without quotes."""
        return self.md5.upper()


class Spool:
    """Receives a body while computing MD5 and CRC-64.

    Leaving the ``with`` block discards an unfinished body. A body of more than *limit*
    bytes is written to a file in *folder*; with a negative limit, every body is.
    """

    def __init__(self, folder: Folder, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = 0
        self._size = 0

    def __enter__(self) -> Self:
        if self._limit < 0:
            self._spill()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink()

    def write(self, data: bytes | bytearray) -> None:
        """Append *data*; may be called by several threads, one at a time."""
        self._md5.update(data)
        self._crc = crc64(data, self._crc)
        self._size += len(data)
        if self._file is None and self._size > self._limit:
            self._spill()
        if self._file is None:
            self._memory += data
        else:
            self._file.write(data)

    def finish(self) -> Piece:
        """Return the received body; do not write after this call."""
        if self._file is None:
            segment = Segment(self._size, bytes(self._memory))
        else:
            self._file.close()
            segment = self._folder.segment(Path(self._file.name), self._size)
            self._file = None
        return Piece(segment, self._md5.hexdigest(), self._crc)

    def _spill(self) -> None:
        self._file = (self._folder.path / uuid.uuid4().hex).open("wb")
        self._file.write(self._memory)
        self._memory = bytearray()


class Folder:
    """Directory of body files; a file is deleted when its last reader releases it.

    The files in *path* are kept at the end; None creates a temporary directory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._is_open = True
        self._sweep_all: Callable[[], object] = lambda: None
        if path is None:
            path = Path(tempfile.mkdtemp(prefix="osspresigned-emulator-"))
            self._sweep_all = weakref.finalize(self, shutil.rmtree, str(path))
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def segment(self, path: Path, size: int) -> Segment:
        """Return the file *path* as a segment.

        The file is deleted when the last reference to the segment is gone.
        """
        segment = Segment(size, path=path)
        # Not at exit: a disk store still refers to its files then.
        weakref.finalize(segment, self._remove, path).atexit = False
        return segment

    def _remove(self, path: Path) -> None:
        if self._is_open:
            path.unlink(missing_ok=True)

    def sweep(self, wanted: Iterable[str]) -> None:
        """Delete all files except *wanted*; a crash may have left others."""
        for name in {path.name for path in self.path.iterdir()}.difference(wanted):
            (self.path / name).unlink()

    def close(self) -> None:
        """Delete the folder as a whole if it is temporary; single files no longer."""
        self._is_open = False
        self._sweep_all()

"""The bytes that are sent: made once in a directory, and warm in the page cache."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from fastcrc import crc64

from .candidates import POOL
from .work import MANY, MIB, Work

_STEP = 16 * MIB
_UNSENT = ("sign", "import", "get", "ranges", "heads", "record", "recall")


class Data:
    """Makes what works need, and says what must arrive."""

    def __init__(self, directory: Path) -> None:
        """Use *directory*, which may hold what an earlier run made."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._proofs: dict[tuple[object, ...], set[int]] = {}

    def source(self, work: Work) -> str:
        """Return the directory of the files that *work* sends; made if need be."""
        if work.verb in _UNSENT:
            return ""
        count = work.count if work.verb in MANY else 1
        kind = "hole" if work.sparse else "random"
        place = self.directory / f"{kind}-{count}x{work.size}"
        whole = self.directory / f"{place.name}.whole"
        if not whole.exists():
            place.mkdir(exist_ok=True)
            for index in range(count):
                _make(place / f"{index:06d}.bin", work.size, sparse=work.sparse)
            whole.touch()
        return str(place)

    def warm(self, work: Work) -> None:
        """Read the one large file of *work*, so that no disk is measured."""
        source = self.source(work)
        if source and work.verb not in MANY and not work.sparse:
            with open(f"{source}/000000.bin", "rb", buffering=0) as file:
                while file.read(_STEP):
                    pass

    def proofs(self, work: Work) -> set[int]:
        """Return what the CRC-64s of all bodies may be, XORed: in parts, or whole."""
        key = (
            work.verb,
            work.size,
            work.count,
            work.part_size,
            work.sparse,
        )
        if key not in self._proofs:
            self._proofs[key] = _proofs(work, self.source(work))
        return self._proofs[key]


def _make(path: Path, size: int, *, sparse: bool) -> None:
    with path.open("wb") as file:
        if sparse:
            file.truncate(size)
            return
        for at in range(0, size, _STEP):
            file.write(os.urandom(min(_STEP, size - at)))


def _proofs(work: Work, source: str) -> set[int]:
    if work.verb in MANY:
        whole = parted = 0
        for name in os.listdir(source):
            data = memoryview(Path(source, name).read_bytes())
            whole ^= crc64.xz(data)
            for at in range(0, len(data), work.part_size):
                parted ^= crc64.xz(data[at : at + work.part_size])
        return {whole, parted}
    with (
        open(f"{source}/000000.bin", "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        length = min(POOL, work.size) if work.verb == "stream" else work.size
        found = 0
        for start in range(0, work.size, work.part_size):
            stop = min(start + work.part_size, work.size)
            found ^= _crc(view, length, start, stop)
        return {found, _crc(view, length, 0, work.size)}


def _crc(view: memoryview, length: int, start: int, stop: int) -> int:
    """Return the CRC-64 of a stretch of the first *length* bytes, repeated."""
    crc = 0
    while start < stop:
        at = start % length
        step = min(stop - start, length - at)
        with view[at : at + step] as piece:
            crc = crc64.xz(piece, crc)
        start += step
    return crc

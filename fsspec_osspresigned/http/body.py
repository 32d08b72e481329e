"""Request bodies that can be read again, and their checksums: CRC-64 and MD5.

Each pass over a body starts at its first byte, so a retried request sends exactly the
same bytes; a file that changed in between is an error, never a mixed object.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache
from typing import IO, Protocol

from attrs import frozen
from fastcrc import crc64 as _fastcrc

from ..errors import ConfigurationError, IntegrityError, SourceChangedError

BLOCK = 256 * 1024
SLICE = 1024 * 1024  # bytes in memory that are summed up and sent at once
_JOIN = 512 * 1024  # bytes of small pieces that are joined: they fit into a cache
_READ = 512 * 1024  # bytes of one read of a file; measured in docs/profiles.md

CRC_HEADER = "x-oss-hash-crc64ecma"
MODES = ("auto", "crc64", "md5", "none")

_POLYNOMIAL = 0xC96C5795D7870F42  # CRC-64/XZ (ECMA-182), reflected
_ONE = 1 << 63  # x^0: in a reflected CRC the highest bit is the lowest power
_PLAIN_MD5 = re.compile(r'"?([0-9A-Fa-f]{32})"?')


class Body(Protocol):
    """A source of a known number of bytes."""

    @property
    def size(self) -> int:
        """Bytes of one pass."""
        ...

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes from the start; a block is valid until the next is asked for.

        Raises:
            SourceChangedError: the source is not what it was.
        """
        ...


class Source(Body, Protocol):
    """A body that can be sent in parts."""

    def part(self, offset: int, size: int) -> Body:
        """Return the *size* bytes at *offset* as a body of its own, without copying."""
        ...

    def check(self) -> None:
        """Raise SourceChangedError unless the source is what it was at the start."""
        ...


@frozen(eq=False)
class MemoryBody:
    """Bytes that the caller keeps unchanged until the upload ends."""

    view: memoryview

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> MemoryBody:
        """Wrap any contiguous buffer without copying."""
        return cls(memoryview(data).cast("B"))

    @property
    def size(self) -> int:
        """Bytes of the buffer."""
        return self.view.nbytes

    def blocks(self) -> Iterator[memoryview]:
        """Yield slices of the buffer."""
        for start in range(0, self.view.nbytes, SLICE):
            yield self.view[start : start + SLICE]

    def part(self, offset: int, size: int) -> MemoryBody:
        """Return a slice."""
        return MemoryBody(self.view[offset : offset + size])

    def check(self) -> None:
        """Trust the caller, who keeps the buffer unchanged."""


EMPTY = MemoryBody(memoryview(b""))


@frozen(eq=False)
class PartBody:
    """One part of a stream, in pieces.

    Attributes:
        given_back: takes the buffer under the pieces back, for another part.
        lease: what the pieces count for as long as they live.
    """

    pieces: tuple[memoryview | bytes, ...]
    size: int
    given_back: Callable[[], object] | None = None
    lease: object = None

    def blocks(self) -> Iterator[memoryview]:
        """Yield slices of large pieces; small ones are joined, a slice at a time."""
        small: list[memoryview | bytes] = []
        size = 0
        for piece in self.pieces:
            if len(piece) >= BLOCK:
                yield from _joined(small)
                small, size = [], 0
                yield from MemoryBody(memoryview(piece)).blocks()
                continue
            small.append(piece)
            size += len(piece)
            if size >= _JOIN:
                yield from _joined(small)
                small, size = [], 0
        yield from _joined(small)

    def release(self) -> None:
        """Give the buffer back; nobody may read the body any more."""
        if self.given_back is not None:
            self.given_back()


def _joined(pieces: list[memoryview | bytes]) -> Iterator[memoryview]:
    if len(pieces) == 1:
        yield memoryview(pieces[0])
    elif pieces:
        yield memoryview(b"".join(pieces))


@frozen
class Fingerprint:
    """What tells that a file is still the same: device, inode, bytes, mtime in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        """Take it from a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@frozen(eq=False)
class FileBody:
    """A stretch of a regular file, read through one small buffer a pass.

    The last block is held back until the file was looked at again: a server that gets
    fewer bytes than announced stores nothing.
    """

    path: str
    offset: int
    size: int
    fingerprint: Fingerprint

    @classmethod
    def of(cls, path: str, status: os.stat_result | None = None) -> FileBody:
        """Take the whole file as it is now; *status* is what a look just found.

        Raises:
            FileNotFoundError, PermissionError: it cannot be read. Of a small file that
                was found to be one, the request that sends it tells.
            IsADirectoryError: it is a directory.
            ConfigurationError: it is no regular file, so it has no size to announce.
        """
        found = status or os.stat(path)
        mode = found.st_mode
        if status is not None and stat.S_ISREG(mode) and found.st_size <= BLOCK:
            return cls(path, 0, found.st_size, Fingerprint.of(found))
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            # Found out before it is opened, which waits for the writer of a pipe.
            msg = "not a regular file: open it and write to fs.open(..., 'wb')"
            raise ConfigurationError(msg, path=path)
        with open(path, "rb", buffering=0) as handle:
            status = os.fstat(handle.fileno())
        return cls(path, 0, status.st_size, Fingerprint.of(status))

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes, reusing one buffer."""
        buffer = memoryview(bytearray(min(_READ, self.size)))
        left = self.size
        with io.FileIO(self.path) as handle:  # "open" takes twice as long
            self._check(handle.fileno())
            if self.offset:
                handle.seek(self.offset)
            while left:
                got = handle.readinto(buffer[:left])
                if not got:
                    raise self._changed()
                left -= got
                if not left:
                    self._check(handle.fileno())
                yield buffer[:got]

    def part(self, offset: int, size: int) -> FileBody:
        """Return a stretch of this stretch."""
        start = self.offset + offset
        return FileBody(self.path, start, size, self.fingerprint)

    def check(self) -> None:
        """Raise SourceChangedError unless the file is what it was at the start."""
        with open(self.path, "rb", buffering=0) as handle:
            self._check(handle.fileno())

    def _check(self, descriptor: int) -> None:
        if Fingerprint.of(os.fstat(descriptor)) != self.fingerprint:
            raise self._changed()

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(
            "the file changed while it was uploaded; nothing was published: "
            "upload it again when nobody writes to it",
            path=self.path,
        )


@frozen(eq=False)
class _SpooledPart:
    """Bytes in a file without a name, which other parts share."""

    file: IO[bytes]
    offset: int
    size: int

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes."""
        at, end = self.offset, self.offset + self.size
        while block := os.pread(self.file.fileno(), min(BLOCK, end - at), at):
            at += len(block)
            yield memoryview(block)

    def part(self, offset: int, size: int) -> _SpooledPart:
        """Return a stretch of this stretch."""
        return _SpooledPart(self.file, self.offset + offset, size)

    def check(self) -> None:
        """Return at once: no other process can open the file."""


class SpooledBody:
    """Bytes in *file*, None for an unnamed one in ``TMPDIR``; safe for many threads."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see close
        self._lock = threading.Lock()
        self.size = 0

    def append(self, body: Body) -> _SpooledPart:
        """Append the bytes of *body*, and return them as a body of their own.

        Raises:
            OSError: the disk is full; what was appended before is kept.
        """
        with self._lock:
            self._file.seek(self.size)
            for block in body.blocks():
                left = block
                while left:
                    left = left[self._file.write(left) :]
            part = _SpooledPart(self._file, self.size, body.size)
            self.size += body.size
        return part

    def blocks(self) -> Iterator[memoryview]:
        """Yield all bytes."""
        return _SpooledPart(self._file, 0, self.size).blocks()

    def close(self) -> None:
        """Delete the file."""
        self._file.close()


def md5_of(body: Body) -> str:
    """Return the hexadecimal MD5 of one pass over *body* (for a plain ETag)."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in body.blocks():
        digest.update(block)
    return digest.hexdigest()


def crc64(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Return the CRC-64/XZ of *data*, going on from *start* (0 for a new one)."""
    return _fastcrc.xz(data, start)


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials over GF(2) modulo the CRC polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFFFFFFFFFF
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@cache
def _power(k: int) -> int:
    """Return x^(2^k)."""
    return _ONE >> 1 if k == 0 else _multiply(_power(k - 1), _power(k - 1))


@lru_cache(maxsize=64)
def _shift(length: int) -> int:
    """Return x^(8 * length): what *length* following bytes do to a CRC."""
    power, k, result = length, 3, _ONE
    while power:
        if power & 1:
            result = _multiply(_power(k), result)
        power >>= 1
        k += 1
    return result


def combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC of A + B from crc(A), crc(B) and the bytes of B."""
    return _multiply(_shift(second_length), first) ^ second


def compare(
    headers: Mapping[str, str],
    *,
    crc: int | None,
    md5: Callable[[], str],
    mode: str,
    what: str,
    path: str,
) -> str:
    """Compare what the store says with what was sent; return what was compared.

    That is ``crc64``, ``md5`` (hexadecimal, computed only if needed) or ``none``. The
    mode ``auto`` takes *crc* where both sides have it, else MD5 against a plain ETag;
    ``crc64`` and ``md5`` insist; ``none`` compares nothing.

    Raises:
        IntegrityError: they differ, or what *mode* insists on did not come.
    """
    stated = headers.get(CRC_HEADER)
    if mode in ("auto", "crc64") and stated is not None and crc is not None:
        if stated != str(crc):
            msg = f"{what}: the store has CRC-64 {stated[:24]}, {crc} was sent"
            raise IntegrityError(msg, path=path)
        return "crc64"
    if mode == "crc64":
        msg = f"{what}: the store reported no {CRC_HEADER}; checksum='auto' takes MD5"
        raise IntegrityError(msg, path=path, differs=False)
    plain = _PLAIN_MD5.fullmatch(headers.get("etag", ""))
    if mode in ("auto", "md5") and plain and not _encrypted_by_key(headers):
        if plain[1].lower() != (ours := md5()):
            msg = f"{what}: the store has MD5 {plain[1].lower()}, {ours} was sent"
            raise IntegrityError(msg, path=path)
        return "md5"
    if mode == "md5":
        msg = f"{what}: the ETag of the reply is no MD5; checksum='auto' accepts that"
        raise IntegrityError(msg, path=path, differs=False)
    return "none"


def _encrypted_by_key(headers: Mapping[str, str]) -> bool:
    """Return whether the ETag need not be an MD5: not promised under KMS and SM4."""
    names = ("x-oss-server-side-encryption", "x-amz-server-side-encryption")
    return any(headers.get(n, "AES256") != "AES256" for n in names)

"""The journal of one multipart upload: a file that outlives the process that writes it.

JSON lines, each with a checksum of its own. The first says which upload of which file
it is and appears by a rename, so it is there as a whole or not at all. Every other line
is one part, appended after the store has confirmed it. A line that is torn or damaged
counts as never written: then that part is sent again. There is no URL, no signature and
no header in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import asdict, field, frozen
from attrs.validators import and_, ge, in_, instance_of, le

from ..http.body import MODES, Fingerprint, crc64
from ..model import MAX_PARTS, PartReceipt

VERSION = 1
_LIMIT = 32 * 1024 * 1024  # 10,000 parts, each sent a dozen times, are 16 MiB
_PART = ("part_number", "size", "etag", "crc64", "verified")
_LINE = re.compile(rb'(\{.+),"check":"([0-9a-f]{16})"\}')


def _int_from(least: int, most: int = 2**64 - 1) -> Any:
    return field(validator=and_(instance_of(int), ge(least), le(most)))


def _text() -> Any:
    return field(validator=instance_of(str))


@frozen(kw_only=True)
class Head:
    """Which upload of which file a journal is about.

    Attributes:
        path: ``bucket/key``.
        source: absolute path of the local file.
        fingerprint: of the local file when the upload began.
        part_size: bytes of every part but the last.
        parts: how many parts there are.
        demands: SHA-256 of the demanded headers.
        upload_id: the multipart upload.
        owners: its owner began it, so it is not ours to abort.
        created: seconds since the epoch.
        version: of this format.
    """

    path: str = _text()
    source: str = _text()
    fingerprint: Fingerprint = field(validator=instance_of(Fingerprint))
    part_size: int = _int_from(1)
    parts: int = _int_from(1, MAX_PARTS)
    demands: str = _text()
    upload_id: str = _text()
    owners: bool = field(validator=instance_of(bool))
    created: float = field(validator=instance_of(float))
    version: int = field(default=VERSION, validator=in_((VERSION,)))

    @property
    def size(self) -> int:
        """Bytes of the local file."""
        return self.fingerprint.size

    def size_of(self, number: int) -> int:
        """Return the bytes of part *number*, counted from 1."""
        start = (number - 1) * self.part_size
        return min(self.part_size, self.size - start)


@frozen
class Kept:
    """One stored part, and what proved it: ``crc64``, ``md5`` or ``none``."""

    part: PartReceipt
    verified: str


@frozen
class Record:
    """What a journal says: its head, and the parts by number."""

    head: Head
    parts: Mapping[int, Kept]


def line_of(members: Mapping[str, Any]) -> bytes:
    """Return one line of a journal, its checksum and its end included."""
    text = json.dumps(members, separators=(",", ":")).encode()
    return text[:-1] + b',"check":"%016x"}\n' % crc64(text)


def head_line(head: Head) -> bytes:
    """Return the first line of a journal."""
    return line_of(asdict(head))


def part_line(kept: Kept) -> bytes:
    """Return the line of one stored part."""
    return line_of({**asdict(kept.part), "verified": kept.verified})


def parse(data: bytes) -> Record | None:
    """Return what the bytes of a journal say; None if its head cannot be read.

    Of a part that was sent twice the last line counts, as in the store.
    """
    first, *others = data.split(b"\n")
    head = _head(first)
    if head is None:
        return None
    parts: dict[int, Kept] = {}
    for line in others:
        kept = _part(line, head)
        if kept is not None:
            parts[kept.part.part_number] = kept
    return Record(head, MappingProxyType(parts))


def _members(line: bytes) -> dict[str, Any] | None:
    """Return the members of a line whose checksum is right."""
    found = _LINE.fullmatch(line)
    if found is None or int(found[2], 16) != crc64(found[1] + b"}"):
        return None
    try:
        members = json.loads(found[1] + b"}")
    except ValueError:
        return None
    return members if isinstance(members, dict) else None


def _head(line: bytes) -> Head | None:
    members = _members(line)
    try:
        fingerprint = Fingerprint(**(members or {}).pop("fingerprint"))
        return Head(fingerprint=fingerprint, **(members or {}))
    except (KeyError, TypeError, ValueError):
        return None


def _part(line: bytes, head: Head) -> Kept | None:
    members = _members(line) or {}
    number, size, etag, crc, verified = (members.get(name) for name in _PART)
    if type(number) is not int or not 1 <= number <= head.parts:
        return None
    if size != head.size_of(number) or not isinstance(crc, int):
        return None
    if not isinstance(etag, str) or verified not in MODES:
        return None
    part = PartReceipt(part_number=number, size=size, etag=etag, crc64=crc)
    return Kept(part, verified)


def read(place: str) -> bytes | None:
    """Return the bytes of the journal at *place*; None if there is none.

    Raises:
        OSError: it cannot be read, or is too large to be one.
    """
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        msg = "too large for a journal"
        raise OSError(msg)
    return data


class Journal:
    """The journal of the upload that this process does; safe for many threads.

    Every line is on the disk (``fsync``) before ``append`` returns: that is some
    tenths of a millisecond to some milliseconds, and sending a part takes longer. It
    costs nothing in correctness if a line is lost.
    """

    def __init__(self, place: str, descriptor: int, *, torn: bool) -> None:
        """Keep an open file; *torn* if its last line has no end."""
        self._place = place
        self._descriptor: int | None = descriptor
        self._torn = torn
        self._lock = threading.Lock()

    @classmethod
    def create(cls, place: str, head: Head) -> Journal:
        """Begin a journal, mode 0600; whatever was at *place* is replaced at once.

        Raises:
            OSError: it cannot be written; *place* is as it was.
        """
        new = f"{place}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # of a process that died right here
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        descriptor = os.open(new, flags, 0o600)
        try:
            _write(descriptor, head_line(head))
            os.fsync(descriptor)
            os.replace(new, place)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        _sync_directory(os.path.dirname(place))
        return cls(place, descriptor, torn=False)

    @classmethod
    def reopen(cls, place: str, data: bytes) -> Journal:
        """Go on with the journal that holds *data*.

        Raises:
            OSError: it cannot be written.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        return cls(place, os.open(place, flags), torn=not data.endswith(b"\n"))

    def append(self, kept: Kept) -> None:
        """Add one stored part.

        Raises:
            OSError: the disk would not take it; what was there before still counts.
        """
        line = part_line(kept)
        with self._lock:
            if self._descriptor is None:
                return
            if self._torn:
                line = b"\n" + line
            self._torn = True
            _write(self._descriptor, line)
            self._torn = False
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Leave the file to a later process; what is appended from now on is dropped."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_directory(directory: str) -> None:
    """Make a rename last; some file systems cannot, and need not be told."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

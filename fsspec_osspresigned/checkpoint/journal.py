"""Journal of a multipart upload: the format of a file that outlives the process.

The format is JSON lines, each with its own checksum. The first line names the upload
and the local file. Each further line is one part, appended after the store has
confirmed it. A truncated or damaged line counts as missing, and that part is sent
again. The file contains no URL, no signature and no header.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from attrs import asdict, field, frozen
from attrs.validators import and_, ge, in_, instance_of, le

from ..http.body import Fingerprint
from ..http.checksums import crc64
from ..model import CHECKSUMS, MAX_PARTS, PartReceipt
from ..system import NOFOLLOW, open_regular

VERSION = 2
_LIMIT = 32 * 1024 * 1024  # 10,000 parts, each sent a dozen times, are 16 MiB
_LINE = re.compile(rb'(\{.+),"check":"([0-9a-f]{16})"\}')


def _int_from(least: int, most: int = 2**64 - 1) -> Any:
    return field(validator=and_(instance_of(int), ge(least), le(most)))


def _text() -> Any:
    return field(validator=instance_of(str))


@frozen(kw_only=True)
class JournalHead:
    """First line of a journal: the upload and its local file.

    Attributes:
        source: absolute path of the local file.
        fingerprint: fingerprint of the local file when the upload began.
        demands: SHA-256 of the required headers.
        owners: whether the owner initiated the upload, so the client must not abort it.
        created: seconds since the epoch.
        host: host and port of the store where the upload was begun; empty if the
            owner began the upload, or if version 1 wrote the journal.
        version: version of this format.
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
    host: str = field(default="", validator=instance_of(str))
    version: int = field(default=VERSION, validator=in_((1, VERSION)))

    @property
    def size(self) -> int:
        """Size of the local file in bytes."""
        return self.fingerprint.size

    def size_of(self, number: int) -> int:
        """Return the size in bytes of part *number*, counted from 1."""
        start = (number - 1) * self.part_size
        return min(self.part_size, self.size - start)


@frozen
class JournalPart:
    """One stored part, and how it was verified: ``crc64``, ``md5`` or ``none``."""

    part: PartReceipt
    verified: str


@frozen
class JournalRecord:
    """Content of a journal: its first line, and the stored parts by part number."""

    head: JournalHead
    parts: Mapping[int, JournalPart]


def line_of(members: Mapping[str, Any]) -> bytes:
    """Return *members* as one line of a journal, with a checksum and a line feed."""
    text = json.dumps(members, separators=(",", ":")).encode()
    return text[:-1] + b',"check":"%016x"}\n' % crc64(text)


def head_line(head: JournalHead) -> bytes:
    """Return the first line of a journal as bytes."""
    return line_of(asdict(head))


def part_line(kept: JournalPart) -> bytes:
    """Return the journal line of one stored part as bytes."""
    return line_of({**asdict(kept.part), "verified": kept.verified})


def parse(data: bytes) -> JournalRecord | None:
    """Return the content of a journal; None if its first line cannot be read.

    If a part was sent twice, its last line wins, as the last upload wins in the store.
    """
    first, *others = data.split(b"\n")
    head = _head(first)
    if head is None:
        return None
    parts: dict[int, JournalPart] = {}
    for line in others:
        if (kept := _part(line, head)) is not None:
            parts[kept.part.part_number] = kept
    return JournalRecord(head, MappingProxyType(parts))


def _members(line: bytes) -> dict[str, Any]:
    """Return the JSON members of a journal line; empty if its checksum is wrong."""
    found = _LINE.fullmatch(line)
    if found is None or int(found[2], 16) != crc64(found[1] + b"}"):
        return {}
    try:
        members: dict[str, Any] = json.loads(found[1] + b"}")
    except ValueError:
        return {}
    return members


def _head(line: bytes) -> JournalHead | None:
    members = _members(line)
    try:
        fingerprint = Fingerprint(**members.pop("fingerprint"))
        return JournalHead(fingerprint=fingerprint, **members)
    except (KeyError, TypeError, ValueError):
        return None


def _part(line: bytes, head: JournalHead) -> JournalPart | None:
    members = _members(line)
    names = ("part_number", "size", "etag", "crc64", "verified")
    number, size, etag, crc, verified = map(members.get, names)
    if type(number) is not int or not 1 <= number <= head.parts:
        return None
    if size != head.size_of(number) or not isinstance(crc, int):
        return None
    if not isinstance(etag, str) or verified not in CHECKSUMS:
        return None
    part = PartReceipt(part_number=number, size=size, etag=etag, crc64=crc)
    return JournalPart(part, verified)


def read(place: str, limit: int = _LIMIT) -> bytes | None:
    """Return the bytes of a journal file; None if the file is missing.

    Raises:
        OSError: the file is not regular, cannot be read, or is larger than *limit* bytes.
    """
    try:
        descriptor = open_regular(place, os.O_RDONLY | NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError("too large for a journal")
    return data

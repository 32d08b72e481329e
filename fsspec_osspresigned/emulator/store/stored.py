"""Stored objects, parts, uploads and buckets."""

from __future__ import annotations

import bisect
import uuid
from collections.abc import Iterator, Mapping

from attrs import define, field, frozen

from .bodies import Piece, StoredBody


@frozen(kw_only=True, eq=False)
class StoredObject:
    """One object.

    Attributes:
        key: object key.
        etag: without quotes.
        crc64: CRC-64/XZ of the whole.
        md5: hexadecimal; None for a multipart or appendable object.
        headers: properties, names in lower case (Content-Type, metadata, storage class,
            ACL, tags ...).
        kind: ``Normal``, ``Multipart`` or ``Appendable``.
        modified: seconds since the epoch, the emulator's clock.
        version_id: in a versioned bucket; None otherwise.
        body: the bytes.
    """

    key: str
    etag: str
    crc64: int
    md5: str | None = None
    headers: Mapping[str, str] = field(factory=dict)
    kind: str = "Normal"
    modified: float = 0.0
    version_id: str | None = None
    body: StoredBody = field(factory=StoredBody, repr=False)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.body.size

    def data(self) -> bytes:
        """Return all of its bytes."""
        return self.body.read()


@frozen(kw_only=True, eq=False)
class StoredPart:
    """One part of an open upload."""

    number: int
    piece: Piece
    modified: float


@define(kw_only=True, eq=False)
class StoredUpload:
    """An open multipart upload; ``parts`` by number."""

    upload_id: str
    bucket: str
    key: str
    headers: Mapping[str, str]
    initiated: float
    sequential: bool = False
    parts: dict[int, StoredPart] = field(factory=dict)


@define(kw_only=True, eq=False)
class Bucket:
    """A bucket: objects by key, open uploads by ID."""

    name: str
    versioned: bool = False
    objects: dict[str, StoredObject] = field(factory=dict)
    uploads: dict[str, StoredUpload] = field(factory=dict)
    _sorted: list[str] | None = field(default=None, init=False)

    def keys(self) -> list[str]:
        """Return the keys in the byte order of their UTF-8; do not change the list."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted

    def set(self, stored: StoredObject) -> None:
        """Add or replace an object."""
        if self._sorted is not None and stored.key not in self.objects:
            bisect.insort(self._sorted, stored.key)
        self.objects[stored.key] = stored

    def drop(self, key: str) -> StoredObject | None:
        """Remove an object and return it; None if it was missing."""
        stored = self.objects.pop(key, None)
        if stored is not None and self._sorted is not None:
            del self._sorted[bisect.bisect_left(self._sorted, key)]
        return stored


@frozen(eq=False)
class Contents(Mapping[str, bytes]):
    """The objects of a bucket at one moment: key -> bytes, read at look-up."""

    objects: Mapping[str, StoredObject]

    def __getitem__(self, key: str) -> bytes:
        """Return the bytes of *key*."""
        return self.objects[key].data()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys in order."""
        return iter(sorted(self.objects))

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.objects)

    def __repr__(self) -> str:
        """Show the keys with their sizes."""
        sizes = {key: self.objects[key].size for key in self}
        return f"<Contents {sizes}>"


def new_upload_id() -> str:
    """Return 32 upper-case hexadecimal digits, as OSS does."""
    return uuid.uuid4().hex.upper()

"""What the emulator holds: buckets, objects and open multipart uploads."""

from __future__ import annotations

import bisect
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Protocol

from attrs import define, evolve, field, frozen

from ...units import MIB
from .bodies import Body, Folder, Piece, Spool

SPILL = 4 * MIB


@frozen(kw_only=True, eq=False)
class StoredObject:
    """One object as it stands.

    Attributes:
        key: its key.
        etag: without quotes.
        crc64: CRC-64/XZ of the whole.
        md5: hexadecimal; None for a multipart object.
        headers: what was given with it, names in lower case (Content-Type, metadata,
            storage class, ACL, tags ...).
        kind: ``Normal``, ``Multipart`` or ``Appendable``.
        modified: seconds since the epoch, the emulator's clock.
        version_id: in a versioned bucket; None otherwise.
        body: its bytes.
    """

    key: str
    etag: str
    crc64: int
    md5: str | None = None
    headers: Mapping[str, str] = field(factory=dict)
    kind: str = "Normal"
    modified: float = 0.0
    version_id: str | None = None
    body: Body = field(factory=Body, repr=False)

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

    @property
    def size(self) -> int:
        """Bytes."""
        return self.piece.size

    @property
    def etag(self) -> str:
        """Without quotes."""
        return self.piece.etag


@define(kw_only=True, eq=False)
class Upload:
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
    """A bucket: objects by key, open uploads by id."""

    name: str
    versioned: bool = False
    objects: dict[str, StoredObject] = field(factory=dict)
    uploads: dict[str, Upload] = field(factory=dict)
    _sorted: list[str] | None = field(default=None, init=False)

    def keys(self) -> list[str]:
        """Return the keys in the byte order of their UTF-8; not to be changed."""
        if self._sorted is None:
            self._sorted = sorted(self.objects)
        return self._sorted

    def set(self, stored: StoredObject) -> None:
        """Put *stored* in its place."""
        if self._sorted is not None and stored.key not in self.objects:
            bisect.insort(self._sorted, stored.key)
        self.objects[stored.key] = stored

    def drop(self, key: str) -> StoredObject | None:
        """Take *key* out; None if it was not there."""
        stored = self.objects.pop(key, None)
        if stored is not None and self._sorted is not None:
            del self._sorted[bisect.bisect_left(self._sorted, key)]
        return stored


class Journal(Protocol):
    """What is told of every change, so that a disk store can follow."""

    def put(self, bucket: str, stored: StoredObject) -> None:
        """An object stands."""

    def drop(self, bucket: str, key: str) -> None:
        """An object is gone."""

    def open(self, upload: Upload) -> None:
        """An upload was initiated."""

    def part(self, upload: Upload, part: StoredPart) -> None:
        """A part was stored."""

    def end(self, upload: Upload) -> None:
        """An upload was completed or aborted."""


class NoJournal:
    """The journal of a memory store: writes nothing."""

    def put(self, bucket: str, stored: StoredObject) -> None:
        """Write nothing."""

    def drop(self, bucket: str, key: str) -> None:
        """Write nothing."""

    def open(self, upload: Upload) -> None:
        """Write nothing."""

    def part(self, upload: Upload, part: StoredPart) -> None:
        """Write nothing."""

    def end(self, upload: Upload) -> None:
        """Write nothing."""


class ChangedError(Exception):
    """Another append came first; never leaves the emulator."""


class KeyTakenError(Exception):
    """An exclusive put found the key taken; never leaves the emulator."""


class UploadGoneError(Exception):
    """The upload was completed or aborted meanwhile; never leaves the emulator."""


class Store:
    """Buckets in memory; bodies beyond a few MiB in files. Safe between threads."""

    def __init__(
        self, folder: Folder, *, journal: Journal | None = None, spill: int = SPILL
    ) -> None:
        """Hold bodies above *spill* bytes in *folder*."""
        self.folder = folder
        self.buckets: dict[str, Bucket] = {}
        self._journal = journal or NoJournal()
        self._spill = spill
        self._lock = threading.RLock()

    def add_bucket(self, name: str, *, versioned: bool = False) -> Bucket:
        """Return bucket *name*, made if it does not exist."""
        bucket = self.buckets.setdefault(name, Bucket(name=name))
        bucket.versioned = versioned
        return bucket

    def spool(self) -> Spool:
        """Return an empty body to write into."""
        return Spool(self.folder, self._spill)

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return an object; None if it, or the bucket, does not exist."""
        found = self.buckets.get(bucket)
        return found.objects.get(key) if found else None

    def put(
        self, bucket: Bucket, stored: StoredObject, *, exclusive: bool
    ) -> StoredObject:
        """Put *stored* in its place at once and whole.

        Raises:
            KeyTakenError: *exclusive*, and the key exists in an unversioned bucket.
        """
        with self._lock:
            if bucket.versioned:
                stored = evolve(stored, version_id=_new_version())
            elif exclusive and stored.key in bucket.objects:
                raise KeyTakenError
            self._journal.put(bucket.name, stored)
            bucket.set(stored)
            return stored

    def replace(
        self, bucket: Bucket, stored: StoredObject, before: StoredObject | None
    ) -> StoredObject:
        """Put *stored* in the place of *before*; None stands for no object.

        Raises:
            ChangedError: something else is there by now.
        """
        with self._lock:
            if bucket.objects.get(stored.key) is not before:
                raise ChangedError
            return self.put(bucket, stored, exclusive=False)

    def drop(self, bucket: Bucket, key: str) -> StoredObject | None:
        """Delete an object; None if it did not exist."""
        with self._lock:
            stored = bucket.drop(key)
            if stored is not None:
                self._journal.drop(bucket.name, key)
            return stored

    def initiate(self, bucket: Bucket, upload: Upload) -> None:
        """Open *upload*."""
        with self._lock:
            self._journal.open(upload)
            bucket.uploads[upload.upload_id] = upload

    def add_part(self, bucket: Bucket, upload: Upload, part: StoredPart) -> None:
        """Store a part; an earlier one of its number is replaced.

        Raises:
            UploadGoneError: the upload is no longer open.
        """
        with self._lock:
            if bucket.uploads.get(upload.upload_id) is not upload:
                raise UploadGoneError
            self._journal.part(upload, part)
            upload.parts[part.number] = part

    def complete(
        self, bucket: Bucket, upload: Upload, stored: StoredObject, *, exclusive: bool
    ) -> StoredObject:
        """Put the finished object in its place and close the upload.

        Raises:
            KeyTakenError: as for :meth:`put`; the upload stays open.
        """
        with self._lock:
            stored = self.put(bucket, stored, exclusive=exclusive)
            self._end(bucket, upload)
            return stored

    def abort(self, bucket: Bucket, upload: Upload) -> None:
        """Close the upload and forget its parts."""
        with self._lock:
            self._end(bucket, upload)

    def close(self) -> None:
        """Let go of the files."""
        self.folder.close()

    def _end(self, bucket: Bucket, upload: Upload) -> None:
        del bucket.uploads[upload.upload_id]
        self._journal.end(upload)


@frozen(eq=False)
class Contents(Mapping[str, bytes]):
    """The objects of a bucket as they stood: key -> bytes, read when looked up."""

    objects: Mapping[str, StoredObject]

    def __getitem__(self, key: str) -> bytes:
        """Return the bytes of *key*."""
        return self.objects[key].data()

    def __iter__(self) -> Iterator[str]:
        """Go through the keys in order."""
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


def _new_version() -> str:
    return f"CAEQ{uuid.uuid4().hex}"

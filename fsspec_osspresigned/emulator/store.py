"""Store of the emulator: buckets, objects and multipart uploads.

Bodies of objects are immutable segments in memory. Large bodies are in temporary files.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Self

from attrs import define, evolve, field, frozen

from ..http.checksums import crc64
from ..units import MIB
from .messages import refused

CHUNK = MIB
_SPILL = 4 * MIB


@define(eq=False)
class Segment:
    """Immutable bytes: in memory, or in a file that is deleted with the last reference."""

    size: int
    memory: bytes = b""
    path: Path | None = None

    def read(self, start: int, stop: int) -> bytes:
        if self.path is None:
            return self.memory[start:stop]
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


@frozen
class Piece:
    """A received body. A part also has its number, and the time when it was stored."""

    body: Segment
    md5: str  # hexadecimal digits
    crc64: int
    number: int = 0
    modified: float = 0.0

    @property
    def size(self) -> int:
        return self.body.size

    @property
    def etag(self) -> str:
        """The ETag of the body: its MD5 in upper case, without quotes."""
        return self.md5.upper()


class Spool:
    """Receives a body, and discards it if the ``with`` block ends before ``finish``.

    A body of more than 4 MiB is written to a file in *folder*.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc = 0
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink()

    def write(self, data: bytes | bytearray) -> None:
        self._md5.update(data)
        self._crc = crc64(data, self._crc)
        self._size += len(data)
        if self._file is None and self._size > _SPILL:
            self._file = (self._folder / uuid.uuid4().hex).open("wb")
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += data
        else:
            self._file.write(data)

    def finish(self) -> Piece:
        segment = Segment(self._size, bytes(self._memory))
        if self._file is not None:
            self._file.close()
            segment.path = Path(self._file.name)
            weakref.finalize(segment, segment.path.unlink, missing_ok=True)
            self._file = None
        return Piece(segment, self._md5.hexdigest(), self._crc)


APPENDABLE = "Appendable"
DELETE_MARKER = "DeleteMarker"
NEXT_POSITION = "x-oss-next-append-position"
_MARKED = {"x-oss-delete-marker": "true"}


@frozen(kw_only=True, eq=False)
class StoredObject:
    """One object of the emulator.

    Attributes:
        etag: ETag without quotes.
        crc64: CRC-64/XZ of the whole object.
        md5: hexadecimal MD5; None for a multipart or appendable object.
        headers: properties (Content-Type, metadata, ACL ...), names in lower case.
        kind: ``Normal``, ``Multipart`` or ``Appendable``; ``DeleteMarker`` for a version
            that hides older ones.
        modified: time of storing by the emulator's clock, seconds since the epoch.
        version_id: version ID in a bucket with versioning; None otherwise.
    """

    key: str
    etag: str
    crc64: int
    md5: str | None = None
    headers: Mapping[str, str] = field(factory=dict)
    kind: str = "Normal"
    modified: float = 0.0
    version_id: str | None = None
    body: tuple[Segment, ...] = field(default=(), repr=False)

    @property
    def size(self) -> int:
        """Size of the object in bytes."""
        return sum(segment.size for segment in self.body)

    def data(self) -> bytes:
        """Return all bytes of the object."""
        return b"".join(self.chunks(0, self.size))

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes ``start:stop`` in chunks of at most 1 MiB."""
        offset = 0
        for segment in self.body:
            first = max(start - offset, 0)
            last = min(stop - offset, segment.size)
            for at in range(first, last, CHUNK):
                yield segment.read(at, min(at + CHUNK, last))
            offset += segment.size


@define(kw_only=True, eq=False)
class StoredUpload:
    """An open multipart upload; ``parts`` maps part numbers to parts."""

    upload_id: str
    bucket: str
    key: str
    headers: Mapping[str, str]
    initiated: float
    parts: dict[int, Piece] = field(factory=dict)


@define(kw_only=True, eq=False)
class Bucket:
    """A bucket: objects by key, open multipart uploads by ID.

    With versioning, *versions* holds all versions of a key by ID, the newest last;
    *objects* holds the newest, unless it is a delete marker.
    """

    name: str
    versioned: bool = False
    objects: dict[str, StoredObject] = field(factory=dict)
    versions: dict[str, dict[str, StoredObject]] = field(factory=dict)
    uploads: dict[str, StoredUpload] = field(factory=dict)

    def find(self, key: str, version_id: str | None = None) -> StoredObject:
        if version_id is not None and self.versioned:
            version = self.versions.get(key, {}).get(version_id)
            if version is None:
                raise refused("NoSuchVersion", Key=key, VersionId=version_id)
            if version.kind == DELETE_MARKER:
                raise refused("MethodNotAllowed", headers=_MARKED)
            return version
        if key not in self.objects:
            headers = _MARKED if key in self.versions else None
            raise refused("NoSuchKey", headers=headers, Key=key)
        return self.objects[key]

    def find_upload(self, upload_id: str, key: str, ec: str) -> StoredUpload:
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise refused("NoSuchUpload", ec=ec, UploadId=upload_id)
        return upload

    def check_free(self, key: str, *, exclusive: bool, ec: str = "") -> None:
        if exclusive and key in self.objects and not self.versioned:
            raise refused("FileAlreadyExists", ec=ec)

    def show_newest(self, key: str) -> None:
        """Make the newest version of *key* its object again."""
        self.objects.pop(key, None)
        if not self.versions[key]:
            del self.versions[key]
            return
        newest = next(reversed(self.versions[key].values()))
        if newest.kind != DELETE_MARKER:
            self.objects[key] = newest


@frozen(eq=False)
class Contents(Mapping[str, bytes]):
    """Snapshot of the objects of a bucket: key -> bytes, read on access."""

    objects: Mapping[str, StoredObject]

    def __getitem__(self, key: str) -> bytes:
        return self.objects[key].data()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.objects))

    def __len__(self) -> int:
        return len(self.objects)


class Store:
    """Buckets of the emulator. Only its event loop changes them; other threads read."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="osspresigned-emulator-"))
        self.close = weakref.finalize(self, shutil.rmtree, str(self._folder))
        self.buckets: dict[str, Bucket] = {}

    def add_bucket(self, name: str, *, versioned: bool = False) -> None:
        self.buckets[name] = Bucket(name=name, versioned=versioned)

    def spool(self) -> Spool:
        return Spool(self._folder)

    def bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise refused("NoSuchBucket", BucketName=name)
        return self.buckets[name]

    def put(
        self, bucket: Bucket, stored: StoredObject, *, exclusive: bool = False
    ) -> StoredObject:
        """Publish *stored* atomically, and return it with its version ID.

        With *exclusive*, RefusedError if the object exists, unless *bucket* has
        versioning.
        """
        bucket.check_free(stored.key, exclusive=exclusive)
        if not bucket.versioned:
            bucket.objects[stored.key] = stored
            return stored
        version_id = f"CAEQ{uuid.uuid4().hex}"
        stored = evolve(stored, version_id=version_id)
        bucket.versions.setdefault(stored.key, {})[version_id] = stored
        bucket.show_newest(stored.key)
        return stored

    def drop(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None = None,
        *,
        now: float = 0.0,
    ) -> StoredObject | None:
        """Delete an object or a version, and return it; None if it did not exist.

        With versioning but no version ID, nothing is deleted. Instead, a delete marker
        with the time *now* is stored and returned.
        """
        if not bucket.versioned:
            return bucket.objects.pop(key, None)
        if version_id is None:
            marker = StoredObject(
                key=key, etag="", crc64=0, kind=DELETE_MARKER, modified=now
            )
            return self.put(bucket, marker)
        gone = bucket.versions.get(key, {}).pop(version_id, None)
        if gone is not None:
            bucket.show_newest(key)
        return gone

    def initiate(self, upload: StoredUpload) -> None:
        self.buckets[upload.bucket].uploads[upload.upload_id] = upload

    def add_part(self, upload: StoredUpload, part: Piece, *, ec: str) -> None:
        # The upload may have been completed or aborted while the part arrived.
        self.buckets[upload.bucket].find_upload(upload.upload_id, upload.key, ec)
        upload.parts[part.number] = part

    def complete(
        self, upload: StoredUpload, stored: StoredObject, *, exclusive: bool
    ) -> StoredObject:
        """Publish the finished object and close *upload*; a refusal keeps it open."""
        bucket = self.buckets[upload.bucket]
        bucket.check_free(stored.key, exclusive=exclusive, ec="0042-00000214")
        stored = self.put(bucket, stored)
        self.abort(upload)
        return stored

    def abort(self, upload: StoredUpload) -> None:
        del self.buckets[upload.bucket].uploads[upload.upload_id]

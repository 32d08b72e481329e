"""Store of the emulator: buckets, objects and multipart uploads, in memory or on disk."""

from __future__ import annotations

import bisect
import hashlib
import json
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, define, evolve, field, frozen
from attrs.filters import exclude

from ...units import MIB
from ..message.errors import RefusedError, refused
from .bodies import CHUNK, Folder, Piece, Segment, Spool

APPENDABLE = "Appendable"
SYMLINK = "Symlink"
NEXT_POSITION = "x-oss-next-append-position"
_SPILL = 4 * MIB
_FILE_ALWAYS = -1
_UPLOAD = "upload.json"


@frozen(kw_only=True, eq=False)
class StoredObject:
    """One object of the emulator.

    Attributes:
        etag: ETag without quotes.
        crc64: CRC-64/XZ of the whole object.
        md5: hexadecimal MD5; None for a multipart or appendable object.
        headers: properties (Content-Type, metadata, ACL ...), names in lower case.
        kind: ``Normal``, ``Multipart``, ``Appendable`` or ``Symlink``.
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
    sequential: bool = False
    parts: dict[int, Piece] = field(factory=dict)


@define(kw_only=True, eq=False)
class Bucket:
    """A bucket: objects by key, open multipart uploads by ID."""

    name: str
    versioned: bool = False
    objects: dict[str, StoredObject] = field(factory=dict)
    uploads: dict[str, StoredUpload] = field(factory=dict)
    keys: list[str] = field(factory=list, init=False)  # sorted, as their UTF-8 is

    def find(self, key: str) -> StoredObject:
        """Return an object; RefusedError if it is missing."""
        if key not in self.objects:
            raise refused("NoSuchKey", Key=key)
        return self.objects[key]

    def find_upload(self, upload_id: str, key: str, ec: str) -> StoredUpload:
        """Return an open upload of *key*; RefusedError with *ec* if there is none."""
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise refused("NoSuchUpload", ec=ec, UploadId=upload_id)
        return upload

    def check_free(self, key: str, *, exclusive: bool, ec: str = "") -> None:
        """Raise RefusedError if the call is exclusive and the object *key* exists."""
        if exclusive and key in self.objects and not self.versioned:
            raise refused("FileAlreadyExists", ec=ec)

    def set(self, stored: StoredObject) -> None:
        """Add an object, or replace the one with its key."""
        if stored.key not in self.objects:
            bisect.insort(self.keys, stored.key)
        self.objects[stored.key] = stored

    def drop(self, key: str) -> StoredObject | None:
        """Remove an object and return it; None if it was missing."""
        stored = self.objects.pop(key, None)
        if stored is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]
        return stored


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

    def __repr__(self) -> str:
        return f"<Contents { {key: self.objects[key].size for key in self} }>"


class Store:
    """Buckets of the emulator. Thread-safe.

    The methods raise RefusedError where OSS would refuse a call.

    Two processes must not open the same directory *root*: the second would delete the
    bodies that the first receives. *root* None keeps everything in memory, and large
    bodies in temporary files.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._log = _StoreLog(root)
        self._spill = _SPILL if root is None else _FILE_ALWAYS
        self._folder = Folder(None if root is None else root / "bodies")
        self.buckets = {bucket.name: bucket for bucket in self._log.read(self._folder)}

    def add_bucket(self, name: str, *, versioned: bool = False) -> None:
        """Create the bucket *name*, unless it exists."""
        self.buckets.setdefault(name, Bucket(name=name)).versioned = versioned

    def spool(self) -> Spool:
        """Return an empty body to write the received bytes into."""
        return Spool(self._folder, self._spill)

    def bucket(self, name: str) -> Bucket:
        """Return a bucket; RefusedError if it is missing."""
        if name not in self.buckets:
            raise refused("NoSuchBucket", BucketName=name)
        return self.buckets[name]

    def put(
        self, bucket: Bucket, stored: StoredObject, *, exclusive: bool = False
    ) -> StoredObject:
        """Publish *stored* atomically, and return it.

        A bucket with versioning gives it a version ID, unless *stored* has one.
        """
        with self._lock:
            bucket.check_free(stored.key, exclusive=exclusive)
            if bucket.versioned and stored.version_id is None:
                stored = evolve(stored, version_id=f"CAEQ{uuid.uuid4().hex}")
            place = _object_place(bucket.name, stored.key)
            self._log.write(place, asdict(stored, recurse=False))
            bucket.set(stored)
            return stored

    def replace(
        self, bucket: Bucket, stored: StoredObject, before: StoredObject | None
    ) -> StoredObject:
        """Publish *stored* if *before* is still the object; None means no object."""
        with self._lock:
            found = bucket.objects.get(stored.key)
            if found is not before:
                raise wrong_position(found)
            return self.put(bucket, stored)

    def drop(self, bucket: Bucket, key: str) -> None:
        """Delete an object, if it exists."""
        with self._lock:
            if bucket.drop(key) is not None:
                self._log.delete(_object_place(bucket.name, key))

    def initiate(self, upload: StoredUpload) -> None:
        """Add *upload* to the open multipart uploads."""
        with self._lock:
            left_out = exclude("upload_id", "bucket", "parts")
            self._log.write(_upload_place(upload), asdict(upload, filter=left_out))
            self.buckets[upload.bucket].uploads[upload.upload_id] = upload

    def add_part(self, upload: StoredUpload, part: Piece, *, ec: str) -> None:
        """Store a part, replacing an earlier one; *ec* is as in ``find_upload``."""
        with self._lock:
            # It may have been completed or aborted meanwhile.
            self.buckets[upload.bucket].find_upload(upload.upload_id, upload.key, ec)
            place = _upload_place(upload, f"{part.number:05}.json")
            self._log.write(place, asdict(part, recurse=False))
            upload.parts[part.number] = part

    def complete(
        self, upload: StoredUpload, stored: StoredObject, *, exclusive: bool
    ) -> StoredObject:
        """Publish the finished object and close *upload*; a refusal keeps it open."""
        with self._lock:
            bucket = self.buckets[upload.bucket]
            bucket.check_free(stored.key, exclusive=exclusive, ec="0042-00000214")
            stored = self.put(bucket, stored)
            self.abort(upload)
            return stored

    def abort(self, upload: StoredUpload) -> None:
        """Close the upload and remove its parts."""
        with self._lock:
            del self.buckets[upload.bucket].uploads[upload.upload_id]
            self._log.delete(_upload_place(upload))

    def close(self) -> None:
        """Release the files of the store."""
        self._folder.close()


def wrong_position(found: StoredObject | None) -> RefusedError:
    """Return the error for an append that is not at the end of *found*."""
    headers = {NEXT_POSITION: str(found.size if found else 0)}
    return refused("PositionNotEqualToLength", headers=headers)


@define
class _StoreLog:
    """Log of a disk store: one JSON file for each object, upload and part.

    Each file is replaced atomically. A body file is written before the JSON file that
    names it; a body file without one is deleted at the next start. Without a root, the
    log does nothing.
    """

    root: Path | None

    def write(self, place: str, value: dict[str, Any]) -> None:
        """Write *value* to the JSON file *place*.

        A segment becomes its name and size.
        """
        if self.root is not None:
            path = self.root / "buckets" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_text(json.dumps(value, default=_place), "utf-8")
            draft.replace(path)

    def delete(self, place: str) -> None:
        """Delete the JSON file *place*; for an upload, its whole directory."""
        if self.root is not None:
            path = self.root / "buckets" / place
            path.unlink()
            if path.name == _UPLOAD:
                shutil.rmtree(path.parent)

    def read(self, folder: Folder) -> Iterator[Bucket]:
        """Yield the buckets stored on disk; delete unused body files from *folder*."""
        if self.root is None:
            return
        segments: dict[str, Segment] = {}  # two objects may share a body file

        def segment(place: list[Any]) -> Segment:
            name, size = place
            if name not in segments:
                segments[name] = folder.segment(folder.path / name, size)
            return segments[name]

        for home in sorted((self.root / "buckets").glob("*")):
            bucket = Bucket(name=home.name)
            for value in _values(home / "objects"):
                body = tuple(map(segment, value.pop("body")))
                bucket.set(StoredObject(body=body, **value))
            for path in (home / "uploads").glob("*"):
                for value in _values(path, _UPLOAD):
                    upload = StoredUpload(
                        upload_id=path.name, bucket=home.name, **value
                    )
                    bucket.uploads[path.name] = upload
                    for part in _values(path, "[01]*.json"):
                        piece = Piece(segment(part.pop("body")), **part)
                        upload.parts[piece.number] = piece
            yield bucket
        folder.sweep(segments)


def _object_place(bucket: str, key: str) -> str:
    # Keys may hold what file names cannot: dots, slashes, a thousand bytes.
    return f"{bucket}/objects/{hashlib.sha256(key.encode()).hexdigest()}.json"


def _upload_place(upload: StoredUpload, name: str = _UPLOAD) -> str:
    return f"{upload.bucket}/uploads/{upload.upload_id}/{name}"


def _values(folder: Path, pattern: str = "*.json") -> Iterator[dict[str, Any]]:
    for path in folder.glob(pattern):
        yield json.loads(path.read_bytes())


def _place(segment: Segment) -> tuple[str, int]:
    return segment.path.name if segment.path else "", segment.size

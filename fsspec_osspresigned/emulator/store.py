"""Store of the emulator: buckets, objects and multipart uploads, in memory or on disk.

Bodies of objects are immutable segments in memory or in files.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import shutil
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

from attrs import asdict, define, evolve, field, frozen
from attrs.filters import exclude

from ..http.checksums import crc64
from ..units import MIB
from .messages import RefusedError, refused

CHUNK = MIB


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
    body: Segment
    md5: str  # hexadecimal
    crc64: int
    number: int = 0  # of a part of a multipart upload
    modified: float = 0.0  # likewise

    @property
    def size(self) -> int:
        return self.body.size

    @property
    def etag(self) -> str:
        """The ETag of the body: its MD5 in upper case, without quotes."""
        return self.md5.upper()


class Spool:
    """Receives a body, and discards it if the ``with`` block ends before ``finish``.

    A body of more than *limit* bytes is written to a file in *folder*; with a negative
    limit, every body is.
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
        """Append *data*; several threads may call this, one at a time."""
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
    """Directory of body files.

    *path* None is a temporary directory, which is removed by ``close`` or at exit.
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
        """Return the file *path* as a segment; the last reference deletes the file."""
        segment = Segment(size, path=path)
        # Not at exit: a disk store still refers to its files then.
        weakref.finalize(segment, self._remove, path).atexit = False
        return segment

    def _remove(self, path: Path) -> None:
        if self._is_open:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        self._is_open = False
        self._sweep_all()


APPENDABLE = "Appendable"
DELETE_MARKER = "DeleteMarker"
NEXT_POSITION = "x-oss-next-append-position"
_SPILL = 4 * MIB
_FILE_ALWAYS = -1
_UPLOAD = "upload.json"
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
    keys: list[str] = field(factory=list, init=False)  # sorted, as their UTF-8 is

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

    def set(self, stored: StoredObject) -> None:
        if stored.version_id is not None:
            self.versions.setdefault(stored.key, {})[stored.version_id] = stored
            self._show_newest(stored.key)
            return
        if stored.key not in self.objects:
            bisect.insort(self.keys, stored.key)
        self.objects[stored.key] = stored

    def drop(self, key: str, version_id: str | None = None) -> StoredObject | None:
        if version_id is not None:
            gone = self.versions.get(key, {}).pop(version_id, None)
            if gone is not None:
                self._show_newest(key)
            return gone
        stored = self.objects.pop(key, None)
        if stored is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]
        return stored

    def _show_newest(self, key: str) -> None:
        self.drop(key)
        if not self.versions[key]:
            del self.versions[key]
            return
        newest = next(reversed(self.versions[key].values()))
        if newest.kind != DELETE_MARKER:
            bisect.insort(self.keys, key)
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

    def __repr__(self) -> str:
        return f"<Contents { {key: self.objects[key].size for key in self} }>"


class Store:
    """Buckets of the emulator, for many threads.

    *root* is the directory of a disk store; None keeps objects in memory, and large
    ones in temporary files. Two processes must not open the same *root*: the second
    would delete the bodies that the first receives.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._lock = threading.RLock()
        self._log = _StoreLog(root)
        self._spill = _SPILL if root is None else _FILE_ALWAYS
        self._folder = Folder(None if root is None else root / "bodies")
        self._moment = 0  # of the last version
        self.buckets = {bucket.name: bucket for bucket in self._log.read(self._folder)}

    def add_bucket(self, name: str, *, versioned: bool = False) -> None:
        self.buckets.setdefault(name, Bucket(name=name)).versioned = versioned

    def spool(self) -> Spool:
        return Spool(self._folder, self._spill)

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
        with self._lock:
            bucket.check_free(stored.key, exclusive=exclusive)
            if bucket.versioned and stored.version_id is None:
                # Their order is that of storing, also when they are read from disk.
                self._moment = max(self._moment + 1, time.time_ns())
                version_id = f"CAEQ{self._moment:016x}{uuid.uuid4().hex[:16]}"
                stored = evolve(stored, version_id=version_id)
            place = _object_place(bucket.name, stored.key, stored.version_id)
            self._log.write(place, asdict(stored, recurse=False))
            bucket.set(stored)
            return stored

    def replace(
        self, bucket: Bucket, stored: StoredObject, before: StoredObject | None
    ) -> StoredObject:
        """Publish *stored* if *before* is still the current object; else RefusedError.

        *before* None means that there is no object.
        """
        with self._lock:
            current = bucket.objects.get(stored.key)
            if current is not before:
                raise wrong_position(current)
            return self.put(bucket, stored)

    def drop(
        self,
        bucket: Bucket,
        key: str,
        version_id: str | None = None,
        *,
        now: float = 0.0,
    ) -> StoredObject | None:
        """Delete an object or a version, and return it; None if it was missing.

        With versioning but no version ID, nothing is deleted: a delete marker is
        stored, dated *now*, and returned.
        """
        with self._lock:
            if bucket.versioned and version_id is None:
                marker = StoredObject(
                    key=key, etag="", crc64=0, kind=DELETE_MARKER, modified=now
                )
                return self.put(bucket, marker)
            gone = bucket.drop(key, version_id if bucket.versioned else None)
            if gone is not None:
                self._log.delete(_object_place(bucket.name, key, gone.version_id))
            return gone

    def initiate(self, upload: StoredUpload) -> None:
        with self._lock:
            left_out = exclude("upload_id", "bucket", "parts")
            self._log.write(_upload_place(upload), asdict(upload, filter=left_out))
            self.buckets[upload.bucket].uploads[upload.upload_id] = upload

    def add_part(self, upload: StoredUpload, part: Piece, *, ec: str) -> None:
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
        with self._lock:
            del self.buckets[upload.bucket].uploads[upload.upload_id]
            self._log.delete(_upload_place(upload))

    def close(self) -> None:
        self._folder.close()


def wrong_position(current: StoredObject | None) -> RefusedError:
    headers = {NEXT_POSITION: str(current.size if current else 0)}
    return refused("PositionNotEqualToLength", headers=headers)


@define
class _StoreLog:
    """Records of a disk store: one JSON file for each object, upload and part.

    Each is written atomically, after the body file that it names. Without a root,
    nothing is written or read.
    """

    root: Path | None

    def write(self, place: str, value: dict[str, Any]) -> None:
        if self.root is not None:
            path = self.root / "buckets" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_text(json.dumps(value, default=_place), "utf-8")
            draft.replace(path)

    def delete(self, place: str) -> None:
        if self.root is not None:
            path = self.root / "buckets" / place
            path.unlink()
            if path.name == _UPLOAD:
                shutil.rmtree(path.parent)

    def read(self, folder: Folder) -> Iterator[Bucket]:
        """Yield the buckets on disk; delete body files that no JSON file names."""
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
            stored = [*_values(home / "objects")]
            for value in sorted(stored, key=lambda value: value["version_id"] or ""):
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
        # A crash may have left others.
        for name in {path.name for path in folder.path.iterdir()}.difference(segments):
            (folder.path / name).unlink()


def _object_place(bucket: str, key: str, version_id: str | None) -> str:
    # Keys may hold what file names cannot: dots, slashes, a thousand bytes.
    name = hashlib.sha256(key.encode()).hexdigest()
    return f"{bucket}/objects/{name}{version_id or ''}.json"


def _upload_place(upload: StoredUpload, name: str = _UPLOAD) -> str:
    return f"{upload.bucket}/uploads/{upload.upload_id}/{name}"


def _values(folder: Path, pattern: str = "*.json") -> Iterator[dict[str, Any]]:
    for path in folder.glob(pattern):
        yield json.loads(path.read_bytes())


def _place(segment: Segment) -> tuple[str, int]:
    return segment.path.name if segment.path else "", segment.size

"""Store of the emulator: in memory, or on disk with a log."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path

from attrs import evolve

from ...units import MIB
from .bodies import Folder, Spool
from .log import LogReader, StoreLog
from .stored import Bucket, StoredObject, StoredPart, StoredUpload

_SPILL = 4 * MIB
_FILE_ALWAYS = -1


class ChangedError(Exception):
    """Control-flow exception: another append came first."""


class KeyTakenError(Exception):
    """Control-flow exception: an exclusive put found the key taken."""


class UploadGoneError(Exception):
    """Control-flow exception: the upload was completed or aborted meanwhile."""


class Store:
    """Buckets, safe between threads.

    Two processes must not open the same *root*: the second would delete the bodies that
    the first receives.

    Args:
        root: directory of a disk store, made if missing. None keeps everything in
            memory, and bodies above a few MiB in temporary files.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.buckets: dict[str, Bucket] = {}
        self._lock = threading.RLock()
        self._log = None if root is None else StoreLog(root)
        self._folder = Folder(None if root is None else root / "bodies")
        if root is not None:
            reader = LogReader(root, self._folder)
            self.buckets = {bucket.name: bucket for bucket in reader.buckets()}
            self._folder.sweep(reader.segments)

    def add_bucket(self, name: str, *, versioned: bool = False) -> Bucket:
        """Return bucket *name*, made if missing."""
        bucket = self.buckets.setdefault(name, Bucket(name=name))
        bucket.versioned = versioned
        return bucket

    def spool(self) -> Spool:
        """Return an empty body to write into."""
        return Spool(self._folder, _SPILL if self._log is None else _FILE_ALWAYS)

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return an object; None if it, or the bucket, is missing."""
        found = self.buckets.get(bucket)
        return found.objects.get(key) if found else None

    def put(
        self, bucket: Bucket, stored: StoredObject, *, exclusive: bool = False
    ) -> StoredObject:
        """Publish *stored* at once and whole.

        Raises:
            KeyTakenError: *exclusive*, and the key exists in an unversioned bucket.
        """
        with self._lock:
            if bucket.versioned:
                stored = evolve(stored, version_id=f"CAEQ{uuid.uuid4().hex}")
            elif exclusive and stored.key in bucket.objects:
                raise KeyTakenError
            if self._log is not None:
                self._log.put(bucket.name, stored)
            bucket.set(stored)
            return stored

    def replace(
        self, bucket: Bucket, stored: StoredObject, before: StoredObject | None
    ) -> StoredObject:
        """Publish *stored* in the place of *before*; None stands for no object.

        Raises:
            ChangedError: another object is there by now.
        """
        with self._lock:
            if bucket.objects.get(stored.key) is not before:
                raise ChangedError
            return self.put(bucket, stored)

    def drop(self, bucket: Bucket, key: str) -> None:
        """Delete an object, if it exists."""
        with self._lock:
            if bucket.drop(key) is not None and self._log is not None:
                self._log.drop(bucket.name, key)

    def initiate(self, bucket: Bucket, upload: StoredUpload) -> None:
        """Open *upload*."""
        with self._lock:
            if self._log is not None:
                self._log.open(upload)
            bucket.uploads[upload.upload_id] = upload

    def add_part(self, bucket: Bucket, upload: StoredUpload, part: StoredPart) -> None:
        """Store a part; an earlier one of its number is replaced.

        Raises:
            UploadGoneError: the upload is no longer open.
        """
        with self._lock:
            if bucket.uploads.get(upload.upload_id) is not upload:
                raise UploadGoneError
            if self._log is not None:
                self._log.part(upload, part)
            upload.parts[part.number] = part

    def complete(
        self,
        bucket: Bucket,
        upload: StoredUpload,
        stored: StoredObject,
        *,
        exclusive: bool,
    ) -> StoredObject:
        """Publish the finished object and close the upload.

        Raises:
            KeyTakenError: as for :meth:`put`; the upload stays open.
        """
        with self._lock:
            stored = self.put(bucket, stored, exclusive=exclusive)
            self.abort(bucket, upload)
            return stored

    def abort(self, bucket: Bucket, upload: StoredUpload) -> None:
        """Close the upload and forget its parts."""
        with self._lock:
            del bucket.uploads[upload.upload_id]
            if self._log is not None:
                self._log.end(upload)

    def close(self) -> None:
        """Release the files."""
        self._folder.close()

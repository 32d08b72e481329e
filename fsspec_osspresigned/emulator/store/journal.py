"""The disk store: every change is written down, so that the next start finds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define

from .bodies import Body, Folder, Piece, Segment
from .store import Store, StoredObject, StoredPart, Upload

_FILE_ALWAYS = -1


@define
class DiskJournal:
    """One JSON file an object, upload and part; each replaced as a whole.

    A body file stands before the JSON file that names it, so a crash leaves at worst a
    body that nobody names, and the next start deletes it.
    """

    root: Path

    def put(self, bucket: str, stored: StoredObject) -> None:
        """Write an object down."""
        value = {
            "key": stored.key,
            "etag": stored.etag,
            "crc64": stored.crc64,
            "md5": stored.md5,
            "headers": dict(stored.headers),
            "kind": stored.kind,
            "modified": stored.modified,
            "version_id": stored.version_id,
            "body": [_place(segment) for segment in stored.body.segments],
        }
        _write(self._object(bucket, stored.key), value)

    def drop(self, bucket: str, key: str) -> None:
        """Delete what is written of an object."""
        self._object(bucket, key).unlink()

    def open(self, upload: Upload) -> None:
        """Write an upload down."""
        value = {
            "key": upload.key,
            "headers": dict(upload.headers),
            "initiated": upload.initiated,
            "sequential": upload.sequential,
        }
        _write(self._upload(upload) / "upload.json", value)

    def part(self, upload: Upload, part: StoredPart) -> None:
        """Write a part down."""
        value = {
            "number": part.number,
            "modified": part.modified,
            "md5": part.piece.md5,
            "crc64": part.piece.crc64,
            "body": _place(part.piece.segment),
        }
        _write(self._upload(upload) / f"{part.number:05}.json", value)

    def end(self, upload: Upload) -> None:
        """Delete what is written of an upload; its head first, so none is half there."""
        folder = self._upload(upload)
        (folder / "upload.json").unlink()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    def _object(self, bucket: str, key: str) -> Path:
        # Keys may hold what file names cannot: dots, slashes, a thousand bytes.
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.root / "buckets" / bucket / "objects" / f"{name}.json"

    def _upload(self, upload: Upload) -> Path:
        return self.root / "buckets" / upload.bucket / "uploads" / upload.upload_id


@define
class _Reader:
    """Reads back what a journal wrote; a body file that two name is one segment."""

    folder: Folder
    segments: dict[str, Segment]

    def segment(self, place: list[Any]) -> Segment:
        name, size = place
        if name not in self.segments:
            path = self.folder.path / name
            self.segments[name] = self.folder.segment(path, size)
        return self.segments[name]

    def stored(self, value: dict[str, Any]) -> StoredObject:
        body = Body(tuple(self.segment(place) for place in value.pop("body")))
        return StoredObject(body=body, **value)

    def part(self, value: dict[str, Any]) -> StoredPart:
        segment = self.segment(value["body"])
        piece = Piece(
            segment=segment, size=segment.size, md5=value["md5"], crc64=value["crc64"]
        )
        return StoredPart(
            number=value["number"], piece=piece, modified=value["modified"]
        )


def open_disk_store(root: Path) -> Store:
    """Return the store under *root*, made if it does not exist.

    Not for two processes at once: the second would delete the bodies that the first
    takes in.
    """
    bodies = root / "bodies"
    bodies.mkdir(parents=True, exist_ok=True)
    folder = Folder(bodies)
    store = Store(folder, journal=DiskJournal(root), spill=_FILE_ALWAYS)
    reader = _Reader(folder, {})
    buckets = root / "buckets"
    buckets.mkdir(exist_ok=True)
    for home in sorted(buckets.iterdir()):
        bucket = store.add_bucket(home.name)
        for value in _values(home / "objects"):
            bucket.set(reader.stored(value))
        for path in (home / "uploads").glob("*/upload.json"):
            value = json.loads(path.read_bytes())
            upload = Upload(upload_id=path.parent.name, bucket=home.name, **value)
            for part in map(reader.part, _values(path.parent, "0*.json", "1*.json")):
                upload.parts[part.number] = part
            bucket.uploads[upload.upload_id] = upload
    folder.sweep(reader.segments)
    return store


def _values(folder: Path, *patterns: str) -> Iterator[dict[str, Any]]:
    for pattern in patterns or ("*.json",):
        for path in folder.glob(pattern):
            yield json.loads(path.read_bytes())


def _place(segment: Segment) -> tuple[str, int]:
    return segment.name, segment.size


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(value, ensure_ascii=True), "utf-8")
    draft.replace(path)

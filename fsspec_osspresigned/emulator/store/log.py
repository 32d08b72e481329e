"""Log of a disk store: every change is written down, and the next start reads it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import asdict, define, field

from .bodies import Folder, Piece, Segment, StoredBody
from .stored import Bucket, StoredObject, StoredPart, StoredUpload


@define
class StoreLog:
    """One JSON file for each object, upload and part, replaced as a whole.

    A body file exists before the JSON file that names it. After a crash, a body file
    that no JSON file names is deleted at the next start.
    """

    root: Path

    def put(self, bucket: str, stored: StoredObject) -> None:
        """Write an object."""
        value = asdict(stored, recurse=False)
        value["body"] = [_place(segment) for segment in stored.body.segments]
        _write(self._object(bucket, stored.key), value)

    def drop(self, bucket: str, key: str) -> None:
        """Delete an object."""
        self._object(bucket, key).unlink()

    def open(self, upload: StoredUpload) -> None:
        """Write an upload without its parts."""
        names = ("key", "headers", "initiated", "sequential")
        value = {name: getattr(upload, name) for name in names}
        _write(self._upload(upload) / "upload.json", value)

    def part(self, upload: StoredUpload, part: StoredPart) -> None:
        """Write a part."""
        value = {
            "number": part.number,
            "modified": part.modified,
            "md5": part.piece.md5,
            "crc64": part.piece.crc64,
            "body": _place(part.piece.segment),
        }
        _write(self._upload(upload) / f"{part.number:05}.json", value)

    def end(self, upload: StoredUpload) -> None:
        """Delete an upload; its own file first, so none is half there."""
        folder = self._upload(upload)
        (folder / "upload.json").unlink()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    def _object(self, bucket: str, key: str) -> Path:
        # Keys may hold what file names cannot: dots, slashes, a thousand bytes.
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.root / "buckets" / bucket / "objects" / f"{name}.json"

    def _upload(self, upload: StoredUpload) -> Path:
        return self.root / "buckets" / upload.bucket / "uploads" / upload.upload_id


@define
class LogReader:
    """Reads what a log wrote; a body file that two objects name is one segment."""

    root: Path
    folder: Folder
    segments: dict[str, Segment] = field(factory=dict)

    def buckets(self) -> Iterator[Bucket]:
        """Yield the buckets with their contents, by name."""
        for home in sorted((self.root / "buckets").glob("*")):
            bucket = Bucket(name=home.name)
            for value in _values(home / "objects"):
                segments = tuple(map(self._segment, value.pop("body")))
                bucket.set(StoredObject(body=StoredBody(segments), **value))
            for path in (home / "uploads").glob("*/upload.json"):
                value = json.loads(path.read_bytes())
                name = path.parent.name
                upload = StoredUpload(upload_id=name, bucket=bucket.name, **value)
                for part in map(self._part, _values(path.parent, "[01]*.json")):
                    upload.parts[part.number] = part
                bucket.uploads[name] = upload
            yield bucket

    def _segment(self, place: list[Any]) -> Segment:
        name, size = place
        if name not in self.segments:
            path = self.folder.path / name
            self.segments[name] = self.folder.segment(path, size)
        return self.segments[name]

    def _part(self, value: dict[str, Any]) -> StoredPart:
        piece = Piece(self._segment(value["body"]), value["md5"], value["crc64"])
        return StoredPart(
            number=value["number"], piece=piece, modified=value["modified"]
        )


def _values(folder: Path, pattern: str = "*.json") -> Iterator[dict[str, Any]]:
    for path in folder.glob(pattern):
        yield json.loads(path.read_bytes())


def _place(segment: Segment) -> tuple[str, int]:
    return segment.name, segment.size


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(value, ensure_ascii=True), "utf-8")
    draft.replace(path)

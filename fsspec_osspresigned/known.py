"""What this process uploaded or made: the memory of a filesystem that cannot look.

With presigned URLs for writing only, nobody can be asked what is there. Generic tools
ask all the same; this record answers for the objects that this process wrote, and keeps
small bodies for those that read back their own metadata (zarr, xarray).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from .model import MIB, Receipt

BODY_CAP = 1 * MIB
BODIES_CAP = 16 * MIB


@frozen(eq=False)
class Own:
    """One object that this process stored."""

    path: str
    size: int
    etag: str
    crc64: int | None
    stored_at: float
    status: str
    content_type: str | None
    version_id: str | None

    def info(self) -> dict[str, Any]:
        """Return what ``fs.info`` answers."""
        return {
            "name": self.path,
            "size": self.size,
            "type": "file",
            "ETag": self.etag,
            "crc64": self.crc64,
            "created": self.stored_at,
            "status": self.status,
            "ContentType": self.content_type,
            "version_id": self.version_id,
        }


class Known:
    """Objects and directories of this process; safe for many threads.

    Bodies of up to 1 MiB are kept, 16 MiB in all, the least recently used go first.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._lock = threading.Lock()
        self._objects: dict[str, Own] = {}
        self._directories: set[str] = set()
        self._fresh: set[str] = set()  # those made and not written into yet
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._warned: set[str] = set()

    def add(self, receipt: Receipt, data: bytes | None) -> None:
        """Remember a stored object, and its body if it is small."""
        own = Own(
            receipt.path,
            receipt.size,
            receipt.etag,
            receipt.crc64,
            receipt.stored_at,
            receipt.status,
            receipt.content_type,
            receipt.version_id,
        )
        with self._lock:
            self._settle(receipt.path)
            self._objects[receipt.path] = own
            self._drop(receipt.path)
            if data is not None and len(data) <= BODY_CAP:
                self._keep(receipt.path, data)

    def copy(self, source: str, path: str) -> None:
        """Remember that *path* is now a copy of *source*, which may be an own object."""
        with self._lock:
            own, body = self._objects.get(source), self._bodies.get(source)
            self._forget(path)
            self._settle(path)
            if own is not None:
                self._objects[path] = evolve(own, path=path, etag="")
                if body is not None:
                    self._keep(path, body)

    def forget(self, path: str) -> None:
        """Drop an object or a made directory that was deleted or replaced."""
        with self._lock:
            self._forget(path)

    def _forget(self, path: str) -> None:
        self._objects.pop(path, None)
        self._directories.discard(path)
        self._fresh.discard(path)
        self._drop(path)

    def _keep(self, path: str, body: bytes) -> None:
        self._bodies[path] = body
        self._held += len(body)
        while self._held > BODIES_CAP:
            self._drop(next(iter(self._bodies)))

    def _drop(self, path: str) -> None:
        self._held -= len(self._bodies.pop(path, b""))

    def forget_directory(self, path: str) -> None:
        """Drop a directory that somebody made and removed."""
        with self._lock:
            self._directories.discard(path)
            self._fresh.discard(path)

    def make_directory(self, path: str, *, asked: bool = False) -> None:
        """Remember a directory that somebody made; *asked* if that was all they did."""
        with self._lock:
            self._directories.add(path)
            if asked:
                self._fresh.add(path)

    def settle(self, path: str) -> None:
        """Let the store answer for *path* and what it lies in: somebody writes there."""
        with self._lock:
            self._settle(path)

    def _settle(self, path: str) -> None:
        while path:
            self._fresh.discard(path)
            path = path.rpartition("/")[0]

    def is_fresh(self, path: str) -> bool:
        """Return whether *path* was made and nothing written into it since.

        Tools ask for the directory that they just made (DuckDB, ``get_mapper``). After
        the first object in it, the store knows better.
        """
        with self._lock:
            return path in self._fresh

    def object(self, path: str) -> Own | None:
        """Return the object stored at *path* by this process, None for others."""
        with self._lock:
            return self._objects.get(path)

    def body(self, path: str) -> bytes | None:
        """Return the body of an own object; None if it was not kept."""
        with self._lock:
            data = self._bodies.get(path)
            if data is not None:
                self._bodies.move_to_end(path)
            return data

    def is_directory(self, path: str) -> bool:
        """Return whether *path* was made, or holds something of ours."""
        prefix = f"{path}/" if path else ""
        with self._lock:
            return path in self._directories or any(
                other.startswith(prefix)
                for names in (self._objects, self._directories)
                for other in names
            )

    def beneath(self, path: str, begin: str = "") -> Iterator[dict[str, Any]]:
        """Yield ``info`` of all objects and made directories under *path*.

        *begin* is how their names in *path* must begin.
        """
        prefix = f"{path}/{begin}" if path else begin
        with self._lock:
            objects = list(self._objects.values())
            directories = list(self._directories)
        for own in objects:
            if own.path.startswith(prefix):
                yield own.info()
        for name in directories:
            if name.startswith(prefix) and name != path:
                yield {"name": name, "size": 0, "type": "directory"}

    def below(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield ``info`` of what lies directly in *path*."""
        prefix = f"{path}/" if path else ""
        seen: set[str] = set()
        with self._lock:
            objects = list(self._objects.values())
            directories = list(self._directories)
        for own in objects:
            if own.path.startswith(prefix) and "/" not in own.path[len(prefix) :]:
                seen.add(own.path)
                yield own.info()
        for name in [o.path for o in objects] + [f"{d}/" for d in directories]:
            if name.startswith(prefix) and "/" in name[len(prefix) :]:
                child = prefix + name[len(prefix) :].partition("/")[0]
                if child not in seen and child != path:
                    seen.add(child)
                    yield {"name": child, "size": 0, "type": "directory"}

    def warn_once(self, root: str) -> bool:
        """Return True the first time that *root* was answered blindly."""
        with self._lock:
            first = root not in self._warned
            self._warned.add(root)
            return first

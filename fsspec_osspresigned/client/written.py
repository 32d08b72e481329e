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

from attrs import evolve

from ..model import Receipt
from ..units import MIB

BODY_CAP = 1 * MIB
BODIES_CAP = 16 * MIB
# Objects that are remembered as they are: to pack them, more would have to be loaded.
_FEW = 100


def info_of(receipt: Receipt) -> dict[str, Any]:
    """Return what ``fs.info`` answers for an object that this process stored."""
    return {
        "name": receipt.path,
        "size": receipt.size,
        "type": "file",
        "ETag": receipt.etag,
        "crc64": receipt.crc64,
        "created": receipt.stored_at,
        "status": receipt.status,
        "ContentType": receipt.content_type,
        "version_id": receipt.version_id,
    }


def _receipt(own: bytes | Receipt) -> Receipt:
    if isinstance(own, Receipt):
        return own
    from .receipts import unpacked  # noqa: PLC0415 - only for many

    return unpacked(own)


class Known:
    """Objects and directories of this process; safe for many threads.

    Bodies of up to 1 MiB are kept, 16 MiB in all, the least recently used go first.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._lock = threading.Lock()
        self._objects: dict[str, bytes | Receipt] = {}  # packed: there may be very many
        self._directories: set[str] = set()
        self._fresh: set[str] = set()  # those made and not written into yet
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._warned: set[str] = set()

    def add(self, receipt: Receipt, data: bytes | None) -> None:
        """Remember a stored object, and its body if it is small."""
        if receipt.parts:  # up to 10,000, and nobody asks here for them
            receipt = evolve(receipt, parts=(), upload_id=None)
        own = self._short(receipt)
        with self._lock:
            self._settle(receipt.path)
            self._objects[receipt.path] = own
            self._drop(receipt.path)
            if data is not None and len(data) <= BODY_CAP:
                self._keep(receipt.path, data)

    def _short(self, receipt: Receipt) -> bytes | Receipt:
        if len(self._objects) < _FEW:
            return receipt
        from .receipts import packed  # noqa: PLC0415 - only for many

        return packed(receipt)

    def copy(self, source: str, path: str) -> None:
        """Remember that *path* is now a copy of *source*, which may be an own object."""
        with self._lock:
            own, body = self._objects.get(source), self._bodies.get(source)
            self._forget(path)
            self._settle(path)
            if own is not None:
                copied = evolve(_receipt(own), path=path, etag="")
                self._objects[path] = self._short(copied)
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

    def object(self, path: str) -> Receipt | None:
        """Return what this process stored at *path*, None if it was somebody else."""
        with self._lock:
            own = self._objects.get(path)
        return None if own is None else _receipt(own)

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
            objects = list(self._objects.items())
            directories = list(self._directories)
        for name, own in objects:
            if name.startswith(prefix):
                yield info_of(_receipt(own))
        for name in directories:
            if name.startswith(prefix) and name != path:
                yield {"name": name, "size": 0, "type": "directory"}

    def below(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield ``info`` of what lies directly in *path*."""
        prefix = f"{path}/" if path else ""
        seen: set[str] = set()
        with self._lock:
            objects = list(self._objects.items())
            directories = list(self._directories)
        for name, own in objects:
            if name.startswith(prefix) and "/" not in name[len(prefix) :]:
                seen.add(name)
                yield info_of(_receipt(own))
        for name in [name for name, _ in objects] + [f"{d}/" for d in directories]:
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

"""Index in memory: objects that this process wrote, and unverified prefixes.

Write-only URLs cannot check which objects exist, but generic tools check this. The
index answers for objects of this process, and keeps small bodies for tools that read
back their own metadata (zarr, xarray).

An answer of the index makes a prefix unverified. Uploads must not replace objects there
that the store could not be asked for (decision 13).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

from attrs import evolve

from ..model import Receipt
from ..units import MIB

Info = dict[str, Any]

BODY_CAP = 1 * MIB  # bytes of the largest body that is kept
BODY_COST = 250  # bytes that a body costs beside its content, with its name
MAX_PREFIXES = 200  # number of unverified prefixes that are kept


class Answer(Enum):
    """Answer of the index for a path without a record."""

    MISSING = "missing"  # the object is missing, as far as this process knows
    UNKNOWN = "unknown"  # this process may have written or removed the object


def object_info(path: str, size: int, **known: Any) -> Info:
    """Return the ``fs.info`` of an object, with the same fields for every source."""
    return {
        "name": path,
        "size": size,
        "type": "file",
        "ETag": "",
        "crc64": None,
        "LastModified": None,
        "ContentType": None,
        "StorageClass": None,
        "version_id": None,
        **known,
        "mtime": known.get("LastModified"),  # pyarrow reads the time from this key
    }


def directory_info(path: str) -> Info:
    return {"name": path, "size": 0, "type": "directory"}


def _info_of(receipt: Receipt) -> Info:
    return object_info(
        receipt.path,
        receipt.size,
        ETag=receipt.etag,
        crc64=receipt.crc64,
        LastModified=datetime.fromtimestamp(receipt.stored_at, UTC),
        ContentType=receipt.content_type,
        version_id=receipt.version_id,
        status=receipt.status,
    )


class _Unverified(NamedTuple):
    stamp: int  # identifies the answer, also in other processes
    # epoch seconds at which an answer of another process arrived; 0 for an own answer
    since: float


_NEVER = _Unverified(0, 0.0)


class LocalIndex:
    """Objects and directories that this process wrote, and unverified prefixes.

    If there are more than *most* objects and created directories, the least recently
    used tenth is dropped. Bodies of up to *max_body* bytes are kept. All bodies
    together have up to *max_bodies* bytes, including ``BODY_COST`` for each; the least
    recently used are dropped first. Unverified prefixes are never dropped. If there are
    more than ``MAX_PREFIXES``, the prefixes in the directory with the most prefixes are
    replaced by the directory itself.

    The cost of a query depends on the depth of its path or the number of objects below
    it, never on the total number of objects. All methods are thread-safe.
    """

    def __init__(
        self,
        most: int = 100_000,
        max_body: int = BODY_CAP,
        max_bodies: int = 16 * MIB,
    ) -> None:
        self._most, self._max_body, self._max_bodies = most, max_body, max_bodies
        self._lock = threading.RLock()
        # Path -> entry, the least recently used first. The entry of a created directory
        # is its ``info``. None means that the object may have been stored or removed.
        self._entries: dict[str, Receipt | Info | None] = {}
        self._within: dict[str, set[str]] = {}  # directory -> names directly in it
        self._new: set[str] = set()  # directories that were created and are still empty
        # bodies of entries, the least recently used first
        self._bodies: dict[str, bytes] = {}
        self._held = 0  # bytes of all bodies, with their overhead
        # The prefix "bucket/key" means the object and all below it; "bucket/directory/"
        # means all below it.
        self._prefixes: dict[str, _Unverified] = {}
        self._warned: set[str] = set()

    # -- objects and directories ------------------------------------------------------------

    def info(self, path: str) -> Info | Answer:
        """Return the ``info`` of an object or a directory, or why there is none."""
        with self._lock:
            if receipt := self.receipt(path):
                return _info_of(receipt)
            if self.is_directory(path):
                return directory_info(path)
            return Answer.UNKNOWN if path in self._entries else Answer.MISSING

    def receipt(self, path: str) -> Receipt | None:
        with self._lock:
            entry = self._entries.get(path)
            if not isinstance(entry, Receipt):
                return None
            # makes it the most recently used entry
            self._entries[path] = self._entries.pop(path)
            return entry

    def body(self, path: str) -> bytes | None:
        """Return the bytes of the object *path*; None if they were not kept."""
        with self._lock:
            data = self._bodies.pop(path, None)
            if data is not None:
                self._bodies[path] = data
            return data

    def is_directory(self, path: str) -> bool:
        """Return whether *path* was created, or contains an object of this process."""
        with self._lock:
            return path in self._within or isinstance(self._entries.get(path), dict)

    # Tools check for a directory that they just created (DuckDB, ``get_mapper``).
    def is_new_directory(self, path: str) -> bool:
        """Return whether *path* was created, and nothing was written into it since."""
        return path in self._new

    def descendants(self, path: str, begin: str = "") -> Iterator[Info]:
        """Yield ``info`` of each object and each created directory below *path*.

        Only names that begin with *begin*, relative to *path*, are yielded.
        """
        prefix = f"{path}/{begin}" if path else begin
        with self._lock:
            names = [*self._within.get(path, ())]
            for name in names:  # the loop changes the dictionary
                names += self._within.get(name, ())
            found = [(name, self._entries.get(name)) for name in names]
        for name, entry in found:
            if not name.startswith(prefix):
                continue
            if isinstance(entry, Receipt):
                yield _info_of(entry)
            elif entry is not None:
                yield directory_info(name)

    def remember(self, receipt: Receipt, data: bytes | None) -> None:
        if receipt.parts:  # up to 10,000 parts, which no answer shows
            receipt = evolve(receipt, parts=(), upload_id=None)
        path = receipt.path
        with self._lock:
            self._set(path, receipt, data)

    def remember_copy(self, source: str, path: str, crc64: str | None) -> None:
        """Record *path* as a copy of *source*, if *crc64* proves it.

        *crc64* is the CRC-64 of the copy, in decimal. If it is None, or differs from
        the recorded CRC-64 of *source*, *path* is recorded as unknown, because *source*
        may have been replaced before or after the copy.
        """
        with self._lock:
            own, data = self._entries.get(source), self._bodies.get(source)
            self.doubt(path)
            if not isinstance(own, Receipt) or own.crc64 is None:
                return
            if str(own.crc64) == crc64:
                self.remember(evolve(own, path=path, etag=""), data)

    def remember_directory(self, path: str, *, asked: bool = False) -> None:
        """Record a directory.

        *asked* means that the user created it, so it is new and empty.
        """
        with self._lock:
            if not isinstance(self._entries.get(path), Receipt):
                self._set(path, directory_info(path))
                if asked:
                    self._new.add(path)

    def doubt(self, path: str) -> None:
        """Record that the object *path* may have been stored, replaced or removed."""
        with self._lock:
            self.forget(path)
            self._set(path, None)

    def forget(self, path: str) -> None:
        """Drop the record of the object or the created directory *path*."""
        with self._lock:
            self._entries.pop(path, None)
            self._new.discard(path)
            self._drop_body(path)
            self._unlink(path)

    def forget_directory(self, path: str) -> None:
        """Drop the record of the directory *path*, but not of an object of that name."""
        with self._lock:
            self._new.discard(path)
            if isinstance(self._entries.get(path), dict):
                self.forget(path)

    def trust_store(self, path: str) -> None:
        """No longer treat *path* and its parents as new, empty directories."""
        with self._lock:
            self._new.difference_update(_upwards(path))

    def _set(
        self, path: str, entry: Receipt | Info | None, data: bytes | None = None
    ) -> None:
        if path in self._entries:
            # re-inserted, so that the new entry is the most recently used one
            del self._entries[path]
            self._drop_body(path)
        elif len(self._entries) >= self._most:
            for old in [*islice(self._entries, max(1, self._most // 10))]:
                self.forget(old)
        self._entries[path] = entry
        if self._new and not isinstance(entry, dict):
            # a new object makes its directories non-empty
            self.trust_store(path)
        if data is not None and len(data) <= self._max_body:
            self._bodies[path] = data
            self._held += len(data) + BODY_COST
            while self._held > self._max_bodies:
                self._drop_body(next(iter(self._bodies)))
        while path and entry is not None:  # add the path to its parent directories
            parent = path.rpartition("/")[0]
            siblings = self._within.get(parent)
            if siblings is None:
                siblings = self._within[parent] = set()
            elif path in siblings:
                return
            siblings.add(path)
            path = parent

    def _unlink(self, path: str) -> None:
        while path and path not in self._within and self._entries.get(path) is None:
            parent = path.rpartition("/")[0]
            siblings = self._within.get(parent, set())
            siblings.discard(path)
            if siblings or parent not in self._within:
                return
            del self._within[parent]
            path = parent

    def _drop_body(self, path: str) -> None:
        if (data := self._bodies.pop(path, None)) is not None:
            self._held -= len(data) + BODY_COST

    # -- unverified prefixes ----------------------------------------------------------------

    def mark_unverified(self, prefix: str) -> None:
        """Record that a question about *prefix* was answered without asking the store.

        *prefix* is ``bucket/key``, or ``bucket/directory/`` for everything below it.
        """
        with self._lock:
            before = self._prefixes.get(prefix, _NEVER)
            self._mark(prefix, _Unverified(time.time_ns(), before.since))

    def unverified(self) -> dict[str, int]:
        """Return the unverified prefixes, for ``add_unverified`` in another process."""
        # This runs without the lock, which may be taken forever in a forked child.
        prefixes = tuple(self._prefixes.items())
        return {prefix: state.stamp for prefix, state in prefixes}

    def add_unverified(self, prefixes: Mapping[str, int]) -> None:
        """Record unverified prefixes of another process; this one acts on its answers.

        These answers also missed objects that this process had written before.
        """
        now = time.time()
        with self._lock:
            for prefix, stamp in prefixes.items():
                self._mark(prefix, _Unverified(stamp, now))

    def _mark(self, prefix: str, state: _Unverified) -> None:
        if self._prefixes.get(prefix, _NEVER).stamp == state.stamp:
            return
        self._prefixes[prefix] = state
        while len(self._prefixes) > MAX_PREFIXES:
            parents = {p: above for p in self._prefixes if (above := _above(p)) != p}
            if not parents:
                return  # only one prefix for each bucket is kept
            ((widest, _),) = Counter(parents.values()).most_common(1)
            merged = {widest, *(p for p in parents if parents[p] == widest)}
            states = [self._prefixes.pop(p) for p in merged & self._prefixes.keys()]
            stamps, times = zip(*states, strict=True)
            self._prefixes[widest] = _Unverified(max(stamps), max(times))

    def may_hide(self, path: str) -> bool:
        """Return whether an answer may have missed an object at *path*."""
        if not self._prefixes:
            return False
        with self._lock:
            since = self._unverified_since(path)
            own = self._entries.get(path)
            if since is None:
                return False
            return not isinstance(own, Receipt) or own.stored_at <= since

    def _unverified_since(self, path: str) -> float | None:
        parents = [*_upwards(path)][1:]
        covering = [path, *parents, *(f"{parent}/" for parent in parents)]
        states = [self._prefixes[p] for p in covering if p in self._prefixes]
        return max((state.since for state in states), default=None)

    def warn_once(self, root: str) -> bool:
        """Return True at the first call for *root*, False afterwards."""
        with self._lock:
            is_first = root not in self._warned
            self._warned.add(root)
            return is_first


def _upwards(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _above(prefix: str) -> str:
    parent = prefix.rstrip("/").rpartition("/")[0]
    return f"{parent}/" if parent else prefix

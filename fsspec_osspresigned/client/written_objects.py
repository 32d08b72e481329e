"""Record in memory of the objects that this process wrote.

Write-only URLs cannot check which objects exist, but generic tools ask for that. This
record answers for objects of this process, and keeps small bodies for tools that read
back their own metadata (zarr, xarray).

A look is a request that asks about objects: HeadObject, GetObject or a listing. Where
the store answers a listing and another look, objects are not recorded, and this record
cannot tell whether the process wrote them. Permissions depend on prefixes. A reply in a
directory is therefore valid for everything below the directory, and a reply at the top of
a bucket only for objects at the top.

A look is blind if it was answered without the store, for example because the signer
refuses it. Blind looks are recorded, because an object that they missed must not be
replaced (decision 13).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from attrs import evolve

from ..model import Action, Operation, Receipt
from ..units import MIB

LOOKS = frozenset({Action.HeadObject, Action.GetObject, Action.ListObjectsV2})
BODY_CAP = 1 * MIB  # bytes of a body that is kept
BODY_COST = 250  # bytes of overhead of a body, with its name
MAX_READABLE = 1_000  # directories for which the store is known to answer
MAX_BLIND = 200  # places of blind looks


def object_info(path: str, size: int, **known: Any) -> dict[str, Any]:
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
        "mtime": known.get("LastModified"),  # pyarrow asks for it by this name
    }


def info_of(receipt: Receipt) -> dict[str, Any]:
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


class _BlindLook(NamedTuple):
    stamp: int  # identifies the look, also in another process
    since: float  # epoch seconds when a look of another process became known; 0 for own


class WrittenObjects:
    """Record of the objects and directories that this process wrote; thread-safe.

    Above *most* objects or created directories, the least recently used tenth is dropped.

    Bodies of up to *max_body* bytes are kept. Together they have up to *max_bodies* bytes,
    including ``BODY_COST`` for each; the least recently used are dropped first.

    The cost of a query depends on the depth of its path or the number of its results,
    never on the total number of objects.

    Blind looks (see the module) are never dropped. Above ``MAX_BLIND`` places, those in the
    directory with the most of them are replaced by the directory.
    """

    def __init__(
        self,
        most: int = 100_000,
        max_body: int = BODY_CAP,
        max_bodies: int = 16 * MIB,
    ) -> None:
        self._most, self._max_body, self._max_bodies = most, max_body, max_bodies
        self._lock = threading.RLock()
        self._objects: dict[str, Receipt] = {}  # least recently used first
        self._directories: dict[str, None] = {}  # that were created; likewise
        self._within: dict[str, set[str]] = {}  # directory -> what lies directly in it
        self._new: set[str] = set()  # created, and not written into yet
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0  # bytes of the bodies, with their cost
        self._answered: dict[str, set[Action]] = {}  # directory -> looks at the store
        # Directories with objects that are not recorded.
        self._unknown: set[str] = set()
        # "bucket/key" is the object and all below it, "bucket/directory/" all below.
        self._blind: dict[str, _BlindLook] = {}
        self._warned: set[str] = set()

    # -- objects and directories ------------------------------------------------------------

    def remember(self, receipt: Receipt, data: bytes | None) -> None:
        if receipt.parts:  # up to 10,000, which no answer shows
            receipt = evolve(receipt, parts=(), upload_id=None)
        with self._lock:
            if self._new:
                self.trust_store(receipt.path)
            self._keep(receipt, data)

    def remember_copy(self, source: str, path: str, crc64: str | None) -> None:
        """Record *path* as a copy of *source*, if *crc64* proves it.

        *crc64* is the CRC-64 of the copy, in decimal. If it is None, or *source* is
        recorded with another one, *path* is not recorded: *source* may have been
        replaced before the store copied it, or afterwards.
        """
        with self._lock:
            own, body = self._objects.get(source), self._bodies.get(source)
            self.forget(path)
            self.trust_store(path)
            if own and own.crc64 is not None and str(own.crc64) == crc64:
                self._keep(evolve(own, path=path, etag=""), body)

    def remember_directory(self, path: str, *, asked: bool = False) -> None:
        """Record a directory.

        *asked* means that the user created it, so it is new and empty.
        """
        with self._lock:
            if path not in self._directories:
                for old in self._surplus(self._directories):
                    self.forget_directory(old)
            self._directories[path] = None
            self._link(path)
            if asked:
                self._new.add(path)

    def forget(self, path: str) -> None:
        with self._lock:
            self._forget_object(path)
            self.forget_directory(path)

    def forget_directory(self, path: str) -> None:
        """Drop the record of the directory *path*, but not of an object of that name."""
        with self._lock:
            self._directories.pop(path, None)
            self._new.discard(path)
            self._unlink(path)

    def trust_store(self, path: str) -> None:
        """No longer treat *path* and its parents as new, empty directories."""
        with self._lock:
            self._new.difference_update(_upwards(path))

    def receipt(self, path: str) -> Receipt | None:
        with self._lock:
            receipt = self._objects.pop(path, None)
            if receipt is not None:
                self._objects[path] = receipt  # now the most recently used
            return receipt

    def body(self, path: str) -> bytes | None:
        """Return the bytes of the object *path*; None if they were not kept."""
        with self._lock:
            data = self._bodies.get(path)
            if data is not None:
                self._bodies.move_to_end(path)
            return data

    def is_directory(self, path: str) -> bool:
        """Return whether *path* was created, or contains an object of this process."""
        with self._lock:
            return path in self._directories or path in self._within

    # Tools check for a directory that they just created (DuckDB, ``get_mapper``).
    def is_new_directory(self, path: str) -> bool:
        """Return whether *path* was created, and nothing written into it since."""
        with self._lock:
            return path in self._new

    def descendants(self, path: str, begin: str = "") -> Iterator[dict[str, Any]]:
        """Yield ``info`` of each object and each created directory below *path*.

        Only those are yielded whose name relative to *path* begins with *begin*.
        """
        with self._lock:
            names = [*self._within.get(path, ())]
            for name in names:  # the loop adds to them
                names += self._within.get(name, ())
        prefix = f"{path}/{begin}" if path else begin
        yield from self._described(
            (n for n in names if n.startswith(prefix)), made=True
        )

    def children(self, path: str) -> Iterator[dict[str, Any]]:
        with self._lock:
            names = [*self._within.get(path, ())]
        yield from self._described(names, made=False)

    def _described(
        self, names: Iterable[str], *, made: bool
    ) -> Iterator[dict[str, Any]]:
        with self._lock:  # an object that is asked for leaves its place for a moment
            receipts = [(name, self._objects.get(name)) for name in names]
        for name, receipt in receipts:
            if receipt is not None:
                yield info_of(receipt)
            if name in self._directories or (not made and name in self._within):
                yield {"name": name, "size": 0, "type": "directory"}

    def _keep(self, receipt: Receipt, data: bytes | None) -> None:
        path = receipt.path
        if path in self._objects or path in self._bodies:
            self._forget_object(path)
        readable, has_get = self._readable(path) if self._answered else ("", False)
        if readable:
            self._unknown.add(readable)
            self.remember_directory(readable)
        else:
            if len(self._objects) >= self._most:
                for old in self._surplus(self._objects):
                    self._forget_object(old)
            self._objects[path] = receipt
            siblings = self._within.get(path.rpartition("/")[0])
            if siblings is None:
                self._link(path)
            else:  # most objects have some
                siblings.add(path)
        if data is not None and len(data) <= self._max_body and not has_get:
            self._bodies[path] = data
            self._held += len(data) + BODY_COST
            while self._held > self._max_bodies:
                self._drop_body(next(iter(self._bodies)))

    def _surplus(self, records: Mapping[str, object]) -> list[str]:
        count = max(1, self._most // 10) if len(records) >= self._most else 0
        return [*islice(records, count)]

    def _forget_object(self, path: str) -> None:
        self._objects.pop(path, None)
        self._drop_body(path)
        self._unlink(path)

    def _drop_body(self, path: str) -> None:
        if (data := self._bodies.pop(path, None)) is not None:
            self._held -= len(data) + BODY_COST

    def _link(self, path: str) -> None:
        while path:
            parent = path.rpartition("/")[0]
            siblings = self._within.setdefault(parent, set())
            if path in siblings:
                return
            siblings.add(path)
            path = parent

    def _unlink(self, path: str) -> None:
        while path and not (path in self._objects or self.is_directory(path)):
            parent = path.rpartition("/")[0]
            siblings = self._within.get(parent, set())
            siblings.discard(path)
            if siblings or parent not in self._within:
                return
            del self._within[parent]
            path = parent

    # -- directories in which the store answers ---------------------------------------------

    def answered(self, look: Operation) -> bool:
        """Record that the store answered *look*.

        Returns True if this is the first answer to its action in its directory. Records
        that are no longer needed are then dropped. Above ``MAX_READABLE`` directories,
        answers in further directories are ignored, and False is returned.
        """
        place = look.listed_path.rpartition("/")[0]
        with self._lock:
            known = self._answered.get(place)
            if known is None and len(self._answered) < MAX_READABLE and place:
                known = self._answered[place] = set()
            if known is None or look.action in known:
                return False
            known.add(look.action)
            self._drop_readable(place)
            return True

    def _drop_readable(self, place: str) -> None:
        paths = [*self._within.get(place, ())]
        for path in paths:  # the loop adds to them
            if "/" in place:
                paths += self._within.get(path, ())
        paths += [path for path in self._bodies if path.startswith(f"{place}/")]
        for path in paths:
            readable, has_get = self._readable(path)
            if readable and has_get:
                self._drop_body(path)
            if readable and (receipt := self._objects.get(path)):
                self._keep(receipt, self._bodies.get(path))

    def _readable(self, path: str) -> tuple[str, bool]:
        """Return the highest parent of *path* where the store answers looks, or "".

        The second value is whether the store answers GetObject for *path*.
        """
        parents = [*_upwards(path)][:0:-1]
        answered: set[Action] = set()
        readable = ""
        for parent in parents[1:] or parents:  # the top of a bucket: only its objects
            answered |= self._answered.get(parent, set())
            if not readable and Action.ListObjectsV2 in answered and len(answered) > 1:
                readable = parent
        return readable, Action.GetObject in answered

    def is_unrecorded(self, path: str, *, below: bool = False) -> bool:
        """Return whether *path*, or an object *below* it, may exist without a record."""
        with self._lock:
            return any(
                f"{path}/".startswith(f"{place}/")
                or (below and place.startswith(f"{path}/" if path else ""))
                for place in self._unknown
            )

    # -- blind looks ------------------------------------------------------------------------

    def note_blind_look(self, place: str) -> None:
        """Record that a look at *place* was answered without asking the store.

        *place* is ``bucket/key``, or ``bucket/directory/`` for what is below it.
        """
        with self._lock:
            before = self._blind.get(place, _BlindLook(0, 0.0))
            self._add_blind(place, _BlindLook(time.time_ns(), before.since))

    def blind_looks(self) -> dict[str, int]:
        """Return the recorded blind looks, for ``add_blind_looks`` in another process."""
        # Without the lock, which a fork may have left taken.
        looks = tuple(self._blind.items())
        return {place: look.stamp for place, look in looks}

    def add_blind_looks(self, looks: Mapping[str, int]) -> None:
        """Record blind looks of another process, whose answers this process acts on.

        These looks also missed what this process had written before, which the other
        process did not know.
        """
        now = time.time()
        with self._lock:
            for place, stamp in looks.items():
                self._add_blind(place, _BlindLook(stamp, now))

    def _add_blind(self, place: str, look: _BlindLook) -> None:
        if place in self._blind and self._blind[place].stamp == look.stamp:
            return
        self._blind[place] = look
        while len(self._blind) > MAX_BLIND:
            parents = {p: above for p in self._blind if (above := _above(p)) != p}
            if not parents:
                return  # one place for each bucket
            ((widest, _),) = Counter(parents.values()).most_common(1)
            merged = {widest, *(p for p in parents if parents[p] == widest)}
            looks = [self._blind.pop(p) for p in merged & self._blind.keys()]
            stamps, times = zip(*looks, strict=True)
            self._blind[widest] = _BlindLook(max(stamps), max(times))

    @property
    def has_blind_looks(self) -> bool:
        return bool(self._blind)

    def may_hide(self, path: str) -> bool:
        """Return whether a blind look may have missed an object at *path*.

        False where the store answers looks itself.
        """
        with self._lock:
            since = self._blind_since(path) if self._blind else None
            if since is None or self._readable(path)[0]:
                return False
            own = self._objects.get(path)
            return own is None or own.stored_at <= since

    def _blind_since(self, path: str) -> float | None:
        parents = [*_upwards(path)][1:]
        places = [path, *parents, *(f"{parent}/" for parent in parents)]
        looks = [self._blind[place] for place in places if place in self._blind]
        return max((look.since for look in looks), default=None)

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


def _above(place: str) -> str:
    parent = place.rstrip("/").rpartition("/")[0]
    return f"{parent}/" if parent else place

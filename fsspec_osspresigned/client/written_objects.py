"""Record in memory of the objects that this process wrote.

Write-only URLs cannot check which objects exist, but generic tools ask for that. This
record answers for objects of this process, and keeps small bodies for tools that read
back their own metadata (zarr, xarray). It keeps nothing for directories in which the
store itself answers HeadObject or a listing. Permissions depend on prefixes, so a reply
in a directory is valid for everything below it, and one at the top of a bucket only for
the top. A look is blind if it was answered without the store.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from attrs import evolve, frozen

from ..model import Action, Operation, Receipt
from ..units import MIB

LOOKS = frozenset({Action.HeadObject, Action.GetObject, Action.ListObjectsV2})
BODY_CAP = 1 * MIB  # bytes of a body that is kept
BODY_COST = 250  # bytes that keeping any body takes besides, with its name


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
        "mtime": known.get("LastModified"),  # by this name pyarrow asks for it
    }


def info_of(receipt: Receipt) -> dict[str, Any]:
    """Return the ``fs.info`` of an object that this process stored."""
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


class WrittenObjects:
    """Record of the objects and directories that this process wrote; thread-safe.

    Above *most* objects or created directories, the least recently used tenth is
    dropped. Bodies of up to *most_body* bytes are kept, up to *most_bodies* bytes in
    total, including ``BODY_COST`` for each; the least recently used are dropped first.
    The cost of a query depends on the depth of its path or the number of its results,
    never on the total number of objects.
    """

    def __init__(
        self,
        most: int = 100_000,
        most_body: int = BODY_CAP,
        most_bodies: int = 16 * MIB,
    ) -> None:
        self._most, self._most_body, self._most_bodies = most, most_body, most_bodies
        self._lock = threading.RLock()
        self._objects: dict[str, Receipt] = {}  # least recently used first
        self._directories: dict[str, None] = {}  # those that were made, likewise
        self._within: dict[str, set[str]] = {}  # directory -> what lies directly in it
        self._new: set[str] = set()  # directories made, and not written into yet
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._held = 0
        self._warned: set[str] = set()
        self._seen = ReadableDirectories()
        self._blind = BlindLooks()

    def remember(self, receipt: Receipt, data: bytes | None) -> None:
        """Record a stored object, and its body if it is small."""
        if receipt.parts:  # up to 10,000, which no answer shows
            receipt = evolve(receipt, parts=(), upload_id=None)
        with self._lock:
            if self._new:
                self.trust_store(receipt.path)
            self._keep(receipt, data)

    def remember_copy(self, source: str, path: str) -> None:
        """Record *path* as a copy of *source*, if this process wrote *source*."""
        with self._lock:
            own, body = self._objects.get(source), self._bodies.get(source)
            self.forget(path)
            self.trust_store(path)
            if own is not None:
                self._keep(evolve(own, path=path, etag=""), body)

    def remember_directory(self, path: str, *, asked: bool = False) -> None:
        """Record a directory; *asked* means that the user created it, so it is empty."""
        with self._lock:
            if path not in self._directories:
                for old in self._surplus(self._directories):
                    self.forget_directory(old)
            self._directories[path] = None
            self._link(path)
            if asked:
                self._new.add(path)

    def forget(self, path: str) -> None:
        """Drop the record of an object or directory that was deleted or replaced."""
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

    def answered(self, look: Operation) -> bool:
        """Note that the store answered *look*, and drop records no longer needed.

        Returns True if this is the first answer for the directory of *look*.
        """
        with self._lock:
            if place := self._seen.add(look):
                self._drop_covered(place)
            return bool(place)

    def _drop_covered(self, place: str) -> None:
        """Drop what the store itself can answer now in the directory *place*."""
        paths = [*self._within.get(place, ())]
        for path in paths:  # which grows
            if "/" in place:
                paths += self._within.get(path, ())
        kept = [path for path in self._bodies if path.startswith(f"{place}/")]
        for path in (*paths, *kept):
            seen, is_readable = self._seen.cover(path)
            if seen and is_readable:
                self._drop_body(path)
            if seen and (receipt := self._objects.get(path)):
                self._keep(receipt, self._bodies.get(path))

    def is_unrecorded(self, path: str, *, below: bool = False) -> bool:
        """Return whether *path* may have been written without being recorded here.

        That is so if the store has answered a HeadObject, GetObject or listing in the
        directory of *path*: objects there are not recorded, because the store can be
        asked. *below* returns the same for any object below *path*.
        """
        with self._lock:
            return self._seen.lacks(path, below=below)

    def note_blind_look(self, place: str) -> None:
        """Record that a look at *place* was answered without asking the store.

        *place* is ``bucket/key``, or ``bucket/directory/`` for what is below it.
        """
        with self._lock:
            self._blind.add(place)

    def blind_looks(self) -> dict[str, int]:
        """Return the blind looks for ``add_blind_looks`` of another process."""
        return (
            self._blind.stamps()
        )  # without the lock, which a fork may have left taken

    def add_blind_looks(self, looks: Mapping[str, int]) -> None:
        """Record blind looks of another process, whose answers this process acts on.

        What this process wrote before, the other process did not see.
        """
        with self._lock:
            self._blind.add_stamps(looks)

    def may_hide(self, path: str) -> bool:
        """Return whether a blind look may have missed an object at *path*.

        That is not so for objects of this process, and where the store answers looks.
        """
        with self._lock:
            since = self._blind.since(path)
            if since is None or self._seen.cover(path)[0]:
                return False
            own = self._objects.get(path)
            return own is None or own.stored_at <= since

    def _keep(self, receipt: Receipt, data: bytes | None) -> None:
        path = receipt.path
        if path in self._objects or path in self._bodies:
            self._forget_object(path)
        seen, is_readable = self._seen.cover(path)
        if seen:
            self._seen.leave_out(seen)
            self.remember_directory(seen)
        else:
            for old in self._surplus(self._objects):
                self._forget_object(old)
            self._objects[path] = receipt
            self._link(path)
        if data is not None and len(data) <= self._most_body and not is_readable:
            self._bodies[path] = data
            self._held += len(data) + BODY_COST
            while self._held > self._most_bodies:
                self._drop_body(next(iter(self._bodies)))

    def _surplus(self, remembered: Mapping[str, object]) -> list[str]:
        """Return the least recently used records to drop, several at a time."""
        count = max(1, self._most // 10) if len(remembered) >= self._most else 0
        return [*islice(remembered, count)]

    def _forget_object(self, path: str) -> None:
        self._objects.pop(path, None)
        self._drop_body(path)
        self._unlink(path)

    def _link(self, path: str) -> None:
        """Add *path* to its directory, and the directory to its parent."""
        while path:
            parent = path.rpartition("/")[0]
            siblings = self._within.setdefault(parent, set())
            if path in siblings:
                return
            siblings.add(path)
            path = parent

    def _unlink(self, path: str) -> None:
        """Remove *path* from its directory, unless *path* is still recorded.

        Parents that are then empty, and not recorded, are removed too.
        """
        while path and not (path in self._objects or self._is_directory(path)):
            parent = path.rpartition("/")[0]
            siblings = self._within.get(parent, set())
            siblings.discard(path)
            if siblings or parent not in self._within:
                return
            del self._within[parent]
            path = parent

    def _is_directory(self, path: str) -> bool:
        return path in self._directories or path in self._within

    def _drop_body(self, path: str) -> None:
        if (data := self._bodies.pop(path, None)) is not None:
            self._held -= len(data) + BODY_COST

    def is_new_directory(self, path: str) -> bool:
        """Return whether *path* was created and nothing was written into it since.

        Tools check for a directory that they just created (DuckDB, ``get_mapper``).
        After the first object in the directory, the store is asked.
        """
        with self._lock:
            return path in self._new

    def receipt(self, path: str) -> Receipt | None:
        """Return the receipt of an object of this process; None for other objects."""
        with self._lock:
            found = self._objects.pop(path, None)
            if found is not None:
                self._objects[path] = found  # the last that was used
            return found

    def body(self, path: str) -> bytes | None:
        """Return the body of an object of this process; None if it was not kept."""
        with self._lock:
            data = self._bodies.get(path)
            if data is not None:
                self._bodies.move_to_end(path)
            return data

    def is_directory(self, path: str) -> bool:
        """Return whether *path* was created, or contains an object of this process."""
        with self._lock:
            return self._is_directory(path)

    def descendants(self, path: str, begin: str = "") -> Iterator[dict[str, Any]]:
        """Yield ``info`` of the objects and created directories under *path*.

        Names that do not begin with *begin*, relative to *path*, are omitted.
        """
        with self._lock:
            names = [*self._within.get(path, ())]
            for name in names:  # which grows
                names += self._within.get(name, ())
        front = f"{path}/{begin}" if path else begin
        yield from self._described((n for n in names if n.startswith(front)), made=True)

    def children(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield ``info`` of the direct children of the directory *path*."""
        with self._lock:
            names = [*self._within.get(path, ())]
        yield from self._described(names, made=False)

    def _described(
        self, names: Iterable[str], *, made: bool
    ) -> Iterator[dict[str, Any]]:
        """Yield ``info`` of the recorded objects and directories among *names*.

        *made* omits directories that were not created, but contain an object.
        """
        with self._lock:  # an object that is asked for leaves its place for a moment
            found = [(name, self._objects.get(name)) for name in names]
        for name, receipt in found:
            if receipt is not None:
                yield info_of(receipt)
            if name in self._directories or (not made and name in self._within):
                yield {"name": name, "size": 0, "type": "directory"}

    def warn_once(self, root: str) -> bool:
        """Return whether the caller must warn that *root* was answered from this record.

        True at the first call for *root*, False afterwards.
        """
        with self._lock:
            first = root not in self._warned
            self._warned.add(root)
            return first


def _upwards(path: str) -> Iterator[str]:
    """Yield *path* and its parent directories."""
    while path:
        yield path
        path = path.rpartition("/")[0]


class ReadableDirectories:
    """Record of directories for which the store answered; the caller must hold a lock.

    At most *most* directories are recorded; replies in others are ignored.
    """

    def __init__(self, most: int = 1_000) -> None:
        self._most = most
        self._answered: dict[str, set[Action]] = {}
        self._unrecorded: set[str] = set()

    def add(self, look: Operation) -> str:
        """Record that the store answered *look*; return the directory, "" if known."""
        place = look.listed_path.rpartition("/")[0]
        known = self._answered.get(place, set())
        if not place or look.action in known or (not known and self._is_full):
            return ""
        self._answered.setdefault(place, known).add(look.action)
        return place

    @property
    def _is_full(self) -> bool:
        return len(self._answered) >= self._most

    def cover(self, path: str) -> tuple[str, bool]:
        """Return the highest parent of *path* for which the store answers, or "".

        The second value says whether GetObject was answered, so objects can be read.
        """
        answered: set[Action] = set()
        end = path.find("/") if self._answered else -1
        last = path.rfind("/")
        place = ""
        while end > 0:
            above = path[:end]
            if "/" in above or end == last:
                answered |= self._answered.get(above, set())
            if not place and Action.ListObjectsV2 in answered and len(answered) > 1:
                place = above
            end = path.find("/", end + 1)
        return place, Action.GetObject in answered

    def leave_out(self, place: str) -> None:
        """Note that *place* contains an object of this process that is not recorded."""
        self._unrecorded.add(place)

    def lacks(self, path: str, *, below: bool = False) -> bool:
        """Return whether this process may have written *path* without recording it.

        *below* returns whether it may have written objects below *path* in this way.
        """
        return any(
            f"{path}/".startswith(f"{place}/")
            or (below and place.startswith(f"{path}/" if path else ""))
            for place in self._unrecorded
        )


@frozen
class BlindLook:
    """Last blind look at one place.

    Attributes:
        stamp: identifies the look, also in another process.
        since: time, in seconds since the epoch, from which this process knows of a look
            of another process; 0 for a look of this process.
    """

    stamp: int
    since: float = 0.0


class BlindLooks:
    """Places for which a look was answered without asking the store.

    A place is an object with everything below it (``bucket/key``), or only what is below
    a directory (``bucket/directory/``). Above *most* places, those of the directory that
    has most of them become one place, the directory. The caller must hold a lock.
    """

    def __init__(self, most: int = 200) -> None:
        self._most = most
        self._looks: dict[str, BlindLook] = {}

    def add(self, place: str) -> None:
        """Record a blind look of this process at *place*."""
        before = self._looks.get(place)
        since = 0.0 if before is None else before.since
        self._add(place, BlindLook(time.time_ns(), since))

    def stamps(self) -> dict[str, int]:
        """Return the places with the stamps of their last looks, for another process."""
        return {place: look.stamp for place, look in tuple(self._looks.items())}

    def add_stamps(self, stamps: Mapping[str, int]) -> None:
        """Record the looks of another process, of which ``stamps`` returned *stamps*."""
        now = time.time()
        for place, stamp in stamps.items():
            before = self._looks.get(place)
            if before is None or before.stamp != stamp:
                self._add(place, BlindLook(stamp, now))

    def _add(self, place: str, look: BlindLook) -> None:
        self._looks[place] = look
        while len(self._looks) > self._most:
            parents = {p: parent for p in self._looks if (parent := _above(p)) != p}
            if not parents:
                return  # one place for each bucket
            ((widest, _),) = Counter(parents.values()).most_common(1)
            merged = [self._looks.pop(p) for p in parents if parents[p] == widest]
            merged += [self._looks[widest]] if widest in self._looks else []
            self._looks[widest] = BlindLook(
                max(one.stamp for one in merged), max(one.since for one in merged)
            )

    def since(self, path: str) -> float | None:
        """Return the time from which objects written to *path* are known to the looks.

        None if no blind look covers *path*.
        """
        if not self._looks:
            return None
        places, end = [path], path.find("/")
        while end > 0:
            places += [path[: end + 1], path[:end]]
            end = path.find("/", end + 1)
        found = [self._looks[place] for place in places if place in self._looks]
        return max((look.since for look in found), default=None)


def _above(place: str) -> str:
    """Return the place of the directory that contains *place*; a bucket stays itself."""
    parent = place.rstrip("/").rpartition("/")[0]
    return f"{parent}/" if parent else place

"""Looks of this process: directories where the store answers them, and blind looks.

Objects that this process writes where the store answers HeadObject or a listing need not
be recorded in memory. Permissions depend on prefixes, so a reply in a directory is valid
for everything below that directory. A reply at the top of a bucket is valid only for the
top. A look is blind if it was answered without the store.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

from attrs import frozen

from ..model import Action, Operation

LOOKS = frozenset({Action.HeadObject, Action.GetObject, Action.ListObjectsV2})


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

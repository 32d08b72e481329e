"""Readable directories: those for which the store answers HeadObject or a listing.

Objects that this process writes in such a directory need not be recorded in memory.
Permissions depend on prefixes, so a reply in a directory is valid for everything below
that directory. A reply at the top of a bucket is valid only for the top.
"""

from __future__ import annotations

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

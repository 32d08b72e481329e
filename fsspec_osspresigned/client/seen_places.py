"""Readable directories: those in which the store answers HeadObject or a listing.

What this process wrote there needs no record. Permissions go by prefixes, so an answer
in a directory holds for all below it; the top of a bucket says something of itself alone.
"""

from __future__ import annotations

from ..model import Action, Operation

LOOKS = frozenset({Action.HeadObject, Action.GetObject, Action.ListObjectsV2})


class SeenPlaces:
    """Record of the answers by directory; its owner's lock guards it.

    At most *most* directories are known; an answer in any further one says nothing.
    """

    def __init__(self, most: int = 1_000) -> None:
        self._most = most
        self._answered: dict[str, set[Action]] = {}
        self._unrecorded: set[str] = set()

    def add(self, look: Operation) -> str:
        """Note an answer to *look*; return the directory if that is new, else ""."""
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
        """Return the highest directory of *path* that can be seen, "" without one.

        And whether the objects can be read: for that, GetObject was answered.
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
        """Note that an object in *place* was not recorded."""
        self._unrecorded.add(place)

    def lacks(self, path: str, *, below: bool = False) -> bool:
        """Return whether *path*, or with *below* what is in it, may be unrecorded."""
        return any(
            f"{path}/".startswith(f"{place}/")
            or (below and place.startswith(f"{path}/" if path else ""))
            for place in self._unrecorded
        )

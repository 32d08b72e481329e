"""Link estimate: round trip and rate of a connection, measured by the requests sent.

The estimate is kept only in memory. The part sizes of files and values depend on it.
"""

from __future__ import annotations

from attrs import frozen

from ..model import Action
from ..units import KIB, MIB

_SMALL = 16 * KIB  # bytes up to which the round trip decides
_LARGE = MIB  # bytes from which on the rate decides
_SHARE = 1 / 8  # of the way to a worse sample
_MOST = 15 / 16  # of the time of a large request, that may be its round trip


@frozen
class Link:
    """Properties of the link to one bucket's endpoint.

    Attributes:
        round_trip: duration in seconds of a request without a body.
        rate: bytes per second of one connection.
        parts: whether a multipart upload was begun here, so it is permitted.
    """

    round_trip: float
    rate: float
    parts: bool = False


class LinkEstimate:
    """Moving estimate of the link's properties.

    Several threads may call it without a lock, because a lost sample does not matter. A
    better sample counts fully and a worse one little, because waiting and other
    requests on the same link can only make a sample worse.
    """

    def __init__(self) -> None:
        self._round_trip: float | None = None
        self._rate: float | None = None
        self._parts = False

    @property
    def link(self) -> Link | None:
        """The estimate; None until a small and a large request have been answered."""
        if self._round_trip is None or self._rate is None:
            return None
        return Link(self._round_trip, self._rate, self._parts)

    def note(self, action: Action, size: int, seconds: float) -> None:
        """Record a completed request with a body of *size* bytes that took *seconds*."""
        self._parts |= action is Action.InitiateMultipartUpload
        if size <= _SMALL:
            old, new = self._round_trip, seconds
            is_better = old is not None and new < old
            self._round_trip = _after(old, new, is_better=is_better)
        elif size >= _LARGE:
            waiting = min(self._round_trip or 0, seconds * _MOST)
            old, new = self._rate, size / max(seconds - waiting, 1e-6)
            is_better = old is not None and new > old
            self._rate = _after(old, new, is_better=is_better)


def _after(old: float | None, new: float, *, is_better: bool) -> float:
    return new if old is None or is_better else old + _SHARE * (new - old)

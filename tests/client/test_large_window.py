"""LargeWindow: its limit on links of several kinds. The clock is simulated."""

from __future__ import annotations

from collections import deque

import pytest

from fsspec_osspresigned.client.congestion import LargeWindow
from fsspec_osspresigned.errors import StoreUnavailableError
from fsspec_osspresigned.units import MIB

PART = 8 * MIB


class Link:
    """A link with a limit for each connection and one for all, in bytes a second."""

    def __init__(self, each: float, all_together: float, most: int = 16) -> None:
        self.time = 1000.0
        self.each, self.all_together = each, all_together
        self.window = LargeWindow(most, clock=lambda: self.time)

    def send(self, parts: int) -> set[int]:
        """Send *parts* as the window permits; return the sizes that it had."""
        waiting, sizes = deque([PART] * parts), {self.window.size}
        moving: list[float] = []  # bytes that are left of the requests in flight
        while waiting or moving:
            while waiting and len(moving) < self.window.size:
                moving.append(waiting.popleft())
            rate = min(self.each, self.all_together / len(moving))
            moved = min(moving)
            self.time += moved / rate
            moving = [left - moved for left in moving]
            for _ in range(moving.count(0)):
                self.window.note(PART, is_awaited=bool(waiting))
            moving = [left for left in moving if left]
            sizes.add(self.window.size)
        return sizes

    def refuse(self, times: int = 1, status: int = 503) -> int:
        """Let the store refuse requests; return the size."""
        for _ in range(times):
            self.window.note_failure(StoreUnavailableError("no", status=status))
        return self.window.size


@pytest.mark.parametrize(
    ("each", "all_together", "sizes", "last"),
    [
        (3e9, 2e9, {4, 8}, 4),  # four fill it
        (300e6, 2e9, {4, 8, 16}, 8),  # seven fill it
        (300e6, 9e9, {4, 8, 16}, 16),
        (10e6, 9e9, {4, 8, 16}, 16),
    ],
)
def test_window_grows_while_the_rate_grows(each, all_together, sizes, last):
    """It tries twice as many, and takes that back if no more bytes move."""
    link = Link(each, all_together)
    assert link.send(128) == sizes
    assert link.window.size == last


def test_slow_link_opens_the_window_at_once():
    """It is slow if no reply comes for some time; after a round, the rate decides."""
    link = Link(10e6, 9e9)
    link.window.note(PART, is_awaited=False)
    link.window.note_slow(answered=0)  # one reply has come
    assert link.window.size == 4
    link.window.note_slow(answered=1)
    assert link.window.size == 16
    quick = Link(3e9, 2e9)
    quick.send(128)
    quick.window.note_slow(quick.window.answered)
    assert quick.window.size == 4


@pytest.mark.parametrize("status", [429, 503])
def test_refusal_halves_once_for_what_was_in_flight(status):
    """Further refusals of requests that were already in flight do not halve it again."""
    link = Link(300e6, 9e9)
    link.send(128)
    assert link.refuse(16, status) == 8
    assert link.refuse(1, status) == 4
    link.window.note_slow(link.window.answered)
    assert link.window.size == 4


def test_window_rests_after_a_refusal():
    """For a second; then it grows again, if that brings more."""
    link = Link(2e9, 64e9)
    assert link.refuse() == 2
    assert link.send(32) == {2}
    link.time += 1
    assert link.send(64) == {2, 4, 8, 16}

"""Size of the window of small requests: it grows, rests, and halves; no time passes."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.client.congestion import RequestWindow
from fsspec_osspresigned.errors import StoreUnavailableError


class Link:
    """A window, and a clock that stands still until a test moves it."""

    def __init__(self, most: int = 128) -> None:
        self.time = 1000.0
        self.window = RequestWindow(most, clock=lambda: self.time)

    def rounds(self, *seconds: float, used: float = 1.0) -> list[int]:
        """Let a round of replies come for each of *seconds*; return the sizes."""
        sizes = []
        for each in seconds:
            size = self.window.size
            for _ in range(size):
                self.window.note(each, int(size * used))
            sizes.append(self.window.size)
        return sizes

    def refuse(self, times: int = 1, status: int = 503) -> int:
        """Let the store refuse requests; return the size."""
        for _ in range(times):
            self.window.note_failure(StoreUnavailableError("no", status=status))
        return self.window.size


TABLE = {
    "grows while replies take as long": ([0.02] * 5, [32, 64, 128, 128, 128]),
    "may take half as long again": ([0.02, 0.029, 0.029], [32, 64, 128]),
    "rests while they take longer": ([0.02, 0.04, 0.04], [32, 32, 32]),
    "grows by steps after a rest": ([0.02, 0.04, 0.02, 0.02], [32, 32, 40, 48]),
    "a better reply moves the base": ([0.02, 0.01, 0.02], [32, 64, 64]),
}


@pytest.mark.parametrize("case", TABLE)
def test_growth(case):
    """Each round is compared with the best one."""
    seconds, sizes = TABLE[case]
    assert Link().rounds(*seconds) == sizes


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_halves_once_for_what_was_in_flight(status):
    """Further refusals of requests that were already in flight do not halve it again."""
    link = Link()
    link.rounds(0.02, 0.02, 0.02)
    assert link.refuse(100, status) == 64
    assert link.refuse(28, status) == 64
    assert link.refuse(1, status) == 32


def test_after_a_refusal_it_rests_for_a_second_and_grows_by_steps():
    """Limits count requests a second."""
    link = Link()
    link.rounds(0.02, 0.02)
    assert link.refuse() == 32
    assert link.rounds(0.02, 0.02) == [32, 32]
    link.time += 1
    assert link.rounds(0.02, 0.02, 0.02) == [40, 48, 56]


def test_the_base_is_measured_again():
    """After half a minute, half of the window says what the link takes now."""
    link = Link()
    link.rounds(0.02, 0.02, 0.02)
    link.time += 31
    assert link.rounds(0.05) == [64]
    assert link.rounds(0.05) == [128]

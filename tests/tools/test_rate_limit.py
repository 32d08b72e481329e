"""The limit of bytes per second."""

from __future__ import annotations

import threading

import pytest

from fsspec_osspresigned.tools.progress import RateLimit


class Clock:
    """Seconds that a test moves; waiting moves them, too."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


def test_rate_is_kept_by_blocks_of_any_size(clock):
    """The rate holds, except for bytes saved up during a pause."""
    rate = RateLimit(1000, clock=clock, sleep=clock.sleep)
    for size in (100, 5000, 1, 899, 4000):
        rate.take(size)
    assert clock.now == pytest.approx(10 - 0.25)


def test_rate_that_is_lifted_lets_everybody_go():
    """Lifting the limit also ends waits that have begun."""
    rate = RateLimit(1)
    waiting = threading.Thread(target=rate.take, args=(1_000_000,))
    waiting.start()
    rate.lift()
    waiting.join(10)
    assert not waiting.is_alive()
    rate.take(1_000_000)

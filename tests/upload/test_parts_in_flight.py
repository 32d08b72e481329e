"""The parts in flight: never more than the window, one by one where memory is short."""

from __future__ import annotations

import threading

import pytest

from fsspec_osspresigned.concurrency.budget import Budget, Lease
from fsspec_osspresigned.http.body import EMPTY, PartBody
from fsspec_osspresigned.upload.parts_in_flight import PartsInFlight


class Part:
    """A body of one part, and how often its buffer was given back."""

    def __init__(self, size=10, lease=None):
        self.back = 0
        self.body = PartBody((memoryview(bytes(size)),), size, self._given, lease)

    def _given(self):
        self.back += 1


def in_thread(function, *args):
    """Start *function* in a thread, and return it."""
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def memory():
    """A budget in place of the process's."""
    return Budget()


@pytest.fixture
def window(memory):
    """Make a window over that budget."""

    def make(width, limit=100):
        return PartsInFlight(width, limit, memory)

    return make


def test_width(window):
    """Who comes to a full window waits until somebody leaves."""
    one = window(2)
    for number in (1, 2):
        one.enter(number, EMPTY)
    thread = in_thread(one.enter, 3, EMPTY)
    thread.join(0.25)  # it looks again now and then
    assert thread.is_alive()
    assert one.count == 2
    one.leave(1, EMPTY)
    thread.join(10)
    assert not thread.is_alive()
    assert one.count == 2


def test_buffer_is_given_back_once(window):
    """Leaving gives the buffer of a part back; other bodies have none."""
    one, part = window(2), Part()
    one.enter(1, part.body)
    one.enter(2, EMPTY)
    assert part.back == 0
    one.leave(2, EMPTY)
    one.leave(1, part.body)
    assert part.back == 1


def test_part_without_a_buffer(window):
    """A part that nobody wants back leaves as well."""
    one, body = window(1), PartBody((memoryview(b"abc"),), 3)
    for number in (1, 2):
        one.enter(number, body)
        one.leave(number, body)
    assert one.count == 0


def test_one_by_one_where_memory_is_short(window, memory):
    """Over the limit a part waits for those of its own upload, never for others."""
    one, first, second = window(4), Part(), Part()
    others = Lease(memory, 100)
    one.enter(1, first.body)  # nothing of ours is in flight
    thread = in_thread(one.enter, 2, second.body)
    thread.join(0.05)
    assert thread.is_alive()
    one.leave(1, first.body)
    thread.join(10)
    assert not thread.is_alive()
    assert one.count == 1
    del others


def test_memory_that_comes_back(window, memory):
    """A part goes out as soon as what others used is given back."""
    one = window(4)
    lease = [Lease(memory, 100)]
    one.enter(1, Part().body)
    thread = in_thread(one.enter, 2, Part().body)
    thread.join(0.05)
    assert thread.is_alive()
    lease.clear()
    thread.join(10)
    assert not thread.is_alive()
    assert one.count == 2


def test_other_bodies_hold_no_memory(window, memory):
    """A stretch of a file never waits for memory."""
    one = window(3)
    others = Lease(memory, 1000)
    for number in range(3):
        one.enter(number, EMPTY)
    assert one.count == 3
    del others


def test_interrupt_while_it_waits_for_memory(window, memory, monkeypatch):
    """A part that was interrupted leaves like any other, once its buffer is free."""
    one, part = window(2), Part()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.enter(1, part.body)
    one.leave(1, part.body)
    assert (one.count, part.back) == (0, 1)


def test_part_that_never_entered_leaves(window):
    """One that was interrupted before it was counted takes no other one with it."""
    one = window(2)
    one.enter(1, EMPTY)
    one.leave(2, EMPTY)
    assert one.count == 1


def test_drain(window):
    """Draining waits for all that are in flight."""
    one = window(3)
    one.drain()
    for number in (1, 2):
        one.enter(number, EMPTY)
    thread = in_thread(one.drain)
    one.leave(1, EMPTY)
    thread.join(0.05)
    assert thread.is_alive()
    one.leave(2, EMPTY)
    thread.join(10)
    assert not thread.is_alive()


def test_drain_gives_up(window):
    """Draining ends after its time, and the window is what it was."""
    one = window(2)
    one.enter(1, EMPTY)
    one.drain(0.01)
    one.enter(2, EMPTY)
    assert one.count == 2


def test_two_drain_at_once(window):
    """Two who drain do not wait for each other."""
    one = window(4)
    for number in range(4):
        one.enter(number, EMPTY)
    threads = [in_thread(one.drain) for _ in range(2)]
    for number in range(4):
        one.leave(number, EMPTY)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()

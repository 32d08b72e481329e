"""Which seconds count for giving up."""

from __future__ import annotations

import threading

import pytest

from fsspec_osspresigned.http.stall import AwakeClock


@pytest.fixture
def now():
    """The time of the machine: its last item."""
    return [1000.0]


@pytest.fixture
def clock(now):
    """A clock of that time."""
    return AwakeClock(lambda: now[-1])


def test_all_seconds_count(clock, now):
    """Work has no time limit, so its time counts, however long it takes."""
    began = clock()
    now.append(5000.0)
    assert clock() - began == 4000


def test_suspended_time_does_not_count(clock, now):
    """Each suspension is excluded, and the time after it counts."""
    began = clock()
    for at in (2000.0, 3000.0):
        now.append(at)
        clock.exclude(940.0)
    assert clock() - began == 120
    now.append(3001.0)
    assert clock() - began == 121


def test_each_thread_has_its_own(clock, now):
    """What one thread excludes is not excluded for another thread."""
    began = clock()
    thread = threading.Thread(target=clock.exclude, args=(9.0,))
    thread.start()
    thread.join()
    now.append(1010.0)
    assert clock() - began == 10

"""Which seconds count for giving up."""

from __future__ import annotations

import threading

import pytest

from fsspec_osspresigned.http.awake_clock import AwakeClock


@pytest.fixture
def now():
    """The time of the machine: its last item."""
    return [1000.0]


@pytest.fixture
def clock(now):
    """A clock of that time."""
    return AwakeClock(lambda: now[-1])


def test_all_seconds_count(clock, now):
    """Work has no time-out, and steps that end in time are whole."""
    began = clock()
    now.append(5000.0)
    assert clock() - began == 4000
    assert clock.step(60.0) == 5000
    now.append(5060.0)
    assert clock() - began == 4060


def test_stop_does_not_count(clock, now):
    """What a step takes beyond its time-out is no time of ours, each time anew."""
    began = clock()
    for at in (2000.0, 3000.0):
        clock.step(60.0)
        now.append(at)
    assert clock() - began == 120
    now.append(3001.0)
    assert clock() - began == 121


def test_each_thread_has_its_own(clock, now):
    """A step of one thread says nothing about another one."""
    began = clock()
    thread = threading.Thread(target=clock.step, args=(1.0,))
    thread.start()
    thread.join()
    now.append(1010.0)
    assert clock() - began == 10

"""Cancellation of work at several levels."""

from __future__ import annotations

import threading

from fsspec_osspresigned.concurrency.cancellation import Cancellation


def test_cancellation_goes_down_not_up():
    """What is set above is set below; a sibling and the one above are not touched."""
    top = Cancellation()
    left, right = Cancellation(top), Cancellation(top)
    below = Cancellation(left)
    left.set()
    assert below.is_set()
    assert not top.is_set()
    assert not right.is_set()
    top.set()
    assert right.is_set()
    assert Cancellation(top).is_set()


def test_a_wait_ends_when_an_ancestor_is_set():
    """A thread that waits for an event wakes when an event far above it is set."""
    top = Cancellation()
    below = Cancellation(Cancellation(top))
    ended: list[bool] = []
    waiting = threading.Thread(target=lambda: ended.append(below.wait(60)))
    waiting.start()
    top.set()
    waiting.join(30)
    assert ended == [True]

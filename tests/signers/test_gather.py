"""Single requests of many threads share few calls, and nobody hangs."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsspec_osspresigned.signers.batching import Gatherer


class Gate:
    """A send function whose first call waits until it is let through."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, items):
        """Answer each item with its double; odd thousands fail."""
        self.calls.append(list(items))
        self.entered.set()
        assert self.opened.wait(10)
        return [ValueError(i) if i >= 1000 else 2 * i for i in items]


def waiting(gatherer: Gatherer, count: int) -> None:
    """Return when *count* requests wait."""
    done = threading.Event()
    while len(gatherer._waiting) < count:
        done.wait(0.001)


def test_those_who_come_meanwhile_share_the_next_call():
    """One call is in flight; the others wait for the next ones, in order."""
    gate = Gate()
    gatherer = Gatherer(gate, 4)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(gatherer.ask, 1)
        assert gate.entered.wait(10)
        rest = [pool.submit(gatherer.ask, n) for n in range(2, 9)]
        waiting(gatherer, 7)
        gate.opened.set()
        assert first.result(10) == 2
        assert [f.result(10) for f in rest] == [2 * n for n in range(2, 9)]
    assert [len(call) for call in gate.calls] == [1, 4, 3]


def test_each_gets_its_own_failure():
    """A refused item does not hurt the one beside it."""
    gate = Gate()
    gatherer = Gatherer(gate, 10)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(gatherer.ask, 1)
        assert gate.entered.wait(10)
        bad, good = pool.submit(gatherer.ask, 1000), pool.submit(gatherer.ask, 3)
        waiting(gatherer, 2)
        gate.opened.set()
        assert first.result(10) == 2
        assert good.result(10) == 6
        with pytest.raises(ValueError, match="1000"):
            bad.result(10)


def test_failing_call_fails_for_all_and_the_next_one_works():
    """An exception leaves no leader behind."""
    fail = [True]

    def send(items):
        if fail:
            fail.pop()
            raise RuntimeError("broken")
        return items

    gatherer = Gatherer(send, 10)
    with pytest.raises(RuntimeError):
        gatherer.ask(1)
    assert gatherer.ask(2) == 2


def test_interrupted_leader_hands_the_lead_on():
    """Ctrl-C in the leading thread is its alone; the others are sent by the next."""
    entered, opened = threading.Event(), threading.Event()
    calls = []

    def send(items):
        calls.append(list(items))
        if len(calls) == 1:
            entered.set()
            assert opened.wait(10)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return items

    gatherer = Gatherer(send, 10)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(gatherer.ask, 1)
        assert entered.wait(10)
        second = pool.submit(gatherer.ask, 2)
        waiting(gatherer, 1)
        others = [pool.submit(gatherer.ask, n) for n in (3, 4)]
        waiting(gatherer, 3)
        opened.set()
        assert first.result(10) == 1
        with pytest.raises(KeyboardInterrupt):
            second.result(10)
        assert sorted(f.result(10) for f in others) == [3, 4]


class Interrupted:
    """An event whose wait is interrupted."""

    def __init__(self, then):
        self._then = then

    def set(self):
        """Nobody listens."""

    def wait(self):
        """Raise as Ctrl-C does in a waiting thread."""
        self._then()
        raise KeyboardInterrupt


@pytest.mark.parametrize("leads", [False, True])
def test_interrupted_waiter_leaves_the_queue(monkeypatch, leads):
    """A waiter that goes away takes no lead with it."""
    gate = Gate()
    gate.opened.set()
    gatherer = Gatherer(gate, 10)
    gatherer._busy = not leads
    real = threading.Event

    def then():
        monkeypatch.setattr(threading, "Event", real)

    monkeypatch.setattr(threading, "Event", lambda: Interrupted(then))
    with pytest.raises(KeyboardInterrupt):
        gatherer.ask(1)
    assert gatherer._waiting == []
    assert gatherer._busy is not leads
    gatherer._busy = False
    assert gatherer.ask(2) == 4


def test_child_of_a_fork_begins_anew(monkeypatch):
    """The leader of the parent does not exist in the child."""
    gatherer = Gatherer(lambda items: items, 10)
    gatherer._busy = True
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert gatherer.ask(1) == 1

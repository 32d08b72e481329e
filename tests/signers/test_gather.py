"""Single requests of many threads share few calls, and nobody hangs."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsspec_osspresigned.signers import batching
from fsspec_osspresigned.signers.batching import Gatherer
from tests.interrupts import Interrupt, at_line


def interrupt():
    """Raise as a signal handler does."""
    raise Interrupt


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
    while gatherer.waiting < count:
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


def interrupted_at(line, pool):
    """Interrupt a request before *line*; return whether there is such a line."""
    others = []

    def send(items):
        if not others:
            others.append(pool.submit(gatherer.ask, 7))
            waiting(gatherer, 2)
        return items

    gatherer = Gatherer(send, 10)
    try:
        with at_line(batching.__file__, line, interrupt):
            gatherer.ask(1)
        cut = False
    except Interrupt:
        cut = True
    assert all(other.result(10) == 7 for other in others)
    assert pool.submit(gatherer.ask, 2).result(10) == 2
    return cut


def test_interrupt_at_each_line():
    """An interrupted thread takes no request of another thread with it."""
    with ThreadPoolExecutor(2) as pool:
        lines = itertools.takewhile(
            lambda line: interrupted_at(line, pool), itertools.count()
        )
        assert len(list(lines)) > 10


def test_interrupted_waiter_leaves_the_queue():
    """A waiter that is interrupted while another thread sends is not sent."""
    gate, raised = Gate(), threading.Event()
    gatherer = Gatherer(gate, 10)

    def handle(*_):
        if not raised.is_set():
            raised.set()
            raise KeyboardInterrupt

    def press():
        waiting(gatherer, 2)
        while not raised.wait(0.1):  # one may come just before the wait begins
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handle)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(gatherer.ask, 1)
            assert gate.entered.wait(10)
            pressed = pool.submit(press)
            with pytest.raises(KeyboardInterrupt):
                gatherer.ask(2)
            gate.opened.set()
            assert first.result(10) == 2
            pressed.result(10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert gate.calls == [[1]]
    assert gatherer.ask(3) == 6


def test_child_of_a_fork_begins_anew(monkeypatch):
    """The sending thread of the parent does not exist in the child."""
    gate = Gate()
    gatherer = Gatherer(lambda items: gate(items) if items == [1] else items, 10)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(gatherer.ask, 1)
        assert gate.entered.wait(10)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert gatherer.ask(2) == 2
        gate.opened.set()
        assert first.result(10) == 2

"""What all uploads of a process share: nothing is counted twice, nobody starves."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import signal
import sys
import threading
import time
import tracemalloc

import pytest

from fsspec_osspresigned.concurrency import budget as budget_module
from fsspec_osspresigned.concurrency.budget import Budget, Lease, Turns, of_process
from tests.interrupts import Interrupt, at_line


def in_thread(function):
    """Start *function* in a thread, and return it."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def waits(budget, count=1):
    """Return whether *count* threads come to wait for *budget*."""
    end = time.monotonic() + 10
    while budget.waiting < count and time.monotonic() < end:
        time.sleep(0.001)
    return budget.waiting == count


# -- the count --------------------------------------------------------------------------


def test_take_and_give():
    """What was taken is used until it is given back."""
    budget = Budget()
    first, second = Lease(budget, 5), Lease(budget, 2)
    del first
    assert budget.used == 2
    del second
    assert budget.used == 0


@pytest.mark.parametrize(("used", "may"), [(9, False), (10, True)])
def test_nobody_waits_without_need(used, may):
    """Below the limit, and with an excuse, one goes on at once."""
    budget = Budget()
    lease = Lease(budget, used)
    budget.wait(10, lambda: may)
    assert (budget.used, budget.waiting) == (used, 0)
    del lease


def test_whoever_waits_is_told():
    """Giving back wakes all who wait, and they go on if it is enough."""
    budget = Budget(glance=60.0)
    leases = [Lease(budget, 1), Lease(budget, 5), Lease(budget, 6)]
    threads = [in_thread(lambda: budget.wait(10, bool)) for _ in range(3)]
    assert waits(budget, 3)
    del leases[0]
    assert waits(budget, 3)
    del leases[0]
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert budget.waiting == 0


def test_excuse_that_nobody_tells_of():
    """Whoever waits looks by himself whether his excuse has become true."""
    budget, excuses = Budget(), []
    lease = Lease(budget, 10)
    thread = in_thread(lambda: budget.wait(10, lambda: bool(excuses)))
    assert waits(budget)
    excuses.append(1)
    thread.join(10)
    assert not thread.is_alive()
    del lease


def test_excuse_that_raises():
    """Whoever fails while he waits does not count as waiting any more."""
    budget = Budget()
    lease = [Lease(budget, 1)]
    with pytest.raises(ZeroDivisionError):
        budget.wait(1, lambda: 1 / 0)
    assert budget.waiting == 0
    in_thread(lease.clear).join(10)
    assert budget.used == 0


def test_finalizer_in_the_middle():
    """What a finalizer gives back just before its own thread waits ends the wait."""
    budget = Budget()
    lease = [Lease(budget, 10)]

    def finalizes():
        lease.clear()
        return False

    budget.wait(10, finalizes)
    assert budget.used == 0


# -- leases -----------------------------------------------------------------------------


def test_lease_counts_as_long_as_it_lives():
    """A lease takes at once, and gives all of it back when it is dropped."""
    budget = Budget()
    lease = Lease(budget, 3)
    lease.more(4)
    assert budget.used == 7
    other = Lease(budget, 1)
    del lease
    assert budget.used == 1
    del other
    assert budget.used == 0


def test_leases_of_many_threads():
    """Nothing is lost when many threads take and drop at once."""
    budget = Budget()

    def work():
        for size in range(500):
            Lease(budget, size).more(3)

    threads = [in_thread(work) for _ in range(8)]
    for thread in threads:
        thread.join(30)
    assert budget.used == 0


def in_child(check):
    """Return whether *check* is true in a forked child that lives ten seconds at most."""
    pid = os.fork()
    if not pid:  # pragma: no cover - another process
        code = 1
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return False


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_has_a_budget_of_its_own():
    """What the parent uses does not count in a forked child, nor the other way."""
    ours = of_process()
    assert of_process() is ours

    def check():
        theirs = of_process()
        kept.append(Lease(theirs.memory, 1))
        return theirs is not ours and theirs.memory.used == 1

    before = ours.memory.used
    kept = [Lease(ours.memory, 1000)]
    assert in_child(check)
    assert ours.memory.used == before + 1000
    kept.clear()
    assert ours.memory.used == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_drops_the_leases_of_its_parent():
    """A child forked while another thread held the budget can end the parent's leases."""
    budget = Budget()
    leases = [Lease(budget, 10)]
    held, over = threading.Event(), threading.Event()

    def hold():
        with budget.lock:
            held.set()
            over.wait(30)

    thread = in_thread(hold)
    assert held.wait(10)

    def check():
        leases.clear()
        gc.collect()
        return True

    try:
        assert in_child(check)
    finally:
        over.set()
        thread.join(10)
    leases.clear()
    assert budget.used == 0


def test_interrupt_at_each_line_of_a_lease(monkeypatch):
    """An interrupt at any step, also of its finalizer, leaves no bytes behind."""
    # The hook of the tests keeps what a finalizer raised, and with it the lease.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    budget, reached = Budget(), []

    def act():
        reached.append(line)
        raise Interrupt

    def hold():
        lease = Lease(budget, 10)
        lease.more(5)
        assert budget.used == 15

    for line in itertools.count():
        with contextlib.suppress(Interrupt), at_line(budget_module.__file__, line, act):
            hold()
        assert budget.used == 0
        if line not in reached:
            break
    assert line > 10


# -- turns ------------------------------------------------------------------------------


class Counting:
    """Knows how many are in flight, and how many were at most."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


def use(turns, inside=contextlib.nullcontext):
    """Take a turn, as a request does, and do *inside* in it."""
    try:
        with turns.take(), inside():
            pass
    finally:
        turns.tell()


def test_one_client_has_its_limit():
    """More threads than turns have at most that many in flight."""
    turns, counting = Turns(Budget(), 3), Counting()

    def work():
        for _ in range(50):
            with turns.take(), counting:
                time.sleep(0)
            turns.tell()

    threads = [in_thread(work) for _ in range(10)]
    for thread in threads:
        thread.join(30)
    assert 1 <= counting.most <= 3


def test_only_turn_goes_round():
    """A thread that sends one request after the other does not keep the rest waiting."""
    budget = Budget(glance=60.0)
    turns, taken = Turns(budget, 1), []
    turn = turns.take()

    def once():
        with turns.take() as own:
            taken.append(own)
        turns.tell()

    thread = in_thread(once)
    assert waits(budget)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(30.0)  # the other one runs only while this one waits
    try:
        for _ in range(1000):
            turn.close()
            turns.tell()
            turn = turns.take()
            if taken:
                break
    finally:
        sys.setswitchinterval(usual)
    assert taken
    thread.join(10)


def test_turns_that_ended_keep_nothing():
    """A process that runs for years sends without end, also where there is always room."""
    turns = Turns(Budget(), 4)
    tracemalloc.start()
    try:
        for _ in range(5_000):
            use(turns)
        # 80 bytes a turn would be 400,000; other threads of the tests need some, too.
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


def test_one_of_ours_always_goes():
    """A client with nothing in flight gets a turn although others use them all."""
    budget = Budget(glance=60.0)
    others, ours = Turns(budget, 2), Turns(budget, 2)
    taken = []
    with others.take(), others.take():
        with ours.take():
            assert ours.in_flight == 3
        thread = in_thread(lambda: taken.append(others.take()))
        assert waits(budget)
    others.tell()
    thread.join(10)
    assert not thread.is_alive()
    assert ours.in_flight == 1
    taken.clear()
    assert ours.in_flight == 0


def test_the_one_of_ours_is_one(monkeypatch):
    """Threads that come together while others use all turns get one among them."""
    budget = Budget()
    others, ours = Turns(budget, 1), Turns(budget, 1)
    counting, over = Counting(), threading.Event()
    plain = Budget.wait

    def slow(self, limit, may):
        plain(self, limit, may)
        time.sleep(0.01)  # in which another one may be told the same

    monkeypatch.setattr(Budget, "wait", slow)

    def work():
        with ours.take(), counting:
            over.wait(0.1)

    with others.take():
        threads = [in_thread(work) for _ in range(6)]
        for thread in threads:
            thread.join(30)
    assert counting.most == 1
    assert ours.in_flight == 0


def test_turn_of_whoever_fails():
    """A turn is given back by whatever leaves it."""
    turns = Turns(Budget(), 1)
    for _ in range(3):
        with pytest.raises(KeyError), turns.take():
            raise KeyError
    assert turns.in_flight == 0
    with turns.take():
        assert turns.in_flight == 1


def test_interrupt_at_each_line_of_a_turn():
    """An interrupt at any step leaves no turn behind, and those who wait go on."""

    def act():
        raise Interrupt

    turns, kept = Turns(Budget(), 1), []
    for line in itertools.count():
        try:
            with at_line(budget_module.__file__, line, act):
                use(turns)
        except Interrupt as error:
            kept.append(error)  # its frames live on
            assert turns.in_flight == 0
        else:
            break
    assert line > 10
    thread = in_thread(lambda: use(turns))
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_of_turns_by_a_real_signal():
    """Nor does one at a random moment."""
    rng = random.Random(1)  # noqa: S311 - repeatable
    turns, kept, armed = Turns(Budget(), 1), [], False

    def handle(*_):
        if armed:
            raise Interrupt

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(3_000):
            try:
                armed = True
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 4e-5))
                use(turns)
                armed = False
            except Interrupt as error:
                armed = False
                kept.append(error)
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert turns.in_flight == 0
    finally:
        signal.signal(signal.SIGALRM, before)
    assert kept


# -- shares ------------------------------------------------------------------------------


def test_share_takes_all_that_is_free():
    """A caller alone has as many turns as the limit says; one that ends is free again."""
    share = Turns(Budget(), 3).share(3)
    held = [share.take(number) for number in range(3)]
    assert None not in held
    assert share.take(3) is None
    assert share.is_short
    held[1].close()
    assert share.take(2) is not None
    share.rest()
    assert not share.is_short


def test_shares_are_fair():
    """While another one is short of turns, no caller has more than its share."""
    budget = Budget()
    turns = Turns(budget, 4)
    one, other = turns.share(4), turns.share(4)
    held = [one.take(number) for number in range(4)]
    assert other.take(1) is None
    held.pop().close()
    assert one.take(3) is None
    own = other.take(1)
    assert own is not None
    own.close()
    other.rest()
    assert one.take(3) is not None


def test_share_may_have_more_than_others_while_none_waits():
    """Small requests have a limit of their own, and give way to a thread that waits."""
    budget = Budget(glance=60.0)
    turns = Turns(budget, 2)
    share, taken = turns.share(5), []
    held = [share.take(number) for number in range(5)]
    assert None not in held
    assert share.take(5) is None
    thread = in_thread(lambda: taken.append(turns.take()))
    assert waits(budget)
    for left in range(4, 1, -1):
        held.pop().close()
        turns.tell()
        assert share.take(left) is None
    assert not taken
    held.pop().close()
    turns.tell()
    thread.join(10)
    assert [turn.closed for turn in taken] == [False]
    assert share.take(1) is not None


def test_share_waits_for_its_first_turn():
    """As every other caller does."""
    budget = Budget(glance=60.0)
    turns = Turns(budget, 1)
    first = turns.take()
    taken = []
    thread = in_thread(lambda: taken.append(turns.share(1).take(0)))
    assert waits(budget)
    first.close()
    turns.tell()
    thread.join(10)
    assert [turn.closed for turn in taken] == [False]


def test_threads_do_not_wait_for_a_caller_that_does_something_else():
    """One that has turns and does not look may itself wait for a thread that wants one."""
    budget = Budget(glance=0.01, patience=0.05)
    turns = Turns(budget, 1)
    share = turns.share(1)
    held = share.take(0)
    assert not turns.take().closed
    assert not held.closed
    again = Turns(budget, 1)
    assert not again.take(wait=False).closed

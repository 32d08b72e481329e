"""Limits of a process: requests in flight, and memory of the parts of open files."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading

import pytest

from fsspec_osspresigned.engine.engine import blocking, call_user, run
from fsspec_osspresigned.engine.limits import (
    MemoryAccount,
    MemoryBudget,
    RequestLimiter,
    RequestLimits,
    RequestPlace,
)


class Requests:
    """Requests of a test in a limiter of its own."""

    def __init__(self, small=2, large=2, total=3):
        self.limiter = RequestLimiter()
        self.limits = RequestLimits(
            small=lambda: small, large=lambda: large, threads=large, total=total
        )
        self.places = {
            (client, is_small): RequestPlace(client, self.limits, is_small)
            for client in ("client", "a", "b")
            for is_small in (True, False)
        }
        self.order = []

    @contextlib.asynccontextmanager
    async def request(self, client="client", *, is_small=True):
        """Send a request, as a client does."""
        limiter = self.limiter
        place = self.places[client, is_small]
        if not limiter.enter_nowait(place):
            await limiter.enter(place)
        try:
            yield
        finally:
            limiter.leave(place)

    def begin(self, name, until=None, **facts):
        """Begin a request that continues until an event; return its task."""

        async def send():
            async with self.request(**facts):
                self.order.append(name)
                if until is not None:
                    await until.wait()

        return asyncio.get_running_loop().create_task(send())


async def settle():
    """Let all tasks go on as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_calls_take_turns():
    """A call with many requests delays another one by one request, and not by all."""
    requests, go = Requests(small=1, large=1, total=1), threading.Event()
    begun = threading.Semaphore(0)

    async def many(name, count):
        async def send():
            async with requests.request():
                requests.order.append(name)
                await blocking(go.wait, 10)

        tasks = [asyncio.create_task(send()) for _ in range(count)]
        await settle()
        begun.release()
        await asyncio.gather(*tasks)

    threads = []
    for name, count in (("many", 20), ("few", 3), ("one", 1)):
        thread = threading.Thread(target=run, args=(many, name, count), daemon=True)
        thread.start()
        threads.append(thread)
        assert begun.acquire(timeout=10)
    go.set()
    for thread in threads:
        thread.join(10)
    # The first request was in flight before the others came.
    assert requests.order[1:7] == ["many", "few", "one", "many", "few", "many"]
    assert len(requests.order) == 24


@pytest.mark.parametrize("seed", range(5))
def test_any_order_of_requests_and_cancellations(seed):
    """Limits hold, and each request that was not cancelled is sent: a property."""
    dice = random.Random(seed)  # noqa: S311 - repeatable
    requests = Requests(small=3, large=2, total=4)
    sent = []

    async def send(number):
        client, is_small = dice.choice("ab"), dice.random() < 0.6
        async with requests.request(client, is_small=is_small):
            assert requests.limiter.in_flight <= 4 + 1  # the other client's only one
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            sent.append(number)

    async def main():
        tasks = {}
        for number in range(300):
            tasks[number] = asyncio.create_task(send(number))
            if dice.random() < 0.3:
                await asyncio.sleep(0)
            if dice.random() < 0.3:
                tasks[dice.randrange(number + 1)].cancel()
        async with asyncio.timeout(20):
            await asyncio.wait(tasks.values())
        return [n for n, task in tasks.items() if not task.cancelled()]

    assert sorted(set(run(main)) - set(sent)) == []
    assert requests.limiter.in_flight == 0
    assert not requests.limiter._waiting
    assert not requests.limiter._of_client


def test_user_code_does_not_wait():
    """A request may be waiting for it, which holds the only place."""
    requests = Requests(small=1, large=1, total=1)

    async def inner():
        async with requests.request():
            return requests.limiter.in_flight

    async def main():
        async with asyncio.timeout(10), requests.request():
            return await call_user(run, inner)

    assert run(main) == 2
    assert requests.limiter.in_flight == 0


# -- memory -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "others", "size", "has_room"),
    [
        (0, [], 100, True),  # all of it
        (0, [], 101, False),
        (40, [], 60, True),
        (40, [10], 50, False),
        (40, [10], 10, True),  # beyond half of it: an equal share
        (41, [20], 10, False),
        (20, [60], 20, True),
        (0, [60, 20], 20, True),  # those that come later get memory, too
        (0, [60, 20], 21, False),
        (30, [30, 30], 4, False),
        (10, [0, 0, 0], 90, True),  # files without parts have no share
    ],
)
def test_shares(mine, others, size, has_room):
    """Above half of the limit, each file that uses memory gets an equal share of it."""
    budget = MemoryBudget()
    accounts = [MemoryAccount(budget) for _ in (mine, *others)]
    for account, used in zip(accounts, (mine, *others), strict=True):
        account.add(used)
    assert accounts[0].has_room(size, 100) is has_room


class File:
    """A file in a reference cycle, whose finalizer gives its memory back."""

    def __init__(self, account):
        self.account, self.cycle = account, self

    def __del__(self):
        self.account.add(-10)


def test_dropped_file_counts_nothing():
    """Memory of a file in a cycle is given back once, whichever finalizer runs first."""
    budget = MemoryBudget()
    account = MemoryAccount(budget)
    account.add(10)
    file = File(account)  # the collector calls the finalizer of the older object first
    del account, file
    gc.collect()
    assert budget.used == 0

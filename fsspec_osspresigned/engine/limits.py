"""Limits of a process: requests in flight, and memory of the parts of open files.

A call waits for memory first, then for the turn of a large file in its scope, then for
a request; nothing waits for one of them while it holds a later one. Code of the user
waits for none, because the request that called it holds one.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from attrs import define, field, frozen

from .engine import call_of_task, running, within_user_code


@frozen
class RequestLimits:
    """Maximum numbers of requests in flight, for the requests of one client.

    Attributes:
        small: those with small bodies, which the loop sends.
        large: those that worker threads send.
        total: both, in the whole process.
    """

    small: Callable[[], int]
    large: int
    total: int


@define(eq=False)
class _Waiter:
    client: object
    limits: RequestLimits
    is_small: bool
    future: asyncio.Future[None] = field(
        factory=lambda: asyncio.get_running_loop().create_future()
    )


class RequestLimiter:
    """Limits the requests in flight of a process, and shares them between its calls.

    A free place goes to the calls in turn, so that a call with many requests delays
    another call by one request, and not by all. A client without a request in flight
    can always send one.
    """

    def __init__(self) -> None:
        self._of_client: Counter[int] = Counter()
        self._small = self._large = 0
        self._waiting: OrderedDict[object, deque[_Waiter]] = OrderedDict()

    def close(self) -> None:
        """Do nothing; no request is left when the engine ends."""

    @property
    def in_flight(self) -> int:
        """Number of requests in flight."""
        return self._small + self._large

    @asynccontextmanager
    async def request(
        self, client: object, limits: RequestLimits, *, is_small: bool
    ) -> AsyncIterator[None]:
        """Wait until *client* may send a request; count it until the block ends."""
        waiter = _Waiter(client, limits, is_small)
        if self._waiting or not self._may(waiter):
            if not within_user_code():
                await self._wait(waiter)
            else:
                self._count(waiter, 1)
        else:
            self._count(waiter, 1)
        try:
            yield
        finally:
            self._count(waiter, -1)
            self._admit()

    async def _wait(self, waiter: _Waiter) -> None:
        call = call_of_task.get()
        queue = self._waiting.setdefault(call, deque())
        queue.append(waiter)
        self._admit()
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled():
                self._count(waiter, -1)
                self._admit()
            else:
                queue.remove(waiter)
                if not queue and self._waiting.get(call) is queue:
                    del self._waiting[call]
            raise

    def _may(self, waiter: _Waiter) -> bool:
        if not self._of_client[id(waiter.client)]:
            return True
        limits = waiter.limits
        if self.in_flight >= limits.total:
            return False
        if waiter.is_small:
            return self._small < limits.small()
        return self._large < limits.large

    def _count(self, waiter: _Waiter, change: int) -> None:
        key = id(waiter.client)
        self._of_client[key] += change
        if not self._of_client[key]:
            del self._of_client[key]
        if waiter.is_small:
            self._small += change
        else:
            self._large += change

    def _admit(self) -> None:
        """Let those in who may send now: the first of each call, one call after another."""
        while (call := next(filter(self._may_first, self._waiting), None)) is not None:
            queue = self._waiting.pop(call)
            waiter = queue.popleft()
            if queue:
                self._waiting[call] = queue  # at the end
            self._count(waiter, 1)
            waiter.future.set_result(None)

    def _may_first(self, call: object) -> bool:
        return self._may(self._waiting[call][0])


def request_limiter() -> RequestLimiter:
    """Return the limiter of the running engine."""
    return running().own(RequestLimiter)


class MemoryAccount:
    """Memory of the parts of one file, which *budget* counts until this is closed.

    One thread fills parts and calls ``take``; the loop calls ``give`` when parts are
    sent. So no number is written by both.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._taken = self._given = 0
        budget.accounts[id(self)] = weakref.ref(self)

    @property
    def used(self) -> int:
        """Bytes that are taken and not given back."""
        return self._taken - self._given

    def take(self, size: int) -> None:
        """Count *size* more bytes, although there may be no room."""
        self._taken += size

    def untake(self, size: int) -> None:
        """Count *size* bytes less; in the thread that calls ``take``."""
        self._taken -= size

    def give(self, size: int) -> None:
        """Count *size* bytes less; on the loop."""
        self._given += size

    def has_room(self, size: int, limit: int) -> bool:
        """Return whether there is room for *size* more bytes.

        All accounts together get *limit* bytes. Once they use half of it, each gets an
        equal share, so that those that come later get memory, too.
        """
        used = [account.used for account in self._budget.open_accounts()]
        total = size + sum(used)
        if total > limit:
            return False
        owners = sum(map(bool, used)) + (not self.used)
        return total <= limit // 2 or self.used + size <= limit // max(owners, 1)


class MemoryBudget:
    """Memory that the parts of all open files of a process use."""

    def __init__(self) -> None:
        self.accounts: dict[int, weakref.ref[MemoryAccount]] = {}

    def open_accounts(self) -> list[MemoryAccount]:
        """Return the accounts that are in use."""
        found = [reference() for reference in list(self.accounts.values())]
        for key, reference in list(self.accounts.items()):
            if reference() is None:
                self.accounts.pop(key, None)
        return [account for account in found if account is not None]

    @property
    def used(self) -> int:
        """Bytes in use."""
        return sum(account.used for account in self.open_accounts())


# Keyed by process: a forked child never gives back what its parent uses.
_budgets: dict[int, MemoryBudget] = {}


def memory_budget() -> MemoryBudget:
    """Return the memory budget of this process, made by its first use."""
    return _budgets.setdefault(os.getpid(), MemoryBudget())

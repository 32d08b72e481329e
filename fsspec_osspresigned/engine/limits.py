"""Limits of a process: requests in flight, and memory of the parts of open files.

A call waits for the turn of a large file in its scope first, then for memory, that is for
its own parts in flight, then for a request, then for a circuit breaker. Nothing waits for
one of them while it holds a later one. Code of the user waits for neither a request nor a
circuit breaker, because the request that called it may hold one.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from attrs import frozen

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


@frozen(eq=False)
class RequestPlace:
    """A request in flight, or one that waits."""

    client: object
    limits: RequestLimits
    is_small: bool


_Waiter: TypeAlias = tuple[RequestPlace, "asyncio.Future[None]"]


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

    def enter_now(
        self, client: object, limits: RequestLimits, *, is_small: bool
    ) -> RequestPlace | None:
        """Count a request of *client* if it may be sent now; None if it must wait."""
        place = RequestPlace(client, limits, is_small)
        if within_user_code() or (not self._waiting and self._may(place)):
            self._count(place, 1)
            return place
        return None

    async def enter(
        self, client: object, limits: RequestLimits, *, is_small: bool
    ) -> RequestPlace:
        """Wait until *client* may send a request, and count it; call ``leave`` after."""
        place = RequestPlace(client, limits, is_small)
        await self._wait(place, asyncio.get_running_loop().create_future())
        return place

    def leave(self, place: RequestPlace) -> None:
        """Count the request no more, and let others in."""
        self._count(place, -1)
        if self._waiting:
            self._admit()

    async def _wait(self, place: RequestPlace, future: asyncio.Future[None]) -> None:
        call = call_of_task.get()
        queue = self._waiting.setdefault(call, deque())
        queue.append((place, future))
        self._admit()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave(place)
            else:
                with suppress(ValueError):  # its turn came meanwhile
                    queue.remove((place, future))
                if not queue and self._waiting.get(call) is queue:
                    del self._waiting[call]
            raise

    def _may(self, place: RequestPlace) -> bool:
        if not self._of_client[id(place.client)]:
            return True
        limits = place.limits
        if self.in_flight >= limits.total:
            return False
        if place.is_small:
            return self._small < limits.small()
        return self._large < limits.large

    def _count(self, place: RequestPlace, change: int) -> None:
        key = id(place.client)
        self._of_client[key] += change
        if not self._of_client[key]:
            del self._of_client[key]
        if place.is_small:
            self._small += change
        else:
            self._large += change

    def _admit(self) -> None:
        """Let those in who may send now: the first of each call, one call after another."""
        while (call := next(filter(self._may_first, self._waiting), None)) is not None:
            queue = self._waiting.pop(call)
            place, future = queue.popleft()
            if queue:
                self._waiting[call] = queue  # at the end
            # A task that was cancelled leaves the queue only when it runs next.
            if not future.done():
                self._count(place, 1)
                future.set_result(None)

    def _may_first(self, call: object) -> bool:
        place, future = self._waiting[call][0]
        return future.done() or self._may(place)


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

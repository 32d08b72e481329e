"""Limits of a process: requests in flight, and memory of the parts of open files.

A call waits for three things in this order: the turn of a large file, memory, and a
place for its request. While it holds one of them, it waits only for later ones. A call
that waits for memory waits only for its own parts. Code of the user waits for none of
them, because the call that runs this code may hold one.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from attrs import frozen

from .engine import call_of_task, is_user_code, running


@frozen
class RequestLimits:
    """Maximum numbers of requests in flight, for the requests of one client."""

    # Maximum requests of this client, for all buckets: small bodies, which the loop
    # sends, and large ones, which worker threads send. The maximum depends on the
    # bucket.
    small: Callable[[], int]
    large: Callable[[], int]
    threads: int  # maximum of large requests in the whole process
    total: int  # maximum of all requests in the whole process


@frozen(eq=False)
class RequestPlace:
    """Queue and counter of the requests of *client* to one bucket, small or large ones."""

    client: object
    limits: RequestLimits
    is_small: bool


class RequestLimiter:
    """Limits the requests in flight of a process, and shares them between its calls.

    When a request ends, the next call in turn may send one. So a call with many
    requests delays another call only by one request.

    Requests wait in separate queues for each client, each bucket, and each size (small
    or large), because there may be room for only some of these. A client without a
    request in flight can always send one.
    """

    def __init__(self) -> None:
        # Client and size (small or large) -> requests in flight. Entries with 0 are
        # left out.
        self._of_client: dict[tuple[int, bool], int] = {}
        self._small = self._large = 0
        # Place -> call -> waiting requests.
        self._waiting: OrderedDict[
            RequestPlace, OrderedDict[object, deque[asyncio.Future[None]]]
        ] = OrderedDict()

    @property
    def in_flight(self) -> int:  # used only by tests
        return self._small + self._large

    def is_awaited(self, place: RequestPlace) -> bool:
        """Return whether a request waits at *place*; a cancelled one counts until its turn."""
        return place in self._waiting

    def enter_nowait(self, place: RequestPlace) -> bool:
        """Count a request as in flight if it may be sent now; return whether it may."""
        may = is_user_code.get() or (not self._waiting and self._may(place))
        if may:
            self._count(place, 1)
        return may

    def leave(self, place: RequestPlace) -> None:
        """Stop counting a request that has ended, and admit waiting requests."""
        self._count(place, -1)
        if self._waiting:
            self.admit()

    async def enter(self, place: RequestPlace) -> None:
        """Wait until a request may be sent. It counts as in flight until ``leave``."""
        future = asyncio.get_running_loop().create_future()
        calls = self._waiting.setdefault(place, OrderedDict())
        calls.setdefault(call_of_task.get(), deque()).append(future)
        self.admit()
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():  # the request was admitted at the same moment
                self.leave(place)
            raise

    def _may(self, place: RequestPlace) -> bool:
        key, limits = id(place.client), place.limits
        small = self._of_client.get((key, True), 0)
        large = self._of_client.get((key, False), 0)
        if not (small or large):
            return True
        if self._small + self._large >= limits.total:
            return False
        if place.is_small:
            return small < limits.small()
        return large < limits.large() and self._large < limits.threads

    def _count(self, place: RequestPlace, change: int) -> None:
        key = id(place.client), place.is_small
        if count := self._of_client.get(key, 0) + change:
            self._of_client[key] = count
        else:
            del self._of_client[key]
        if place.is_small:
            self._small += change
        else:
            self._large += change

    def admit(self) -> None:
        """Admit all waiting requests that the limits now permit."""
        # Send the first request of each call, one call after another.
        while (place := next(filter(self._may, self._waiting), None)) is not None:
            calls = self._waiting.pop(place)
            call, queue = calls.popitem(last=False)
            future = queue.popleft()
            if queue:
                calls[call] = queue  # put the call at the end of the queue
            if calls:
                self._waiting[place] = calls  # put the place at the end, too
            if not future.done():  # it is done if its request was cancelled
                self._count(place, 1)
                future.set_result(None)


def request_limiter() -> RequestLimiter:
    limiter: RequestLimiter = running().owned[RequestLimiter]
    return limiter


class MemoryBudget:
    """Memory that the parts of all open files of a process use."""

    def __init__(self) -> None:
        # Account -> bytes that it uses. Accounts with 0 bytes are left out, so a sum of
        # them is quick, even with a thousand files.
        self.accounts: dict[object, int] = {}
        # reentrant, because a finalizer may change the numbers at any time
        self.lock = threading.RLock()

    @property
    def used(self) -> int:
        return sum(self.accounts.values())


class MemoryAccount:
    """Memory that the parts of one open file use, as a share of *budget*. Thread-safe."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self._key = budget, object()
        self._is_closed = False

    def __del__(self) -> None:
        # In a cycle, the finalizer of the file may run later, and give memory back.
        self._is_closed = True
        self._budget.accounts.pop(self._key, None)

    @property
    def used(self) -> int:
        return self._budget.accounts.get(self._key, 0)

    def add(self, size: int) -> None:
        """Count *size* more bytes; a negative number counts fewer."""
        with self._budget.lock:
            used = self.used + size
            if used and not self._is_closed:
                self._budget.accounts[self._key] = used
            else:
                self._budget.accounts.pop(self._key, None)

    def close(self) -> None:
        """Set the memory to zero, because the upload of the file has ended."""
        self._is_closed = True
        self.add(0)

    def reserve(self, size: int, limit: int) -> bool:
        """If there is room for *size* more bytes, count them and return True; else False.

        See ``has_room``.
        """
        with self._budget.lock:
            if has_room := self.has_room(size, limit):
                self.add(size)
        return has_room

    def has_room(self, size: int, limit: int) -> bool:
        """Return whether there is room for *size* more bytes.

        All accounts together may use *limit* bytes. Once half of this is in use, each
        account gets an equal share, so later files get memory, too.
        """
        total, used = size + self._budget.used, self.used
        if total > limit:
            return False
        owners = len(self._budget.accounts) + (not used)
        return total <= limit // 2 or used + size <= limit // owners


# Process ID -> budget. A forked child never gives back memory that its parent uses.
_budgets: dict[int, MemoryBudget] = {}


def memory_budget() -> MemoryBudget:
    """Return the memory budget of this process; the first call creates it."""
    return _budgets.setdefault(os.getpid(), MemoryBudget())

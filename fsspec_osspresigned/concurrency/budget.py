"""Limits of a process: memory of part buffers, and number of requests in flight.

A client without a request in flight can always send one, so the limits cannot deadlock.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from io import BytesIO
from weakref import WeakSet, ref

from attrs import field, frozen

from .waiting import Changes

_GIVEN_WAY = 0.005  # seconds in which a thread that was told can take a turn


class _Lent(ref["Lease"]):
    """Weak reference to a ``Lease`` that is in use: its *amount* of bytes, its *owner*."""

    __slots__ = ("amount", "owner")
    amount: int
    owner: int


class Budget:
    """Amount in use of a limited resource: bytes of buffers, or requests in flight.

    Waiting threads check again every *glance* seconds, because an interrupt may lose a
    notification. If the user of a ``TurnShare`` has not called it for *patience*
    seconds, the share no longer makes other threads wait.
    """

    def __init__(self, glance: float = 0.1, patience: float = 5.0) -> None:
        self._patience = patience
        self.lock = threading.RLock()
        self._changes = Changes(glance)
        self.lent: set[_Lent] = set()
        self.turns: list[ref[BytesIO]] = []
        self.shares: WeakSet[TurnShare] = WeakSet()

    @property
    def is_stuck(self) -> bool:
        """True if a ``TurnShare`` got no call for *patience* seconds; do not wait then."""
        now = time.monotonic()
        return any(now - one.looked > self._patience for one in list(self.shares))

    @property
    def used(self) -> int:
        """Total bytes of the leases that are not freed yet."""
        # Copied in one step: others may end meanwhile.
        return sum(one.amount for one in self.lent.copy())

    def has_room(self, size: int, limit: int, owner: int) -> bool:
        """Return whether *owner* may lease *size* more bytes.

        All owners together get *limit* bytes. Once they use half of it, each gets an
        equal share, so that those that come later get memory, too.
        """
        lent = [(one.amount, one.owner) for one in self.lent.copy()]
        total = size + sum(amount for amount, _ in lent)
        if total > limit:
            return False
        mine = size + sum(amount for amount, other in lent if other == owner)
        owners = {owner, *(other for _, other in lent)}
        return total <= limit // 2 or mine <= limit // len(owners)

    @property
    def waiting(self) -> int:
        """Number of threads that wait for this budget."""
        return self._changes.waiting

    def tell(self) -> None:
        """Wake the waiting threads, so that they check the budget again."""
        self._changes.tell()

    def give_way(self) -> None:
        """Wait briefly until another thread has got a turn."""
        last = self.turns[-1:]
        self.tell()
        self._changes.wait_for(lambda: self.turns[-1:] != last, _GIVEN_WAY)

    def wait(self, limit: int, may: Callable[[], bool]) -> None:
        """Wait until fewer than *limit* bytes are used, or *may* returns True."""
        self._changes.wait_for(lambda: self.used < limit or may())


class Turns:
    """Semaphore for the requests in flight, as one client sees it.

    A request starts if fewer than *limit* are in flight in the process, or if this
    client has none in flight. Each request has a token, which counts until it is closed
    or freed. ``with`` closes the token in one step of the interpreter, so no exception
    of a signal handler can leave it open.
    """

    def __init__(self, budget: Budget, limit: int) -> None:
        self._budget = budget
        self._limit = limit
        self._mine: list[ref[BytesIO]] = []

    @property
    def in_flight(self) -> int:
        """Number of requests in flight in the process, of all clients."""
        with self._budget.lock:
            return _open(self._budget.turns)

    def take(self, *, wait: bool = True) -> BytesIO:
        """Wait until a request may start, and return its token.

        Close the token when the request has ended, and then call ``Turns.tell``, which
        wakes the waiting threads. *wait* False returns a token at once, for a thread
        that other threads wait for.
        """
        if wait and self._limit == 1 and self._budget.waiting:
            # Otherwise one busy thread takes each turn that it gives back.
            self._budget.give_way()
        turn = BytesIO()
        try:
            # Nothing is used of this budget, so the condition alone decides.
            self._budget.wait(0, lambda: self._gets(turn, wait=wait))
            return turn  # noqa: TRY300 - an interrupt here ends the turn, too
        except BaseException:
            turn.close()
            raise

    def _gets(self, turn: BytesIO, *, wait: bool) -> bool:
        """Count the token *turn* and return True if a request may start now."""
        with self._budget.lock:
            if wait and not (self._is_free(self._limit) or self._budget.is_stuck):
                return False
            self._budget.turns.append(ref(turn))
            _open(self._mine)  # nothing else forgets them while there is room
            self._mine.append(ref(turn))
            return True

    def tell(self) -> None:
        """Wake the threads that wait to start a request."""
        self._budget.tell()

    def share(self, most: int) -> TurnShare:
        """Return a semaphore for one thread that has many requests in flight.

        The thread may have *most* requests in flight, and an equal share of the limit
        while other threads wait to send.
        """
        return TurnShare(self, self._budget, self._limit, most)

    def take_free(self, limit: int) -> BytesIO | None:
        """Return a token if fewer than *limit* requests are in flight, else None."""
        with self._budget.lock:
            # Most are not counted anew: those that ended are forgotten when it is full.
            turns = self._budget.turns
            if len(turns) >= limit and not self._is_free(limit):
                return None
            turn = BytesIO()
            turns.append(ref(turn))
            self._mine.append(ref(turn))
            if len(self._mine) > limit:
                _open(self._mine)
            return turn

    def _is_free(self, limit: int) -> bool:
        return self.in_flight < limit or not _open(self._mine)


class TurnShare:
    """Semaphore for one thread that has many requests in flight.

    While others wait to send, the limit is divided equally: one portion for each share,
    and one for all threads without a share.

    Attributes:
        is_short: whether the share's user waits to send another request.
        looked: time of the user's last call, by ``time.monotonic``.
    """

    def __init__(self, turns: Turns, budget: Budget, limit: int, most: int) -> None:
        self._turns, self._budget = turns, budget
        self._limit, self._most = limit, most
        self.is_short, self.looked = False, time.monotonic()
        budget.shares.add(self)

    def take(self, held: int) -> BytesIO | None:
        """Return the token of a request that may start now; None if it must wait.

        *held* is the number of tokens that the caller has; with 0, wait until a request
        may start, so the result is never None.
        """
        budget = self._budget
        with budget.lock:
            most = limit = self._most
            if budget.waiting or len(budget.shares) > 1:
                if budget.waiting:  # it waits until there are fewer than its own limit
                    most = limit = min(most, self._limit)
                shares = list(budget.shares)
                others = sum(one.is_short for one in shares if one is not self)
                most = max(1, most // (1 + others + (budget.waiting > 0)))
            turn = self._turns.take_free(limit) if held < most else None
        self.looked = math.inf
        if turn is None and not held:
            turn = self._turns.take()  # as every other caller
        self.is_short, self.looked = turn is None, time.monotonic()
        return turn

    def rest(self) -> None:
        """Record that the share's user has no other request to send for now."""
        self.is_short, self.looked = False, time.monotonic()

    def close(self) -> None:
        """Remove the share from the budget, although a traceback may keep it alive."""
        self._budget.shares.discard(self)


def _open(turns: list[ref[BytesIO]]) -> int:
    """Return how many of the tokens *turns* are open, and drop the others."""
    turns[:] = [one for one in turns if not getattr(one(), "closed", True)]
    return len(turns)


class Lease:
    """Share of a memory budget: bytes that count as used until this object is freed."""

    def __init__(self, budget: Budget, amount: int, owner: int = 0) -> None:
        self._budget = budget
        # The reference removes itself in one step of the interpreter, so that no
        # exception of a signal handler can leave bytes behind.
        self._lent = _Lent(self, budget.lent.discard)
        self._lent.amount, self._lent.owner = amount, owner
        budget.lent.add(self._lent)

    def more(self, amount: int) -> None:
        """Add *amount* bytes to this lease."""
        self._lent.amount += amount

    def __del__(self) -> None:
        if lent := getattr(self, "_lent", None):  # else it was interrupted while made
            lent.amount = 0  # the reference lives a moment longer
            self._budget.tell()


@frozen
class ProcessBudgets:
    """Memory and request limits that all clients of a process share."""

    memory: Budget = field(factory=Budget)
    requests: Budget = field(factory=Budget)


# Keyed by process: a forked child never gives back what its parent uses.
_processes: dict[int, ProcessBudgets] = {}


def of_process() -> ProcessBudgets:
    """Return the limits of this process, created on first use."""
    return _processes.setdefault(os.getpid(), ProcessBudgets())

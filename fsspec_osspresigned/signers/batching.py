"""Has signed, in few calls, what is about to be sent."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Generic, TypeAlias, TypeVar

from attrs import frozen

from ..errors import OSSPresignedError
from ..model import Operation, SignedRequest
from .base import MAX_REQUESTS as MOST
from .base import Outcome, Signer, check_signed, sign_checked, sign_each

# Gathers single requests of many threads into few calls.

T = TypeVar("T")
R = TypeVar("R")


class _Ticket(Generic[T, R]):
    """One waiting request, and later its outcome."""

    __slots__ = ("done", "item", "outcome")

    def __init__(self, item: T) -> None:
        self.item = item
        self.done = False
        self.outcome: R | Exception


class Gatherer(Generic[T, R]):
    """Sends requests of many threads in few calls, one call at a time.

    There is no timer and no thread: a lone request leaves at once. The others wait for
    the lock of the thread that sends; the next one of them sends for all that wait. A
    request stays in the list until its own thread takes it out, so an interrupt of the
    sending thread loses no other request.

    Args:
        send: takes up to *limit* items and returns an answer or an exception for each.
        limit: items per call.
    """

    def __init__(
        self, send: Callable[[Sequence[T]], Sequence[R | Exception]], limit: int
    ) -> None:
        self._send = send
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._sending = threading.Lock()
        self._tickets: list[_Ticket[T, R]] = []
        self._pid = os.getpid()

    @property
    def waiting(self) -> int:
        """The number of requests without an outcome."""
        return sum(not ticket.done for ticket in list(self._tickets))

    def ask(self, item: T) -> R:
        """Return the answer to *item*, or raise what came in its place."""
        if self._pid != os.getpid():
            self._reset()  # the sender of the parent does not exist after a fork
        ticket: _Ticket[T, R] = _Ticket(item)
        tickets = self._tickets
        tickets.append(ticket)
        try:
            while not ticket.done:
                with self._sending:  # for as long as one call takes
                    if not ticket.done:
                        self._send_batch()
        finally:
            tickets.remove(ticket)
        if isinstance(ticket.outcome, Exception):
            raise ticket.outcome
        return ticket.outcome

    def _send_batch(self) -> None:
        batch = [ticket for ticket in list(self._tickets) if not ticket.done]
        batch = batch[: self._limit]
        try:
            outcomes = self._send([ticket.item for ticket in batch])
        except Exception as error:  # noqa: BLE001 - raised again in each thread
            outcomes = [error] * len(batch)
        for ticket, outcome in zip(batch, outcomes, strict=True):
            ticket.outcome = outcome
            ticket.done = True


# A batch grows to this multiple of the last one, as long as its URLs would be used in
# time: eight gets from one part to a full call in three steps.
_GROWTH = 8

_Slot: TypeAlias = tuple[str, str, str | None, int | None]


@frozen
class _Held:
    """What was signed and waits to be sent; None as outcome if the call failed."""

    operation: Operation
    outcome: Outcome | None


class Ahead:
    """A signer that also signs what comes next, for callers in several threads.

    Whoever finds nothing signed for it asks for a batch, and the others wait for that
    call instead of making their own. A batch grows, but not beyond what was used up in
    half the life of the last one, so that few URLs end before they are sent.

    Each operation of *coming* is asked for once, in about that order; if it has changed
    meanwhile (another length), or ``again`` asks, it is signed alone.

    Args:
        signer: signs the batches.
        coming: returns the next operation that nobody has asked for, None if none is
            known now; called by one thread at a time.
        first: operations of the first batch.
        low: with no more than these left, whoever takes one asks for the next batch, so
            that the others need not wait; 0 asks as late as possible.
        clock: seconds that only grow.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        signer: Signer,
        coming: Callable[[], Operation | None],
        *,
        first: int,
        low: int = 0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Ask for nothing yet."""
        self._signer = signer
        self._coming = coming
        self._low = low
        self._clock = clock
        self._now = now
        self._lock = threading.RLock()  # a finalizer may come back in here
        self._asking = threading.Lock()
        self._held: dict[_Slot, _Held] = {}
        self._stale: deque[Operation] = deque()
        self._size = max(1, min(first, MOST))
        self._asked_at: float | None = None
        self._life: float | None = None

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return signed requests for *operations*; raises what their signer raises."""
        return [self._one(operation) for operation in operations]

    def distrust(self, refused: SignedRequest) -> None:
        """Sign anew what was signed no later than *refused*, which the store calls over.

        A signer that states too long a life would else have each of them refused.
        """
        with self._lock:
            self._put_back(
                lambda held: (
                    isinstance(held.outcome, SignedRequest)
                    and held.outcome.issued_at <= refused.issued_at
                )
            )

    def _one(self, operation: Operation) -> SignedRequest:
        held = self._take(_slot(operation))
        if held is None or held.outcome is None or held.operation != operation:
            return sign_checked(self._signer, [operation])[0]
        if isinstance(held.outcome, OSSPresignedError):
            raise held.outcome
        check_signed(operation, held.outcome)
        return held.outcome

    def _take(self, slot: _Slot) -> _Held | None:
        """Return what is signed for *slot*, asking if need be; None if nothing is."""
        while True:
            held, wanted = self._pop(slot)
            if not wanted or (held is not None and self._asking.locked()):
                return held
            with self._asking:  # for as long as one call takes
                if held is None:
                    held, wanted = self._pop(slot)
                with self._lock:
                    batch = self._next_batch() if wanted else []
                if batch:
                    self._ask(batch)
            if held is not None or not batch:
                return held

    def _pop(self, slot: _Slot) -> tuple[_Held | None, bool]:
        """Return what is signed for *slot*, and whether to ask for the next batch."""
        with self._lock:
            self._put_back_stale(slot)
            held = self._held.pop(slot, None)
            return held, held is None or len(self._held) < self._low

    def _put_back_stale(self, slot: _Slot) -> None:
        """If what is held for *slot* has become stale, so has what came with it."""
        now = self._now()
        if slot in self._held and _is_stale(self._held[slot], now):
            self._put_back(lambda held: _is_stale(held, now))

    def _put_back(self, is_over: Callable[[_Held], bool]) -> None:
        for slot in [s for s, held in self._held.items() if is_over(held)]:
            self._stale.append(self._held.pop(slot).operation)

    def _next_batch(self) -> list[Operation]:
        """Return what to ask for now; empty if nothing is known to come."""
        now = self._clock()
        if self._asked_at is not None:
            if self._life is not None:
                used = self._size - len(self._held) - len(self._stale)
                rate = max(0, used) / max(now - self._asked_at, 1e-3)
                in_time = max(1, int(rate * self._life / 2))
            else:
                in_time = MOST
            self._size = min(self._size * _GROWTH, MOST, in_time)
        batch: list[Operation] = []
        while len(batch) < self._size:
            operation = self._stale.popleft() if self._stale else self._coming()
            if operation is None:
                break
            batch.append(operation)
        self._asked_at = now
        return batch

    def _ask(self, batch: Sequence[Operation]) -> None:
        outcomes: Sequence[Outcome] = ()
        try:
            outcomes = sign_each(self._signer, batch)
        finally:
            with self._lock:
                for operation, outcome in zip_longest(batch, outcomes):
                    self._held[_slot(operation)] = _Held(operation, outcome)
                    self._note_life(outcome)

    def _note_life(self, outcome: Outcome | None) -> None:
        if isinstance(outcome, SignedRequest) and outcome.expires_at is not None:
            self._life = max(0.0, outcome.expires_at - self._now())


def _slot(operation: Operation) -> _Slot:
    return (
        operation.action,
        operation.path,
        operation.upload_id,
        operation.part_number,
    )


def _is_stale(held: _Held, now: float) -> bool:
    outcome = held.outcome
    return isinstance(outcome, SignedRequest) and outcome.is_stale(now)

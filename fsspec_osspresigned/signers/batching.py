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

    __slots__ = ("answer", "error", "item", "leads", "wake")

    def __init__(self, item: T) -> None:
        self.item = item
        self.wake = threading.Event()
        self.leads = False
        self.answer: R | None = None
        self.error: Exception | None = None


class Gatherer(Generic[T, R]):
    """Whoever comes first sends; who comes meanwhile goes out with the next call.

    There is no timer and no thread: a lone request leaves at once. A leader sends one
    call and hands the lead to the first who waits, so nobody works for others for long.

    Args:
        send: takes up to *limit* items and returns an answer or an exception for each.
        limit: items per call.
    """

    def __init__(
        self, send: Callable[[Sequence[T]], Sequence[R | Exception]], limit: int
    ) -> None:
        """Start with nobody waiting."""
        self._send = send
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Ticket[T, R]] = []
        self._busy = False
        self._pid = os.getpid()

    def ask(self, item: T) -> R:
        """Return the answer to *item*, or raise what came in its place."""
        if self._pid != os.getpid():
            self._reset()  # the leader of the parent does not exist after a fork
        ticket: _Ticket[T, R] = _Ticket(item)
        with self._lock:
            self._waiting.append(ticket)
            if not self._busy:
                self._busy = True
                self._promote()
        try:
            ticket.wake.wait()
            if ticket.leads:
                self._lead()
        except BaseException:
            self._leave(ticket)
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.answer  # type: ignore[return-value]  # set where no error is

    def _promote(self) -> None:
        """Give the lead to the first who waits; call with the lock held."""
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].wake.set()
        else:
            self._busy = False

    def _leave(self, ticket: _Ticket[T, R]) -> None:
        """Take an interrupted waiter out, and pass its lead on."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                if ticket.leads:
                    self._promote()

    def _lead(self) -> None:
        with self._lock:
            batch = self._waiting[: self._limit]
            del self._waiting[: self._limit]
        outcomes: Sequence[R | Exception] = ()
        try:
            outcomes = self._send([ticket.item for ticket in batch])
        except Exception as error:  # noqa: BLE001 - raised again by who waits for it
            outcomes = [error] * len(batch)
        finally:
            # An interrupt is the leader's alone: the others wait for the next one.
            left = batch[1:] if not outcomes else ()
            with self._lock:
                self._waiting[:0] = left
                self._promote()
        for ticket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                ticket.error = outcome
            else:
                ticket.answer = outcome
            ticket.wake.set()


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
        self._changed = threading.Condition()
        self._held: dict[_Slot, _Held] = {}
        self._stale: deque[Operation] = deque()
        self._size = max(1, min(first, MOST))
        self._asked_at: float | None = None
        self._life: float | None = None
        self._asking = False

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return signed requests for *operations*; raises what their signer raises."""
        return [self._one(operation) for operation in operations]

    def distrust(self, refused: SignedRequest) -> None:
        """Sign anew what was signed no later than *refused*, which the store calls over.

        A signer that states too long a life would else have each of them refused.
        """
        with self._changed:
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
            with self._changed:
                self._put_back_stale(slot)
                held = self._held.pop(slot, None)
                wanted = held is None or len(self._held) < self._low
                if wanted and self._asking:
                    if held is not None:
                        return held
                    self._changed.wait()
                    continue
                batch = self._next_batch() if wanted else []
                if not batch:
                    return held
                self._asking = True
            self._ask(batch)
            if held is not None:
                return held

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
            with self._changed:
                for operation, outcome in zip_longest(batch, outcomes):
                    self._held[_slot(operation)] = _Held(operation, outcome)
                    self._note_life(outcome)
                self._asking = False
                self._changed.notify_all()

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

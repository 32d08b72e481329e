"""Prefetcher: signs the operations of many coroutines in few calls, some in advance."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from itertools import islice
from typing import TypeAlias, TypeVar

from attrs import define, field

from ..engine.engine import CarriedError, call_user, running, waiting
from ..errors import OSSPresignedError
from ..model import Operation, SignedRequest
from .base import MAX_REQUESTS, Outcome, Signer, signed_each

T = TypeVar("T")

# Factor by which a batch may be larger than the one before. One part becomes a full
# call in three steps.
_GROWTH = 8


@define(eq=False)
class _Waiter:
    """An operation whose signature a coroutine waits for."""

    operation: Operation
    alone: bool = (
        # True if the prefetched signature does not fit, as for the last part of a
        # stream
        False
    )
    future: asyncio.Future[SignedRequest] = field(
        factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, outcome: Outcome | BaseException) -> None:
        """Give *outcome* to the coroutine, unless the coroutine was cancelled."""
        if self.future.done():
            return
        if isinstance(outcome, SignedRequest):
            self.future.set_result(outcome)
        else:
            self.future.set_exception(outcome)

    def forget(self) -> None:
        """Keep asyncio from logging an error that the coroutine did not retrieve."""
        if self.future.done() and not self.future.cancelled():
            self.future.exception()


Slot: TypeAlias = tuple[object, ...]


def _slot(operation: Operation) -> Slot:
    return operation.action, operation.path, operation.upload_id, operation.part_number


class Prefetcher:
    """Batches the operations of several coroutines, and signs further ones in advance.

    One worker thread at a time calls the signer. Operations that arrive meanwhile go
    into the next call. Each call has the operations that coroutines wait for, and
    further ones from *coming*, whose number grows from call to call. If a requested
    operation has another length than the one from *coming*, it is signed again.

    Args:
        coming: returns the next operation to sign in advance; None if none is known
            yet.
        first: number of operations in the first batch.
        low: number of requests left at which the next batch is signed.
        now: returns seconds since the epoch.
    """

    def __init__(
        self,
        signer: Signer,
        coming: Callable[[], Operation | None] = lambda: None,
        *,
        first: int = MAX_REQUESTS,
        low: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._signer, self._coming, self._low = signer, coming, low
        self._now = now
        # number of operations in the next batch
        self._size = max(1, min(first, MAX_REQUESTS))
        self._waiting: list[_Waiter] = []
        self._held: dict[Slot, tuple[Operation, Outcome]] = {}
        # operations to sign before those of *coming*
        self._next: deque[Operation] = deque()
        # issue time of the last request that was refused during this call
        self._invalidated = -math.inf
        self._is_calling = False
        self._works = True  # True if the last call succeeded

    async def sign(self, operation: Operation) -> SignedRequest:
        waiter = _Waiter(operation)
        self._serve(waiter)
        if not waiter.future.done():
            self._waiting.append(waiter)
        if not self._is_calling and (self._waiting or len(self._held) < self._low):
            self._is_calling = True
            _ = running().spawn(self._call())
        try:
            return await waiter.future
        finally:
            waiter.forget()
            with suppress(ValueError):
                self._waiting.remove(waiter)

    def invalidate(self, refused: SignedRequest) -> None:
        """Drop all requests signed no later than *refused*, so they are signed again.

        If the signer stated too long a lifetime, the store would refuse each of them, too.
        This includes requests of a call to the signer that is under way.
        """
        self._invalidated = max(self._invalidated, refused.issued_at)
        self._put_back(lambda signed: signed.issued_at <= refused.issued_at)

    async def _call(self) -> None:
        """Call the signer until no coroutine waits and enough is signed in advance."""
        try:
            while True:
                batch, awaited = self._next_batch()
                if not batch:
                    break
                await self._sign(batch, awaited)
        except BaseException as error:  # noqa: BLE001 - the waiting coroutines raise it
            for waiter in self._waiting:
                waiter.settle(error)
        finally:
            self._is_calling = False

    def _next_batch(self) -> tuple[list[Operation], int]:
        """Return the operations of the next call, and the number of awaited ones.

        The awaited ones come first. After a failed call, there are no others.
        """
        waiting = [waiter for waiter in self._waiting if not waiter.future.done()]
        batch = [waiter.operation for waiter in waiting[:MAX_REQUESTS]]
        if not batch and not (self._works and len(self._held) < self._low):
            return [], 0
        awaited, slots = len(batch), set(map(_slot, batch))
        if not self._works or (batch and all(waiter.alone for waiter in waiting)):
            return batch, awaited
        while (operation := self._following()) is not None:
            if _slot(operation) in slots:
                continue
            if len(batch) >= self._size:
                self._next.appendleft(operation)
                break
            batch.append(operation)
        self._size = min(self._size * _GROWTH, MAX_REQUESTS)
        return batch, awaited

    def _following(self) -> Operation | None:
        return self._next.popleft() if self._next else self._coming()

    async def _sign(self, batch: Sequence[Operation], awaited: int) -> None:
        """Sign *batch*, and give the results to the waiting coroutines.

        The first *awaited* results are given away, the others are kept.
        """
        self._invalidated = -math.inf
        try:
            outcomes = await call_user(signed_each, self._signer, batch)
        except (Exception, CarriedError, asyncio.CancelledError) as error:  # noqa: BLE001 - the waiting coroutines raise it
            self._works = False
            slots = set(map(_slot, batch))
            for waiter in self._waiting:
                if _slot(waiter.operation) in slots:
                    waiter.settle(_with_path(error, waiter.operation))
            return
        self._works = True
        waiting: defaultdict[Slot, list[_Waiter]] = defaultdict(list)
        for waiter in self._waiting:
            waiting[_slot(waiter.operation)].append(waiter)
        pairs = zip(batch, outcomes, strict=True)
        for index, (operation, outcome) in enumerate(pairs):
            slot = _slot(operation)
            same = (w for w in waiting[slot] if w.operation == operation)
            open_one = next((w for w in same if not w.future.done()), None)
            if open_one is not None:
                open_one.settle(outcome)
            elif index >= awaited:
                self._held[slot] = operation, outcome
        self._put_back(lambda signed: signed.issued_at <= self._invalidated)
        for waiter in self._waiting:
            self._serve(waiter)

    def _serve(self, waiter: _Waiter) -> None:
        """Give *waiter* a request that was signed in advance, unless it expires soon.

        A request for another length is dropped.
        """
        now, slot = self._now(), _slot(waiter.operation)
        held = self._held.get(slot)
        if held is not None and _is_signed(
            held[1], lambda signed: signed.is_stale(now)
        ):
            # Requests that were signed in the same call are stale, too.
            self._put_back(lambda signed: signed.is_stale(now))
        held = self._held.pop(slot, None)
        if held is not None and held[0] == waiter.operation:
            waiter.settle(held[1])
        elif held is not None:
            waiter.alone = True

    def _put_back(self, is_over: Callable[[SignedRequest], bool]) -> None:
        over = [slot for slot, (_, o) in self._held.items() if _is_signed(o, is_over)]
        self._next.extendleft(self._held.pop(slot)[0] for slot in reversed(over))


def _with_path(failure: BaseException, operation: Operation) -> BaseException:
    if isinstance(failure, OSSPresignedError):
        failure = copy(failure)
        failure.path = failure.filename = operation.path
    return failure


def _is_signed(outcome: Outcome, test: Callable[[SignedRequest], bool]) -> bool:
    return isinstance(outcome, SignedRequest) and test(outcome)


async def announced(
    jobs: Iterable[T],
    opening: Callable[[T], Awaitable[Operation]],
    coming: deque[Operation],
) -> AsyncIterator[list[T]]:
    """Yield *jobs* in chunks, after adding the first requests of later jobs to *coming*.

    A worker thread reads up to 200 jobs in advance. An error of *opening* is ignored
    here, because the job itself raises it again.
    """
    source = iter(jobs)

    async def chunk() -> list[T]:
        read = await waiting(lambda: list(islice(source, MAX_REQUESTS)))
        for job in read:
            with suppress(OSError, TypeError, ValueError):
                coming.append(await opening(job))
        return read

    current = await chunk()
    while current:
        following = await chunk()
        yield current
        current = following

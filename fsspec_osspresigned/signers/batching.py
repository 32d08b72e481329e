"""Prefetcher: signs the operations of many coroutines in few calls, some in advance."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from itertools import chain, islice
from typing import TypeVar, cast

from attrs import define, field

from ..engine.engine import CarriedError, call_user, running, waiting
from ..errors import OSSPresignedError
from ..model import Operation, SignedRequest
from .base import MAX_REQUESTS, Outcome, Signer, signed_each

T = TypeVar("T")

# A batch grows to this multiple of the last one, from one part to a full call in three
# steps.
_GROWTH = 8


@define(eq=False)
class _Waiter:
    """An operation whose signature a coroutine waits for."""

    operation: Operation
    alone: bool = False  # what was prefetched for it does not fit
    future: asyncio.Future[SignedRequest] = field(
        factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, outcome: Outcome | BaseException | None) -> None:
        """Give *outcome* to the coroutine, unless it was cancelled."""
        if self.future.done():
            return
        if isinstance(outcome, BaseException):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(cast("SignedRequest", outcome))

    def forget(self) -> None:
        """Keep asyncio from logging an error that the coroutine did not take."""
        if self.future.done() and not self.future.cancelled():
            self.future.exception()


def _slot(operation: Operation) -> tuple[object, ...]:
    return operation.action, operation.path, operation.upload_id, operation.part_number


class Prefetcher:
    """Batches the operations of several coroutines, and signs further ones in advance.

    One worker thread at a time calls the signer; operations that arrive meanwhile go into
    the next call. The number of operations signed in advance grows from call to call.

    Each operation of *coming* is signed once, roughly in the order of *coming*. If the
    operation that is requested then differs (another length), it is signed separately.

    Args:
        coming: returns the next operation to sign in advance, None if none is known yet.
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
        self._size = max(1, min(first, MAX_REQUESTS))  # of the next batch
        self._waiting: list[_Waiter] = []
        self._held: dict[tuple[object, ...], tuple[Operation, Outcome]] = {}
        self._stale: deque[Operation] = deque()
        self._failed: set[tuple[object, ...]] = set()  # of calls that failed
        self._invalidated = -math.inf  # issue of the last refused request in this call
        self._is_calling = False

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
        works = True
        try:
            while True:
                batch, is_announced = self._next_batch(works=works)
                if not batch:
                    break
                works = await self._sign(batch, is_announced=is_announced)
        except BaseException as error:  # noqa: BLE001 - raised by the coroutines that wait
            for waiter in self._waiting:
                waiter.settle(error)
        finally:
            self._is_calling = False

    def _next_batch(self, *, works: bool) -> tuple[list[Operation], bool]:
        """Return the operations of the next call, and whether they are those of *coming*.

        After a call that failed (*works* is False), there is no further call unless a
        coroutine waits.
        """
        waiting = [waiter for waiter in self._waiting if not waiter.future.done()]
        alone = [waiter for waiter in waiting if waiter.alone]
        is_low = works and len(self._held) < self._low
        if not alone and (waiting or is_low) and (batch := self._prefetched()):
            return batch, True
        wanted = (alone or waiting)[:MAX_REQUESTS]
        return [waiter.operation for waiter in wanted], False

    def _prefetched(self) -> list[Operation]:
        batch: list[Operation] = []
        while len(batch) < self._size:
            operation = self._stale.popleft() if self._stale else self._coming()
            if operation is None:
                break
            batch.append(operation)
        if batch:
            self._size = min(self._size * _GROWTH, MAX_REQUESTS)
        return batch

    async def _sign(self, batch: Sequence[Operation], *, is_announced: bool) -> bool:
        """Sign *batch*, and give the results to the coroutines that wait; keep the rest.

        Returns whether the call to the signer succeeded.
        """
        outcomes: Sequence[Outcome | None] = [None] * len(batch)
        failure: BaseException | None = None
        self._invalidated = -math.inf
        try:
            outcomes = await call_user(signed_each, self._signer, batch)
        except (Exception, CarriedError, asyncio.CancelledError) as error:  # noqa: BLE001 - raised by those who wait
            failure = error
        waiting = self._waiting_by_slot()
        for operation, outcome in zip(batch, outcomes, strict=True):
            others = waiting[_slot(operation)]
            waiter = next((w for w in others if w.operation == operation), None)
            if waiter is not None:
                others.remove(waiter)
                waiter.settle(
                    outcome if failure is None else _with_path(failure, operation)
                )
            elif is_announced:
                self._keep(operation, outcome)
        for waiter in chain.from_iterable(waiting.values()):
            if not waiter.alone:
                self._serve(waiter)
        return failure is None

    def _waiting_by_slot(self) -> defaultdict[tuple[object, ...], list[_Waiter]]:
        waiting: defaultdict[tuple[object, ...], list[_Waiter]] = defaultdict(list)
        for waiter in self._waiting:
            if not waiter.future.done():
                waiting[_slot(waiter.operation)].append(waiter)
        return waiting

    def _keep(self, operation: Operation, outcome: Outcome | None) -> None:
        """Keep the result of an operation that no coroutine waits for yet.

        *outcome* None means that the call failed.
        """
        slot = _slot(operation)
        if outcome is None:
            self._failed.add(slot)
        elif _is_signed(outcome, lambda signed: signed.issued_at <= self._invalidated):
            self._stale.append(operation)
        else:
            self._held[slot] = operation, outcome

    def _serve(self, waiter: _Waiter) -> None:
        """Give *waiter* its request that was signed in advance, unless that expires soon.

        A request for another length is dropped, and the operation is then signed alone.
        """
        now, slot = self._now(), _slot(waiter.operation)
        held = self._held.get(slot)
        if held is not None and _is_signed(
            held[1], lambda signed: signed.is_stale(now)
        ):
            # What came with it has become stale, too.
            self._put_back(lambda signed: signed.is_stale(now))
        held = self._held.pop(slot, None)
        if held is not None and held[0] == waiter.operation:
            waiter.settle(held[1])
        elif held is not None or slot in self._failed:
            waiter.alone = True
            self._failed.discard(slot)

    def _put_back(self, is_over: Callable[[SignedRequest], bool]) -> None:
        for slot, (operation, outcome) in list(self._held.items()):
            if _is_signed(outcome, is_over):
                self._stale.append(operation)
                del self._held[slot]


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

    A worker thread reads up to 200 jobs ahead. An error of *opening* is ignored here,
    because the job itself raises it again.
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

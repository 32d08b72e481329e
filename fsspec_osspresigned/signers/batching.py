"""Prefetcher: signs the operations of many coroutines in few calls, and ahead."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from copy import copy
from itertools import islice, zip_longest
from typing import TypeVar

from attrs import define, field

from ..engine.engine import blocking, call_user, running
from ..errors import OSSPresignedError
from ..model import Operation, SignedRequest
from .base import MAX_REQUESTS, Outcome, Signer, check_signed

T = TypeVar("T")

# A batch grows to this multiple of the last one, as long as its URLs would be used in
# time: eight gets from one part to a full call in three steps.
_GROWTH = 8


@define(eq=False)
class _Waiter:
    """An operation whose signature a coroutine waits for."""

    operation: Operation
    alone: bool = False  # what was prefetched for it does not fit
    future: asyncio.Future[SignedRequest] = field(
        factory=lambda: asyncio.get_running_loop().create_future()
    )

    def settle(self, outcome: Outcome | Exception) -> None:
        """Give *outcome* to the coroutine, unless it was cancelled."""
        if self.future.done():
            return
        if isinstance(outcome, SignedRequest):
            try:
                check_signed(self.operation, outcome)
            except OSSPresignedError as error:
                outcome = error
            else:
                self.future.set_result(outcome)
                return
        self.future.set_exception(outcome)


def _slot(operation: Operation) -> tuple[object, ...]:
    one = operation
    return one.action, one.path, one.upload_id, one.part_number


class Prefetcher:
    """Batches the operations of several coroutines, and signs others ahead.

    The signer is called by one worker thread at a time; what is asked meanwhile is part
    of the next call. The number of operations signed ahead grows up to the number that
    was used in half the lifetime of the last batch, so that few URLs expire unused.

    Each operation of *coming* is signed once, roughly in the order of *coming*. If the
    operation that is requested then differs (another length), it is signed separately.

    Args:
        signer: signs the batches.
        coming: returns the next operation to sign ahead, None if none is known yet.
        first: number of operations in the first batch.
        low: number of requests left at which the next batch is signed.
        clock: returns monotonic seconds.
        now: returns seconds since the epoch.
    """

    def __init__(
        self,
        signer: Signer,
        coming: Callable[[], Operation | None] = lambda: None,
        *,
        first: int = MAX_REQUESTS,
        low: int = 0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._signer, self._coming, self._low = signer, coming, low
        self._clock, self._now = clock, now
        self._size = max(1, min(first, MAX_REQUESTS))
        self._waiting: list[_Waiter] = []
        self._held: dict[tuple[object, ...], tuple[Operation, Outcome]] = {}
        self._stale: deque[Operation] = deque()
        self._is_calling = False
        self._asked_at: float | None = None
        self._supply = 0  # prefetched requests after the last call
        self._life: float | None = None

    async def sign(self, operation: Operation) -> SignedRequest:
        """Return the signed request of *operation*; raises the error of the signer."""
        waiter = _Waiter(operation)
        self._serve(waiter)
        if not waiter.future.done():
            self._waiting.append(waiter)
        self._begin_call()
        try:
            return await waiter.future
        finally:
            with suppress(ValueError):
                self._waiting.remove(waiter)

    def distrust(self, refused: SignedRequest) -> None:
        """Drop all requests signed no later than *refused*, so they are signed again.

        The store would refuse each of them too, if the signer stated too long a lifetime.
        """
        self._put_back(lambda signed: signed.issued_at <= refused.issued_at)

    def _begin_call(self) -> None:
        if not self._is_calling and (self._waiting or len(self._held) < self._low):
            self._is_calling = True
            running().spawn(self._call())

    async def _call(self) -> None:
        """Call the signer, until no coroutine waits and enough is signed ahead."""
        try:
            while batch := self._next_batch():
                await self._sign(batch)
        finally:
            self._is_calling = False

    def _next_batch(self) -> list[Operation]:
        waiting = [waiter for waiter in self._waiting if not waiter.future.done()]
        if not waiting:
            return self._prefetched() if len(self._held) < self._low else []
        alone = [waiter for waiter in waiting if waiter.alone]
        if not alone and (batch := self._prefetched()):
            return batch
        return [waiter.operation for waiter in (alone or waiting)[:MAX_REQUESTS]]

    def _prefetched(self) -> list[Operation]:
        """Return the operations to sign ahead now; empty if none is known."""
        now = self._clock()
        if self._asked_at is not None:
            in_time = MAX_REQUESTS
            if self._life is not None:
                used = self._supply - len(self._held) - len(self._stale)
                rate = max(1, used) / max(now - self._asked_at, 1e-3)
                in_time = max(1, int(rate * self._life / 2))
            self._size = min(self._size * _GROWTH, MAX_REQUESTS, in_time)
        batch: list[Operation] = []
        while len(batch) < self._size:
            operation = self._stale.popleft() if self._stale else self._coming()
            if operation is None:
                break
            batch.append(operation)
        if batch:
            self._asked_at, self._supply = now, len(self._held) + len(batch)
        return batch

    async def _sign(self, batch: Sequence[Operation]) -> None:
        outcomes: Sequence[Outcome] = ()
        failure: Exception | None = None
        try:
            outcomes = await call_user(self._signer.sign_each, batch)
        except Exception as error:  # noqa: BLE001 - raised by the coroutines that wait
            failure = error
        for operation, outcome in zip_longest(batch, outcomes):
            self._deliver(operation, outcome, failure)
        for waiter in list(self._waiting):
            if not waiter.alone:
                self._serve(waiter)

    def _deliver(
        self, operation: Operation, outcome: Outcome | None, failure: Exception | None
    ) -> None:
        if isinstance(outcome, SignedRequest) and outcome.expires_at is not None:
            self._life = max(0.0, outcome.expires_at - self._now())
        for waiter in self._waiting:
            if waiter.operation is operation or waiter.operation == operation:
                if not waiter.future.done():
                    waiter.settle(outcome or _for(operation, failure))
                    return
        if outcome is not None:
            self._held[_slot(operation)] = operation, outcome

    def _serve(self, waiter: _Waiter) -> None:
        """Give *waiter* its request that was signed ahead, unless that expires soon."""
        now, slot = self._now(), _slot(waiter.operation)
        held = self._held.get(slot)
        if held is not None and _is_signed(held[1], lambda one: one.is_stale(now)):
            # What came with it has become stale, too.
            self._put_back(lambda signed: signed.is_stale(now))
        held = self._held.pop(slot, None)
        if held is None:
            return
        if held[0] == waiter.operation:
            waiter.settle(held[1])
        else:
            waiter.alone = True

    def _put_back(self, is_over: Callable[[SignedRequest], bool]) -> None:
        for slot, (operation, outcome) in list(self._held.items()):
            if _is_signed(outcome, is_over):
                self._stale.append(operation)
                del self._held[slot]


def _for(operation: Operation, failure: Exception | None) -> Exception:
    """Return *failure*, that of a whole call, with the path of *operation*."""
    if isinstance(failure, OSSPresignedError):
        failure = copy(failure)
        failure.path = failure.filename = operation.path
    return failure or RuntimeError("the signer answered too few requests")


def _is_signed(outcome: Outcome, test: Callable[[SignedRequest], bool]) -> bool:
    return isinstance(outcome, SignedRequest) and test(outcome)


async def announced(
    jobs: Iterable[T],
    opening: Callable[[T], Awaitable[Operation]],
    coming: deque[Operation],
) -> AsyncIterator[T]:
    """Yield *jobs*, and append the first requests of up to 200 later jobs to *coming*.

    A worker thread reads *jobs*. An error of *opening* is ignored here, because the job
    itself raises it again.
    """
    source = iter(jobs)

    async def chunk() -> list[T]:
        found = await blocking(lambda: list(islice(source, MAX_REQUESTS)))
        for job in found:
            with suppress(OSError, TypeError, ValueError):
                coming.append(await opening(job))
        return found

    now = await chunk()
    while now:
        following = await chunk()
        for job in now:
            yield job
        now = following

"""Batched signing: requests of many threads are signed by few calls to the signer."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from itertools import islice, zip_longest
from typing import TypeVar

from attrs import define

from ..concurrency.waiting import Changes
from ..errors import OSSPresignedError
from ..model import Operation, SignedRequest
from .base import MAX_REQUESTS, Outcome, Signer, all_signed, check_signed, sign_each

T = TypeVar("T")

# A batch grows to this multiple of the last one, as long as its URLs would be used in
# time: eight gets from one part to a full call in three steps.
_GROWTH = 8


@define(eq=False)
class _Prefetch:
    """One operation to sign, and its result."""

    operation: Operation
    outcome: Outcome | Exception | None = None  # until the call, and if it failed
    alone: bool = False  # what was prefetched for it does not fit

    @property
    def slot(self) -> tuple[object, ...]:
        one = self.operation
        return one.action, one.path, one.upload_id, one.part_number


class Prefetcher:
    """Signer that batches the operations of several threads, and signs others ahead.

    There is no timer and no thread. The first thread that needs a signature makes the
    call, and the others wait for it; operations that are still missing are part of the
    next call. An operation stays in the list until its own thread removes it, so an
    interrupt of the calling thread loses no operation of another thread. The number of
    operations signed ahead grows up to the number that was used in half the lifetime of
    the last batch, so that few URLs expire unused.

    Each operation of *coming* is signed once, roughly in the order of *coming*. If the
    operation that is requested then differs (another length), it is signed separately.

    Args:
        signer: signs the batches.
        coming: returns the next operation to sign ahead, None if none is known yet;
            called by one thread at a time.
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
        self._signer = signer
        self._coming = coming
        self._low = low
        self._clock = clock
        self._now = now
        self._size = max(1, min(first, MAX_REQUESTS))
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a finalizer may come back in here
        self._changes = Changes()
        self._asking = threading.Lock()
        self._waiting: list[_Prefetch] = []
        self._held: dict[tuple[object, ...], _Prefetch] = {}
        self._stale: deque[Operation] = deque()
        self._asked_at: float | None = None
        self._supply = 0  # prefetched requests after the last call
        self._life: float | None = None

    @property
    def waiting(self) -> int:
        """Number of operations that wait for a call to the signer."""
        return sum(entry.outcome is None for entry in list(self._waiting))

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return signed requests for *operations*; raises the errors of the signer."""
        found = all_signed(self.sign_each(operations))
        if len(self._held) < self._low:
            self.request_more()
        return found

    def sign_each(
        self, operations: Sequence[Operation]
    ) -> list[SignedRequest | Exception]:
        """Return a signed request or an error for each of *operations*."""
        self._begin_anew_after_fork()
        owns = [_Prefetch(operation) for operation in operations]
        waiting = self._waiting
        waiting += owns
        try:
            with self._lock:
                for own in owns:
                    self._serve(own)
            for own in owns:
                self._wait_for(own)
        finally:
            for own in owns:
                waiting.remove(own)
        return [_checked(own) for own in owns]

    def signed_already(self, operation: Operation) -> SignedRequest | None:
        """Return the request signed ahead for *operation*; None if there is none.

        Raises the error with which the signer refused it.
        """
        self._begin_anew_after_fork()
        own = _Prefetch(operation)
        with self._lock:
            self._serve(own)
        return None if own.outcome is None else all_signed([_checked(own)])[0]

    def wants_more(self) -> bool:
        """Return whether the next batch should be signed ahead, because few are left."""
        if len(self._held) >= self._low or self._asking.locked():
            return False
        with self._lock:
            if not self._stale and (operation := self._coming()) is not None:
                self._stale.append(operation)
            return bool(self._stale)

    def request_more(self) -> None:
        """Sign the next batch ahead, unless another thread does.

        A refusal is kept, and raised when its operation is requested. After any other
        failure, the operations are signed when they are requested.
        """
        if self._asking.locked():
            return
        with self._asking:
            with self._lock:
                batch = self._prefetched()
            self._ask(batch)
        self._changes.tell()

    def distrust(self, refused: SignedRequest) -> None:
        """Drop all requests signed no later than *refused*, so they are signed again.

        The store would refuse each of them too, if the signer stated too long a lifetime.
        """
        with self._lock:
            self._put_back(lambda signed: signed.issued_at <= refused.issued_at)

    def _begin_anew_after_fork(self) -> None:
        if self._pid != os.getpid():
            self._reset()  # the thread that made the call exists in the parent only

    def _wait_for(self, own: _Prefetch) -> None:
        try:
            while own.outcome is None:
                self._take_turn(own)
        except Exception as error:  # noqa: BLE001 - the error of this operation
            own.outcome = error

    def _take_turn(self, own: _Prefetch) -> None:
        """Call the signer, or wait while another thread calls it."""
        if self._asking.locked():
            self._changes.wait_for(
                lambda: own.outcome is not None or not self._asking.locked()
            )
            return
        with self._asking:
            self._ask(self._next_batch(own), own)
        self._changes.tell()

    def _serve(self, own: _Prefetch) -> None:
        """Give *own* its request that was signed ahead, unless that expires soon."""
        now, slot = self._now(), own.slot
        held = self._held.get(slot)
        if held is not None and _is_signed(held, lambda signed: signed.is_stale(now)):
            # What came with it has become stale, too.
            self._put_back(lambda signed: signed.is_stale(now))
        held = self._held.pop(slot, None)
        if held is not None and held.operation == own.operation:
            own.outcome = held.outcome
        own.alone = held is not None and own.outcome is None

    def _put_back(self, is_over: Callable[[SignedRequest], bool]) -> None:
        for slot, held in list(self._held.items()):
            if _is_signed(held, is_over):
                self._stale.append(held.operation)
                del self._held[slot]

    def _serve_waiting(self) -> list[_Prefetch]:
        """Give waiting operations their requests; return those that still wait."""
        waiting = [entry for entry in list(self._waiting) if entry.outcome is None]
        for entry in waiting:
            if not entry.alone:
                self._serve(entry)
        return [entry for entry in waiting if entry.outcome is None]

    def _next_batch(self, own: _Prefetch) -> list[_Prefetch]:
        """Return the operations for the next call; empty if *own* needs no call."""
        with self._lock:
            waiting = self._serve_waiting()
            if own.outcome is not None:
                return []
            batch = [] if own.alone else self._prefetched()
        may = [entry for entry in waiting if entry.alone or not own.alone]
        return batch or may[:MAX_REQUESTS]

    def _prefetched(self) -> list[_Prefetch]:
        """Return the operations to sign ahead now; empty if none is known."""
        now = self._clock()
        if self._asked_at is not None:
            in_time = MAX_REQUESTS
            if self._life is not None:
                used = self._supply - len(self._held) - len(self._stale)
                rate = max(1, used) / max(now - self._asked_at, 1e-3)
                in_time = max(1, int(rate * self._life / 2))
            self._size = min(self._size * _GROWTH, MAX_REQUESTS, in_time)
        batch: list[_Prefetch] = []
        while len(batch) < self._size:
            operation = self._stale.popleft() if self._stale else self._coming()
            if operation is None:
                break
            batch.append(_Prefetch(operation))
        self._asked_at, self._supply = now, len(self._held) + len(batch)
        return batch

    def _ask(self, batch: Sequence[_Prefetch], own: _Prefetch | None = None) -> None:
        outcomes: Sequence[Outcome] = ()
        failure: Exception | None = None
        try:
            if batch:
                outcomes = sign_each(self._signer, [entry.operation for entry in batch])
        except Exception as error:  # noqa: BLE001 - raised by the threads that wait
            failure = error
        finally:
            with self._lock:
                for entry, outcome in zip_longest(batch, outcomes):
                    self._deliver(entry, outcome, failure)
                self._serve_waiting()
        if failure is not None and own is not None and own.outcome is None:
            raise failure

    def _deliver(
        self, entry: _Prefetch, outcome: Outcome | None, failure: Exception | None
    ) -> None:
        if isinstance(outcome, SignedRequest) and outcome.expires_at is not None:
            self._life = max(0.0, outcome.expires_at - self._now())
        if entry in self._waiting:
            entry.outcome = outcome or _for(entry.operation, failure)
        else:
            entry.outcome = outcome
            self._held[entry.slot] = entry


def _checked(own: _Prefetch) -> SignedRequest | Exception:
    """Return the signed request of *own*; an error if it is for another operation."""
    if not isinstance(own.outcome, Exception):
        try:
            check_signed(own.operation, own.outcome)
        except OSSPresignedError as error:
            return error
    return own.outcome  # type: ignore[return-value]  # it is there by now


def _for(operation: Operation, failure: Exception | None) -> Exception | None:
    """Return *failure*, that of a whole call, with the path of *operation*."""
    if isinstance(failure, OSSPresignedError):
        failure = copy(failure)
        failure.path = failure.filename = operation.path
    return failure


def _is_signed(held: _Prefetch, test: Callable[[SignedRequest], bool]) -> bool:
    return isinstance(held.outcome, SignedRequest) and test(held.outcome)


def announced(
    jobs: Iterable[T], opening: Callable[[T], Operation], coming: deque[Operation]
) -> Iterator[T]:
    """Yield *jobs*, and append the first requests of up to 200 later jobs to *coming*.

    An error of *opening* is ignored here, because the job itself raises it again.
    """
    source = iter(jobs)

    def chunk() -> list[T]:
        found = list(islice(source, MAX_REQUESTS))
        for job in found:
            with suppress(OSError, TypeError, ValueError):
                coming.append(opening(job))
        return found

    now = chunk()
    while now:
        following = chunk()
        yield from now
        now = following

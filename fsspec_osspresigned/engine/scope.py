"""Scope: calls one coroutine function for many jobs, several at a time.

All of them have ended when the scope has: it ends the others if it is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from itertools import islice
from typing import Any, Generic, TypeVar

from ..errors import ReceiptFailedError, UploadErrors
from ..model import Action
from ..tracebacks import without_frames
from . import abort_at_exit
from .engine import blocking

T = TypeVar("T")
R = TypeVar("R")

ON_ERROR = ("raise", "omit", "return")

# Equal refusals one after the other that end the whole: no other job would be let in.
_REFUSALS = 16
_REFUSED = (401, 403)
_NOTHING = object()  # in the place of the result of a job
_CHUNK = 64  # jobs that a worker thread takes from an iterator at once


async def in_chunks(jobs: Iterable[T], size: int = _CHUNK) -> AsyncIterator[T]:
    """Yield *jobs*, which a worker thread reads: their iterator may wait for a disk."""
    source = iter(jobs)
    while chunk := await blocking(lambda: list(islice(source, size))):
        for job in chunk:
            yield job


class Scope(Generic[T, R]):
    """Calls *work* for each job; at most *width* calls run at a time.

    *name* returns the name of a job for errors. *on_error*: ``raise`` takes no further
    job after a failure, and raises it at the end; ``omit`` and ``return`` go on. 16
    equal refusals (401, 403) in a row end the scope in any case.

    Attributes:
        failures: exceptions of failed jobs by name.
    """

    def __init__(
        self,
        work: Callable[[T], Coroutine[Any, Any, R]],
        name: Callable[[T], str],
        *,
        width: int,
        on_error: str = "raise",
    ) -> None:
        self._work, self._name = work, name
        self._width, self._on_error = width, on_error
        self._results: list[Any] = []
        self._refusals: list[tuple[Any, ...]] = []
        self._failed = False
        self.failures: dict[str, Exception] = {}

    async def run(self, jobs: Iterable[T] | AsyncIterator[T]) -> list[Any]:
        """Call *work* for all *jobs*; return the results in the order of the jobs.

        A list is read here, another iterable by a worker thread. With
        ``on_error="return"``, exceptions stand in place of results.

        Raises:
            UploadErrors: several jobs failed, or each was refused.
            Exception: the exception of the only failed job.
        """
        await self.failures_of(jobs)
        failures, given_up = self.failures, self._is_refused()
        if failures and (self._on_error == "raise" or given_up):
            if len(failures) == 1:
                raise next(iter(failures.values()))
            shown = "; ".join(f"{p}: {e}" for p, e in list(failures.items())[:3])
            actions = {getattr(one, "action", None) for one in failures.values()}
            what = "deletions" if actions == {Action.DeleteObject} else "transfers"
            msg = f"{len(failures)} {what} failed: {shown}"
            if given_up:
                msg = f"stopped after {_REFUSALS} equal refusals in a row; {msg}"
            raise UploadErrors(msg, failures=failures)
        return [one for one in self._results if one is not _NOTHING]

    async def failures_of(
        self, jobs: Iterable[T] | AsyncIterator[T]
    ) -> dict[str, Exception]:
        """Call *work* for all *jobs*; return the exceptions of failed jobs by name."""
        take = self._from(jobs)
        children: set[asyncio.Task[None]] = set()

        async def child() -> None:
            is_first = True
            while (taken := await take()) is not None:
                if is_first and len(children) < self._width:
                    begin()
                is_first = False
                await self._do(*taken)

        def begin() -> None:
            children.add(asyncio.get_running_loop().create_task(child()))

        begin()
        try:
            while running := [task for task in children if not task.done()]:
                done, _ = await asyncio.wait(
                    running, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()  # an interrupt of the user's code, or a defect
        except BaseException:
            await _ended(children)
            raise
        return self.failures

    def _from(
        self, jobs: Iterable[T] | AsyncIterator[T]
    ) -> Callable[[], Coroutine[Any, Any, tuple[int, T] | None]]:
        """Return a function that takes the next job with its index; None at the end."""
        if isinstance(jobs, Sequence):
            left = iter(jobs)

            async def take_here() -> tuple[int, T] | None:
                for job in left:
                    return self._taken(job)
                return None

            return take_here
        source = jobs if isinstance(jobs, AsyncIterator) else in_chunks(jobs)
        taking = asyncio.Lock()  # an iterator gives one job at a time

        async def take() -> tuple[int, T] | None:
            async with taking:
                async for job in source:
                    return self._taken(job)
                return None

        return take

    def _taken(self, job: T) -> tuple[int, T] | None:
        if self._is_over():
            return None
        self._results.append(_NOTHING)
        return len(self._results) - 1, job

    async def _do(self, index: int, job: T) -> None:
        try:
            result = await self._work(job)
        except Exception as error:  # noqa: BLE001 - raised at the end
            self._add_failure(index, self._name(job), error)
        else:
            self._results[index] = result
            self._refusals.clear()

    def _is_over(self) -> bool:
        stops = self._on_error == "raise" and self._failed
        return stops or abort_at_exit.is_terminating() or self._is_refused()

    def _is_refused(self) -> bool:
        return len(self._refusals) >= _REFUSALS

    def _add_failure(self, index: int, name: str, error: Exception) -> None:
        self.failures[name] = without_frames(error)
        self._failed |= not isinstance(error, ReceiptFailedError)
        if self._on_error == "return":
            self._results[index] = error
        status = getattr(error, "status", None)
        refusal = (type(error), status, getattr(error, "code", None))
        if refusal not in self._refusals:
            self._refusals.clear()
        if status in _REFUSED:
            self._refusals.append(refusal)


async def _ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel *tasks*, and wait until all have ended; a cancellation is passed on."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # it was asked for, so asyncio does not log it


async def in_parallel(
    work: Callable[[T], Coroutine[Any, Any, R]], jobs: Sequence[T], width: int
) -> list[R]:
    """Call *work* for all *jobs*, *width* at a time; return the results in order.

    The first failure cancels the others, and is raised when they have ended.
    """
    results: dict[int, R] = {}
    left = iter(enumerate(jobs))

    async def child() -> None:
        for index, job in left:
            results[index] = await work(job)

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(child()) for _ in range(min(width, len(jobs)))]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        await _ended(tasks)
    return [results[index] for index in range(len(jobs))]

"""Scope: calls one coroutine function for many jobs, several at a time.

When a scope returns or raises, all its calls have ended. If a scope is cancelled, it
cancels its calls, and waits until they have ended.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from ..errors import ReceiptFailedError, UploadDiscardedError, UploadErrors
from ..model import Action
from . import abort_at_exit
from .engine import add_notes, waiting

T = TypeVar("T")
R = TypeVar("R")

ON_ERROR = ("raise", "omit", "return")

# After this number of equal refusals in a row, the scope ends, because the other jobs
# would be refused, too.
_REFUSALS = 16
_REFUSED = (401, 403)  # HTTP statuses that count as refusals
_NO_RESULT = object()  # result of a job that has failed, or has not ended
_CHUNK = 128  # jobs that a worker thread takes from an iterator at a time


async def _chunks_of(jobs: Iterable[T]) -> AsyncIterator[Sequence[T]]:
    source = iter(jobs)  # the iterator is code of the user, which may wait for anything
    while chunk := await waiting(lambda: list(islice(source, _CHUNK))):
        yield chunk


class _Reader(Generic[T]):
    """Reads chunks of jobs, one chunk in advance, so that calls need not wait for them."""

    def __init__(self, chunks: AsyncIterator[Sequence[T]]) -> None:
        self._chunks = chunks
        self._ahead = self._begin()

    def _begin(self) -> asyncio.Task[Sequence[T] | None]:
        return asyncio.get_running_loop().create_task(self._next())

    async def _next(self) -> Sequence[T] | None:
        return await anext(self._chunks, None)

    async def read(self) -> Sequence[T]:
        """Return the next chunk, which is empty at the end; one call at a time."""
        chunk = await self._ahead
        if chunk is None:
            return ()
        self._ahead = self._begin()
        return chunk

    async def close(self) -> None:
        """Stop reading. An error of a chunk that nobody took is ignored."""
        self._ahead.cancel()
        await asyncio.wait((self._ahead,))
        if not self._ahead.cancelled():
            self._ahead.exception()  # asyncio logs an exception that nobody has retrieved


class Scope(Generic[T, R]):
    """Calls *work* for each job; at most *width* calls run at a time.

    *name* returns the name of a job for errors. ``failures`` has the exceptions of failed
    jobs by name.

    With *on_error* ``raise``, no further job begins after a failure (except
    ReceiptFailedError), and ``run`` raises at the end. With ``omit`` and ``return``,
    all jobs are run. In all cases, 16 equal refusals (401, 403) in a row end the scope.
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
        self._refusal: tuple[Any, ...] = ()  # key of the last failure
        self._refusals = 0  # number of equal refusals in a row
        self._stops = self._is_given_up = self._is_terminated = False
        self._notes: list[str] = []  # what cancelled jobs may have left in the store
        self.failures: dict[str, Exception] = {}

    async def run(self, jobs: Iterable[T] | AsyncIterator[Sequence[T]]) -> list[Any]:
        """Call *work* for all *jobs*; return the results in the order of the jobs.

        A sequence is read at once, any other iterable by a worker thread. An
        asynchronous iterator yields chunks of jobs. A chunk is read while the jobs of
        the one before run. Failed jobs have no result; with
        ``on_error="return"``, their exceptions are results.

        Raises:
            UploadErrors: several jobs failed, and ``on_error`` is ``raise``, or 16 equal
                refusals ended the scope.
            Exception: if only one job failed, its exception, in the same cases.
            UploadDiscardedError: SIGTERM was received before all jobs had run.
        """
        await self.run_all(jobs)
        failures, given_up = self.failures, self._is_given_up
        if failures and (self._on_error == "raise" or given_up):
            if len(failures) == 1:
                raise next(iter(failures.values()))
            shown = "; ".join(f"{p}: {e}" for p, e in list(failures.items())[:3])
            actions = {getattr(error, "action", None) for error in failures.values()}
            what = "deletions" if actions == {Action.DeleteObject} else "transfers"
            msg = f"{len(failures)} {what} failed: {shown}"
            if given_up:
                msg = f"stopped after {_REFUSALS} equal refusals in a row; {msg}"
            raise UploadErrors(msg, failures=failures)
        return [result for result in self._results if result is not _NO_RESULT]

    async def run_all(
        self, jobs: Iterable[T] | AsyncIterator[Sequence[T]]
    ) -> dict[str, Exception]:
        """Call *work* for all *jobs*; return the exceptions of failed jobs by name.

        Never raises the exception of a job. Raises UploadDiscardedError if SIGTERM was
        received before all jobs had run.
        """
        self._pending: deque[T] = deque()
        self._reader: _Reader[T] | None = None
        if isinstance(jobs, AsyncIterator):
            self._reader = _Reader(jobs)
        elif isinstance(jobs, Sequence):
            self._pending.extend(jobs)
        else:
            self._reader = _Reader(_chunks_of(jobs))
        self._reading = asyncio.Lock()
        self._children = _Children()
        self._children.begin(self._child())
        try:
            await self._children.wait()
        except asyncio.CancelledError as error:
            add_notes(error, self._notes)
            raise
        finally:
            if self._reader is not None:
                await self._reader.close()
        if self._is_terminated:
            raise UploadDiscardedError(abort_at_exit.TERMINATED)
        return self.failures

    async def _child(self) -> None:
        """Run jobs until none is left; start another child with the first job."""
        pending, is_first = self._pending, True
        while (pending or await self._read()) and not self._stops:
            if abort_at_exit.is_terminating:
                self._is_terminated = True
                break
            job, index = pending.popleft(), len(self._results)
            self._results.append(_NO_RESULT)
            if is_first and self._children.count < self._width:
                self._children.begin(self._child())
            is_first = False
            try:
                self._results[index] = await self._work(job)
            except Exception as error:  # noqa: BLE001 - the scope raises it at the end
                self._add_failure(index, self._name(job), error)
            except asyncio.CancelledError as error:
                self._notes += getattr(error, "__notes__", ())
                raise
            else:
                self._refusals = 0

    async def _read(self) -> bool:
        """Read the next jobs, and return whether there are any."""
        if self._reader is None:
            return False
        async with self._reading:
            if not self._pending:
                self._pending.extend(await self._reader.read())
        return bool(self._pending)

    def _add_failure(self, index: int, name: str, error: Exception) -> None:
        # frames keep their variables, and so the bodies of many files
        traceback.clear_frames(error.__traceback__)
        self.failures[name] = error
        if self._on_error == "raise" and not isinstance(error, ReceiptFailedError):
            self._stops = True
        if self._on_error == "return":
            self._results[index] = error
        status = getattr(error, "status", None)
        refusal = (type(error), status, getattr(error, "code", None))
        if refusal != self._refusal:
            self._refusal, self._refusals = refusal, 0
        self._refusals += status in _REFUSED
        if self._refusals >= _REFUSALS:
            self._is_given_up = self._stops = True


class _Children:
    """Tasks that end together: if one of them raises, all are cancelled."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self.count = 0  # number of tasks that were started

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.count += 1
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Only the first error is raised. asyncio does not log an exception that was
        # retrieved.
        error = None if task.cancelled() else task.exception()
        if self._over.done():
            return
        if task.cancelled():
            self._over.cancel()
        elif error is not None:
            self._over.set_exception(error)
        elif not self._tasks:
            self._over.set_result(None)

    async def wait(self) -> None:
        """Wait until all tasks have ended; raise the first error.

        Each cancellation of the caller cancels the tasks, too.
        """
        try:
            await self._over
        finally:
            await self._cancel_all()
            if not self._over.cancelled():
                self._over.exception()  # a cancellation may have come before the error

    async def _cancel_all(self) -> None:
        cancelled: asyncio.CancelledError | None = None
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            try:
                await asyncio.wait(self._tasks)
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled


async def in_parallel(
    work: Callable[[T], Coroutine[Any, Any, R]], jobs: Sequence[T], width: int
) -> list[R]:
    """Call *work* for all *jobs*, *width* at a time; return the results in order.

    The first failure cancels all other calls. It is raised when they have ended.
    """
    results: dict[int, R] = {}
    numbered = iter(enumerate(jobs))

    async def child() -> None:
        for index, job in numbered:
            results[index] = await work(job)

    children = _Children()
    for _ in range(max(1, min(width, len(jobs)))):
        children.begin(child())
    await children.wait()
    return [results[index] for index in range(len(jobs))]

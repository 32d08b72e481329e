"""Worker threads of the engine; they are reused, and end after some idle time."""

from __future__ import annotations

import asyncio
import errno
import math
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

IDLE = 25.0  # seconds without a job after which a thread ends

_local = threading.local()


def enter_own_thread() -> None:
    """Mark the calling thread as one of the engine."""
    _local.is_own = True


def is_own_thread() -> bool:
    """Return whether the calling thread is one of the engine."""
    return getattr(_local, "is_own", False)


class Job:
    """A call of *function* in a worker thread."""

    result: Any = None
    error: BaseException | None = None
    is_over = False

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function: Callable[[], Any] | None = function
        self._waiter: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        while not self.is_over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def run(self) -> None:  # runs in a worker thread
        function, self._function = self._function, None
        try:
            self.result = function()  # type: ignore[misc]  # the task is called only once
        except BaseException as error:  # noqa: BLE001 - the waiting task raises it
            self.error = error

    def end(self) -> None:  # runs on the loop
        self.is_over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Thread:
    """A daemon thread that runs the jobs in its *inbox*, and ends after None."""

    def __init__(self, threads: Threads, name: str) -> None:
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = threads
        threading.Thread(target=self._main, name=name, daemon=True).start()

    def _main(self) -> None:
        enter_own_thread()
        while True:
            try:
                job = self.inbox.get(timeout=IDLE)
            except queue.Empty:
                self._threads.has_idled(self)
                continue
            if job is None:
                return
            job.run()
            self._threads.has_ended(self, job)
            del job  # an idle thread must not keep a part's buffer alive


class Threads:
    """Starts worker threads for *loop*, at most *most* of them.

    All methods but ``has_idled`` and ``has_ended`` are called on the loop.

    Attributes:
        busy: number of threads that run a job.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, most: float = math.inf
    ) -> None:
        self._loop, self._name, self._most = loop, name, most
        self._idle: list[_Thread] = []
        self._queued: deque[Job] = deque()
        self._number = self.busy = 0

    def start(self, job: Job) -> None:
        """Run *job* in an idle thread, in a new one, or in the next one that becomes idle.

        Raises:
            OSError: the system can start no thread (EAGAIN).
        """
        if self._idle:
            thread = self._idle.pop()
        elif self.busy < self._most:
            try:
                thread = _Thread(self, f"{self._name}-{self._number + 1}")
            except RuntimeError as error:
                text = f"no thread can be started: {error}"
                raise OSError(errno.EAGAIN, text) from None
            self._number += 1
        else:
            self._queued.append(job)
            return
        self.busy += 1
        thread.inbox.put(job)

    def forget(self, job: Job) -> bool:
        """Remove *job* from the queue; return False if it was not waiting for a thread."""
        try:
            self._queued.remove(job)
        except ValueError:
            return False
        return True

    def has_ended(self, thread: _Thread, job: Job) -> None:
        """Tell the loop that *thread* has run *job*; called in that thread."""
        self._loop.call_soon_threadsafe(self._take_back, thread, job)

    def has_idled(self, thread: _Thread) -> None:
        """Let *thread* end if it has no job; called in that thread."""
        self._loop.call_soon_threadsafe(self._end_idle, thread)

    def _take_back(self, thread: _Thread, job: Job) -> None:
        if self._queued:
            thread.inbox.put(self._queued.popleft())
        else:
            self.busy -= 1
            self._idle.append(thread)
        job.end()

    def _end_idle(self, thread: _Thread) -> None:
        if thread in self._idle:
            self._idle.remove(thread)
            thread.inbox.put(None)

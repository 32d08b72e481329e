"""Worker threads of an engine: for files, large bodies, services and code of the user.

Their number is not limited, because a thread may wait for code of the user that needs
another thread. The callers limit how much they do at a time.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

RETRY_INTERVAL, RETRIES = 0.05, 40  # seconds between tries to start a thread


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

    def run(self) -> None:  # in a worker thread
        function, self._function = self._function, None
        try:
            self.result = function()  # type: ignore[misc]  # it is called once
        except BaseException as error:  # noqa: BLE001 - raised by the task that waits
            self.error = error

    def end(self) -> None:  # on the loop
        self.is_over = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Thread:
    """A daemon thread; it does the jobs that are put into its *inbox*, until None."""

    def __init__(self, threads: Threads, number: int) -> None:
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.idle_since = 0.0
        self._threads = threads
        threading.Thread(
            target=self._main, name=f"osspresigned-worker-{number}", daemon=True
        ).start()

    def _main(self) -> None:
        while (job := self.inbox.get()) is not None:
            job.run()
            self._threads.has_ended(self, job)
            del job  # an idle thread must not keep a part's buffer alive


class Threads:
    """Starts worker threads for *loop*, and ends those that are idle.

    All methods but ``has_ended`` are called on the loop. ``busy`` is the number of threads
    that do a job. ``is_without`` is True while the loop itself does a job, for want of a
    thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._idle: list[_Thread] = []
        self._queued: deque[Job] = deque()
        self._count = self.busy = self._tries = 0
        self.is_without = False

    def start(self, job: Job) -> None:
        """Do *job* in an idle thread or a new one.

        If no thread can be started, the job waits up to two seconds for a busy thread. Then
        the loop does it, and does nothing else meanwhile.
        """
        if self._idle:
            thread = self._idle.pop()
        else:
            try:
                thread = _Thread(self, self._count + 1)
            except RuntimeError:
                self._queued.append(job)
                if not self._tries:
                    self._try_again()
                return
            self._count += 1
        self.busy += 1
        thread.inbox.put(job)

    def forget(self, job: Job) -> bool:
        """Remove *job* from the queue; return False if it was not waiting for a thread."""
        try:
            self._queued.remove(job)
        except ValueError:
            return False
        return True

    def _try_again(self) -> None:
        self._tries += 1
        is_last = self._tries > RETRIES or not self._count
        jobs, self._queued = self._queued, deque()
        for job in jobs:
            if is_last:
                self.is_without = True
                try:
                    job.run()
                finally:
                    self.is_without = False
                job.end()
            else:
                self.start(job)
        if self._queued:
            self._loop.call_later(RETRY_INTERVAL, self._try_again)
        else:
            self._tries = 0

    def has_ended(self, thread: _Thread, job: Job) -> None:
        """Tell the loop that *thread* has done *job*; called in that thread."""
        try:
            self._loop.call_soon_threadsafe(self._take_back, thread, job)
        except RuntimeError:  # the loop is closed, so nothing takes the thread back
            thread.inbox.put(None)

    def _take_back(self, thread: _Thread, job: Job) -> None:
        if self._queued:
            thread.inbox.put(self._queued.popleft())
        else:
            self.busy -= 1
            thread.idle_since = self._loop.time()
            self._idle.append(thread)
        job.end()

    def end_idle(self, seconds: float) -> None:
        limit = self._loop.time() - seconds
        ended = [thread for thread in self._idle if thread.idle_since <= limit]
        self._idle = [thread for thread in self._idle if thread.idle_since > limit]
        self._count -= len(ended)
        for thread in ended:
            thread.inbox.put(None)

    def end(self) -> None:
        self.end_idle(-1.0)  # all idle ones

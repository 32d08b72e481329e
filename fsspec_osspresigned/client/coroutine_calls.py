"""Coroutine calls: small objects of many coroutines, driven by one express lane."""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..concurrency.job_runner import LATER, OVER, Task
from ..concurrency.waiting import Future
from ..errors import UploadDiscardedError
from ..http.lane import Lane
from .client import Client
from .express_lane import ExpressLane
from .small_request import Steps

_PATIENCE = 0.5  # seconds without a call after which the thread ends


class _GatheredCall(Task):
    """One call, run in its caller's ``contextvars`` context; sets *future* at its end."""

    def __init__(self, steps: Steps[Any]) -> None:
        self.future: Future[Any] = Future()
        super().__init__(steps, self.future.set_result, self.future.set_exception)
        self._context = contextvars.copy_context()
        self._begun = False

    def advance(self, answer: Any = None) -> Any:
        """Run the call up to its next request, unless it was cancelled before."""
        if not self._begun and not self.future.start():
            super().abandon()
            return OVER
        self._begun = True
        return self._context.run(super().advance, answer)

    def abandon(self) -> None:
        """Cancel the call between two steps, and set UploadDiscardedError on *future*."""
        super().abandon()
        self.future.set_exception(UploadDiscardedError("the call was cancelled"))


class _LaneRun:
    """One thread that runs gathered calls; *lane* is None until it is created."""

    lane: Lane | None = None


class GatheredCalls:
    """Runs calls that are made on *client* at the same time, in one thread.

    The thread ends when no call has come for half a second. If reading the data takes
    longer than *slow* seconds for most of 64 calls, worker threads run the next ones.
    """

    def __init__(self, client: Client, *, slow: float) -> None:
        self._express = ExpressLane(client, slow)
        self._lock = threading.RLock()  # a signal handler may come back in here
        self._waiting: deque[_GatheredCall] = deque()
        self._run: _LaneRun | None = None
        self._last = 0.0

    def start(self, make: Callable[[], Steps[Any]]) -> Future[Any] | None:
        """Start the steps that *make* returns, and return the future of their result.

        Returns None if a worker thread must run the steps.
        """
        if not self._express.serves_caller:  # whether a lane runs already or not
            return None
        with self._lock:
            run = self._run
            if run is None:
                run = _LaneRun()
                try:
                    self._express.client.lanes.queue(self._drive, run)
                except RuntimeError:  # no thread can be started
                    return None
                self._run = run
            call = _GatheredCall(make())
            is_first = not self._waiting
            self._waiting.append(call)
        if is_first and run.lane is not None:  # else it looks for calls anyway
            run.lane.wake()
        return call.future

    def _drive(self, run: _LaneRun) -> None:
        client = self._express.client

        def opened(lane: Lane) -> None:
            run.lane = lane

        self._last = time.monotonic()
        try:
            self._express.run(
                self._take, client.options.connections, client.files, opened
            )
        finally:
            left: deque[_GatheredCall] = deque()
            with self._lock:
                if self._run is run:  # it ended before it was idle: workers do the rest
                    self._run, left, self._waiting = None, self._waiting, left
            for call in left:
                client.files.submit(call.finish)

    def _take(self) -> Any:
        """Return the next call; ``LATER`` if none waits, None if the thread should end."""
        with self._lock:
            if self._waiting:
                self._last = time.monotonic()
                return self._waiting.popleft()
            if time.monotonic() - self._last < _PATIENCE:
                return LATER
            self._run = None
            return None

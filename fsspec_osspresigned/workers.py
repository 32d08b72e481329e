"""Daemon threads that take work in order, and die with the process."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import ParamSpec, TypeVar

# Seconds that a thread waits for work before it ends.
PATIENCE = 30.0

P = ParamSpec("P")
T = TypeVar("T")


class Cancellation(threading.Event):
    """An event that also sets those made under it, not those above."""

    def __init__(self, above: Cancellation | None = None) -> None:
        """Begin not set, unless the one above is."""
        super().__init__()
        self._below: weakref.WeakSet[Cancellation] = weakref.WeakSet()
        self._lock = threading.RLock()  # a finalizer may come back in here
        if above is not None:
            above._add(self)  # noqa: SLF001 - same class
            if above.is_set():
                self.set()

    def set(self) -> None:
        """Set it and all below it."""
        super().set()
        with self._lock:
            below = list(self._below)
        for event in below:
            event.set()

    def _add(self, one: Cancellation) -> None:
        with self._lock:
            self._below.add(one)


class Workers:
    """At most *size* daemon threads, started as they are needed, ended when they idle.

    Unlike ``concurrent.futures.ThreadPoolExecutor`` it does not keep the interpreter
    alive to run what is queued: an upload that nobody waits for any more must not be
    finished behind the user's back.
    """

    def __init__(self, name: str, size: int) -> None:
        """Start no thread yet; threads are called ``name-1`` and so on."""
        self._name = name
        self._size = size
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.RLock()  # a finalizer may come back in here
        self._idle: SimpleQueue[None] = SimpleQueue()  # one token for each idle thread
        self._threads = 0

    def submit(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Queue ``function(*args, **kwargs)`` and return its future at once.

        Raises:
            RuntimeError: no thread can be started, as when the interpreter ends.
        """
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - the waiter gets all of them
                future.set_exception(error)
            else:
                future.set_result(result)

        self._queue.put(run)
        # A SimpleQueue, because a finalizer may submit in the middle of either call.
        try:
            self._idle.get_nowait()
        except Empty:
            try:
                self._start_one()
            except RuntimeError:
                future.cancel()
                raise
        return future

    def _start_one(self) -> None:
        with self._lock:
            if self._threads >= self._size:
                return
            name = f"{self._name}-{self._threads + 1}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._threads += 1

    def _work(self) -> None:
        while True:
            try:
                run = self._queue.get(timeout=PATIENCE)
            except Empty:
                if self._may_end():
                    return
                continue
            run()
            del run  # an idle thread must not keep a part's buffer alive
            self._idle.put(None)

    def _may_end(self) -> bool:
        """Return whether nobody counts on this thread, which ends then."""
        with self._lock:
            try:
                self._idle.get_nowait()
            except Empty:
                return False
            self._threads -= 1
            return True

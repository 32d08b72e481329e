"""Thread pool: daemon threads that take jobs in order and die with the process."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import BytesIO
from itertools import filterfalse
from typing import Any, ParamSpec, TypeAlias, TypeVar

from ..system import after_fork_in_child
from .waiting import Future

# Seconds that a thread waits for work before it ends.
PATIENCE = 30.0
# The same, while more threads of all pools together are idle. A process of many
# filesystems would keep hundreds.
MOST_IDLE = 64
_HURRY = 0.5

P = ParamSpec("P")
T = TypeVar("T")
Job: TypeAlias = "tuple[Future[Any], Callable[[], Any]]"

# All pools of this process, and the idle threads of all.
POOLS: weakref.WeakSet[Workers] = weakref.WeakSet()
_idle: set[threading.Thread] = set()
_here = threading.local()


def run_jobs_here() -> BytesIO:
    """Return a token; until it is closed or freed, this thread runs its jobs itself.

    A block ``with run_jobs_here():`` is for callbacks of the user. The threads of the
    pools may be waiting for the callback, so jobs of the callback cannot wait for them.
    """
    token = BytesIO()
    if not runs_jobs_here():
        _here.token = weakref.ref(token)
    return token


def runs_jobs_here() -> bool:
    """Return whether a token of ``run_jobs_here`` is open in this thread."""
    known = getattr(_here, "token", None)
    token = known and known()
    return token is not None and not token.closed


class Workers:
    """Pool of at most *size* daemon threads, started on demand, ended when idle.

    Unlike ``concurrent.futures.ThreadPoolExecutor``, the pool does not keep the
    interpreter alive for queued work: an abandoned upload must not be finished
    unnoticed.

    A waiting job always has a thread, and the thread count stays correct:

    * Each thread adds itself to ``_threads`` and removes itself. An exception from a
      signal handler occurs only in the main thread; it can only leave an entry in
      ``_starting``, which the next ``submit`` removes.
    * A job is queued before threads are counted, and a thread removes itself before it
      checks for jobs a last time. So the order of steps does not matter, even to a
      finalizer that submits a job in the middle of a step.

    A thread ends after *patience* seconds without a job; None stands for ``PATIENCE``.
    It ends after half a second if more than ``MOST_IDLE`` threads of all pools are
    idle. *bell* creates the lock on which idle threads wait; its ``release`` wakes one.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        patience: float | None = None,
        bell: Callable[[], threading.Lock] = threading.Lock,
    ) -> None:
        self.name = name
        self._size = size
        self._patience = patience
        self._make_bell = bell
        self.reset()
        POOLS.add(self)

    def reset(self) -> None:
        """Drop jobs and threads in a forked child, which inherits no threads."""
        self._jobs: deque[Job] = deque()
        # Not a SimpleQueue: before Python 3.13 its time-out may never end.
        self._bell = self._make_bell()
        self._lock = threading.RLock()
        self._starting: set[threading.Thread] = set()
        self._threads: set[threading.Thread] = set()
        self._busy: set[threading.Thread] = set()

    @property
    def waiting(self) -> int:
        """Number of queued jobs that no thread has taken yet."""
        return len(self._jobs)

    @property
    def abandoned(self) -> int:
        """Number of queued jobs that have no thread and were not cancelled."""
        jobs = () if self._threads else tuple(self._jobs)
        return sum(not future.cancelled() for future, _ in jobs)

    @property
    def is_caller(self) -> bool:
        """True if the calling thread belongs to this pool."""
        return threading.current_thread() in self._threads

    @property
    def threads(self) -> int:
        """Number of threads of the pool."""
        return len(self._threads)

    def submit(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Queue ``function(*args, **kwargs)`` and return its future at once.

        If the pool has no thread and none can be started, or within ``run_jobs_here``,
        the job runs in the calling thread before ``submit`` returns.
        """
        with suppress(RuntimeError):
            if not runs_jobs_here():
                return self.queue(function, *args, **kwargs)
        future: Future[T] = Future()
        _run(future, partial(function, *args, **kwargs))
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error  # an interrupt of this thread
        return future

    def queue(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Queue a job like ``submit``, but never run it in the calling thread.

        Finalizers call this.

        Raises RuntimeError if the pool has no thread and none can be started.
        """
        future: Future[T] = Future()
        job = future, partial(function, *args, **kwargs)
        self._jobs.append(job)
        try:
            self._find_threads()
        except BaseException as error:
            if not isinstance(error, RuntimeError) or not self._threads:
                future.cancel()
                with suppress(ValueError, IndexError):  # a thread has it, or takes one
                    self._jobs.remove(job)
                raise
        return future

    def _find_threads(self) -> None:
        """Wake an idle thread for queued jobs, and start one if too few are idle."""
        if self._jobs:
            with suppress(RuntimeError):  # it rings already
                self._bell.release()
        if self.waiting <= len(self._threads) - len(self._busy):
            return
        with self._lock:
            # Their start failed or was interrupted.
            dead = filterfalse(threading.Thread.is_alive, list(self._starting))
            self._starting.difference_update(dead)
            count = len(self._threads) + len(self._starting)
            if count < self._size and self.waiting > count - len(self._busy):
                thread = threading.Thread(
                    target=self._work, name=f"{self.name}-{count + 1}", daemon=True
                )
                self._starting.add(thread)
                thread.start()

    def _work(self) -> None:
        me = threading.current_thread()
        with self._lock:
            self._starting.discard(me)
            if len(self._threads) >= self._size:  # started twice, after an interrupt
                return
            self._threads.add(me)
        while True:
            patience = PATIENCE if self._patience is None else self._patience
            _idle.add(me)
            if len(_idle) > MOST_IDLE:
                patience = min(patience, _HURRY)
            rung = self._bell.acquire(timeout=patience)
            _idle.discard(me)
            try:
                future, task = self._jobs.popleft()
            except IndexError:
                if not rung and self._may_end(me):
                    return
                continue
            self._busy.add(me)
            # A submit that counted this thread as idle has started none.
            with suppress(Exception):
                self._find_threads()
            _run(future, task, partial(self._busy.discard, me))
            del future, task  # an idle thread must not keep a part's buffer alive

    def _may_end(self, me: threading.Thread) -> bool:
        with self._lock:
            self._threads.discard(me)
            if not self._jobs:
                return True
            self._threads.add(me)
            return False


def _run(
    future: Future[Any],
    task: Callable[[], Any],
    ended: Callable[[], object] = lambda: None,
) -> None:
    try:
        try:
            if not future.start():
                return
            result = task()
        finally:
            ended()  # first, so that the thread can take the waiter's next job
    except BaseException as error:  # noqa: BLE001 - the waiter gets all of them
        future.set_exception(error)
    else:
        future.set_result(result)


def _reset_all() -> None:
    _idle.clear()
    for pool in list(POOLS):
        pool.reset()


after_fork_in_child(_reset_all)

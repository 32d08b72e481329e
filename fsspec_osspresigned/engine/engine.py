"""Engine: the asyncio loop of a process, in a daemon thread of its own.

A plain method posts a coroutine to the loop, and waits without holding any lock of the
engine. An exception of a signal handler, such as Ctrl-C, interrupts only this wait:
the caller cancels the coroutine, waits until it has cleaned up, and raises the
exception. A second one leaves the cleaning to the loop. No signal handler runs in the
loop's thread, so the code of coroutines is never interrupted between two steps.

The thread is started on demand, and ends when nothing has used it for half a minute.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from ..system import after_fork_in_child
from ..tracebacks import caller_task, caller_thread
from .threads import Job, Threads

P = ParamSpec("P")
T = TypeVar("T")

IDLE = 25.0  # seconds without use after which the engine ends
_LOOK = 5.0  # seconds between two looks at what is idle

# The call of a verb to which a coroutine belongs; requests in flight are shared by calls.
call_of_task: ContextVar[object] = ContextVar("osspresigned_call", default=None)
# Whether ``awaited`` waits in the calling thread, because a plain method called it.
waits_in_thread: ContextVar[bool] = ContextVar("osspresigned_waits", default=False)
_is_user_code: ContextVar[bool] = ContextVar("osspresigned_user_code", default=False)


class CarriedError(BaseException):
    """KeyboardInterrupt or SystemExit that code of the user raised in a thread.

    asyncio would end its loop. ``run`` raises the *error* itself.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error

    def add_note(self, note: str) -> None:
        """Add *note* to the error of the user."""
        self.error.add_note(note)


class NoThreadError(OSError):
    """The system can start no thread now."""


class Closable(Protocol):
    """Protocol of an object that an engine owns, and closes at its end."""

    def close(self) -> None:
        """Close the object; called in the thread of the loop."""
        ...


C = TypeVar("C", bound=Closable)


class EngineLoop(asyncio.SelectorEventLoop):
    """The event loop of an *engine*."""

    engine: Engine


class Engine:
    """One loop with its worker threads, and the objects that belong to the loop."""

    def __init__(self) -> None:
        self.loop: EngineLoop | None = None
        self.is_over = False
        self._posted: deque[Callable[[], object]] = deque()
        self._unclaimed = [True]  # the thread that takes it runs the loop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._owned: dict[Any, Any] = {}
        self._used = 0.0

    # -- in any thread -------------------------------------------------------------------

    def post(self, function: Callable[[], object]) -> bool:
        """Call *function* on the loop soon; return False if the engine has ended.

        A finalizer and a signal handler may call this. Raises NoThreadError.
        """
        self._posted.append(function)
        try:
            self._wake()
        except BaseException:
            with suppress(ValueError):
                self._posted.remove(function)
            raise
        if self.is_over:
            try:
                self._posted.remove(function)
            except ValueError:
                return True  # the engine took it before its end
            return False
        return True

    def _wake(self) -> None:
        if self.loop is None:
            # A thread that another one has overtaken ends at once.
            thread = threading.Thread(
                target=self._main, name="osspresigned-engine", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                msg = f"no thread can be started: {error}"
                raise NoThreadError(errno.EAGAIN, msg) from None
            return
        with suppress(RuntimeError):  # the loop is closed, so the engine is over
            self.loop.call_soon_threadsafe(self._take_posted)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks that have not ended; for tests."""
        return set(self._tasks)

    # -- on the loop ---------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._unclaimed.pop()
        except IndexError:
            return
        loop = EngineLoop()
        loop.engine = self
        self.threads = Threads(loop)
        self._used = loop.time()
        loop.call_soon(self._take_posted)
        loop.call_later(_LOOK, self._look)
        self.loop = loop
        try:
            loop.run_forever()
        finally:
            self.is_over = True
            self.threads.end()
            for owned in self._owned.values():
                owned.close()
            loop.close()

    def _take_posted(self) -> None:
        while self._posted:
            with suppress(IndexError):  # its caller took it back
                function = self._posted.popleft()
                function()

    def _look(self) -> None:
        """End threads that are idle, and then the engine."""
        loop = cast(EngineLoop, self.loop)
        self.threads.end_idle(IDLE)
        if self._tasks or self.threads.busy:
            self._used = loop.time()
        elif loop.time() - self._used >= IDLE:
            self.is_over = True
            if not self._posted:
                loop.stop()
                return
            self.is_over = False
        loop.call_later(_LOOK, self._look)

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """Run *coroutine* as a task, which the engine keeps until it ends."""
        loop = cast(EngineLoop, self.loop)
        self._used = loop.time()
        task = loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def own(self, kind: Callable[[], C]) -> C:
        """Return the engine's object of a *kind*, made by its first use."""
        if kind not in self._owned:
            self._owned[kind] = kind()
        return self._owned[kind]  # type: ignore[no-any-return]  # it made it


# Keyed by process, because a forked child has no threads. The child keeps the engine of
# its parent for ever: it must not touch its sockets, nor end its coroutines.
_engines: dict[int, Engine] = {}


def current() -> Engine:
    """Return the engine of this process, which may not have begun yet."""
    pid = os.getpid()
    engine = _engines.get(pid)
    if engine is None or engine.is_over:
        engine = _engines[pid] = Engine()
    return engine


def running() -> Engine:
    """Return the engine of the running loop; call it in a coroutine of the engine."""
    return asyncio.get_running_loop().engine  # type: ignore[attr-defined, no-any-return]


def is_engine_thread() -> bool:
    """Return whether the calling thread runs the loop of an engine."""
    try:
        return isinstance(asyncio.get_running_loop(), EngineLoop)
    except RuntimeError:
        return False


def post(function: Callable[[], object]) -> None:
    """Call *function* on the loop soon; never waits."""
    while not current().post(function):
        pass


class _Call:
    """A coroutine function that is called on the loop, for a waiter elsewhere.

    *ended* is called on the loop with the result and the error; one of them is None.
    *waiter* is the task that awaits it in another loop; None for a thread.
    """

    def __init__(
        self,
        function: Callable[[], Coroutine[Any, Any, Any]],
        ended: Callable[[Any, BaseException | None], object],
        waiter: asyncio.Task[Any] | None = None,
    ) -> None:
        self._function, self._ended = function, ended
        self._context = contextvars.copy_context()
        self._context.run(call_of_task.set, self)
        self._context.run(caller_thread.set, threading.get_ident())
        self._context.run(caller_task.set, waiter)
        self._context.run(waits_in_thread.set, False)
        self._task: asyncio.Task[Any] | None = None
        self._is_begun = self._is_over = False

    def begin(self) -> None:
        """Begin the call; on the loop."""
        if self._is_begun:
            return
        self._is_begun = True
        self._task = running().spawn(self._function(), self._context)
        self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """Cancel the call; on the loop. *ended* is called again if it was before."""
        self._is_begun = True
        if self._task is None or self._is_over:
            self._ended(None, asyncio.CancelledError())
        else:
            self._task.cancel()

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._is_over = True
        try:
            result = task.result()
        except BaseException as error:  # noqa: BLE001 - the waiter raises it
            self._ended(None, error)
        else:
            self._ended(result, None)


def run(
    function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call the coroutine *function* on the engine's loop, and wait for its result.

    An exception of a signal handler cancels the coroutine, and is raised when that has
    ended; a second one does not wait for the end.

    Raises:
        RuntimeError: this is the thread of the loop.
        NoThreadError: the system can start no thread.
    """
    if is_engine_thread():
        raise RuntimeError(
            "a finalizer or a callback waits for the engine in the engine's own thread"
        )
    outcomes: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
    call = _Call(
        partial(function, *args, **kwargs), lambda *outcome: outcomes.put(outcome)
    )
    interrupts: list[BaseException] = []
    todo: Callable[[], object] | None = call.begin
    outcome: tuple[Any, BaseException | None] | None = None
    while outcome is None:
        try:
            if todo is not None:
                post(todo)
            todo = None
            outcome = outcomes.get()
        except NoThreadError:
            raise
        except BaseException as caught:  # noqa: BLE001 - raised when the call has ended
            # An interrupt may have lost what ``get`` returned: ``cancel`` repeats it.
            interrupts.append(caught)
            todo = call.cancel
    result, error = outcome
    if interrupts:
        for note in getattr(error, "__notes__", ()):
            interrupts[0].add_note(note)
        raise interrupts[0]
    if error is None:
        return cast(T, result)
    if isinstance(error, CarriedError):
        error = error.error
    try:
        raise error
    finally:
        del error, outcome, call  # its frames lead here, and would keep each other


async def awaited(
    function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call the coroutine *function* on the engine's loop; await it in any event loop.

    If the caller is cancelled, CancelledError is raised when the call has ended, so its
    buffers may be used again.
    """
    if waits_in_thread.get():
        return run(function, *args, **kwargs)
    if is_engine_thread():
        return await function(*args, **kwargs)
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def ended(result: Any, error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the caller's loop is closed
            loop.call_soon_threadsafe(deliver, result, error)

    def deliver(result: Any, error: BaseException | None) -> None:
        if not waiter.done():
            waiter.set_result((result, error))

    call = _Call(partial(function, *args, **kwargs), ended, asyncio.current_task())
    post(call.begin)
    cancelled: asyncio.CancelledError | None = None
    while not waiter.done():
        try:
            await asyncio.wait((waiter,))
        except asyncio.CancelledError as caught:
            cancelled = caught
            post(call.cancel)
    if cancelled is not None:
        raise cancelled
    result, error = waiter.result()
    if error is None:
        return cast(T, result)
    raise error.error if isinstance(error, CarriedError) else error


def iterated(source: AsyncIterator[T], size: int = 1000) -> Iterator[T]:
    """Yield the items of *source*, which the engine's loop reads *size* at a time."""

    async def chunk() -> list[T]:
        found: list[T] = []
        async for item in source:
            found.append(item)
            if len(found) == size:
                break
        return found

    while found := run(chunk):
        yield from found


async def blocking(
    function: Callable[..., T], *args: Any, stop: Callable[[], object] | None = None
) -> T:
    """Call *function* in a worker thread, in the context of this task.

    A cancelled task calls *stop*, and waits until *function* has ended; if it is
    cancelled again, the thread is left alone.
    """
    context = contextvars.copy_context()
    job = Job(partial(context.run, function, *args))
    running().threads.start(job)
    try:
        await job.wait()
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        if not job.is_over:
            await job.wait()
        raise
    error = job.error
    if error is None:
        return cast(T, job.result)
    job.error = None
    try:
        raise (
            error
            if isinstance(error, Exception | asyncio.CancelledError)
            else CarriedError(error)
        )
    finally:
        del error


async def call_user(function: Callable[..., T], *args: Any) -> T:
    """Call *function*, code of the user, in a worker thread; it may use filesystems."""
    return await blocking(_as_user_code, function, *args)


def _as_user_code(function: Callable[..., T], *args: Any) -> T:
    with user_code():
        return function(*args)


@contextmanager
def user_code() -> Iterator[None]:
    """Mark the block as code of the user, for which a request may be waiting.

    The requests that it makes do not wait for others (``within_user_code``).
    """
    token = _is_user_code.set(True)
    try:
        yield
    finally:
        _is_user_code.reset(token)


def within_user_code() -> bool:
    """Return whether code of the user called, for which a request may be waiting."""
    return _is_user_code.get()


async def to_its_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await *coroutine*, which goes on if the caller is cancelled.

    The caller is cancelled when *coroutine* has ended, or if it is cancelled again.
    """
    task = running().spawn(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # it was asked for, so asyncio does not log it
        raise


def in_background(function: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Call the coroutine *function* on the loop, and do not wait; for finalizers."""
    post(lambda: running().spawn(function(), contextvars.Context()))


def _keep_parent_engine() -> None:
    _inherited.extend(_engines.values())
    _engines.clear()


_inherited: list[Engine] = []
after_fork_in_child(_keep_parent_engine)

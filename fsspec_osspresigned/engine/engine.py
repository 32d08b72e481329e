"""Engine: one event loop in a daemon thread, and the ways to call coroutines on it.

A synchronous method calls a coroutine by ``run``. A coroutine of any other loop calls
it by ``awaited``. Both wait until the call has ended, so the caller may reuse its
buffers. A coroutine of this loop calls blocking functions in a worker thread: by
``blocking``, or by ``waiting`` if the function may wait for code of the user or for the
engine.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import math
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, ParamSpec, TypeVar

from ..compat import at_fork
from ..model import Receipt, stored_note
from . import background
from .threads import Job, Threads, enter_own_thread, is_own_thread

P = ParamSpec("P")
T = TypeVar("T")

# With the threads of the loop and of the log records, that makes at most 64 threads.
WORKERS = 62
GRACE = 5.0  # seconds that a cancelled call gets to clean up
_CANCEL_INTERVAL = 1.0  # seconds after a cancellation in which a second one is ignored
_NOTES = 3  # maximum number of objects that an interrupted call names
_POLL_INTERVAL = 0.5  # seconds after which a waiting thread lets signal handlers run

# True if ``awaited`` waits in the calling thread, because a synchronous method called
# it.
waits_in_thread: ContextVar[bool] = ContextVar("osspresigned_waits", default=False)
# The call of a verb to which a coroutine belongs. The thread of this call waits, and
# all calls share the requests in flight.
call_of_task: ContextVar[_Call | None] = ContextVar("osspresigned_call", default=None)
# True while code of the user runs; see ``user_code``.
is_user_code: ContextVar[bool] = ContextVar("osspresigned_user_code", default=False)


class CarriedError(BaseException):
    """Carries an *error* of the user's code that is not an Exception, such as SystemExit.

    If a coroutine raised *error* itself, asyncio would end its loop, or take the task for
    cancelled. ``run`` raises *error* in the thread of its caller.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error

    def add_note(self, note: str) -> None:
        self.error.add_note(note)


class EngineLoop(asyncio.SelectorEventLoop):
    """Event loop of an engine, which is in its attribute *engine*."""

    engine: Any

    # the same clock as asyncio's, without its extra call
    time = staticmethod(time.monotonic)
    # False, because debugging would log in the loop's thread
    get_debug = staticmethod(bool)

    def __del__(self) -> None:
        """Issue no warning, because the loop lives as long as its process."""


class Engine:
    """The event loop of a process, its worker threads, and the objects that it owns.

    The thread of the loop begins with the first call, and ends with the process.
    """

    loop: EngineLoop  # exists once ``start`` has returned

    def __init__(self) -> None:
        self._has_loop = False
        # reentrant, because a finalizer may start the engine meanwhile
        self._lock = threading.RLock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.owned = _Owned()

    # -- in any thread -------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread of the loop, if it does not run yet.

        Raises:
            OSError: the system has no thread or no descriptor for it.
            RuntimeError: gevent or eventlet has replaced the threads of this process.
        """
        if not self._has_loop:
            _refuse_green_threads()
            # This is outside of the lock, because asyncio logs here, and a log handler
            # may use the engine.
            self._begin_thread(EngineLoop())

    def _begin_thread(self, loop: EngineLoop) -> None:
        loop.engine = self
        # In debug mode, asyncio logs in the loop's thread, where a log handler could
        # block.
        loop.set_debug(False)
        loop.set_exception_handler(_report)
        thread = threading.Thread(
            target=self._main, args=(loop,), name="osspresigned-engine", daemon=True
        )
        with self._lock:
            if self._has_loop:
                loop.close()
                return
            try:
                thread.start()
            except RuntimeError as error:
                loop.close()
                text = f"no thread can be started: {error}"
                raise OSError(errno.EAGAIN, text) from None
            self._thread = thread
            self.workers = Threads(loop, "osspresigned-worker", WORKERS)
            self.other_threads = Threads(loop, "osspresigned-user")
            self.loop, self._has_loop = loop, True

    def post(self, function: Callable[[], object]) -> None:
        """Call *function* on the loop soon; the engine has started.

        A finalizer and a signal handler may call this method.
        """
        self.loop.call_soon_threadsafe(function)

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:  # used only by tests
        return set(self._tasks)

    @property
    def is_busy(self) -> bool:  # used only by tests
        return bool(self._tasks or self.workers.busy or self.other_threads.busy)

    @property
    def position(self) -> str:
        """The file, line and function that the thread of the loop executes now."""
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - the method is documented
        if frame is None:
            return "nowhere"
        code = frame.f_code
        return f"{code.co_filename}:{frame.f_lineno}, in {code.co_qualname}"

    # -- on the loop ---------------------------------------------------------------------

    def _main(self, loop: EngineLoop) -> None:
        enter_own_thread()
        while True:
            # These exceptions stop the loop instead of reaching the caller.
            with suppress(KeyboardInterrupt, SystemExit):
                loop.run_forever()

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task = self.begin(coroutine, context)
        task.add_done_callback(self.forget)
        return task

    def begin(
        self,
        coroutine: Coroutine[Any, Any, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        """Begin a task, which the engine keeps until ``forget``; asyncio does not."""
        task = self.loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        return task

    def forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)


class _Owned(dict[Callable[[], Any], Any]):
    """The engine's only object of each class, which is created on first use."""

    def __missing__(self, kind: Callable[[], Any]) -> Any:
        self[kind] = made = kind()
        return made


def _refuse_green_threads() -> None:
    # With patched threads, the loop would run in the thread of its callers.
    for name, has_patched in (
        ("gevent.monkey", "is_module_patched"),
        ("eventlet.patcher", "is_monkey_patched"),
    ):
        module = sys.modules.get(name)
        if module is not None and getattr(module, has_patched)("thread"):
            raise RuntimeError(
                f"{name.partition('.')[0]} has replaced Python's threads, which this "
                "package needs: call it in another process, or do not patch `thread`"
            )


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    background.put(partial(loop.default_exception_handler, context))


_engine = Engine()


def current() -> Engine:
    """Return the engine of this process; its loop may not run yet."""
    return _engine


def running() -> Engine:
    """Return the engine of the running loop, for a coroutine of the engine."""
    return asyncio.get_running_loop().engine  # type: ignore[attr-defined,no-any-return]


def is_engine_thread() -> bool:
    try:
        return isinstance(asyncio.get_running_loop(), EngineLoop)
    except RuntimeError:
        return False


def _begin_anew() -> None:
    # A forked child has no threads. It keeps its parent's engine forever, because it
    # must neither touch the parent's sockets nor end its coroutines.
    global _engine  # noqa: PLW0603 - one for each process
    _inherited.append(_engine)
    _engine = Engine()


_inherited: list[Engine] = []
at_fork(after_in_child=_begin_anew)


def post_later(function: Callable[[], object]) -> None:
    """Call *function* on the loop soon, if the engine can start; safe in finalizers."""
    if not sys.is_finalizing():  # Python 3.11 would wait for the thread forever
        with suppress(OSError, RuntimeError):
            current().start()
            current().post(function)


# -- calls -------------------------------------------------------------------------------


class _Outcome(NamedTuple):
    """The *result* of a call, or the *error* that it raised."""

    result: Any
    error: BaseException | None


class _Call:
    """A call of a coroutine function on the loop, for a waiter in another thread or loop.

    *put* passes items to the waiter: functions to call, and finally the outcome.

    Attributes:
        is_heard: the loop has begun to cancel the call.
        is_over: the waiter takes no more items.
    """

    is_heard = is_over = False

    def __init__(
        self,
        function: Callable[[], Coroutine[Any, Any, Any]],
        put: Callable[[Any], object],
    ) -> None:
        self.put = put
        self._function: Any = function  # None once the call has begun
        self._context = context = contextvars.copy_context()
        context.run(call_of_task.set, self)
        context.run(waits_in_thread.set, False)
        self._task: asyncio.Task[Any] | None = None

    def begin(self) -> None:  # runs on the loop
        if self._function is not None:
            self._task = running().begin(self._do(), self._context)

    def cancel(self) -> None:  # runs on the loop
        self.is_heard = True
        if self._function is None and self._task is not None:
            self._task.cancel()
            return
        # The call has not begun, or it has ended and the waiter may have lost the first
        # outcome.
        self._function = None
        self._end(None, asyncio.CancelledError())

    async def _do(self) -> None:
        function, self._function = self._function, None
        if function is None:  # the call was cancelled before it began
            return
        try:
            coroutine = function()
            del function  # an error's frames would keep the function, and so the body
            result = await coroutine
        except BaseException as error:  # noqa: BLE001 - the waiter raises it
            self._end(None, error)
        else:
            self._end(result, None)

    def _end(self, result: Any, error: BaseException | None) -> None:
        self.is_over = True
        if self._task is not None:
            running().forget(self._task)
            self._task = None  # the task keeps this call through its context
        self.put(_Outcome(result, error))


def in_waiting_thread(function: Callable[[], object]) -> None:
    """Call *function* in the thread that waits for the current call.

    The function is called before the call returns. If no thread waits, because the work
    runs in the background, a background thread calls *function*. A thread that is not
    the engine's calls *function* itself. Functions are called in order.
    """
    if not is_own_thread():
        function()
    elif is_engine_thread():
        _hand_over(call_of_task.get(), function)
    else:  # wait until the job of this thread has ended
        current().post(partial(_hand_over, call_of_task.get(), function))


def _hand_over(call: _Call | None, function: Callable[[], object]) -> None:
    if call is None or call.is_over:
        background.put(function)
    else:
        call.put(function)


def run(
    function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call the coroutine *function* on the engine's loop, and wait for its result.

    An exception that a signal handler raises here (Ctrl-C) cancels the coroutine. The
    exception is raised when the coroutine has ended, or after five seconds if the loop
    does not answer. A second exception also cancels the coroutine's cleanup.

    Raises:
        RuntimeError: this is the thread of the loop, the interpreter ends, or gevent or
            eventlet has replaced the threads.
        OSError: the system has no thread or no descriptor for the loop.
    """
    if is_own_thread() and is_engine_thread():
        raise RuntimeError(
            "a finalizer or a callback waits for the engine in the engine's own thread"
        )
    if sys.is_finalizing():
        # after the interpreter's end, the engine's threads never run again
        raise RuntimeError("the interpreter ends, so nothing can be sent")
    _engine.start()
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()
    call = _Call(partial(function, *args, **kwargs), items.put)
    result: T = _result(*_wait_for(call, call.begin, items))
    return result


def _result(outcome: _Outcome, interrupt: BaseException | None) -> Any:
    """Return the result of a call, or raise its error, or *interrupt* with its notes."""
    error = outcome.error
    if isinstance(error, CarriedError):
        error = error.error
    if interrupt is not None:
        if error is None:
            add_notes(interrupt, _stored_by(outcome.result))
        for note in getattr(error, "__notes__", ()):
            # notes name what a cancelled call has left in the store
            interrupt.add_note(note)
        error = interrupt
    if error is None:
        return outcome.result
    try:
        raise error
    finally:
        # The error's frames refer to this frame. A body in them would stay in memory.
        del error, interrupt, outcome


def _stored_by(result: Any) -> list[str]:
    """Return a note for each object that a call with this *result* has stored."""
    results = result if isinstance(result, list) else [result]
    return [stored_note(each) for each in results if isinstance(each, Receipt)]


def add_notes(error: BaseException, notes: Sequence[str]) -> None:
    """Add the first *notes* to *error*, and the number of the others."""
    for note in notes[:_NOTES]:
        error.add_note(note)
    if (others := len(notes) - _NOTES) > 0:
        error.add_note(f"and so for {others} others")


def _wait_for(
    call: _Call, todo: Callable[[], object] | None, items: queue.SimpleQueue[Any]
) -> tuple[_Outcome, BaseException | None]:
    """Call *todo* on the loop, and wait for the outcome of *call*.

    Returns the outcome and the first interrupt, which is an exception of a signal
    handler or None. Each interrupt cancels *call*.
    """
    engine, interrupt, end = _engine, None, math.inf
    # A signal handler may raise an exception between any two steps. The inner ``try``
    # catches exceptions raised while this thread posts or waits. The outer ``try``
    # catches those raised in the inner handlers. The handlers call nothing, because a
    # signal handler may run after each call.
    while True:
        try:
            while True:
                try:
                    if todo is not None:
                        engine.post(todo)
                        if interrupt is not None:
                            end = min(end, time.monotonic() + GRACE)
                    todo = None
                    # The wait has a time limit: a signal that another thread received
                    # does not end a wait, and on Windows no signal does.
                    item = items.get(timeout=_POLL_INTERVAL)
                    if type(item) is _Outcome:
                        return item, interrupt
                    # called here, or in a thread that waits for this one
                    in_waiting_thread(item)
                except queue.Empty:
                    if not call.is_heard and time.monotonic() >= end:
                        return _unanswered(engine), interrupt
                except BaseException as caught:  # noqa: BLE001 - the caller raises it
                    # The waiter may have lost what ``get`` returned; ``cancel`` sends
                    # it again.
                    interrupt = caught if interrupt is None else interrupt
                    todo = call.cancel
        except BaseException as caught:  # noqa: BLE001 - the caller raises it
            interrupt = caught if interrupt is None else interrupt
            todo = call.cancel


def _unanswered(engine: Engine) -> _Outcome:
    """Return the outcome of a call if the loop did not handle its cancellation in time."""
    error = asyncio.CancelledError()
    error.add_note(
        f"the engine does not answer, so it is unknown what was done: its thread is at "
        f"{engine.position}"
    )
    return _Outcome(None, error)


async def awaited(
    function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call the coroutine *function* on the engine's loop; await it in any event loop.

    In a synchronous method (``verb``), the thread waits instead. If the caller is
    cancelled, CancelledError is raised when the call has ended, or after five seconds
    if the engine does not answer.

    Raises:
        OSError: the system has no thread or no descriptor for the engine's loop.
        RuntimeError: gevent or eventlet has replaced the threads.
    """
    if waits_in_thread.get():
        return run(function, *args, **kwargs)
    if is_engine_thread():
        return await function(*args, **kwargs)
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    items: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(item: Any) -> None:
        items.put(item)
        with suppress(RuntimeError):  # the caller's loop is closed
            loop.call_soon_threadsafe(arrived.set)

    current().start()
    call = _Call(partial(function, *args, **kwargs), put)
    try:
        outcome, interrupt = await _until_ended(call, items, arrived)
    except GeneratorExit:  # the caller's loop was closed
        post_later(call.cancel)
        raise
    except BaseException:  # an exception of a signal handler stops the loop
        _wait_for(call, call.cancel, items)
        raise
    result: T = _result(outcome, interrupt)
    return result


async def _until_ended(
    call: _Call, items: queue.SimpleQueue[Any], arrived: asyncio.Event
) -> tuple[_Outcome, BaseException | None]:
    """Begin *call* and wait; return its outcome, and what cancelled it."""
    engine, interrupt = current(), None
    # When to give up, and when the next cancellation counts.
    end = next_cancel = math.inf
    engine.post(call.begin)
    while True:
        arrived.clear()
        try:
            while not items.empty():
                item = items.get()
                if type(item) is _Outcome:
                    return item, interrupt
                # called here, or in a thread that waits for this one
                in_waiting_thread(item)
            # A cancelled caller waits in short steps, because the engine may not
            # answer.
            await asyncio.wait_for(
                arrived.wait(), None if interrupt is None else _POLL_INTERVAL
            )
        except (asyncio.CancelledError, Exception) as caught:  # noqa: BLE001 - the caller raises it later
            now = time.monotonic()
            if interrupt is None:
                interrupt, end, next_cancel = caught, now + GRACE, now
            elif isinstance(caught, TimeoutError):
                if not call.is_heard and now >= end:
                    return _unanswered(engine), interrupt
                continue
            # anyio repeats a cancellation in each turn of its loop; that is not a
            # request to hurry.
            if now >= next_cancel:
                next_cancel = now + _CANCEL_INTERVAL
                engine.post(call.cancel)


def iterated(source: AsyncIterator[T], size: int = 1000) -> Iterator[T]:
    """Yield the items of *source*, which the engine's loop reads *size* at a time.

    An error of *source* is raised after the items before it.
    """

    async def chunk() -> tuple[list[T], Exception | None]:
        items: list[T] = []
        try:
            async for item in source:
                items.append(item)
                if len(items) == size:
                    break
        except Exception as error:  # noqa: BLE001 - the caller raises it
            return items, error
        return items, None

    while True:
        items, error = run(chunk)
        yield from items
        if error is not None:
            raise error
        if len(items) < size:
            return


# -- worker threads ----------------------------------------------------------------------


async def blocking(
    function: Callable[..., T], *args: Any, stop: Callable[[], object] | None = None
) -> T:
    """Call *function* in one of at most 62 worker threads, in the context of this task.

    *function* must not wait for the engine or for code of the user; use ``waiting`` for
    that. If code of the user has caused this call, *function* gets an extra thread,
    because all 62 threads may wait for that code.

    If the task is cancelled, it calls *stop*, and waits at most ``GRACE`` seconds until
    *function* has ended. After that time, or after a second cancellation, the task
    ends, and *function* continues in its thread.

    Raises:
        OSError: the system can start no thread.
    """
    engine = running()
    threads = engine.other_threads if is_user_code.get() else engine.workers
    return await _by_thread(threads, function, args, stop)


async def waiting(
    function: Callable[..., T], *args: Any, stop: Callable[[], object] | None = None
) -> T:
    """Call *function*, which may wait for the engine or for code of the user, in a thread.

    The number of these threads is not limited, because *function* may wait for another
    one. Otherwise like ``blocking``.
    """
    return await _by_thread(running().other_threads, function, args, stop)


async def _by_thread(
    threads: Threads,
    function: Callable[..., T],
    args: tuple[Any, ...],
    stop: Callable[[], object] | None,
) -> T:
    job = Job(partial(contextvars.copy_context().run, function, *args))
    threads.start(job)
    try:
        await job.wait()
    except asyncio.CancelledError as cancelled:
        if stop is not None:
            stop()
        if not job.is_over and not threads.forget(job):
            with suppress(TimeoutError):
                await asyncio.wait_for(job.wait(), GRACE)
        for note in getattr(job.error, "__notes__", ()):
            cancelled.add_note(note)  # names what *function* has left in the store
        raise
    error = job.error
    if error is None:
        result: T = job.result
        return result
    raise error if isinstance(error, Exception) else CarriedError(error)


async def call_user(function: Callable[..., T], *args: Any) -> T:
    """Call *function*, which is code of the user, in a thread.

    *function* may use filesystems. Their requests do not wait for others; see
    ``user_code``.
    """
    return await waiting(user_code()(function), *args)


@contextmanager
def user_code() -> Iterator[None]:
    """Mark the block as code of the user; its requests ignore all limits.

    A request in flight may wait for this code, so this code must not wait for that
    request.
    """
    token = is_user_code.set(True)
    try:
        yield
    finally:
        is_user_code.reset(token)


# -- tasks -------------------------------------------------------------------------------


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await *work*, and let it continue if the caller is cancelled.

    A cancelled caller waits until *work* has ended, but at most ``GRACE`` seconds.
    After that time, or after a second cancellation, the caller ends, and *work*
    continues.
    """
    task = running().spawn(work)
    try:
        return await unharmed(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait((task,), timeout=GRACE)
        raise


async def shielded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await *coroutine*, which continues if the caller is cancelled."""
    return await unharmed(running().spawn(coroutine))


async def unharmed(task: asyncio.Task[T]) -> T:
    """Await *task*, which continues if the caller is cancelled."""
    # asyncio.shield would log the error of a task whose caller was cancelled.
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait((task,))
    return task.result()


def in_background(function: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Call the coroutine *function* on the loop without waiting; safe in finalizers."""
    post_later(lambda: running().spawn(function(), contextvars.Context()))


# -- verbs -------------------------------------------------------------------------------
#
# The own code of a verb runs in the thread of the caller, because it may call code of the
# user, and looks at the stack. What it passes to ``awaited`` runs on the loop.


def verb(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return a synchronous function that runs *method* and waits for its result.

    *method* may await only ``awaited``.
    """

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        token = waits_in_thread.set(True)
        try:
            method(*args, **kwargs).send(None)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            waits_in_thread.reset(token)
        raise RuntimeError("the verb awaits what no thread can wait for")

    call.coroutine = method  # type: ignore[attr-defined]  # a new attribute
    return call


def with_coroutines(cls: type[T]) -> type[T]:
    """For each verb *name* of *cls*, add its coroutine function as ``_name``."""
    for name, method in list(vars(cls).items()):
        if hasattr(method, "coroutine") and f"_{name}" not in vars(cls):
            setattr(cls, f"_{name}", method.coroutine)
    return cls

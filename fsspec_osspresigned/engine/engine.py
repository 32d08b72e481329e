"""Engine: the event loop of all filesystems, and functions that call coroutines on it."""

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
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from ..call_stack import caller_task, caller_thread, short_traceback
from ..compat import after_fork_in_child
from ..errors import Outcome, UploadDiscardedError
from . import abort_at_exit
from .threads import RETRIES, RETRY_INTERVAL, Job, Threads


class EngineLoop(asyncio.SelectorEventLoop):
    """Event loop of an engine, the ``Engine`` in its attribute *engine*."""

    engine: Any

    def __del__(self) -> None:
        # A loop that could not be made, for want of descriptors, gives no warning.
        with suppress(Exception):  # its parts may be missing
            self.close()


P = ParamSpec("P")
T = TypeVar("T")

IDLE = 25.0  # seconds without use after which the engine ends
_IDLE_CHECK_INTERVAL = 5.0  # seconds
_CANCEL_INTERVAL = 1.0  # seconds after a cancellation in which no other one counts
_POLL_INTERVAL = 0.5  # seconds after which a waiting thread lets a signal handler run

_INTERRUPTED = "the thread that ran the engine was interrupted"

# The call of a verb to which a coroutine belongs; requests in flight are shared by calls.
call_of_task: ContextVar[object] = ContextVar("osspresigned_call", default=None)
# Whether ``awaited`` waits in the calling thread, because a plain method called it.
waits_in_thread: ContextVar[bool] = ContextVar("osspresigned_waits", default=False)
_is_user_code: ContextVar[bool] = ContextVar("osspresigned_user_code", default=False)


class CarriedError(BaseException):
    """Carries an *error* of the user's code that is no Exception, such as SystemExit.

    If a coroutine raised *error* itself, asyncio would end its loop, or take the task for
    cancelled. ``run`` raises *error* in the thread of its caller.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error

    def add_note(self, note: str) -> None:
        self.error.add_note(note)


class NoThreadError(OSError):
    """The system can start no thread now."""


class Closable(Protocol):
    """An object that an engine owns, and closes at its end, in the thread of the loop."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class _Posted(NamedTuple):
    """A *function* to call on a loop. If no loop can begin, *fail* gets the error."""

    function: Callable[[], object]
    fail: Callable[[OSError], object]


class Engine:
    """One event loop with its worker threads, and the objects that belong to the loop."""

    def __init__(self) -> None:
        self.loop: EngineLoop | None = None
        self.is_over = False
        # A dict, because `setdefault` is one step of the interpreter.
        self._successor: dict[str, Engine] = {}
        self._posted: deque[_Posted] = deque()
        self._claims: dict[str, object] = {}  # of the only thread that runs the loop
        self._tasks: set[asyncio.Task[Any]] = set()
        self._owned: dict[Any, Any] = {}
        self._used = 0.0

    # -- in any thread -------------------------------------------------------------------

    @property
    def successor(self) -> Engine:
        """The engine that follows this one; the same for all threads."""
        return self._successor.setdefault("", Engine())

    def post(
        self,
        function: Callable[[], object],
        fail: Callable[[OSError], object] = lambda _: None,
    ) -> bool:
        """Call *function* on the loop soon; return False if the engine has ended.

        The first call starts the thread of the loop. If the system has no descriptors for a
        loop, *fail* is called instead, in another thread. A finalizer and a signal handler
        may call this method.

        Raises:
            NoThreadError: the thread of the loop cannot be started.
        """
        posted = _Posted(function, fail)
        self._posted.append(posted)
        try:
            self._wake()
        except NoThreadError:
            if self._take_back(posted):
                raise
            return True  # another thread has begun just now, and does it
        # What is posted before the end of the engine is done, by this one or the next.
        return not self.is_over or not self._take_back(posted)

    def defer(
        self, function: Callable[[], object], fail: Callable[[OSError], object]
    ) -> bool:
        """Queue *function* without starting the engine's thread; the next ``post`` does.

        Returns False if the engine has ended, as ``post`` does.
        """
        posted = _Posted(function, fail)
        self._posted.append(posted)
        return not self.is_over or not self._take_back(posted)

    def _take_back(self, posted: _Posted) -> bool:
        try:
            self._posted.remove(posted)
        except ValueError:  # the engine was faster
            return False
        return True

    def _wake(self) -> None:
        if self.loop is None:
            if sys.is_finalizing():  # Python 3.11 would wait for the thread for ever
                msg = "no thread can be started while the interpreter ends"
                raise NoThreadError(errno.EAGAIN, msg)
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

    def serve(
        self, function: Callable[[], object], fail: Callable[[OSError], object]
    ) -> bool:
        """Run the loop in this thread, call *function* on it, and return when it is idle.

        This is for a process that can start no thread. Returns False, without calling
        *function*, if another thread runs the loop. If the loop cannot be made, *fail* is
        called. An interrupt cancels all that runs on the loop, and is raised at the end.

        Raises:
            NoThreadError: this thread runs an event loop already.
        """
        if _runs_loop():
            msg = "no thread can be started, and this one runs an event loop"
            raise NoThreadError(errno.EAGAIN, msg)
        claim = object()
        try:
            if not self._is_claimed_by(claim):
                return False
            self.defer(function, fail)
            # A Runner turns Ctrl-C into a cancellation: an exception inside of the loop
            # could lose a task.
            runner = asyncio.Runner(loop_factory=self._make_loop)
            loop = runner.get_loop()
        except OSError as error:
            self._fail_posted(error)
            return True
        except BaseException:  # of a signal handler
            if self._claims.get("") is claim:
                self._hand_over()
            raise
        try:
            runner.run(self._until_idle())
        finally:
            try:
                loop.run_until_complete(self._cancel_all())
            finally:  # also after one more interrupt: others may wait for this engine
                self._end(runner)
        return True

    def _is_claimed_by(self, claim: object) -> bool:
        # One step of the interpreter, so that two threads never run one engine.
        return self._claims.setdefault("", claim) is claim

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:  # for tests
        return set(self._tasks)

    # -- on the loop ---------------------------------------------------------------------

    def _main(self) -> None:
        if not self._is_claimed_by(object()):
            return
        try:
            loop = self._make_loop()
        except OSError as error:
            self._fail_posted(error)
            return
        loop.call_later(_IDLE_CHECK_INTERVAL, self._end_idle)
        try:
            while not self.is_over:
                # A coroutine that raises one of these stops the loop, and not its caller.
                with suppress(KeyboardInterrupt, SystemExit):
                    loop.run_forever()
        finally:
            self._end(loop)

    def _make_loop(self) -> EngineLoop:
        loop = EngineLoop()
        loop.engine = self
        self.threads = Threads(loop)
        self._used = loop.time()
        loop.call_soon(self._take_posted)
        self.loop = loop
        return loop

    async def _until_idle(self) -> None:
        try:
            while self._posted or self._tasks or self.threads.busy:
                self._take_posted()
                if self._tasks:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(RETRY_INTERVAL)  # a thread ends what it does
        finally:
            self.is_over = True  # an interrupt may come before the loop is closed

    async def _cancel_all(self) -> None:
        while tasks := [task for task in self._tasks if not task.done()]:
            for task in tasks:
                task.cancel(_INTERRUPTED)
            await asyncio.wait(tasks)

    def _end(self, loop: Closable) -> None:  # the loop, or its Runner
        self.is_over = True
        self.threads.end()
        for owned in self._owned.values():
            owned.close()
        loop.close()
        self._hand_over()

    def _hand_over(self) -> None:  # to the next engine
        self.is_over = True
        while (posted := self._next()) is not None:
            post_later(*posted)

    def _take_posted(self) -> None:
        # An engine that is over begins nothing, because nothing would run it on.
        while not self.is_over and (posted := self._next()) is not None:
            posted.function()

    def _next(self) -> _Posted | None:
        try:
            return self._posted.popleft()
        except IndexError:
            return None

    def _fail_posted(self, error: OSError) -> None:
        self.is_over = True
        while (posted := self._next()) is not None:
            posted.fail(OSError(*error.args))

    def _end_idle(self) -> None:
        loop = cast(EngineLoop, self.loop)
        self.threads.end_idle(IDLE)
        # An upload that was never finished is aborted at exit, where no thread can start.
        if self._tasks or self.threads.busy or abort_at_exit.unfinished():
            self._used = loop.time()
        elif loop.time() - self._used >= IDLE and not self._posted:
            self.is_over = True
            loop.stop()
            return
        loop.call_later(_IDLE_CHECK_INTERVAL, self._end_idle)

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        # The engine keeps the task until it ends; asyncio does not.
        loop = cast(EngineLoop, self.loop)
        self._used = loop.time()
        task = loop.create_task(coroutine, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def own(self, kind: Callable[[], C]) -> C:
        """Return the engine's only object of a *kind*, which the first call makes.

        The engine closes the object when it ends.
        """
        if kind not in self._owned:
            self._owned[kind] = kind()
        return self._owned[kind]  # type: ignore[no-any-return]  # it made it


_engines = [Engine()]  # only that of this process


def current() -> Engine:
    """Return the engine of this process; its loop may not run yet."""
    engine = _engines[0]
    # Each engine has one successor, whichever thread asks first: two engines at a time
    # would share limits and futures that belong to one loop.
    while engine.is_over:
        engine = _engines[0] = engine.successor
    return engine


def running() -> Engine:
    """Return the engine of the running loop, for a coroutine of the engine."""
    return asyncio.get_running_loop().engine  # type: ignore[attr-defined,no-any-return]


def is_engine_thread() -> bool:
    return _runs_loop(EngineLoop)


def _runs_loop(kind: type = object) -> bool:
    try:
        return isinstance(asyncio.get_running_loop(), kind)
    except RuntimeError:
        return False


def _ignore(_: OSError) -> None:
    pass  # nothing waits for what could not begin


def post(
    function: Callable[[], object], fail: Callable[[OSError], object] = _ignore
) -> None:
    """Call *function* on the loop soon, or *fail* if no loop can be made; never wait.

    Raises NoThreadError if the thread of the loop cannot be started.
    """
    while not current().post(function, fail):
        pass


def post_later(
    function: Callable[[], object], fail: Callable[[OSError], object] = _ignore
) -> None:
    """Call *function* on the loop soon; never raise.

    If the thread of the loop cannot be started, *fail* gets the error. Without *fail*,
    *function* waits until something else is posted.
    """
    try:
        post(function, fail)
    except NoThreadError as error:
        if fail is not _ignore:
            fail(error)
            return
        while not current().defer(function, fail):
            pass


def _post_or_serve(
    function: Callable[[], object], fail: Callable[[OSError], object]
) -> None:
    while True:
        try:
            post(function, fail)
        except NoThreadError:
            try:
                if current().serve(function, fail):
                    return
            except NoThreadError as error:
                fail(error)
                return
            time.sleep(RETRY_INTERVAL)  # until the other thread has its loop
        else:
            return


class _Call:
    """A call of a coroutine function on the loop, for a waiter in another thread or loop.

    *ended* gets the result and the error, which is None after a success. It is called on
    the loop, or in any thread if the call could not begin.
    """

    def __init__(
        self,
        function: Callable[[], Coroutine[Any, Any, Any]],
        ended: Callable[[Any, BaseException | None], object],
        waiter: asyncio.Task[Any] | None = None,
    ) -> None:
        abort_at_exit.watch()  # only the main thread can, and it may have to each time
        self._ended = ended
        context = contextvars.copy_context()
        context.run(call_of_task.set, object())
        context.run(caller_thread.set, threading.get_ident())
        context.run(caller_task.set, waiter)
        context.run(waits_in_thread.set, False)
        # None once it has begun. The task must not keep itself alive by this call.
        self._todo: tuple[Any, contextvars.Context] | None
        self._todo = function, context
        self._task: asyncio.Task[Any] | None = None

    def begin(self) -> None:  # on the loop
        if self._todo is None:
            return
        (function, context), self._todo = self._todo, None
        try:
            self._task = running().spawn(function(), context)
        except Exception as error:  # noqa: BLE001 - such as an argument too many
            self._ended(None, error)
        else:
            self._task.add_done_callback(self._finish)

    def cancel(self) -> None:  # on the loop
        self._todo = None
        if self._task is None or self._task.done():
            # Maybe the second time: the waiter may have lost the first.
            self._ended(None, asyncio.CancelledError())
        else:
            self._task.cancel()

    def fail(self, error: OSError) -> None:  # in any thread
        self._todo = None
        self._ended(None, error)

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._task = None
        if task.cancelled():
            try:
                task.result()
            except asyncio.CancelledError as error:  # it may have notes
                self._ended(None, error.with_traceback(None))
        elif (failure := task.exception()) is not None:
            self._ended(None, failure)
        else:
            self._ended(task.result(), None)


def run(
    function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call the coroutine *function* on the engine's loop, and wait for its result.

    An exception that a signal handler raises here (Ctrl-C) cancels the coroutine. It is
    raised when the coroutine has ended. A second one cancels what the coroutine does to
    clean up, too.

    Raises:
        RuntimeError: this is the thread of the loop, or the interpreter ends.
        NoThreadError: the system can start no thread, and this one runs a loop, which
            may be that of the engine.
        UploadDiscardedError: another thread ran the engine, and was interrupted.
    """
    if is_engine_thread():
        if running().threads.is_without:
            raise NoThreadError(errno.EAGAIN, "no thread can be started for this code")
        raise RuntimeError(
            "a finalizer or a callback waits for the engine in the engine's own thread"
        )
    if sys.is_finalizing():  # its other threads never run again
        raise RuntimeError("the interpreter ends, so nothing can be sent")
    outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
    call = _Call(
        partial(function, *args, **kwargs), lambda *outcome: outcomes.put(outcome)
    )
    outcome, interrupt = _outcome_of(call, call.begin, outcomes)
    result, error = outcome
    error = _raised(error)
    if interrupt is not None:
        for note in getattr(error, "__notes__", ()):
            interrupt.add_note(note)
        error = interrupt
    if error is None:
        return cast(T, result)
    try:
        raise error
    finally:
        # The frames of the error lead here, and would keep each other.
        del error, interrupt, outcome, call


def _raised(error: BaseException | None) -> BaseException | None:
    """Return the exception to raise for *error*, with which a coroutine has ended."""
    if isinstance(error, CarriedError):
        return error.error
    if isinstance(error, asyncio.CancelledError) and _INTERRUPTED in error.args:
        text = f"the call was cancelled: {_INTERRUPTED}"
        return UploadDiscardedError(text, outcome=Outcome.UNKNOWN)
    return error


_Outcome: TypeAlias = tuple[Any, BaseException | None]  # result and error


def _outcome_of(
    call: _Call,
    todo: Callable[[], object] | None,
    outcomes: queue.SimpleQueue[_Outcome],
) -> tuple[_Outcome, BaseException | None]:
    """Call *todo* on the loop, and wait for the outcome of *call*.

    Returns the outcome and the first interrupt, an exception of a signal handler; None if
    there was none. Each interrupt cancels *call*.
    """
    interrupt: BaseException | None = None
    # A signal handler may raise between any two steps. The inner ``try`` catches what is
    # raised while this thread posts or waits, the outer one what is raised in the inner
    # handlers. These call nothing, because a handler of signals may run after each call.
    while True:
        try:
            while True:
                try:
                    if todo is not None:
                        _post_or_serve(todo, call.fail)
                    todo = None
                    # Not for ever: a signal that another thread got does not end the
                    # wait, nor does any on Windows.
                    return outcomes.get(timeout=_POLL_INTERVAL), interrupt
                except queue.Empty:
                    pass
                except BaseException as caught:  # noqa: BLE001 - raised by the caller
                    # It may have lost what ``get`` returned: ``cancel`` repeats it.
                    interrupt = caught if interrupt is None else interrupt
                    todo = call.cancel
        except BaseException as caught:  # noqa: BLE001 - raised by the caller
            interrupt = caught if interrupt is None else interrupt
            todo = call.cancel


async def awaited(
    function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call the coroutine *function* on the engine's loop; await it in any event loop.

    In a plain method (``verb``), the thread waits instead. If the caller is cancelled,
    CancelledError is raised when the call has ended, so its buffers may be used again.

    Raises:
        NoThreadError: the system could start no thread for two seconds.
        UploadDiscardedError: another thread ran the engine, and was interrupted.
    """
    if waits_in_thread.get():
        return run(function, *args, **kwargs)
    if is_engine_thread():
        return await function(*args, **kwargs)
    loop = asyncio.get_running_loop()
    outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
    waiter: asyncio.Future[None] = loop.create_future()

    def ended(*outcome: Any) -> None:
        outcomes.put(outcome)
        with suppress(RuntimeError):  # the caller's loop is closed
            loop.call_soon_threadsafe(wake)

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    call = _Call(partial(function, *args, **kwargs), ended, asyncio.current_task())
    try:
        await _until_ended(call, waiter)
    except (asyncio.CancelledError, NoThreadError):
        raise
    except GeneratorExit:  # the caller's loop was closed
        post_later(call.cancel)
        raise
    except BaseException:  # of a signal handler: the loop does not run on
        _outcome_of(call, call.cancel, outcomes)
        raise
    result, error = outcomes.get()
    if error is None:
        return cast(T, result)
    try:
        raise cast(BaseException, _raised(error))
    finally:
        del error  # its frames lead here, and would keep the arguments


async def _until_ended(call: _Call, waiter: asyncio.Future[None]) -> None:
    for _ in range(RETRIES):  # no other loop can run in this thread
        with suppress(NoThreadError):
            post(call.begin, call.fail)
            break
        await asyncio.sleep(RETRY_INTERVAL)
    else:
        post(call.begin, call.fail)
    cancelled: asyncio.CancelledError | None = None
    next_cancel = -math.inf  # when a cancellation counts again
    while not waiter.done():
        try:
            await asyncio.wait((waiter,))
        except asyncio.CancelledError as caught:
            cancelled = caught
            # anyio cancels in each turn of its loop, and does not mean to hurry.
            if (now := time.monotonic()) >= next_cancel:
                next_cancel = now + _CANCEL_INTERVAL
                post_later(call.cancel, call.fail)
    try:
        if cancelled is not None:
            raise cancelled
    finally:
        del cancelled  # its frames lead here, and would keep the arguments


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
        except Exception as error:  # noqa: BLE001 - raised by the caller
            return items, error
        return items, None

    while True:
        items, error = run(chunk)
        yield from items
        if error is not None:
            raise error
        if len(items) < size:
            return


async def blocking(
    function: Callable[..., T], *args: Any, stop: Callable[[], object] | None = None
) -> T:
    """Call *function* in a worker thread, in the context of this task.

    If the task is cancelled, it calls *stop*, and waits until *function* has ended. If
    it is cancelled again, it waits no longer, and *function* runs on alone.
    """
    context = contextvars.copy_context()
    job, threads = Job(partial(context.run, function, *args)), running().threads
    threads.start(job)
    try:
        await job.wait()
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        if not job.is_over and not threads.forget(job):
            await job.wait()
        raise
    error = job.error
    if error is None:
        return cast(T, job.result)
    job.error = None
    try:
        raise error if isinstance(error, Exception) else CarriedError(error)
    finally:
        del error


async def call_user(function: Callable[..., T], *args: Any) -> T:
    """Call *function*, which is code of the user, in a worker thread.

    *function* may use filesystems: their requests do not wait for others, see
    ``user_code``.
    """
    return await blocking(user_code()(function), *args)


@contextmanager
def user_code() -> Iterator[None]:
    """Mark the block as code of the user; no limit makes its requests wait.

    A request in flight may be waiting for this code, so waiting for that request could
    last for ever.
    """
    token = _is_user_code.set(True)
    try:
        yield
    finally:
        _is_user_code.reset(token)


def within_user_code() -> bool:
    return _is_user_code.get()


async def to_its_end(work: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
    """Await *work*, which a cancellation of the caller does not cancel.

    A cancelled caller waits until *work* has ended; if it is cancelled again, *work* runs
    on alone.
    """
    task = work if isinstance(work, asyncio.Task) else running().spawn(work)
    try:
        return await _unharmed(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait((task,))
        raise


async def shielded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await *coroutine*, which runs on alone if the caller is cancelled."""
    return await _unharmed(running().spawn(coroutine))


async def _unharmed(task: asyncio.Task[T]) -> T:
    # Not asyncio.shield: that logs the error of a task whose caller was cancelled.
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait((task,))
    return task.result()


def in_background(function: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Call the coroutine *function* on the loop without waiting; finalizers may do so."""
    post_later(lambda: running().spawn(function(), contextvars.Context()))


def _replace_parent_engine() -> None:
    # A forked child has no threads. It keeps the engine of its parent for ever: it must
    # not touch its sockets, nor end its coroutines.
    _inherited.append(_engines[0])
    _engines[0] = Engine()


_inherited: list[Engine] = []
after_fork_in_child(_replace_parent_engine)


# -- verbs -------------------------------------------------------------------------------
#
# The own code of a verb runs in the thread of the caller, because it may call code of the
# user, and looks at the stack. What it passes to ``awaited`` runs on the loop.


def verb(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return the plain function of *method*: it runs *method*, and waits for its result.

    *method* may await only ``awaited``.
    """

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        context = contextvars.copy_context()
        context.run(waits_in_thread.set, True)
        try:
            context.run(method(*args, **kwargs).send, None)
        except StopIteration as end:
            return cast(T, end.value)
        raise RuntimeError("the verb awaits what no thread can wait for")

    plain = short_traceback(call)
    plain.coroutine = short_traceback(method)  # type: ignore[attr-defined]  # see below
    return plain


def coroutine(verb: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    return cast("Callable[P, Coroutine[Any, Any, T]]", vars(verb)["coroutine"])

"""Calls of coroutines from threads and from other loops: results, interrupts, ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsspec_osspresigned.engine import engine
from fsspec_osspresigned.engine.engine import (
    awaited,
    blocking,
    call_user,
    in_background,
    is_engine_thread,
    run,
    to_its_end,
    waiting,
)
from tests.engine.conftest import wait_until
from tests.interrupts import Interrupt

DAY = 86400.0


def in_thread(function, *args):
    """Start *function* in a thread; return the thread and the list of its outcome."""
    outcome = []

    def work():
        try:
            outcome.append(function(*args))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, outcome


def outcome_of(started):
    """Return what a function in a thread has returned or raised."""
    thread, outcome = started
    thread.join(10)
    assert outcome, "it does not end"
    return outcome[0]


async def fail(error):
    """Raise *error*."""
    raise error


# -- run --------------------------------------------------------------------------------


def test_run_in_a_worker_thread():
    """Code that a coroutine calls may use the engine, to any depth."""

    def nested(depth):
        return run(work, depth - 1) + 1 if depth else 0

    async def work(depth):
        return await waiting(nested, depth)

    assert run(work, 100) == 100


def test_run_in_the_thread_of_the_loop():
    """It would wait for itself: that is refused."""

    async def work():
        run(work)

    with pytest.raises(RuntimeError, match="in the engine's own thread"):
        run(work)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("in_worker", [False, True])
def test_interrupt_of_user_code(kind, in_worker):
    """SystemExit and the like are raised to the caller, and do not end the loop."""
    error, go = kind(7), threading.Event()

    def raises():
        raise error

    async def work():
        await (call_user(raises) if in_worker else fail(error))

    async def other():
        await blocking(go.wait, 10)
        return "other"

    started = in_thread(run, other)
    with pytest.raises(kind) as caught:
        run(work)
    assert caught.value is error
    go.set()
    assert outcome_of(started) == "other"


# -- interrupts of the caller -----------------------------------------------------------


@contextlib.contextmanager
def signals(handler):
    """Let *handler* handle SIGUSR1, and yield a function that sends it to this thread."""
    previous = signal.signal(signal.SIGUSR1, handler)
    ident = threading.main_thread().ident
    try:
        yield lambda: signal.pthread_kill(ident, signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, previous)


def raising(*_):
    """Raise, as the handler of Ctrl-C does."""
    raise Interrupt


def left_tasks():
    """Return whether the engine has unfinished work."""
    return engine.current().is_busy


def test_interrupt_cancels_and_waits():
    """The exception is raised when the coroutine has cleaned up."""
    cleaned = []

    async def work(press):
        press()
        try:
            await asyncio.sleep(DAY)
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(True)

    with signals(raising) as press, pytest.raises(Interrupt):
        run(work, press)
    assert cleaned == [True]
    assert not left_tasks()


def test_second_interrupt_hurries():
    """It cancels the cleaning, too; the first exception is raised."""
    kinds = iter([Interrupt, KeyboardInterrupt])

    def handler(*_):
        raise next(kinds)

    async def work(press):
        press()
        try:
            await asyncio.sleep(DAY)
        finally:
            press()
            await asyncio.sleep(DAY)

    with signals(handler) as press, pytest.raises(Interrupt):
        run(work, press)
    assert not left_tasks()


def test_handler_that_returns():
    """A signal whose handler raises nothing changes nothing, whatever it calls."""
    seen = queue.SimpleQueue()

    async def inner():
        return 1

    async def work(press):
        press()
        return await blocking(seen.get), 2

    with signals(lambda *_: seen.put(run(inner))) as press:
        assert run(work, press) == (1, 2)


# -- awaited from another loop ----------------------------------------------------------


def test_awaited():
    """Results and errors come to any loop, and the work is done by the engine's."""

    async def work(number):
        return number, is_engine_thread()

    async def main():
        assert not is_engine_thread()
        numbers = await asyncio.gather(*(awaited(work, n) for n in range(50)))
        with pytest.raises(ValueError, match="no"):
            await awaited(fail, ValueError("no"))
        with pytest.raises(TypeError):
            await awaited(work)
        return numbers

    assert asyncio.run(main()) == [(n, True) for n in range(50)]


def test_awaited_and_cancelled():
    """The caller gets on when the coroutine has cleaned up, and a second time at once."""
    ends, cleaned = queue.SimpleQueue(), []

    async def work(begun):
        begun.set()
        try:
            await asyncio.sleep(DAY)
        finally:
            await blocking(ends.get)
            cleaned.append(True)

    async def main():
        for hurries in (False, True):
            begun = threading.Event()
            task = asyncio.create_task(awaited(work, begun))
            await asyncio.to_thread(begun.wait, 10)
            task.cancel()
            await asyncio.sleep(0.05)
            assert not task.done()
            for _ in range(50):  # as anyio does it, in each turn: the same cancellation
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()
            if hurries:
                for _ in range(2):  # the thread ends later
                    await asyncio.sleep(1.1)
                    task.cancel()
            else:
                ends.put(None)
            with pytest.raises(asyncio.CancelledError):
                await task
        ends.put(None)

    asyncio.run(main())
    assert cleaned == [True]
    wait_until(lambda: not left_tasks())


def test_loop_that_is_closed_while_it_waits():
    """The call is cancelled if the loop of its caller is closed."""
    loop = asyncio.new_event_loop()
    begun, cleaned = threading.Event(), threading.Event()

    async def work():
        begun.set()
        try:
            await asyncio.sleep(DAY)
        finally:
            cleaned.set()

    waiting = awaited(work)
    task = loop.create_task(waiting)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.close()
    assert begun.wait(10)
    waiting.close()
    assert cleaned.wait(10)
    task._log_destroy_pending = False


# -- blocking ---------------------------------------------------------------------------


def cancelled(*, again):
    """Cancel a task that waits for a thread; return what was called, in order."""
    events, begun, go = [], threading.Event(), threading.Event()

    def function():
        begun.set()
        go.wait(10)
        events.append("function has ended")

    def stop():
        events.append("stop")

    async def main():
        task = asyncio.create_task(blocking(function, stop=stop))
        await blocking(begun.wait, 10)
        task.cancel()
        await asyncio.sleep(0.02)
        assert not task.done()
        if again:
            task.cancel()
        else:
            go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        events.append("task has ended")
        go.set()

    run(main)
    wait_until(lambda: not left_tasks())
    return events


def test_blocking_and_cancelled():
    """The function is asked to stop, and waited for."""
    assert cancelled(again=False) == ["stop", "function has ended", "task has ended"]


def test_blocking_and_cancelled_twice():
    """The second time the thread is left alone, and ends by itself."""
    assert cancelled(again=True) == ["stop", "task has ended", "function has ended"]


def test_at_most_64_threads():
    """Any number of calls shares the engine's threads, and each is done."""
    seen = set()

    def work(number):
        seen.add(threading.get_ident())
        time.sleep(0.001)
        return number

    async def main():
        return await asyncio.gather(*(blocking(work, n) for n in range(500)))

    assert run(main) == list(range(500))
    assert len(seen) <= 62  # with that of the loop, and one for log records


def test_any_number_of_threads_that_wait():
    """Functions that wait for each other keep no other function from its thread."""
    gate = threading.Barrier(100, timeout=20)

    async def main():
        return await asyncio.gather(*(waiting(gate.wait) for _ in range(100)))

    assert sorted(run(main)) == list(range(100))


def test_cancelled_job_that_waits_for_a_thread(no_engine, monkeypatch):
    """It ends at once, and is never done."""
    monkeypatch.setattr("fsspec_osspresigned.engine.engine.WORKERS", 1)
    begun, go, done = threading.Event(), threading.Event(), []

    def first():
        begun.set()
        go.wait(10)

    async def main():
        busy = asyncio.create_task(blocking(first))
        waits = asyncio.create_task(blocking(done.append, 1))
        await asyncio.sleep(0.01)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        go.set()
        await busy
        return await blocking(int, "7")

    assert run(main) == 7
    assert done == []


# -- to the end, in the background, step by step ----------------------------------------


def test_to_its_end():
    """A cancelled caller waits for what must end, and is cancelled then."""
    events = []

    async def must_end(gate):
        await gate.wait()
        events.append("end")
        return 1

    async def main():
        gate = asyncio.Event()
        task = asyncio.create_task(to_its_end(must_end(gate)))
        gate.set()
        assert await task == 1
        gate.clear()
        task = asyncio.create_task(to_its_end(must_end(gate)))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        events.append("cancelled")
        with pytest.raises(ValueError, match="no"):
            await to_its_end(fail(ValueError("no")))

    run(main)
    assert events == ["end", "end", "cancelled"]


def test_in_background_from_finalizers():
    """A finalizer may begin work in any thread, also in that of the loop."""
    done = queue.SimpleQueue()

    async def work():
        done.put(is_engine_thread())

    class Finalized:
        def __del__(self):
            in_background(work)

    async def drop():
        Finalized()

    Finalized()
    run(drop)
    assert [done.get(timeout=10) for _ in range(2)] == [True, True]


# -- an engine that cannot begin, or does not answer ------------------------------------


def test_no_thread_for_the_engine(no_engine, monkeypatch):
    """The caller gets the error of the system, and the next call tries again."""

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    async def work():
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread can be started"):
            run(work)
        with pytest.raises(OSError, match="no thread can be started"):
            asyncio.run(awaited(work))
        in_background(work)  # a finalizer gets no error
    assert run(work) == 1


def test_all_threads_get_the_same_engine(no_engine):
    """Two loops at a time would share what belongs to one."""
    gate = threading.Barrier(16)

    async def loop():
        return asyncio.get_running_loop()

    def first(_):
        gate.wait()
        return run(loop)

    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(first, range(16)))) == 1


@pytest.mark.parametrize(
    ("module", "question", "name"),
    [
        ("gevent.monkey", "is_module_patched", "gevent"),
        ("eventlet.patcher", "is_monkey_patched", "eventlet"),
    ],
)
def test_threads_that_are_none(monkeypatch, module, question, name):
    """The first call says what replaces the threads of this process."""
    patched = types.ModuleType(module)
    setattr(patched, question, lambda _: True)
    monkeypatch.setitem(sys.modules, module, patched)
    with pytest.raises(RuntimeError, match=f"{name} has replaced Python's threads"):
        engine.Engine().start()


class Stuck:
    """An engine's thread that a finalizer of the program holds up."""

    def __init__(self):
        self.lock = threading.Lock()
        self.lock.acquire()

    def hold(self):
        """Do in the engine's thread what a finalizer may do."""
        stuck = threading.Event()

        def finalizer_that_waits():
            stuck.set()
            with self.lock:
                pass

        run(asyncio.sleep, 0)
        engine.current().post(finalizer_that_waits)
        assert stuck.wait(10)


@pytest.fixture
def stuck(monkeypatch):
    """An engine that does not answer until the end of the test."""
    monkeypatch.setattr(engine, "GRACE", 0.05)
    held = Stuck()
    yield held
    held.lock.release()


def test_interrupt_that_the_engine_does_not_answer(stuck):
    """It is raised anyway, and a note names what holds up the engine."""

    def press_later():
        time.sleep(0.1)
        press()

    with signals(raising) as press:
        stuck.hold()
        started = in_thread(press_later)
        with pytest.raises(Interrupt) as caught:
            run(asyncio.sleep, 0)
        started[0].join()
    (note,) = caught.value.__notes__
    assert "the engine does not answer" in note
    assert "finalizer_that_waits" in note


def test_cancellation_that_the_engine_does_not_answer(stuck):
    """An event loop continues, too."""

    async def main():
        stuck.hold()
        task = asyncio.create_task(awaited(asyncio.sleep, 0))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value.__notes__

    (note,) = asyncio.run(main())
    assert "finalizer_that_waits" in note


# -- forks and exits --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_has_an_engine_of_its_own():
    """Parent and child continue, also where the parent's engine was busy at the fork."""
    go = threading.Event()

    async def work():
        await blocking(go.wait)
        return os.getpid()

    async def pid_of():
        return os.getpid()

    started = in_thread(run, work)
    parent = run(pid_of)
    pid = os.fork()
    if not pid:  # pragma: no cover - another process
        status = 1
        try:
            is_own = run(pid_of) == os.getpid() != parent
            status = 0 if is_own and not engine.current().tasks else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go.set()
    assert outcome_of(started) == parent


def script(text, *options):
    """Run a program; return the finished process."""
    return subprocess.run(
        [sys.executable, *options, "-c", text],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


BEGIN = """
import asyncio, atexit, os, sys, threading, time
from fsspec_osspresigned.engine.engine import run, blocking, in_background
async def work(seconds):
    await blocking(time.sleep, 0)
    await asyncio.sleep(seconds)
    return "done"
"""


@pytest.mark.slow
def test_call_at_exit():
    """A function that runs at exit may use the engine, also for the first time."""
    # Some Pythons start no thread there, so the engine must have begun before.
    uses = ["run(work, 0)", ""] if sys.version_info[:2] != (3, 12) else ["run(work, 0)"]
    for use in uses:
        text = f"{use}\natexit.register(lambda: print(run(work, 0.01)))"
        done = script(BEGIN + text)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")

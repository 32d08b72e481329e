"""A world with a clock, and threads that take turns in an order that a seed determines.

Real threads run one at a time. A thread ends its turn when it takes a lock, waits,
sleeps, or calls a queue. In some programs, it may also end its turn at any line of the
package. Everything in between is one step. Time stands still while a thread can run.
Then it advances to the next moment for which a thread waits. ``install`` replaces
``threading``, ``queue`` and ``time`` before the package is imported.
"""

from __future__ import annotations

import _thread
import contextvars
import hashlib
import math
import queue
import random
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

EPOCH = 1_700_000_000.0  # seconds since 1970 at which a world begins
_MOST_AT_ONCE = 20_000  # maximum steps while time stands still


_PACKAGE = str(Path(__file__).parents[2] / "fsspec_osspresigned")
# Files below which threads are not switched: the store acts at once, an invariant is
# checked at one moment, and imports and cached properties hold locks of the system.
_AT_ONCE = (
    *("/ledger.py", "/network.py", "/store.py"),
    *("/functools.py", "<frozen importlib._bootstrap>"),
)


class Broken(AssertionError):
    """An invariant does not hold."""


class HangError(Exception):
    """No thread can ever run again, or there were too many steps."""


class Turn:
    """A thread of the world, and the condition for which it waits."""

    def __init__(self, name: str, number: int, process: int) -> None:
        self.name, self.number, self.process = name, number, process
        self.gate = _thread.allocate_lock()
        self.gate.acquire()
        self.until: Callable[[], bool] | None = None  # None: the thread can run
        self.deadline = math.inf
        # exception that is raised where the thread waits
        self.interrupt: BaseException | None = None
        self.ident = 0

    def can_run(self, now: float) -> bool:
        if self.until is None or self.interrupt is not None:
            return True
        return self.deadline <= now or self.until()


class World:
    """Threads, clock and random numbers of one simulation."""

    current: World | None = None  # the world of this process

    def __init__(self, seed: int, *, max_steps: int = 3_000_000) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.steps, self.max_steps = 0, max_steps
        self.moved = 0  # the last step at which time advanced
        self.digest = hashlib.sha256()
        self.lines: list[str] | None = None  # lines of the trace, to compare two runs
        self.turns: list[Turn] = []
        self.running: Turn | None = None
        self.count = 0
        self.at_step: Callable[[], None] = lambda: None  # a check, or a crash
        # the real function ends the process
        self.fail: Callable[[BaseException], object] = print
        self.signer_faults = 0.0  # share of calls that the signer fails
        self.signer_calls = 0  # number of calls to remote signers
        # Status and problem of their next replies; empty: they answer by themselves. A
        # status 0 means that they cannot be reached.
        self.signer_replies: list[tuple[int, dict[str, str]]] = []
        self.holds = 0.0  # share of posts before which a caller is paused
        self.switches = 0.0  # share of lines before which other threads may run
        self._is_stepping = False

    def note(self, *facts: object) -> None:
        """Add *facts* to the trace, which must always be the same for one seed."""
        self.trace(repr(facts))

    def trace(self, text: str) -> None:
        self.digest.update(text.encode())
        if self.lines is not None:
            self.lines.append(text)

    def begin(self) -> None:
        """Register this thread as the first one."""
        self.running = self._new("main")
        self.running.ident = _thread.get_ident()
        World.current = self
        self._trace_lines()

    def _new(self, name: str) -> Turn:
        process = 0 if self.running is None else self.running.process
        turn = Turn(name, self.count, process)
        self.count += 1
        self.turns.append(turn)
        return turn

    def is_mine(self) -> bool:
        """True if it is the calling thread's turn."""
        return self.running is not None and self.running.ident == _thread.get_ident()

    # -- turns ---------------------------------------------------------------------------

    def wait(
        self, until: Callable[[], bool] | None = None, timeout: float | None = None
    ) -> bool:
        """Let others run; return when *until* is true, or False after *timeout* seconds."""
        me = self._pass_on(until, timeout)
        if me.interrupt is not None:
            interrupt, me.interrupt = me.interrupt, None
            raise interrupt
        return until is None or until()

    def _pass_on(
        self, until: Callable[[], bool] | None = None, timeout: float | None = None
    ) -> Turn:
        me = self.running
        assert me is not None
        me.until = until
        me.deadline = math.inf if timeout is None else self.now + max(0.0, timeout)
        self._step()
        chosen = self._choose()
        if chosen is not me:
            self.running = chosen
            chosen.gate.release()
            me.gate.acquire()
        me.until, me.deadline = None, math.inf
        return me

    def kill(self, process: int) -> None:
        """Stop all threads of *process*, which is not the caller's process."""
        self.turns = [turn for turn in self.turns if turn.process != process]

    def _trace_lines(self) -> None:
        """From now on, other threads may run before each line of the package."""
        if not self.switches:
            return

        def at_line(frame: FrameType, event: str, _: object) -> Any:
            if event == "line" and self.is_mine() and not self._is_stepping:
                is_drawn = self.random.random() < self.switches
                if is_drawn and not _is_at_once(frame):
                    self._pass_on()  # switching here raises no interrupt
            return at_line

        def at_call(frame: FrameType, *_: object) -> Any:
            return at_line if frame.f_code.co_filename.startswith(_PACKAGE) else None

        sys.settrace(at_call)

    def hold(self) -> None:
        """Pause a caller between two lines, as the system may do."""
        is_caller = self.is_mine() and self.running.name.startswith(("main", "caller"))
        if is_caller and self.random.random() < self.holds:
            self.wait(lambda: False, self.random.choice((0.01, 1, 40)))

    def _step(self) -> None:
        self.steps += 1
        self._is_stepping = True
        try:
            if self.steps > self.max_steps:
                raise HangError(f"no end after {self.steps} steps\n{self.stacks()}")
            if self.steps - self.moved > _MOST_AT_ONCE:
                raise HangError(f"no wait for {_MOST_AT_ONCE} steps\n{self.stacks()}")
            self.at_step()
        except BaseException as error:  # noqa: BLE001 - no thread of the world may see it
            self.fail(error)
        self._is_stepping = False

    def _choose(self) -> Turn:
        while True:
            ready = [turn for turn in self.turns if turn.can_run(self.now)]
            if ready:
                chosen = ready[self.random.randrange(len(ready))]
                self.trace(f"{chosen.number} {self.now:.6f};")
                return chosen
            moment = min((turn.deadline for turn in self.turns), default=math.inf)
            if moment == math.inf:
                self.fail(HangError(f"all threads wait for ever:\n{self.stacks()}"))
            self.now, self.moved = moment, self.steps

    def stacks(self) -> str:
        # this function is documented, although its name begins with "_"
        frames = sys._current_frames()
        found = []
        for turn in self.turns:
            lines = traceback.format_stack(frames.get(turn.ident))[-8:]
            found.append(f"-- {turn.name}\n{''.join(lines)}")
        return "\n".join(found)

    def start(self, name: str, function: Callable[[], object]) -> Turn:
        turn = self._new(name)

        def main(box: list[Callable[[], object]]) -> None:
            turn.ident = _thread.get_ident()
            turn.gate.acquire()
            self._trace_lines()
            try:
                # Everything that the thread holds is freed during its turn. Otherwise
                # the seed would not determine when finalizers run.
                contextvars.Context().run(box.pop())
            finally:
                self._end(turn)

        _thread.start_new_thread(main, ([function],))
        return turn

    def _end(self, turn: Turn) -> None:
        self.turns.remove(turn)
        self._step()
        chosen = self._choose()
        self.running = chosen
        chosen.gate.release()


def _is_at_once(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith(_AT_ONCE):
            return True
        frame = frame.f_back
    return False


def _world() -> World | None:
    world = World.current
    return world if world is not None and world.is_mine() else None


# -- replacements for the standard library ---------------------------------------------


class Lock:
    """Replaces ``threading.Lock`` and ``RLock``; other threads never wait."""

    is_reentrant = False

    def __init__(self) -> None:
        self._owner: int | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me, world = _thread.get_ident(), _world()
        if world is not None and world.random.random() < 0.2:
            world.wait()
        if self.is_reentrant and self._owner == me:
            self._count += 1
            return True
        if self._owner is not None:
            if not blocking:
                return False
            assert world is not None, "a lock of the world is taken outside of it"
            limit = None if timeout < 0 else timeout
            if not world.wait(lambda: self._owner is None, limit):
                return False
        self._owner, self._count = me, 1
        return True

    def release(self) -> None:
        if self._owner is None:
            raise RuntimeError("release unlocked lock")
        self._count -= 1
        if not self._count:
            self._owner = None

    def locked(self) -> bool:
        return self._owner is not None

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class RLock(Lock):
    is_reentrant = True


class Event:
    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        if self._is_set:
            return True
        world = _world()
        assert world is not None
        return world.wait(lambda: self._is_set, timeout)


class SimpleQueue:
    """Replaces ``queue.SimpleQueue``; the reader sees an item during its own turn."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()

    __class_getitem__ = classmethod(lambda cls, _: cls)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)

    put_nowait = put

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        world = _world()
        if block and world is not None:
            world.wait(lambda: bool(self._items), timeout)
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def qsize(self) -> int:
        return len(self._items)

    def empty(self) -> bool:
        return not self._items


class Thread:
    """Replaces the parts of ``threading.Thread`` that the package and its callers use."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self._target, self._args, self._kwargs = target, args, kwargs or {}
        self.name, self.daemon = name or "thread", daemon
        self._turn: Turn | None = None
        self._is_over = False

    def start(self) -> None:
        world = _world()
        assert world is not None
        self._turn = world.start(self.name, self._run)
        world.wait()

    def _run(self) -> None:
        _threads[_thread.get_ident()] = self
        try:
            self.run()
        except SystemExit:
            pass
        finally:
            self._is_over = True
            del _threads[_thread.get_ident()]

    def run(self) -> None:
        if self._target is not None:
            self._target(*self._args, **self._kwargs)

    def join(self, timeout: float | None = None) -> None:
        world = _world()
        assert world is not None
        if not self._is_over:
            world.wait(lambda: self._is_over, timeout)

    def is_alive(self) -> bool:
        return self._turn is not None and not self._is_over


class Timer(Thread):
    """Replaces ``threading.Timer``."""

    def __init__(self, interval: float, function: Callable[[], object]) -> None:
        super().__init__(name="timer")
        self.interval, self.function = interval, function
        self.finished = Event()

    def cancel(self) -> None:
        self.finished.set()

    def run(self) -> None:
        if not self.finished.wait(self.interval):
            self.function()


_threads: dict[int, Thread] = {}


def _current_thread() -> Any:
    return _threads.get(_thread.get_ident(), threading.main_thread())


def lasting_threads() -> list[str]:
    """Return the names of the threads for which Python waits at its end."""
    return [thread.name for thread in _threads.values() if not thread.daemon]


def _get_ident() -> int:
    # The system may or may not reuse the number of a thread that has ended.
    world = _world()
    if world is None or world.running is None:
        return _thread.get_ident()
    return world.running.number + 1


def _now() -> float:
    return World.current.now if World.current is not None else 0.0


def _sleep(seconds: float) -> None:
    world = _world()
    if world is not None:
        world.wait(lambda: False, seconds)


def install() -> None:
    """Let all modules that are imported from now on use the world."""
    threading.Lock, threading.RLock = Lock, RLock  # type: ignore[misc, assignment]
    threading.Event, threading.Thread = Event, Thread  # type: ignore[misc, assignment]
    threading.Timer = Timer  # type: ignore[misc, assignment]
    threading.current_thread = _current_thread
    threading.get_ident = _get_ident
    queue.SimpleQueue = SimpleQueue  # type: ignore[misc, assignment]
    time.monotonic = time.perf_counter = _now
    time.time = lambda: EPOCH + _now()
    time.sleep = _sleep

"""Event loop in a world; the seed decides the order of ready callbacks."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Coroutine
from typing import Any

from .world import World

_REACH = 8  # number of ready callbacks among which the seed chooses

_serial = itertools.count()


class Future(asyncio.Future):  # type: ignore[type-arg]
    """A future whose place in a set does not depend on its address."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.serial = next(_serial)

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class Task(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set does not depend on its address."""

    serial = -1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # first, because the constructor adds the task to sets
        self.serial = next(_serial)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.AbstractEventLoop):
    """Runs in one thread of the world; supports only sockets of ``curl``, no executor."""

    def __init__(self) -> None:
        world = World.current
        assert world is not None
        self.world = world
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        # key: an object with a ``moment``
        self._readers: dict[Any, asyncio.Handle] = {}
        self._is_running = self._is_closed = self._stops = False
        self.unhandled: list[Any] = []

    def time(self) -> float:
        return self.world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return self._is_closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.unhandled.append(context)

    def create_future(self) -> Any:
        return Future(loop=self)

    def create_task(self, coroutine: Any, **facts: Any) -> Any:
        facts.setdefault("name", f"task-{next(self._numbers)}")
        return Task(coroutine, loop=self, **facts)

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        if self._is_closed:
            raise RuntimeError("Event loop is closed")
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        self.world.hold()  # the system may pause a thread just before this call
        return self.call_soon(callback, *args, context=context)

    def set_exception_handler(self, handler: Any) -> None:
        pass  # the simulation reports each exception as a problem

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: Any) -> None:
        pass  # asyncio calls this method of every loop

    def add_reader(self, file: Any, callback: Any, *args: Any) -> None:
        self._readers[file] = asyncio.Handle(callback, args, self)

    def _next_moment(self) -> float:
        moments = [reader.moment() for reader in self._readers]
        moments += [timer[0] for timer in self._timers[:1]]
        return min(moments, default=math.inf)

    def stop(self) -> None:
        self._stops = True

    def close(self) -> None:
        self._is_closed = True
        self._ready.clear()
        self._timers.clear()

    async def shutdown_asyncgens(self) -> None:
        pass

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        pass

    def set_debug(self, enabled: bool) -> None:
        pass

    def run_forever(self) -> None:
        asyncio._set_running_loop(self)
        self._is_running, self._stops = True, False
        try:
            while not self._stops:
                self._run_once()
        finally:
            self._is_running = False
            asyncio._set_running_loop(None)

    def run_until_complete(self, future: Any) -> Any:
        if asyncio.iscoroutine(future):
            future = self.create_task(future)

        def stop(_: Any) -> None:
            self.stop()

        future.add_done_callback(stop)
        try:
            self.run_forever()
        finally:
            future.remove_done_callback(stop)
        return future.result()

    def _run_once(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        moment = self._next_moment() - self.world.now
        self.world.wait(lambda: bool(self._ready) or self._stops, moment)
        for reader, handle in self._readers.items():
            if reader.moment() <= self.world.now and handle not in self._ready:
                self._ready.append(handle)
        while self._timers and self._timers[0][0] <= self.world.now:
            self._ready.append(heapq.heappop(self._timers)[2])
        if self._ready:
            number = self.world.random.randrange(min(len(self._ready), _REACH))
            handle = self._ready.pop(number)
            if not handle.cancelled():
                handle._run()  # every loop calls this private method


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run *main* in a new loop, like ``asyncio.run``."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(main)


async def wait_for(awaitable: Any, timeout: float | None) -> Any:
    """Wait like ``asyncio.wait_for`` of Python 3.12; that of 3.11 schedules differently."""
    async with asyncio.timeout(timeout):
        return await awaitable

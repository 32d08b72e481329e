"""Supervisor: runs worker processes of the signer service on one port.

uvicorn's own ``workers`` do less: workers outlive a killed supervisor, a worker that
cannot start stops the whole service, SIGHUP restarts instead of reloading, and the
class changes its signature between versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from multiprocessing.context import SpawnProcess

from attrs import define, field

from .log import Say, say

_LONGEST_WAIT = 30.0
_SPAWN = multiprocessing.get_context("spawn")


@define(kw_only=True)
class Supervisor:
    """Starts the workers, replaces dead ones, and forwards signals.

    The workers share only a listening socket.
    """

    work: Callable[[socket.socket], object]  # called in each worker; it can be pickled
    count: int
    listener: socket.socket
    say: Say = say
    first_wait: float = 0.5  # seconds until a worker that died is replaced; they double
    good_seconds: float = 60.0  # then a death has another cause than the start
    _running: set[SpawnProcess] = field(factory=set, init=False)
    _stop: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def run(self) -> None:
        """Keep the workers running until SIGTERM or SIGINT, then wait for their end."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        keepers = [asyncio.create_task(self._keep()) for _ in range(self.count)]
        await self._stop.wait()
        self.listener.close()
        self._pass_on(signal.SIGTERM)
        await asyncio.gather(*keepers)

    def stop(self) -> None:
        """Stop every worker, and end ``run``."""
        self._stop.set()

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self.first_wait
        while not self._stop.is_set():
            began = loop.time()
            facts: dict[str, object] = {}
            try:
                facts["code"] = await self._work()
            except Exception as error:  # noqa: BLE001 - memory or a file may be there again
                facts.update(code=None, problem=f"not started: {error}")
            if self._stop.is_set():
                return
            if loop.time() - began > self.good_seconds:
                wait = self.first_wait
            self.say("worker_died", **facts, again_in=wait)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _work(self) -> int | None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        process = _SPAWN.Process(target=self.work, args=(self.listener,))
        process.start()
        self._running.add(process)
        loop.add_reader(process.sentinel, ended.set)
        await ended.wait()
        loop.remove_reader(process.sentinel)
        self._running.discard(process)
        process.join()
        return process.exitcode

    def _pass_on(self, number: int) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, number)

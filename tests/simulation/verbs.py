"""The verbs of a filesystem, in one form for callers in threads and in event loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .world import World


class ByUserError(Exception):
    """An exception of the user's own, within a ``with`` block."""


class Plain:
    """Verbs of a thread."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.fs, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return verb(*args, **kwargs)

        return call

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        return function()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Awaited:
    """Verbs of an event loop."""

    def __init__(self, fs: Any) -> None:
        self.fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.fs, f"_{name}")

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def main() -> None:
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - raised by the waiter
                failure = error
                loop.call_soon_threadsafe(
                    lambda: future.done() or future.set_exception(failure)
                )
            else:
                loop.call_soon_threadsafe(
                    lambda: future.done() or future.set_result(result)
                )

        world = World.current
        assert world is not None
        few, world.few_threads = world.few_threads, False
        thread = threading.Thread(target=main, name="file")
        thread.start()
        world.few_threads = few
        try:
            return await future
        except asyncio.CancelledError:
            while thread.is_alive():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
            raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

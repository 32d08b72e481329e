"""The verbs of a filesystem, in the same form for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from fsspec.callbacks import Callback

from .world import Broken

# Operation of a caller: when it began, the paths that it uses (empty for all), its
# name, and whether it may replace objects.
operation_of_caller: ContextVar[tuple[float, Sequence[str], str, bool]] = ContextVar(
    "operation", default=(0.0, (), "", True)
)


class ByUserError(Exception):
    """An exception that the user raises within a ``with`` block."""


class Counted(Callback):
    """Counts the bytes of a call; the bytes of a failed try are subtracted."""

    least = 0  # the lowest increment, which takes back the most bytes

    def relative_update(self, inc: int = 1) -> None:
        self.least = min(self.least, inc)
        super().relative_update(inc)

    def check(self, *sizes: int, is_even: bool = False) -> None:
        """Check that the count is one of *sizes*; *is_even* means that no try failed."""
        is_counted = self.value in sizes and self.size in sizes
        if not is_counted or (is_even and self.least):
            counted = f"{self.value} of {self.size} bytes, with {self.least},"
            raise Broken(f"{counted} were counted, but {sizes} were sent or fetched")


class Branched(Counted):
    """Counts the files of a call; each of *parts* counts the bytes of one file."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Counted] = []

    def branched(self, *_: str, **__: Any) -> Counted:
        self.parts.append(Counted())
        return self.parts[-1]


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

        operation = operation_of_caller.get()

        def main() -> None:
            operation_of_caller.set(operation)
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - the waiter raises it
                failure = error
                loop.call_soon_threadsafe(
                    lambda: future.done() or future.set_exception(failure)
                )
            else:
                loop.call_soon_threadsafe(
                    lambda: future.done() or future.set_result(result)
                )

        thread = threading.Thread(target=main, name="file")
        thread.start()
        try:
            return await future
        except asyncio.CancelledError:
            while thread.is_alive():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.01)
            raise

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

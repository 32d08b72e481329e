"""The engine's loop in debug mode, and processes without an engine."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator

import pytest

from fsspec_osspresigned.engine import engine
from fsspec_osspresigned.engine.engine import Engine, run


async def _set_debug(value: bool) -> None:
    loop = asyncio.get_running_loop()
    loop.set_debug(value)
    loop.slow_callback_duration = math.inf  # asyncio would log in the loop's thread


@pytest.fixture(autouse=True)
def debugging() -> Iterator[None]:
    """Let asyncio check that each call comes from the right thread."""
    run(_set_debug, True)
    yield
    run(_set_debug, False)


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with a new engine, as in a process that has made no call."""
    monkeypatch.setattr(engine, "_engine", Engine())


def wait_until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until *is_so* returns True."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it does not become true"
        time.sleep(0.005)

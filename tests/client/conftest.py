"""Fixtures and helpers of the tests of the express lane."""

from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import evolve

# Before ``patient`` replaces the class for uploads: the first import keeps what it finds.
import fsspec_osspresigned.filesystem.move
import fsspec_osspresigned.filesystem.read
import fsspec_osspresigned.syncing  # noqa: F401
from fsspec_osspresigned.client.express_lane import ExpressLane
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http.lane import Lane

ROOT = "examplebucket"


@pytest.fixture
def patient(monkeypatch) -> None:
    """Let the lane wait for a busy machine, unless a test makes everything too slow."""
    run = ExpressLane.run

    def patiently(lane, *args):
        return run(evolve(lane, slow=math.inf) if lane.slow > 0 else lane, *args)

    monkeypatch.setattr(ExpressLane, "run", patiently)


@pytest.fixture
def tries(monkeypatch) -> list[Any]:
    """The tries that the lane sends, in this order."""
    sent: list[Any] = []
    send = Lane.send

    def noted(self, *some):
        sent.extend(some)
        send(self, *some)

    monkeypatch.setattr(Lane, "send", noted)
    return sent


def values(count: int, size: int = 100) -> dict[str, bytes]:
    """Return as many values, all different."""
    return {f"{ROOT}/{n:03}": f"{n}".encode() * size for n in range(count)}


def stored(oss: Emulator) -> dict[str, bytes]:
    """Return path -> bytes of all that is stored."""
    return {f"{ROOT}/{key}": data for key, data in oss.objects(ROOT).items()}

"""A warning is issued early if an upload will outlive its URLs."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fsspec_osspresigned.upload import modes


@pytest.fixture
def watch_of(monkeypatch):
    """Return a maker of watches on a clock that is set by hand, and begins at 1,000."""
    clock = SimpleNamespace(now=1_000.0)
    read = lambda: clock.now  # noqa: E731 - both clocks
    monkeypatch.setattr(modes, "time", SimpleNamespace(time=read, monotonic=read))
    return lambda size, ends: (clock, modes.ExpiryWatch("b/k", size, ends))


def test_late_is_told_once(watch_of, caplog):
    """By name, with the moment, and by how much the URLs fall short."""
    clock, watch = watch_of(1_000, 1_050.0)
    for _ in range(3):
        clock.now += 10
        watch.add(100)  # ten bytes a second: 100 seconds in all
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    assert said.startswith("b/k: at this rate")
    assert "1970-01-01T00:17:30Z" in said
    assert "live 51 s longer" in said


@pytest.mark.parametrize(
    ("size", "ends", "seconds"),
    [(1_000, 1_200.0, 10), (1_000, None, 10), (None, 1_001.0, 10), (1_000, 1_001.0, 1)],
    ids=["in time", "no end", "a stream", "too early to tell"],
)
def test_nothing_to_tell(watch_of, caplog, size, ends, seconds):
    """No warning if the upload is in time, or cannot be estimated."""
    clock, watch = watch_of(size, ends)
    clock.now += seconds
    watch.add(100)
    assert not caplog.records

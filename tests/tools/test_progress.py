"""Counts of a transfer, and the bar, lines and events that show them."""

from __future__ import annotations

import sys

import pytest

from fsspec_osspresigned.tools.output import Output
from fsspec_osspresigned.tools.progress import TransferProgress
from tests.tools.cli.conftest import Text


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """A clock that does not move."""
    return Clock()


class Events(list):
    """The recorded events."""

    def __call__(self, event, **members):
        self.append({"event": event, **members})


class Screen(Text):
    """A terminal of 80 columns in place of standard error."""

    def __init__(self, monkeypatch, *, terminal=True):
        super().__init__(terminal=terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr("sys.stderr", self)


def test_a_bar_is_drawn_and_removed(monkeypatch, clock):
    """It names a file under way without escapes or markup; lines appear above it."""
    screen = Screen(monkeypatch)
    with TransferProgress(bar=True, files=2, size=100, clock=clock) as bar:
        for name in ("b/[red]\x1b[2J", "b/c"):
            bar.begin(name)
        clock.now = 5.0
        bar.move(50)
        Output(sys.stderr).line("a line")
    assert "50%" in screen.text
    assert "50/100 bytes" in screen.text
    assert "0/2 files" in screen.text
    assert "[red]\\x1b[2J +1" in screen.text
    assert "a line\n" in screen.text
    assert screen.text.count("\x1b[?25l") == screen.text.count("\x1b[?25h") == 1


def test_progress_as_events(clock):
    """Once a second."""
    events = Events()
    progress = TransferProgress(event=events, files=2, clock=clock)
    for _ in range(2):
        clock.now += 1
        with progress.branched("f", "b/k") as child:
            child.set_size(10)
            child.relative_update(10)
    progress.relative_update(1)
    first, second = events
    assert first["event"] == "progress"
    assert (first["files"], first["files_done"]) == (2, 0)
    assert (first["bytes"], first["bytes_done"]) == (10, 10)
    assert second["files_done"] == 1
    assert second["bytes_done"] == 20
    assert second["rate"] == 10

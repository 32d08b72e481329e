"""Bytes on the way, drawn for people."""

from __future__ import annotations

import io

import pytest
from fsspec.callbacks import DEFAULT_CALLBACK, Callback, NoOpCallback

from fsspec_osspresigned.filesystem.progress import BytesProgress, SharedCallback


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_nobody_is_told_when_nobody_listens():
    """The default callback costs nothing."""
    assert SharedCallback(DEFAULT_CALLBACK).counter is None
    assert SharedCallback(NoOpCallback()).counter is None


def test_a_callback_is_told_size_and_bytes():
    """Negative numbers take back a failed try."""
    callback = Callback()
    told = SharedCallback(callback)
    told.set_size(10)
    for sent in (6, -6, 10):
        told.counter(sent)
    assert (callback.size, callback.value) == (10, 10)


def test_branches_are_added_up():
    """The root counts files for fsspec; the bar counts the bytes of its branches."""
    stream = io.StringIO()
    with BytesProgress(stream, label="up ") as bar:
        bar.set_size(2)
        one, two = bar.branched("a", "b"), bar.branched("c", "d")
        one.set_size(3 * 1024)
        two.set_size(1024)
        two.set_size(1024)
        one.relative_update(1024)
        one.absolute_update(3 * 1024)
        bar.relative_update(1)
        bar.set_size(2)
        two.set_size(None)
        two.set_size(1024)
        assert (bar.total, bar.done) == (4096, 3072)
        two.relative_update(1024)
        bar.relative_update(1)
        assert (bar.size, bar.value) == (2, 2)
    assert stream.getvalue().startswith(f"up [{'#' * 24}] 100% 4.0 KiB of 4.0 KiB, ")
    assert stream.getvalue().count("\n") == 1


def test_one_file_is_counted_at_the_root():
    """``put_file`` has no branches."""
    bar = BytesProgress(io.StringIO())
    bar.set_size(None)
    bar.set_size(10)
    bar.relative_update(4)
    bar.absolute_update(9)
    assert (bar.total, bar.done, bar.value) == (10, 9, 9)


def test_a_terminal_sees_it_move():
    """The line is drawn over itself, without remains of a longer one."""
    stream = Terminal()
    bar = BytesProgress(stream, every=0)
    bar.set_size(4 * 1024**3)
    bar.relative_update(1024**3)
    bar.relative_update(1024**3 * 3)
    bar.close()
    lines = stream.getvalue().split("\r")
    assert len(lines) == 4
    assert "  25% 1.0 GiB of 4.0 GiB" in lines[1]
    assert all(len(line.rstrip("\n")) >= 60 for line in lines[1:])


def test_a_terminal_is_not_drawn_on_all_the_time():
    """Drawing is rarer than blocks are."""
    stream = Terminal()
    bar = BytesProgress(stream, every=1000)
    bar.add(10, 0)
    for _ in range(10):
        bar.add(0, 1)
    assert stream.getvalue().count("\r") <= 1


@pytest.mark.parametrize("done", [0, 5, 20])
def test_odd_totals_are_drawn(done):
    """An unknown or exceeded total is no error."""
    stream = io.StringIO()
    bar = BytesProgress(stream)
    bar.add(0, done)
    bar.close()
    assert "100%" in stream.getvalue()

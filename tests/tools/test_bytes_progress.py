"""A bar of bytes for callers in Python."""

from __future__ import annotations

import io
import time

import pytest

from fsspec_osspresigned import BytesProgress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Notebook(io.StringIO):
    """A stream of a kernel, as far as its class tells."""

    __module__ = "ipykernel.iostream"


def test_one_file_is_counted_at_the_root():
    """``put_file`` has no branches."""
    bar = BytesProgress(io.StringIO())
    bar.set_size(None)
    bar.set_size(10)
    bar.relative_update(4)
    bar.absolute_update(9)
    assert (bar.total, bar.done, bar.value) == (10, 9, 9)


@pytest.mark.parametrize("kind", [Terminal, Notebook])
def test_a_bar_is_drawn_over_itself(kind, monkeypatch):
    """Also where a failed try is taken back, and on standard error by default."""
    stream = kind()
    monkeypatch.setattr("sys.stderr", stream)
    with BytesProgress(label="up ", every=0) as bar:
        bar.set_size(4 * 1024**3)
        bar.relative_update(2 * 1024**3)
        bar.relative_update(-(1024**3))
        bar.relative_update(3 * 1024**3)
    _, *lines = stream.getvalue().split("\r")
    assert len(lines) == 4
    assert all("up [#" in line for line in lines)
    assert " 50%  2.0/4.0 GiB" in lines[0]
    assert " 25%  1.0/4.0 GiB" in lines[1]
    assert "100%  4.0/4.0 GiB" in lines[3]
    assert lines[3].endswith("\n")
    if kind is Notebook:  # nothing is left of a longer line
        assert {len(line.rstrip("\n")) for line in lines} == {79}


def test_a_terminal_is_not_drawn_on_all_the_time():
    """Drawing is rarer than blocks are."""
    stream = Terminal()
    bar = BytesProgress(stream, every=1000)
    bar.set_size(11)
    for _ in range(10):
        bar.relative_update(1)
    assert stream.getvalue().count("\r") == 1
    bar.relative_update(1)
    assert "100%" in stream.getvalue()


def test_a_file_gets_a_line_now_and_then(monkeypatch):
    """A log grows by a line every 10 seconds."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with BytesProgress(stream, label="up ") as bar:
        bar.set_size(4096)
        for _ in range(4):
            bar.relative_update(1024)
            now[0] += 6
    first, second = stream.getvalue().splitlines()
    assert first == "up 3.0 KiB of 4.0 KiB, 171 B/s, 0:06 left"
    assert second.startswith("up 4.0 KiB of 4.0 KiB, ")


@pytest.mark.parametrize(("done", "text"), [(0, "0 B, "), (5, "5 B, "), (20, "20 B, ")])
def test_an_unknown_total_is_not_shown(done, text):
    """The bytes are, and in a terminal there is no share."""
    for stream in (io.StringIO(), Terminal()):
        bar = BytesProgress(stream, every=1000)
        bar.relative_update(done)
        bar.close()
        assert text.rstrip(", ") in stream.getvalue()
        assert "%" not in stream.getvalue()


def test_an_exceeded_total_is_no_error():
    """A file may grow while it is read."""
    stream = Terminal()
    with BytesProgress(stream) as bar:
        bar.set_size(5)
        bar.relative_update(20)
    assert "100%  20/5 B" in stream.getvalue()

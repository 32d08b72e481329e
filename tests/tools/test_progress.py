"""Counters, and what they show."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.model import Receipt
from fsspec_osspresigned.tools.progress import (
    Display,
    Events,
    Lines,
    Meter,
    TransferProgress,
    short_seconds,
)
from fsspec_osspresigned.tools.terminal import Failure, Output
from fsspec_osspresigned.units import MIB
from fsspec_osspresigned.upload.resume import UploadEvent
from tests.tools.cli.conftest import Text


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


def test_meter_shows_what_fits(clock):
    """The narrower, the less; never more than the width."""
    meter = Meter(clock, files=10, size=100 * MIB)
    for _ in range(10):
        clock.now += 1
        meter.move(5 * MIB)
    meter.files_done, meter.files_failed = 4, 1
    assert meter.line(100) == (
        f"[{'#' * 20}{' ' * 20}]  50%  50.0/100 MiB  0:10  5.0 MiB/s  "
        "4/10 files, 1 failed"
    )
    assert meter.line(39) == " 50%  50.0/100 MiB  0:10  5.0 MiB/s"
    assert meter.line(20) == " 50%  50.0/100 MiB"
    for width in range(1, 120):
        assert len(meter.line(width)) <= width
    assert meter.sentence() == (
        "4 of 10 files, 50.0 MiB of 100 MiB, 5.0 MiB/s, 0:10 left, 1 failed"
    )


def test_meter_names_files_under_way(clock):
    """The oldest one by its end, and how many more; never more than the width."""
    meter = Meter(clock, files=10, size=100 * MIB)
    clock.now += 1
    meter.move(50 * MIB)
    meter.running = {"b/in/a.csv": None}
    assert meter.line(100).endswith("0/10 files  a.csv")
    meter.running = {f"b/in/{'x' * 40}.csv": None, "b/in/a.csv": None}
    assert meter.line(100).endswith(f"0/10 files  ...{'x' * 12}.csv +1")
    meter.running = {"b/in/\N{CJK UNIFIED IDEOGRAPH-5317}" * 20: None}
    for width in range(1, 120):
        line = meter.line(width)
        assert len(line) + line.count("\N{CJK UNIFIED IDEOGRAPH-5317}") <= width
    assert "in" not in meter.line(60)


def test_meter_looks_back_only_so_far(clock):
    """The rate is that of late; what is taken back makes none below zero."""
    meter = Meter(clock, size=1000)
    for _ in range(100):
        clock.now += 1
        meter.move(1)
    for _ in range(20):
        clock.now += 1
        meter.move(10)
    assert meter.rate == pytest.approx(10)
    meter.move(-900)
    assert meter.rate == 0
    assert meter.left is None
    assert "left" not in meter.sentence()


def test_meter_without_bytes_counts_files(clock):
    """Empty files are work, too."""
    meter = Meter(clock)
    assert meter.share == 0
    assert meter.rate == 0
    meter.files, meter.files_done = 4, 1
    assert meter.share == 0.25
    assert meter.line(30) == " 25%  0 B  0 B/s  1/4 files"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (5.4, "0:05"), (65, "1:05"), (7384, "2:03:04"), (1e12, "99:59:59")],
)
def test_seconds_are_a_clock(seconds, shown):
    """Hours only where there are any."""
    assert short_seconds(seconds) == shown


def test_progress_is_a_line_now_and_then(clock):
    """Elsewhere than on a terminal: every ten seconds, and no bar."""
    stream = Text()
    progress = TransferProgress(Lines(Output(stream)), files=1, size=100, clock=clock)
    with progress.branched("f", "b/k") as child:
        child.set_size(100)
        for _ in range(25):
            clock.now += 1
            child.absolute_update(child.value + 4)
    assert stream.text.splitlines() == [
        "0 of 1 files, 40 B of 100 B, 4 B/s, 0:15 left",
        "0 of 1 files, 80 B of 100 B, 4 B/s, 0:05 left",
    ]
    assert progress.meter.files_done == 1


def test_progress_as_events(clock):
    """Once a second; what nobody can tell is null."""
    out = Text()
    progress = TransferProgress(Events(Output(out)), clock=clock)
    progress.set_size(2)
    for _ in range(2):
        clock.now += 1
        with progress.branched("f", "b/k") as child:
            child.set_size(10)
            child.relative_update(10)
    progress.relative_update(1)
    first, second = out.text.splitlines()
    assert first == (
        '{"event": "progress", "files_done": 0, "files_failed": 0, "files": 2, '
        '"bytes_done": 10, "bytes": 10, "rate": 10, "seconds_left": 0.0}'
    )
    assert '"files_done": 1' in second
    assert '"bytes_done": 20' in second


def test_unknown_end_is_null(clock):
    """A stream has no size, so nobody can tell when it ends."""
    out = Text()
    progress = TransferProgress(Events(Output(out)), files=1, clock=clock)
    clock.now = 2.0
    progress.move(10)
    assert '"seconds_left": null' in out.text


def test_quiet_says_nothing(clock):
    """Not even about failures: the summary does."""
    progress = TransferProgress(Display(), clock=clock)
    progress.fail("b/k", "", OSError("x"))
    progress.fail("b/k", "", OSError("again"))
    progress.stored("f", Receipt(path="b/k", size=1))
    Display().moved(progress.meter)
    assert progress.meter.files_failed == 1
    assert str(progress.failures["b/k"].error) == "x"


def test_lines_leave_files_to_the_summary():
    """A receipt or failure is no line of its own."""
    stream = Text()
    lines = Lines(Output(stream))
    lines.stored("f", Receipt(path="b/k", size=1))
    lines.failed(Failure("b/k", "", OSError("x")))
    assert stream.text == ""


def test_interrupted_file_is_neither_done_nor_failed(clock):
    """KeyboardInterrupt passes through."""
    progress = TransferProgress(Display(), files=1, clock=clock)
    with pytest.raises(KeyboardInterrupt), progress.branched("f", "b/k"):
        raise KeyboardInterrupt
    assert not progress.failures
    assert progress.meter.files_done == 0


def test_resumed_bytes_are_not_limited(clock):
    """The bytes of an earlier run move the bar, but take no share of the rate."""
    taken = []

    class Rate:
        take = taken.append

    progress = TransferProgress(Display(), files=1, size=100, rate=Rate(), clock=clock)
    event = UploadEvent(
        kind="resumed",
        path="b/k",
        upload_id="1",
        parts_stored=6,
        parts=10,
        bytes_stored=60,
        bytes=100,
    )
    progress.on_upload_event(event)
    with progress.branched("f", "b/k") as child:
        child.relative_update(50)
        child.relative_update(50)
    clock.now = 4
    assert taken == [40]
    assert progress.meter.share == 1
    assert progress.meter.rate == pytest.approx(10)


def test_files_under_way_are_those_that_have_not_ended(clock):
    """However they end."""
    progress = TransferProgress(Display(), clock=clock)
    for name in "abc":
        progress.begin(f"b/{name}")
    progress.end_one("b/a", "a", is_file=True)
    progress.fail("b/b", "b", ValueError("no"))
    assert [*progress.meter.running] == ["b/c"]

"""What the commands are made of: rate, meter, codes, summary, interruption, output."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import termios
import threading
import time
from pathlib import Path

import pytest

from fsspec_osspresigned import errors
from fsspec_osspresigned.cli.options import Transfer
from fsspec_osspresigned.console import exit as interruption
from fsspec_osspresigned.console import terminal
from fsspec_osspresigned.console.exit import (
    ExitCode,
    Failure,
    code_of,
    code_of_all,
    interruptible,
    why,
)
from fsspec_osspresigned.console.progress import (
    Events,
    Lines,
    Meter,
    Quiet,
    Rate,
    TransferProgress,
    short_bytes,
    short_seconds,
)
from fsspec_osspresigned.console.summary import Summary
from fsspec_osspresigned.console.terminal import Output
from fsspec_osspresigned.model import Receipt
from fsspec_osspresigned.units import GIB, KIB, MIB
from tests.cli.conftest import Text

DOCS = Path(__file__).parent.parent.parent / "docs"


class Clock:
    """Seconds that a test moves; waiting moves them, too."""

    def __init__(self):
        self.now = 0.0
        self.waits = []

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


# -- rate ------------------------------------------------------------------------------


def test_rate_is_kept_by_blocks_of_any_size(clock):
    """So many bytes take so many seconds, but for what a pause has saved."""
    rate = Rate(1000, clock=clock, wait=clock.wait)
    for size in (100, 5000, 1, 899, 4000):
        rate.take(size)
    assert clock.now == pytest.approx(10 - 0.25)


def test_pause_saves_a_quarter_of_a_second(clock):
    """Nobody may make up for an hour at once."""
    rate = Rate(1000, clock=clock, wait=clock.wait)
    clock.now = 3600.0
    rate.take(250)
    assert clock.waits == []
    rate.take(100)
    assert clock.waits == [pytest.approx(0.1)]


def test_rate_that_is_lifted_lets_everybody_go():
    """Also those who wait already."""
    rate = Rate(1)
    waiting = threading.Thread(target=rate.take, args=(1_000_000,))
    waiting.start()
    rate.lift()
    waiting.join(10)
    assert not waiting.is_alive()
    rate.take(1_000_000)


def test_rate_waits_by_itself():
    """A short wait ends by itself."""
    started = time.monotonic()
    Rate(1000).take(300)
    assert time.monotonic() - started >= 0.04


# -- meter -----------------------------------------------------------------------------


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
    assert meter.line(30) == " 25%  0/0 B  0 B/s  1/4 files"


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (12.3 * MIB, "12.3 MiB"),
     (512 * KIB, "512 KiB"), (3 * GIB, "3.0 GiB"), (2000 * GIB, "2.0 TiB")],
)  # fmt: skip
def test_bytes_have_three_digits(number, shown):
    """People compare sizes, and copy them from nowhere."""
    assert short_bytes(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (5.4, "0:05"), (65, "1:05"), (7384, "2:03:04"), (1e12, "99:59:59")],
)
def test_seconds_are_a_clock(seconds, shown):
    """Hours only where there are any."""
    assert short_seconds(seconds) == shown


# -- codes, failures, summary ----------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotSignedError("x"), 3),
        (errors.AccessDeniedError("x"), 3),
        (errors.BindingError("x"), 3),
        (errors.SignerError("x", status=401), 3),
        (errors.SignerError("x", status=400), 1),
        (errors.ConfigurationError("x"), 2),
        (errors.NetworkTimeoutError("x"), 4),
        (errors.SignerUnavailableError("x"), 4),
        (errors.StoreUnavailableError("x"), 4),
        (errors.OutcomeUnknownError("x"), 5),
        (errors.ObjectNotFoundError("x"), 1),
        (PermissionError(13, "local"), 1),
        (RuntimeError("x"), 1),
        (errors.UploadErrors("x", failures={"a": errors.NotSignedError("y")}), 3),
    ],
)
def test_every_error_has_its_code(error, code):
    """The page lists them; programs rely on them."""
    assert code_of(error) == code


def test_code_of_several():
    """One kind has its code if nothing went well."""
    denied, network = errors.NotSignedError("x"), errors.NetworkError("x")
    assert code_of_all([], went_well=0) is ExitCode.OK
    assert code_of_all([denied, denied], went_well=0) is ExitCode.DENIED
    assert code_of_all([denied, denied], went_well=1) is ExitCode.FAILED
    assert code_of_all([denied, network], went_well=0) is ExitCode.FAILED


def test_page_lists_every_code():
    """Number and name, and no other."""
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert [(str(int(code)), code.name) for code in ExitCode] == rows


def test_reasons_hold_no_secret():
    """Nor what could steer a terminal; a list of problems keeps its lines."""
    assert why(errors.ConfigurationError(["a", "b"])) == "2 problems:\n- a\n- b"
    assert why(FileNotFoundError(2, "No such file", "x")) == "No such file"
    assert "c2VjcmV0" not in why(ValueError("https://h/k?Signature=c2VjcmV0"))
    assert why(OSError("odd")) == "OSError: odd"
    assert why(OSError(5, "a\x1b[2J")) == "a\\x1b[2J"


def failure(path, error):
    """Return one that concerns no local file."""
    return Failure(path, "", error)


def test_equal_failures_are_one(clock):
    """But for the id of the request; ten are named at most."""
    texts = [f"refused [EC 1, request id {n}]" for n in range(11)]
    found = [
        failure(f"b/{n}", errors.AccessDeniedError(t)) for n, t in enumerate(texts)
    ]
    found.append(failure("b/x", errors.OutcomeUnknownError("lost [request id 1]")))
    summary = Summary(verb="stored", done=1, files=13, failures=found)
    lines = list(summary.lines())
    assert lines[0] == "11 not stored: refused [EC 1]"
    assert lines[1:11] == [f"  b/{n}" for n in range(10)]
    assert lines[11:] == [
        "  and 1 more (--json names all)",
        "b/x: unknown whether stored: lost [request id 1]",
        "stored 1 of 13 files; 12 failed",
    ]
    assert summary.code is ExitCode.FAILED


def test_long_transfers_end_with_a_clock():
    """Seconds below a minute, a clock above."""
    summary = Summary(verb="fetched", done=1, files=1, failures=(), size=MIB, seconds=128)  # fmt: skip
    assert list(summary.lines()) == ["fetched 1 file, 1.0 MiB in 2:08 (8.0 KiB/s)"]


@pytest.mark.parametrize(
    ("room", "last"),
    [
        (None, "stored 3 files, 1.3 MiB in 0.5 s (2.7 MiB/s)"),
        (44, "stored 3 files, 1.3 MiB in 0.5 s (2.7 MiB/s)"),
        (43, "stored 3 files, 1.3 MiB in 0.5 s"),
        (32, "stored 3 files, 1.3 MiB in 0.5 s"),
        (31, "stored 3 files, 1.3 MiB"),
        (22, "stored 3 files, 1.3\nMiB"),
    ],
)
def test_last_line_fits_the_terminal(room, last):
    """The rate is left out first, then the time; the rest breaks at a blank."""
    summary = Summary(verb="stored", done=3, files=3, failures=(), size=1_400_000, seconds=0.5)  # fmt: skip
    assert list(summary.lines(room)) == [last]


def test_what_failed_is_never_left_out():
    """However narrow it is, the last line tells what is not done."""
    summary = Summary(
        verb="stored",
        done=1,
        files=100,
        failures=[failure("b/k", ValueError("no"))],
        size=MIB,
        seconds=1,
        interrupted=True,
    )
    assert list(summary.lines(39)) == [
        "b/k: not stored: ValueError: no",
        "interrupted: stored 1 of 100 files, 1.0\nMiB; 1 failed; 98 left",
    ]


# -- progress --------------------------------------------------------------------------


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
    progress = TransferProgress(Quiet(), clock=clock)
    progress.fail("b/k", "", OSError("x"))
    progress.fail("b/k", "", OSError("again"))
    progress.stored("f", Receipt(path="b/k", size=1))
    Quiet().moved(progress.meter)
    assert progress.meter.files_failed == 1
    assert str(progress.failures["b/k"].error) == "x"


def test_lines_leave_files_to_the_summary():
    """A receipt or failure is no line of its own."""
    stream = Text()
    lines = Lines(Output(stream))
    lines.stored("f", Receipt(path="b/k", size=1))
    lines.failed(failure("b/k", OSError("x")))
    assert stream.text == ""


def test_interrupted_file_is_neither_done_nor_failed(clock):
    """KeyboardInterrupt passes through."""
    progress = TransferProgress(Quiet(), files=1, clock=clock)
    with pytest.raises(KeyboardInterrupt), progress.branched("f", "b/k"):
        raise KeyboardInterrupt
    assert not progress.failures
    assert progress.meter.files_done == 0


def test_error_about_the_whole_is_raised():
    """It is no failure of one file."""
    transfer = Transfer(out=Output(Text()), err=Output(Text()))
    progress = transfer.progress()

    def fail():
        raise errors.ConfigurationError("all wrong")

    with pytest.raises(errors.ConfigurationError):
        transfer.carry_out("stored", progress, fail)


def test_failure_that_is_told_is_not_raised():
    """What a file has failed by is in the summary already."""
    err = Text()
    transfer = Transfer(out=Output(Text()), err=Output(err))
    progress = transfer.progress(files=1)

    def fail():
        with progress.branched("f", "b/k"):
            raise errors.NetworkError("gone")

    assert transfer.carry_out("stored", progress, fail) is ExitCode.NETWORK
    told, summary = err.text.splitlines()
    assert told == "b/k: not stored: gone"
    assert re.fullmatch(
        r"stored 0 of 1 file, 0 B in \d+\.\d s \(0 B/s\); 1 failed", summary
    )


def test_given_up_files_are_no_failures_of_an_interrupt():
    """They are what is left."""
    err = Text()
    transfer = Transfer(out=Output(Text()), err=Output(err))
    progress = transfer.progress(files=2)

    def act():
        progress.fail("b/k", "f", errors.UploadDiscardedError("given up"))
        raise KeyboardInterrupt

    assert transfer.carry_out("deleted", progress, act) is ExitCode.INTERRUPTED
    assert err.text == "interrupted: deleted 0 of 2 files; 2 left\n"


# -- interruption ----------------------------------------------------------------------


@pytest.fixture
def default_sigint():
    """Put Python's own handler in place, and back what was there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_second_interrupt_ends_the_process(default_sigint, monkeypatch):
    """The first one raises, and lets those go who wait; the second is the end."""
    ended, lifted = [], []
    monkeypatch.setattr(interruption.os, "_exit", ended.append)
    monkeypatch.setattr(interruption.os, "write", lambda *_: 0)
    with pytest.raises(KeyboardInterrupt), interruptible(lambda: lifted.append(1)):
        signal.raise_signal(signal.SIGINT)
    assert lifted == [1]
    assert ended == []
    signal.raise_signal(signal.SIGINT)
    assert ended == [130]


def test_handler_is_put_back(default_sigint):
    """A command that ends well leaves nothing behind."""
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_handler_of_others_is_replaced(default_sigint):
    """Programs that handle SIGINT keep it; other threads may set none."""

    def own(*_):
        pass

    signal.signal(signal.SIGINT, own)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is own
    done = []

    def elsewhere():
        with interruptible():
            done.append(1)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == [1]


# -- output ----------------------------------------------------------------------------


def test_output_draws_on_terminals_only(monkeypatch):
    """What is drawn is cleared before the next line."""
    monkeypatch.setenv("TERM", "xterm")
    stream = Text(terminal=True)
    output = Output(stream)
    output.draw("50%")
    output.line("done")
    output.line("end")
    assert stream.text == "\r\x1b[K50%\r\x1b[Kdone\nend\n"
    plain = Text()
    Output(plain).draw("50%")
    assert plain.text == ""


def test_width_is_that_of_the_terminal(monkeypatch):
    """One column stays free, so that no terminal wraps; there is a least."""
    monkeypatch.setenv("COLUMNS", "40")
    assert Output(Text()).width == 39
    monkeypatch.setenv("COLUMNS", "3")
    assert Output(Text()).width == 20


def test_room_is_for_terminals(monkeypatch):
    """In a file or a pipe a line may have any length; TERM=dumb wraps, too."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "dumb")
    assert Output(Text()).room is None
    assert Output(Text(terminal=True)).room == 39


@pytest.mark.parametrize(("columns", "width"), [(47, 46), (0, 79)])
def test_width_is_that_of_the_stream(monkeypatch, columns, width):
    """Of standard error, where standard output is a pipe; 80 if it does not tell."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(master, "rb"), os.fdopen(slave, "w") as stream:
        assert Output(stream).width == width


def test_output_is_silent_once_nobody_reads():
    """The work goes on; the descriptor leads nowhere from then on."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        output = Output(stream)
        output.line("x")
        assert output.closed
        output.line("y")
    terminal.silence(io.StringIO())

"""The program as a child: terminals, signals, pipes, completion, ``python -m``."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.units import KIB, MIB
from tests.tools.cli.conftest import BUCKET, KEYS, SIGNATURE, environment, stored

PROGRAM = [sys.executable, "-m", "fsspec_osspresigned"]
TO = f"{BUCKET}/in/"


# The shell's part: its keys become signals for this process, which does not ignore them
# even if whoever started the tests, in the background, had them ignored.
_AT_ITS_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Child:
    """The program on a terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 80, **more: str) -> None:
        self.master, slave = pty.openpty()
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AT_ITS_TERMINAL, *PROGRAM, *arguments],
            start_new_session=True,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM="xterm", **more),
        )
        os.close(slave)
        self.output = ""

    def read(self, until: str | None = None, *, press: bytes = b"") -> str:
        """Read up to *until*, or to the end; return all of the output so far.

        *press* is pressed every second: a Ctrl-C that comes just before Python begins to
        wait for a line is seen after that line only.
        """
        deadline = time.monotonic() + 50
        pressed = time.monotonic() - 1
        while until is None or until not in self.output:
            assert time.monotonic() < deadline, self.output
            if press and time.monotonic() - pressed >= 1:
                self.press(press)
                pressed = time.monotonic()
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    block = os.read(self.master, 65536)
                except OSError:  # the other side is closed
                    break
                self.output += block.decode(errors="replace")
        return self.output

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        """Return the exit code."""
        self.read()
        os.close(self.master)
        assert not SIGNATURE.search(self.output)
        return self.process.wait(20)


def drawn(output: str) -> list[str]:
    """Return the lines that were drawn over each other, without colours."""
    lines = re.split(r"\x1b\[2K|\r\n", output)
    return [
        text for line in lines if (text := re.sub(r"\x1b\[[0-9;?]*\w|\r", "", line))
    ]


@pytest.fixture
def big(tmp_path, oss):
    """A file of 20 MiB, in three parts."""
    (tmp_path / "big.bin").write_bytes(os.urandom(20 * MIB))
    return oss


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 100])
def test_progress_fits_the_terminal(big, columns):
    """Share, bytes, time and rate, in 40 columns as in 100; only the summary stays."""
    child = Child("put", "big.bin", TO, *KEYS, "--bwlimit", "40M", columns=columns)
    assert child.end() == 0
    *lines, last = drawn(child.output)
    assert len(lines) > 1
    assert all(len(line) <= columns for line in lines)
    shown = r"\d+% +\S+/20.0 MiB +\d\d:\d\d +\S+ .iB/s"
    assert any(re.search(shown, line) for line in lines)
    assert any("0/1 files big.bin" in line for line in lines) == (columns == 100)
    assert last.startswith("uploaded 1 file, 20.0 MiB in ")
    assert child.output.count("\x1b[?25h") == 1  # the cursor is there again
    assert len(stored(big)) == 1


@pytest.mark.slow
def test_url_is_pasted_and_not_shown(oss, url, tree):
    """At a terminal it is asked for, in one line; Ctrl-C there is exit 130."""
    child = Child("put", "data/a.csv", "--url-file", "-")
    child.read("then Enter: ")
    child.press(url("k").encode() + b"\n")
    assert child.end() == 0
    assert "?" not in child.output
    assert stored(oss) == {"k": b"a"}
    child = Child("put", "data/a.csv", "--url-file", "-")
    child.read("then Enter: ")
    child.read(press=b"\x03")
    # A second Ctrl-C may find the program at its end. A shell says 130 for both.
    assert child.end() in {130, -signal.SIGINT}
    assert "Traceback" not in child.output


def test_ctrl_c_ends_in_good_order(big):
    """Exit 130, parts removed, the line says what was done; nothing is published."""
    child = Child("put", "big.bin", TO, *KEYS, "--bwlimit", "2M")
    child.read(" 1")
    child.press(b"\x03")
    assert child.end() == 130
    assert "press Ctrl-C again to quit at once" in child.output
    last = drawn(child.output)[-1]
    assert re.fullmatch("interrupted: uploaded 0 of 1 file.*; 1 left", last)
    assert "Traceback" not in child.output
    assert stored(big) == {}
    assert not big.uploads(BUCKET)


def test_ctrl_c_keeps_what_can_be_gone_on_with(big):
    """With --resume the parts stay, and the same command sends the rest."""
    call = ("put", "big.bin", TO, *KEYS, "--part-size", "1MiB", "--resume-dir", "kept")
    child = Child(*call, "--bwlimit", "4M", "--max-concurrency", "2")
    while sum(one.action == "UploadPart" for one in big.requests) < 4:
        time.sleep(0.01)
    child.press(b"\x03")
    assert child.end() == 130
    assert re.search(r"\d+ of 20 parts, .* of 20.0 MiB, are stored; ", child.output)
    assert len(big.uploads(BUCKET)) == 1
    big.clear()
    again = Child(*call)
    assert again.end() == 0
    assert re.search(
        r"resumed from \d+ of 20 parts, [0-9.]+ MiB of 20.0 MiB", again.output
    )
    sent = sum(one.action == "UploadPart" for one in big.requests)
    assert 0 < sent < 18
    assert not big.uploads(BUCKET)
    assert len(stored(big)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["put", "sync"])
def test_interrupted_requests_are_of_unknown_outcome(oss, tree, command, end):
    """The objects may be stored, so they are not among those that are left."""
    oss.faults.add(Fault(action="PutObject", delay=30, times=None))
    child = subprocess.Popen(
        [*PROGRAM, command, "data/", TO, *KEYS, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    while len(stored(oss)) < 3:
        time.sleep(0.01)
    child.send_signal(end)
    last = json.loads(child.communicate(timeout=50)[0].splitlines()[-1])
    assert sorted(last["in_flight"]) == sorted(f"{BUCKET}/{key}" for key in stored(oss))
    assert (last["done"], last["failed"], last["untried"]) == (0, 0, 0)


def test_ctrl_c_twice_ends_at_once(oss, tmp_path):
    """Even while a store that never answers is waited for."""
    (tmp_path / "f").write_bytes(b"x" * 300 * KIB)
    (tmp_path / "g").write_bytes(b"x" * 300 * KIB)
    oss.faults.add(Fault(action="PutObject", key="in/f", stall_reply_after=0, times=None))  # fmt: skip
    child = Child("put", "g", "f", TO, *KEYS, "--quiet")
    while "PutObject" not in {one.action for one in oss.requests}:
        time.sleep(0.01)
    child.press(b"\x03")
    child.read("press Ctrl-C again to quit at once")
    child.press(b"\x03")
    assert child.end() == 130
    assert "interrupted" not in child.output
    assert "Traceback" not in child.output


def test_sigterm_removes_the_parts(big):
    """No way to end the process leaves parts in the store."""
    child = Child("put", "big.bin", TO, *KEYS, "--bwlimit", "2M")
    child.read(" 1")
    child.process.terminate()
    assert child.end() == -signal.SIGTERM
    _, _, rest = child.output.partition("terminated: unfinished uploads are discarded")
    # The process may end before it knows that the upload was discarded.
    ends = "1 (?:left|in flight: outcome unknown)"
    assert re.fullmatch(f"interrupted: uploaded 0 of 1 file.*; {ends}", drawn(rest)[-1])
    assert rest.count("\x1b[?25h") == 1  # the cursor is there again
    assert not big.uploads(BUCKET)


@pytest.mark.slow
def test_sigterm_is_told_in_the_background(big, tmp_path):
    """Shells ignore SIGINT there; a stopped job still says what became of it."""
    ignoring = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    words = ["put", "big.bin", TO, *KEYS, "--bwlimit", "2M", "--json"]
    child = subprocess.Popen(
        [sys.executable, "-c", ignoring, *PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    assert '"progress"' in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    assert '"progress"' in child.stdout.readline()
    child.terminate()
    events, said = child.communicate(timeout=50)
    assert child.returncode == -signal.SIGTERM
    assert said == "\nterminated: unfinished uploads are discarded\n"
    end = json.loads(events.splitlines()[-1])
    shown = {name: end[name] for name in ("event", "done", "failed")}
    assert shown == {"event": "end", "done": 0, "failed": 0}
    assert end["untried"] + len(end["in_flight"]) == 1
    assert (end["interrupted"], end["exit_code"]) == (True, 143)
    assert not big.uploads(BUCKET)


def test_interrupt_while_it_is_loaded():
    """Ctrl-C before anything has begun is exit 130 and no traceback."""
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'fsspec_osspresigned.tools.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from fsspec_osspresigned.tools import cli\n"
        "sys.exit(cli.main(['--help']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_reader_that_leaves_ends_it_quietly():
    """``osspresigned ... | true`` has no traceback and no word about a pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [*PROGRAM, "doctor"],
            check=False,
            stdout=pipe,
            stderr=subprocess.PIPE,
            env=environment(),
        )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
def test_reader_that_leaves_does_not_stop_an_upload(oss, tree):
    """If the reader of the events exits, all files are still uploaded."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [*PROGRAM, "put", "data", TO, *KEYS, "--json"],
            check=False,
            stdout=pipe,
            stderr=subprocess.PIPE,
            env=environment(),
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(stored(oss)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed", "command", "code"),
    [
        ("<&- >&- 2>&-", ["put", "data", TO], 0),
        (">&-", ["put", "data", TO], 0),
        ("2>&-", ["put", "data", TO], 0),
        (">&-", ["doctor"], 1),
        ("<&-", ["put", "-", f"{TO}stdin"], 1),
    ],
)
def test_closed_standard_streams(oss, tree, closed, command, code):
    """An upload needs none of them; what has to read or write one fails in one line."""
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {closed}', "sh", *PROGRAM, *command, *KEYS],
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == code, done.stderr
    assert ("Bad file descriptor" in done.stderr) == (code == 1)
    assert "Exception" not in done.stderr
    if code == 0:
        assert len(stored(oss)) == 3

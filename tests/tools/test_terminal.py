"""Lines, drawn lines and widths."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import struct
import termios

import pytest

from fsspec_osspresigned.tools import terminal
from fsspec_osspresigned.tools.terminal import Output, log_taken, message_of
from tests.tools.cli.conftest import Text


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


def test_messages_of_one_level_are_taken():
    """Warnings have a handler of their own, and would be printed twice."""
    log, taken = logging.getLogger("tests.taken"), []
    with log_taken(log.name, logging.INFO, lambda one: taken.append(message_of(one))):
        log.info("a")
        log.warning("b")
        log.debug("c")
    log.info("d")
    assert taken == ["a"]

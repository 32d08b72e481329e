"""Lines, widths and messages of a log."""

from __future__ import annotations

import io
import logging
import os

from fsspec_osspresigned.tools import terminal
from fsspec_osspresigned.tools.terminal import Output, log_taken, message_of
from tests.tools.cli.conftest import Text


def test_room_is_for_terminals(monkeypatch):
    """In a file or a pipe a line may have any length; there is a least."""
    monkeypatch.setenv("COLUMNS", "40")
    assert Output(Text()).room is None
    assert Output(Text(terminal=True)).room == 39
    monkeypatch.setenv("COLUMNS", "3")
    assert Output(Text(terminal=True)).room == 20


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

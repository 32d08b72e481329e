"""The service log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading

from attrs import evolve

from fsspec_osspresigned.owner.service import process
from fsspec_osspresigned.owner.service.app import AccessRecord


def test_log_lines_name_keys_only_on_demand():
    """Object names can be private too."""
    lines = []

    def say(event, **facts):
        lines.append(facts)

    record = AccessRecord(
        token="writer",
        paths=("b/secret-name",),
        requests=3,
        status=200,
        codes={"forbidden": 1},
        milliseconds=1.5,
    )
    process.log_call(record, say)
    process.log_call(record, say, log_keys=True)
    whole = AccessRecord(
        token=None,
        paths=(),
        requests=3,
        status=500,
        codes={"unavailable": 1},
        milliseconds=1,
        fault="KeyError",
    )
    process.log_call(whole, say)
    process.log_call(evolve(whole, fault=None, unhashed="writer"), say)
    assert lines[0] == {
        "token": "writer",
        "requests": 3,
        "signed": 2,
        "status": 200,
        "codes": {"forbidden": 1},
        "ms": 1.5,
    }
    assert lines[1] == {**lines[0], "paths": ("b/secret-name",)}
    assert (lines[2]["signed"], lines[2]["fault"]) == (0, "KeyError")
    assert lines[3]["hint"].startswith("sha256 of 'writer' is the token itself")
    assert "hint" not in lines[2]
    process.log_call(evolve(whole, fault=None, status=401, client="192.0.2.7"), say)
    assert lines[4]["client"] == "192.0.2.7"
    assert not any("client" in line for line in lines[:4])


def test_log_whose_reader_is_gone_is_no_failure():
    """A closed pipe does not stop the service."""
    read, write = os.pipe()
    os.close(read)
    writer = process.LineWriter(write)
    writer.put("a line")
    with writer.in_thread():
        writer.put("another line")
    os.close(write)


def full_pipe() -> tuple[int, int]:
    """Return both ends of a pipe that takes nothing more."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"\n" * 4096)
    os.set_blocking(write, True)
    return read, write


def test_log_whose_reader_stalls_holds_nobody_up():
    """Lines are dropped instead, and told by their number when there is a reader again."""
    read, write = full_pipe()
    found: list[str] = []
    writer = process.LineWriter(write, max_lines=5)
    with os.fdopen(read, encoding="utf-8") as lines:
        reading = threading.Thread(target=lambda: found.extend(lines))
        with writer.in_thread(timeout=60):
            for number in range(2000):
                writer.put(f"{number:>10000}")
            reading.start()
        os.close(write)
        reading.join()
    dropped = [json.loads(line)["lines"] for line in found if line.startswith("{")]
    numbers = [int(line) for line in found if line[0] not in "{\n"]
    assert numbers == sorted(numbers)
    assert sum(dropped) > 0
    assert sum(dropped) + len(numbers) == 2000


def test_stop_does_not_wait_for_a_reader_that_stalls():
    """The last lines are given up after a while."""
    before = set(threading.enumerate())
    read, write = full_pipe()
    writer = process.LineWriter(write)
    with writer.in_thread(timeout=0.01):
        writer.put("x" * 10_000)
    with os.fdopen(read, encoding="utf-8") as lines:
        (writing,) = set(threading.enumerate()) - before
        reading = threading.Thread(target=lambda: list(lines))
        reading.start()
        writing.join()
        os.close(write)
        reading.join()


def test_warnings_of_libraries_are_lines_too(capfd):
    """The web server's words go where the service's own go."""
    record = logging.LogRecord("uvicorn.error", 30, "f", 1, "%s %s", ("a", "b"), None)
    process.LineHandler().handle(record)
    line = json.loads(capfd.readouterr().out)
    assert (line["event"], line["logger"], line["text"]) == (
        "warning",
        "uvicorn.error",
        "a b",
    )

"""The last lines of a command."""

from __future__ import annotations

from fsspec_osspresigned import errors
from fsspec_osspresigned.tools.summary import Summary
from fsspec_osspresigned.tools.terminal import ExitCode, Failure
from fsspec_osspresigned.units import MIB


def failure(path, error):
    """Return one that concerns no local file."""
    return Failure(path, "", error)


def test_equal_failures_are_one():
    """But for the id of the request; ten are named at most."""
    texts = [f"refused [EC 1, request id {n}]" for n in range(11)]
    found = [
        failure(f"b/{n}", errors.AccessDeniedError(t)) for n, t in enumerate(texts)
    ]
    found.append(failure("b/x", errors.OutcomeUnknownError("lost [request id 1]")))
    summary = Summary(verb="uploaded", done=1, files=13, failures=found)
    lines = list(summary.lines())
    assert lines[0] == "11 not uploaded: refused [EC 1]"
    assert lines[1:11] == [f"  b/{n}" for n in range(10)]
    assert lines[11:] == [
        "  and 1 more (--json names all)",
        "b/x: unknown whether uploaded: lost [request id 1]",
        "uploaded 1 of 13 files; 12 failed",
    ]
    assert summary.code is ExitCode.FAILED


def test_local_failures_name_local_files():
    """What cannot be read is a file; a refusal is about the object."""
    gone = FileNotFoundError(2, "No such file or directory", "van/0")
    found = [Failure(f"b/{n}", f"van/{n}", gone) for n in range(2)]
    found.append(Failure("b/2", "van/2", errors.AccessDeniedError("refused")))
    found.append(Failure("b/3", "-", OSError(5, "Input/output error")))
    summary = Summary(verb="uploaded", done=0, files=4, failures=found)
    assert list(summary.lines())[:-1] == [
        "2 not uploaded: No such file or directory",
        "  van/0",
        "  van/1",
        "b/2: not uploaded: refused",
        "b/3: not uploaded: Input/output error",
    ]


def test_long_transfers_take_minutes():
    """In minutes and seconds."""
    summary = Summary(verb="fetched", done=1, files=1, failures=(), size=MIB, seconds=128)  # fmt: skip
    assert list(summary.lines()) == ["fetched 1 file, 1.0 MiB in 2 min 8 s (8.0 KiB/s)"]


def test_nothing_that_moved_is_not_counted():
    """No bytes, no time and no rate of nothing; an empty file is something."""
    nothing = Summary(
        verb="uploaded", done=0, files=0, failures=(), size=0, also=["2 same"]
    )
    assert list(nothing.lines()) == ["uploaded 0 files; 2 same"]
    empty = Summary(verb="uploaded", done=1, files=1, failures=(), size=0)
    assert list(empty.lines()) == ["uploaded 1 file, 0 B in 0.1 s"]


def test_what_failed_is_told_last():
    """With what an interruption has left."""
    summary = Summary(
        verb="uploaded",
        done=1,
        files=100,
        failures=[failure("b/k", ValueError("no"))],
        size=MIB,
        seconds=1,
        interrupted=True,
    )
    assert list(summary.lines()) == [
        "b/k: not uploaded: ValueError: no",
        (
            "interrupted: uploaded 1 of 100 files, 1.0 MiB sent in 1.0 s (1.0 MiB/s); "
            "1 failed; 98 left"
        ),
    ]


def test_rate_of_a_few_bytes_is_left_out():
    """Below a mebibyte it is noise; and nothing takes no time at all."""
    summary = Summary(
        verb="uploaded", done=1, files=1, failures=(), size=6, seconds=0.02
    )
    assert list(summary.lines()) == ["uploaded 1 file, 6 B in 0.1 s"]


def test_equal_network_failures_are_one():
    """However often each was tried; and what looks further is named."""
    found = [failure(f"b/{n}", errors.NetworkError("refused")) for n in range(2)]
    found[1].error.tries = 6
    summary = Summary(verb="uploaded", done=0, files=2, failures=found)
    assert list(summary.lines()) == [
        "2 not uploaded: refused",
        "  b/0",
        "  b/1",
        "to find the cause, run: osspresigned doctor BUCKET/KEY (or --url-file FILE)",
        "uploaded 0 of 2 files; 2 failed",
    ]

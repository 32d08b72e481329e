"""The last lines of a command."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import errors
from fsspec_osspresigned.console.exit import ExitCode, Failure
from fsspec_osspresigned.console.summary import Summary
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


def test_nothing_that_moved_is_not_counted():
    """No bytes, no time and no rate of nothing; an empty file is something."""
    nothing = Summary(
        verb="stored", done=0, files=0, failures=(), size=0, also=["2 same"]
    )
    assert list(nothing.lines()) == ["stored 0 files; 2 same"]
    empty = Summary(verb="stored", done=1, files=1, failures=(), size=0)
    assert list(empty.lines()) == ["stored 1 file, 0 B in 0.1 s"]


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
        "interrupted: stored 1 of 100 files, 1.0\nMiB sent; 1 failed; 98 left",
    ]


def test_rate_of_a_few_bytes_is_left_out():
    """Below a mebibyte it is noise; and nothing takes no time at all."""
    summary = Summary(verb="stored", done=1, files=1, failures=(), size=6, seconds=0.02)
    assert list(summary.lines()) == ["stored 1 file, 6 B in 0.1 s"]


def test_equal_network_failures_are_one():
    """However often each was tried; and what looks further is named."""
    found = [failure(f"b/{n}", errors.NetworkError("refused")) for n in range(2)]
    found[1].error.tries = 6
    summary = Summary(verb="stored", done=0, files=2, failures=found)
    assert list(summary.lines()) == [
        "2 not stored: refused",
        "  b/0",
        "  b/1",
        "osspresigned doctor BUCKET/KEY (or --url-file FILE) looks further",
        "stored 0 of 2 files; 2 failed",
    ]

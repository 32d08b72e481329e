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

"""The service log."""

from __future__ import annotations

import io
import sys

from attrs import evolve

from fsspec_osspresigned.server import log
from fsspec_osspresigned.server.app import AccessRecord

NOW = 1_767_225_600.0


def test_log_lines_name_keys_only_on_demand():
    """Object names can be private too."""
    lines = []

    def say(event, **facts):
        lines.append(facts)

    record = AccessRecord(
        at=NOW,
        token="writer",
        paths=("b/secret-name",),
        requests=3,
        status=200,
        codes={"forbidden": 1},
        milliseconds=1.5,
    )
    log.log_call(record, say)
    log.log_call(record, say, log_keys=True)
    whole = AccessRecord(
        at=NOW,
        token=None,
        paths=(),
        requests=3,
        status=500,
        codes={"unavailable": 1},
        milliseconds=1,
        fault="KeyError",
    )
    log.log_call(whole, say)
    log.log_call(evolve(whole, fault=None, unhashed="writer"), say)
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


def test_log_that_nobody_reads_is_no_failure(monkeypatch):
    """A closed pipe does not stop the service."""

    class Closed(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    log.say("sign")

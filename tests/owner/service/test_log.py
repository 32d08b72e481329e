"""The service log."""

from __future__ import annotations

import json
import logging
import signal
import urllib.error
import urllib.request

import pytest
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


def test_log_whose_reader_is_gone_is_no_failure(start):
    """A closed pipe does not stop the service."""
    service = start()
    service.process.stdout.close()
    place = f"{service.url}/v1/sign"
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(place, b"{}")
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(timeout=30) == 0


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

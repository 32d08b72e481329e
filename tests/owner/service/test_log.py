"""The service log."""

from __future__ import annotations

import json
import logging
import signal
import urllib.error
import urllib.request

import pytest

from fsspec_osspresigned.owner.service import process
from fsspec_osspresigned.owner.service.app import AccessRecord

SIGNED = {"token": "writer", "requests": 3, "status": 200, "codes": {"forbidden": 1}}
FAILED = {"requests": 3, "status": 500, "codes": {"unavailable": 1}}


@pytest.mark.parametrize(
    ("record", "log_keys", "more"),
    [
        (SIGNED, False, {"signed": 2}),
        (SIGNED, True, {"signed": 2, "paths": ("b/secret-name",)}),
        (FAILED | {"fault": "KeyError"}, False, {"fault": "KeyError"}),
        (FAILED | {"status": 401}, False, {"client": "192.0.2.7"}),
    ],
)  # fmt: skip
def test_a_line_says_what_happened(record, log_keys, more):
    """Names of objects are private too, and stand there only on demand."""
    lines = []
    process.log_call(
        AccessRecord(paths=("b/secret-name",), client="192.0.2.7", **record),
        lambda _, **facts: lines.append(facts),
        log_keys=log_keys,
    )
    known = {"token": None, "requests": 3, "signed": 0, "ms": 0.0}
    shown = {name: record[name] for name in ("status", "codes")}
    assert lines == [{**known, "token": record.get("token"), **shown, **more}]


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

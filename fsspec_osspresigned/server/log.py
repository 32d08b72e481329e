"""Service log: one line of JSON on stdout for each event, without secrets."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from .app import AccessRecord

Say = Callable[..., None]


def say(event: str, **facts: Any) -> None:
    """Write one line of JSON to stdout, at once."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"time": moment, "event": event, **facts})
    # A log whose reader is gone is no reason to stop signing.
    with contextlib.suppress(OSError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def log_call(record: AccessRecord, say: Say, *, log_keys: bool = False) -> None:
    """Log one call, with the object names if *log_keys*."""
    facts: dict[str, Any] = {"paths": record.paths} if log_keys else {}
    if record.fault is not None:
        facts["fault"] = record.fault
    if record.unhashed is not None:
        problem = f"sha256 of {record.unhashed!r} is the token itself"
        facts["hint"] = f"{problem}: put there what serve --hash-token prints"
    refused = sum(record.codes.values())
    say(
        "sign",
        token=record.token,
        requests=record.requests,
        signed=record.requests - refused if record.status == HTTPStatus.OK else 0,
        status=record.status,
        codes=dict(record.codes),
        ms=record.milliseconds,
        **facts,
    )

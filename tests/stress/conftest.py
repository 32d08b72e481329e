"""An emulator in a process of its own, so that its memory is not that of the tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def store(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A store for which the environment has a key; a parameter is its faults."""
    rules = [
        word for rule in getattr(request, "param", ()) for word in ("--fault", rule)
    ]
    program = [sys.executable, "-m", "fsspec_osspresigned", "emulator", "--port", "0"]
    with subprocess.Popen(
        [*program, *rules], stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if line.startswith("  export "):
                name, _, value = line.removeprefix("  export ").strip().partition("=")
                monkeypatch.setenv(name, value)
            if line.startswith("Path style"):
                break
        yield
        process.terminate()

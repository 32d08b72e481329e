"""Fixtures of the tests of pages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def command_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell finds ``osspresigned``, as after an installation."""
    program = tmp_path / "bin" / "osspresigned"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {sys.executable} -m fsspec_osspresigned "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

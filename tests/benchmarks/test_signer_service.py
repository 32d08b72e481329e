"""The benchmark of the signer service is a program that runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "signer_service.py"


def test_service_under_load_fails_no_call():
    """Through batches and reloads every call is answered with signatures."""
    found = subprocess.run(
        [sys.executable, PROGRAM, "--quick", "--clients", "4"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert len(re.findall("failed 0", found.stdout)) == 3

"""Calls of all kinds at the same time end, whatever they take turns for.

Each test runs a program (``mixed_load``) that gives up after some time, so a deadlock
is a failure with the stacks of all threads.
"""

from __future__ import annotations

import subprocess
import sys

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.model import MIN_PART
from tests.stress import mixed_load
from tests.stress.mixed_load import Plan

PROGRAM = mixed_load.__file__
CLOSES = Fault(hang_up=True, times=None)  # each connection sends one request


def run(plan: Plan) -> None:
    """Run *plan* in a new process, which must end well."""
    done = subprocess.run(
        [sys.executable, PROGRAM, plan.argument()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout[-5:]) == (0, "done\n"), done.stderr


def test_values_and_parts_with_one_request_in_flight(oss):
    """A gathered value that needs a new connection waits for no thread of the parts.

    One request is in flight at a time. The value gets its turn while a part waits for
    one, and the store has closed all connections.
    """
    oss.faults.add(CLOSES)
    options = {"part_size": MIN_PART, "multipart_threshold": MIN_PART}
    run(
        Plan(
            threads=["large"] * 4,
            coroutines=["single"],
            options={**options, "max_concurrency": 1},
            size=4 * MIN_PART,
            limit=20,
        )
    )
    assert len(oss.objects("examplebucket")) == 4 + mixed_load.MANY

"""Fixed programs of the simulation; ``python -m tests.simulation`` runs new ones."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsspec_osspresigned import errors
from tests.simulation.causes import Circumstances, unexplained
from tests.simulation.plants import drawn, judgement, parsed, planted

ROOT = Path(__file__).parents[2]
FAILED = Path(__file__).parent / "failed"

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="the simulation runs on Linux only"
)


def simulate(*given: str) -> subprocess.CompletedProcess[str]:
    """Run the simulation, in a process whose threads and time it replaces."""
    command = [sys.executable, "-m", "tests.simulation", *given]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(180)
def test_invariants_hold():
    """All invariants hold in ten programs with faults of network, disk and callers."""
    done = simulate("--seeds", "1:11", "--quiet")
    assert "10 programs, 0 failed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("seed", [9, 150])
def test_a_seed_fixes_everything(seed):
    """The same program gives the same trace, including all turns of threads."""
    first, second = simulate("--seed", str(seed)), simulate("--seed", str(seed))
    assert ", trace " in first.stdout
    assert first.stdout == second.stdout


@pytest.mark.slow
@pytest.mark.parametrize("program", sorted(FAILED.glob("*.json")), ids=lambda p: p.stem)
def test_programs_that_failed(program):
    """Programs that failed once pass now; the name of each describes the defect."""
    done = simulate("--file", str(program))
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": ok, " in done.stdout


def test_a_program_without_an_end_is_undecided():
    """A program that is too slow does not fail, and finds no planted mistake."""
    done = simulate("--seeds", "1:3", "--limit", "0")
    assert done.stdout.count("undecided: it did not end within") == 2
    assert done.stdout.endswith("2 programs, 0 failed, 2 undecided\n")
    assert done.returncode == 2
    assert judgement(done.stdout) == ""


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("seed 3: broken: data/k1 is not there", True),
        ("seed 3: hangs: all threads wait", True),
        ("seed 3: raised: Traceback (most recent call last):", True),
        ("seed 3: unraisable: ValueError() in None", True),
        ("seed 3: cannot be loaded: ImportError('no name')", False),
        ("seed 3: the process died", False),
        ("seed 3: ok, 4 calls", False),
        ("ImportError: no name", False),
    ],
)
def test_only_an_invariant_finds_a_planted_fault(line, is_found):
    """An error of the simulation itself does not count as finding the fault."""
    assert bool(judgement(f"seeds from 3\n{line}\n1 programs, 1 failed\n")) == is_found


@pytest.mark.parametrize(
    ("error", "faults", "is_explained"),
    [
        (OSError(errno.EBADF, "Bad file descriptor"), {"disk", "refuse"}, False),
        (OSError(errno.ENOSPC, "No space left"), {"disk"}, True),
        (OSError(errno.ENOSPC, "No space left"), {"refuse"}, False),
        (ValueError("list.remove(x): x not in list"), {"refuse"}, False),
        (errors.NetworkError("cut off", tries=6), {"cut_reply"}, True),
        (errors.NetworkError("cut off", tries=5), {"cut_reply"}, False),
        (errors.NetworkError("cut off", tries=8), {"cut_reply"}, False),
        (errors.NetworkError("cut off", tries=6), {"busy"}, False),
    ],
)
def test_an_error_needs_a_fault_of_its_kind(error, faults, is_explained):
    """A fault must explain each error, and retries must be used up before it."""
    seen = Circumstances(faults, seconds=1.0, options={}, there={True})
    assert (unexplained(error, seen) == "") == is_explained


def test_a_draw_of_faults_is_fixed_and_each_changes_its_module():
    """The number of the draw determines the mistakes, and each result is valid Python."""
    plants = drawn(1, 20)
    assert plants == drawn(1, 20) != drawn(2, 20)
    for plant in plants:
        changed = planted(plant)
        compile(changed, plant.module, "exec")
        assert ast.unparse(changed) != ast.unparse(parsed(plant.module))

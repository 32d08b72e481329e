"""A test that depends on chance is named, and red if it fails more than very seldom."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / ".ci"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CI.exists(), reason="only a checkout has .ci"),
]

# Fails in the runs whose numbers are in a set; the first one is 1.
FLAKY = """
import pathlib
def test_flaky():
    runs = pathlib.Path("runs")
    number = len(runs.read_text()) + 1 if runs.exists() else 1
    runs.write_text("x" * number)
    assert number not in {1, 9}
"""
ONCE = FLAKY.replace("{1, 9}", "{1}")
STEADY = "def test_steady(): pass\n"
BROKEN = "def test_broken(): raise AssertionError\n"
SKIPPED = """
import pytest
@pytest.mark.skip(reason="no nginx here")
def test_skipped(): pass
@pytest.mark.xfail
def test_expected(): raise AssertionError
"""
FLAKY_ID = "test_it.py::test_flaky"


@pytest.fixture
def judge(tmp_path):
    """Run the tests of a text; return the exit status and what the summary gets."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(CI / "chance.py", tmp_path / ".ci")

    def run(tests, quarantine="", **variables):
        (tmp_path / "test_it.py").write_text(tests)
        (tmp_path / ".ci" / "quarantine.txt").write_text(quarantine)
        pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"]
        done = subprocess.run(
            [sys.executable, ".ci/chance.py", *pytest_command, "test_it.py"],
            cwd=tmp_path,
            env={**os.environ, "WORK": str(tmp_path), "STEP": "tests", **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        noted = {
            name: (tmp_path / name).read_text()
            for name in ("chance", "skipped")
            if (tmp_path / name).exists()
        }
        return done.returncode, noted, done.stderr

    run.folder = tmp_path
    return run


def test_all_pass(judge):
    """There is nothing to say."""
    assert judge(STEADY)[:2] == (0, {})


def test_flaky_test_is_red_and_named(judge):
    """It fails the step although it passes when tried again, and some times more."""
    status, noted, _ = judge(STEADY + FLAKY)
    assert status == 1
    assert noted == {"chance": f"tests: {FLAKY_ID} (red)\n"}


def test_test_that_failed_once_is_named(judge):
    """Of tens of thousands one may, if it then passes twenty times."""
    status, noted, _ = judge(STEADY + ONCE)
    assert status == 0
    assert noted == {"chance": f"tests: {FLAKY_ID} (then passed 20 times)\n"}


def test_two_that_failed_once_are_red(judge):
    """Two failures of one command are too many. With CHANCE=red, one is."""
    other = ONCE.replace("test_flaky", "test_other").replace('"runs"', '"others"')
    status, noted, _ = judge(ONCE + other)
    assert status == 1
    assert noted["chance"].count("(red)") == 2
    (judge.folder / "runs").unlink()
    assert judge(ONCE, CHANCE="red")[0] == 1


def test_flaky_test_in_quarantine_is_named_only(judge):
    """Until the last day of its entry."""
    status, noted, _ = judge(
        FLAKY, f"# why\n{FLAKY_ID} | 9999-12-31 | a slow machine\n"
    )
    assert status == 0
    assert noted == {"chance": f"tests: {FLAKY_ID} (in quarantine until 9999-12-31)\n"}


def test_broken_test_is_red_in_quarantine(judge):
    """The list excuses chance, not a failure."""
    entry = "test_it.py::test_broken | 9999-12-31 | a slow machine\n"
    assert judge(BROKEN, entry)[:2] == (1, {})
    assert judge(BROKEN + FLAKY, entry)[0] == 1


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (f"{FLAKY_ID} | 2020-01-01 | a slow machine", "its day is over"),
        (f"{FLAKY_ID} | soon | a slow machine", "no 'test"),
        (f"{FLAKY_ID} | 9999-12-31", "no 'test"),
        (f"{FLAKY_ID} | 9999-12-31 | ", "no 'test|no reason"),
    ],
)
def test_entry_that_is_over_or_wrong_is_red(judge, entry, problem):
    """Even if all tests pass."""
    status, _, said = judge(STEADY, f"{entry}\n")
    assert status == 1
    assert any(text in said for text in problem.split("|"))


def test_skipped_tests_are_named_with_their_reasons(judge):
    """Those that fail as expected are not skipped."""
    assert judge(SKIPPED)[:2] == (0, {"skipped": "tests: 1 x no nginx here\n"})
    module = 'import pytest\npytest.importorskip("no_such_module")\n'
    _, noted, _ = judge(module)
    assert "no_such_module" in noted["skipped"]


def test_other_failures_stay(judge):
    """A status that is none of failed tests is passed on, without another try."""
    assert judge("import no_such_module\n")[0] == 2

"""Steps of ``.ci/run``: what they work on, what ends with them, when they are red."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CI = Path(__file__).parents[2] / ".ci"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CI.exists(), reason="only a checkout has .ci"),
    pytest.mark.skipif(not shutil.which("git"), reason="no git here"),
    pytest.mark.skipif(os.name != "posix", reason="process groups"),
]

SLEEP = 'sleep 600 & echo $! >>"$checkout/pids"'
STEPS = f"""
. "$(dirname "${{BASH_SOURCE[0]}}")/machinery.sh"
prepare() {{ true; }}
step_fine() {{ true; }}
step_fails() {{ {SLEEP}; sleep 1; false; echo 'went on'; }}
step_leaves() {{ {SLEEP}; }}
step_hangs() {{ {SLEEP}; touch "$checkout/hangs"; sleep 600; }}
step_files() {{ copy files; find . -type f; cat kept.txt; }}
step_needs() {{ missing rclone; }}
step_variables() {{ env; }}
step_suite() {{ copy suite; tested {sys.executable} -m pytest -q test_it.py; }}
run_steps "$@"
"""

# Fails when it runs for the first time.
UPSET = """
import pathlib
def test_upset():
    place = pathlib.Path({name!r})
    was_here = place.exists()
    place.touch()
    assert was_here
"""
# One of them fails, whatever the order.
ORDER = """
done = []
def test_one():
    done.append(1)
    assert done == [1]
def test_two():
    done.append(2)
    assert done == [2]
"""


@pytest.fixture
def checkout(tmp_path):
    """A repository of its own, with the steps above."""
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    shutil.copy(CI / "machinery.sh", folder / ".ci")
    (folder / ".ci" / "run").write_text(STEPS)
    (folder / ".gitignore").write_text("pids\nhangs\n")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    (folder / "kept.txt").write_text("committed")
    (folder / "gone.txt").write_text("")
    (folder / "test_it.py").write_text("")
    for arguments in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)  # noqa: S607
    return folder


@pytest.fixture
def start(checkout, tmp_path):
    """Start steps; the rest of a test that fails is ended."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    started = []

    def begin(*steps, **variables):
        # A file, since a pipe would end only with its last writer.
        with (tmp_path / "output.txt").open("w") as output:
            done = subprocess.Popen(
                ["bash", str(checkout / ".ci" / "run"), *steps],  # noqa: S607
                env={
                    "PATH": os.environ["PATH"],
                    "TMPDIR": str(temporary),
                    **variables,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        started.append(done)
        return done

    yield begin
    for process in started:
        process.terminate()
        process.wait(timeout=30)
    for pid in living(checkout):
        os.kill(int(pid), signal.SIGKILL)
    assert not list(temporary.iterdir())


@pytest.fixture
def ended(tmp_path):
    """Wait for steps; return the exit status and the output."""

    def wait(process):
        return process.wait(timeout=50), (tmp_path / "output.txt").read_text()

    return wait


def living(checkout):
    """Return the processes that steps have started and that still run."""
    found, pids = [], checkout / "pids"
    for pid in pids.read_text().split() if pids.exists() else ():
        seen = subprocess.run(
            ["ps", "-o", "stat=", "-p", pid],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if seen and not seen.startswith("Z"):
            found.append(pid)
    return found


def test_copy_is_what_git_tracks(checkout, start, ended):
    """With edits and deletions of the working tree, and no file beside."""
    (checkout / "stray.py").write_text("")
    (checkout / "kept.txt").write_text("edited")
    (checkout / "gone.txt").unlink()
    status, text = ended(start("files"))
    assert status == 0
    copied = text.partition("all passed")[0]
    assert "./kept.txt" in copied
    assert "edited" in copied
    assert "stray" not in copied
    assert "gone" not in copied
    assert "neither tested nor built:\nstray.py" in text


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(["leaves", "fine"], 0), (["fails"], 1), (["hangs", "fails", "fine"], 1)],
)
def test_no_process_outlives_the_run(checkout, start, steps, expected, ended):
    """A step that fails ends those that run beside it."""
    status, text = ended(start(*steps))
    assert status == expected
    assert "went on" not in text
    assert ("= fails failed =" if expected else "= all passed =") in text
    assert not living(checkout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_run_leaves_nothing(checkout, start, number, ended):
    """Neither a process nor a directory."""
    process = start("hangs", "leaves")
    end = time.monotonic() + 20
    while not (checkout / "hangs").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(number)
    status, text = ended(process)
    assert status == 128 + number
    assert "interrupted" in text
    assert not living(checkout)


def test_missing_part_is_in_the_summary(start, ended):
    """At the end, after all steps; it fails where MUST_RUN names it."""
    status, text = ended(start("needs", "fine", MUST_RUN="fine:rclone needs:curl"))
    assert status == 0
    assert "needs: no rclone here" in text.partition("all passed")[2]
    status, text = ended(start("needs", MUST_RUN="needs:rclone needs:curl"))
    assert status == 1
    assert "needs: no rclone here" in text.partition("needs failed")[2]


def test_variables_of_the_caller_change_nothing(start, ended):
    """Except where pip finds packages."""
    given = {
        "PYTEST_ADDOPTS": "-k nothing",
        "PIP_CONSTRAINT": "old.txt",
        "PYTHONPATH": "elsewhere",
        "PIP_INDEX_URL": "https://example.com",
    }
    status, text = ended(start("variables", **given))
    assert status == 0
    assert [name for name in given if f"{name}=" in text] == ["PIP_INDEX_URL"]


@pytest.mark.parametrize("upset", [1, 2, 3])
def test_tests_that_were_upset_pass_once_more(checkout, start, upset, ended):
    """Up to two of a run, which the summary names."""
    tests = [
        UPSET.format(name=str(checkout / f"upset-{n}")).replace("upset():", f"{n}():")
        for n in range(upset)
    ]
    (checkout / "test_it.py").write_text("".join(tests))
    status, text = ended(start("suite"))
    assert status == int(upset > 2)
    named = text.partition("Failed at first:\n")[2]
    assert named.count("suite: test_it.py::test_") == upset


@pytest.mark.parametrize(
    "tests", [ORDER, "def test_broken(): assert 0", "import no_such_module"]
)
def test_broken_or_dependent_test_is_red(checkout, start, tests, ended):
    """Also one that fails only after others, and passes alone."""
    (checkout / "test_it.py").write_text(tests)
    status, text = ended(start("suite"))
    assert status == 1
    assert "= suite failed =" in text


def test_skipped_tests_are_in_the_summary(checkout, start, ended):
    """With their reasons."""
    skipped = "import pytest\n@pytest.mark.skip('no nginx')\ndef test_it(): pass\n"
    (checkout / "test_it.py").write_text(skipped)
    status, text = ended(start("suite"))
    assert status == 0
    summary = text.partition("all passed")[2]
    assert "suite: SKIPPED [1] test_it.py:2: no nginx" in summary

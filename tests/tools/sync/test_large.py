"""Many files: a run that is killed goes on, and neither time nor memory explodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import pytest

from fsspec_osspresigned import sync
from fsspec_osspresigned.tools.sync.plan import Entry, PlanRules, Sent, Stored, plan
from tests.form_signer import grant_of
from tests.serve_child import clean
from tests.tools.sync.conftest import BUCKET

DEST = f"{BUCKET}/many"
COUNT = 5_000

PROGRAM = """
import sys
from fsspec_osspresigned import sync
sync(sys.argv[1], sys.argv[2], storage_options={"signer": "keys"}, state=sys.argv[3])
"""


@pytest.fixture
def many(tmp_path):
    """5,000 files in 200 directories, older than what is stored now."""
    root = tmp_path / "many"
    then = time.time() - 100
    for number in range(COUNT):
        place = root / f"d{number % 200:03}" / f"{number:05}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"%d" % number)
        os.utime(place, (then, then))
    return root


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_by_one_grant_file(oss, many, tmp_path):
    """5,000 files go out by one grant and nothing else, one form each, and once."""
    place = tmp_path / "grant.json"
    place.touch(0o600)
    place.write_text(json.dumps(grant_of(oss, BUCKET, "many/")))
    command = [sys.executable, "-m", "fsspec_osspresigned", "sync", str(many), DEST]
    command += ["--grant", str(place), "--state", str(tmp_path / "state"), "--quiet"]
    subprocess.run(command, env=clean(), check=True)
    wanted = {
        f"many/{file.relative_to(many)}": file.read_bytes()
        for file in many.rglob("*.txt")
    }
    assert len(wanted) == COUNT
    assert oss.objects(BUCKET) == wanted
    assert [record.action for record in oss.requests] == ["PostObject"] * COUNT
    subprocess.run(command, env=clean(), check=True)
    assert len(oss.requests) == COUNT


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_killed_half_way_and_run_again(fs, owner, many, tmp_path, record_property):
    """The second run sends the rest; the third none; delete what was listed."""
    state = tmp_path / "state"
    dry = sync(many, DEST, filesystem=fs, dry_run=True)
    assert len(dry.plan.send) == COUNT
    command = [sys.executable, "-c", PROGRAM, str(many), DEST, str(state)]
    with subprocess.Popen(command) as child:
        while len(owner.oss.objects(BUCKET)) < COUNT // 2 and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    first = len(owner.oss.objects(BUCKET))
    assert COUNT // 2 <= first < COUNT
    listed = sync(many, DEST, filesystem=fs, state=state, dry_run=True)
    began = time.monotonic()
    second = sync(many, DEST, filesystem=fs, state=state)
    seconds = time.monotonic() - began
    assert second.plan.send == listed.plan.send
    assert second.sent == len(listed.plan.send)
    # What was on the way when the process died may have been stored after that look.
    assert abs(second.sent - (COUNT - first)) <= fs.client.options.max_small
    assert len(owner.oss.objects(BUCKET)) == COUNT
    owner.oss.clear()
    began = time.monotonic()
    third = sync(many, DEST, filesystem=fs, state=state)
    compared = time.monotonic() - began
    assert (third.sent, third.same) == (0, COUNT)
    assert set(owner.actions()) == {"ListObjectsV2"}
    gone = [f"d007/{number:05}.txt" for number in range(7, COUNT, 200)]
    for name in gone:
        (many / name).unlink()
    listed = sync(many, DEST, filesystem=fs, state=state, dry_run=True, delete=True)
    assert [one.name for one in listed.plan.extra] == gone
    done = sync(many, DEST, filesystem=fs, state=state, delete=True)
    assert sorted(done.deleted) == gone
    assert len(owner.oss.objects(BUCKET)) == COUNT - len(gone)
    print(  # noqa: T201 - the figures
        json.dumps(
            {
                "killed after": first,
                "sent then": second.sent,
                "seconds": round(seconds, 1),
                "compared in": round(compared, 2),
                "deleted": len(gone),
            }
        )
    )


@pytest.mark.slow
def test_plan_of_100_000_files_is_linear():
    """Twice the files cost about twice the memory, and few seconds."""
    peaks = []
    for count in (50_000, 100_000):
        names = [f"d{number % 200}/{number}" for number in range(count)]
        there = {name: Stored(1, "E", 5.0) for name in names[: count // 2]}
        memory = {name: Sent(1, 1, "", "e", 1) for name in names[: count // 4]}
        tracemalloc.start()
        made = plan((Entry(name, 1, 1) for name in names), there, memory, PlanRules())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (made.same, len(made.send), made.extra) == (count // 2, count // 2, [])
        assert there == {}
    assert peaks[1] < 2.5 * peaks[0]
    assert peaks[1] < 40 * 2**20

"""Many files: a run that is killed goes on, and neither time nor memory explodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fsspec_osspresigned import sync
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

"""SIGKILL at any write to the disk: the next run continues, and all is equal."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART

pytestmark = pytest.mark.slow

BUCKET = "examplebucket"
SIZE = 2 * MIN_PART + 1
# Dies at the n-th time that something on the disk changes, in the middle of a write.
PROGRAM = """
import os, signal, sys
from fsspec_osspresigned import OSSPresignedFileSystem
left = [int(os.environ["DIES_AT"])]

def dying(name):
    real = getattr(os, name)
    def one(*arguments):
        left[0] -= 1
        if left[0] == 0:
            if name == "write":
                real(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    setattr(os, name, one)

for name in ("write", "pwrite", "fsync", "replace", "unlink"):
    dying(name)
journals, source, path = sys.argv[1:]
fs = OSSPresignedFileSystem(
    signer="keys", resume_dir=journals,
    part_size="100KiB", multipart_threshold="100KiB", max_concurrency=1,
)
fs.put_file(source, path)
"""


def wait(oss: Emulator) -> None:
    """Wait until the store has seen that the killed process is gone."""
    seen = -1
    while seen != len(oss.requests):
        seen = len(oss.requests)
        time.sleep(0.05)


@pytest.mark.timeout(180)
def test_killed_at_every_step_on_the_disk(oss, tmp_path):
    """After kill -9 at any write to the disk, the next run ends with an equal object."""
    source, journals, data = tmp_path / "source", tmp_path / "j", os.urandom(SIZE)
    source.write_bytes(data)
    step, finished = 0, False
    while not finished:
        step += 1
        key = f"k{step}"
        oss.clear()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, journals, source, f"{BUCKET}/{key}"],
            env={**os.environ, "DIES_AT": str(step)},
            check=False,
        )
        finished = done.returncode == 0
        kept = list(journals.glob("*")) if journals.exists() else []
        assert not any(b"ignature" in file.read_bytes() for file in kept)
        wait(oss)
        lost = not any(file.suffix == ".jsonl" for file in kept)
        is_there = oss.get(BUCKET, key) is not None
        fs = OSSPresignedFileSystem(
            signer="keys",
            resume_dir=journals,
            part_size=MIN_PART,
            multipart_threshold=MIN_PART,
            max_concurrency=1,
        )
        fs.put_file(str(source), f"{BUCKET}/{key}")
        assert oss.get(BUCKET, key).data() == data
        # Killed before it could write down what it had begun, it had sent no part.
        assert not [one for one in oss.uploads(BUCKET) if one.parts]
        assert not [*journals.glob("*.jsonl")]
        sent = sum(one.bytes for one in oss.requests if one.action == "UploadPart")
        assert sent == SIZE * (2 if lost and is_there else 1)
    assert step > 12

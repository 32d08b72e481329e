"""SIGKILL at any moment of a large upload: the next run continues, and all is equal."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.units import MIB

pytestmark = pytest.mark.slow

BUCKET = "examplebucket"
PROGRAM = """
import sys
from fsspec_osspresigned import OSSPresignedFileSystem
journals, source, path, width = sys.argv[1:]
fs = OSSPresignedFileSystem(
    signer="keys", resume_dir=journals,
    part_size="100KiB", multipart_threshold="100KiB", max_concurrency=width,
)
fs.put_file(source, path)
"""

# Dies at the n-th time that something on the disk changes, in the middle of a write.
DYING = """
import os, signal
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
"""


class Uploader:
    """Runs uploads in processes of their own, and kills some of them."""

    def __init__(self, oss: Emulator, place: Path, width: int):
        self.oss = oss
        self.journals = place / "journals"
        self.source = place / "source.bin"
        self.width = width

    def make_source(self, size: int) -> None:
        draw = random.Random(size)  # noqa: S311 - the same bytes in every run
        self.crc = 0
        with self.source.open("wb") as file:
            for at in range(0, size, MIB):
                block = draw.randbytes(min(MIB, size - at))
                self.crc = crc64(block, self.crc)
                file.write(block)
        self.size = size

    def start(self, key: str, *, dies_at: int = 0) -> subprocess.Popen[bytes]:
        code = DYING + PROGRAM if dies_at else PROGRAM
        arguments = [self.journals, self.source, f"{BUCKET}/{key}"]
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments, str(self.width)],
            env={**os.environ, "DIES_AT": str(dies_at)},
        )

    def kill(self, key: str, seconds: float) -> None:
        """Kill an upload *seconds* after its first request."""
        with self.start(key) as child:
            while not self.oss.requests and child.poll() is None:
                time.sleep(0.002)
            time.sleep(seconds)
            child.kill()

    def wait(self) -> None:
        """Wait until the store has seen that the killed process is gone."""
        seen = -1
        while seen != len(self.oss.requests):
            seen = len(self.oss.requests)
            time.sleep(0.05)

    def sent(self) -> int:
        """Return the bytes of parts that the store has taken in."""
        return sum(one.bytes for one in self.oss.requests if one.action == "UploadPart")

    def check(self, key: str) -> None:
        """Compare all bytes, and look for what is left."""
        stored = self.oss.get(BUCKET, key)
        assert stored.size == self.size
        assert stored.crc64 == self.crc
        with self.source.open("rb") as file:
            for chunk in stored.chunks(0, stored.size):
                assert file.read(len(chunk)) == chunk
        # Killed before it could write down what it had begun, it had sent no part.
        assert not [one for one in self.oss.uploads(BUCKET) if one.parts]
        assert [n for n in os.listdir(self.journals) if n.endswith(".jsonl")] == []

    def leaks(self) -> int:
        """Return how many journals hold a piece of a signature."""
        files = self.journals.glob("*") if self.journals.exists() else ()
        return sum(b"ignature" in file.read_bytes() for file in files)


@pytest.mark.slow
def test_killed_again_and_again(oss, tmp_path):
    """One upload that is killed several times ends equal, and hardly anything twice."""
    one = Uploader(oss, tmp_path, width=2)
    one.make_source(400 * MIN_PART + 1)
    sent = 0
    for seconds in (0.0, 0.05, 0.1):
        one.kill("k", seconds)
        assert one.leaks() == 0
        one.wait()
        sent += one.sent()
        oss.clear()
    with one.start("k") as child:
        assert child.wait() == 0
    sent += one.sent()
    one.check("k")
    assert sent - one.size <= 3 * 2 * MIN_PART


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_at_every_step_on_the_disk(oss, tmp_path):
    """Whatever was half done on the disk, the next run ends equal and sends no part twice."""
    one = Uploader(oss, tmp_path, width=1)
    one.make_source(2 * MIN_PART + 1)
    step, finished = 0, False
    while not finished:
        step += 1
        key = f"k{step}"
        oss.clear()
        with one.start(key, dies_at=step) as child:
            finished = child.wait() == 0
        assert one.leaks() == 0
        one.wait()
        lost = not any(n.endswith(".jsonl") for n in os.listdir(one.journals))
        is_there = oss.get(BUCKET, key) is not None
        fs = OSSPresignedFileSystem(
            signer="keys",
            resume_dir=one.journals,
            part_size=MIN_PART,
            multipart_threshold=MIN_PART,
            max_concurrency=1,
        )
        fs.put_file(str(one.source), f"{BUCKET}/{key}")
        one.check(key)
        assert one.sent() == one.size * (2 if lost and is_there else 1)
    assert step > 12

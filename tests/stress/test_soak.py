"""Hours of work with faults, kills and new options: nothing is lost, nothing grows.

``SOAK_SECONDS`` in the environment says how long; an hour without it. The curves of
memory, descriptors and threads are printed (``pytest -m soak -s``).
"""

from __future__ import annotations

import gc
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.checksums import crc64
from tests.stress.walk import ROOT, crowd

SECONDS = float(os.environ.get("SOAK_SECONDS", "3600"))
THREADS, STEPS = 8, 6
FAULTS = (
    "*:status=503:rate=0.03:seed=1:times=always",
    "*:reset:rate=0.02:seed=2:times=always",
    "*:reset:drop-reply:rate=0.01:seed=3:times=always",
)
# A process that stores one object after the other, until it is killed.
KILLED = """
import itertools, sys
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
fs = OSSPresignedFileSystem(
    signer="keys", part_size="100KiB", multipart_threshold="150KiB", retries=20
)
print("ready", flush=True)
for number in itertools.count():
    fs.pipe_file(f"examplebucket/killed/{number:05}", bytes([number % 256]) * 400_000)
"""


def filesystem(number: int = 0) -> OSSPresignedFileSystem:
    """Return one that tries often; each *number* has options of its own."""
    return OSSPresignedFileSystem(
        signer="keys",
        part_size="100KiB",
        multipart_threshold="150KiB",
        retries=20,
        metadata={"round": str(number)},
    )


def used() -> tuple[float, int, int]:
    """Return MiB of memory, open descriptors and threads of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    descriptors = len(os.listdir("/proc/self/fd"))
    return int(line.split()[1]) / 1024, descriptors, threading.active_count()


def killed(seconds: float) -> None:
    """Kill a process while it uploads: each object is whole."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    fs = filesystem()
    for path in fs.find(f"{ROOT}/killed"):
        number = int(path.rpartition("/")[2])
        assert crc64(fs.cat_file(path)) == crc64(bytes([number % 256]) * 400_000)
        fs.rm_file(path)


def soak(place: Path) -> None:
    """Work for the whole time, and print what is used after each round."""
    draw = random.Random(1)  # noqa: S311 - to be the same in each run
    end = time.monotonic() + SECONDS
    for number in range(1_000_000):
        names = [f"r{number}w{n}" for n in range(THREADS)]
        crowd(filesystem(number), names, place, STEPS)
        # Each filesystem that fsspec keeps may keep idle connections, and one that waits
        # for the garbage collector keeps them, too.
        OSSPresignedFileSystem.clear_instance_cache()
        gc.collect()
        if number % 5 == 0:
            killed(draw.uniform(0.1, 2.0))
        print(*used(), flush=True)  # noqa: T201 - the test reads it
        if time.monotonic() > end:
            break


@pytest.mark.soak
@pytest.mark.parametrize("store", [FAULTS], indirect=True, ids=["failing"])
@pytest.mark.timeout(SECONDS + 600)
def test_nothing_is_lost_and_nothing_grows(store, tmp_path):
    """Each object is whole; memory, descriptors and threads stay what they were.

    In a process of its own: that of the tests keeps each signature, to look for it.
    """
    samples = []
    program = [sys.executable, "-W", "error", "-m", "tests.stress.test_soak"]
    with subprocess.Popen(
        [*program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        for number, line in enumerate(process.stdout):
            samples.append(tuple(map(float, line.split())))
            if number % 5 == 0:
                print(number, line, end="")  # noqa: T201 - the curves
    assert process.returncode == 0
    third = len(samples) // 3
    assert third >= 3, "too short to tell"
    # Idle connections and threads come and go: a short run may end with more of them.
    for chance, before, after in zip(
        (4, 16, 16),  # MiB, descriptors, threads
        zip(*samples[third : 2 * third], strict=True),
        zip(*samples[-third:], strict=True),
        strict=True,
    ):
        first, last = statistics.median(before), statistics.median(after)
        assert last <= first * 1.05 + chance, samples


if __name__ == "__main__":
    soak(Path(sys.argv[1]))

"""Many files and values: how long, and how much memory, against a store that waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 1024 * 1024
SERVER = Path(__file__).parent / "raw_server.py"

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

# The peak is reset when all is imported and connected, so it is the upload's own.
BEGIN = """
import asyncio, json, sys, time
import fsspec, fsspec.generic
fs = fsspec.filesystem("osspresigned", signer="keys", endpoint=sys.argv[1],
                       region="cn-hangzhou")
fs.pipe({f"examplebucket/first/{n}": b"x" for n in range(16)})
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(l.split()[1]) for l in lines if l.startswith(name)) * 1024
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")
idle, started = status("VmRSS"), time.monotonic()
"""
END = """
seconds = time.monotonic() - started
print(json.dumps({"growth": status("VmHWM") - idle, "seconds": seconds}))
"""


@contextmanager
def store(delay: float) -> Iterator[str]:
    """The URL of a store that waits *delay* seconds before each answer."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(delay)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process.stdout.readline().strip()
        process.communicate()


def measured(work: str, *arguments: str) -> dict[str, float]:
    """Run *work* in a process of its own; return seconds, and bytes of growth."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("COVERAGE_")}
    environment |= {"OSS_ACCESS_KEY_ID": "made-up", "OSS_ACCESS_KEY_SECRET": "made-up"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + work + END, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """48 files of 1 KiB."""
    place = tmp_path_factory.mktemp("files")
    for number in range(48):
        (place / f"{number:02}").write_bytes(bytes([number]) * 1024)
    return place


@pytest.mark.parametrize("count", [25_000, 100_000])
def test_a_tree_of_small_files_takes_little_memory(tmp_path, count):
    """100,000 files of 1 KiB: at most 92 MiB over the idle program.

    Receipts are plain values: some 0.7 KiB for each file with its place in the record.
    16 MiB are bodies that are kept to be read back, however many files there are.
    """
    for number in range(count):
        place = tmp_path / f"{number // 1000:03}"
        if number % 1000 == 0:
            place.mkdir()
        (place / f"part-{number:06}.bin").write_bytes(bytes(1024))
    with store(0) as url:
        found = measured(
            'assert len(fs.put(sys.argv[2] + "/", "examplebucket/d/", recursive=True))'
            f" == {count}",
            url,
            str(tmp_path),
        )
    growth = found["growth"] / MIB
    print(f"{count} files: {growth:.1f} MiB, {found['seconds']:.1f} s")  # noqa: T201
    assert growth <= 92

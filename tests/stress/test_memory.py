"""Memory of an upload, beyond that of the imported, idle program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fsspec_osspresigned.options.options import Options

MIB = 1024 * 1024
GIB = 1024 * MIB

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only"),
]

# The peak is reset when all is imported and connected, so it is the upload's own.
CLIENT = """
import json, sys, time
import fsspec
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(l.split()[1]) for l in lines if l.startswith(name)) * 1024
fs = fsspec.filesystem("osspresigned", signer="keys")
fs.pipe_file("examplebucket/small", b"x")
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")
idle, started = status("VmRSS"), time.monotonic()
{work}
seconds = time.monotonic() - started
print(json.dumps({{"growth": status("VmHWM") - idle, "seconds": seconds}}))
"""

PUT_FILE = """
assert fs.put_file(sys.argv[1], "examplebucket/big").size == 1 << 30
"""
PUT_TREE = """
assert len(fs.put(sys.argv[1] + "/", "examplebucket/d/", recursive=True)) == 25_000
"""
STREAM = """
block = bytes(1024 * 1024)
with fs.open("examplebucket/big", "wb") as file:
    for _ in range(1024):
        file.write(block)
assert file.receipt.size == 1 << 30
"""


def growth(work: str, *arguments: str) -> int:
    """Run *work* in a process of its own; return the bytes that its peak grew by."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", CLIENT.format(work=textwrap.dedent(work)), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    found = json.loads(done.stdout)
    print(f"{found['growth'] / MIB:.1f} MiB in {found['seconds']:.1f} s")  # noqa: T201
    return int(found["growth"])


def test_put_file_of_a_gibibyte(store, tmp_path):
    """A file is read where it is needed: at most 48 MiB, whatever its size."""
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(GIB)
    assert growth(PUT_FILE, str(source)) <= 48 * MIB


def test_stream_of_a_gibibyte(store):
    """A stream holds the parts that are in flight and the one that is filled."""
    options = Options(signer="keys")
    bound = options.piece_size * (options.connections + 1) + 32 * MIB
    assert growth(STREAM) <= bound


@pytest.mark.timeout(900)
def test_a_tree_of_small_files(store, tmp_path):
    """Some 1 KiB for each file, and 16 MiB of bodies that can be read back."""
    for number in range(25_000):
        place = tmp_path / f"{number // 1000:03}"
        place.mkdir(exist_ok=True)
        (place / f"part-{number:06}.bin").write_bytes(bytes(1024))
    assert growth(PUT_TREE, str(tmp_path)) <= 48 * MIB

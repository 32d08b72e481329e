"""A process that may open few files, by a limit of the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
BUCKET = "examplebucket"
SECONDS = 120.0  # after which a child is held to hang
# Does one verb where no more than 64 files may be open.
CHILD = """
import os, resource, sys, tempfile
from pathlib import Path
from fsspec_osspresigned import sync
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

place = Path(tempfile.mkdtemp(dir=os.getcwd()))
tree = place / "tree"
tree.mkdir()
for number in range(200):
    (tree / f"{number:03}").write_bytes(b"%d" % number)
large = Path("large").read_bytes()
fs = OSSPresignedFileSystem(signer="keys", part_size=100 * 1024)

def put():
    fs.put(f"{tree}/", "examplebucket/put/", recursive=True)
    assert len(fs.find("examplebucket/put")) == 200

def parts():
    fs.put_file("large", "examplebucket/parts")
    assert fs.cat_file("examplebucket/parts") == large

def get():
    fs.get_file("examplebucket/source", str(place / "target"))
    assert (place / "target").read_bytes() == large

def synced():
    sync(tree, "examplebucket/sync", filesystem=fs)
    assert len(fs.find("examplebucket/sync")) == 200

files = resource.RLIMIT_NOFILE
resource.setrlimit(files, (64, resource.getrlimit(files)[1]))
globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("verb", ["put", "parts", "get", "synced"])
def test_64_files_are_enough(oss, tmp_path, verb):
    """The default options never need more, and no part is left."""
    large = os.urandom(100 * MIN_PART)
    (tmp_path / "large").write_bytes(large)
    whole = OSSPresignedFileSystem(signer="keys", multipart_threshold="1GiB")
    whole.pipe_file(f"{BUCKET}/source", large)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, verb],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert oss.uploads(BUCKET) == []

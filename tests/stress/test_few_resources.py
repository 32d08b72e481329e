"""A process that may open few files, or start few threads, by limits of the kernel."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
BUCKET = "examplebucket"
SECONDS = 120.0  # after which a child is held to hang
# Does one verb under a limit, then again without it, and tells how both ended.
CHILD = """
import os, resource, sys, tempfile, threading
from pathlib import Path
from fsspec_osspresigned import sync
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

verb, kind, most, concurrency = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
GIB = 2**30
place = Path(tempfile.mkdtemp(dir=os.getcwd()))
tree = place / "tree"
tree.mkdir()
for number in range(200):
    (tree / f"{number:03}").write_bytes(b"%d" % number)
large = Path("large").read_bytes()
fs = OSSPresignedFileSystem(
    signer="keys", part_size=100 * 1024, max_concurrency=concurrency
)

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

def errors_of(error):
    yield error
    for one in getattr(error, "failures", {}).values():
        yield from errors_of(one)

def end():
    try:
        globals()[verb]()
    except OSError as error:
        texts = [str(error), *getattr(error, "__notes__", ())]
        text = "".join(map(str, (*texts, *errors_of(error))))
        lacks = ("ulimit", "Too many open files", "no thread can be started")
        assert any(words in text for words in lacks), repr(error)
        return "too few"
    return "done"

used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
name, value = {
    "files": (resource.RLIMIT_NOFILE, most),
    # Each thread takes a GiB of addresses, of which there are only so many.
    "threads": (resource.RLIMIT_AS, used + most * GIB + GIB // 2),
}[kind]
if kind == "threads":
    threading.stack_size(GIB)
before = resource.getrlimit(name)
resource.setrlimit(name, (value, before[1]))
if kind == "threads":  # the limit holds
    try:
        gate = threading.Event()
        for number in range(most + 2):
            threading.Thread(target=gate.wait, daemon=True).start()
    except RuntimeError:
        assert number == most, number
    else:
        raise AssertionError("no limit")
    gate.set()
    while threading.active_count() > 1:
        pass
ends = [end()]
resource.setrlimit(name, before)
threading.stack_size(0)
ends.append(end())
print(ends)
"""


@pytest.fixture
def ends(oss, tmp_path):
    """Return how a verb ends under a limit and after it, and that no part is left."""
    large = os.urandom(100 * MIN_PART)
    (tmp_path / "large").write_bytes(large)
    whole = OSSPresignedFileSystem(signer="keys", multipart_threshold="1GiB")
    whole.pipe_file(f"{BUCKET}/source", large)

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", CHILD, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert oss.uploads(BUCKET) == []
        return ast.literal_eval(done.stdout)

    return run


VERBS = ["put", "parts", "get", "synced"]


@pytest.mark.parametrize("verb", VERBS)
def test_64_files_are_enough(ends, verb):
    """The default options never need more."""
    assert ends(verb, "files", 64, 16) == ["done", "done"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_more_requests_than_files(oss, ends, verb):
    """It ends well, or by an error that says what to do; with more files it works."""
    oss.faults.add(Fault(action="*", delay=0.1, times=None))  # so that many are at once
    assert ends(verb, "files", 40, 128)[1] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("most", [0, 1, 3])
@pytest.mark.parametrize("verb", VERBS)
def test_few_threads(ends, verb, most):
    """It ends well, or by the error of the system; with more threads it works."""
    assert ends(verb, "threads", most, 16)[1] == "done"

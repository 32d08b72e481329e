"""Downloads that a later process resumes: nothing twice, and never a byte of another version."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest
from fsspec.callbacks import Callback

from fsspec_osspresigned import sync_down
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    ConfigurationError,
    IntegrityError,
    InvalidRequestError,
    SourceChangedError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.objects.partial import PartialFile
from tests.interrupts import settle

ROOT = "examplebucket"
PATH = f"{ROOT}/d/a.bin"
PART = 100 * 1024
LARGE = os.urandom(PART * 12 + 5)
OPTIONS = {"signer": "keys", "part_size": PART, "max_concurrency": 1}

# Dies in the n-th call of a function that changes the disk, in the middle of a write.
PROGRAM = """
import os, signal, sys
from fsspec_osspresigned import OSSPresignedFileSystem
name, left = sys.argv[3], [int(sys.argv[4])]
real = getattr(os, name)

def dying(*arguments):
    left[0] -= 1
    if left[0] == 0:
        if name == "pwrite":
            real(arguments[0], arguments[1][: len(arguments[1]) // 2], arguments[2])
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)

fs = OSSPresignedFileSystem(
    signer="keys", part_size=102400, max_concurrency=2, resume_dir=sys.argv[1],
)
setattr(os, name, dying)
fs.get_file("examplebucket/d/a.bin", sys.argv[2])
"""


@pytest.fixture
def resuming(environment, tmp_path):
    """A filesystem that keeps what has arrived."""
    fs = OSSPresignedFileSystem(**OPTIONS, resume_dir=tmp_path / "journals")
    fs.pipe_file(PATH, LARGE)
    return fs


@pytest.fixture
def place(tmp_path):
    """The destination, in a directory of its own, where an old file is."""
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "a.bin").write_bytes(b"old")
    return tmp_path / "to" / "a.bin"


def left(place):
    """Return the names of other files beside the destination."""
    return [name for name in os.listdir(place.parent) if name != place.name]


def fail_after(owner, count):
    """Let the store refuse after *count* requests of a download."""
    owner.oss.faults.clear()
    owner.oss.faults.add(
        Fault(action="GetObject", after=count, status=400, code="Oops", times=None)
    )


def stop(resuming, owner, place, count=5):
    """Download until the store refuses, which leaves a partial file; return it."""
    fail_after(owner, count)
    with pytest.raises(InvalidRequestError) as caught:
        resuming.get_file(PATH, place)
    owner.oss.faults.clear()
    owner.oss.clear()
    assert place.read_bytes() == b"old"
    assert any("run the same again to resume" in n for n in caught.value.__notes__)
    (name,) = left(place)
    return place.parent / name


def test_what_has_arrived_is_not_requested_again(resuming, owner, place):
    """Each run gets what is missing; the file appears when all of it is compared."""
    stop(resuming, owner, place, 5)
    stop(resuming, owner, place, 4)
    resuming.get(PATH, str(place))
    assert place.read_bytes() == LARGE
    assert left(place) == []
    # The first request of a run gets the version; of 13 ranges, 4 and 3 were complete.
    assert owner.actions() == ["GetObject"] * (13 - 4 - 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "at", "requests"),
    [
        ("ftruncate", 1, 13),
        ("pwrite", 1, 13),
        ("pwrite", 3, 13),
        ("pwrite", 45, 12),
        ("fsync", 1, 13),
        ("fsync", 8, 13 - 6),
        ("ftruncate", 2, 1),
        ("replace", 1, 13),
    ],
)
def test_a_killed_process_is_resumed(
    resuming, owner, place, tmp_path, name, at, requests
):
    """After a power cut at any moment, the next run ends with an equal file."""
    words = [tmp_path / "journals", place, name, at]
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)], check=False
    )
    assert child.returncode == -signal.SIGKILL
    assert place.read_bytes() == b"old"
    settle(owner.oss)  # requests of the killed process may still be on their way
    owner.oss.clear()
    resuming.get_file(PATH, place)
    assert place.read_bytes() == LARGE
    assert left(place) == []
    assert len(owner.actions()) <= requests


@pytest.mark.parametrize("damage", ["version", "size", "mark", "cut"])
def test_what_belongs_to_something_else_is_dropped(resuming, owner, place, damage):
    """A new version of the object, or a partial file that makes no sense: all is new."""
    partial = stop(resuming, owner, place)
    data = LARGE
    if damage == "version":
        data = LARGE[::-1]
        resuming.pipe_file(PATH, data)
    elif damage == "size":
        data = LARGE[: PART * 9]
        resuming.pipe_file(PATH, data)
    elif damage == "mark":
        with partial.open("r+b") as file:
            file.seek(len(LARGE))
            (byte,) = file.read(1)  # of the digest, which may be any
            file.seek(len(LARGE))
            file.write(bytes([byte ^ 1]))
    else:
        os.truncate(partial, PART)
    owner.oss.clear()
    resuming.get_file(PATH, place)
    assert place.read_bytes() == data
    assert left(place) == []
    assert len(owner.actions()) == -(-len(data) // PART)


def test_damaged_bytes_are_found_and_dropped(resuming, owner, place):
    """The CRC-64 of all bytes decides; the next run starts over."""
    partial = stop(resuming, owner, place)
    with partial.open("r+b") as file:
        file.seek(PART * 2)
        file.write(b"\0" * 100)
    with pytest.raises(IntegrityError):
        resuming.get_file(PATH, place)
    assert place.read_bytes() == b"old"
    assert left(place) == []
    resuming.get_file(PATH, place)
    assert place.read_bytes() == LARGE


def test_a_replaced_object_leaves_nothing(resuming, owner, place):
    """A partial file of a replaced version is not completed."""

    class Replaces(Callback):
        def set_size(self, size):
            super().set_size(size)
            resuming.pipe_file(PATH, LARGE[::-1])

    with pytest.raises(SourceChangedError):
        resuming.get_file(PATH, place, callback=Replaces())
    assert left(place) == []


def test_two_processes_do_not_write_into_one_file(resuming, owner, place):
    """The second one downloads all by itself, and leaves the partial file alone."""
    stop(resuming, owner, place)
    other = PartialFile.open(str(place), "other", 5, 1)
    assert PartialFile.open(str(place), "other", 5, 1) is None
    resuming.get_file(PATH, place)
    assert place.read_bytes() == LARGE
    assert left(place) == [os.path.basename(other.name)]
    os.close(other.descriptor)


def test_a_link_is_not_followed(resuming, owner, place, tmp_path):
    """A link of that name does not lead the download into another file."""
    partial = stop(resuming, owner, place)
    (tmp_path / "victim").write_bytes(b"victim")
    partial.unlink()
    partial.symlink_to(tmp_path / "victim")
    for _ in range(2):
        resuming.get_file(PATH, place)
        assert place.read_bytes() == LARGE
        assert (tmp_path / "victim").read_bytes() == b"victim"
        partial.unlink()
        os.link(tmp_path / "victim", partial)


def test_what_arrived_is_no_more_public_than_the_file(resuming, owner, place):
    """The partial file has the permissions of the file that it will replace."""
    place.chmod(0o600)
    assert stat.S_IMODE(stop(resuming, owner, place).stat().st_mode) == 0o600


def test_an_object_has_not_the_name_of_a_partial_file(resuming, owner, place):
    """An object with the name of a partial file is refused."""
    name = stop(resuming, owner, place).name
    resuming.pipe_file(f"{ROOT}/d/{name}", b"evil")
    with pytest.raises(ConfigurationError, match="name of an unfinished download"):
        resuming.get(f"{ROOT}/d/", str(place.parent), recursive=True)
    with pytest.raises(ConfigurationError, match="name of an unfinished download"):
        sync_down(f"{ROOT}/d", str(place.parent), filesystem=resuming)
    assert place.read_bytes() == b"old"
    assert left(place) == [name]


def test_a_partial_file_that_another_program_replaced_is_not_published(
    resuming, owner, place
):
    """The file that has its name at the end was not checked."""
    partial = stop(resuming, owner, place)

    class Replaces(Callback):
        def relative_update(self, inc=1):
            partial.unlink(missing_ok=True)
            partial.write_bytes(b"evil")

    with pytest.raises(FileNotFoundError, match="another program"):
        resuming.get_file(PATH, place, callback=Replaces())
    assert place.read_bytes() == b"old"


def test_without_a_checksum_nothing_is_kept(resuming, owner, place):
    """Bytes of two runs are put together only if their sum can be compared."""
    owner.oss.faults.add(Fault(action="GetObject", no_crc=True, times=5))
    owner.oss.faults.add(
        Fault(action="GetObject", after=5, status=400, code="Oops", times=None)
    )
    with pytest.raises(InvalidRequestError):
        resuming.get_file(PATH, place)
    assert left(place) == []

"""A lock that one process has, and that ends with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import subprocess
import sys

import pytest

from fsspec_osspresigned.files import FileLock, LockedError

HOLD = (
    "import sys, time; from fsspec_osspresigned.files import FileLock;"
    "lock = FileLock.take(sys.argv[1]); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def place(tmp_path):
    """A path for the lock."""
    return str(tmp_path / "one.lock")


def test_it_excludes_other_processes_until_it_is_killed(place):
    """The second process gets the pid of the first; SIGKILL leaves no lock behind."""
    command = [sys.executable, "-c", HOLD, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"^process {child.pid} on "):
            FileLock.take(place)
        child.send_signal(signal.SIGKILL)
    assert os.path.exists(place)
    FileLock.take(place).release()
    assert not os.path.exists(place)


def test_it_excludes_threads_of_the_same_process(place):
    """Two takers in one process do not share it, and the file is private."""
    lock = FileLock.take(place)
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
    with pytest.raises(LockedError, match=f"process {os.getpid()}"):
        FileLock.take(place)
    lock.release()
    lock.release()
    FileLock.take(place).release()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_keep_it(place):
    """A child that outlives its parent holds no lock of it, nor removes the file."""
    lock = FileLock.take(place)
    waits, says = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - the child ends without its record
        try:
            os.close(says)
            lock.release()
            os.read(waits, 1)
        finally:
            os._exit(0 if sys.exception() is None else 1)
    os.close(waits)
    try:
        with pytest.raises(LockedError):
            FileLock.take(place)
        lock.release()
        FileLock.take(place).release()
    finally:
        os.close(says)
        assert os.waitpid(child, 0)[1] == 0


def test_a_file_that_its_last_holder_removed_is_not_taken(place, monkeypatch):
    """A lock file that was removed between open and lock is created again."""
    first = FileLock.take(place)
    flock, calls = fcntl.flock, []

    def late(descriptor, how):
        calls.append(how)
        if len(calls) == 1:
            first.release()
        elif len(calls) == 2:
            os.unlink(place)
            with open(place, "xb"):
                pass
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    lock = FileLock.take(place)
    assert len(calls) == 3
    with pytest.raises(LockedError):
        FileLock.take(place)
    lock.release()


def test_a_file_system_without_locks_is_an_error(place, monkeypatch):
    """Errors of ``flock`` are raised, and no descriptor is left open."""

    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(OSError, match="not supported"):
        FileLock.take(place)
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing is closed
            assert os.readlink(f"/proc/self/fd/{name}") != place


@pytest.mark.parametrize("make", [os.link, os.symlink])
def test_a_link_is_not_written_to(place, tmp_path, make):
    """It may be any file of this user, which somebody else gave the name of the lock."""
    (tmp_path / "victim").write_text("x")
    make(tmp_path / "victim", place)
    with pytest.raises(OSError):
        FileLock.take(place)
    assert (tmp_path / "victim").read_text() == "x"


def test_a_pipe_is_no_lock(place):
    """It is refused, and stays."""
    os.mkfifo(place)
    with pytest.raises(OSError, match="not a regular file"):
        FileLock.take(place)
    assert stat.S_ISFIFO(os.stat(place).st_mode)

"""A machine that is no POSIX, as far as Linux can play it: run in a process of its own.

``python bare_system.py`` takes away what Windows and some other systems lack, lets no
open file be renamed or removed, and then uploads, resumes, reads and lists.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import signal
import socket
import subprocess  # noqa: F401 - it would take a module of Windows for Windows
import sys
import types

LACKING = {
    os: (
        *(
            "fork",
            "forkpty",
            "register_at_fork",
            "pread",
            "pwrite",
            "preadv",
            "pwritev",
        ),
        *("O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "fchmod", "fchown"),
        *("getuid", "geteuid", "getgid", "mkfifo", "statvfs", "uname"),
        *("sendfile", "posix_fadvise", "posix_fallocate", "copy_file_range", "killpg"),
        *("sched_getaffinity", "getloadavg", "splice", "memfd_create", "openpty"),
    ),
    signal: (
        *("SIGHUP", "SIGKILL", "SIGALRM", "SIGPIPE", "SIGUSR1", "SIGCHLD", "SIGQUIT"),
        *("alarm", "setitimer", "pthread_sigmask", "pthread_kill", "siginterrupt"),
    ),
    socket: ("SO_REUSEPORT", "AF_UNIX"),
    select: ("poll", "epoll"),
}
MODULES = ("fcntl", "termios", "resource", "pwd", "grp", "tty", "pty", "syslog")


class Status:
    """Result of a stat without blocks and modes."""

    def __init__(self, found: os.stat_result) -> None:
        self._found = found

    def __getattr__(self, name: str) -> object:
        if name in ("st_blocks", "st_blksize", "st_rdev"):
            raise AttributeError(name)
        value = getattr(self._found, name)
        return value | 0o666 if name == "st_mode" else value

    def __getitem__(self, index: int) -> object:
        return self._found[index]


def take_away() -> None:
    """Remove the calls of POSIX from this process."""
    import fcntl  # noqa: PLC0415 - what plays the lock of Windows

    flock, how = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR) > 0) == (2, 1, True)
        try:
            flock(descriptor, how)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "locked") from None

    sys.modules["msvcrt"] = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    for name in MODULES:
        sys.modules[name] = None
    for module, names in LACKING.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    # What they were made of when they were imported, there was everything.
    selectors.DefaultSelector = selectors.SelectSelector
    socket.socketpair = _connected
    socket.socket.recv = _refusing_to_wait(socket.socket.recv)
    for name in ("stat", "fstat", "lstat"):
        setattr(os, name, _without_blocks(getattr(os, name)))
    for name in ("replace", "rename", "unlink", "remove"):
        setattr(os, name, _refusing_open_files(getattr(os, name)))


def _connected(*_):
    """Return two sockets that are connected, as on systems without socketpair."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return client, server.accept()[0]


def _refusing_to_wait(recv):
    def call(self, size: int, flags: int = 0) -> bytes:
        if flags & socket.MSG_WAITALL and self.gettimeout() is not None:
            raise OSError(errno.EOPNOTSUPP, "the socket does not block")
        return recv(self, size, flags)

    return call


def _without_blocks(function):
    return lambda *args, **kwargs: Status(function(*args, **kwargs))


def _refusing_open_files(function):
    listdir, readlink, realpath = os.listdir, os.readlink, os.path.realpath

    def call(*paths, **kwargs):
        opened = set()
        for number in listdir("/proc/self/fd"):
            try:
                opened.add(readlink(f"/proc/self/fd/{number}"))
            except OSError:  # that of listdir itself
                continue
        for path in paths:
            own = os.path.basename(path).startswith(
                "tmp"
            )  # tempfile thinks it is POSIX
            if not own and realpath(path) in opened:
                raise PermissionError(errno.EACCES, "open elsewhere", path)
        return function(*paths, **kwargs)

    return call


def work() -> None:
    """Upload in every way, resume, and read back; in the directory of the test."""
    import fsspec  # noqa: PLC0415 - after what it looks for is gone
    import requests  # noqa: F401, PLC0415 - before the system has another name

    if sys.platform == "linux":
        os.name = sys.platform = "bare"
    from fsspec_osspresigned import UploadInProgressError  # noqa: PLC0415
    from fsspec_osspresigned.upload.journal import ResumeDirectory  # noqa: PLC0415

    options = {"signer": "keys", "part_size": "100KiB", "multipart_threshold": "100KiB"}
    fs = fsspec.filesystem("osspresigned", receipts="receipts", **options)
    data = bytes(range(256)) * 1600  # 400 KiB, with every line end
    with open("small", "wb") as file:
        file.write(data[:3000])
    with open("big", "wb") as file:
        file.write(data)
    assert fs.put_file("small", "examplebucket/t/small").size == 3000
    assert len(fs.put_file("big", "examplebucket/t/big").parts) == 4
    with fs.open("examplebucket/t/stream", "wb") as file:
        for start in range(0, len(data), 1000):
            file.write(data[start : start + 1000])
    with fs.transaction, fs.open("examplebucket/t/late", "wb") as file:
        file.write(data)
    kept = fsspec.filesystem("osspresigned", resume_dir="journals", **options)
    held = ResumeDirectory("journals").hold(
        "examplebucket/t/kept", os.path.abspath("big")
    )
    try:
        kept.put_file("big", "examplebucket/t/kept")
    except UploadInProgressError as error:
        assert f"process {os.getpid()} on" in str(error)  # noqa: PT017 - no pytest here
    held.release()
    assert len(kept.put_file("big", "examplebucket/t/kept").parts) == 4
    assert os.listdir("journals") == []
    one = fsspec.filesystem("osspresigned", presigned_url=f"file:{sys.argv[1]}")
    with one.open("", "wb") as file:  # more than a part: it is spooled
        file.write(data * 30)
    names = ["big", "kept", "late", "small", "stream"]
    assert fs.ls("examplebucket/t", detail=False) == [
        f"examplebucket/t/{n}" for n in names
    ]
    fs.get("examplebucket/t/", "back", recursive=True)
    fs.get("examplebucket/t/", "back", recursive=True)  # what is there is replaced
    for name in names:
        with open(f"back/{name}", "rb") as file:
            assert file.read() == (data[:3000] if name == "small" else data)
    assert sorted(os.listdir("back")) == names
    (lines,) = os.listdir("receipts")
    with open(f"receipts/{lines}", "rb") as file:
        assert file.read().count(b"\n") == 4
    print("done")  # noqa: T201 - what the test waits for


if __name__ == "__main__":
    if sys.platform == "linux":  # elsewhere it is what the machine is
        take_away()
    work()

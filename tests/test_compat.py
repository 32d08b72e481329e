"""Systems that lack what POSIX has: uploads work there, whatever has to be done without."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fsspec_osspresigned import compat

BARE = Path(__file__).with_name("bare_system.py")


def test_everything_works_without_posix(oss, signed, tmp_path):
    """Small, in parts, streamed, spooled, resumed, in a transaction; read and listed."""
    url = tmp_path / "one.url"
    url.touch(mode=0o600)
    url.write_text(signed("spooled"))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(BARE), str(url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines() == []
    assert done.stdout == "done\n"
    assert oss.get("examplebucket", "spooled").size == 400 * 1024 * 30
    assert not oss.uploads("examplebucket")


def test_bytes_at_an_offset(tmp_path, monkeypatch):
    """All of them are written, with the calls of POSIX and without."""
    bitten = getattr(os, "pwrite", None)
    if bitten is not None:
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: bitten(fd, data[:2], at))
    descriptor = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    for lacking in (False, True):
        if lacking:
            monkeypatch.delattr(os, "pwrite", raising=False)
            monkeypatch.delattr(os, "pread", raising=False)
        compat.write_at(descriptor, memoryview(b"12345"), 3)
        compat.write_at(descriptor, memoryview(b"abc"), 0)
        assert compat.read_at(descriptor, 9, 1) == b"bc12345"
        assert compat.read_at(descriptor, 2, 6) == b"45"
        assert compat.read_at(descriptor, 2, 8) == b""
    os.close(descriptor)


class Names:
    """One path of each kind, made in a directory."""

    def __init__(self, top):
        self.file, self.other = top / "file", top / "other"
        self.link, self.dangling = top / "link", top / "dangling"
        self.pipe, self.twin, self.directory = top / "pipe", top / "twin", top / "d"
        self.file.write_bytes(b"file")
        self.link.symlink_to(self.file)
        self.dangling.symlink_to(top / "none")
        os.mkfifo(self.pipe)
        self.other.write_bytes(b"other")
        self.twin.hardlink_to(self.other)
        self.directory.mkdir()


@pytest.fixture
def names(tmp_path):
    """One path of each kind."""
    return Names(tmp_path)


READ, ADD = os.O_RDONLY, os.O_WRONLY | os.O_APPEND | os.O_CREAT


@pytest.mark.parametrize("flags", [READ, ADD])
def test_a_pipe_is_refused_at_once(names, flags):
    """No program is at its other end, or one is; devices and sockets are the same."""
    with pytest.raises(compat.SpecialFileError, match="not a regular file") as caught:
        compat.open_regular(names.pipe, flags)
    assert caught.value.filename == str(names.pipe)
    end = os.open(names.pipe, os.O_RDWR)
    with pytest.raises(compat.SpecialFileError):
        compat.open_regular(names.pipe, flags)
    os.close(end)
    with pytest.raises(compat.SpecialFileError):
        compat.open_regular("/dev/null", flags)


def test_a_stream_is_copied_whole(names):
    """A program may write or read whenever it likes, before or after the other end."""
    data = os.urandom(3_000_000)

    def no_check():
        pass

    def write():
        with compat.Stream(str(names.pipe), no_check, writing=True) as stream:
            stream.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with compat.Stream(str(names.pipe), no_check) as stream:
        blocks = [*iter(lambda: stream.read(2**20), b"")]
    writer.join()
    assert b"".join(blocks) == data
    with pytest.raises(compat.SpecialFileError):
        compat.Stream(str(names.pipe), no_check, regular=True)


def test_a_socket_and_a_directory_are_refused(names, monkeypatch):
    """A directory is its own kind of error."""
    monkeypatch.chdir(names.directory)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        with pytest.raises(compat.SpecialFileError):
            compat.open_regular("sock")
    with pytest.raises(IsADirectoryError):
        compat.open_regular(names.directory)


def test_links_count_where_they_matter(names):
    """Symbolic links and hard links are followed unless the caller forbids them."""
    for place in (names.file, names.link, names.twin):
        descriptor = compat.open_regular(place)
        assert os.read(descriptor, 9) in (b"file", b"other")
        os.close(descriptor)
    for place in (names.link, names.dangling):
        with pytest.raises(OSError, match="symbolic links"):
            compat.open_regular(place, ADD | compat.NOFOLLOW)
    with pytest.raises(OSError, match="hard link to another file"):
        compat.open_regular(names.twin, ADD, one_link=True)
    assert not (names.file.parent / "none").exists()


def test_a_new_file_is_private(tmp_path):
    """Unless the caller says otherwise."""
    os.close(compat.open_regular(tmp_path / "new", ADD, one_link=True))
    os.close(compat.open_regular(tmp_path / "open", ADD, 0o640))
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("new", "open")]
    assert modes[0] == 0o600
    assert modes[1] | 0o600 == 0o640

"""Systems that lack what POSIX has: uploads work there, whatever has to be done without."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fsspec_osspresigned import system
from fsspec_osspresigned.http.body import has_its_size

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
        system.write_at(descriptor, memoryview(b"12345"), 3)
        system.write_at(descriptor, memoryview(b"abc"), 0)
        assert system.read_at(descriptor, 9, 1) == b"bc12345"
        assert system.read_at(descriptor, 2, 6) == b"45"
        assert system.read_at(descriptor, 2, 8) == b""
    os.close(descriptor)


def test_what_has_come_is_seen_at_once(monkeypatch):
    """Bytes and the end count; without ``poll`` it is ``select`` that looks."""
    for lacking in (False, True):
        if lacking:
            monkeypatch.delattr(select, "poll", raising=False)
        here, there = socket.socketpair()
        has_come = system.incoming(here)
        assert not has_come()
        there.send(b"x")
        assert has_come()
        here.recv(1)
        assert not has_come()
        there.close()
        assert has_come()
        here.close()


def test_forks_are_noted_where_there_are_any(monkeypatch):
    """Elsewhere there is nothing to do."""
    noted = []
    monkeypatch.setattr(
        os, "register_at_fork", lambda **given: noted.append(given), raising=False
    )
    system.after_fork_in_child(len)
    monkeypatch.delattr(os, "register_at_fork")
    system.after_fork_in_child(len)
    assert noted == [{"after_in_child": len}]


@pytest.mark.parametrize("size", [0, 3, 2**20])
def test_a_system_that_tells_no_blocks_has_honest_files(size):
    """Files of /proc are of Linux."""
    assert has_its_size("none", SimpleNamespace(st_size=size))

"""The disk of a world: it may be full, and reads may return too few bytes.

A power cut removes unsynced bytes from the journals. The end of a process removes its
locks.

``install`` replaces the calls with which the package reads and writes the user's files.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from fsspec_osspresigned.http.body import SMALL

from .world import Broken, World

_REAL_SYNC, _REAL_LOCK = os.fsync, fcntl.flock
_MOST_AT_ONCE = 64 * 1024 + 1  # bytes of a whole file that may be in memory
_REAL_READ = os.read
_REAL_WRITE, _REAL_WRITE_AT = os.write, getattr(os, "pwrite", None)


@define
class Disk:
    """Shares of failing calls and of short reads, from 0 to 1."""

    world: World
    full: float = 0.0
    short: float = 0.0
    pauses: list[float] = field(factory=list)  # seconds that the next writes take
    failed: int = field(init=False, default=0)
    # Inode of a file -> its bytes that survive a crash.
    _synced: dict[int, int] = field(init=False, factory=dict)
    # Descriptor -> the process that locked it last.
    _locked: dict[int, int] = field(init=False, factory=dict)

    def check_space(self) -> None:
        if (
            self.full
            and self.world.is_mine()
            and self.world.random.random() < self.full
        ):
            self.failed += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._synced[status.st_ino] = status.st_size

    def lose(self, place: Path) -> None:
        """Remove some or all unsynced bytes from the files below *place*."""
        for file in sorted(place.glob("*.jsonl*")):
            status = file.stat()
            sure = min(self._synced.get(status.st_ino, 0), status.st_size)
            os.truncate(file, self.world.random.choice((sure, sure, status.st_size)))

    def lock(self, descriptor: int) -> None:
        assert self.world.running is not None
        self._locked[descriptor] = self.world.running.process

    def kill(self, process: int) -> None:
        """Release the locks of *process*, as the system does when a process ends."""
        for descriptor, owner in self._locked.items():
            if owner == process:
                with suppress(OSError):  # the descriptor was closed
                    _REAL_LOCK(descriptor, fcntl.LOCK_UN)

    def cut(self, size: int) -> int:
        if self.short and size > 1 and self.world.random.random() < self.short:
            return self.world.random.randrange(1, size)
        return size


disk: Disk | None = None  # the disk of this world


class _FileIO(io.FileIO):
    in_engine = 0  # bytes that the thread of all requests has read

    def read(self, size: int | None = -1, /) -> bytes:
        if disk is not None and size is not None and size > 0:
            size = disk.cut(size)
        data = super().read(size)
        if threading.current_thread().name.startswith("osspresigned-engine"):
            self.in_engine += len(data)
            if self.in_engine > SMALL and disk is not None:
                text = "the thread of all requests waits for the disk"
                disk.world.fail(Broken(f"{text}: {self.in_engine} bytes of a file"))
        return data


def _read(descriptor: int, size: int, /) -> bytes:
    if disk is not None and size > _MOST_AT_ONCE:
        disk.world.fail(Broken(f"{size} bytes of a file are read into memory"))
    return _REAL_READ(descriptor, size)


def _write(descriptor: int, data: Any, /) -> int:
    if disk is not None and descriptor > 2:
        # the output of the process itself does not count
        disk.check_space()
    return _REAL_WRITE(descriptor, data)


def _write_at(descriptor: int, data: Any, offset: int, /) -> int:
    assert _REAL_WRITE_AT is not None
    if disk is not None:
        if disk.pauses:
            time.sleep(disk.pauses.pop())
        disk.check_space()
        data = memoryview(data)[: disk.cut(len(data))]
    return _REAL_WRITE_AT(descriptor, data, offset)


def _sync(descriptor: int, /) -> None:
    _REAL_SYNC(descriptor)
    if disk is not None:
        disk.sync(descriptor)


def _lock(descriptor: int, operation: int, /) -> None:
    _REAL_LOCK(descriptor, operation)
    if disk is not None:
        disk.lock(descriptor)


def install(new: Disk) -> None:
    global disk  # noqa: PLW0603 - one for each process
    disk = new
    io.FileIO = _FileIO  # type: ignore[misc]
    os.read = _read
    os.write = _write
    os.pwrite = _write_at
    os.fsync = _sync
    fcntl.flock = _lock

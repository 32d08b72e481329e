"""Checkpoint directory: one journal for each upload that can be resumed.

An upload is found again by its object and its local file. One process at a time holds
its journal. A disk error ends the journal, not the upload.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from attrs import frozen

from ..concurrency.file_lock import FileLock, LockedError
from ..concurrency.line_file import LineFile
from ..errors import CheckpointInUseError, ConfigurationError
from .journal import (
    JournalHead,
    JournalPart,
    JournalRecord,
    head_line,
    parse,
    part_line,
    read,
)

_log = logging.getLogger(__name__)

SUFFIX = ".upload.jsonl"
_LOCK = ".lock"
_PATIENCE = (0.02, 0.05)  # seconds: listing the journals locks each for a moment


def demands_of(headers: Mapping[str, str]) -> str:
    """Return a digest of demanded headers; their values may be confidential."""
    lines = sorted(f"{name.lower()}:{value.strip()}" for name, value in headers.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def reason_to_start_over(old: JournalHead, new: JournalHead) -> str | None:
    """Return why the upload *old* cannot be resumed as *new*; None if it can.

    The device is not compared: the same disk may have another number after a restart of
    the machine. Nor is ctime, which a chmod changes. The bytes of every stored part are compared later in any case.
    """
    was, now = old.fingerprint, new.fingerprint
    reasons = {
        f"the file has {now.size} bytes, it had {was.size}": was.size != now.size,
        "the file has changed": (was.mtime_ns, was.inode) != (now.mtime_ns, now.inode),
        f"parts have {new.part_size} bytes now, they had {old.part_size}": (
            old.part_size != new.part_size
        ),
        "other headers are demanded": old.demands != new.demands,
        "another upload is granted": old.owners != new.owners
        or (new.owners and old.upload_id != new.upload_id),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@frozen
class FoundJournal:
    """One journal of the directory.

    Attributes:
        record: what it says; None if it cannot be read.
        in_use: the process that holds it; None if it is free.
    """

    name: str
    record: JournalRecord | None
    in_use: str | None


def _other_writers(found: os.stat_result) -> str | None:
    """Return who else may write to a directory; many users have a group of their own.

    Root works in directories of others, as a container does in one of its host.
    """
    if found.st_uid not in (0, os.geteuid()) and os.geteuid():
        return "its owner"
    if found.st_mode & stat.S_IWOTH:
        return "everybody"  # as Windows says of all directories
    is_foreign = found.st_gid != os.getegid()
    return "its group" if found.st_mode & stat.S_IWGRP and is_foreign else None


class Checkpoint:
    """A directory of journals, mode 0700 if it is made here.

    Raises:
        ConfigurationError: it cannot be made or written, or others can write to it.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(os.path.expanduser(directory)).absolute()
        try:
            found = self._make()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"checkpoint={self.directory}: {why}") from None
        self._refuse_others(found)
        if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(f"checkpoint={self.directory}: not writable")

    def _make(self) -> os.stat_result:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.directory.stat()

    def _refuse_others(self, found: os.stat_result) -> None:
        if os.name == "posix" and (others := _other_writers(found)):
            raise ConfigurationError(
                f"checkpoint={self.directory}: {others} can write there: use a "
                "directory of your own"
            )

    def hold(self, path: str, source: str) -> HeldJournal:
        """Return the journal of the upload of *source* (absolute) to *path*, held by us.

        Raises:
            CheckpointInUseError: another process, or thread, does this upload.
            ConfigurationError: others can write to the directory by now.
        """
        found = None
        with contextlib.suppress(OSError):  # the lock tells why
            found = self._make()  # a cleaner of old files may have removed it
        if found is not None:
            self._refuse_others(found)
        return HeldJournal(path, self._place(path, source)).acquire()

    def hold_name(self, name: str) -> HeldJournal:
        """Return the journal that :meth:`found` has named; raises as :meth:`hold`."""
        return HeldJournal(name, str(self.directory / name)).acquire()

    def has(self, path: str, source: str) -> bool:
        """Return whether there is a journal of the upload of *source* to *path*."""
        return os.path.exists(self._place(path, source))

    def _place(self, path: str, source: str) -> str:
        name = f"{path}\0{source}".encode("utf-8", "surrogateescape")
        return str(self.directory / hashlib.sha256(name).hexdigest()[:32]) + SUFFIX

    def found(self) -> Iterator[FoundJournal]:
        """Yield what is in the directory; unreadable journals too."""
        for name in sorted(os.listdir(self.directory)):
            if name.endswith(SUFFIX):
                yield self._look(name)

    def _look(self, name: str) -> FoundJournal:
        held = HeldJournal(name, str(self.directory / name))
        user = record = None
        with contextlib.suppress(OSError):
            # A free lock has no file, unless its process was killed.
            if os.path.exists(held.lock_place):
                try:
                    held.lock()
                except LockedError as error:
                    user = str(error)
            record = parse(read(held.place) or b"")
        held.release()
        return FoundJournal(name, record, user)


class HeldJournal:
    """The journal in the file *place* while this process has it. Safe for many threads.

    Attributes:
        record: what an earlier process left there; None if nothing that can be read.
        keeps: whether a later process can resume the upload that is under way.
    """

    def __init__(self, path: str, place: str) -> None:
        self.place = place
        self.record: JournalRecord | None = None
        self.keeps = False
        self._path = path
        self._is_torn = self._warned = False
        self._lock: FileLock | None = None
        self._file: LineFile | None = None
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """True if all other processes are excluded."""
        return self._lock is not None

    @property
    def lock_place(self) -> str:
        """The file that is locked: not the journal, which is replaced by a rename."""
        return self.place.removesuffix(SUFFIX) + _LOCK

    def lock(self) -> None:
        """Exclude all other processes; LockedError if one has the journal."""
        for wait in _PATIENCE:
            with contextlib.suppress(LockedError):
                self._lock = FileLock.take(self.lock_place)
                return
            time.sleep(wait)
        self._lock = FileLock.take(self.lock_place)

    def acquire(self) -> Self:
        """Exclude all other processes, or raise as ``hold``, and read what is there."""
        try:
            self.lock()
            data = read(self.place)
        except LockedError as error:
            raise CheckpointInUseError(
                f"{error} is at this upload, and its checkpoint is for one at a time: "
                "wait for it, or end it",
                path=self._path,
            ) from None
        except OSError as error:
            self.release()
            self._warn(error)
            return self
        if data is not None:
            self.record = parse(data)
            self._is_torn = not data.endswith(b"\n")
            if self.record is None:
                _log.warning(
                    "%s: its journal %s cannot be read: starting over; parts of an "
                    "earlier upload may be left in the bucket",
                    self._path,
                    self.place,
                )
        return self

    def create(self, head: JournalHead) -> None:
        """Begin the journal of a new upload; without a lock there is none."""
        if self._lock is not None:
            with self._warning():
                self._file = LineFile.create(self.place, [head_line(head)], sync=True)
                self.keeps = True

    def resume(self) -> None:
        """Continue the journal that is there."""
        self.keeps = True  # as far as it goes, even if nothing more can be added
        with self._warning():
            self._file = LineFile.reopen(self.place, is_torn=self._is_torn, sync=True)

    def append(self, kept: JournalPart) -> None:
        """Add a stored part; it is on the disk afterwards (``fsync``)."""
        if (file := self._file) is not None:
            with self._warning():
                file.append(part_line(kept))

    def remove(self) -> None:
        """Remove the journal: nothing is left to resume."""
        self._close()
        self.record = None
        self.keeps = False
        try:
            os.unlink(self.place)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("%s: cannot be removed: %s", self.place, error.strerror)

    def release(self) -> None:
        """Leave the journal, if there is one, to other processes; idempotent.

        Without effect in a forked child, where a lock of threads may be stuck.
        """
        if os.getpid() != self._pid:
            return
        self._close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        """Log once that the disk is full or broken; the upload continues."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s: the checkpoint %s cannot be used (%s): the upload goes on, but what "
                "is not in there will be sent again if it fails",
                self._path,
                self.place,
                error.strerror or error,
            )

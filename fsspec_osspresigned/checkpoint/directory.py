"""Checkpoint directory: one journal for each resumable upload.

The path of the object and the local file identify an upload. Only one process at a
time can use a journal. After a disk error the journal is no longer written, but the
upload continues.
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

from ..errors import CheckpointInUseError, ConfigurationError
from ..files.file_lock import FileLock, LockedError
from ..files.line_file import LineFile
from ..units import shown_bytes
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
    """Return a digest of the required headers, whose values may be confidential."""
    lines = sorted(f"{name.lower()}:{value.strip()}" for name, value in headers.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def reason_to_start_over(old: JournalHead, new: JournalHead) -> str | None:
    """Return why the journaled upload *old* cannot be resumed as *new*; None if it can.

    The device number is not compared, because a disk may get another one after a
    restart of the machine. Nor is ctime, which chmod changes. The bytes of every stored
    part are compared later anyway.
    """
    was, now = old.fingerprint, new.fingerprint
    reasons = {
        f"the file has {now.size} bytes, it had {was.size}": was.size != now.size,
        "the file has changed": (was.mtime_ns, was.inode) != (now.mtime_ns, now.inode),
        f"parts have {shown_bytes(new.part_size)} now, they had "
        f"{shown_bytes(old.part_size)}": (old.part_size != new.part_size),
        "other headers are demanded": old.demands != new.demands,
        "another upload is granted": old.owners != new.owners
        or (new.owners and old.upload_id != new.upload_id),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@frozen
class FoundJournal:
    """One journal file of the checkpoint directory.

    Attributes:
        record: content of the journal; None if it cannot be read.
        in_use: description of the process that uses the journal; None if it is free.
    """

    name: str
    record: JournalRecord | None
    in_use: str | None


def _other_writers(found: os.stat_result) -> str | None:
    """Return which other users may write to a directory; None if there are none.

    The primary group of this user does not count. Root may use a directory of another
    user, as a container does with a directory of its host.
    """
    if found.st_uid not in (0, os.geteuid()) and os.geteuid():
        return "its owner"
    if found.st_mode & stat.S_IWOTH:
        return "everybody"  # as Windows says of all directories
    is_foreign = found.st_gid != os.getegid()
    return "its group" if found.st_mode & stat.S_IWGRP and is_foreign else None


class Checkpoint:
    """A directory of journals, created with mode 0700.

    Raises:
        ConfigurationError: the directory cannot be created or written, or other users
            can write to it.
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
        """Return the locked journal for the upload of *source* (absolute) to *path*.

        Raises:
            CheckpointInUseError: another process or thread runs this upload.
            ConfigurationError: other users can now write to the directory.
        """
        found = None
        with contextlib.suppress(OSError):  # the lock tells why
            found = self._make()  # a cleaner of old files may have removed it
        if found is not None:
            self._refuse_others(found)
        return HeldJournal(path, self._place(path, source)).acquire()

    def hold_name(self, name: str) -> HeldJournal:
        """Return the locked journal with the file name that :meth:`found` returned.

        Raises like :meth:`hold`.
        """
        return HeldJournal(name, str(self.directory / name)).acquire()

    def has(self, path: str, source: str) -> bool:
        """Return whether there is a journal for the upload of *source* to *path*."""
        return os.path.exists(self._place(path, source))

    def _place(self, path: str, source: str) -> str:
        name = f"{path}\0{source}".encode("utf-8", "surrogateescape")
        return str(self.directory / hashlib.sha256(name).hexdigest()[:32]) + SUFFIX

    def found(self) -> Iterator[FoundJournal]:
        """Yield all journals in the directory, including unreadable ones."""
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
    """Journal file *place*, locked by this process. Thread-safe.

    Attributes:
        record: content from an earlier process; None if there is none, or it is
            unreadable.
        keeps: whether a later process can resume the current upload.
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
        """True if this process has locked the journal."""
        return self._lock is not None

    @property
    def lock_place(self) -> str:
        """Path of the lock file; the journal itself is replaced by a rename."""
        return self.place.removesuffix(SUFFIX) + _LOCK

    def lock(self) -> None:
        """Lock the journal; LockedError if another process has it."""
        for wait in _PATIENCE:
            with contextlib.suppress(LockedError):
                self._lock = FileLock.take(self.lock_place)
                return
            time.sleep(wait)
        self._lock = FileLock.take(self.lock_place)

    def acquire(self) -> Self:
        """Lock the journal and read its content; raises like ``Checkpoint.hold``."""
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
        """Create the journal of a new upload; does nothing without the lock."""
        if self._lock is not None:
            with self._warning():
                self._file = LineFile.create(self.place, [head_line(head)], sync=True)
                self.keeps = True

    def resume(self) -> None:
        """Reopen the existing journal to append lines."""
        self.keeps = True  # as far as it goes, even if nothing more can be added
        with self._warning():
            self._file = LineFile.reopen(self.place, is_torn=self._is_torn, sync=True)

    def append(self, kept: JournalPart) -> None:
        """Append the line of a stored part, and flush it to disk (``fsync``)."""
        if (file := self._file) is not None:
            with self._warning():
                file.append(part_line(kept))

    def remove(self) -> None:
        """Remove the journal file, because there is nothing left to resume."""
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
        """Unlock the journal for other processes; idempotent.

        Has no effect in a forked child, where a thread lock may be stuck.
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
        """Log once that the journal cannot be written; the upload continues."""
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s: the checkpoint %s cannot be used (%s): the upload goes on; if it fails, "
                "parts missing from the journal are sent again",
                self._path,
                self.place,
                error.strerror or error,
            )

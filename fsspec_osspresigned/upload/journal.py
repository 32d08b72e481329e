"""Journals of uploads that a later process can resume, and their directory.

A journal is a file of JSON lines, each with its own checksum. The first line names the
upload and the local file. Each further line is one part, appended after the store has
confirmed it. A truncated or damaged line counts as missing, and that part is sent
again. The file contains no URL, no signature and no header.

The path of the object and the local file identify an upload. Only one process at a time
can use a journal. After a disk error, the upload continues without a journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from attrs import asdict, field, frozen
from attrs.validators import and_, ge, in_, instance_of, le

from ..compat import NOFOLLOW, open_regular
from ..engine.logs import Logger
from ..errors import ConfigurationError, UploadInProgressError
from ..files import FileLock, LineFile, LockedError
from ..http.body import Fingerprint
from ..http.checksums import crc64
from ..model import CHECKSUMS, MAX_PARTS, PartReceipt

_log = Logger(__name__)

VERSION = 2
SUFFIX = ".upload.jsonl"
_LOCK = ".lock"
_LIMIT = 32 * 1024 * 1024  # bytes; 10,000 parts, each sent a dozen times, need 16 MiB
_LINE = re.compile(rb'(\{.+),"check":"([0-9a-f]{16})"\}')


def _int_from(minimum: int, maximum: int = 2**64 - 1) -> Any:
    return field(validator=and_(instance_of(int), ge(minimum), le(maximum)))


def _text() -> Any:
    return field(validator=instance_of(str))


@frozen(kw_only=True)
class JournalHead:
    """First line of a journal: the upload, and its local file at the beginning."""

    path: str = _text()  # ``bucket/key``
    source: str = _text()  # absolute path of the local file
    fingerprint: Fingerprint = field(validator=instance_of(Fingerprint))
    part_size: int = _int_from(1)  # bytes
    parts: int = _int_from(1, MAX_PARTS)
    demands: str = _text()  # SHA-256 of the required headers
    upload_id: str = _text()
    # True if the owner initiated the upload. The client must not abort such an upload.
    owners: bool = field(validator=instance_of(bool))
    created: float = field(validator=instance_of(float))  # seconds since the epoch
    # Host and port of the store where the upload began. Empty if the owner initiated
    # the upload.
    host: str = field(default="", validator=instance_of(str))
    version: int = field(default=VERSION, validator=in_((VERSION,)))

    @property
    def size(self) -> int:
        return self.fingerprint.size

    def size_of(self, number: int) -> int:  # numbers begin with 1
        start = (number - 1) * self.part_size
        return min(self.part_size, self.size - start)


@frozen
class JournalPart:
    part: PartReceipt
    verified: str  # kind of check: ``crc64``, ``md5`` or ``none``


@frozen
class JournalRecord:
    head: JournalHead
    parts: Mapping[int, JournalPart]  # part number -> stored part


def line_of(members: Mapping[str, Any]) -> bytes:
    text = json.dumps(members, separators=(",", ":")).encode()
    return text[:-1] + b',"check":"%016x"}\n' % crc64(text)


def head_line(head: JournalHead) -> bytes:
    return line_of(asdict(head))


def part_line(kept: JournalPart) -> bytes:
    return line_of({**asdict(kept.part), "verified": kept.verified})


def parse(data: bytes) -> JournalRecord | None:
    """Return the content of a journal; None if its first line cannot be read."""
    first, *others = data.split(b"\n")
    head = _head(first)
    if head is None:
        return None
    parts: dict[int, JournalPart] = {}
    for line in others:
        if (kept := _part(line, head)) is not None:
            # the last upload of a part wins, as in the store
            parts[kept.part.part_number] = kept
    return JournalRecord(head, MappingProxyType(parts))


def _members(line: bytes) -> dict[str, Any]:
    match = _LINE.fullmatch(line)
    if match is None or int(match[2], 16) != crc64(match[1] + b"}"):
        return {}
    try:
        members: dict[str, Any] = json.loads(match[1] + b"}")
    except ValueError:
        return {}
    return members


def _head(line: bytes) -> JournalHead | None:
    members = _members(line)
    try:
        fingerprint = Fingerprint(**members.pop("fingerprint"))
        return JournalHead(fingerprint=fingerprint, **members)
    except (KeyError, TypeError, ValueError):
        return None


def _part(line: bytes, head: JournalHead) -> JournalPart | None:
    members = _members(line)
    names = ("part_number", "size", "etag", "crc64", "verified")
    number, size, etag, crc, verified = map(members.get, names)
    if type(number) is not int or not 1 <= number <= head.parts:
        return None
    if size != head.size_of(number) or not isinstance(crc, int):
        return None
    if not isinstance(etag, str) or verified not in CHECKSUMS:
        return None
    part = PartReceipt(part_number=number, size=size, etag=etag, crc64=crc)
    return JournalPart(part, verified)


def read(path: str, limit: int = _LIMIT) -> bytes | None:
    """Return the bytes of the regular file *path*; None if it is missing.

    Raises OSError if it cannot be read, or has more than *limit* bytes.
    """
    try:
        descriptor = open_regular(path, os.O_RDONLY | NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError("too large for a journal")
    return data


class HeldJournal:
    """Journal file *file_path*, locked by this process. Thread-safe."""

    def __init__(self, path: str, file_path: str) -> None:
        self.file_path = file_path
        # record of an earlier process, if it is readable
        self.record: JournalRecord | None = None
        self.keeps = False  # True if a later process can resume the current upload
        self._path = path
        self._is_torn = self._warned = False
        self._lock: FileLock | None = None
        self._file: LineFile | None = None
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """True if this process holds the lock of the journal."""
        return self._lock is not None

    @property
    def lock_path(self) -> str:
        """Path of the lock file; the journal itself is replaced by a rename."""
        return self.file_path.removesuffix(SUFFIX) + _LOCK

    def lock(self) -> None:
        """Lock the journal; raise LockedError if another process has locked it."""
        self._lock = FileLock.take(self.lock_path)

    def acquire(self) -> Self:
        """Lock the journal, read its content into ``record``, and return the object.

        A disk error is logged, and the upload continues without a journal.

        Raises:
            UploadInProgressError: another process or thread has the journal.
        """
        try:
            self.lock()
            data = read(self.file_path)
        except LockedError as error:
            raise UploadInProgressError(
                f"{error} already runs this upload: wait for it, or end it",
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
                    "%s: its resume file %s cannot be read: starting over; parts of an "
                    "earlier upload may be left in the bucket",
                    self._path,
                    self.file_path,
                )
        return self

    def create(self, head: JournalHead) -> None:
        """Create the journal of a new upload; does nothing without the lock."""
        if self._lock is not None:
            with self._warning():
                self._file = LineFile.create(
                    self.file_path, [head_line(head)], sync=True
                )
                self.keeps = True

    def resume(self) -> None:
        self.keeps = True  # its lines are valid, even if no other line can be added
        with self._warning():
            self._file = LineFile.reopen(
                self.file_path, is_torn=self._is_torn, sync=True
            )

    def append(self, kept: JournalPart) -> None:
        """Append the line of a stored part, and flush it to disk (``fsync``)."""
        if (file := self._file) is not None:
            with self._warning():
                file.append(part_line(kept))

    def remove(self) -> None:
        self._close()
        self.record = None
        self.keeps = False
        try:
            os.unlink(self.file_path)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("%s: cannot be removed: %s", self.file_path, error.strerror)

    def release(self) -> None:
        """Unlock the journal for other processes; idempotent."""
        if os.getpid() != self._pid:
            return  # in a forked child, a thread lock may be locked forever
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
                "%s: the resume file %s cannot be used (%s): the upload continues; if it fails, parts that the file does not list are sent again",
                self._path,
                self.file_path,
                error.strerror or error,
            )


@frozen
class FoundJournal:
    """One journal of a resume directory."""

    name: str
    record: JournalRecord | None  # None if the journal cannot be read
    # description of the process that uses the journal; None if it is free
    in_use: str | None


def _other_writers(status: os.stat_result) -> str | None:
    # Root may use another user's directory, for example a container with a directory of
    # its host.
    if status.st_uid not in (0, os.geteuid()) and os.geteuid():
        return "its owner"
    if status.st_mode & stat.S_IWOTH:
        return "everybody"  # Windows reports such permissions for all directories
    is_foreign = status.st_gid != os.getegid()
    return "its group" if status.st_mode & stat.S_IWGRP and is_foreign else None


class ResumeDirectory:
    """A directory of journals, created with mode 0700.

    Raises:
        ConfigurationError: the directory cannot be created or written, or other users
            can write to it.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(os.path.expanduser(directory)).absolute()
        try:
            status = self._make()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"resume_dir={self.directory}: {why}") from None
        self._refuse_others(status)
        if not os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(f"resume_dir={self.directory}: not writable")

    def _make(self) -> os.stat_result:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.directory.stat()

    def _refuse_others(self, status: os.stat_result) -> None:
        if os.name == "posix" and (others := _other_writers(status)):
            raise ConfigurationError(
                f"resume_dir={self.directory}: {others} can write there: use your own directory"
            )

    def hold(self, path: str, source: str) -> HeldJournal:
        """Return the locked journal for the upload of *source* (absolute) to *path*.

        Raises:
            UploadInProgressError: another process or thread runs this upload.
            ConfigurationError: other users can now write to the directory.
        """
        status = None
        with contextlib.suppress(OSError):  # taking the lock raises the error
            # a cleanup of old files may have removed the directory
            status = self._make()
        if status is not None:
            self._refuse_others(status)
        return HeldJournal(path, self._file_of(path, source)).acquire()

    def hold_name(self, name: str) -> HeldJournal:
        """Return the locked journal with the file name *name*, which :meth:`found` gave.

        Raises UploadInProgressError like :meth:`hold`.
        """
        return HeldJournal(name, str(self.directory / name)).acquire()

    def has(self, path: str, source: str) -> bool:
        return os.path.exists(self._file_of(path, source))

    def _file_of(self, path: str, source: str) -> str:
        name = f"{path}\0{source}".encode("utf-8", "surrogateescape")
        return str(self.directory / hashlib.sha256(name).hexdigest()[:32]) + SUFFIX

    def found(self) -> Iterator[FoundJournal]:
        """Yield all journals in the directory, including unreadable ones and those in use."""
        for name in sorted(os.listdir(self.directory)):
            if name.endswith(SUFFIX):
                yield self._read(name)

    def _read(self, name: str) -> FoundJournal:
        held = HeldJournal(name, str(self.directory / name))
        user = record = None
        with contextlib.suppress(OSError):
            # A free lock has no file, unless its process was killed.
            if os.path.exists(held.lock_path):
                try:
                    held.lock()
                except LockedError as error:
                    user = str(error)
            record = parse(read(held.file_path) or b"")
        held.release()
        return FoundJournal(name, record, user)

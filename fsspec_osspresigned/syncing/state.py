"""The memory of a sync: what was sent where, in a file that outlives the process.

JSON lines. The first says what the file is; each of the others is one object, and the
last line about an object counts. A line that is torn counts as never written: then that
file is sent again. There is no URL, no signature and no header in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Self

from attrs import asdict

from ..concurrency.file_lock import FileLock, LockedError
from ..errors import CheckpointInUseError, ConfigurationError
from .plan import Sent

_log = logging.getLogger(__name__)

_HEAD = {"what": "sent by osspresigned sync", "version": 1}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "size": (int,),
    "mtime_ns": (int, type(None)),
    "tag": (str,),
    "etag": (str,),
    "crc64": (int, type(None)),
}
_SPARE = 1000  # lines that may be superseded before the file is written anew


def read_state(place: str | os.PathLike[str]) -> dict[str, Sent]:
    """Return path -> what was sent there, without holding the file.

    Raises:
        ConfigurationError: it cannot be read, or is something else.
    """
    return _read(os.path.expanduser(place))[0]


def _read(place: str) -> tuple[dict[str, Sent], int, bool]:
    """Return what was sent, the number of lines, and whether the last is whole."""
    rows: dict[str, Sent] = {}
    count, is_whole = 0, True
    try:
        with open(place, "rb") as file:
            for line in file:
                members = _members(line)
                if count == 0 and members != _HEAD:
                    msg = f"{place} is no state of a sync: name another file"
                    raise ConfigurationError(msg)
                _take(rows, members)
                count, is_whole = count + 1, line.endswith(b"\n")
    except FileNotFoundError:
        pass
    except OSError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"cannot read {place}: {error.strerror}") from None
    return rows, count, is_whole


def _members(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _take(rows: dict[str, Sent], members: Any) -> None:
    """Add what one line says, if it says something."""
    if not isinstance(members, dict) or not isinstance(members.get("path"), str):
        return
    path = members.pop("path")
    if members == {"deleted": True}:
        rows.pop(path, None)
    elif members.keys() == _TYPES.keys() and all(
        isinstance(members[name], types) for name, types in _TYPES.items()
    ):
        rows[path] = Sent(**members)


def state_files(place: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the paths of all files that a state has at one time or another."""
    real = os.path.realpath(os.path.expanduser(place))
    return (real, f"{real}.lock", f"{real}.new")


class SyncState:
    """The file while this process has it, mode 0600; safe for many threads.

    Attributes:
        rows: path -> what earlier runs have sent.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        """Exclude everybody else, and read.

        Raises:
            CheckpointInUseError: another process is at it.
            ConfigurationError: it cannot be read or written, or is something else.
        """
        self.place, lock, self._new = state_files(place)
        self._guard = threading.Lock()
        self._warned = False
        try:
            self._lock = FileLock.take(lock)
        except LockedError as error:
            msg = f"{error} is at {self.place}, which is for one at a time: wait for it"
            raise CheckpointInUseError(msg) from None
        except OSError as error:
            if isinstance(error, ConfigurationError):
                raise
            msg = f"cannot write {self.place}: {error.strerror}"
            raise ConfigurationError(msg) from None
        try:
            self.rows, count, is_whole = _read(self.place)
            self._descriptor = self._open(count, is_whole=is_whole)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Write to the disk what the system still holds, and let others in."""
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._lock.release()

    def note(self, path: str, sent: Sent) -> None:
        """Add what was stored at *path*."""
        self._append({"path": path, **asdict(sent)})

    def forget(self, path: str) -> None:
        """Add that *path* was deleted."""
        self._append({"path": path, "deleted": True})

    def _append(self, members: Mapping[str, Any]) -> None:
        line = memoryview(_line(members))
        try:
            with self._guard:
                while line:
                    line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        """Say once that the disk does not take it; the bytes of others matter more."""
        with self._guard:
            first, self._warned = not self._warned, True
        if first:
            _log.warning(
                "%s cannot be written (%s): what is not in there is sent again next time",
                self.place,
                error.strerror,
            )

    def _open(self, count: int, *, is_whole: bool) -> int:
        """Return the file open for appending, made anew if much of it is of no use."""
        try:
            if count == 0 or not is_whole or count > 2 * len(self.rows) + _SPARE:
                self._renew()
            return os.open(self.place, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        except OSError as error:
            msg = f"cannot write {self.place}: {error.strerror}"
            raise ConfigurationError(msg) from None

    def _renew(self) -> None:
        """Write the file anew; it is replaced as a whole, or not at all."""
        new = self._new
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)  # of a process that died right here
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(self._lines())
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.place)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise

    def _lines(self) -> Iterator[bytes]:
        yield _line(_HEAD)
        for path, sent in self.rows.items():
            yield _line({"path": path, **asdict(sent)})


def _line(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"

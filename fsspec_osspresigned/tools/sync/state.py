"""Sync state: a file with a record of each object that was sent.

The format is JSON Lines. The first line names the format. Each other line describes one
object; the last line about an object wins. An incomplete line is ignored, so its file
is sent again. The file contains no URL, signature or header.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, Self

from attrs import asdict

from ...compat import open_regular
from ...errors import ConfigurationError, UploadInProgressError
from ...files import FileLock, LineFile, LockedError
from .plan import Sent

_log = logging.getLogger(__name__)

_HEAD = {"what": "sent by osspresigned sync", "version": 1}


def read_state(path: str | os.PathLike[str]) -> dict[str, Sent]:
    """Return the records of a state file by path, without locking the file.

    The result is empty if the file is missing. ConfigurationError if it is not a state
    file.
    """
    try:
        with open(os.path.expanduser(path), "rb", opener=open_regular) as file:
            head, *lines = file.readlines() or [b""]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if head and _members(head) != _HEAD:
        msg = f"{path} is not the state of a sync: name another file"
        raise ConfigurationError(msg)
    rows: dict[str, Sent] = {}
    for line in lines:
        _add_row(rows, _members(line))
    return rows


def _members(line: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        if isinstance(members := json.loads(line), dict):
            return members
    return {}


def _add_row(rows: dict[str, Sent], members: dict[str, Any]) -> None:
    path = members.pop("path", None)
    if not isinstance(path, str):
        return
    if members == {"deleted": True}:
        rows.pop(path, None)
    else:
        with contextlib.suppress(TypeError):
            # suppressed: unknown keys, or values of wrong types
            rows[path] = Sent(**members)


def state_files(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the paths of the state file, its lock and its replacement."""
    real = os.path.realpath(os.path.expanduser(path))
    return (real, f"{real}.lock", f"{real}.new")


class SyncState:
    """Sync state file, locked by this process, mode 0600; safe for many threads.

    It is rewritten on opening, without incomplete and outdated lines.

    Raises:
        UploadInProgressError: another process uses the file.
        ConfigurationError: the file cannot be read or written, or is no state file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, lock, _ = state_files(path)
        if os.path.islink(os.path.expanduser(path)) and not os.path.exists(self.path):
            # Another user may have created the link, to a file that some program would
            # read later.
            msg = f"{os.fspath(path)} is a link to a missing file: create the file, or remove the link"
            raise ConfigurationError(msg)
        self._warned = False
        try:
            self._lock = FileLock.take(lock)
        except LockedError as error:
            msg = f"{error} is using {self.path}: wait until it has ended"
            raise UploadInProgressError(msg) from None
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            # Path -> record of a file that an earlier run sent.
            self.rows = read_state(self.path)
            self._file = LineFile.create(self.path, self._lines())
        except BaseException as error:
            self._lock.release()
            if isinstance(error, OSError) and not isinstance(error, ConfigurationError):
                raise self._unwritable(error) from None
            raise

    def _unwritable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(f"cannot write {self.path}: {error.strerror}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()
        self._file.close()
        self._lock.release()

    def record(self, path: str, sent: Sent) -> None:
        self._append({"path": path, **asdict(sent)})

    def forget(self, path: str) -> None:
        self._append({"path": path, "deleted": True})

    def _append(self, members: Mapping[str, Any]) -> None:
        """Append a line; if this fails (full disk), warn once and continue."""
        try:
            self._file.append(_line(members))
        except OSError as error:
            if not self._warned:
                msg = "%s cannot be written (%s): the rest is sent again next time"
                _log.warning(msg, self.path, error.strerror)
            self._warned = True

    def _lines(self) -> Iterator[bytes]:
        yield _line(_HEAD)
        for path, sent in self.rows.items():
            yield _line({"path": path, **asdict(sent)})


def _line(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode() + b"\n"

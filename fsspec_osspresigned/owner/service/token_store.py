"""Tokens that the command line adds, and the used quotas of tokens.

Both are in one SQLite file, which the processes of the service share.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from ...errors import ConfigurationError
from ...model import Action, Operation
from ...units import short_bytes
from .policy import Policy, ServiceError

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS tokens (name TEXT PRIMARY KEY, entry TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS used (
        token TEXT, path TEXT, upload TEXT, part INTEGER, size INTEGER NOT NULL,
        PRIMARY KEY (token, path, upload, part)
    ) WITHOUT ROWID;
    -- The sums of `used`: a call must not cost more after a million rows of its token.
    CREATE TABLE IF NOT EXISTS totals (
        token TEXT PRIMARY KEY, objects INTEGER NOT NULL, size INTEGER NOT NULL
    );
"""
_SECONDS = 10.0  # seconds to wait for another process
# The calls that make an object. The row of such a call has no upload and part 0.
_MAKE = frozenset(
    {
        Action.PutObject,
        Action.InitiateMultipartUpload,
        Action.CompleteMultipartUpload,
        Action.CopyObject,
    }
)

Count = Callable[[Operation], None]


@frozen
class TokenStore:
    """The database file at *path*, which is created with mode 0600 on the first write."""

    path: Path

    @classmethod
    def of(cls, policy_file: Path, path: Path | None = None) -> TokenStore:
        """Return the store at *path*, by default beside *policy_file*."""
        return cls(path or policy_file.with_suffix(".sqlite3"))

    def entries(self) -> list[dict[str, Any]]:
        """Return the added tokens, each as a table ``[[tokens]]`` of a policy file."""
        if not self.path.exists():
            return []
        with self._rows("BEGIN") as rows:
            found = rows.execute("SELECT entry FROM tokens ORDER BY name").fetchall()
        return [json.loads(entry) for (entry,) in found]

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add a token; ConfigurationError if its name is taken."""
        name = entry["name"]
        try:
            with self._rows() as rows:
                _forget(rows, name)
                rows.execute(
                    "INSERT INTO tokens VALUES (?, ?)", (name, json.dumps(entry))
                )
        except sqlite3.IntegrityError:
            msg = f"a token {name!r} already exists: revoke it, or use another name"
            raise ConfigurationError(msg) from None

    def revoke(self, name: str) -> bool:
        """Remove a token and its usage; return whether it existed."""
        if not self.path.exists():
            return False
        with self._rows() as rows:
            done = rows.execute("DELETE FROM tokens WHERE name = ?", (name,))
            was_added = done.rowcount > 0
            if was_added:  # the usage of a token in the policy file is kept
                _forget(rows, name)
        return was_added

    def left(self, policy: Policy) -> dict[str, int]:
        """Return the unused quotas: ``objects_left`` and ``bytes_left``."""
        if not policy.has_quota:
            return {}
        with self._rows("BEGIN") as rows:
            objects, size = _used(rows, policy)
        left = {
            "objects_left": (policy.max_objects, objects),
            "bytes_left": (policy.max_bytes, size),
        }
        return {name: max(0, most - n) for name, (most, n) in left.items() if most}

    @contextmanager
    def counting(self, policy: Policy) -> Iterator[Count]:
        """Yield a function that counts an operation, or raises ServiceError.

        The counts are written at the end of the block. If the block raises, nothing is
        written.
        """
        if not policy.has_quota:
            yield lambda _: None
            return
        with self._rows() as rows:
            yield partial(_count, rows, policy)

    @contextmanager
    def _rows(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with _told(self.path):
            # SQLite would create a file that other users can read.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            opened = sqlite3.connect(self.path, timeout=_SECONDS, isolation_level=None)
            with closing(opened) as rows:
                rows.executescript(_SCHEMA)
                rows.execute(begin)
                with rows:
                    yield rows


def _forget(rows: sqlite3.Connection, name: str) -> None:
    rows.execute("DELETE FROM used WHERE token = ?", (name,))
    rows.execute("DELETE FROM totals WHERE token = ?", (name,))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except (OSError, sqlite3.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        msg = (
            f"cannot use the tokens in {path}: {why}: --tokens FILE names another file"
        )
        raise ConfigurationError(msg) from None


def _used(rows: sqlite3.Connection, policy: Policy) -> tuple[int, int]:
    """Return how many objects and bytes the token has used."""
    found = rows.execute(
        "SELECT objects, size FROM totals WHERE token = ?", (policy.name,)
    ).fetchone()
    return found or (0, 0)


def _count(rows: sqlite3.Connection, policy: Policy, operation: Operation) -> None:
    """Count *operation*; ServiceError if it exceeds a quota.

    A name counts only once. A part of an upload also counts once, with the largest of
    its sizes. So a retry costs nothing. A part without bytes to count leaves no row.
    """
    action = operation.action
    is_counted = policy.max_bytes is not None and action.spec.body == "data"
    size = (operation.content_length or 0) if is_counted else 0
    if action in _MAKE:
        slot: tuple[str, int] = "", 0
    elif size:
        slot = operation.upload_id or "", operation.part_number or 0
    else:
        return
    place = policy.name, operation.path, *slot
    known = rows.execute(
        "SELECT size FROM used "
        "WHERE token = ? AND path = ? AND upload = ? AND part = ?",
        place,
    ).fetchone()
    used, size_used = _used(rows, policy)
    more = max(0, size - (known[0] if known else 0))
    objects = used + (known is None and action in _MAKE)
    if policy.max_objects is not None and objects > policy.max_objects:
        detail = f"no objects are left of {policy.max_objects} for this token"
        raise ServiceError("quota_exceeded", detail)
    if policy.max_bytes is not None and size_used + more > policy.max_bytes:
        left = short_bytes(max(0, policy.max_bytes - size_used))
        detail = (
            f"the upload needs {short_bytes(more)}, and {left} is left for this token"
        )
        raise ServiceError("quota_exceeded", detail)
    rows.execute(
        "INSERT INTO used VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET size = MAX(size, excluded.size)",
        (*place, size),
    )
    rows.execute(
        "INSERT OR REPLACE INTO totals VALUES (?, ?, ?)",
        (policy.name, objects, size_used + more),
    )

"""File stamp: detects changes of a local file."""

from __future__ import annotations

import os

from attrs import frozen


@frozen
class FileStamp:
    """Time, size and inode of a file, to detect a change; None if there is no file."""

    facts: tuple[int, int, int] | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FileStamp:
        """Return the current stamp of the file *path*."""
        try:
            found = os.stat(path)
        except OSError:
            return cls()
        return cls((found.st_mtime_ns, found.st_size, found.st_ino))

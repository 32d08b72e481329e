"""Path class for universal_pathlib, which finds it by an entry point."""

from __future__ import annotations

import fsspec
from upath import UPath

from .filesystem import OSSPresignedFileSystem

# UPath takes the rules for splitting a path from fsspec's table of loaded classes, and
# warns if a protocol is missing there.
fsspec.register_implementation(
    OSSPresignedFileSystem.protocol, OSSPresignedFileSystem, clobber=True
)


class OSSPresignedPath(UPath):  # type: ignore[misc]  # the base class is Any without the optional library
    """Path of an object: ``UPath("osspresigned://bucket/key", signer=...)``."""

    __slots__ = ()

    def mkdir(
        self,
        mode: int = 0o777,
        parents: bool = False,
        exist_ok: bool = False,
        *,
        parent_mode: int | None = None,
    ) -> None:
        """Record a directory in memory.

        *mode* and *parent_mode* are ignored: an object has no mode.
        Raises FileExistsError if it exists and *exist_ok* is False.
        """
        del parent_mode  # a release of universal_pathlib before 0.3.11 does not take it
        if not exist_ok and self.exists():
            raise FileExistsError(17, "it already exists", self.path)
        super().mkdir(mode=mode, parents=parents, exist_ok=True)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Upload an empty object, unless the object exists.

        The store decides (``x-oss-forbid-overwrite``), because write-only URLs cannot
        check for existing objects. *mode* is ignored.

        Raises:
            FileExistsError: the object exists, and *exist_ok* is False.
            PermissionError: a PUT with ``x-oss-forbid-overwrite`` is not granted.
        """
        del mode
        try:
            self.fs.touch(self.path, truncate=False)
        except FileExistsError:
            if not exist_ok:
                raise

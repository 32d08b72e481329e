"""Objects as paths of universal_pathlib, which finds this class by its entry point."""

from __future__ import annotations

import fsspec
from upath import UPath

from .filesystem import OSSPresignedFileSystem

# It asks fsspec's table of loaded classes how to take a path apart, and warns about a
# protocol that is not there.
fsspec.register_implementation(
    OSSPresignedFileSystem.protocol, OSSPresignedFileSystem, clobber=True
)


class OSSPresignedPath(UPath):  # type: ignore[misc]  # Any: an optional library
    """``bucket/key`` as a path: ``UPath("osspresigned://bucket/key", signer=...)``."""

    __slots__ = ()

    def mkdir(
        self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False
    ) -> None:
        """Remember a directory; FileExistsError if it is there and not *exist_ok*."""
        if not exist_ok and self.exists():
            raise FileExistsError(17, "it is there already", self.path)
        super().mkdir(mode=mode, parents=parents, exist_ok=True)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Store an empty object if there is none; one that is there stays as it is.

        The store decides (``x-oss-forbid-overwrite``), because URLs for writing only do
        not show the objects of others. *mode* is not used: objects have none.

        Raises:
            FileExistsError: not *exist_ok*, and the object is there.
            PermissionError: a write that replaces nothing is not granted.
        """
        del mode
        try:
            self.fs.touch(self.path, truncate=False)
        except FileExistsError:
            if not exist_ok:
                raise

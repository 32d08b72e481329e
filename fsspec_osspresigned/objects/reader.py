"""File that is open for reading: ranges of one version of an object."""

from __future__ import annotations

from typing import Any

from fsspec.spec import AbstractBufferedFile

from ..client.client import Client
from . import calls
from .ranges import Version, changed


class PresignedReader(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is untyped
    """Reads ranges as fsspec's caches ask for them, all of one version of the object.

    The version is the one that was there when the file was opened: each request names
    its ETag, and an object that was replaced meanwhile is a SourceChangedError.
    """

    def __init__(
        self, fs: Any, client: Client, info: dict[str, Any], **kwargs: Any
    ) -> None:
        self._client = client
        self._version = Version.of(info)
        self._cache_options = kwargs.get("cache_options")
        super().__init__(fs, info["name"], mode="rb", size=info["size"], **kwargs)
        self.details = info

    def _fetch_range(self, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        return calls.read(self._client, self.path, start, end, self._version)

    def __reduce__(self) -> Any:
        """Pickle by path, position and version: what was read does not go along."""
        options = {
            "block_size": self.blocksize,
            "cache_type": self.cache.name,
            "cache_options": self._cache_options,
        }
        return _reopen, (self.fs, self.path, self.loc, self.details["ETag"], options)


def _reopen(
    fs: Any, path: str, position: int, etag: str, options: dict[str, Any]
) -> Any:
    """Open *path* again where another process left it, if it is still of that *etag*."""
    file = fs.open(path, **options)
    if file.details["ETag"] != etag:
        raise changed(path)
    file.seek(position)
    return file

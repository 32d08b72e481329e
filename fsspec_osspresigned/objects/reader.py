"""File open for reading: ranges of one version of an object."""

from __future__ import annotations

import os
from typing import Any

from fsspec.spec import AbstractBufferedFile

from ..engine.engine import run
from ..http.checksums import crc64
from . import calls
from .ranges import Version, changed


class PresignedReader(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is untyped
    """File open for reading, which fsspec's caches read in ranges.

    All ranges are of the version at the time of ``open``: each request requires its
    ETag. A replaced object raises SourceChangedError.
    """

    cache: Any  # of fsspec, in whose steps the object is read

    def __init__(self, fs: Any, info: dict[str, Any], **kwargs: Any) -> None:
        self._version = Version.of(info)
        self._cache_options = kwargs.get("cache_options")
        self._pid = os.getpid()
        self._summed = 0, 0  # bytes from the start that were read, and their CRC-64
        super().__init__(fs, info["name"], mode="rb", size=info["size"], **kwargs)
        self.details = info

    def read(self, length: int = -1) -> bytes:
        """Return the next *length* bytes; -1 reads to the end.

        Raises:
            IntegrityError: the whole object was read, and its CRC-64 differs.
        """
        if self._pid != os.getpid() and not self.closed:
            # Those of the parent may be half changed or locked, its threads are not here.
            self._version = Version.of(self.details)
            options = self._cache_options or {}
            kind = type(self.cache)
            self.cache = kind(self.blocksize, self._fetch_range, self.size, **options)
            self._pid = os.getpid()
        start = self.loc
        data: bytes = super().read(length)
        count, crc = self._summed
        if start <= count < start + len(data):
            crc = crc64(memoryview(data)[count - start :], crc)
            self._summed = start + len(data), crc
            if start + len(data) == self.size:
                calls.check_whole(self.details["crc64"], crc, self.path)
        return data

    def _fetch_range(self, start: int, end: int) -> bytes:
        # After a fork it is another client: no connection is shared with the parent.
        return run(calls.read, self.fs.client, self.path, start, end, self._version)

    def __reduce__(self) -> Any:
        """Return path, position and version for pickle, without the bytes read."""
        options = {
            "block_size": self.blocksize,
            "cache_type": self.cache.name,
            "cache_options": self._cache_options,
        }
        return _reopen, (self.fs, self.path, self.loc, self.details["ETag"], options)


def _reopen(
    fs: Any, path: str, position: int, etag: str, options: dict[str, Any]
) -> Any:
    """Reopen a pickled file at its position, if the object still has that *etag*."""
    file = fs.open(path, **options)
    if file.details["ETag"] != etag:
        raise changed(path)
    file.seek(position)
    return file

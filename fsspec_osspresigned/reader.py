"""The file that is open for reading, where the signer signs GET."""

from __future__ import annotations

from typing import Any

from fsspec.spec import AbstractBufferedFile

from . import objects
from .client import Client


class PresignedReader(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is untyped
    """Reads ranges as fsspec's caches ask for them."""

    def __init__(self, fs: Any, client: Client, path: str, **kwargs: Any) -> None:
        """Look at the object once, for its size."""
        self._client = client
        super().__init__(fs, path, mode="rb", **kwargs)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return objects.read(self._client, self.path, start, end)

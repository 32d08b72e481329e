"""A pytest plugin for a suite of another project: ``memory://`` is a bucket of ours.

The suite runs unedited in a process of its own, against the emulator.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from fsspec_osspresigned.emulator import Emulator

BUCKET = "examplebucket"
options: dict[str, Any] = {}


def clear(fs: AbstractFileSystem, path: str) -> None:
    """Remove every object below *path*."""
    if names := fs.find(path):
        fs.rm(names)


class _Everything:
    """A replacement for the dictionary behind ``memory://``."""

    def __init__(self, fs: DirFileSystem) -> None:
        self._fs = fs

    def clear(self) -> None:
        """Remove every object."""
        clear(self._fs, "")


class RedirectedFileSystem(DirFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """``memory://a/b`` is ``osspresigned://examplebucket/a/b``."""

    protocol = "memory"
    left_aside: tuple[str, ...] = ()

    def __init__(self, **given: Any) -> None:
        ours = {n: v for n, v in given.items() if n not in self.left_aside}
        fs = fsspec.filesystem("osspresigned", **(options | ours))
        super().__init__(BUCKET, fs)
        self.store = _Everything(self)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(path).removeprefix(f"{cls.protocol}://").strip("/")


@pytest.fixture(scope="session", autouse=True)
def redirected() -> Iterator[None]:
    """Have a store, and ``memory://`` lead to it."""
    with Emulator() as oss:
        keys = oss.credentials
        os.environ["OSS_ACCESS_KEY_ID"] = keys.access_key_id
        os.environ["OSS_ACCESS_KEY_SECRET"] = keys.access_key_secret.reveal()
        options.update(signer="keys", endpoint=oss.url, region="cn-hangzhou")
        fsspec.register_implementation("memory", RedirectedFileSystem, clobber=True)
        yield


@pytest.fixture(autouse=True)
def emptied(redirected: None) -> Iterator[None]:
    """Begin each test with an empty bucket."""
    RedirectedFileSystem().store.clear()
    return

"""universal_pathlib's tests of every kind of path, from its source distribution."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest
import upath
from fsspec.implementations.memory import MemoryFileSystem
from upath import UPath

from fsspec_osspresigned.filesystem.upath import OSSPresignedPath
from tests.contract.ecosystem.redirect import BUCKET, options

upath.__path__.append(os.environ["UPATH_SOURCE"])  # what is installed has no tests
from upath.tests.cases import BaseTests  # noqa: E402
from upath.tests.utils import OverrideMeta, overrides_base  # noqa: E402

FILES = {
    "folder1/file1.txt": b"file1.txt",
    "folder1/file2.txt": b"file2.txt",
    "file1.txt": b"hello world",
    "file2.txt": b"hello world",
}


class TestPath(BaseTests, metaclass=OverrideMeta):
    """A store has no empty directories; all else is as anywhere."""

    SUPPORTS_EMPTY_DIRS = False

    @pytest.fixture(autouse=True)
    def path(self):
        fs = fsspec.filesystem("osspresigned", **options)
        fs.pipe({f"{BUCKET}/{name}": data for name, data in FILES.items()})
        self.path = UPath(f"osspresigned://{BUCKET}", **options)

    @pytest.fixture
    def local_testdir(self, tmp_path):
        for name, data in FILES.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return str(tmp_path)

    @pytest.fixture
    def pathlib_base(self, local_testdir):
        return Path(local_testdir)

    @pytest.fixture
    def clear_fsspec_memory_cache(self):
        """Their place to copy to is real memory, once."""
        mine = fsspec.get_filesystem_class("memory")
        fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
        yield
        fsspec.register_implementation("memory", mine, clobber=True)

    @overrides_base
    def test_is_correct_class(self):
        assert isinstance(self.path, OSSPresignedPath)

"""dask's tests of Parquet, unedited: their temporary directories are in our store.

What those tests do to their directories themselves (``os``, ``glob``, ``open``, pyarrow)
is done to the store as well.
"""

from __future__ import annotations

import glob as local_glob
import os as local_os
from typing import Any

import fsspec
import pyarrow.parquet as local_pq
import pytest
from dask.dataframe.io.tests import test_parquet as theirs

SCHEME = "memory://"

for _name in dir(theirs):
    if _name.startswith("test_") and callable(getattr(theirs, _name)):
        globals()[_name] = getattr(theirs, _name)
# They fail on a local disk, too, or look at that alone, or at the network. In the last,
# dask does not notice that it overwrites what it reads, unless that is a local path.
for _name in (
    "test_append_dict_column",
    "test_categories_unnamed_index",
    "test_filter_nulls",
    "test_pyarrow_filesystem_option_real_data",
    "test_read_write_partition_on_overwrite_is_true",
    "test_to_parquet_calls_invalidate_cache",
    "test_to_parquet_pyarrow_w_inconsistent_schema_by_partition_succeeds_w_manual_schema",
    "test_to_parquet_overwrite_files_from_read_parquet_in_same_call_raises",
):
    del globals()[_name]
engine, write_engine = theirs.engine, theirs.write_engine
read_engine = theirs.read_engine


def _is_ours(path: Any) -> bool:
    return str(path).startswith(SCHEME)


class Place(str):
    """A directory of a test in the store, with the methods of ``py.path`` they call."""

    __slots__ = ()

    def join(self, *names: Any) -> Place:  # type: ignore[override]
        """Return a path in it."""
        return Place("/".join([self, *map(str, names)]))

    def mkdir(self, *names: Any) -> Place:
        """Return a directory in it, which need not be made."""
        return self.join(*names)

    __truediv__ = join

    @property
    def strpath(self) -> str:
        """The URL."""
        return str(self)


class _Path:
    """``os.path`` for the store and this machine."""

    def __getattr__(self, name: str) -> Any:
        return getattr(local_os.path, name)

    def exists(self, path: Any) -> bool:
        return _fs().exists(path) if _is_ours(path) else local_os.path.exists(path)

    def isdir(self, path: Any) -> bool:
        return _fs().isdir(path) if _is_ours(path) else local_os.path.isdir(path)

    def isfile(self, path: Any) -> bool:
        return _fs().isfile(path) if _is_ours(path) else local_os.path.isfile(path)


class _OS:
    """``os`` for the store and this machine."""

    path = _Path()

    def __getattr__(self, name: str) -> Any:
        return getattr(local_os, name)

    def listdir(self, path: Any) -> list[str]:
        if not _is_ours(path):
            return local_os.listdir(path)
        return [one.rpartition("/")[2] for one in _fs().ls(path, detail=False)]

    def walk(self, path: Any, **more: Any) -> Any:
        return _fs().walk(path) if _is_ours(path) else local_os.walk(path, **more)

    def remove(self, path: Any) -> None:
        _fs().rm_file(path) if _is_ours(path) else local_os.remove(path)

    unlink = remove

    def mkdir(self, path: Any, *args: Any, **more: Any) -> None:
        if not _is_ours(path):
            local_os.mkdir(path, *args, **more)

    def makedirs(self, path: Any, *args: Any, **more: Any) -> None:
        if not _is_ours(path):
            local_os.makedirs(path, *args, **more)


class _Glob:
    """``glob`` for the store and this machine."""

    def glob(self, pattern: Any, **more: Any) -> list[str]:
        if not _is_ours(pattern):
            return local_glob.glob(str(pattern), **more)
        return [SCHEME + name for name in _fs().glob(str(pattern))]


class _PyArrowParquet:
    """``pyarrow.parquet``, which knows no URLs, for the store and this machine."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(local_pq, name)
        if not callable(found):
            return found

        def call(*args: Any, **more: Any) -> Any:
            if not any(_is_ours(one) for one in args if isinstance(one, str)):
                return found(*args, **more)
            own = [one[len(SCHEME) :] if _is_ours(one) else one for one in args]
            return found(*own, filesystem=_fs(), **more)

        return call


def _open(path: Any, mode: str = "r", **more: Any) -> Any:
    return _fs().open(str(path), mode) if _is_ours(path) else open(path, mode, **more)


def _fs() -> Any:
    return fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def _their_directories_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theirs, "os", _OS())
    monkeypatch.setattr(theirs, "glob", _Glob())
    monkeypatch.setattr(theirs, "pq", _PyArrowParquet())
    monkeypatch.setattr(theirs, "open", _open, raising=False)


@pytest.fixture
def tmpdir(request: pytest.FixtureRequest) -> Place:
    return Place(f"{SCHEME}parquet")


tmp_path = tmpdir

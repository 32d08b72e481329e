"""dask's tests of ``s3://``, unedited: the scheme and the fixtures lead to our store."""

from __future__ import annotations

import contextlib
from typing import Any

import fsspec
import pytest
from dask.bytes.tests import test_s3 as theirs

from tests.contract.ecosystem.redirect import (
    RedirectedFileSystem,
    clear,
    options,
)

for _name in dir(theirs):
    if _name.startswith("test_") and callable(getattr(theirs, _name)):
        globals()[_name] = getattr(theirs, _name)
del globals()["test_get_s3"]  # asks for the names of s3fs's own options
engine = theirs.engine


class S3Redirected(RedirectedFileSystem):
    """``s3://test/key`` is ``osspresigned://examplebucket/test/key``."""

    protocol = "s3"
    left_aside = ("anon",)  # s3fs's word for: without keys
    _cache: dict[str, Any] = {}  # noqa: RUF012 - s3fs has one, a test clears it

    def ls(self, path: str, detail: bool = False, **kwargs: Any) -> Any:
        """Give names, which is what s3fs does unless it is asked for more."""
        return super().ls(path, detail=detail, **kwargs)


@pytest.fixture
def s3so() -> dict[str, Any]:
    return dict(options)


@pytest.fixture
def s3(s3so):
    """The store with their files in it."""
    fsspec.register_implementation("s3", S3Redirected, clobber=True)
    with _holding(theirs.test_bucket_name, theirs.files) as fs:
        yield fs


@pytest.fixture(autouse=True)
def _their_stores_are_ours(monkeypatch):
    monkeypatch.setattr(theirs, "s3_context", _holding)


@pytest.fixture
def s3_with_yellow_tripdata(s3):
    """Tables for all months of a year, as large as theirs."""
    table = b"VendorID,trip_distance\n" + b"2,1.59\n" * 50_000
    s3.pipe_file("test/nyc-taxi/2015/yellow_tripdata_2015-01.csv", table)
    for month in range(1, 13):
        name = f"yellow_tripdata_2014-{month:0>2d}.csv"
        s3.pipe_file(f"test/nyc-taxi/2014/{name}", table)


@contextlib.contextmanager
def _holding(bucket, files):
    fs = fsspec.filesystem("s3", **options)
    for path, data in files.items():
        fs.pipe_file(f"{bucket}/{path}", data)
    try:
        yield fs
    finally:
        clear(fs, bucket)

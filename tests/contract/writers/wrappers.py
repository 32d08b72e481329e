"""Wrappers and tools whose body raises: an exception unwinds, and they close the file.

Each writes some of its data to the store, then raises ``Boom`` inside of itself.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
from attrs import field, frozen

from tests.contract.writers.data import frame, table
from tests.contract.writers.matrix import World

DATA = bytes(range(256)) * 1_200  # several parts


class Boom(Exception):  # noqa: N818 - it stands for anything
    """The exception of a body."""


class Unwritable:
    """Raises when a tool asks for its text, its bytes or its state."""

    def fail(self, *_: Any) -> Any:
        """Raise."""
        raise Boom

    __str__ = __repr__ = __reduce__ = fail


@frozen
class Wrapper:
    """A tool that raises in the middle.

    Attributes:
        run: writes and raises.
        title: its name in the test.
        needs: libraries.
        error: the class of its exception; tools of compiled code raise their own.
    """

    run: Callable[[World], None] = field(repr=False)
    title: str
    needs: tuple[str, ...]
    error: str


WRAPPERS: list[Wrapper] = []


def wrapper(title: str, *needs: str, error: str = "Boom") -> Callable[..., Any]:
    """Register a function."""

    def register(run: Callable[[World], None]) -> Callable[[World], None]:
        WRAPPERS.append(Wrapper(run, title, needs, error))
        return run

    return register


@wrapper("`fs.open`")
def fs_open(w: World) -> None:
    with w.fs.open(w.path("a"), "wb") as file:
        file.write(DATA)
        raise Boom


@wrapper('`fs.open(mode="w")`, text')
def fs_open_text(w: World) -> None:
    with w.fs.open(w.path("a"), "w") as file:
        file.write("text" * 100_000)
        raise Boom


def compressed(name: str) -> None:
    """Register the codec *name* of fsspec, on both sides of its chain."""

    @wrapper(f'`fs.open(compression="{name}")`', *(("zstandard",) * (name == "zstd")))
    def fs_open_compressed(w: World) -> None:
        with w.fs.open(w.path("a"), "wb", compression=name) as file:
            file.write(DATA)
            raise Boom

    @wrapper(f'`fsspec.open(compression="{name}")`', *("zstandard",) * (name == "zstd"))
    def fsspec_open_compressed(w: World) -> None:
        with w.open("a", "wt", compression=name) as file:
            file.write("text" * 100_000)
            raise Boom


for codec in ("gzip", "bz2", "xz", "lzma", "zstd", "zip"):
    compressed(codec)


@wrapper("`fsspec.open_files`")
def fsspec_open_files(w: World) -> None:
    with fsspec.open_files(w.url("*"), "wb", num=2, **w.options) as files:
        files[0].write(DATA)
        raise Boom


@wrapper("`simplecache::`")
def simplecache(w: World) -> None:
    url = f"simplecache::{w.url('a')}"
    with fsspec.open(url, "wb", osspresigned=w.options) as file:
        file.write(DATA)
        raise Boom


@wrapper("`io.TextIOWrapper`")
def text_wrapper(w: World) -> None:
    with w.open("a") as file, io.TextIOWrapper(file) as out:
        out.write("text" * 100_000)
        raise Boom


@wrapper("`io.BufferedWriter`")
def buffered_writer(w: World) -> None:
    with io.BufferedWriter(w.fs.open(w.path("a"), "wb")) as out:
        out.write(DATA)
        raise Boom


@wrapper("`gzip.GzipFile`")
def gzip_file(w: World) -> None:
    with w.open("a") as file, gzip.GzipFile(fileobj=file, mode="wb") as out:
        out.write(DATA)
        raise Boom


@wrapper("`zipfile.ZipFile`")
def zip_file(w: World) -> None:
    with w.open("a") as file, zipfile.ZipFile(file, "w") as out:
        out.writestr("whole", DATA)
        with out.open("half", "w") as member:
            member.write(DATA)
            raise Boom


def bad_frame() -> Any:
    """Return a table whose last cell cannot be written."""
    made = frame().astype(object)
    made.iloc[-1, 2] = Unwritable()
    return made


@wrapper("pandas `to_csv`", "pandas")
def pandas_to_csv(w: World) -> None:
    bad_frame().to_csv(w.url("a.csv"), chunksize=100, **w.pandas)


@wrapper("pandas `to_csv`, gzip", "pandas")
def pandas_to_csv_gzip(w: World) -> None:
    bad_frame().to_csv(w.url("a.csv.gz"), chunksize=100, **w.pandas)


@wrapper("pandas `to_csv` to `simplecache::`", "pandas")
def pandas_to_csv_cached(w: World) -> None:
    options = {"storage_options": {"osspresigned": w.options}}
    bad_frame().to_csv(f"simplecache::{w.url('a.csv')}", chunksize=100, **options)


@wrapper("pandas `ExcelWriter`", "pandas", "openpyxl")
def pandas_excel_writer(w: World) -> None:
    import pandas as pd

    with pd.ExcelWriter(w.url("a.xlsx"), engine="openpyxl", **w.pandas) as out:
        frame(300).to_excel(out, sheet_name="whole")
        raise Boom


@wrapper("dask `to_csv`", "dask", "pandas")
def dask_to_csv(w: World) -> None:
    import dask
    import dask.dataframe as dd

    def part(number: int) -> Any:
        return bad_frame() if number else frame()

    with dask.config.set(scheduler="sync"):
        made = dd.from_map(part, [1], meta=frame(1).astype(object))
        made.to_csv(w.url("*.csv"), chunksize=100, **w.pandas)


@wrapper("pyarrow `ParquetWriter`", "pyarrow", "pandas")
def pyarrow_parquet_writer(w: World) -> None:
    import pyarrow.parquet as pq

    made = table()
    with pq.ParquetWriter(w.path("a"), made.schema, filesystem=w.fs) as out:
        out.write_table(made)
        raise Boom


@wrapper("pyarrow `write_dataset`", "pyarrow", "pandas")
def pyarrow_write_dataset(w: World) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds

    def batches() -> Iterator[Any]:
        for _ in range(20):
            yield from made.to_batches()
        raise Boom

    made = table()
    reader = pa.RecordBatchReader.from_batches(made.schema, batches())
    ds.write_dataset(reader, w.path("t"), format="parquet", filesystem=w.fs)


@wrapper("fastparquet", "fastparquet", "pandas", error="Exception")
def fastparquet_write(w: World) -> None:
    import fastparquet

    made = frame()
    made["bad"] = [object()] * len(made)
    fastparquet.write(
        w.path("a"), made, open_with=w.fs.open, object_encoding={"bad": "json"}
    )


def lazy() -> Any:
    """Return a table of polars whose last rows cannot be computed."""
    import polars as pl

    def fail(batch: Any) -> Any:
        if batch["n"].max() > 190_000:
            raise Boom
        return batch

    made = pl.LazyFrame({"n": range(200_000)}, schema={"n": pl.Int64})
    return made.map_batches(fail, streamable=True)


@wrapper("polars `sink_parquet`", "polars", error="Exception")
def polars_sink_parquet(w: World) -> None:
    with w.open("a") as file:
        lazy().sink_parquet(file, row_group_size=1_000)

"""Writers of pyarrow, which call from threads of C++, and of fastparquet itself."""

from __future__ import annotations

from typing import Any

from tests.contract.writers.data import frame, same, table
from tests.contract.writers.matrix import Fails, Group, Note, World

case = Group("pyarrow", "pyarrow", "pandas")


def handler(w: World) -> Any:
    """Return the filesystem as pyarrow sees it."""
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(w.fs))


def dataset(w: World, name: str, **options: Any) -> None:
    """Write a dataset through fsspec."""
    import pyarrow.dataset as ds

    ds.write_dataset(
        table(), w.path(name), format="parquet", filesystem=handler(w), **options
    )


def partitioned(w: World, **options: Any) -> None:
    """Write a dataset of three partitions."""
    import pyarrow as pa
    import pyarrow.dataset as ds

    by = ds.partitioning(pa.schema([("group", pa.string())]), flavor="hive")
    dataset(w, "t", partitioning=by, **options)


def read(w: World, name: str) -> Any:
    """Read a dataset from the local copy."""
    import pyarrow.dataset as ds

    return ds.dataset(w.local(name), partitioning="hive").to_table().to_pandas()


@case(
    "`pq.write_table` to a URL",
    "a.parquet",
    every=Fails(
        "ArrowInvalid",
        "Unrecognized filesystem type in URI",
        advice="pyarrow knows only its own schemes: give `filesystem=fs` and a path",
    ),
)
def pa_write_table_url(w: World) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table(), w.url("a.parquet"))


@case("`pq.write_table`, `filesystem=fs`", "a.parquet")
def pa_write_table_fsspec(w: World) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table(), w.path("a.parquet"), filesystem=w.fs)
    same(read(w, "a.parquet"))


@case("`pq.ParquetWriter`, batch by batch", "a.parquet")
def pa_ParquetWriter_stream(w: World) -> None:
    import pyarrow.parquet as pq

    rows = table()
    with pq.ParquetWriter(
        w.path("a.parquet"), rows.schema, filesystem=handler(w)
    ) as file:
        for batch in rows.to_batches(max_chunksize=500):
            file.write_batch(batch)
    same(read(w, "a.parquet"))


@case("`write_dataset`", "t/part-0.parquet")
def pa_write_dataset(w: World) -> None:
    dataset(w, "t")
    same(read(w, "t"))


@case(
    "`write_dataset` onto a dataset",
    "t/part-0.parquet",
    every=Fails("ArrowInvalid", "not empty", leaves=("t/part-7.parquet",)),
    blind=Note("it adds its files to the old ones, because it cannot list them"),
)
def pa_write_dataset_existing(w: World) -> None:
    w.before("t/part-7.parquet")
    dataset(w, "t")
    assert sorted(w.stored()) == ["t/part-0.parquet", "t/part-7.parquet"]


@case('`write_dataset`, `"overwrite_or_ignore"`', "t/part-0.parquet")
def pa_write_dataset_overwrite_or_ignore(w: World) -> None:
    w.before("t/part-0.parquet")
    dataset(w, "t", existing_data_behavior="overwrite_or_ignore")
    same(read(w, "t"))


@case('`write_dataset`, partitions, `"delete_matching"`')
def pa_write_dataset_partition_delete_matching(w: World) -> None:
    partitioned(w, existing_data_behavior="delete_matching")
    same(read(w, "t"))
    assert len(w.stored()) == 3


@case(
    '`write_dataset`, `"delete_matching"` onto a dataset',
    blind=Note("old files stay, because it cannot list them"),
)
def pa_write_dataset_delete_matching_existing(w: World) -> None:
    w.before("t/group=amber/old.parquet")
    partitioned(w, existing_data_behavior="delete_matching")
    assert ("t/group=amber/old.parquet" in w.stored()) is not w.sees
    assert len(w.stored()) == (3 if w.sees else 4)


@case("`pq.write_to_dataset`, partitions")
def pa_write_to_dataset(w: World) -> None:
    import pyarrow.parquet as pq

    pq.write_to_dataset(table(), w.path("t"), partition_cols=["group"], filesystem=w.fs)
    same(read(w, "t"))


@case("`csv.write_csv`, `open_output_stream`", "a.csv")
def pa_csv_open_output_stream(w: World) -> None:
    import pandas as pd
    from pyarrow import csv

    with handler(w).open_output_stream(w.path("a.csv")) as file:
        csv.write_csv(table(), file)
    same(pd.read_csv(w.local("a.csv")))


@case("IPC into `fsspec.open`", "a.arrow")
def pa_ipc_fileobj(w: World) -> None:
    import pyarrow as pa

    rows = table()
    with w.open("a.arrow") as file, pa.ipc.new_file(file, rows.schema) as sink:
        sink.write_table(rows)
    same(pa.ipc.open_file(w.local("a.arrow")).read_pandas())


@case("`pyarrow.fs.copy_files`", "t/a.txt", "t/deep/b.txt")
def pa_copy_files(w: World) -> None:
    from pyarrow.fs import LocalFileSystem, copy_files

    w.source("a.txt", b"a" * 200_000)
    w.source("deep/b.txt", b"b")
    copy_files(
        str(w.place / "source"),
        w.path("t"),
        source_filesystem=LocalFileSystem(),
        destination_filesystem=handler(w),
    )
    assert w.stored() == {"t/a.txt": b"a" * 200_000, "t/deep/b.txt": b"b"}


alone = Group("fastparquet", "fastparquet", "pandas")


@alone("`fastparquet.write`, `open_with=fs.open`", "a.parquet")
def fastparquet_write(w: World) -> None:
    import fastparquet
    import pandas as pd

    fastparquet.write(w.path("a.parquet"), frame(), open_with=w.fs.open)
    same(pd.read_parquet(w.local("a.parquet"), engine="fastparquet"))

"""Writers of dask, on threads; those on processes have tests of their own."""

from __future__ import annotations

from typing import Any

from tests.contract.writers.data import frame, numbers, same, same_numbers
from tests.contract.writers.matrix import Fails, Group, Note, World

case = Group("dask, on threads", "dask", "pandas", "pyarrow")
PARTS = ("t/part.0.parquet", "t/part.1.parquet")
LINES = [f"line {n} \N{GREEK SMALL LETTER OMEGA}" for n in range(20)]


def tables() -> Any:
    """Return the table in two partitions."""
    import dask.dataframe as dd

    return dd.from_pandas(frame(), npartitions=2)


def bag() -> Any:
    """Return lines in two partitions."""
    import dask.bag

    return dask.bag.from_sequence(LINES, npartitions=2)


def write(w: World, what: Any = None, **options: Any) -> None:
    """Write a table on threads."""
    import dask

    with dask.config.set(scheduler="threads"):
        (what if what is not None else tables()).to_parquet(
            w.url("t"), **w.pandas, **options
        )


def read(w: World) -> Any:
    """Read the table from the local copy."""
    import pandas as pd

    return pd.read_parquet(w.local("t"))


@case("`to_parquet`", *PARTS)
def dask_to_parquet(w: World) -> None:
    write(w)
    same(read(w))


@case(
    "`to_parquet`, `write_metadata_file=True`",
    *PARTS,
    "t/_metadata",
    "t/_common_metadata",
)
def dask_to_parquet_metadata(w: World) -> None:
    import dask.dataframe as dd

    write(w, write_metadata_file=True)
    assert {"t/_metadata", "t/_common_metadata"} < set(w.stored())
    same(dd.read_parquet(w.local("t")).compute(scheduler="sync"))


@case("`to_parquet`, `overwrite=True`", *PARTS)
def dask_to_parquet_overwrite(w: World) -> None:
    write(w, overwrite=True)
    same(read(w))


@case(
    "`to_parquet`, `overwrite=True` onto more partitions",
    *PARTS,
    blind=Fails(
        "ObjectExistsError", "stays as it is", leaves=(*PARTS, "t/part.9.parquet")
    ),
    url_map=Note("it replaces its parts, with a warning, and old parts stay"),
)
def dask_to_parquet_overwrite_existing(w: World) -> None:
    for name in (*PARTS, "t/part.9.parquet"):
        w.before(name)
    write(w, overwrite=True)
    assert len(w.stored()) == (2 if w.sees else 3)


@case(
    "`to_parquet`, `append=True` to a table of this process",
    *PARTS,
    "t/part.2.parquet",
    "t/part.3.parquet",
)
def dask_to_parquet_append(w: World) -> None:
    import dask.dataframe as dd

    first = dd.from_pandas(frame().iloc[:2_000], npartitions=2)
    second = dd.from_pandas(frame().iloc[2_000:], npartitions=2)
    write(w, first)
    write(w, second, append=True)
    assert len(w.stored()) == 4
    same(read(w))


@case("`to_csv`", "t/0.csv", "t/1.csv")
def dask_to_csv(w: World) -> None:
    import pandas as pd

    tables().to_csv(w.url("t/*.csv"), index=False, **w.pandas)
    same(pd.concat(pd.read_csv(w.local(f"t/{n}.csv")) for n in range(2)))


@case(
    "`to_csv`, `single_file=True`",
    "a.csv",
    every=Fails(
        "ValueError",
        "an object cannot be changed in place",
        advice="dask appends after its first partition, so it is refused before. Use a "
        "name with `*`, or `to_csv` of pandas",
    ),
)
def dask_to_csv_single(w: World) -> None:
    tables().to_csv(w.url("a.csv"), single_file=True, **w.pandas)


@case("`to_json`", "t/0.json", "t/1.json")
def dask_to_json(w: World) -> None:
    import pandas as pd

    tables().to_json(w.url("t/*.json"), **w.pandas)
    found = pd.concat(
        pd.read_json(w.local(f"t/{n}.json"), lines=True) for n in range(2)
    )
    assert sorted(found["n"]) == list(range(4_000))


@case("`bag.to_textfiles`", "t/0.txt", "t/1.txt")
def dask_bag_to_textfiles(w: World) -> None:
    bag().to_textfiles(w.url("t/*.txt"), scheduler="threads", **w.pandas)
    text = b"\n".join(w.bytes(f"t/{n}.txt") for n in range(2)).decode()
    assert text.split("\n") == LINES


def zarr(w: World, **options: Any) -> None:
    """Write an array of four chunks, and check it."""
    import dask.array as da
    import zarr as library

    array = da.from_array(numbers(), chunks=(60, 55))
    array.to_zarr(w.url("a.zarr"), **w.pandas, **options)
    same_numbers(library.open_array(w.local("a.zarr"), mode="r")[:])


CHUNKS = ("a.zarr/zarr.json", *(f"a.zarr/c/{i}/{j}" for i in (0, 1) for j in (0, 1)))


@case("`array.to_zarr`", *CHUNKS, needs=("zarr",))
def dask_array_to_zarr(w: World) -> None:
    zarr(w)


@case('`array.to_zarr`, `mode="w"`', *CHUNKS, needs=("zarr",))
def dask_array_to_zarr_overwrite(w: World) -> None:
    zarr(w, mode="w")


@case(
    "`array.to_npy_stack`",
    "a/0.npy",
    every=Fails(
        "FileNotFoundError",
        "",
        advice="it writes only local files: write a local directory, then `fs.put`",
    ),
)
def dask_array_to_npy_stack(w: World) -> None:
    import dask.array as da

    da.to_npy_stack(w.url("a"), da.from_array(numbers(), chunks=(60, 110)))

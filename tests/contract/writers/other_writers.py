"""Writers of polars, DuckDB, UPath, smart_open, kerchunk-like tools and soundfile."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from tests.contract.writers.data import ROWS, frame, same
from tests.contract.writers.matrix import EXCLUSIVE, Fails, Group, Note, World

SEEKS = "use `simplecache::osspresigned://`"

polars = Group("polars", "polars", "pandas", "pyarrow")
OWN_STORE = Fails(
    "FileNotFoundError",
    "No such file or directory",
    advice="polars opens URLs without fsspec: give it `fsspec.open(...)`",
)


def rows() -> Any:
    """Return the table of polars."""
    import polars as pl

    return pl.from_pandas(frame())


@polars("`write_parquet` to a URL", "a.parquet", every=OWN_STORE)
def polars_write_parquet_url(w: World) -> None:
    rows().write_parquet(w.url("a.parquet"))


@polars(
    "`write_parquet` to a URL, `use_pyarrow=True`",
    "a.parquet",
    every=Fails("ArrowInvalid", "Unrecognized filesystem type in URI"),
)
def polars_write_parquet_use_pyarrow(w: World) -> None:
    rows().write_parquet(w.url("a.parquet"), use_pyarrow=True)


@polars("`write_csv` to a URL", "a.csv", every=OWN_STORE)
def polars_write_csv_url(w: World) -> None:
    rows().write_csv(w.url("a.csv"))


@polars("`write_parquet` into `fsspec.open`", "a.parquet")
def polars_write_parquet_fileobj(w: World) -> None:
    import polars as pl

    with w.open("a.parquet") as file:
        rows().write_parquet(file)
    same(pl.read_parquet(w.local("a.parquet")).to_pandas())


@polars("`sink_parquet` into `fsspec.open`", "a.parquet")
def polars_sink_parquet_fileobj(w: World) -> None:
    import polars as pl

    with w.open("a.parquet") as file:
        rows().lazy().sink_parquet(file)
    same(pl.read_parquet(w.local("a.parquet")).to_pandas())


@polars("`write_csv` into `fsspec.open`", "a.csv")
def polars_write_csv_fileobj(w: World) -> None:
    import polars as pl

    with w.open("a.csv") as file:
        rows().write_csv(file)
    same(pl.read_csv(w.local("a.csv")).to_pandas())


@polars("`sink_csv` into `fsspec.open`, gzip", "a.csv.gz")
def polars_sink_csv_gzip(w: World) -> None:
    import polars as pl

    with w.open("a.csv.gz", compression="infer") as file:
        rows().lazy().sink_csv(file)
    same(pl.read_csv(w.local("a.csv.gz")).to_pandas())


@polars("`sink_ipc` into `fsspec.open`", "a.arrow")
def polars_sink_ipc_fileobj(w: World) -> None:
    import polars as pl

    with w.open("a.arrow") as file:
        rows().lazy().sink_ipc(file)
    same(pl.read_ipc(w.local("a.arrow")).to_pandas())


@polars("`sink_ndjson` into `fsspec.open`", "a.ndjson")
def polars_sink_ndjson_fileobj(w: World) -> None:
    import polars as pl

    with w.open("a.ndjson") as file:
        rows().lazy().sink_ndjson(file)
    same(pl.read_ndjson(w.local("a.ndjson")).to_pandas())


duckdb = Group("DuckDB, in a transaction", "duckdb", "pandas", "pyarrow")
REFUSED = Fails(
    "Error",
    "with fs.transaction",
    advice="a failed statement would publish a truncated object",
)


def execute(w: World, statement: str, threads: int = 2) -> None:
    """Let DuckDB run a statement."""
    import duckdb as library

    with library.connect() as connection:
        connection.register_filesystem(w.fs)
        connection.execute(f"SET threads={threads}")
        connection.register("source", frame())
        connection.execute(statement)


def copy(w: World, name: str, options: str) -> None:
    """Let DuckDB write the table."""
    with w.fs.transaction:
        execute(w, f"COPY source TO '{w.url(name)}' ({options})")


@duckdb("`COPY`, Parquet, `USE_TMP_FILE false`", "a.parquet")
def duckdb_copy_parquet(w: World) -> None:
    import pandas as pd

    copy(w, "a.parquet", "FORMAT parquet, USE_TMP_FILE false")
    same(pd.read_parquet(w.local("a.parquet")))


@duckdb("`COPY`, CSV, `USE_TMP_FILE false`", "a.csv")
def duckdb_copy_csv(w: World) -> None:
    import pandas as pd

    copy(w, "a.csv", "FORMAT csv, HEADER, USE_TMP_FILE false")
    same(pd.read_csv(w.local("a.csv")))


@duckdb("`COPY`, JSON, `USE_TMP_FILE false`", "a.json")
def duckdb_copy_json(w: World) -> None:
    import pandas as pd

    copy(w, "a.json", "FORMAT json, USE_TMP_FILE false")
    same(pd.read_json(w.local("a.json"), lines=True, precise_float=True))


@duckdb("`COPY`, `PER_THREAD_OUTPUT`", "t/data_0.parquet")
def duckdb_copy_per_thread(w: World) -> None:
    import pandas as pd

    copy(w, "t", "FORMAT parquet, PER_THREAD_OUTPUT, OVERWRITE_OR_IGNORE")
    same(pd.read_parquet(w.local("t")))


@duckdb("`relation.write_parquet`, `use_tmp_file=False`", "a.parquet")
def duckdb_write_parquet(w: World) -> None:
    import duckdb as library
    import pandas as pd

    with library.connect() as connection, w.fs.transaction:
        connection.register_filesystem(w.fs)
        connection.from_df(frame()).write_parquet(
            w.url("a.parquet"), use_tmp_file=False
        )
    same(pd.read_parquet(w.local("a.parquet")))


@duckdb(
    "`COPY` onto an object, without `USE_TMP_FILE false`",
    every=Fails("Error", "USE_TMP_FILE false", leaves=("a.csv",)),
    blind=Note("it cannot see the object, and replaces it"),
)
def duckdb_copy_renames(w: World) -> None:
    w.before("a.csv")
    copy(w, "a.csv", "FORMAT csv")


@duckdb("`COPY` outside of a transaction", "a.csv", every=REFUSED)
def duckdb_copy_alone(w: World) -> None:
    execute(w, f"COPY source TO '{w.url('a.csv')}' (FORMAT csv)")


PARTITIONS = [f"t/group={name}/data_0.parquet" for name in ("amber", "beryl", "coral")]


@duckdb("`COPY`, `PARTITION_BY`", *PARTITIONS)
def duckdb_copy_partition(w: World) -> None:
    import pandas as pd

    copy(w, "t", 'FORMAT parquet, PARTITION_BY ("group")')
    same(pd.read_parquet(w.local("t")))


@duckdb(
    "`COPY`, `PARTITION_BY` onto a dataset",
    every=Fails("IOException", "is not empty", leaves=("t/group=amber/old.parquet",)),
    blind=Note(
        "it cannot list the old files, and adds those of other names; onto the same "
        "names, it refuses"
    ),
)
def duckdb_copy_partition_existing(w: World) -> None:
    w.before("t/group=amber/old.parquet")
    copy(w, "t", 'FORMAT parquet, PARTITION_BY ("group")')
    assert len(w.stored()) == 4


@duckdb(
    "`EXPORT DATABASE`",
    *("e/source.parquet", "e/schema.sql", "e/load.sql"),
    every=Fails(
        "Exception",  # of DuckDB, or of the transaction: which thread opens is chance
        "e/schema.sql",
        advice="it does not close its scripts: export into a local directory, and "
        "`put` it",
    ),
)
def duckdb_export(w: World) -> None:
    import duckdb as library

    with library.connect() as connection:
        connection.register_filesystem(w.fs)
        connection.sql("CREATE TABLE q AS SELECT 1 AS n")
        with w.fs.transaction:
            connection.sql(f"EXPORT DATABASE '{w.url('e')}' (FORMAT parquet)")


upath = Group("universal_pathlib", "upath")


def path(w: World, name: str) -> Any:
    """Return a path of UPath."""
    from upath import UPath

    return UPath(w.url(name), **w.options)


@upath("`UPath.write_bytes`", "a.bin")
def upath_write_bytes(w: World) -> None:
    path(w, "a.bin").write_bytes(b"abc")
    assert w.stored() == {"a.bin": b"abc"}


@upath("`UPath.mkdir`, `write_text`", "d/a.txt")
def upath_mkdir_write_text(w: World) -> None:
    folder = path(w, "d")
    folder.mkdir(parents=True, exist_ok=True)
    text = "\N{GREEK SMALL LETTER OMEGA}" * 20_000  # more than its layer keeps
    (folder / "a.txt").write_text(text, encoding="utf-8")
    assert w.stored() == {"d/a.txt": text.encode()}


@upath('`UPath.open("w")`', "a.txt")
def upath_open_w(w: World) -> None:
    with path(w, "a.txt").open("w") as file:
        file.write("abc\n")
    assert w.stored() == {"a.txt": b"abc\n"}


@upath(
    "`UPath.touch`",
    "a.txt",
    url_map=EXCLUSIVE,
)
def upath_touch(w: World) -> None:
    path(w, "a.txt").touch()
    assert w.stored() == {"a.txt": b""}


@upath("`UPath.touch` of an object of others")
def upath_touch_existing(w: World) -> None:
    w.before("a.txt", b"abc")
    path(w, "a.txt").touch()
    assert w.stored() == {"a.txt": b"abc"}


@upath("`UPath.copy` from the local disk", "a.bin")
def upath_copy_from_local(w: World) -> None:
    from upath import UPath

    UPath(w.source("a.bin", b"x" * 250_000)).copy(path(w, "a.bin"))
    assert w.stored() == {"a.bin": b"x" * 250_000}


more = Group("other libraries")


@more(
    "`smart_open.open` of a URL",
    "a.txt",
    needs=("smart_open",),
    every=Fails(
        "NotImplementedError",
        "Unable to handle scheme 'osspresigned'",
        advice="it opens URLs without fsspec: use `fsspec.open`",
    ),
)
def smart_open_uri(w: World) -> None:
    import smart_open

    smart_open.open(w.url("a.txt"), "wb")


@more(
    "`smart_open.open` of our file",
    "a.txt",
    needs=("smart_open",),
    every=Fails(
        "TypeError", "don't know how to handle", advice="use the file directly"
    ),
)
def smart_open_fileobj(w: World) -> None:
    import smart_open

    with w.open("a.txt") as file, smart_open.open(file, "wb") as out:
        out.write(b"abc")


@more("references as JSON, as kerchunk writes them", "refs.json")
def kerchunk_refs_json(w: World) -> None:
    chunks = {f"a/{n}": ["x.nc", 10 * n, 10] for n in range(1_000)}
    refs = {"version": 1, "refs": {"a/.zarray": "{}", **chunks}}
    with w.open("refs.json", "wt") as file:
        json.dump(refs, file)
    assert json.loads(w.bytes("refs.json")) == refs


@more("`joblib.dump`", "a.joblib", needs=("joblib", "numpy"))
def joblib_dump(w: World) -> None:
    import joblib

    from tests.contract.writers.data import numbers, same_numbers

    with w.open("a.joblib") as file:
        joblib.dump({"numbers": numbers(), "rows": ROWS}, file)
    found = joblib.load(w.local("a.joblib"))
    assert found["rows"] == ROWS
    same_numbers(found["numbers"])


def sound() -> Any:
    """Return a second of noise."""
    import numpy as np

    return np.random.default_rng(5).uniform(-1, 1, 8_000).astype("f4")


def unprinted() -> Any:
    """Let the library ignore what our file raises, without printing it."""
    return mock.patch("sys.unraisablehook")


@more(
    "`soundfile.write`",
    "a.wav",
    needs=("soundfile", "numpy"),
    every=Fails("UnsupportedOperation", "seek", advice=SEEKS),
)
def soundfile_write(w: World) -> None:
    import soundfile

    with unprinted(), w.open("a.wav") as file:
        soundfile.write(file, sound(), 8_000, format="WAV")


@more("`soundfile.write` on `simplecache::`", "a.wav", needs=("soundfile", "numpy"))
def simplecache_soundfile(w: World) -> None:
    import fsspec
    import soundfile

    url = f"simplecache::{w.url('a.wav')}"
    with fsspec.open(url, "wb", osspresigned=w.options) as file:
        soundfile.write(file, sound(), 8_000, format="WAV", subtype="FLOAT")
    found, rate = soundfile.read(w.local("a.wav"), dtype="f4")
    assert (found.tolist(), rate) == (sound().tolist(), 8_000)

"""Writers of pandas, and the two libraries of Parquet that it uses."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile

from tests.contract.writers.data import frame, same
from tests.contract.writers.matrix import EXCLUSIVE, Fails, Group, Note, World

case = Group("pandas", "pandas")
IN_PLACE = Fails("ValueError", "an object cannot be changed in place")


@case("`to_csv`", "a.csv")
def pd_to_csv(w: World) -> None:
    import pandas as pd

    frame().to_csv(w.url("a.csv"), index=False, **w.pandas)
    same(pd.read_csv(w.local("a.csv")))


@case("`to_csv`, gzip", "a.csv.gz")
def pd_to_csv_gzip(w: World) -> None:
    import pandas as pd

    frame().to_csv(w.url("a.csv.gz"), index=False, **w.pandas)
    same(pd.read_csv(io.BytesIO(gzip.decompress(w.bytes("a.csv.gz")))))


@case("`to_csv`, zip", "a.zip")
def pd_to_csv_zip(w: World) -> None:
    import pandas as pd

    frame().to_csv(w.url("a.zip"), index=False, **w.pandas)
    with zipfile.ZipFile(w.local("a.zip")) as found:
        assert found.testzip() is None
    same(pd.read_csv(w.local("a.zip")))


@case("`to_csv`, tar.gz", "a.tar.gz")
def pd_to_csv_tar(w: World) -> None:
    import pandas as pd

    frame().to_csv(w.url("a.tar.gz"), index=False, **w.pandas)
    with tarfile.open(w.local("a.tar.gz")) as found:
        (member,) = found.getmembers()
        same(pd.read_csv(found.extractfile(member)))


@case("`to_csv`, an option of the object in `storage_options`")
def pd_to_csv_storage_options(w: World) -> None:
    options = {**w.options, "metadata": {"origin": "lab"}}
    frame().to_csv(w.url("a.csv"), index=False, storage_options=options)
    key = f"{w.folder}/a.csv"
    stored = w.oss.get("examplebucket", key)
    assert stored.headers["x-oss-meta-origin"] == "lab"


@case(
    '`to_csv`, `mode="x"`',
    "a.csv",
    url_map=EXCLUSIVE,
)
def pd_to_csv_mode_x(w: World) -> None:
    import pandas as pd
    import pytest

    frame().to_csv(w.url("a.csv"), mode="x", index=False, **w.pandas)
    with pytest.raises(FileExistsError):
        frame(3).to_csv(w.url("a.csv"), mode="x", index=False, **w.pandas)
    same(pd.read_csv(w.local("a.csv")))


@case('`to_csv`, `mode="a"`', "a.csv", every=IN_PLACE)
def pd_to_csv_mode_a(w: World) -> None:
    frame().to_csv(w.url("a.csv"), mode="a", **w.pandas)


@case("`to_parquet`, pyarrow", "a.parquet", needs=("pyarrow",))
def pd_to_parquet_pyarrow(w: World) -> None:
    import pandas as pd

    frame().to_parquet(w.url("a.parquet"), engine="pyarrow", **w.pandas)
    same(pd.read_parquet(w.local("a.parquet")))


@case("`to_parquet`, pyarrow, `partition_cols`", needs=("pyarrow",))
def pd_to_parquet_pyarrow_partition(w: World) -> None:
    import pandas as pd

    frame().to_parquet(
        w.url("t"), engine="pyarrow", partition_cols=["group"], **w.pandas
    )
    same(pd.read_parquet(w.local("t")))
    assert len(w.stored()) == 3


@case("`to_parquet`, `filesystem=`", "a.parquet", needs=("pyarrow",))
def pd_to_parquet_pyarrow_fs(w: World) -> None:
    import pandas as pd

    frame().to_parquet(w.path("a.parquet"), engine="pyarrow", filesystem=w.fs)
    same(pd.read_parquet(w.local("a.parquet")))


@case("`to_parquet`, fastparquet", "a.parquet", needs=("fastparquet",))
def pd_to_parquet_fastparquet(w: World) -> None:
    import pandas as pd

    frame().to_parquet(w.url("a.parquet"), engine="fastparquet", **w.pandas)
    same(pd.read_parquet(w.local("a.parquet"), engine="fastparquet"))


@case(
    "`to_parquet`, fastparquet, `partition_cols`",
    "t/group=amber/part.0.parquet",
    "t/group=beryl/part.0.parquet",
    "t/group=coral/part.0.parquet",
    "t/_metadata",
    "t/_common_metadata",
    needs=("fastparquet",),
)
def pd_to_parquet_fastparquet_partition(w: World) -> None:
    import pandas as pd

    frame().to_parquet(
        w.url("t"), engine="fastparquet", partition_cols=["group"], **w.pandas
    )
    same(pd.read_parquet(w.local("t"), engine="fastparquet"))


@case("`to_json`", "a.json")
def pd_to_json(w: World) -> None:
    import pandas as pd

    frame().to_json(w.url("a.json"), double_precision=15, orient="records", **w.pandas)
    found = pd.read_json(w.local("a.json"), precise_float=True)
    assert list(found["n"]) == list(frame()["n"])


@case("`to_pickle`", "a.pkl")
def pd_to_pickle(w: World) -> None:
    frame().to_pickle(w.url("a.pkl"), **w.pandas)
    same(pickle.loads(w.bytes("a.pkl")))


@case("`to_excel`, openpyxl", "a.xlsx", needs=("openpyxl",))
def pd_to_excel_openpyxl(w: World) -> None:
    import pandas as pd

    frame(300).to_excel(w.url("a.xlsx"), index=False, engine="openpyxl", **w.pandas)
    same(pd.read_excel(w.local("a.xlsx")), 300)


@case(
    '`ExcelWriter(mode="a")`',
    "a.xlsx",
    needs=("openpyxl",),
    every=IN_PLACE,
)
def pd_ExcelWriter_append(w: World) -> None:
    import pandas as pd

    with pd.ExcelWriter(w.url("a.xlsx"), mode="a", engine="openpyxl", **w.pandas) as x:
        frame(3).to_excel(x, sheet_name="more")


@case("`to_feather`", "a.feather", needs=("pyarrow",))
def pd_to_feather(w: World) -> None:
    import pandas as pd

    frame().to_feather(w.url("a.feather"), **w.pandas)
    same(pd.read_feather(w.local("a.feather")))


@case("`to_stata`", "a.dta")
def pd_to_stata(w: World) -> None:
    import pandas as pd

    frame().to_stata(w.url("a.dta"), write_index=False, **w.pandas)
    same(pd.read_stata(w.local("a.dta")))


@case(
    "`to_orc` into `fsspec.open`",
    "a.orc",
    needs=("pyarrow",),
    every=Note(
        "if a write fails, pyarrow may abort the process; the next row avoids this"
    ),
)
def pd_to_orc(w: World) -> None:
    import pandas as pd

    with w.open("a.orc") as file:
        frame().to_orc(file)
    same(pd.read_orc(w.local("a.orc")))


@case("`file.write(frame.to_orc())`", "a.orc", needs=("pyarrow",))
def pd_to_orc_bytes(w: World) -> None:
    import pandas as pd

    with w.open("a.orc") as file:
        file.write(frame().to_orc())
    same(pd.read_orc(w.local("a.orc")))


@case("`to_html`", "a.html")
def pd_to_html(w: World) -> None:
    with w.open("a.html", "w", encoding="utf-8") as file:
        frame(500).to_html(file)
    assert w.bytes("a.html").count(b"<tr") == 501


@case(
    "`to_hdf`",
    "a.h5",
    needs=("tables",),
    every=Fails(
        "OSError",
        "does not exist",
        advice="PyTables writes only local files: write one, then `put_file`",
    ),
)
def pd_to_hdf(w: World) -> None:
    frame(10).to_hdf(w.url("a.h5"), key="t")

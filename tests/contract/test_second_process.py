"""A table is not replaced by a process that could not see it: real tools and processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.form_signer import grant_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BUCKET = "examplebucket"
PROGRAM = """
import json, sys, warnings
import fsspec, numpy, pandas as pd

TOOL, ROWS = sys.argv[1], int(sys.argv[2])
OPTIONS = json.loads(sys.argv[3])
URL = "osspresigned://examplebucket/in/table"
APPENDS = ROWS == 10


def write(tool, rows, appends):
    frame = pd.DataFrame({"n": numpy.arange(rows)})
    if tool == "pyarrow":
        import pyarrow as pa, pyarrow.dataset as ds

        fs = fsspec.filesystem("osspresigned", **OPTIONS)
        ds.write_dataset(
            pa.table(frame), "examplebucket/in/table", filesystem=fs, format="parquet"
        )
    elif tool == "xarray":
        frame.to_xarray().to_zarr(URL, storage_options=OPTIONS)
    else:
        import dask.dataframe as dd

        table = dd.from_pandas(frame, npartitions=1)
        table.to_parquet(URL, storage_options=OPTIONS, append=appends)


if __name__ == "__main__":
    if TOOL != "cluster":
        write(TOOL, ROWS, APPENDS)
    else:
        from distributed import Client, LocalCluster

        with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as c:
            with Client(c):
                write(TOOL, ROWS, APPENDS)
                if not APPENDS:  # of the same cluster, whose workers know the table
                    try:
                        write(TOOL, 10, True)
                    except FileExistsError:
                        print("kept by its own worker")
"""


@pytest.mark.parametrize("tool", ["dask", "cluster", "pyarrow", "xarray"])
def test_a_second_process_is_refused(oss, tmp_path: Path, tool: str):
    """Dask appends, pyarrow and xarray need a new directory; each finds no object."""
    needed = {"cluster": "distributed", "dask": "dask.dataframe"}
    pytest.importorskip(needed.get(tool, tool))
    if tool == "xarray":
        pytest.importorskip("zarr")
    program, grant = tmp_path / "program.py", tmp_path / "grant.json"
    program.write_text(PROGRAM)
    grant.touch(mode=0o600)
    grant.write_text(json.dumps(grant_of(oss, BUCKET, "in/")))

    def run(rows: int) -> subprocess.CompletedProcess[str]:
        options = json.dumps({"grant": str(grant)})
        command = [sys.executable, str(program), tool, str(rows), options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first = run(1_000)
    assert first.returncode == 0, first.stderr
    assert ("kept by its own worker" in first.stdout) is (tool == "cluster")
    before = {key: bytes(data) for key, data in oss.objects(BUCKET).items()}
    assert before
    second = run(10)
    assert second.returncode == 1
    assert "ObjectExistsError" in second.stderr
    assert {key: bytes(data) for key, data in oss.objects(BUCKET).items()} == before

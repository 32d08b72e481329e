"""A failure of the store in any writer publishes nothing, and is raised.

``tests/contract/writers`` has what fails in the writer itself.

The lists in docs/fault-table.md are written from these cases; run this module with
``WRITE_FAILURE_TABLE=1`` in the environment to write them again.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping

import dask.dataframe
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attrs import field, frozen

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.errors import DiscardWarning, StoreUnavailableError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART as PART
from tests import marked
from tests.conftest import key_variables
from tests.form_signer import grant_of

pytestmark = pytest.mark.slow

PLACE = ("fault-table.md", "writers")
BUCKET = "examplebucket"
OLD = b"what was there before"
PUBLISHING = ("PutObject", "PostObject", "CompleteMultipartUpload")


@frozen
class Job:
    """One run of a writer: where to, and how much."""

    fs: OSSPresignedFileSystem = field(repr=False)
    rows: int

    path = f"{BUCKET}/data/part.0.parquet"  # dask chooses this name
    url = f"osspresigned://{path}"

    @property
    def pandas(self) -> dict[str, object]:
        return {"storage_options": self.fs.storage_options}

    @property
    def numbers(self) -> np.ndarray:
        """Return doubles that no codec makes much smaller."""
        return np.random.default_rng(1).random(self.rows)

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({"number": self.numbers})

    @property
    def table(self) -> pa.Table:
        return pa.table({"number": self.numbers})


def pandas_csv(job: Job) -> None:
    job.frame.to_csv(job.url, chunksize=500, **job.pandas)


def pandas_csv_gz(job: Job) -> None:
    job.frame.to_csv(job.url, chunksize=500, compression="gzip", **job.pandas)


def pandas_parquet(job: Job) -> None:
    job.frame.to_parquet(job.url, engine="pyarrow", **job.pandas)


def pandas_fastparquet(job: Job) -> None:
    job.frame.to_parquet(
        job.url, engine="fastparquet", row_group_offsets=job.rows // 3, **job.pandas
    )


def pandas_excel(job: Job) -> None:
    with (
        fsspec.open(job.url, "wb", **job.fs.storage_options) as sink,
        pd.ExcelWriter(sink, engine="openpyxl") as writer,
    ):
        job.frame.to_excel(writer)


def pyarrow_writer(job: Job) -> None:
    table = job.table
    with pq.ParquetWriter(job.path, table.schema, filesystem=job.fs) as writer:
        writer.write_table(table.slice(0, job.rows // 2))
        writer.write_table(table.slice(job.rows // 2))


def pyarrow_write_table(job: Job) -> None:
    pq.write_table(job.table, job.path, filesystem=job.fs)


def dask_parquet(job: Job) -> None:
    frame = dask.dataframe.from_pandas(job.frame, npartitions=1)
    with dask.config.set(scheduler="threads"):
        frame.to_parquet(f"osspresigned://{BUCKET}/data", **job.pandas)


def json_text(job: Job) -> None:
    with job.fs.open(job.path, "w") as file:
        json.dump(job.numbers.tolist(), file)


def zip_file(job: Job) -> None:
    with job.fs.open(job.path, "wb") as raw, zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("first", job.numbers.tobytes())
        archive.writestr("second", b"short")


def copied_file(job: Job) -> None:
    source = io.BytesIO(job.numbers.tobytes())
    with job.fs.open(job.path, "wb") as sink:
        shutil.copyfileobj(source, sink, PART)


# Writer -> how it runs, and rows that make it send three parts or more.
WRITERS: Mapping[str, tuple[Callable[[Job], None], int]] = {
    "pandas `to_csv`": (pandas_csv, 15_000),
    "pandas `to_csv`, gzip": (pandas_csv_gz, 30_000),
    "pandas `to_parquet`, pyarrow": (pandas_parquet, 40_000),
    "pandas `to_parquet`, fastparquet": (pandas_fastparquet, 40_000),
    "pandas `to_excel`, openpyxl": (pandas_excel, 24_000),
    "pyarrow `ParquetWriter`": (pyarrow_writer, 40_000),
    "pyarrow `write_table`": (pyarrow_write_table, 40_000),
    "dask `to_parquet`": (dask_parquet, 40_000),
    "`json.dump`, text mode": (json_text, 15_000),
    "`zipfile`": (zip_file, 40_000),
    "`shutil.copyfileobj`": (copied_file, 40_000),
}
CLOSE, LAST, FORM = "close (one PUT)", "last part", "close (one form, by a grant)"
FAILURES: Mapping[str, Fault] = {
    "first part": Fault(action="UploadPart", part_number=1, status=500),
    "middle part": Fault(action="UploadPart", part_number=2, status=500),
    LAST: Fault(action="UploadPart", status=500),
    "Complete": Fault(action="CompleteMultipartUpload", status=500),
    CLOSE: Fault(action="PutObject", status=500),
    FORM: Fault(action="PostObject", status=500),
}
IN_PARTS = FAILURES.keys() - {CLOSE, FORM}


def listed() -> str:
    """Return the writers and the failures."""
    return f"* writers: {'; '.join(WRITERS)}\n* failures: {'; '.join(FAILURES)}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator() as oss:
        yield oss


@pytest.fixture
def fs(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, failure: str
) -> Iterator[OSSPresignedFileSystem]:
    for name, value in key_variables(server).items():
        monkeypatch.setenv(name, value)
    source = {"signer": "keys"}
    if failure == FORM:
        source = {"grant": grant_of(server, BUCKET, "")}
    yield fsspec.filesystem("osspresigned", **source, part_size=PART, retries=0)
    server.clear()


def run(fs: OSSPresignedFileSystem, name: str, rows: int) -> None:
    write, _ = WRITERS[name]
    with warnings.catch_warnings():
        # Warnings of pandas about dask and fastparquet are not the subject here.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        warnings.simplefilter("ignore", DiscardWarning)
        write(Job(fs, rows))


@pytest.fixture(scope="module")
def parts() -> dict[str, int]:
    """How many parts each writer sends when nothing fails, as far as it was asked."""
    return {}


# A zipfile that could not be ended complains when it is collected, on any file.
@pytest.mark.filterwarnings(
    "ignore:.*ZipFile.__del__:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", WRITERS)
def test_failure_publishes_nothing(server, fs, parts, monkeypatch, name, failure):
    """The old object stays, no upload is left open, and the writer sees the error."""
    rows = 10 if failure == CLOSE else WRITERS[name][1]
    if failure in IN_PARTS and name not in parts:
        run(fs, name, rows)
        sent = [r.part_number for r in server.requests if r.action == "UploadPart"]
        parts[name] = max(sent)
        assert parts[name] >= 3
    fs.pipe_file(Job.path, OLD)
    server.clear()
    fault = FAILURES[failure]
    if failure == LAST:
        fault = Fault(action="UploadPart", part_number=parts[name], status=500)
    server.faults.add(fault)

    # A captured record holds the exception, and through its frames the writer's zip.
    monkeypatch.setattr(
        logging.getLogger("fsspec_osspresigned.upload.upload"), "disabled", True
    )
    with pytest.raises(StoreUnavailableError) as caught:
        run(fs, name, rows)

    del caught
    if "excel" in name:
        gc.collect()
    assert server.get(BUCKET, "data/part.0.parquet").data() == OLD
    assert not server.faults.pending, "the fault was not met"
    end = time.monotonic() + 5
    while server.uploads(BUCKET) and time.monotonic() < end:
        time.sleep(0.005)
    assert not server.uploads(BUCKET)
    assert not [
        r for r in server.requests if r.status == 200 and r.action in PUBLISHING
    ]


def test_page_shows_what_is_tested():
    """The lists of docs/fault-table.md are what this module would write."""
    if os.environ.get("WRITE_FAILURE_TABLE"):
        marked.write(*PLACE, listed())
    assert marked.read(*PLACE) == listed()

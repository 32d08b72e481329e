"""Whatever fails, in whatever writer: nothing is published, and the writer hears of it.

The lists in docs/fault-table.md are written from these cases; run this module with
``WRITE_FAILURE_TABLE=1`` in the environment to write them anew.
"""

from __future__ import annotations

import gc
import io
import itertools
import json
import logging
import os
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping

import dask.dataframe
import fastparquet.writer
import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attrs import field, frozen

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.errors import DiscardWarning
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART as PART
from tests import marked
from tests.stress.cells import grant_of

pytestmark = pytest.mark.slow

PLACE = ("fault-table.md", "writers")
BUCKET = "examplebucket"
OLD = b"what was there before"
PUBLISHING = ("PutObject", "PostObject", "CompleteMultipartUpload")


class Boom(Exception):  # noqa: N818 - short
    """What the body raises."""


class Explosive:
    """A value that cannot be written."""

    def __str__(self) -> str:
        raise Boom


def explode(*_: object, **__: object) -> None:
    """Stand in for a step that fails."""
    raise Boom


@frozen
class Job:
    """One run of a writer: where to, how much, and whether its own body fails."""

    fs: OSSPresignedFileSystem = field(repr=False)
    patch: pytest.MonkeyPatch = field(repr=False)
    rows: int
    fails: bool = False

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
    def frame_that_fails(self) -> pd.DataFrame:
        """Return the frame, if wanted with a last value that cannot be written."""
        frame = self.frame.astype(object)
        if self.fails:
            frame.iloc[-1, 0] = Explosive()
        return frame

    @property
    def table(self) -> pa.Table:
        return pa.table({"number": self.numbers})

    def fail_after_first(self, owner: object, name: str) -> None:
        """Let the second and later calls of *name* fail, if the body shall."""
        if not self.fails:
            return
        calls = itertools.count()
        step = getattr(owner, name)
        self.patch.setattr(
            owner,
            name,
            lambda *a, **k: (explode if next(calls) else step)(*a, **k),  # noqa: PLW0108
        )

    def fail_in_row_groups(self) -> None:
        """Let pyarrow's writer fail when half of the table is written."""
        step = pq.ParquetWriter.write_table

        def halves(writer: pq.ParquetWriter, table: pa.Table, **_: object) -> None:
            step(writer, table.slice(0, self.rows // 2))
            if self.fails:
                raise Boom
            step(writer, table.slice(self.rows // 2))

        self.patch.setattr(pq.ParquetWriter, "write_table", halves)


def pandas_csv(job: Job) -> None:
    job.frame_that_fails.to_csv(job.url, chunksize=500, **job.pandas)


def pandas_csv_gz(job: Job) -> None:
    job.frame_that_fails.to_csv(
        job.url, chunksize=500, compression="gzip", **job.pandas
    )


def pandas_parquet(job: Job) -> None:
    job.fail_in_row_groups()
    job.frame.to_parquet(job.url, engine="pyarrow", **job.pandas)


def pandas_fastparquet(job: Job) -> None:
    job.fail_after_first(fastparquet.writer, "write_column")
    job.frame.to_parquet(
        job.url, engine="fastparquet", row_group_offsets=job.rows // 3, **job.pandas
    )


def pandas_excel(job: Job) -> None:
    with (
        fsspec.open(job.url, "wb", **job.fs.storage_options) as sink,
        pd.ExcelWriter(sink, engine="openpyxl") as writer,
    ):
        job.frame_that_fails.to_excel(writer)


def pyarrow_writer(job: Job) -> None:
    table = job.table
    with pq.ParquetWriter(job.path, table.schema, filesystem=job.fs) as writer:
        writer.write_table(table.slice(0, job.rows // 2))
        if job.fails:
            raise Boom
        writer.write_table(table.slice(job.rows // 2))


def pyarrow_write_table(job: Job) -> None:
    job.fail_in_row_groups()
    pq.write_table(job.table, job.path, filesystem=job.fs)


def dask_parquet(job: Job) -> None:
    job.fail_in_row_groups()
    frame = dask.dataframe.from_pandas(job.frame, npartitions=1)
    with dask.config.set(scheduler="threads"):
        frame.to_parquet(f"osspresigned://{BUCKET}/data", **job.pandas)


def json_text(job: Job) -> None:
    document = [*job.numbers.tolist(), *([object()] if job.fails else [])]
    with job.fs.open(job.path, "w") as file:
        json.dump(document, file, default=explode)


def zip_file(job: Job) -> None:
    with job.fs.open(job.path, "wb") as raw, zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("first", job.numbers.tobytes())
        if job.fails:
            raise Boom
        archive.writestr("second", b"short")


def copied_file(job: Job) -> None:
    source = io.BytesIO(job.numbers.tobytes())
    job.fail_after_first(source, "read")
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
BODY, CLOSE, LAST = "exception in the body", "close (one PUT)", "last part"
FORM_BODY, FORM = "exception in the body, by a grant", "close (one form, by a grant)"
FAILURES: Mapping[str, Fault | None] = {
    BODY: None,
    "first part": Fault(action="UploadPart", part_number=1, status=500),
    "middle part": Fault(action="UploadPart", part_number=2, status=500),
    LAST: Fault(action="UploadPart", status=500),
    "Complete": Fault(action="CompleteMultipartUpload", status=500),
    CLOSE: Fault(action="PutObject", status=500),
    FORM_BODY: None,
    FORM: Fault(action="PostObject", status=500),
}
IN_PARTS = FAILURES.keys() - {CLOSE, FORM_BODY, FORM}


def error_of(failure: str) -> str:
    """Return the name of the exception that the writer must see."""
    return "Boom" if failure in (BODY, FORM_BODY) else "StoreUnavailableError"


def listed() -> str:
    """Return the writers and failures, with the exception that each writer sees."""
    by_error: dict[str, list[str]] = {}
    for failure in FAILURES:
        by_error.setdefault(error_of(failure), []).append(failure)
    lines = [f"* `{error}`: {'; '.join(those)}" for error, those in by_error.items()]
    return "\n".join([f"* writers: {'; '.join(WRITERS)}", *lines, ""])


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator() as oss:
        yield oss


@pytest.fixture
def fs(
    server: Emulator, monkeypatch: pytest.MonkeyPatch, failure: str
) -> Iterator[OSSPresignedFileSystem]:
    key = server.credentials
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
    source = {"signer": "keys", "endpoint": server.url, "region": "cn-hangzhou"}
    if failure in (FORM_BODY, FORM):
        source = {"grant": grant_of(server, BUCKET)}
    yield fsspec.filesystem("osspresigned", **source, part_size=PART, retries=0)
    server.clear()


def run(fs: OSSPresignedFileSystem, name: str, rows: int, *, fails: bool) -> None:
    write, _ = WRITERS[name]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", DiscardWarning)
        # What pandas tells dask, and about fastparquet, is not our subject.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        write(Job(fs, patch, rows, fails))


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
        run(fs, name, rows, fails=False)
        sent = [r.part_number for r in server.requests if r.action == "UploadPart"]
        parts[name] = max(sent)
        assert parts[name] >= 3
    fs.pipe_file(Job.path, OLD)
    server.clear()
    fault = FAILURES[failure]
    if failure == LAST:
        fault = Fault(action="UploadPart", part_number=parts[name], status=500)
    if fault is not None:
        server.faults.add(fault)

    # A captured record holds the exception, and through its frames the writer's zip.
    monkeypatch.setattr(
        logging.getLogger("fsspec_osspresigned.upload.upload"), "disabled", True
    )
    with pytest.raises(Exception) as caught:
        run(fs, name, rows, fails=failure in (BODY, FORM_BODY))

    assert type(caught.value).__name__ == error_of(failure)
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

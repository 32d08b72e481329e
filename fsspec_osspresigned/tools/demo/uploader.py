"""Uploader in the demo: a process without access keys that uses ``osspresigned://``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import fsspec
import pandas as pd

from ...secret import redact
from ...units import MIB
from ..progress import TransferProgress
from . import plan as names
from .plan import DemoPlan


def main(text: str) -> int:
    try:
        upload(text)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the demo shows every error
        say(f"stopped by {type(error).__name__}: {redact(str(error))}")
        return 1
    return 0


def upload(text: str) -> None:
    keys = [name for name in os.environ if name.startswith("OSS_")]
    if keys:
        sys.exit(f"the uploader must not have {', '.join(keys)}")
    plan = DemoPlan.load(text)
    frame = pd.DataFrame({"n": range(50_000)})
    frame["square"] = frame["n"] ** 2
    for path in names.EVERYTHING:
        plan.source(path).parent.mkdir(parents=True, exist_ok=True)
    one_url(plan, frame)
    url_map(plan, frame)
    large_file(plan)
    grant(plan)
    signer(plan)


def one_url(plan: DemoPlan, frame: pd.DataFrame) -> None:
    say("one signed URL: a file, a pandas csv")
    source = plan.source(names.ONE_FILE)
    source.write_text("Sent with one URL from an environment variable.\n")
    storage = options(plan, names.ONE_FILE, presigned_url=f"env:{names.URL_VARIABLE}")
    fsspec.filesystem("osspresigned", **storage).put_file(str(source), "")
    storage = options(
        plan, names.ONE_CSV, presigned_url=f"file:{plan.file(names.URL_FILE)}"
    )
    frame.to_csv("osspresigned://", storage_options=storage)
    frame.to_csv(plan.source(names.ONE_CSV))


def url_map(plan: DemoPlan, frame: pd.DataFrame) -> None:
    """Upload by a URL map: with pandas, then with dask on two worker processes."""
    say("URL map: pandas parquet, pandas csv.gz")
    storage = options(plan, url_map=str(plan.file(names.URL_MAP)))
    frame.to_parquet(f"osspresigned://{names.PARQUET}", storage_options=storage)
    frame.to_parquet(plan.source(names.PARQUET))
    gzip: Any = {"method": "gzip", "mtime": 1}
    frame.to_csv(plan.source(names.CSV_GZ), compression=gzip)
    frame.to_csv(
        f"osspresigned://{names.CSV_GZ}", compression=gzip, storage_options=storage
    )

    say("URL map: dask parquet from two worker processes")
    import dask.dataframe as dd  # noqa: PLC0415 - the import is slow
    from distributed import Client, LocalCluster  # noqa: PLC0415

    parts = dd.from_pandas(frame, npartitions=len(names.DASK_PARTS))
    # Without an address, dask uses port 8787, and warns if it is taken. On a busy
    # machine, it also warns when workers end late.
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        ) as pair,
        Client(pair),
    ):
        parts.to_parquet(f"osspresigned://{names.DASK}", storage_options=storage)
        parts.to_parquet(str(plan.source(names.DASK)))


def large_file(plan: DemoPlan) -> None:
    say(f"URL map: fs.put of {plan.large // MIB} MiB in parts")
    source = plan.source(names.LARGE)
    with source.open("wb") as file:
        for _ in range(plan.large // MIB):
            file.write(os.urandom(MIB))
    fs = fsspec.filesystem(
        "osspresigned", **options(plan, url_map=str(plan.file(names.URL_MAP)))
    )
    with TransferProgress(bar=True, files=1) as progress:
        fs.put(str(source), names.LARGE, callback=progress)


def grant(plan: DemoPlan) -> None:
    """Upload by a grant: partitions of pandas; the owner did not know their names."""
    say("grant file: pandas parquet, partitioned by day")
    frame = pd.DataFrame({"day": ["mon", "tue"] * 1_000, "n": range(2_000)})
    layout: Any = {"partition_cols": ["day"], "basename_template": "{i}.parquet"}
    storage = options(plan, grant=str(plan.file(names.GRANT)))
    frame.to_parquet(f"osspresigned://{names.DAYS}", storage_options=storage, **layout)
    frame.to_parquet(plan.source(names.DAYS), **layout)


def signer(plan: DemoPlan) -> None:
    say("signer service: three files, a stream of unknown length")
    storage = options(
        plan,
        signer=plan.signer,
        signer_token=f"env:{names.TOKEN_VARIABLE}",
        part_size=names.PART,
    )
    fs = fsspec.filesystem("osspresigned", **storage)
    sources = [plan.source(path) for path in names.SIGNED]
    for source in sources:
        source.write_text(f"This is {source.name}.\n" * 1_000)
    fs.put([str(source) for source in sources], list(names.SIGNED))
    with (
        fs.open(names.STREAM, "wb") as remote,
        plan.source(names.STREAM).open("wb") as local,
    ):
        for _ in range(names.STREAMED // MIB):
            block = os.urandom(MIB)
            remote.write(block)
            local.write(block)


def options(plan: DemoPlan, path: str = "", **own: Any) -> dict[str, Any]:
    """Return the options *own*, and ``receipts`` with a directory named *path*."""
    return {"receipts": str(plan.file(names.RECEIPTS) / path), **own}


def say(text: str) -> None:
    print(f"uploader: {text}", flush=True)  # noqa: T201 - it is the program's output


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

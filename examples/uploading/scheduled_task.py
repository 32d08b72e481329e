"""A task as Airflow, Prefect or Dagster run it; it may run again, whatever happened.

In Airflow: ``task(retries=3)(export)``, and ``ds`` is the day that it fills in.
"""
import os
import sys

import pandas as pd

from fsspec_osspresigned import NotCoveredError, OSSPresignedFileSystem

OPTIONS = {
    "signer": os.environ["SIGNER_URL"],
    "signer_token": "env:OSSPRESIGNED_TOKEN",
}


def export(ds: str) -> dict:
    """Store the table of a day, and return what others want to know of it."""
    fs = OSSPresignedFileSystem(**OPTIONS)
    frame = pd.DataFrame({"day": [ds] * 3, "n": [1, 2, 3]})
    path = f"examplebucket/exports/day={ds}/data.parquet"  # the same in every try
    with fs.open(path, "wb", metadata={"rows": str(len(frame))}) as file:
        frame.to_parquet(file)
    receipt = file.receipt
    return {"path": receipt.path, "size": receipt.size, "crc64": receipt.crc64}


if __name__ == "__main__":
    try:
        print(export(ds=sys.argv[1]))
    except NotCoveredError as error:  # trying again cannot help
        sys.exit(f"not granted: {error}")

"""A table of many parts from the workers of a cluster, each of which asks the signer."""
import os

import dask.dataframe as dd
import pandas as pd
from dask.distributed import Client, LocalCluster

OPTIONS = {
    "signer": os.environ["SIGNER_URL"],
    "signer_token": "env:OSSPRESIGNED_TOKEN",  # read on each worker, never sent to it
}

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster):
        frame = pd.DataFrame({"group": list("abcd") * 250, "n": range(1000)})
        table = dd.from_pandas(frame, npartitions=4)
        table.to_parquet(
            "osspresigned://examplebucket/tables/events", storage_options=OPTIONS
        )
    print("four parts stored")

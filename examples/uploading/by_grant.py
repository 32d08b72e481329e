"""A data set whose files get their names on the way, by a grant: by_grant.py GRANT.json"""
import os
import sys

import fsspec
import pandas as pd

# The file from the owner, or the address of a server that issues grants.
place = sys.argv[1]
options = {"grant": place if "://" in place else os.path.abspath(place)}
folder = "osspresigned://examplebucket/incoming/measured"

frame = pd.DataFrame(
    {
        "day": pd.date_range("2026-01-01", periods=90).repeat(24),
        "hour": list(range(24)) * 90,
        "n": range(90 * 24),
    }
)
frame["month"] = frame["day"].dt.strftime("%Y-%m")
frame.to_parquet(folder, partition_cols=["month"], storage_options=options)

with fsspec.open(f"{folder}/README.txt", "w", **options) as file:
    file.write("hourly, by month\n")
print(f"{frame['month'].nunique()} months stored")

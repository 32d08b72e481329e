"""A report of three formats, through a URL map: pandas_report.py URLS.json"""
import sys

import pandas as pd

options = {"url_map": sys.argv[1]}
folder = "osspresigned://examplebucket/reports"
frame = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=365), "n": range(365)})

frame.to_csv(f"{folder}/daily.csv.gz", index=False, storage_options=options)
frame.to_parquet(f"{folder}/daily.parquet", storage_options=options)
with pd.ExcelWriter(f"{folder}/monthly.xlsx", storage_options=options) as book:
    frame.groupby(frame["day"].dt.month)["n"].sum().to_excel(book)
print("three files stored")

"""A data set as zarr, and as one netCDF file, through a signer."""
import os

import fsspec
import numpy as np
import xarray as xr

OPTIONS = {
    "signer": os.environ["SIGNER_URL"],
    "signer_token": "env:OSSPRESIGNED_TOKEN",
}
folder = "osspresigned://examplebucket/grids"
times = np.arange("2026-01-01", "2026-01-11", dtype="datetime64[D]").astype("M8[ns]")
grid = np.random.default_rng(0).normal(size=(10, 20, 30))
data = xr.Dataset({"t2m": (("time", "y", "x"), grid)}, {"time": times})

# mode="w": who may only write cannot see whether there is an older one.
data.to_zarr(f"{folder}/t2m.zarr", mode="w", storage_options=OPTIONS)

# HDF5 seeks in what it writes, so it gives us the finished file.
with fsspec.open(f"{folder}/t2m.nc", "wb", **OPTIONS) as file:
    file.write(data.to_netcdf(engine="h5netcdf"))
print("a zarr group and a netCDF file stored")

"""Writers of arrays: zarr, xarray, NumPy, HDF5 and netCDF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.writers.data import numbers, same_numbers
from tests.contract.writers.matrix import Fails, Group, Note, World

case = Group("zarr", "zarr", "numpy")
CHUNKS = tuple(f"a.zarr/c/{i}/{j}" for i in (0, 1) for j in (0, 1))
META = "a.zarr/zarr.json"
SEEKS = "use `simplecache::osspresigned://`"


def array(w: World, name: str = "a.zarr", **options: Any) -> Any:
    """Make an array of four chunks."""
    import zarr

    return zarr.create_array(
        w.url(name),
        shape=(120, 110),
        chunks=(60, 55),
        dtype="f8",
        storage_options=w.options,
        **options,
    )


def check(w: World, name: str = "a.zarr") -> None:
    """Read the array from the local copy."""
    import zarr

    same_numbers(zarr.open_array(w.local(name), mode="r")[:])


@case("`save_array`", META, "a.zarr/c/0/0")
def zarr_save_array_url(w: World) -> None:
    import zarr

    zarr.save_array(w.url("a.zarr"), numbers(), storage_options=w.options)
    check(w)


@case("`create_array`, filled", META, *CHUNKS)
def zarr_create_array_url(w: World) -> None:
    array(w)[:] = numbers()
    check(w)


@case("`create_array`, sharding", META, "a.zarr/c/0/0")
def zarr_create_array_shards(w: World) -> None:
    array(w, shards=(120, 110))[:] = numbers()
    assert len(w.stored()) == 2
    check(w)


@case("`create_array`, `overwrite=True`", META, *CHUNKS)
def zarr_create_array_overwrite(w: World) -> None:
    array(w, overwrite=True)[:] = numbers()
    check(w)


@case(
    "`create_array`, `overwrite=True` onto more chunks",
    META,
    *CHUNKS,
    blind=Note("old chunks that it does not replace stay, because it cannot list them"),
)
def zarr_create_array_overwrite_existing(w: World) -> None:
    w.before("a.zarr/c/7/7")
    array(w, overwrite=True)[:] = numbers()
    assert ("a.zarr/c/7/7" in w.stored()) is not w.sees
    check(w)


GROUP = ("g.zarr/zarr.json", "g.zarr/a/zarr.json")
GROUP = (*GROUP, *(f"g.zarr/a/c/{i}/{j}" for i in (0, 1) for j in (0, 1)))


def group(w: World, mode: str, **options: Any) -> Any:
    """Make a group with attributes and an array."""
    import zarr

    made = zarr.open_group(
        w.url("g.zarr"), mode=mode, storage_options=w.options, **options
    )
    made.attrs["origin"] = "lab"
    made.create_array("a", shape=(120, 110), chunks=(60, 55), dtype="f8")[:] = numbers()
    return made


def check_group(w: World) -> None:
    """Read the group from the local copy."""
    import zarr

    found = zarr.open_group(w.local("g.zarr"), mode="r")
    assert dict(found.attrs) == {"origin": "lab"}
    same_numbers(found["a"][:])


@case('`open_group`, `mode="w"`', *GROUP)
def zarr_group_w(w: World) -> None:
    group(w, "w")
    check_group(w)


@case('`open_group`, `mode="w-"`', *GROUP)
def zarr_group_wminus(w: World) -> None:
    group(w, "w-")
    check_group(w)


@case(
    '`open_group`, `mode="w-"` onto a group',
    *GROUP,
    every=Fails("FileExistsError", "", leaves=("g.zarr/zarr.json",)),
    blind=Fails("ObjectExistsError", "stays as it is", leaves=("g.zarr/zarr.json",)),
    url_map=Note("it replaces the old group, with a warning"),
)
def zarr_group_wminus_existing(w: World) -> None:
    w.before("g.zarr/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    refuses(w, lambda options: zarr_open(w, options))
    group(w, "w-")
    check_group(w)


def zarr_open(w: World, options: dict[str, Any]) -> None:
    """Make a group that must be new."""
    import zarr

    zarr.open_group(w.url("g.zarr"), mode="w-", storage_options=options)


def refuses(w: World, write: Callable[[dict[str, Any]], None]) -> None:
    """Check that ``if_unverifiable="error"`` fails a write if no look is signed."""
    import pytest

    if not w.sees:
        before = w.stored()
        with pytest.raises(PermissionError):
            write({**w.options, "if_unverifiable": "error"})
        assert w.stored() == before


@case('`open_group`, `mode="a"`', *GROUP)
def zarr_group_a(w: World) -> None:
    group(w, "a")
    check_group(w)


@case("group in `FsspecStore.from_mapper`", *GROUP)
def zarr_group_mapper(w: World) -> None:
    import fsspec
    import zarr

    mapper = fsspec.get_mapper(w.url("g.zarr"), **w.options)
    store = zarr.storage.FsspecStore.from_mapper(mapper)
    made = zarr.open_group(store, mode="w")
    made.attrs["origin"] = "lab"
    made.create_array("a", shape=(120, 110), chunks=(60, 55), dtype="f8")[:] = numbers()
    check_group(w)


@case("group of format 2")
def zarr_v2_group(w: World) -> None:
    group(w, "w", zarr_format=2)
    check_group(w)


@case("`consolidate_metadata`", *GROUP)
def zarr_consolidated(w: World) -> None:
    import zarr

    made = group(w, "w")
    zarr.consolidate_metadata(made.store)
    check_group(w)
    found = zarr.open_consolidated(w.local("g.zarr"))
    assert list(found.metadata.consolidated_metadata.metadata) == ["a"]


datasets = Group("xarray", "xarray", "zarr")
XARRAY = ("x.zarr/zarr.json", *(f"x.zarr/{n}/zarr.json" for n in ("t", "v")))
XARRAY = (*XARRAY, "x.zarr/t/c/0", "x.zarr/v/c/0/0")
TWO = (*XARRAY, "x.zarr/t/c/1", "x.zarr/v/c/1/0")


def dataset(first: int = 0, last: int = 4) -> Any:
    """Return a dataset along a time."""
    import numpy as np
    import xarray as xr

    values = np.arange(40.0).reshape(8, 5)[first:last]
    return xr.Dataset({"v": (("t", "x"), values)}, {"t": np.arange(first, last)})


def check_dataset(w: World, last: int = 4) -> None:
    """Open the dataset from the local copy."""
    import xarray as xr

    with xr.open_zarr(w.local("x.zarr"), chunks=None) as found:
        xr.testing.assert_equal(found.load(), dataset(0, last))


def to_zarr(w: World, data: Any, **options: Any) -> None:
    """Write a dataset, as documented."""
    data.to_zarr(w.url("x.zarr"), storage_options=w.options, **options)


@datasets('`to_zarr`, `mode="w"`', *XARRAY)
def xr_to_zarr_w(w: World) -> None:
    to_zarr(w, dataset(), mode="w")
    check_dataset(w)


@datasets("`to_zarr`", *XARRAY)
def xr_to_zarr_default(w: World) -> None:
    to_zarr(w, dataset())
    check_dataset(w)


@datasets(
    "`to_zarr` onto a dataset",
    *XARRAY,
    every=Fails("FileExistsError", "", leaves=("x.zarr/zarr.json",)),
    blind=Fails("ObjectExistsError", "stays as it is", leaves=("x.zarr/zarr.json",)),
    url_map=Note("it replaces the old dataset, with a warning"),
)
def xr_to_zarr_existing(w: World) -> None:
    w.before("x.zarr/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    refuses(
        w, lambda options: dataset().to_zarr(w.url("x.zarr"), storage_options=options)
    )
    to_zarr(w, dataset())
    check_dataset(w)


@datasets("`to_zarr`, chunks of dask", *TWO, needs=("dask",))
def xr_to_zarr_so_dask(w: World) -> None:
    to_zarr(w, dataset(0, 8).chunk({"t": 4}), mode="w")
    check_dataset(w, 8)


@datasets("`to_zarr`, `append_dim=` to a dataset of this process", *TWO)
def xr_to_zarr_append(w: World) -> None:
    to_zarr(w, dataset(), mode="w")
    to_zarr(w, dataset(4, 8), append_dim="t")
    check_dataset(w, 8)


@datasets(
    "`to_zarr`, `region=`, by another process",
    *XARRAY,
    blind=Fails(
        "GroupNotFoundError",
        "No group found",
        leaves=XARRAY,
        advice="it must read the existing group",
    ),
)
def xr_to_zarr_region(w: World) -> None:
    to_zarr(w, dataset() * 0, mode="w")
    w.forget()
    to_zarr(w, dataset().drop_vars("t"), region={"t": slice(0, 4)})
    check_dataset(w)


@datasets("`to_zarr`, `region=`, by this process", *XARRAY)
def xr_to_zarr_region_own(w: World) -> None:
    to_zarr(w, dataset() * 0, mode="w")
    to_zarr(w, dataset().drop_vars("t"), region={"t": slice(0, 4)})
    check_dataset(w)


@datasets(
    "`to_netcdf` into our file, h5netcdf",
    "x.nc",
    needs=("h5netcdf",),
    every=Fails("UnsupportedOperation", "seek", advice=f"{SEEKS}, or the next row"),
)
def xr_to_netcdf_file(w: World) -> None:
    with w.open("x.nc") as file:
        dataset().to_netcdf(file, engine="h5netcdf")


@datasets("`file.write(dataset.to_netcdf())`, h5netcdf", "x.nc", needs=("h5netcdf",))
def xr_to_netcdf_h5netcdf_fileobj(w: World) -> None:
    import xarray as xr

    with w.open("x.nc") as file:
        file.write(dataset().to_netcdf(engine="h5netcdf"))
    with xr.open_dataset(w.local("x.nc"), engine="h5netcdf") as found:
        xr.testing.assert_equal(found.load(), dataset())


files = Group("NumPy, HDF5, netCDF", "numpy")


@files("`np.save`", "a.npy")
def np_save(w: World) -> None:
    import numpy as np

    with w.open("a.npy") as file:
        np.save(file, numbers())
    same_numbers(np.load(w.local("a.npy")))


@files("`np.savez`", "a.npz")
def np_savez(w: World) -> None:
    import numpy as np

    with w.open("a.npz") as file:
        np.savez(file, numbers())
    with np.load(w.local("a.npz")) as found:
        same_numbers(found["arr_0"])


@files("`np.savetxt`", "a.txt")
def np_savetxt(w: World) -> None:
    import numpy as np

    with w.open("a.txt", "w") as file:
        np.savetxt(file, numbers(), fmt="%.18e")
    same_numbers(np.loadtxt(w.local("a.txt")))


@files(
    "`ndarray.tofile`",
    "a.bin",
    every=Fails(
        "UnsupportedOperation",
        "has no file descriptor",
        advice="use `file.write(array)`",
    ),
)
def np_tofile(w: World) -> None:
    with w.open("a.bin") as file:
        numbers().tofile(file)


@files(
    "`h5py.File` on our file",
    "a.h5",
    needs=("h5py",),
    every=Fails("OSError", "", advice=SEEKS),
)
def h5py_fileobj(w: World) -> None:
    import h5py

    with w.open("a.h5") as file, h5py.File(file, "w") as out:
        out["numbers"] = numbers()


@files("`h5py.File` on `simplecache::`", "a.h5", needs=("h5py",))
def simplecache_h5py(w: World) -> None:
    import fsspec
    import h5py

    url = f"simplecache::{w.url('a.h5')}"
    with (
        fsspec.open(url, "wb", osspresigned=w.options) as file,
        h5py.File(file, "w") as out,
    ):
        out["numbers"] = numbers()
    with h5py.File(w.local("a.h5")) as found:
        same_numbers(found["numbers"][:])


@files("`netCDF4.Dataset` beside `simplecache::`", "a.nc", needs=("netCDF4",))
def simplecache_netcdf4(w: World) -> None:
    import fsspec
    import netCDF4

    # The library wants a name: that of the local file, which is sent at the end.
    url = f"simplecache::{w.url('a.nc')}"
    with (
        fsspec.open(url, "wb", osspresigned=w.options) as file,
        netCDF4.Dataset(file.name, "w") as out,
    ):
        out.createDimension("x", 3)
        out.createVariable("v", "f8", ("x",))[:] = [1.0, 2.0, 3.0]
    with netCDF4.Dataset(w.local("a.nc")) as found:
        assert found["v"][:].tolist() == [1.0, 2.0, 3.0]

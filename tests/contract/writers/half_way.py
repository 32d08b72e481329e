"""Expected results of writers that fail in the middle of what they write.

An exception comes out of a ``write`` to the open file, after bytes of the same object
if the writer calls it again. The file does not know of it, as of any other failure of
the tool, and sees only how it is closed.
"""

from __future__ import annotations

from tests.contract.writers.matrix import WRITES, Case, Fails

# Their library writes a local file, which the end of a `with` block puts.
CACHED = frozenset(
    {
        "simplecache_h5py",
        "simplecache_netcdf4",
        "simplecache_open_files",
        "simplecache_seeker",
        "simplecache_soundfile",
        "simplecache_write",
        "filecache_write",
    }
)
# They give the filesystem values and files that are complete.
WHOLE = frozenset(
    {
        *("asyn_wrapper_pipe", "transaction_pipe_put", "put_in_threads"),
        *("dask_array_to_zarr", "dask_array_to_zarr_overwrite"),
        *("generic_cp", "generic_rsync"),
        *("generic_rsync_delete", "generic_rsync_opts", "generic_rsync_swallows"),
        "get_mapper_set",
        *("pipe_dict", "pipe_file", "pipe_file_create"),
        *("put_file", "put_file_create", "put_recursive_newdir"),
        *("touch", "touch_notruncate", "upath_touch", "upath_touch_existing"),
        *("xr_to_zarr_append", "xr_to_zarr_default", "xr_to_zarr_existing"),
        *("xr_to_zarr_region_own", "xr_to_zarr_so_dask", "xr_to_zarr_w"),
        *("zarr_consolidated", "zarr_create_array_overwrite", "zarr_create_array_url"),
        "zarr_create_array_overwrite_existing",
        *("zarr_create_array_shards", "zarr_save_array_url", "zarr_v2_group"),
        *("zarr_group_a", "zarr_group_mapper", "zarr_group_w", "zarr_group_wminus"),
        "zarr_group_wminus_existing",
    }
)
# Tested in a process of its own.
ABORTS = frozenset({"pd_to_orc"})


def is_tried(case: Case) -> bool:
    """Return whether the writer can fail half-way: others only raise."""
    return case.runs_in(WRITES) and not isinstance(case.outcome(WRITES), Fails)

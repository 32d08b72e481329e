"""Expected results of writers that run twice in one process.

The first run is there, and is known also where nobody may look. A writer that is not
named here replaces it; what refuses leaves it as it is.
"""

from __future__ import annotations

from tests.contract.writers.matrix import SERVICE, WRITES, Case, Fails

GROUPS = ("zarr 3", "dask, on threads", "DuckDB, `register_filesystem`")
KINDS = (WRITES, SERVICE)

_EXISTS = Fails("ContainsArrayError", "An array exists")
_DELETES = Fails(  # NotSignedError for one object, UploadErrors for several
    "OSSPresignedError",
    "DeleteObject",
    advice="to replace, the signer must grant DeleteObject",
)
_MOVES = Fails(
    "Error",
    "NotSignedError",
    leaves=("tmp_*",),
    advice="DuckDB renames `tmp_a...`, which stays: use `USE_TMP_FILE false`",
)
_NOT_EMPTY = Fails(
    "IOException", "is not empty", advice="use `OVERWRITE_OR_IGNORE` to replace"
)
_EVERYWHERE = {
    "zarr_save_array_url": _EXISTS,
    "zarr_create_array_url": _EXISTS,
    "zarr_create_array_shards": _EXISTS,
    "zarr_create_array_partial_chunk": _EXISTS,
    "zarr_group_wminus": Fails("FileExistsError", "already contains data"),
    "zarr_group_a": _EXISTS,
    "dask_array_to_zarr": _EXISTS,
    "dask_to_parquet_append": Fails(
        "ValueError", "overlap", advice="it would append the same rows again"
    ),
    "duckdb_copy_partition": _NOT_EMPTY,
}
_WRITE_ONLY = {
    "zarr_create_array_overwrite": _DELETES,
    "zarr_group_w": _DELETES,
    "zarr_group_mapper": _DELETES,
    "zarr_v2_group": _DELETES,
    "zarr_consolidated": _DELETES,
    "dask_to_parquet_overwrite": _DELETES,
    "dask_array_to_zarr_overwrite": _DELETES,
    "duckdb_copy_parquet": _MOVES,
    "duckdb_copy_csv": _MOVES,
}


def is_tried(case: Case) -> bool:
    """Return whether a second run says something: the first one just works."""
    return case.group in GROUPS and not any(map(case.outcome, KINDS))


def outcome(case: Case, kind: str) -> Fails | None:
    """Return the expected failure of a second run; None if it works."""
    own = _WRITE_ONLY.get(case.id) if kind == WRITES else None
    return own or _EVERYWHERE.get(case.id)


def cell(case: Case) -> str:
    """Return what the table says about the second run."""
    if not is_tried(case):
        return "-"
    found = outcome(case, WRITES)
    if found is None:
        return "works"
    where = "" if case.id in _EVERYWHERE else "write-only: "
    return f"{where}`{found.error}`" + (f"; {found.advice}" if found.advice else "")

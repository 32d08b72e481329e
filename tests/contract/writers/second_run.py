"""Expected results of writers that run again, in the same process and in another one.

The same process knows its first run, also where nobody may look. Another process knows
nothing. A writer that is not named here replaces the first result; what refuses leaves
it as it is.
"""

from __future__ import annotations

from tests.contract.writers.matrix import (
    BLIND,
    GRANT,
    MAP,
    ONE,
    SERVICE,
    WRITES,
    Case,
    Fails,
    Note,
    Outcome,
)

TRIED = (ONE, MAP, GRANT, WRITES, SERVICE)

_ARRAY = Fails("ContainsArrayError", "An array exists")
_DELETES = Fails(  # NotCoveredError for one object, UploadErrors for several
    "OSSPresignedError",
    "DeleteObject",
    advice="needs DeleteObject",
)
_EXISTS = Fails("FileExistsError", "")
_ADDS = Note("adds its files, under new names", word="adds files")
_OF_SECOND_RUN: dict[str, Outcome] = {
    **dict.fromkeys(
        (
            *("zarr_save_array_url", "zarr_create_array_url", "zarr_group_a"),
            *("zarr_create_array_shards", "dask_array_to_zarr"),
        ),
        _ARRAY,
    ),
    **dict.fromkeys(("zarr_group_wminus", "xr_to_zarr_default"), _EXISTS),
    **dict.fromkeys(
        (
            *("pd_to_csv_mode_x", "open_xb", "put_file_create", "pipe_file_create"),
            "touch_notruncate",
        ),
        _EXISTS,
    ),
    **dict.fromkeys(
        ("pd_to_parquet_pyarrow_partition", "pa_write_to_dataset"),
        _ADDS,
    ),
    "pa_write_dataset": Fails("ArrowInvalid", "not empty"),
    "dask_to_parquet_append": Fails(
        "ValueError", "overlap", advice="it would append the same rows again"
    ),
    "duckdb_copy_partition": Fails(
        "IOException", "is not empty", advice="use `OVERWRITE_OR_IGNORE` to replace"
    ),
}
# Writers that delete or rename, with write-only permission.
_WRITE_ONLY = {
    **dict.fromkeys(
        (
            *("zarr_create_array_overwrite", "zarr_group_w", "zarr_group_mapper"),
            *("zarr_v2_group", "zarr_consolidated", "dask_to_parquet_overwrite"),
            *("dask_array_to_zarr_overwrite", "xr_to_zarr_w", "xr_to_zarr_so_dask"),
            *("xr_to_zarr_append", "xr_to_zarr_region_own"),
            "pa_write_dataset_partition_delete_matching",
        ),
        _DELETES,
    ),
}
# Writers that look first, and find nothing with write-only permission.
_LOOKING = {
    *(name for name, one in _OF_SECOND_RUN.items() if one not in (_EXISTS, _ADDS)),
    *(name for name, one in _WRITE_ONLY.items() if one is _DELETES),
    *("zarr_group_wminus", "xr_to_zarr_default"),
    *("generic_rsync", "generic_rsync_opts"),
}
_KEPT = Fails("ObjectExistsError", "stays as it is")
_KEPT_BY_DUCKDB = Fails("OSSPresignedError", "stays as it is")
WARNED = Note("replaces, with a warning", word="warns")
# The checks of these runs hold for an empty folder only.
_ONCE = {
    *("transaction_open", "transaction_pipe_put", "put_recursive_newdir"),
    "kedro_versions",
}
# They read, touch what exists, or discard: nothing is there to replace.
_STORES_NOTHING = {
    *("simplecache_read", "filecache_read", "blockcache_read", "zip_chain_read"),
    *("upath_touch", "upath_touch_existing", "transaction_discarded"),
}


def is_tried(case: Case, kind: str) -> bool:
    """Return whether the first run works in a world, so that a second one makes sense."""
    is_once = case.id in _ONCE
    return case.runs_in(kind) and case.outcome(kind) is None and not is_once


def same_process(case: Case, kind: str) -> Outcome:
    """Return the expected outcome of a second run; None if it works."""
    own = _WRITE_ONLY.get(case.id) if kind in BLIND else None
    return own or _OF_SECOND_RUN.get(case.id)


def other_process(case: Case, kind: str) -> Outcome:
    """Return the expected outcome of a run in another process; None if it works."""
    if kind in BLIND and case.id in _LOOKING:
        kept = _KEPT_BY_DUCKDB if case.id.startswith("duckdb") else _KEPT
        return kept if kind in (GRANT, WRITES) else WARNED
    return _OF_SECOND_RUN.get(case.id)


def cell(case: Case) -> str:
    """Return what the table says about a second run, and about another process."""
    kinds = [kind for kind in TRIED if is_tried(case, kind)]
    if not kinds or case.id in _STORES_NOTHING:
        return ""
    words = {
        (kind, other): _word(outcome(case, kind))
        for kind in kinds
        for other, outcome in ((False, same_process), (True, other_process))
    }
    told = words.get((SERVICE, False), "")
    own = words.get((WRITES, False), told)
    others = words.get((WRITES, True), own)
    by_url = words.get((MAP, True), others)
    mark = "" if by_url == others else "\\*"  # explained above the table
    parts = [told]
    if own != told:
        parts.append(f"write-only: {own}")
    if others.partition(" (")[0] != own.partition(" (")[0]:
        parts.append(f"write-only, another process: {others}")
    return "; ".join(parts) + mark


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, Fails):
        return f"refuses ({outcome.advice})" if outcome.advice else "refuses"
    return "replaces" if outcome is None else outcome.word

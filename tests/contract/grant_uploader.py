"""A user with a grant and nothing else: a program of its own, which writes by many tools.

Called with a plan (JSON): ``grant_uploader.py PLAN``. Its callers are tests, which check
what it stored by ``check``.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd

from tests.serve_child import clean

ROWS = 12_000
PARTITIONS = 6
FILES = 40
BLOCKS = 30
BLOCK = b"a block of a stream whose length is not known\n" * 2_000
HAS_ZARR = find_spec("zarr") is not None


def frame() -> pd.DataFrame:
    """Return the table."""
    made = pd.DataFrame({"n": np.arange(ROWS)})
    made["day"] = made["n"].mod(3).map({0: "mon", 1: "tue", 2: "wed"})
    return made


def numbers() -> np.ndarray[Any, Any]:
    """Return the array: it has four chunks."""
    return np.arange(120.0 * 110).reshape(120, 110)


def into_file(folder: str) -> None:
    """Log all that this process says, in full."""
    place = Path(folder, f"process-{os.getpid()}.log")
    logging.basicConfig(filename=place, level=logging.DEBUG, force=True)


def by_dask(url: str, options: Any, folder: str) -> None:
    """Write a table from two processes of a cluster."""
    import dask.dataframe as dd  # noqa: PLC0415 - workers import this module, too
    from distributed import Client, LocalCluster  # noqa: PLC0415

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=f"{folder}/scratch",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(into_file, folder)
        table = dd.from_pandas(frame(), npartitions=PARTITIONS)
        table.to_parquet(f"{url}/dask", storage_options=options)


def by_zarr(url: str, options: Any) -> None:
    """Write an array in chunks."""
    import zarr  # noqa: PLC0415 - an extra of tests

    array = zarr.create_array(
        f"{url}/a.zarr",
        shape=(120, 110),
        chunks=(60, 55),
        dtype="f8",
        storage_options=options,
    )
    array[:] = numbers()


def main(place: str) -> None:
    """Write by each tool, and write down what was refused."""
    plan = json.loads(Path(place).read_text())
    folder, root, options = plan["folder"], plan["root"], plan["options"]
    url = f"osspresigned://{root}"
    into_file(folder)
    from fsspec_osspresigned import sync  # noqa: PLC0415 - its start is in the log

    by_dask(url, options, folder)
    if HAS_ZARR:
        by_zarr(url, options)
    frame().to_parquet(f"{url}/pandas", partition_cols=["day"], storage_options=options)
    fs = fsspec.filesystem("osspresigned", **options)
    sync(plan["tree"], f"{root}/tree", filesystem=fs, state=f"{folder}/state.jsonl")
    with fs.open(f"{root}/stream", "wb") as file:
        for _ in range(BLOCKS):
            file.write(BLOCK)
    try:
        fs.pipe_file(f"{root.partition('/')[0]}/elsewhere/a", b"x")
    except PermissionError as error:
        Path(folder, "refused").write_text(repr(error))


def run(grant: str, root: str, folder: Path) -> Path:
    """Run this program with *grant*, and return the directory with all that it shows."""
    tree, seen = folder / "tree", folder / "seen"
    seen.mkdir()
    for index in range(FILES):
        file = tree / f"d{index % 4}" / f"\u4e2d {index}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([index]) * index)
    plan = {
        "folder": str(seen),
        "root": root,
        "options": {"grant": grant, "receipts": str(seen / "receipts")},
        "tree": str(tree),
    }
    (folder / "plan").write_text(json.dumps(plan))
    with (seen / "stdout").open("wb") as out, (seen / "stderr").open("wb") as err:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(folder / "plan")],
            stdout=out,
            stderr=err,
            cwd=Path(__file__).parents[2],
            env=clean(),
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, (seen / "stderr").read_text()[-5_000:]
    return seen


def check(oss: Any, root: str, folder: Path) -> None:
    """Compare what is stored below *root* with what the program wrote."""
    bucket, _, prefix = root.partition("/")
    stored = {
        key.removeprefix(f"{prefix}/"): bytes(data)
        for key, data in oss.objects(bucket).items()
    }
    tables = [
        read(data) for name, data in sorted(stored.items()) if "dask/part" in name
    ]
    assert len(tables) == PARTITIONS
    whole = pd.concat(tables, ignore_index=True)
    pd.testing.assert_frame_equal(whole, frame(), check_dtype=False)
    days = {name.split("/")[1] for name in stored if name.startswith("pandas/")}
    assert days == {"day=mon", "day=tue", "day=wed"}
    assert stored["stream"] == BLOCKS * BLOCK
    tree = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in (folder / "tree").rglob("*")
        if file.is_file()
    }
    assert {n: d for n, d in stored.items() if n.startswith("tree/")} == tree
    if HAS_ZARR:
        import zarr  # noqa: PLC0415 - an extra of tests

        for name in (one for one in stored if one.startswith("a.zarr/")):
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(stored[name])
        found = zarr.open_array(folder / "a.zarr", mode="r")[:]
        assert (found == numbers()).all()
    assert {record.action for record in oss.requests} == {"PostObject"}
    assert "does not meet" in (folder / "seen" / "refused").read_text()


def read(data: bytes) -> pd.DataFrame:
    """Return the table of a Parquet file."""
    return pd.read_parquet(io.BytesIO(data))


def check_hidden(seen: Path, secrets: Mapping[str, str]) -> None:
    """Look for *secrets*, by what they are, in all that the program showed and kept."""
    files = [file for file in seen.rglob("*") if file.is_file()]
    receipts = [file for file in files if file.parent.name == "receipts"]
    # The client and two workers wrote logs; a busy worker may leave all to the other.
    assert len(receipts) >= 2
    assert len([file for file in files if file.suffix == ".log"]) >= 3
    for file in files:
        data = file.read_bytes()
        found = [name for name, text in secrets.items() if text.encode() in data]
        assert not found, file.name


if __name__ == "__main__":
    main(sys.argv[1])

"""A user without keys: a separate program, which writes from process pools and reports.

Called with a plan (JSON): ``pool_uploader.py PLAN``. Its tests are the caller.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import fsspec

FILES = 4  # of each kind


def content(path: str) -> bytes:
    """Return what is written to *path*: several parts."""
    return f"{path}\n".encode() * (300_000 // (len(path) + 1))


def write(fs: Any, path: str) -> int:
    """Write by a filesystem that travelled; return who did it."""
    with fs.open(path, "wb") as file:
        file.write(content(path))
    return os.getpid()


def write_open_file(file: Any, path: str) -> int:
    """Write by an OpenFile that travelled; return who did it."""
    with file as opened:
        opened.write(content(path))
    return os.getpid()


def into_file(folder: str) -> None:
    """Log everything that this process says, in full."""
    place = Path(folder, f"process-{os.getpid()}.log")
    logging.basicConfig(filename=place, level=logging.DEBUG, force=True)


def by_pool(method: str, root: str, options: dict[str, Any], folder: str) -> list[int]:
    """Write from a pool of two processes; return who did it."""
    fs = fsspec.filesystem("osspresigned", **options)
    futures = []
    with ProcessPoolExecutor(
        2,
        mp_context=multiprocessing.get_context(method),
        initializer=into_file,
        initargs=(folder,),
    ) as pool:
        for number in range(FILES):
            path = f"{root}/by-fs/{number}"
            futures.append(pool.submit(write, fs, path))
            path = f"{root}/by-file/{number}"
            file = fsspec.open(f"osspresigned://{path}", "wb", **options)
            futures.append(pool.submit(write_open_file, file, path))
        return sorted({future.result() for future in futures})


def main(place: str) -> None:
    """Write by each source with each method; keep pickles, and who wrote."""
    plan = json.loads(Path(place).read_text())
    folder = plan["folder"]
    into_file(folder)
    told: dict[str, Any] = {"parent": os.getpid()}
    for source, given in plan["sources"].items():
        root = plan["roots"][source]
        sizes = {"part_size": "128KiB", "multipart_threshold": "128KiB"}
        options = {**given, **sizes, "receipts": f"{folder}/receipts"}
        fs = fsspec.filesystem("osspresigned", **options)
        for kind in (pickle, cloudpickle):
            Path(folder, f"{source}.{kind.__name__}").write_bytes(kind.dumps(fs))
        # The forked ones inherit a filesystem with threads and connections.
        fs.pipe_file(f"{root}/parent", b"parent")
        for method in plan["methods"]:
            pids = by_pool(method, f"{root}/{method}", options, folder)
            told[f"{source} {method}"] = pids
    Path(folder, "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])

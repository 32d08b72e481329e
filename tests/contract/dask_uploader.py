"""A dask user without keys: a separate program, which writes and reports its work.

Called with a plan (JSON): ``dask_uploader.py PLAN dask`` writes from the workers of a
cluster, ``dask_uploader.py PLAN pools`` from process pools. Its tests are the caller.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import fsspec

ROWS = 24_000
PARTITIONS = 4
FILES = 4  # of each kind that plain functions write


def frame() -> Any:
    """Return the table: some columns compress, one does not."""
    import numpy as np  # noqa: PLC0415 - pools spare it
    import pandas as pd  # noqa: PLC0415 - pools spare it

    made = pd.DataFrame({"n": np.arange(ROWS)})
    made["name"] = "row " + made["n"].astype(str)
    made["noise"] = np.random.default_rng(7).random(ROWS)
    return made


def lines() -> list[str]:
    """Return the lines of the bag."""
    return [f"line {number} \N{GREEK SMALL LETTER OMEGA}" for number in range(2_000)]


def content(path: str) -> bytes:
    """Return what plain functions write to *path*: several parts."""
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


def pipe(fs: Any, path: str) -> None:
    """Store three bytes: what must fail."""
    fs.pipe_file(path, b"abc")


def holders(place: str) -> list[str]:
    """Return the environment variables of this process that hold the token."""
    token = Path(place).read_text().strip()
    return [name for name, value in os.environ.items() if token in value]


def take_token(place: str) -> None:
    """Put the token into the environment of this process."""
    os.environ["OSSPRESIGNED_TOKEN"] = Path(place).read_text().strip()


class Notes:
    """Keeps what could be seen, each thing in a file, for the test to search."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def keep(self, name: str, data: bytes) -> None:
        """Keep bytes under a name of their own."""
        (self._folder / name).write_bytes(data)

    def pickles(self, name: str, thing: Any) -> None:
        """Keep both kinds of pickles of *thing*."""
        self.keep(f"{name}.pickle", pickle.dumps(thing))
        self.keep(f"{name}.cloudpickle", cloudpickle.dumps(thing))

    def failure(self, name: str, error: BaseException) -> str:
        """Keep a failure with its traceback; return its class."""
        shown = "".join(traceback.format_exception(error))
        self.keep(f"{name}.traceback", shown.encode())
        self.pickles(name, error)
        return type(error).__name__


def with_dask(plan: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """Write from two worker processes, by every source of the plan."""
    from distributed import Client, LocalCluster  # noqa: PLC0415 - pools spare it

    told: dict[str, Any] = {
        "client": os.getpid(),
        "failures": {},
        "holders": {},
    }
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=plan["scratch"],
        ) as cluster,
        Client(cluster) as client,
    ):
        collections(plan["local"], {}, compute=True)  # what must arrive
        for source, options in plan["sources"].items():
            if source == "environment":
                # From here on the workers have it, and nobody else.
                client.run(take_token, plan["token_file"])
            from_workers(client, source, plan, notes)
            told["failures"][source] = failing(client, source, options, plan, notes)
            told["holders"][source] = [
                holders(plan["token_file"]),
                *client.run(holders, plan["token_file"]).values(),
            ]
        notes.keep("workers.log", repr(client.get_worker_logs()).encode())
        notes.keep("scheduler.log", repr(client.get_scheduler_logs()).encode())
        client.dump_cluster_state(str(Path(plan["folder"], "seen", "state")))
    return told


def collections(url: str, options: Any, *, compute: bool) -> dict[str, Any]:
    """Write a table twice and a bag, or return the graphs that would."""
    import dask.bag  # noqa: PLC0415 - pools spare it
    import dask.dataframe as dd  # noqa: PLC0415 - pools spare it

    how = {"storage_options": options, "compute": compute}
    table = dd.from_pandas(frame(), npartitions=PARTITIONS)
    bag = dask.bag.from_sequence(lines(), npartitions=PARTITIONS)
    return {
        "parquet": table.to_parquet(f"{url}/parquet", **how),
        "csv": table.to_csv(f"{url}/csv/*.csv", **how),
        "text": bag.to_textfiles(f"{url}/text/*.txt.gz", **how),
    }


def from_workers(client: Any, source: str, plan: dict[str, Any], notes: Notes) -> None:
    """Write a table twice, a bag, and files of plain functions."""
    root, options = plan["roots"][source], plan["sources"][source]
    url = f"osspresigned://{root}"
    for name, made in collections(url, options, compute=False).items():
        notes.keep(f"{source}-{name}.graph", cloudpickle.dumps(made))
    collections(url, options, compute=True)
    fs = fsspec.filesystem("osspresigned", **options)
    notes.pickles(f"{source}-fs", fs)
    notes.keep(f"{source}-fs.json", fs.to_json().encode())
    futures = []
    for number in range(FILES):
        path = f"{root}/by-fs/{number}"
        futures.append(client.submit(write, fs, path))
        path = f"{root}/by-file/{number}"
        file = fsspec.open(f"osspresigned://{path}", "wb", **options)
        notes.pickles(f"{source}-file-{number}", file)
        futures.append(client.submit(write_open_file, file, path))
    client.gather(futures)


def failing(
    client: Any, source: str, options: Any, plan: dict[str, Any], notes: Notes
) -> list[str]:
    """Let tasks fail; return the classes that came back."""
    fs = fsspec.filesystem("osspresigned", **options)
    return [
        notes.failure(
            f"{source}-failure-{number}", client.submit(pipe, fs, path).exception()
        )
        for number, path in enumerate(plan["failing"][source])
    ]


def into_file(folder: str) -> None:
    """Log everything that this process says, in full."""
    place = Path(folder, "logs", f"process-{os.getpid()}.log")
    logging.basicConfig(filename=place, level=logging.DEBUG, force=True)


def with_pools(plan: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """Write from pools of two processes, however they are made."""
    into_file(plan["folder"])
    told: dict[str, Any] = {"workers": {}, "client": os.getpid()}
    for source, options in plan["sources"].items():
        fs = fsspec.filesystem("osspresigned", **options)
        notes.pickles(f"{source}-fs", fs)
        # The forked ones inherit a filesystem with threads and connections.
        fs.pipe_file(f"{plan['roots'][source]}/parent", b"parent")
        for method in plan["methods"]:
            root = f"{plan['roots'][source]}/{method}"
            futures = []
            with ProcessPoolExecutor(
                2,
                mp_context=multiprocessing.get_context(method),
                initializer=into_file,
                initargs=(plan["folder"],),
            ) as pool:
                for number in range(FILES):
                    path = f"{root}/by-fs/{number}"
                    futures.append(pool.submit(write, fs, path))
                    path = f"{root}/by-file/{number}"
                    file = fsspec.open(f"osspresigned://{path}", "wb", **options)
                    futures.append(pool.submit(write_open_file, file, path))
                pids = {future.result() for future in futures}
                told["workers"][f"{source} {method}"] = sorted(pids)
    return told


def main(place: str, how: str) -> None:
    """Do what the plan says and write down how it went."""
    plan = json.loads(Path(place).read_text())
    act = {"dask": with_dask, "pools": with_pools}[how]
    notes = Notes(Path(plan["folder"], "seen"))
    told = act(plan, notes)
    Path(plan["folder"], "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

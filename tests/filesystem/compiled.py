"""Imitation of DuckDB: what it calls for a COPY, and in which threads.

Frames of fsspec do not count as Python code, and compiled code has none: hence the name.
"""

from __future__ import annotations

import _thread
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

__name__ = "fsspec.compiled"


def in_own_thread(verb: Callable[..., Any], *args: Any) -> Any:
    """Call *verb* in a thread that has no Python frame; return or raise as it does."""
    done: queue.Queue[Any] = queue.Queue()
    trace = threading.gettrace()

    def run() -> None:
        sys.settrace(trace)  # as threads of Python do, so that coverage sees it
        try:
            done.put((verb(*args), None))
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            done.put((None, error))

    _thread.start_new_thread(run, ())
    value, error = done.get(timeout=10)
    if error is not None:
        raise error
    return value


def in_same_thread(verb: Callable[..., Any], *args: Any) -> Any:
    """Call *verb*."""
    return verb(*args)


def copy(
    fs: Any,
    path: str,
    data: bytes,
    *,
    call: Callable[..., Any] = in_same_thread,
    fails: bool = False,
    use_tmp_file: bool = False,
) -> None:
    """Write *data* as ``COPY ... TO`` does; if it *fails*, write half of it.

    *call* calls what DuckDB may call in any of its threads. *use_tmp_file* is an option of
    the statement.
    """
    target = path
    existed = fs.isfile(f"osspresigned://{target}")
    if use_tmp_file and existed:
        folder, _, name = target.rpartition("/")
        path = f"{folder}/tmp_{name}"  # noqa: S108 - a key
    call(fs.isfile, path)
    file = call(fs.open, path, "wb")
    file.write(data[: len(data) // 2] if fails else data)
    call(file.close)
    if fails:
        if path == target and not existed and fs.isfile(path):
            fs.rm(path)
        raise ZeroDivisionError
    if path != target:
        call(fs.mv, path, target)

"""Callers: facts about the calling tool, read from the call stack.

Some callers do not pass facts that this package needs. fsspec does not pass on the mode
of ``fsspec.open`` or the exception of a ``with`` block. DuckDB does not report whether
its statement failed.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_OWN = "fsspec"  # also matches the name of this package


# Thread -> the last call of ``isfile`` and its path, if DuckDB may have made the call.
_last = threading.local()


def is_thread_of_duckdb() -> bool:
    """Return whether DuckDB's compiled code may have started this thread.

    True for a thread without Python code if DuckDB is imported. Another compiled
    library may also have started such a thread.
    """
    return "duckdb" in sys.modules and _calling() is None


def note_look(path: str) -> None:
    """Record a call of ``isfile(path)``."""
    if "duckdb" in sys.modules:
        _last.look = _calling(), path


def duckdb_opens(path: str) -> bool:
    """Return whether DuckDB, and not Python code, is opening *path* now.

    DuckDB opens a file in a thread of its own, or right after it has called ``isfile`` of
    the same path in the same instruction of Python code.
    """
    if "duckdb" not in sys.modules:
        return False
    call = _calling()
    return call is None or getattr(_last, "look", None) == (call, path)


def _calling() -> tuple[int, int] | None:
    """Return the innermost frame outside this package and fsspec, and its instruction.

    None if there are none.
    """
    frame = inspect.currentframe()
    while frame is not None and _module_of(frame).startswith(_OWN):
        frame = frame.f_back
    return None if frame is None else (id(frame), frame.f_lasti)


def mode_of_open_files() -> str:
    """Return the mode of the ``fsspec.open`` or ``open_files`` that called this, or ""."""
    for frame in _frames_of_fsspec():
        if (_module_of(frame), frame.f_code.co_name) == ("fsspec.core", "open_files"):
            return str(frame.f_locals.get("mode"))
    return ""


def is_called_by(module: str) -> bool:
    """Return whether this package was called by the fsspec module *module*."""
    return any(_module_of(frame) == module for frame in _frames_of_fsspec())


def leaving() -> BaseException | None:
    """Return the exception that the calling ``__exit__`` received.

    None if the ``with`` block ended without an exception. If no ``__exit__`` is on the
    call stack, return the exception that is being handled, or None.
    """
    error, frame = sys.exception(), inspect.currentframe()
    while error is not None and frame is not None:
        if frame.f_code.co_name == "__exit__":
            names, rest, _, values = inspect.getargvalues(frame)
            arguments = [*map(values.get, names), *(values.get(rest or "") or ())]
            return error if any(value is error for value in arguments) else None
        frame = frame.f_back
    return error


def _frames_of_fsspec() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None and (name := _module_of(frame)).startswith(_OWN):
        if name.partition(".")[0] == _OWN:
            yield frame
        frame = frame.f_back


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))

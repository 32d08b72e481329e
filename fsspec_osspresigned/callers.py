"""Callers that do not say what this package must know, read from the call stack.

Compiled code, such as DuckDB, calls back while Python waits in one instruction. Callbacks
from the same thread, frame and instruction therefore belong to one call of the tool,
without Python code in between.

fsspec does not pass on the mode of ``fsspec.open`` or the exception of a ``with`` block.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from attrs import frozen

_OWN = "fsspec"  # this package, too


@frozen
class NativeCall:
    """One call into compiled code: its thread, and the Python instruction that waits.

    *frame* is 0 for a thread that compiled code started, which has no Python frame.
    """

    thread: int
    frame: int
    instruction: int


# Of each thread: what it asked about last.
_last = threading.local()


def calling() -> NativeCall:
    """Return the current call into compiled code.

    Frames of this package and fsspec do not count.
    """
    frame = inspect.currentframe()
    while frame is not None and _module_of(frame).startswith(_OWN):
        frame = frame.f_back
    thread = threading.get_ident()
    if frame is None:
        return NativeCall(thread, 0, 0)
    return NativeCall(thread, id(frame), frame.f_lasti)


def duckdb_asks(path: str) -> NativeCall | None:
    """Record that ``isfile`` of *path* was called, and return the call.

    Return None if DuckDB is not loaded.
    """
    if "duckdb" not in sys.modules:
        return None
    call = calling()
    _last.look = call, path
    return call


def duckdb_opens(path: str) -> NativeCall | None:
    """Return the call of DuckDB that opens *path* now; None if Python code opens it.

    DuckDB opens a file from a thread of its own, which has no Python frame, or after
    ``isfile`` of the same path in the same call.
    """
    if "duckdb" not in sys.modules:
        return None
    call = calling()
    look = getattr(_last, "look", None)
    return call if not call.frame or look == (call, path) else None


def mode_of_open_files() -> str:
    """Return the mode of the call of ``fsspec.open`` or ``open_files`` under way.

    Return "" if there is none.
    """
    for frame in _frames_of_fsspec():
        if (_module_of(frame), frame.f_code.co_name) == ("fsspec.core", "open_files"):
            return str(frame.f_locals.get("mode"))
    return ""


def is_called_by(module: str) -> bool:
    """Return whether a function of *module*, a module of fsspec, called this package."""
    return any(_module_of(frame) == module for frame in _frames_of_fsspec())


def leaving() -> BaseException | None:
    """Return the exception that ends the innermost ``with`` block whose end called this.

    Without a ``with`` block, return the exception that is being handled.
    """
    error, frame = sys.exception(), inspect.currentframe()
    while error is not None and frame is not None:
        if frame.f_code.co_name == "__exit__":
            names, rest, _, values = inspect.getargvalues(frame)
            given = [*map(values.get, names), *(values.get(rest or "") or ())]
            return error if any(one is error for one in given) else None
        frame = frame.f_back
    return error


def _frames_of_fsspec() -> Iterator[FrameType]:
    """Yield the frames of fsspec between this package and its caller."""
    frame = inspect.currentframe()
    while frame is not None and (name := _module_of(frame)).startswith(_OWN):
        if name.partition(".")[0] == _OWN:
            yield frame
        frame = frame.f_back


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))

"""Calls into compiled code: whether two events belong to the same call.

A C++ tool calls back while Python waits in one instruction. Callbacks from the same
thread, frame and instruction therefore belong to one call of the tool, without Python
code in between.
"""

from __future__ import annotations

import inspect
import threading

from attrs import frozen

_OWN = "fsspec"  # this package, too


@frozen
class NativeCall:
    """One call: its thread, and the Python frame and instruction that wait for it.

    *frame* 0 is a thread without Python code, which compiled code started.
    """

    thread: int
    frame: int
    instruction: int


def calling() -> NativeCall:
    """Return the current call, ignoring frames of fsspec and this package."""
    frame = inspect.currentframe()
    while frame is not None and _name_of(frame.f_globals).startswith(_OWN):
        frame = frame.f_back
    thread = threading.get_ident()
    if frame is None:
        return NativeCall(thread, 0, 0)
    return NativeCall(thread, id(frame), frame.f_lasti)


def _name_of(names: dict[str, object]) -> str:
    return str(names.get("__name__"))

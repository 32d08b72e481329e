"""Detection of callbacks that belong to the same call into compiled code.

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
    """One call into compiled code: its thread, and the Python instruction that waits.

    *frame* is 0 for a thread that compiled code started, which has no Python frame.
    """

    thread: int
    frame: int
    instruction: int


def calling() -> NativeCall:
    """Return the current call into compiled code.

    Frames of this package do not count.
    """
    frame = inspect.currentframe()
    while frame is not None and _name_of(frame.f_globals).startswith(_OWN):
        frame = frame.f_back
    thread = threading.get_ident()
    if frame is None:
        return NativeCall(thread, 0, 0)
    return NativeCall(thread, id(frame), frame.f_lasti)


def _name_of(names: dict[str, object]) -> str:
    return str(names.get("__name__"))

"""Finalizers: finds out whether a finalizer, not the program, closes a file.

A wrapper of another library may close the file when the program drops it, for example
after an exception. The bytes written until then are not the whole object.
"""

from __future__ import annotations

import dis
import gc
import inspect
import threading
from types import FrameType
from typing import Any

_PACKAGE = __name__.partition(".")[0]

# Instructions that drop a reference. They call no function, except ``__setattr__`` and
# similar methods. If a program defines these in Python, they have a frame of their own.
_DROPS = ("POP_", "STORE_", "DELETE_", "END_")


class _Collection:
    """A run of the garbage collector, in this thread or another one."""

    thread: int | None = None

    def note(self, phase: str, _: Any) -> None:
        self.thread = threading.get_ident() if phase == "start" else None


_collection = _Collection()
gc.callbacks.append(_collection.note)


def in_finalizer() -> bool:
    """Return whether a finalizer is running in this thread.

    A finalizer is a method ``__del__``, a function that the garbage collector calls, or
    compiled code. In the last case, the running Python code is at an instruction that
    calls nothing. ``close`` methods of wrappers may be in between.

    One case is not recognized: a finalizer of compiled code that runs when a call
    returns, for example for a local variable. It looks as if the call had closed the
    file.
    """
    if _collection.thread == threading.get_ident():
        return True
    frame = inspect.currentframe()
    while frame is not None and (_is_own(frame) or frame.f_code.co_name == "close"):
        frame = frame.f_back
    if frame is not None and _instruction(frame).startswith(_DROPS):
        return True
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def _is_own(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE


def _instruction(frame: FrameType) -> str:
    """Return the name of the instruction that *frame* executes; "" if it has none."""
    code, at = frame.f_code.co_code, frame.f_lasti
    # Code from another compiler may have no instruction at this position.
    return "".join(dis.opname[op] for op in code[at : at + 1])

"""Interrupts at a chosen line, as by an exception from a signal handler."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import sys
import time
import urllib.error
import urllib.request


class Interrupt(BaseException):
    """What a signal handler raises."""


def tracer(file, number, act):
    """Return a trace function: call *act* before line *number* of *file*.

    The lines of ``Thread.start`` count, too. The line of a ``with`` counts when it is
    entered only: the interpreter runs no signal handler between the last line of the
    body and the release of the lock. Nor does it at a ``try:``, which counts never.
    """
    lines = itertools.count()

    def trace(frame, event, _):
        code = frame.f_code
        if code.co_filename != file and code.co_qualname != "Thread.start":
            return None
        entered = set()

        def step(frame, event, _):
            if event == "line":
                text = linecache.getline(code.co_filename, frame.f_lineno).strip()
                left = text.startswith("with ") and frame.f_lineno in entered
                left = left or text == "try:"
                entered.add(frame.f_lineno)
                if not left and next(lines) == number:
                    act()
            return step

        return step

    return trace


@contextlib.contextmanager
def at_line(file, number, act):
    """Call *act* before line *number* of *file* in this thread."""
    before = sys.gettrace()
    # Python 3.11 drops a trace function that raises while a call of it may go on.
    trace = tracer(file, number, act)
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        del trace


def settle(oss):
    """Wait until the store has done all that was sent before an interrupt."""
    for _ in range(2):  # it has read all that had come before the first of them
        with contextlib.suppress(urllib.error.HTTPError):  # it is not signed
            urllib.request.urlopen(f"{oss.url}/examplebucket/")
    while oss.under_way:
        time.sleep(0.001)

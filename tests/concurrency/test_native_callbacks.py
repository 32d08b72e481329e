"""Which call of compiled code a callback belongs to."""

from __future__ import annotations

import _thread
import queue
import sys
import threading

from fsspec_osspresigned.concurrency.native_callbacks import calling


def test_callbacks_of_one_call_are_alike():
    """``map`` calls back from one instruction; two lines of Python are two calls."""
    one, two = map(lambda _: calling(), range(2))  # noqa: C417 - not a comprehension
    assert one.thread == two.thread == threading.get_ident()
    first = calling()
    second = calling()
    assert first != second
    assert first.frame == second.frame


def test_each_thread_has_its_own():
    """The same line in two threads is two calls."""
    found = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: found.append(calling()))
        thread.start()
        thread.join()
    assert found[0].frame
    assert threading.get_ident() not in {one.thread for one in found}


def test_thread_that_compiled_code_started():
    """Frames of fsspec and this package do not count, and below them there is none."""
    names = {"__name__": "fsspec.spec", "calling": calling, "found": queue.Queue()}
    names |= {"settrace": sys.settrace, "trace": threading.gettrace()}
    code = "def run(): settrace(trace); found.put(calling())"  # as Python's threads do
    exec(code, names)  # noqa: S102 - a module by name
    _thread.start_new_thread(names["run"], ())
    found = names["found"].get(timeout=10)
    assert (found.frame, found.instruction) == (0, 0)
    assert found.thread != threading.get_ident()

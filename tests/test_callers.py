"""What the call stack says about a caller."""

from __future__ import annotations

import _thread
import contextlib
import queue
import sys
import threading

import pytest

from fsspec_osspresigned import call_stack
from fsspec_osspresigned.call_stack import calling


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


def test_duckdb_is_seen_only_if_it_is_loaded(monkeypatch):
    """Without it, no call is taken for one of DuckDB, whatever the stack is."""
    monkeypatch.delitem(sys.modules, "duckdb", raising=False)
    for ask in (call_stack.duckdb_asks, call_stack.duckdb_opens):  # one instruction
        assert ask("bucket/key") is None
    monkeypatch.setitem(sys.modules, "duckdb", object())
    seen = [ask("b/k") for ask in (call_stack.duckdb_asks, call_stack.duckdb_opens)]
    assert seen[0] == seen[1] is not None
    call_stack.duckdb_asks("b/k")
    assert call_stack.duckdb_opens("b/k") is None
    seen = [
        ask(path)
        for ask, path in (
            (call_stack.duckdb_asks, "b/1"),
            (call_stack.duckdb_opens, "b/2"),
        )
    ]
    assert seen[0] is not None
    assert seen[1] is None


class Block:
    """Keeps what ended it; also for what it calls at its end."""

    def __init__(self, end=call_stack.leaving):
        self.end = end

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.left = self.end()
        return True


def test_the_exception_that_ends_a_block():
    """The innermost block decides; without one, what is being handled."""
    error = KeyError(1)
    with Block() as block:
        raise error
    assert block.left is error
    with Block() as block:
        pass
    assert block.left is None

    def report():
        with Block() as inner:
            pass
        return inner.left

    with Block(report) as block:  # writes a report of the exception, and ends well
        raise error
    assert block.left is None
    with contextlib.ExitStack() as stack:
        left = []
        stack.push(lambda *_: True)
        stack.callback(lambda: left.append(call_stack.leaving()))
        raise error
    assert left == [error]
    assert call_stack.leaving() is None
    with pytest.raises(KeyError):
        try:
            raise error
        finally:
            left.append(call_stack.leaving())
    assert left == [error, error]

"""What the call stack says about a caller."""

from __future__ import annotations

import contextlib
import sys

import pytest

from fsspec_osspresigned import callers
from tests.filesystem.compiled import in_own_thread


@pytest.fixture
def duckdb(monkeypatch):
    """Pretend that DuckDB is loaded."""
    monkeypatch.setitem(sys.modules, "duckdb", object())


def test_duckdb_is_seen_only_if_it_is_loaded(monkeypatch):
    """Without it, no call is taken for one of DuckDB, whatever the stack is."""
    monkeypatch.delitem(sys.modules, "duckdb", raising=False)
    assert not in_own_thread(callers.is_thread_of_duckdb)
    assert not in_own_thread(callers.duckdb_opens, "b/k")


def test_a_thread_without_python_code_is_taken_for_one_of_duckdb(duckdb):
    """Frames of fsspec and this package do not count."""
    assert in_own_thread(callers.is_thread_of_duckdb)
    assert in_own_thread(callers.duckdb_opens, "b/k")
    assert not callers.is_thread_of_duckdb()
    assert not callers.duckdb_opens("b/k")


def test_duckdb_opens_what_the_same_instruction_has_looked_for(duckdb):
    """Two lines of Python code are no call of DuckDB, nor are two paths."""

    def call(*steps):
        for step, path in steps:  # one instruction, as of compiled code
            found = step(path)
        return found

    look, opens = callers.note_look, callers.duckdb_opens
    assert call((look, "b/k"), (opens, "b/k"))
    assert not call((look, "b/k"), (opens, "b/other"))
    look("b/k")
    assert not opens("b/k")


class Block:
    """Keeps what ended it; also for what it calls at its end."""

    def __init__(self, end=callers.leaving):
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
        stack.callback(lambda: left.append(callers.leaving()))
        raise error
    assert left == [error]
    assert callers.leaving() is None
    with pytest.raises(KeyError):
        try:
            raise error
        finally:
            left.append(callers.leaving())
    assert left == [error, error]

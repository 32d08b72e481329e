"""Files that compiled code opens as DuckDB does: only in a transaction.

``tests/contract/writers`` has the tests with DuckDB itself.
"""

from __future__ import annotations

import contextlib
import sys
import threading

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from tests.filesystem import compiled
from tests.filesystem.compiled import in_own_thread, in_same_thread

ROOT = "examplebucket"
PATH = f"{ROOT}/a.csv"
TEMPORARY = f"{ROOT}/tmp_a.csv"  # noqa: S108 - a key

threads = pytest.mark.parametrize(
    "call", [in_same_thread, in_own_thread], ids=["same thread", "own thread"]
)


@pytest.fixture(autouse=True)
def duckdb(monkeypatch):
    """Pretend that DuckDB is loaded."""
    monkeypatch.setitem(sys.modules, "duckdb", object())


# DuckDB asks for the kind of its target first, which warns where looking is not signed.
looks = pytest.mark.filterwarnings(
    "ignore::fsspec_osspresigned.errors.BlindAnswerWarning"
)


def raises(error, *, when):
    """Expect *error* if *when*."""
    return pytest.raises(error) if when else contextlib.nullcontext()


@threads
def test_outside_of_a_transaction_it_is_refused(fs, owner, call):
    """Nothing is sent, and the error names the remedies."""
    with pytest.raises(ConfigurationError, match=r"with fs\.transaction") as caught:
        compiled.copy(fs, PATH, b"whole", call=call)
    assert "fs.put_file" in str(caught.value)
    assert caught.value.filename == PATH
    assert "PutObject" not in owner.actions()


@looks
@threads
@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("kind", ["fs", "blind"])
def test_a_transaction_publishes_it(request, owner, call, older, kind):
    """The object is new or replaced."""
    fs = request.getfixturevalue(kind)
    before = {"a.csv": b"older"} if older else {}
    if older:
        fs.pipe_file(PATH, b"older")
    with fs.transaction:
        compiled.copy(fs, PATH, b"whole", call=call)
        assert owner.stored() == before
    assert owner.stored() == {"a.csv": b"whole"}
    assert not {"CopyObject", "DeleteObject"} & set(owner.actions())


@threads
@pytest.mark.parametrize("older", [False, True])
def test_a_statement_that_fails_publishes_nothing(fs, owner, call, older):
    """Its exception leaves the block; the older object stays."""
    wanted = {"a.csv": b"older"} if older else {}
    if older:
        fs.pipe_file(PATH, b"older")
    with pytest.raises(ZeroDivisionError), fs.transaction:
        compiled.copy(fs, PATH, b"whole", call=call, fails=True)
    assert owner.stored() == wanted
    assert "DeleteObject" not in owner.actions()


def test_several_files_of_one_statement(fs, owner):
    """Threads of DuckDB write partitions into the only transaction that there is."""
    with fs.transaction:
        for name in ("table/n=1/0.csv", "table/n=2/0.csv"):
            in_own_thread(fs.open, f"{ROOT}/{name}", "wb").close()
        assert not owner.stored()
    assert owner.stored() == {"table/n=1/0.csv": b"", "table/n=2/0.csv": b""}


@threads
def test_a_temporary_file_is_refused(fs, owner, call):
    """An upload that has begun cannot be renamed; the error names the option."""
    fs.pipe_file(PATH, b"older")
    refused = pytest.raises(ConfigurationError, match="USE_TMP_FILE false")
    with refused as caught, fs.transaction:
        compiled.copy(fs, PATH, b"whole", call=call, use_tmp_file=True)
    assert caught.value.filename == TEMPORARY
    assert owner.stored() == {"a.csv": b"older"}
    assert "CopyObject" not in owner.actions()


def test_a_thread_of_duckdb_cannot_say_which_transaction_is_meant(fs, owner):
    """If two are under way, its file is refused, and nothing is published."""

    def other():
        with fs.transaction:
            begun.set()
            done.wait(10)

    begun, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(10)
    with pytest.raises(ConfigurationError), fs.transaction:
        compiled.copy(fs, PATH, b"whole", call=in_own_thread)
    done.set()
    thread.join()
    assert not owner.stored()


def test_python_code_is_not_taken_for_it(fs, owner):
    """Looking, writing and removing by Python code is as ever."""
    fs.isfile(PATH)
    with fs.open(PATH, "wb") as file:
        file.write(b"1")
    with fs.transaction:
        fs.isfile(PATH)
        fs.pipe_file(PATH, b"2")
        with pytest.raises(ConfigurationError, match="cannot be moved"):
            fs.mv(PATH, f"{ROOT}/b")
        fs.rm(PATH)
        assert not owner.stored()
    assert owner.stored() == {"a.csv": b"2"}

"""Files that compiled code opens as DuckDB does: only in a transaction.

``tests/contract/writers`` has the tests with DuckDB itself.
"""

from __future__ import annotations

import contextlib
import sys
import threading

import pytest

from fsspec_osspresigned.errors import ConfigurationError, UploadDiscardedError
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
    """The object is new or replaced, without a ``tmp_`` object that is renamed."""
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
@pytest.mark.parametrize("handled", [False, True])
def test_a_statement_that_fails_publishes_nothing(fs, owner, call, older, handled):
    """The older object stays, also if the block handles the error and goes on."""
    wanted = {"a.csv": b"older"} if older else {}
    if older:
        fs.pipe_file(PATH, b"older")
    with raises(ZeroDivisionError, when=not handled), fs.transaction:
        with raises(ZeroDivisionError, when=handled):
            compiled.copy(fs, PATH, b"whole", call=call, fails=True)
        fs.pipe_file(f"{ROOT}/other", b"x")
    assert owner.stored() == wanted | ({"other": b"x"} if handled else {})
    assert "DeleteObject" not in owner.actions()


@threads
def test_several_statements_with_one_target(fs, owner, call):
    """The last one that succeeds is published."""
    with fs.transaction:
        for data in (b"first", b"second"):
            compiled.copy(fs, PATH, data, call=call)
        with pytest.raises(ZeroDivisionError):
            compiled.copy(fs, PATH, b"third", call=call, fails=True)
    assert owner.stored() == {"a.csv": b"second"}


def test_a_statement_that_ends_neither_way(fs, owner):
    """A temporary file that is not renamed is no success: nothing is published."""
    fs.pipe_file(PATH, b"older")
    with pytest.raises(UploadDiscardedError, match="did not rename"), fs.transaction:
        compiled.copy(fs, PATH, b"whole", renames=False)
    assert owner.stored() == {"a.csv": b"older"}
    with fs.transaction:  # the next one knows nothing of it
        fs.pipe_file(PATH, b"newer")
    assert owner.stored() == {"a.csv": b"newer"}


def test_files_below_a_directory_that_was_looked_for(fs, owner):
    """Partitions belong to the transaction in which their directory was looked for."""
    with fs.transaction:
        assert not fs.isfile(f"{ROOT}/table")
        for name in ("table/n=1/0.csv", "table/n=2/0.csv"):
            in_own_thread(fs.open, f"{ROOT}/{name}", "wb").close()
        with pytest.raises(ConfigurationError):
            in_own_thread(fs.open, f"{ROOT}/elsewhere", "wb")
    assert owner.stored() == {"table/n=1/0.csv": b"", "table/n=2/0.csv": b""}


def test_transactions_of_several_threads(fs, owner):
    """Each statement belongs to its own transaction, and to none if two may be meant."""
    failures = []

    def work(name):
        try:
            for number in range(20):
                with contextlib.suppress(ZeroDivisionError), fs.transaction:
                    path = f"{ROOT}/{name}-{number}"
                    compiled.copy(
                        fs, path, b"whole", call=in_own_thread, fails=number % 2
                    )
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    workers = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    wanted = {f"{name}-{n}": b"whole" for name in "abc" for n in range(0, 20, 2)}
    assert owner.stored() == wanted


def test_a_target_of_two_transactions(fs, owner):
    """A thread of compiled code cannot say which one is meant, so it is refused."""

    def other():
        with fs.transaction:
            fs.isfile(PATH)
            looked.set()
            done.wait(10)

    looked, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    assert looked.wait(10)
    with pytest.raises(ConfigurationError), fs.transaction:
        compiled.copy(fs, PATH, b"whole", call=in_own_thread)
    done.set()
    thread.join()
    assert not owner.stored()


def test_python_code_is_not_taken_for_it(fs, owner):
    """Looking, writing, renaming and removing by Python code is as ever."""
    fs.isfile(PATH)
    with fs.open(PATH, "wb") as file:
        file.write(b"1")
    with fs.transaction:
        fs.isfile(PATH)
        with fs.open(TEMPORARY, "wb") as file:
            file.write(b"2")
        with pytest.raises(FileNotFoundError):
            fs.mv(TEMPORARY, PATH)
        fs.rm(PATH)
    assert owner.stored() == {"tmp_a.csv": b"2"}


def test_removing_what_another_statement_wrote(fs, owner):
    """``rm`` of compiled code discards only what the same statement opened."""
    fs.pipe_file(PATH, b"older")
    with fs.transaction:
        fs.pipe_file(PATH, b"newer")
        for verb in (fs.isfile, fs.rm):  # one instruction, as of compiled code
            verb(PATH)
        assert "a.csv" not in owner.stored()
    assert owner.stored() == {"a.csv": b"newer"}


@looks
def test_on_exception_publish_is_as_in_other_filesystems(environment, owner, only):
    """It was asked for."""
    fs = only(on_exception="publish")
    compiled.copy(fs, PATH, b"whole", call=in_own_thread)
    assert owner.stored() == {"a.csv": b"whole"}


def test_errors_have_a_traceback(fs):
    """DuckDB would crash on an error without one."""
    found = []

    def call(verb, *args):
        try:
            return in_own_thread(verb, *args)
        except ConfigurationError as error:
            found.append(error.__traceback__.tb_next)  # behind what raised it again
            raise

    with pytest.raises(ConfigurationError):
        compiled.copy(fs, PATH, b"whole", call=call)
    assert found[0] is not None

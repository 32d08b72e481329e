"""Several objects that are published together, or not at all."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import contextvars
import gzip
import io
import os
import pickle
import queue
import subprocess
import sys
import threading

import fsspec
import pytest
from fsspec.callbacks import Callback
from fsspec.implementations.dirfs import DirFileSystem

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    ObjectExistsError,
    OSSPresignedError,
    Outcome,
    ReceiptFailedError,
    SourceChangedError,
    UploadDiscardedError,
    UploadErrors,
)
from fsspec_osspresigned.http import body
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.upload import transaction as deferred
from fsspec_osspresigned.upload.transaction import HeldCopies
from tests.filesystem.conftest import VERBS, forked

ROOT = "examplebucket"
PART = 100 * 1024


class Boom(Exception):  # noqa: N818 - it stands for anything
    """The exception of a user's body."""


@pytest.fixture
def parted(only):
    """A filesystem that writes, in parts of 100 KiB above 200 KiB."""
    return only(part_size="100KiB", multipart_threshold="200KiB")


def write(fs, key, data=b"x"):
    """Write through an open file."""
    with fs.open(f"{ROOT}/{key}", "wb") as file:
        file.write(data)


def every_way(fs, tmp_path):
    """Write objects by every verb; return what must be stored."""
    sizes = (10, 5 * PART // 2)
    wanted = {f"{verb}/{n}": os.urandom(n) for verb in VERBS for n in sizes}
    for key, data in wanted.items():
        value = bytearray(data)
        VERBS[key.partition("/")[0]](fs, f"{ROOT}/{key}", value, tmp_path)
        value[:] = bytes(len(value))  # it is the caller's again
    fs.touch(f"{ROOT}/touched")
    return wanted | {"touched": b""}


def test_every_way_to_write_waits_for_the_end(parted, owner, tmp_path):
    """Parts of large objects leave at once; whatever publishes is signed at the end."""
    with parted.transaction as found:
        wanted = every_way(parted, tmp_path)
        assert set(owner.actions()) == {"InitiateMultipartUpload", "UploadPart"}
        assert owner.actions().count("InitiateMultipartUpload") == len(VERBS)
        assert parted.pipe_file(f"{ROOT}/touched", b"") is None
        assert parted.pipe({f"{ROOT}/touched": b""}) == []
    assert owner.stored() == wanted
    assert {receipt.path for receipt in found.receipts} == {
        f"{ROOT}/{key}" for key in wanted
    }
    assert parted.exists(f"{ROOT}/touched")
    assert not owner.oss.uploads(ROOT)
    write(parted, "after")
    assert "after" in owner.stored()


@pytest.mark.parametrize("error", [Boom, KeyboardInterrupt])
def test_what_leaves_the_body_discards_everything(parted, owner, tmp_path, error):
    """Nothing is published, no part remains, and the next write is as ever."""
    with pytest.raises(error), parted.transaction:
        every_way(parted, tmp_path)
        open_still = parted.open(f"{ROOT}/open", "wb")
        open_still.write(b"x")
        raise error
    assert not owner.stored()
    assert not owner.oss.uploads(ROOT)
    assert open_still.closed
    write(parted, "after")
    assert set(owner.stored()) == {"after"}


class Rows:
    """A Parquet file that is written row group by row group, and ends in a footer."""

    def __init__(self, file):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = pyarrow.table({"n": range(1000)})
        self._writer = parquet.ParquetWriter(file, table.schema)
        self._writer.write_table(table)
        self.close = self._writer.close


def in_gzip(file):
    """Write into a stock gzip file over *file*."""
    packed = gzip.GzipFile(fileobj=file, mode="wb")
    packed.write(os.urandom(3 * PART))
    return packed


def in_buffer(file):
    """Write into a stock buffer over *file*."""
    buffer = io.BufferedWriter(file)
    buffer.write(b"x")
    return buffer


def plain(file):
    """Write into *file* itself."""
    file.write("x" if isinstance(file, io.TextIOBase) else b"x")
    return file


@pytest.mark.parametrize(
    ("write_some", "options"),
    [
        (plain, {}),
        (plain, {"mode": "w"}),
        (plain, {"mode": "w", "compression": "gzip"}),
        (in_gzip, {}),
        (in_buffer, {}),
        (Rows, {}),
    ],
    ids=["binary", "text", "text in gzip", "GzipFile", "BufferedWriter", "Parquet"],
)
def test_a_file_that_is_still_open_at_the_end_fails_it(parted, owner, write_some, options):  # fmt: skip
    """If an open file fails the transaction, nothing is published, not even the marker."""
    raises = pytest.raises(UploadDiscardedError, match="still open")
    with raises as caught, parted.transaction:
        write(parted, "whole")
        file = parted.open(f"{ROOT}/cut", **{"mode": "wb", **options})
        outer = write_some(file)
        parted.pipe_file(f"{ROOT}/_SUCCESS", b"")
    assert caught.value.path == f"{ROOT}/cut"
    assert caught.value.__notes__ == ["0 of 3 objects of the transaction published"]
    assert not owner.stored()
    assert not owner.oss.uploads(ROOT)
    assert file.closed
    for _ in range(2):
        with contextlib.suppress(ValueError):  # it learns that its file is gone
            outer.close()
    assert not owner.stored()


def test_a_file_that_a_thread_still_writes_fails_it(parted, owner):
    """The thread's next write raises the error."""
    told = []
    begun = threading.Event()

    def write_on(file):
        try:
            while True:
                file.write(bytes(PART))
                begun.set()
        except ValueError as error:
            told.append(error)

    with pytest.raises(UploadDiscardedError, match="still open"), parted.transaction:
        file = parted.open(f"{ROOT}/cut", "wb")
        thread = threading.Thread(target=write_on, args=(file,))
        thread.start()
        begun.wait(20)
    thread.join(20)
    assert "is closed" in str(told[0])
    assert not owner.stored()
    assert not owner.oss.uploads(ROOT)


def test_receipts_that_fail_stop_nothing(only, owner):
    """Everything is published; the error says so, and holds the missing receipts."""
    told = []

    def tell(receipt):
        told.append(receipt.path)
        if receipt.path.endswith(("1", "large")):
            raise RuntimeError("the database is down")

    fs = only(receipts=tell, max_concurrency=1, part_size="100KiB")
    raises = pytest.raises(UploadErrors, match=r"5 of 5 objects .* stored, but without")
    with raises as caught, fs.transaction as found:
        for name in "012":
            fs.pipe_file(f"{ROOT}/{name}", b"x")
        write(fs, "large", bytes(5 * PART // 2))
        fs.pipe_file(f"{ROOT}/_SUCCESS", b"")
    assert set(owner.stored()) == {"0", "1", "2", "large", "_SUCCESS"}
    assert len(told) == len(found.receipts) == len(caught.value.receipts) == 5
    assert caught.value.discarded == []
    for name in ("1", "large"):
        error = caught.value.failures[f"{ROOT}/{name}"]
        assert isinstance(error, ReceiptFailedError)
        assert (error.outcome, error.receipt.path) == (Outcome.STORED, error.path)
    assert not owner.oss.uploads(ROOT)


def test_start_and_end_without_a_block(blind, owner):
    """The other spelling does the same; an end without a beginning is an error."""
    with pytest.raises(RuntimeError, match="no transaction was begun here"):
        blind.end_transaction()
    found = blind.start_transaction()
    assert found is blind.transaction
    write(blind, "a")
    assert not owner.stored()
    blind.end_transaction()
    assert owner.stored() == {"a": b"x"}
    found.complete()  # it is over
    assert blind.transaction is not found
    blind.start_transaction()
    write(blind, "b")
    blind.transaction.complete(commit=False)
    assert set(owner.stored()) == {"a"}


def test_threads_do_not_see_each_others(blind, owner):
    """Each thread has its own transaction on the shared instance, or none."""
    inside, ended = threading.Barrier(3, timeout=20), threading.Barrier(3, timeout=20)
    failures = []

    def run(name, error):
        try:
            with contextlib.suppress(Boom), blind.transaction:
                write(blind, f"{name}/1")
                blind.pipe_file(f"{ROOT}/{name}/2", b"x")
                inside.wait()
                ended.wait()
                if error:
                    raise Boom
        except BaseException as found:  # noqa: BLE001 - a thread has nobody to tell
            failures.append(found)

    threads = [
        threading.Thread(target=run, args=("good", False)),
        threading.Thread(target=run, args=("bad", True)),
    ]
    for thread in threads:
        thread.start()
    inside.wait()
    assert not blind.transaction.under_way
    write(blind, "plain")
    assert set(owner.stored()) == {"plain"}
    ended.wait()
    for thread in threads:
        thread.join()
    assert not failures
    assert set(owner.stored()) == {"plain", "good/1", "good/2"}


def test_a_thread_of_duckdb_cannot_say_which_one_is_meant(fs, owner, monkeypatch):
    """Its thread has no context: if two are under way, its file is refused."""
    monkeypatch.setitem(sys.modules, "duckdb", object())
    raised = queue.SimpleQueue()
    monkeypatch.setattr(sys, "unraisablehook", lambda of: raised.put(of.exc_value))
    elsewhere = contextvars.copy_context()
    elsewhere.run(fs.start_transaction)
    with fs.transaction:
        _thread.start_new_thread(fs.open, (f"{ROOT}/a.csv", "wb"))
        error = raised.get(timeout=10)
    elsewhere.run(fs.end_transaction)
    assert isinstance(error, ConfigurationError)
    assert "with fs.transaction" in str(error)
    assert not owner.stored()


def test_a_thread_joins_by_its_context(blind, owner):
    """A copied context takes a worker in; a foreign thread publishes at once."""
    with blind.transaction:
        context = contextvars.copy_context()
        for run in (
            lambda f, key: context.run(f, blind, key),
            lambda f, k: f(blind, k),
        ):
            key = "joined" if run.__code__.co_varnames[1] == "key" else "foreign"
            thread = threading.Thread(target=run, args=(write, key))
            thread.start()
            thread.join()
        assert set(owner.stored()) == {"foreign"}
    assert set(owner.stored()) == {"foreign", "joined"}


def test_coroutines_join(environment, owner):
    """Calls awaited inside, also concurrent ones and tasks, are published at the end."""
    fs = fsspec.filesystem("osspresigned", signer="keys", asynchronous=True)

    async def main():
        with fs.transaction:
            await fs._pipe_file(f"{ROOT}/1", b"1")
            await asyncio.gather(*(fs._pipe_file(f"{ROOT}/{n}", b"n") for n in "234"))
            await fs._pipe({f"{ROOT}/5": b"5"})
            assert not owner.stored()
        late = asyncio.create_task(fs._pipe_file(f"{ROOT}/6", b"6"))
        await late

    asyncio.run(main())
    assert set(owner.stored()) == set("123456")


def test_a_task_that_outlives_the_transaction_writes_as_ever(environment, owner):
    """A transaction that has ended has no effect, also in a context that still has it."""
    fs = fsspec.filesystem("osspresigned", signer="keys")
    with fs.transaction:
        context = contextvars.copy_context()
    context.run(write, fs, "late")
    assert set(owner.stored()) == {"late"}


def test_an_inner_one_joins_the_outer(blind, owner):
    """All is published at the outermost end; an inner failure discards its own."""
    with blind.transaction as outer:
        write(blind, "before")
        with blind.transaction as inner:
            assert inner is outer
            write(blind, "inside")
        assert not owner.stored()
        with contextlib.suppress(Boom), blind.transaction:
            write(blind, "failed")
            raise Boom
        write(blind, "after")
    assert set(owner.stored()) == {"before", "inside", "after"}


def test_the_ways_of_dask_and_lightning(blind, owner, environment):
    """One statement opens both; ``fsspec.open`` and ``DirFileSystem`` go through it."""
    with blind.transaction, blind.open(f"{ROOT}/ckpt", "wb") as file:
        file.write(b"c")
        assert not owner.stored()
    assert set(owner.stored()) == {"ckpt"}
    fs, path = fsspec.core.url_to_fs(f"osspresigned://{ROOT}/url", signer="keys")
    with fs.transaction:
        with fsspec.open(f"osspresigned://{path}", "wb", signer="keys") as file:
            file.write(b"u")
        with DirFileSystem(ROOT, fs).open("dir", "wb") as file:
            file.write(b"d")
        assert set(owner.stored()) == {"ckpt"}
    assert set(owner.stored()) == {"ckpt", "url", "dir"}
    # Fsspec keeps the transaction of a DirFileSystem to itself.
    wrapper = DirFileSystem(ROOT, fs)
    with wrapper.transaction:
        with wrapper.open("own", "wb") as file:
            file.write(b"o")
        assert "own" in owner.stored()


def test_autocommit_says_it_for_one_file(blind, owner):
    """Inside a transaction True publishes at once; outside False leaves it to commit."""
    with blind.transaction:
        with blind.open(f"{ROOT}/now", "wb", autocommit=True) as file:
            file.write(b"n")
        assert set(owner.stored()) == {"now"}
    with blind.open(f"{ROOT}/later", "wb", autocommit=False) as file:
        file.write(b"l")
    assert set(owner.stored()) == {"now"}
    file.commit()
    assert set(owner.stored()) == {"now", "later"}
    file = blind._open(f"{ROOT}/never", "wb", autocommit=False)
    file.close()
    file.discard()
    assert set(owner.stored()) == {"now", "later"}


def test_the_last_one_for_a_path_counts(blind, owner):
    """Two writes to one path are one object; an exclusive second one is refused."""
    with blind.transaction as found:
        write(blind, "a", b"first")
        blind.pipe_file(f"{ROOT}/a", b"second")
        with pytest.raises(ObjectExistsError, match="has an object for this path"):
            blind.pipe_file(f"{ROOT}/a", b"third", mode="create")
        blind.pipe_file(f"{ROOT}/b", b"new", mode="create")
    assert owner.stored() == {"a": b"second", "b": b"new"}
    assert owner.actions() == ["PutObject"] * 2
    assert [receipt.path for receipt in found.receipts] == [f"{ROOT}/a", f"{ROOT}/b"]


def test_a_discarded_file_fails_it(blind, owner):
    """Code that swallows the exception of a file does not hide that the file is missing."""
    gone = pytest.raises(UploadDiscardedError, match="was discarded")
    with gone as caught, blind.transaction:
        blind.pipe_file(f"{ROOT}/a", b"before")
        with contextlib.suppress(Boom), blind.open(f"{ROOT}/a", "wb") as file:
            file.write(b"half")
            raise Boom
    assert caught.value.outcome is Outcome.NOT_STORED
    assert not owner.stored()


def test_the_last_object_is_published_after_all_others(blind, owner):
    """A marker that was written last stands for all the rest."""
    names = [f"{n:02}" for n in range(20)]
    with blind.transaction:
        for name in names:
            write(blind, name)
        write(blind, "_SUCCESS")
    keys = [record.key for record in owner.oss.requests]
    assert keys[-1] == "_SUCCESS"
    assert sorted(keys[:-1]) == names


def test_several_that_cannot_be_published_are_all_named(blind, owner):
    """Each file whose body failed is reported, and nothing is published."""
    raises = pytest.raises(UploadErrors, match="0 of 3 objects")
    with raises as caught, blind.transaction:
        write(blind, "good")
        for name in ("1", "2"):
            with contextlib.suppress(Boom), blind.open(f"{ROOT}/{name}", "wb"):
                raise Boom
    assert set(caught.value.failures) == {f"{ROOT}/1", f"{ROOT}/2"}
    assert caught.value.discarded == [f"{ROOT}/good"]
    assert not owner.stored()


def test_a_commit_that_fails_halfway_says_what_is_published(only, owner):
    """One error has the receipts, the failures and what was not tried any more."""
    fs = only(max_concurrency=1, part_size="100KiB")
    owner.oss.faults.add(Fault(action="PutObject", key="2", times=None, status=403))
    raises = pytest.raises(UploadErrors, match="2 of 5 objects")
    with raises as caught, fs.transaction as found:
        for name in "0123":
            fs.pipe_file(f"{ROOT}/{name}", name.encode())
        write(fs, "large", bytes(5 * PART // 2))
    error = pickle.loads(pickle.dumps(caught.value))
    assert [one.path for one in error.receipts] == [f"{ROOT}/0", f"{ROOT}/1"]
    assert found.receipts == caught.value.receipts
    assert list(error.failures) == [f"{ROOT}/2"]
    assert error.discarded == [f"{ROOT}/3", f"{ROOT}/large"]
    assert owner.stored() == {"0": b"0", "1": b"1"}
    assert not owner.oss.uploads(ROOT)
    assert not fs.transaction.under_way


def test_one_object_that_fails_is_raised_as_itself(blind, owner):
    """If nothing was published, the error is the store's."""
    owner.oss.faults.add(Fault(action="PutObject", times=None, status=403))
    with pytest.raises(AccessDeniedError) as caught, blind.transaction:
        write(blind, "a")
    assert caught.value.path == f"{ROOT}/a"
    with pytest.raises(AccessDeniedError), blind.transaction:
        blind.pipe_file(f"{ROOT}/a", b"x")
    assert not owner.stored()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(action="PutObject", wrong_crc=True, times=None), "1 of 1 objects"),
        (
            Fault(action="PutObject", drop_reply=True, times=None),
            "0 of 1 objects of the transaction published, 1 unknown",
        ),
    ],
    ids=["stored", "unknown"],
)
def test_a_failure_that_is_stored_or_unknown_is_counted(only, owner, fault, said):
    """The note of the transaction agrees with the outcome of the error."""
    owner.oss.faults.add(fault)
    fs = only(retries=0)
    with pytest.raises(OSSPresignedError) as caught, fs.transaction:
        fs.pipe_file(f"{ROOT}/a", b"x")
    assert caught.value.__notes__[-1].startswith(said)
    assert owner.stored() == {"a": b"x"}


HELD = f"{ROOT}/d/a"


@pytest.mark.parametrize(
    ("verb", "arguments", "options"),
    [
        ("mv", [HELD, f"{ROOT}/b"], {}),
        ("mv", [[HELD], [f"{ROOT}/b"]], {}),
        ("mv", [f"{ROOT}/d/", f"{ROOT}/b/"], {"recursive": True}),
        ("mv_file", [HELD, f"{ROOT}/b"], {}),
        ("rm", [HELD], {}),
        ("rm", [f"{ROOT}/d/*"], {}),
        ("rm", [[f"{ROOT}/d"]], {"recursive": True}),
        ("rm_file", [f"/{HELD}"], {}),
    ],
)
def test_an_object_that_waits_for_the_end_cannot_be_moved(
    fs, owner, verb, arguments, options
):
    """Neither moved nor deleted: this would change the old object of that path."""
    fs.pipe_file(HELD, b"old")
    with fs.transaction:
        fs.pipe_file(HELD, b"new")
        with pytest.raises(ConfigurationError, match="cannot be moved or deleted"):
            getattr(fs, verb)(*arguments, **options)
        assert owner.stored() == {"d/a": b"old"}
        fs.rm_file(f"{ROOT}/d")  # another object
    assert owner.stored() == {"d/a": b"new"}


def test_what_is_refused_is_refused_at_once(blind, owner, tmp_path, monkeypatch):
    """Bad options and a changing source are errors of the call, not of the end."""
    source = tmp_path / "f"
    source.write_bytes(b"x")

    def changed(_):
        raise SourceChangedError("it changed", path=str(source))

    with blind.transaction:
        with pytest.raises(ConfigurationError, match="metdata"):
            blind.pipe_file(f"{ROOT}/a", b"x", metdata={})
        with monkeypatch.context() as patch:
            patch.setattr(body.FileBody, "blocks", changed)
            with pytest.raises(SourceChangedError):
                blind.put_file(source, f"{ROOT}/a")
        blind.put_file(source, f"{ROOT}/b")
    assert set(owner.stored()) == {"b"}


def test_a_part_that_fails_fails_the_call(parted, owner):
    """A large value whose part is refused is an error there, and leaves no part."""
    owner.oss.faults.add(Fault(action="UploadPart", times=None, status=403))
    with parted.transaction:
        with pytest.raises(AccessDeniedError):
            parted.pipe_file(f"{ROOT}/a", bytes(5 * PART // 2))
        assert not owner.oss.uploads(ROOT)
    assert not owner.stored()


def test_progress_ends_at_everything(parted, tmp_path):
    """Bytes count when they are written, not at the commit."""
    callbacks = []
    with parted.transaction:
        for size in (10, 5 * PART // 2):
            (tmp_path / "f").write_bytes(bytes(size))
            callbacks.append(Callback())
            parted.put_file(tmp_path / "f", f"{ROOT}/{size}", callback=callbacks[-1])
    assert all(one.size == one.value > 0 for one in callbacks)


def test_a_pipe_waits_as_well(blind, owner, tmp_path):
    """A source without a size is written like an open file."""
    os.mkfifo(tmp_path / "fifo")
    with blind.transaction:
        thread = threading.Thread(
            target=lambda: (tmp_path / "fifo").write_bytes(b"from a pipe")
        )
        thread.start()
        assert blind.put_file(tmp_path / "fifo", f"{ROOT}/fifo") is None
        thread.join()
        assert not owner.stored()
    assert owner.stored() == {"fifo": b"from a pipe"}


def test_many_small_objects_wait_on_disk(only, owner, monkeypatch):
    """Memory has a limit for all of them together; beyond it one file holds them."""
    holdings = []
    fs = only()

    def holding():
        holdings.append(HeldCopies(100))
        return holdings[-1]

    monkeypatch.setattr(deferred, "HeldCopies", holding)
    values = {f"{n:02}": bytes([n]) * (50 + n) for n in range(30)}
    with fs.transaction:
        for n, (key, data) in enumerate(values.items()):
            if n % 2:
                fs.pipe_file(f"{ROOT}/{key}", data)
            else:
                write(fs, key, data)
        held = holdings[-1]
        assert 0 < held.in_memory <= 100
    assert owner.stored() == values
    with pytest.raises(ValueError, match="closed file"):
        held.keep(MemoryBody(bytes(101)))


def test_a_map_of_single_puts_holds_what_is_large(owner):
    """If only one PUT is granted, the object waits on disk and is sent at the end."""
    fs = fsspec.filesystem(
        "osspresigned",
        url_map=owner.map_file("a", "b"),
        part_size="100KiB",
        multipart_threshold="100KiB",
    )
    data = os.urandom(3 * PART)
    with fs.transaction:
        fs.pipe_file(f"{ROOT}/a", data)
        write(fs, "b", data)
        assert not owner.actions()
    assert owner.stored() == {"a": data, "b": data}


def test_a_forked_child_has_no_part_in_it(fs, owner):
    """The child neither defers nor commits what its parent has begun."""

    def act():
        write(fs, "child")
        assert not fs.transaction.under_way

    with fs.transaction:
        write(fs, "parent")
        assert forked(act) == 0
        assert set(owner.stored()) == {"child"}
    assert set(owner.stored()) == {"child", "parent"}


def test_a_transaction_that_never_ends_is_told_at_exit(owner, oss, environment):
    """Nothing is published, no part remains, and standard error says so."""
    script = (
        "import fsspec\n"
        "fs = fsspec.filesystem('osspresigned', signer='keys', part_size='100KiB')\n"
        "fs.start_transaction()\n"
        f"fs.pipe_file('{ROOT}/small', b'x')\n"
        f"with fs.open('{ROOT}/large', 'wb') as file:\n"
        "    file.write(bytes(300_000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a transaction of 2 objects was never ended" in done.stderr
    assert f"{ROOT}/large was never committed and was not published" in done.stderr
    assert not owner.stored()
    assert not oss.uploads(ROOT)

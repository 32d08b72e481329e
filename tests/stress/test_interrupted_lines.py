"""An exception of a signal handler before each line of the engine, in the caller."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsspec_osspresigned.engine import engine
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.upload import transaction
from tests.interrupts import at_line, settle

BUCKET = "examplebucket"


def interrupt() -> None:
    """Do what Ctrl-C does; asyncio loses calls by any other exception."""
    raise KeyboardInterrupt


def plain(fs, key: str) -> None:
    """Store one object."""
    fs.pipe_file(f"{BUCKET}/{key}", key.encode())


def awaited(fs, key: str) -> None:
    """Store one object by a coroutine."""
    asyncio.run(fs._pipe_file(f"{BUCKET}/{key}", key.encode()))


@pytest.fixture
def apart():
    """Return a function that calls another one in a thread of its own.

    Some Pythons take an exception of a trace function for handled until its thread ends.
    """
    with ThreadPoolExecutor(1) as pool:
        yield lambda function, *args: pool.submit(function, *args).result()


@pytest.mark.parametrize("call", [plain, awaited])
def test_interrupt_at_each_line(oss, apart, call):
    """The call has ended when the exception arrives: nothing is stored later."""
    apart(at_each_line, oss, call)


def at_each_line(oss, call) -> None:
    """Interrupt *call* before each line of the engine."""
    fs = OSSPresignedFileSystem(signer="keys")
    plain(fs, "first")
    for number in itertools.count():
        stored = set(oss.objects(BUCKET))
        try:
            with at_line(engine.__file__, number, interrupt):
                call(fs, f"{number}")
        except KeyboardInterrupt:
            assert not engine.current().tasks
            settle(oss)
            assert set(oss.objects(BUCKET)) <= {*stored, f"{number}"}
        else:
            break
    assert number > 30
    plain(fs, "last")
    assert {"first", "last", f"{number}"} <= set(oss.objects(BUCKET))


@pytest.mark.filterwarnings(
    "ignore:.*was not published:fsspec_osspresigned.errors.DiscardWarning"
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupt_at_each_line_of_a_transaction(oss, apart):
    """The transaction has ended: what is written later is stored at once."""
    apart(at_each_line_of_a_transaction, oss)


def at_each_line_of_a_transaction(oss) -> None:
    """Interrupt a transaction before each of its lines."""
    fs = OSSPresignedFileSystem(signer="keys", part_size=MIN_PART)
    for number in itertools.count():
        is_cut = False
        try:
            with at_line(transaction.__file__, number, interrupt), fs.transaction:
                fs.pipe_file(f"{BUCKET}/small", b"x")
                with fs.transaction, fs.open(f"{BUCKET}/parts", "wb") as file:
                    file.write(bytes(3 * MIN_PART))
        except KeyboardInterrupt:
            is_cut = True
        if not is_cut:
            break
        plain(fs, f"{number}")
        assert f"{number}" in oss.objects(BUCKET)
        file = None
        gc.collect()  # what nothing refers to is given up in the background
        end = time.monotonic() + 20
        while oss.uploads(BUCKET) or engine.current().tasks:
            assert time.monotonic() < end
            time.sleep(0.001)
    assert number > 30
    assert {"small", "parts"} <= set(oss.objects(BUCKET))

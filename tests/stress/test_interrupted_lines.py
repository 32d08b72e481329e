"""An exception of a signal handler before each line of the engine, in the caller."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from fsspec_osspresigned.engine import engine
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
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


@pytest.mark.parametrize("call", [plain, awaited])
def test_interrupt_at_each_line(oss, call):
    """The call has ended when the exception arrives: nothing is stored later."""
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

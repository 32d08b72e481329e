"""Warnings point at the line of the program that called."""

from __future__ import annotations

import asyncio
import linecache
import threading
import warnings

import pytest

import fsspec_osspresigned
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    ExistenceNotVerifiedWarning,
)


@pytest.fixture
def only_writing(oss):
    """A filesystem whose HEAD requests the store refuses, after a moment."""
    for action in ("HeadObject", "GetObject", "ListObjectsV2"):
        denied = Fault(action=action, refuse="denied", delay=0.02, times=None)
        oss.faults.add(denied)
    return fsspec_osspresigned.OSSPresignedFileSystem(signer="keys")


def look(fs):
    """Look at an object without permission."""
    assert not fs.exists("examplebucket/y")  # here, in a function


async def looks(fs):
    """Do the same in a coroutine."""
    await asyncio.sleep(0)
    assert not await fs._exists("examplebucket/y")  # here, in a coroutine


def of_thread(fs):
    """Do the same in a thread."""
    thread = threading.Thread(target=look, args=(fs,))
    thread.start()
    thread.join()


def of_loop(fs):
    """Do the same in an event loop."""
    asyncio.run(looks(fs))


@pytest.mark.parametrize("call", [look, of_thread, of_loop])
def test_a_warning_names_the_line_that_called(only_writing, call):
    """Warnings point at the user's line, not at this package or fsspec."""
    with pytest.warns(ExistenceNotVerifiedWarning, match="not granted") as caught:
        call(only_writing)
    assert [one.filename for one in caught] == [__file__]
    assert "# here, " in linecache.getline(__file__, caught[0].lineno)


def test_a_warning_is_shown_by_the_thread_that_waits(only_writing):
    """What shows it may use the filesystem, which it could not in the engine's thread."""
    threads = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *_: threads.append(threading.get_ident())
        look(only_writing)
    assert threads == [threading.get_ident()]

"""One interrupt, or one cancellation, ends a call although the store says nothing."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import OutcomeUnknownError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.body import SMALL
from fsspec_osspresigned.model import MIN_PART, Reply, SignedRequest
from fsspec_osspresigned.objects import copy as copying
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.upload.journal import HeldJournal

# The simulation interrupts the same calls in virtual time.
pytestmark = pytest.mark.slow
BUCKET = "examplebucket"
LIMIT = 20.0  # seconds: the time limit of a request is a minute


@pytest.fixture
def silent(oss):
    """A store that reads all that it gets, and never answers."""
    oss.faults.add(Fault(stall_reply_after=0, times=None))
    return oss


def wait_until(is_reached: Callable[[], object]) -> None:
    """Wait until the store is where the test wants it."""
    end = time.monotonic() + 60
    while not is_reached():
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.1)  # the request is in the store; let its sender know, too


def interrupted(is_reached: Callable[[], object], call) -> BaseException:
    """Send SIGINT during *call*, once *is_reached*; return what it raises."""

    def interrupt() -> None:
        wait_until(is_reached)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        call()
    assert time.monotonic() - began < LIMIT
    return caught.value


@pytest.mark.parametrize("size", [100, 2 * SMALL], ids=["loop", "thread"])
def test_interrupt_of_one_object(silent, size):
    """The call ends, and says that the outcome of what was sent is unknown."""
    fs = OSSPresignedFileSystem(signer="keys")
    error = interrupted(
        lambda: silent.held, lambda: fs.pipe_file(f"{BUCKET}/k", bytes(size))
    )
    (note,) = error.__notes__
    assert note.startswith(f"whether the PUT of {BUCKET}/k took effect is unknown")


def test_interrupt_of_many_objects(silent):
    """The call ends; it names some of the objects, and the number of the others."""
    fs = OSSPresignedFileSystem(signer="keys")
    values = {f"{BUCKET}/{n}": b"x" for n in range(100)}
    error = interrupted(lambda: silent.held, lambda: fs.pipe(values))
    assert any("is unknown" in note for note in error.__notes__)
    assert len(error.__notes__) <= 4


@pytest.mark.parametrize("is_copy", [False, True])
def test_interrupt_of_an_upload_in_parts(oss, caplog, monkeypatch, is_copy):
    """The abort gets one try of some seconds; then the upload that is left is named."""
    monkeypatch.setattr(copying, "MAX_SINGLE_COPY", MIN_PART)
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=MIN_PART, multipart_threshold=1
    )
    fs.pipe_file(f"{BUCKET}/source", bytes(3 * MIN_PART))
    for action in ("UploadPart", "UploadPartCopy", "AbortMultipartUpload"):
        oss.faults.add(Fault(action=action, delay=60.0, times=None))
    begun = len(oss.requests)

    def call() -> None:
        if is_copy:
            fs.cp_file(f"{BUCKET}/source", f"{BUCKET}/k")
        else:
            fs.pipe_file(f"{BUCKET}/k", bytes(3 * MIN_PART))

    # parts of an upload that has begun
    interrupted(lambda: len(oss.requests) > begun and oss.under_way, call)
    assert "could not be aborted; its parts cost storage" in caplog.text
    assert oss.get(BUCKET, "k") is None


# -- a reply that comes within the seconds of grace -------------------------------------


def pipe(fs: OSSPresignedFileSystem) -> None:
    """Upload through one PUT."""
    fs.pipe_file(f"{BUCKET}/k", b"x")


def pipe_by_list(fs: OSSPresignedFileSystem) -> None:
    """Upload by the verb for many objects."""
    fs.pipe({f"{BUCKET}/k": b"x"})


def pipe_in_transaction(fs: OSSPresignedFileSystem) -> None:
    """Upload by a transaction, which publishes at its end."""
    with fs.transaction:
        fs.pipe_file(f"{BUCKET}/k", b"x")


def pipe_large(fs: OSSPresignedFileSystem) -> None:
    """Upload through one PUT, which a worker thread sends."""
    fs.pipe_file(f"{BUCKET}/k", bytes(2 * SMALL))


def pipe_in_parts(fs: OSSPresignedFileSystem) -> None:
    """Upload in parts."""
    fs.pipe_file(f"{BUCKET}/k", bytes(5 * SMALL))


def commit_value(fs: OSSPresignedFileSystem) -> None:
    """Publish a value at the end of a transaction."""
    with fs.transaction:
        pipe(fs)


def commit_file(fs: OSSPresignedFileSystem) -> None:
    """Publish a file at the end of a transaction."""
    with fs.transaction, fs.open(f"{BUCKET}/k", "wb") as file:
        file.write(b"x")


def copy(fs: OSSPresignedFileSystem) -> None:
    """Copy an object."""
    fs.cp_file(f"{BUCKET}/source", f"{BUCKET}/k")


CALLS = (pipe, pipe_large, pipe_in_parts, commit_value, commit_file, copy)


@pytest.mark.parametrize("call", CALLS)
def test_interrupt_of_a_call_that_publishes(oss, call):
    """The exception quotes the reply, and does not say that nothing was published."""
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=MIN_PART, multipart_threshold=4 * SMALL
    )
    fs.pipe_file(f"{BUCKET}/source", b"source")
    for action in ("PutObject", "CompleteMultipartUpload", "CopyObject"):
        oss.faults.add(Fault(action=action, delay=1.0, times=None))
    error = interrupted(lambda: oss.get(BUCKET, "k"), lambda: call(fs))
    assert error.__notes__[0].endswith(f" of {BUCKET}/k was answered with HTTP 200")
    if call in (commit_value, commit_file):
        assert error.__notes__[1].startswith("at least 0 of 1 objects")


def test_interrupt_of_a_file_that_is_published(oss):
    """The file does not claim later that it was not stored."""
    file = OSSPresignedFileSystem(signer="keys").open(f"{BUCKET}/k", "wb")
    file.write(b"x")
    oss.faults.add(Fault(action="PutObject", delay=1.0))
    interrupted(lambda: oss.get(BUCKET, "k"), file.close)
    with pytest.raises(OutcomeUnknownError) as caught:
        file.close()
    assert caught.value.__notes__ == [
        f"the PUT of {BUCKET}/k was answered with HTTP 200"
    ]


def test_interrupt_between_two_tries(oss, caplog):
    """The first try may have stored the object, although no request is in flight."""
    fs = OSSPresignedFileSystem(signer="keys")
    fs.client.policy = evolve(fs.client.policy, base=1e6, cap=50.0)
    oss.faults.add(Fault(action="PutObject", drop_reply=True))
    error = interrupted(lambda: "retrying in" in caplog.text, lambda: pipe(fs))
    (note,) = error.__notes__
    assert note.endswith("unknown: an earlier try was sent, and not answered")


# -- an interrupt after the reply --------------------------------------------------------


def test_interrupt_while_a_receipt_is_taken(oss):
    """The exception says that the object is stored."""
    taken, released = threading.Event(), threading.Event()

    def take(_: object) -> None:
        taken.set()
        released.wait(60)

    fs = OSSPresignedFileSystem(signer="keys", receipts=take)
    try:
        error = interrupted(taken.is_set, lambda: pipe(fs))
    finally:
        released.set()
    assert f"{BUCKET}/k is stored" in error.__notes__


@pytest.mark.parametrize("call", [pipe, pipe_by_list, pipe_in_transaction])
def test_interrupt_of_a_log_handler_after_the_reply(oss, caplog, call):
    """The exception says that the object is stored."""
    handling = threading.Event()

    def handle(record: logging.LogRecord) -> bool:
        if '"PUT' in record.getMessage():
            handling.set()
            time.sleep(60)  # SIGINT ends it
        return True

    fs = OSSPresignedFileSystem(signer="keys")
    caplog.set_level(logging.DEBUG)
    caplog.handler.addFilter(handle)
    try:
        error = interrupted(handling.is_set, lambda: call(fs))
    finally:
        caplog.handler.removeFilter(handle)
    assert f"{BUCKET}/k is stored" in error.__notes__


def test_interrupt_while_a_journal_is_removed(oss, tmp_path, monkeypatch):
    """The exception says that the object is stored."""
    removing, released = threading.Event(), threading.Event()

    def remove(_: HeldJournal) -> None:
        removing.set()
        released.wait(60)

    monkeypatch.setattr(HeldJournal, "remove", remove)
    local = tmp_path / "file"
    local.write_bytes(bytes(3 * MIN_PART))
    fs = OSSPresignedFileSystem(
        signer="keys",
        part_size=MIN_PART,
        multipart_threshold=1,
        resume_dir=str(tmp_path / "journals"),
    )
    try:
        error = interrupted(
            removing.is_set, lambda: fs.put_file(str(local), f"{BUCKET}/k")
        )
    finally:
        released.set()
    assert f"{BUCKET}/k is stored" in error.__notes__


def test_interrupt_of_a_call_at_an_upload_server(oss):
    """A server that has not answered may still act; the exception says so."""
    called, released = threading.Event(), threading.Event()

    def carry_out(_: object) -> Reply:
        called.set()
        released.wait(60)
        return Reply(status=200, headers={})

    class Server(Signer):
        """Signer whose requests are calls at a server with another protocol."""

        def sign(self, operations):
            return [
                SignedRequest(
                    method="PUT", url="https://example.com/", carry_out=carry_out
                )
                for _ in operations
            ]

    fs = OSSPresignedFileSystem(signer=Server())
    try:
        error = interrupted(called.is_set, lambda: pipe(fs))
    finally:
        released.set()
    assert f"whether {BUCKET}/k was uploaded is unknown" in error.__notes__


def test_interrupt_while_a_lost_reply_is_checked(oss):
    """The exception says that the object may be stored, although no PUT is in flight."""
    fs = OSSPresignedFileSystem(signer="keys", retries=0, overwrite=True)
    oss.faults.add(Fault(action="PutObject", drop_reply=True))
    oss.faults.add(Fault(action="HeadObject", stall_reply_after=0, times=None))
    error = interrupted(lambda: oss.held, lambda: pipe(fs))
    (note,) = error.__notes__
    assert note.startswith(f"whether {BUCKET}/k is stored is unknown")

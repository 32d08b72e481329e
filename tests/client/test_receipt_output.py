"""Receipts for others: one JSON line each, readable by their owner only."""

from __future__ import annotations

import json
import os
import pickle
import stat
from pathlib import Path

import pytest

from fsspec_osspresigned.errors import Outcome, ReceiptFailedError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.filesystem.receipts import ReceiptFile, receipt_writer
from fsspec_osspresigned.model import PartReceipt, Receipt


def receipt(path="b/k") -> Receipt:
    """Return a receipt with a part."""
    return Receipt(
        path=path, size=1, parts=(PartReceipt(part_number=1, size=1, etag="e"),)
    )


@pytest.mark.parametrize("as_text", [True, False])
def test_directory_is_made(tmp_path, as_text):
    """One private file per process, one line per object, in a private directory."""
    place = tmp_path / "deep" / "receipts"
    write = receipt_writer(str(place) if as_text else place)
    write(receipt("b/1"))
    write(receipt("b/ü"))
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    (file,) = place.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [line["path"] for line in lines] == ["b/1", "b/ü"]
    assert lines[0]["parts"][0]["part_number"] == 1


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links of POSIX")
def test_link_in_a_shared_directory_is_not_followed(tmp_path):
    """A symbolic link at the path of the receipt file is refused."""
    place, target = tmp_path / "receipts", tmp_path / "precious"
    target.write_text("old")
    write = receipt_writer(place)
    write.path.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        write(receipt())
    assert target.read_text() == "old"


FULL = "stored, but without a receipt: /dev/full: No space left on device"


def refuse(_):
    """Raise an exception, as a user's callable may."""
    raise RuntimeError("no, Signature=c2VjcmV0")


@pytest.mark.parametrize(
    ("taker", "message"),
    [
        (ReceiptFile(Path("/dev/full")), FULL),
        (refuse, "stored, but without a receipt: RuntimeError: no, Signature=<hidden>"),
    ],
)
def test_stored_object_without_a_receipt_is_stored(oss, tmp_path, taker, message):
    """The error says so, names the object and carries the receipt; no journal stays."""
    fs = OSSPresignedFileSystem(
        signer="keys",
        receipts=taker,
        resume_dir=str(tmp_path / "journals"),
        multipart_threshold=100 * 1024,
        part_size=100 * 1024,
    )
    (tmp_path / "f").write_bytes(bytes(250 * 1024))

    def write():
        with fs.open("examplebucket/stream", "wb") as file:
            file.write(b"x")

    calls = {
        "bytes": lambda: fs.pipe_file("examplebucket/bytes", b"x"),
        "file": lambda: fs.put_file(str(tmp_path / "f"), "examplebucket/file"),
        "stream": write,
    }
    for name, call in calls.items():
        with pytest.raises(ReceiptFailedError) as caught:
            call()
        error = pickle.loads(pickle.dumps(caught.value))
        assert (error.message, error.path) == (message, f"examplebucket/{name}")
        assert error.outcome is Outcome.STORED
        assert error.receipt.size == oss.get("examplebucket", name).size
    assert not os.listdir(tmp_path / "journals")
    assert not oss.uploads("examplebucket")


def test_torn_receipt_spoils_no_other(tmp_path, monkeypatch):
    """A line that a full disk has truncated does not damage the next one."""
    write = ReceiptFile(tmp_path / "r.jsonl")
    real = os.write

    def full(descriptor, data):
        real(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"r\.jsonl"):
        write(receipt("b/1"))
    monkeypatch.undo()
    write(receipt("b/2"))
    torn, whole = (tmp_path / "r.jsonl").read_text().splitlines()
    assert torn == '{"pat'
    assert json.loads(whole)["path"] == "b/2"


@pytest.mark.parametrize("is_read", [False, True])
def test_a_pipe_in_a_shared_directory_gets_no_receipt(tmp_path, is_read):
    """It is neither waited for nor written to."""
    write = receipt_writer(tmp_path)
    os.mkfifo(write.path)
    end = os.open(write.path, os.O_RDWR | os.O_NONBLOCK) if is_read else None
    with pytest.raises(OSError, match="not a regular file"):
        write(receipt())
    if end is not None:
        with pytest.raises(BlockingIOError):
            os.read(end, 1)
        os.close(end)


def test_a_hard_link_in_a_shared_directory_gets_no_receipt(tmp_path):
    """It may be another file of this user."""
    precious = tmp_path / "precious"
    precious.write_text("old")
    write = receipt_writer(tmp_path / "receipts")
    write.path.hardlink_to(precious)
    with pytest.raises(OSError, match="hard link"):
        write(receipt())
    assert precious.read_text() == "old"

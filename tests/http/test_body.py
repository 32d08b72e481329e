"""Request bodies: equal bytes at every pass, or an error."""

from __future__ import annotations

import os
from random import Random

import pytest

from fsspec_osspresigned.errors import ConfigurationError, SourceChangedError
from fsspec_osspresigned.http.body import (
    BLOCK,
    SLICE,
    FileBody,
    MemoryBody,
    PartBody,
    SpooledBody,
    bytes_in,
)


def read(body) -> bytes:
    """Return one pass over *body*."""
    return b"".join(bytes(block) for block in body.blocks())


@pytest.fixture
def file(tmp_path):
    """A file of two blocks and a bit."""
    path = tmp_path / "data"
    path.write_bytes(os.urandom(2 * BLOCK + 5))
    return path


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_memory(kind):
    """Any buffer is sent in blocks, again and again, without a copy."""
    data = os.urandom(SLICE + 3)
    body = MemoryBody(kind(data))
    assert body.size == SLICE + 3
    assert [block.nbytes for block in body.blocks()] == [SLICE, 3]
    assert read(body) == read(body) == data
    assert read(body.part(5, 7)) == data[5:12]
    body.check()


def test_file(file):
    """A file is read again at each pass, and each part from its offset."""
    data, body = file.read_bytes(), FileBody.of(str(file))
    assert body.size == len(data)
    assert read(body) == read(body) == data
    assert read(body.part(10, BLOCK + 1).part(5, 9)) == data[15:24]
    body.check()


def test_what_is_no_file(tmp_path):
    """Directories and missing files say so; a pipe is refused without waiting for it."""
    with pytest.raises(IsADirectoryError):
        FileBody.of(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        FileBody.of(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        FileBody.of(str(tmp_path / "pipe"))


def test_spool_keeps_what_was_appended_before_a_failure(tmp_path):
    """A piece that fails half-way leaves the body as it was."""

    class Half:
        size = 6

        def blocks(self):
            yield memoryview(b"abc")
            raise OSError(28, "No space left on device")

    spool = SpooledBody()
    spool.append(MemoryBody(b"first"))
    with pytest.raises(OSError, match="No space"):
        spool.append(Half())
    assert read(spool) == b"first"
    spool.close()


@pytest.mark.parametrize("seed", range(8))
def test_pieces_of_a_part_come_in_order_in_few_blocks(seed):
    """Small pieces are joined, large ones are sent as they are; each byte comes once."""
    random = Random(seed)  # noqa: S311 - sizes of a test
    sizes = [
        random.choice((0, 1, 5000, BLOCK - 1, BLOCK, SLICE + 3)) for _ in range(40)
    ]
    pieces = tuple(os.urandom(size) for size in sizes)
    body = PartBody(pieces, sum(sizes))
    blocks = [bytes(block) for block in body.blocks()]
    assert b"".join(blocks) == b"".join(pieces) == bytes_in(body)
    assert max(map(len, blocks)) <= 2 * SLICE
    assert len(blocks) < len(pieces) + sum(size > SLICE for size in sizes)


def test_replaced_by_a_pipe(file):
    """A pipe in place of the file counts as a change, and is not waited for."""
    body = FileBody.of(str(file))
    blocks = body.part(BLOCK, BLOCK).blocks()
    file.unlink()
    os.mkfifo(file)
    for reading in (body.blocks(), blocks):
        with pytest.raises(SourceChangedError):
            next(reading)
    with pytest.raises(SourceChangedError):
        body.check()


@pytest.mark.parametrize("size", [3, 2 * BLOCK])
def test_replaced_by_a_pipe_before_it_is_a_body(tmp_path, size):
    """A file that became a pipe is opened without waiting."""
    path = tmp_path / "data"
    path.write_bytes(bytes(size))
    status = path.stat()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises((ConfigurationError, SourceChangedError)):
        next(FileBody.of(str(path), status).blocks())

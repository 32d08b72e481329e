"""Bytes come out as they went in, in parts of exactly their size, and nothing is kept."""

from __future__ import annotations

import array
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.engine.limits import MemoryAccount, memory_budget
from fsspec_osspresigned.http.body import BLOCK, bytes_in
from fsspec_osspresigned.units import KIB, MIB
from fsspec_osspresigned.upload.writer import PresignedWriter

FOREVER = 1 << 60
LEAST = 100 * KIB  # bytes of the smallest part that OSS permits
opened = []  # files of the test


class Upload:
    """Takes the parts of a writer, and leaves them in flight."""

    def __init__(self, size_of, limit, early_size):
        self.plan = self
        self.size_of, self.early_size = size_of, early_size
        self.memory_limit = limit
        self.bodies = []

    async def add(self, body, *, more=False):
        self.bodies.append(body)

    async def wait_for_memory(self, may):
        """Wait for nothing: the parts are in flight until the test ends them."""

    async def finish(self):
        return None

    async def discard(self, error=None):
        pass

    def abandon(self):
        pass


class Parts:
    """A writer that collects its parts; no other file has any."""

    def __init__(self, size, limit=FOREVER, *, early=None):
        size_of = size if callable(size) else lambda _: size
        early_size = early if callable(early) else lambda _: early
        self.memory = memory_budget()
        assert self.memory.used == 0
        self.upload = Upload(size_of, limit, early_size)
        self.file = PresignedWriter(self.upload, path="b/k")
        opened.append(self.file)

    def write(self, *pieces):
        for piece in pieces:
            self.file.write(piece)

    def close(self):
        self.file.close()
        return [b"".join(map(bytes, body.blocks())) for body in self.upload.bodies]

    def send(self):
        """End the parts that are in flight, as the window does, and return their bytes."""
        sent, body = b"", None
        for body in self.upload.bodies:
            sent += bytes_in(body)
            body.release()
        del body
        self.upload.bodies.clear()
        return sent


def taken(budget, size):
    """Return the account of another file, which uses *size* bytes."""
    account = MemoryAccount(budget)
    account.add(int(size))
    return account


@pytest.fixture(autouse=True)
def end_files():
    """Leave no file to its finalizer."""
    yield
    while opened:
        opened.pop().discard()


# -- the bytes --------------------------------------------------------------------------


def numbers(data):
    """Return *data* as an array of numbers that is neither flat nor contiguous."""
    whole = np.frombuffer(data + bytes(-len(data) % 8), dtype="<u2")
    return whole.reshape(2, -1)[:, ::2]


KINDS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda data: memoryview(b"1" + data + b"2")[1:-1],
    "view of changing": lambda data: memoryview(bytearray(data)),
    "array": lambda data: array.array("B", data),
    "strided": numbers,
}
SIZES = st.one_of(
    st.integers(0, 300),
    st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 64 * KIB, 2 * BLOCK]),
    st.integers(0, 3 * BLOCK),
)
WRITES = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), SIZES), max_size=25)
NOISE = os.urandom(4 * BLOCK)


@given(
    writes=WRITES,
    size=st.sampled_from([100 * KIB, BLOCK, BLOCK + 7, MIB]),
    grows=st.booleans(),
    sent_after=st.integers(1, 4),
)
def test_any_writes(writes, size, grows, sent_after):
    """The parts hold exactly the written bytes, each with its size, for any writes."""

    def size_of(number):
        return size + (number // 2) * 1000 if grows else size

    parts, whole, got, sizes = Parts(size_of), b"", b"", []
    for number, (kind, length) in enumerate(writes):
        start = number * 7919 % BLOCK
        data = KINDS[kind](NOISE[start : start + length])
        whole += np.asarray(data).tobytes() if kind == "strided" else bytes(data)
        parts.write(data)
        if kind in ("bytearray", "array"):
            data[:] = data[:0]  # what is written is not the caller's any more
        elif kind == "view of changing":
            data[:] = bytes(len(data))
        assert parts.file.tell() == len(whole)
        if len(parts.upload.bodies) >= sent_after:
            sizes += [body.size for body in parts.upload.bodies]
            got += parts.send()
    last = parts.close()
    sizes += [len(part) for part in last]
    assert got + b"".join(last) == whole
    assert sum(sizes) == len(whole)
    assert sizes[:-1] == [size_of(number + 1) for number in range(len(sizes) - 1)]
    assert not sizes or 0 < sizes[-1] <= size_of(len(sizes))
    parts.upload.bodies.clear()
    assert parts.memory.used == 0


@given(
    writes=WRITES,
    busy=st.lists(st.booleans(), min_size=25, max_size=25),
    size=st.sampled_from([100 * KIB, 2 * MIB]),
)
def test_any_writes_while_memory_is_short(writes, busy, size):
    """If memory is short, parts are smaller, and the bytes are equal."""
    parts, whole = Parts(size, 1, early=LEAST), b""
    for (kind, length), short in zip(writes, busy, strict=False):
        data = KINDS[kind](NOISE[:length])
        whole += np.asarray(data).tobytes() if kind == "strided" else bytes(data)
        others = taken(parts.memory, short)
        parts.write(data)
        del others
    found = parts.close()
    assert b"".join(found) == whole
    assert all(LEAST <= len(part) <= size for part in found[:-1])


# -- what is kept, and what is copied ---------------------------------------------------


def test_large_bytes_are_not_copied():
    """Immutable bytes are sent without a copy."""
    data = NOISE[:BLOCK] * 4
    parts = Parts(MIB)
    parts.write(data, data)
    parts.close()
    pieces = [piece for body in parts.upload.bodies for piece in body.pieces]
    assert [piece.nbytes for piece in pieces] == [MIB, MIB]
    assert all(piece.obj is data for piece in pieces)


def test_subclass_of_bytes_is_copied():
    """A subclass of bytes may return other data, so it is copied."""

    class Odd(bytes):
        pass

    data = Odd(NOISE[:BLOCK])
    parts = Parts(MIB)
    parts.write(data)
    parts.close()
    assert parts.upload.bodies[0].pieces[0].obj is not data


# -- buffers ----------------------------------------------------------------------------


def test_closed_file_holds_nothing():
    """A closed file keeps no buffer."""
    parts = Parts(MIB)
    parts.write(bytearray(MIB), bytearray(MIB), b"abc")
    parts.close()
    parts.send()
    assert parts.file.closed
    assert parts.memory.used == 0


# -- short of memory --------------------------------------------------------------------


@pytest.mark.parametrize("size", [99, 999, 4 * KIB, 99 * KIB])
def test_what_is_held_where_memory_is_short(size):
    """A file never holds more than the smallest part."""
    parts = Parts(8 * MIB, 0, early=LEAST)
    for _ in range(300 * KIB // size + 1):
        parts.write(bytes(size))
        parts.send()
        assert parts.memory.used <= LEAST


def test_small_parts_are_not_all():
    """There are 10,000 parts at most, so only the first ones may be small."""
    parts = Parts(2 * MIB, 0, early=lambda number: LEAST if number < 3 else None)
    parts.write(*[bytearray(128 * KIB)] * 64)
    sizes = [len(part) for part in parts.close()]
    assert sizes == [128 * KIB, 128 * KIB, *[2 * MIB] * 3, 1792 * KIB]


def test_memory_is_given_back_once():
    """A part that is released twice frees its bytes once."""
    parts = Parts(MIB)
    parts.write(*[bytearray(MIB)] * 3, b"x")
    bodies = [*parts.upload.bodies]
    for body in bodies * 2:
        body.release()
    assert parts.memory.used == MIB  # of the part that is filled
    parts.file.discard()
    assert parts.memory.used == 0

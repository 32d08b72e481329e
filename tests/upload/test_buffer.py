"""Bytes come out as they went in, in parts of exactly their size, and nothing is kept."""

from __future__ import annotations

import array
import gc
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.engine.limits import MemoryAccount, MemoryBudget
from fsspec_osspresigned.http.body import BLOCK, bytes_in
from fsspec_osspresigned.units import KIB, MIB
from fsspec_osspresigned.upload.buffer import PartBuffer
from fsspec_osspresigned.upload.writer import PresignedWriter

FOREVER = 1 << 60
LEAST = 100 * KIB  # bytes of the smallest part that OSS permits
opened = []  # files of the test


class Upload:
    """Takes the parts of a writer, and leaves them in flight."""

    def __init__(self, size_of, limit=FOREVER):
        self.plan = self
        self.size_of = size_of
        self.memory_limit = limit
        self.bodies = []

    def early_size(self, number):
        raise NotImplementedError

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
    """A writer that collects its parts, over a budget of its own."""

    def __init__(self, size, limit=FOREVER, *, early=None):
        size_of = size if callable(size) else lambda _: size
        self.memory = MemoryBudget()
        self.upload = Upload(size_of, limit)
        self.buffer = PartBuffer(
            size_of,
            self.memory,
            limit=limit,
            early=early if callable(early) else lambda _: early,
            wait=lambda may: run(self.upload.wait_for_memory, may),
        )
        self.file = PresignedWriter(self.upload, path="b/k", buffer=self.buffer)
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
    account.filling = int(size)
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
    """Whatever is written in whatever pieces is what the parts hold, each of its size."""

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
    """Where memory is short parts are smaller, and the bytes are the same."""
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
    """Bytes that nobody can change are sent from where they are."""
    data = NOISE[:BLOCK] * 4
    parts = Parts(MIB)
    parts.write(data, data)
    parts.close()
    pieces = [piece for body in parts.upload.bodies for piece in body.pieces]
    assert [piece.nbytes for piece in pieces] == [MIB, MIB]
    assert all(piece.obj is data for piece in pieces)


def test_large_bytes_between_small_ones():
    """Small pieces around a large one are copied, and stay in order."""
    data = NOISE[:BLOCK]
    parts = Parts(MIB)
    parts.write(b"head", data, b"middle", data, b"tail")
    parts.close()
    (body,) = parts.upload.bodies
    kept = [piece.obj is data for piece in body.pieces]
    assert kept == [False, True, False, True, False]
    assert [bytes(piece) for piece in body.pieces[::2]] == [b"head", b"middle", b"tail"]
    assert body.pieces[0].obj is body.pieces[4].obj


def test_part_made_of_kept_bytes_has_no_buffer():
    """Nothing stays of a part that was never copied."""
    parts = Parts(BLOCK)
    parts.write(NOISE[:BLOCK], b"x")
    parts.send()
    gc.collect()
    assert parts.memory.used == BLOCK  # of the part that is written


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_what_can_change_is_copied(kind):
    """A change after the write changes nothing, however large the source is."""
    data = kind(NOISE[:MIB])
    parts = Parts(MIB)
    parts.write(data)
    data[:] = bytes(len(data))
    assert parts.close() == [NOISE[:MIB]]


@pytest.mark.parametrize("view", [memoryview, lambda data: data])
def test_slice_of_something_huge(view):
    """A piece of a larger object is copied, so that the rest of it can go."""
    huge = NOISE * 2
    parts = Parts(len(huge) - 5)
    parts.write(view(huge)[: 2 * BLOCK] if view is memoryview else huge)
    parts.close()
    last = parts.upload.bodies[-1]
    assert all(piece.obj is not huge for piece in last.pieces)


def test_subclass_of_bytes_is_copied():
    """What only looks like bytes may hand out something else."""

    class Odd(bytes):
        pass

    data = Odd(NOISE[:BLOCK])
    parts = Parts(MIB)
    parts.write(data)
    parts.close()
    assert parts.upload.bodies[0].pieces[0].obj is not data


# -- buffers ----------------------------------------------------------------------------


def test_buffers_are_used_again():
    """A buffer whose part is sent takes another part, and not before."""
    parts = Parts(MIB)
    parts.write(*[bytearray(MIB)] * 3, b"x")
    buffers = [body.pieces[0].obj for body in parts.upload.bodies[1:]]
    assert buffers[0] is not buffers[1]
    parts.send()
    used = parts.memory.used
    parts.write(bytearray(MIB), bytearray(MIB))
    assert parts.memory.used == used
    found = parts.close()
    again = [body.pieces[0].obj for body in parts.upload.bodies[1:]]
    assert all(any(one is buffer for buffer in buffers) for one in again)
    assert again[0] is not again[1]
    assert b"".join(found) == b"x" + bytes(2 * MIB)


def test_few_buffers_wait():
    """After a burst of parts, all but a few of their buffers are gone, and count no more."""
    parts = Parts(MIB)
    for _ in range(12):
        parts.write(bytearray(MIB))
    assert parts.memory.used == 12 * MIB
    parts.send()
    gc.collect()
    assert parts.memory.used == 9 * MIB  # and the part that is full, and waits
    parts.close()
    parts.send()
    assert parts.memory.used == 0


def test_no_buffer_waits_where_memory_is_short():
    """Over the limit a buffer that is given back is dropped."""
    parts = Parts(MIB, 3 * MIB)
    parts.write(bytearray(MIB), bytearray(MIB), bytearray(MIB), b"x")
    others = taken(parts.memory, 3 * MIB)
    parts.send()
    del others
    assert parts.memory.used == 64 * KIB  # of the part that is written


def test_idle_buffer_is_used_where_memory_is_short():
    """A buffer that waits is used before a new one is made, and not counted twice."""
    parts = Parts(MIB, 10 * MIB, early=LEAST)
    parts.write(bytearray(MIB), bytearray(MIB), bytearray(MIB))
    parts.send()
    before = parts.memory.used
    others = taken(parts.memory, 10 * MIB)
    parts.write(b"x")  # the full part goes, and the next one begins
    assert parts.memory.used == before + 10 * MIB
    del others


def test_buffer_that_is_too_small_now():
    """Where parts grow, the buffer of a smaller one is the beginning of a larger one."""
    parts = Parts(lambda number: MIB * number)
    parts.write(bytearray(MIB), bytearray(b"a" * 2 * MIB))
    parts.write(b"b")
    parts.send()
    parts.write(bytearray(b"c" * (3 * MIB)))
    (body,) = parts.upload.bodies
    assert body.size == 3 * MIB
    assert bytes_in(body) == b"b" + b"c" * (3 * MIB - 1)
    assert parts.close()[-1] == b"c"


def test_first_buffers_are_small():
    """A small file holds little, and a first part grows by doubling."""
    parts = Parts(8 * MIB)
    parts.write(b"x")
    assert parts.memory.used == 64 * KIB
    parts.write(*[bytearray(64 * KIB)] * 8)
    assert parts.memory.used == MIB
    parts.write(bytearray(8 * MIB))
    assert parts.memory.used == 16 * MIB  # the second part has its whole buffer


def test_closed_buffer():
    """A closed buffer holds nothing, neither now nor when its parts are sent."""
    parts = Parts(MIB)
    parts.write(bytearray(MIB), bytearray(MIB), bytearray(MIB), b"abc")
    buffer = parts.buffer
    buffer.close()
    assert buffer.held == 0
    assert not buffer.copy(b"x", 1)
    assert not buffer.free
    parts.send()
    gc.collect()
    assert parts.memory.used == 0


def test_closed_file_holds_nothing():
    """A file that is closed keeps no buffer, though somebody keeps the file."""
    parts = Parts(MIB)
    parts.write(bytearray(MIB), bytearray(MIB), b"abc")
    parts.close()
    parts.send()
    assert parts.file.closed
    assert parts.memory.used == 0


# -- short of memory --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_small_parts(kind):
    """Where memory is short a part goes when it may, with what is written just then."""
    parts = Parts(8 * MIB, 0, early=LEAST)
    parts.write(*[kind(64 * KIB)] * 50)
    assert parts.memory.used <= 25 * (64 * KIB)  # the rest is the caller's
    sizes = [len(part) for part in parts.close()]
    assert sizes == [128 * KIB] * 25


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_writes_are_not_copied_where_memory_is_short(kind):
    """They are parts as they are: no memory is needed, and there are few of them."""
    parts = Parts(8 * MIB, 0, early=LEAST)
    data = kind(3 * MIB)
    parts.write(b"head", data)
    (body,) = parts.upload.bodies
    assert body.size == 3 * MIB + 4
    assert body.pieces[-1].obj is data
    parts.write(*[data] * 3)
    assert [len(part) for part in parts.close()] == [3 * MIB + 4, *[3 * MIB] * 3]


@pytest.mark.parametrize("size", [99, 999, 4 * KIB, 99 * KIB])
def test_what_is_held_where_memory_is_short(size):
    """A file never holds more than the smallest part."""
    parts = Parts(8 * MIB, 0, early=LEAST)
    for _ in range(300 * KIB // size + 1):
        parts.write(bytes(size))
        parts.send()
        assert parts.memory.used <= LEAST


def test_parts_are_not_small_against_the_rules():
    """Parts whose size is fixed keep it, whatever memory there is."""
    parts = Parts(3 * MIB, 0)
    parts.write(*[bytearray(64 * KIB)] * 100)
    assert [len(part) for part in parts.close()] == [3 * MIB, 3 * MIB, 256 * KIB]


def test_small_parts_are_not_all():
    """There are 10,000 parts at most, so only the first ones may be small."""
    parts = Parts(2 * MIB, 0, early=lambda number: LEAST if number < 3 else None)
    parts.write(*[bytearray(128 * KIB)] * 64)
    sizes = [len(part) for part in parts.close()]
    assert sizes == [128 * KIB, 128 * KIB, *[2 * MIB] * 3, 1792 * KIB]


def test_memory_is_given_back_once():
    """A part that is released twice frees its bytes, and its buffer, once."""
    parts = Parts(MIB)
    parts.write(*[bytearray(MIB)] * 3, b"x")
    bodies = [*parts.upload.bodies]
    for body in bodies * 2:
        body.release()
    assert (
        parts.memory.used == 2 * MIB + MIB
    )  # two that wait, and the one that is filled
    parts.write(*[bytearray(MIB)] * 3)
    again = [body.pieces[0].obj for body in parts.upload.bodies[3:]]
    assert len({id(buffer) for buffer in again}) == 3
    parts.file.discard()
    assert parts.memory.used == 0


def test_memory_of_parts_that_were_lost():
    """What an upload took and never released counts no more when the file has ended."""
    parts = Parts(MIB)
    parts.write(*[bytearray(MIB)] * 3, b"x")
    assert parts.memory.used > 3 * MIB
    parts.file.discard()
    assert parts.memory.used == 0

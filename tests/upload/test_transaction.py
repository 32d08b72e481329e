"""Copies of small objects, which wait for the end of their transaction."""

from __future__ import annotations

import os

import pytest

from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.upload.transaction import HeldCopies


def test_a_large_body_is_read_back_in_blocks():
    """What waits on disk comes back as it was, in blocks, as often as it is asked."""
    data = os.urandom(600_000)
    copies = HeldCopies(10)
    bodies = [copies.keep(MemoryBody.of(one)) for one in (data, b"", data[::-1])]
    for _ in range(2):
        assert b"".join(bodies[0].blocks()) == data
        assert b"".join(bodies[1].blocks()) == b""
        assert b"".join(bodies[2].blocks()) == data[::-1]
    copies.close()


@pytest.mark.parametrize(
    ("sizes", "in_memory"),
    [([], 0), ([10], 10), ([4, 6], 10), ([4, 7, 6], 10), ([11], 0), ([11, 1], 1)],
)
def test_memory_has_a_limit_for_all_of_them(sizes, in_memory):
    """A copy that does not fit waits on disk, and a smaller one after it may fit."""
    copies = HeldCopies(10)
    bodies = [copies.keep(MemoryBody.of(bytes([n]) * n)) for n in sizes]
    assert copies.in_memory == in_memory
    assert [b"".join(one.blocks()) for one in bodies] == [bytes([n]) * n for n in sizes]
    copies.close()

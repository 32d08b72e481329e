"""The list of receipts that ``put`` and ``pipe`` return."""

from __future__ import annotations

import pickle

import pytest
from attrs import evolve

from fsspec_osspresigned.filesystem.receipts import ReceiptList
from fsspec_osspresigned.model import Receipt

ORDINARY = Receipt(path="examplebucket/d/ü.bin", size=2**40, crc64=2**64 - 1)


def test_it_reads_like_a_list():
    """Index, slice, length, comparison, text and pickle are those of a list."""
    odd, error = evolve(ORDINARY, crc64=None), OSError("e")
    whole = [ORDINARY, odd, error]
    found = ReceiptList(iter(whole))
    assert found == whole
    assert found == ReceiptList(whole)
    assert found != whole[:2]
    assert found != tuple(whole)
    assert found[0] == ORDINARY
    assert found[-1] is error
    assert found[:2] == whole[:2]
    assert list(found) == whole
    assert repr(found) == repr(whole)
    assert len(found) == 3
    assert pickle.loads(pickle.dumps(found[:2])) == whole[:2]
    with pytest.raises(TypeError):
        found[0] = ORDINARY
    assert ReceiptList([]) == []
    with pytest.raises(TypeError):
        hash(found)

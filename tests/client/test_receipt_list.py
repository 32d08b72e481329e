"""Receipts of very many objects, packed and as they were."""

from __future__ import annotations

import pickle

import pytest
from attrs import evolve

from fsspec_osspresigned.client import receipts as receipt_list
from fsspec_osspresigned.client.receipts import ReceiptList, packed, unpacked
from fsspec_osspresigned.model import PartReceipt, Receipt

ORDINARY = Receipt(
    path="examplebucket/d/ü.bin",
    size=2**40,
    etag="5B3C1A2E053D763E1B002CC607C5A0FE",
    crc64=2**64 - 1,
    verified="crc64",
    request_id="5C06A3B67B8B5A3DA422299D",
    retries=2,
    resigns=1,
    seconds=0.1,
    stored_at=1.7e9,
    content_type="text/x-test",
)

ODD = {
    "status": "pending",
    "path": "examplebucket/a\0b",
    "etag": "\ud800",
    "crc64": None,
    "verified": "by hand",
    "version_id": "v",
    "request_id": "",
    "upload_id": "u",
    "parts": (PartReceipt(part_number=1, size=1, etag="e", crc64=1),),
    "retries": 256,
    "size": -1,
}


@pytest.mark.parametrize("verified", ["none", "crc64", "md5"])
@pytest.mark.parametrize("content_type", [None, "text/plain", "text/x-test"])
@pytest.mark.parametrize("request_id", [None, "5C06A3B67B8B5A3DA422299D", "é/+="])
def test_an_ordinary_receipt_takes_few_bytes(verified, content_type, request_id):
    """One PutObject is packed, whoever stored it, and comes back as it was."""
    receipt = evolve(
        ORDINARY, verified=verified, content_type=content_type, request_id=request_id
    )
    found = packed(receipt)
    assert isinstance(found, bytes)
    assert len(found) < 120
    assert unpacked(found) == receipt


@pytest.mark.parametrize("name", ODD)
def test_any_other_stays_as_it_is(name):
    """Nothing is lost for the sake of memory."""
    receipt = evolve(ORDINARY, **{name: ODD[name]})
    assert packed(receipt) is receipt


@pytest.mark.parametrize("etag", ["", "5b3c1a2e053d763e1b002cc607c5a0fe", "0f-1"])
def test_any_etag_is_ordinary(etag):
    """Other stores have other ones, and nothing says what an ETag is."""
    receipt = evolve(ORDINARY, etag=etag)
    assert isinstance(packed(receipt), bytes)
    assert unpacked(packed(receipt)) == receipt


def test_too_many_types_are_not_packed(monkeypatch):
    """A type that has no number stays a text."""
    monkeypatch.setattr(receipt_list, "_types", [None, *map(str, range(255))])
    assert packed(ORDINARY) is ORDINARY


def test_it_reads_like_a_list():
    """Index, slice, length, comparison, text and pickle are those of a list."""
    odd, error = evolve(ORDINARY, crc64=None), OSError("e")
    whole = [ORDINARY, odd, error]
    found = ReceiptList([packed(ORDINARY), packed(odd), error])
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
    assert ReceiptList([]) == []
    with pytest.raises(TypeError):
        hash(found)

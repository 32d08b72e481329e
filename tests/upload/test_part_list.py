"""Part numbers, stored parts, and the receipt that they add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.model import PartReceipt, Reply
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.upload.modes import PartList


def part(number: int, data: bytes, *, with_crc=True) -> PartReceipt:
    """Return the receipt of a part."""
    crc = crc64(data) if with_crc else None
    return PartReceipt(
        part_number=number, size=len(data), etag=f'"E{number}"', crc64=crc
    )


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8), st.randoms())
def test_parts_sums_up(pieces, random):
    """In whatever order parts are stored, they add up to the object."""
    listed = PartList(Target(path="b/k"))
    parts = [part(listed.next_number(), piece) for piece in pieces]
    mixed = parts[:]
    random.shuffle(mixed)
    for one in mixed:
        listed.add_part(one, "crc64", None)
    assert listed.parts == tuple(parts)
    assert listed.crc64() == crc64(b"".join(pieces))


def test_parts_without_crc():
    """One part without a CRC leaves the whole without one."""
    listed = PartList(Target(path="b/k"))
    listed.add_part(part(listed.next_number(), b"a"), "crc64", None)
    listed.add_part(part(listed.next_number(), b"b", with_crc=False), "crc64", None)
    assert listed.crc64() is None


def test_last_word_counts():
    """A part that was stored twice is listed once, as it is now."""
    listed = PartList(Target(path="b/k"))
    listed.next_number()
    listed.add_part(part(1, b"old"), "crc64", None)
    listed.add_part(part(1, b"newer"), "crc64", None)
    assert [part.size for part in listed.parts] == [5]


def test_missing_part_is_never_published():
    """A part that was given out but not stored stops everything."""
    listed = PartList(Target(path="b/k"))
    listed.next_number()
    with pytest.raises(AssertionError, match="refusing to complete"):
        assert listed.parts


@pytest.mark.parametrize(
    ("stored", "numbers"),
    [((), ""), ((3,), "3"), ((1, 2, 3), "1-3"), ((5, 1, 2, 4, 8), "1-2, 4-5, 8")],
)
def test_stored_numbers_for_people(stored, numbers):
    """Runs of part numbers are written as one."""
    listed = PartList(Target(path="b/k"))
    for number in stored:
        listed.add_part(
            PartReceipt(part_number=number, size=5, etag="e", crc64=None), "crc64", None
        )
    assert listed.stored_numbers == numbers


def test_retries_add_up():
    """Those of all parts and of the last step; a part of another process has none."""
    listed = PartList(Target(path="b/k"))
    for reply in (Reply(status=200, retries=2), None):
        listed.add_part(part(listed.next_number(), b"a"), "crc64", reply)
    last = Reply(status=203, retries=1, resigns=1)
    receipt = listed.receipt(last, 2, None, upload_id="U")
    assert (receipt.retries, receipt.resigns) == (3, 1)
    assert (receipt.status, receipt.upload_id) == ("callback_failed", "U")
    assert listed.receipt(None, 2, None).status == "pending"

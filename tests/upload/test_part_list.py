"""Part numbers, stored parts, and the receipt that they add up to."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.model import PartReceipt
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.upload.modes import PartList


def part(number: int, data: bytes, *, with_crc=True) -> PartReceipt:
    """Return the receipt of a part."""
    crc = crc64(data) if with_crc else None
    return PartReceipt(
        part_number=number, size=len(data), etag=f'"E{number}"', crc64=crc
    )


def test_parts_without_crc():
    """One part without a CRC leaves the whole without one."""
    listed = PartList(Target(path="b/k"))
    listed.add_part(part(listed.next_number(), b"a"), "crc64", None)
    listed.add_part(part(listed.next_number(), b"b", with_crc=False), "crc64", None)
    assert listed.crc64() is None


def test_missing_part_is_never_published():
    """A part that was given out but not stored stops everything."""
    listed = PartList(Target(path="b/k"))
    listed.next_number()
    with pytest.raises(AssertionError, match="refusing to complete"):
        assert listed.parts

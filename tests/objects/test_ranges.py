"""Requests for ranges, and the checks of their replies."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.errors import (
    NetworkError,
    StoreError,
)
from fsspec_osspresigned.objects.ranges import (
    MemorySink,
    Range,
)

PATH = "examplebucket/a"


@pytest.mark.parametrize(
    ("start", "stop", "told"),
    [
        (0, 5, ""),
        (0, 5, "bytes 0-4/*"),
        (0, 5, "bytes 1-4/9"),
        (0, 5, "bytes 0-5/9"),
        (0, 5, "bytes 0-3/9"),
        (0, None, "bytes 0-7/9"),
        (-4, None, "bytes 5-7/9"),
        (-4, None, "bytes 4-8/9"),
        (2, None, "bytes 2-1/9"),
        (2, None, "bytes 2-9/9"),
    ],
)
def test_another_range_than_asked_for_is_refused(start, stop, told):
    """A reply with another range, or with fewer bytes, is refused."""
    piece = Range(PATH, start, stop, MemorySink())
    with pytest.raises(StoreError, match="not the requested range"):
        piece.head(206, {"content-range": told})


def test_a_fitting_range_is_taken():
    """The reply states size and version of the whole object."""
    sink = MemorySink()
    piece = Range(PATH, -4, None, sink)
    piece.head(206, {"content-range": "bytes 5-8/9", "etag": '"E"'})
    assert (piece.total, piece.etag, piece.partial) == (9, '"E"', True)
    piece.begin()
    piece.write(b"12")
    with pytest.raises(NetworkError, match="2 bytes came, 4 were announced"):
        piece.check()
    piece.begin()
    piece.write(b"1234")
    piece.check()
    assert sink.bytes() == b"1234"

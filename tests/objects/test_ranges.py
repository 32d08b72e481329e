"""Requests for ranges, and the checks of their replies."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.errors import (
    NetworkError,
    SourceChangedError,
    StoreError,
)
from fsspec_osspresigned.objects.ranges import (
    MemorySink,
    Range,
    Version,
    WholeError,
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
    with pytest.raises(StoreError, match="not the range"):
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


def test_a_whole_object_is_not_taken_for_a_range():
    """The head shows a wrong size; a reply without a size is read to its end."""
    piece = Range(PATH, 5, 9, MemorySink())
    with pytest.raises(WholeError):
        piece.head(200, {"content-length": "7", "etag": '"E"'})
    assert (piece.total, piece.etag) == (7, '"E"')
    piece.head(200, {})
    assert piece.total is None
    piece.check()
    whole = Range(PATH, 0, 9, MemorySink(), takes_whole=True)
    whole.head(200, {"content-length": "7"})
    assert whole.total == 7


def test_another_version_is_refused_by_its_head():
    """A gateway that drops If-Match is found out by the ETag of the reply."""
    piece = Range(PATH, 0, 5, MemorySink(), version=Version('"E"'))
    with pytest.raises(SourceChangedError, match="was replaced"):
        piece.head(206, {"content-range": "bytes 0-4/9", "etag": '"F"'})
    piece.head(206, {"content-range": "bytes 0-4/9"})

"""What a range asks for, and what its reply must prove."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import (
    NetworkError,
    ReplyError,
    SourceChangedError,
)
from fsspec_osspresigned.objects.ranges import (
    MemorySink,
    Range,
    Version,
    WholeError,
    merged,
)

PATH = "examplebucket/a"
DATA = bytes(range(256)) * 4


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.integers(0, 1100),
            st.none() | st.integers(0, 1100),
        ),
        max_size=12,
    ),
    st.integers(0, 50),
    st.integers(1, 400),
)
def test_merged_ranges_hold_every_piece(asked, gap, most):
    """However pieces lie, each gets exactly its bytes, and no read is too long."""
    jobs = merged(*zip(*asked, strict=True), gap, most) if asked else []
    found = {}
    for job in jobs:
        found.update(job.cut(DATA[job.start : job.stop]))
    expected = {
        index: DATA[start:stop]
        for index, (_, start, stop) in enumerate(asked)
        if stop is None or stop > start
    }
    assert found == expected
    for job in jobs:
        if job.stop is not None:
            longest = max(piece.stop - piece.start for piece in job.pieces)
            assert job.stop - job.start <= max(most, longest)


def test_close_ranges_become_one_and_far_ones_do_not():
    """The gap decides, and the most that is read at once."""
    asked = (["a", "a", "b"], [0, 15, 0], [10, 20, 5])
    assert [(m.path, m.start, m.stop) for m in merged(*asked, 5, 100)] == [
        ("a", 0, 20),
        ("b", 0, 5),
    ]
    assert len(merged(*asked, 4, 100)) == 3
    assert len(merged(*asked, 5, 19)) == 3
    assert merged([], [], [], 5, 100) == []
    open_ended = (["a"] * 3, [0, 5, 9], [10, None, 11])
    assert [(m.start, m.stop) for m in merged(*open_ended, 0, 100)] == [(0, None)]


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
    """Bytes from another place, or fewer, would be taken for those that are wanted."""
    piece = Range(PATH, start, stop, MemorySink())
    with pytest.raises(ReplyError, match="not the range"):
        piece.head(206, {"content-range": told})


def test_a_fitting_range_is_taken():
    """The reply tells size and version of the whole object."""
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
    """Its head is enough to know better; what does not tell its size is read."""
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

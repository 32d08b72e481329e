"""Into which parts an object is cut, and what the stored parts add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.model import MAX_PART, MAX_PARTS, MAX_SINGLE_PUT, MIN_PART
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.base import Grant, MultipartGrant
from fsspec_osspresigned.units import GIB, KIB, MIB
from fsspec_osspresigned.upload.plan import UploadPlan, plan_for

BOTH = Grant()
SINGLE = Grant(multipart=None)


def owners(count: int, part_size: int | None = None, *, single=False, **more) -> Grant:
    """Return the grant of an upload that its owner initiated."""
    parts = MultipartGrant(upload_id="U", part_size=part_size, max_parts=count, **more)
    return Grant(single=single, multipart=parts)


def plan(grant: Grant, size: int | None, **more) -> UploadPlan:
    """Plan with the default options."""
    facts = {"part_size": 8 * MIB, "multipart_threshold": 16 * MIB, **more}
    return plan_for(grant, Options(**facts), size, path="b/k")


@pytest.mark.parametrize(
    ("grant", "size", "multipart", "part_size"),
    [
        (BOTH, 0, False, None),
        (BOTH, 16 * MIB, False, None),
        (BOTH, 16 * MIB + 1, True, 8 * MIB),
        (BOTH, 100 * GIB, True, 11 * MIB),
        (SINGLE, MAX_SINGLE_PUT, False, None),
        (Grant(single=False), 5, True, 8 * MIB),
        (owners(4), 4 * MIB, True, MIB),
        (owners(4), 4 * MIB + 1, True, MIB + 1),
        (owners(4), 1, True, MIN_PART),
        (owners(4, 200 * KIB), 800 * KIB, True, 200 * KIB),
        (owners(1, 10), 10, True, 10),
        (owners(2, MIB, single=True), 20 * MIB, False, None),
    ],
)
def test_plan(grant, size, multipart, part_size):
    """One PUT as long as it can, else parts as the grant demands or allows."""
    found = plan(grant, size)
    assert found.multipart == multipart
    assert part_size is None or found.part_size == part_size
    assert not found.spools


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        (8 * MIB, None),
        (8 * MIB + 1, MIB),
        (16 * MIB, MIB),
        (16 * MIB + 1, 2 * MIB),
        (240 * MIB, 15 * MIB),
        (240 * MIB + 1, 16 * MIB),
        (10_000 * 16 * MIB, 16 * MIB),
        (10_000 * 16 * MIB + 1, 17 * MIB),
        (10_000 * 41 * MIB, 41 * MIB),
    ],
)
def test_default_rule(size, part_size):
    """The size of an object alone says how it is cut; ``resume_dir`` changes nothing."""
    for options in (Options(), Options(resume_dir="/journals")):
        found = plan_for(BOTH, options, size, path="b/k")
        assert (found.part_size if found.multipart else None) == part_size
        assert plan_for(BOTH, options, None, path="b/k").part_size == 8 * MIB


@pytest.mark.parametrize(
    ("grant", "size", "words"),
    [
        (SINGLE, MAX_SINGLE_PUT + 1, ["one PUT holds 5 GiB", "no parts are granted"]),
        (Grant(single=False, multipart=None), 1, ["no parts are granted"]),
        (owners(3, MIB), 3 * MIB + 1, ["need 4 parts, 3 can be signed"]),
        (owners(9, 10), 11, ["below the minimum of 100 KiB"]),
        (owners(1), MAX_PART + 1, ["above the maximum of 5 GiB"]),
        (
            owners(1, 10, single=True),
            MAX_SINGLE_PUT + 1,
            ["one PUT holds", "need", "below the minimum"],
        ),
    ],
)
def test_misfits(grant, size, words):
    """An upload that cannot succeed is refused before the first byte, with all reasons."""
    with pytest.raises(ConfigurationError) as caught:
        plan(grant, size)
    assert len(caught.value.problems) == len(words)
    for problem, word in zip(caught.value.problems, words, strict=True):
        assert word in problem
    assert caught.value.path == "b/k"


GRANTS = st.builds(
    Grant,
    single=st.booleans(),
    multipart=st.none()
    | st.builds(
        MultipartGrant,
        upload_id=st.none() | st.just("U"),
        part_size=st.none() | st.integers(1, 2 * MAX_PART),
        max_parts=st.integers(1, MAX_PARTS),
    ),
)


@given(
    GRANTS,
    st.integers(0, 3000 * GIB) | st.integers(0, 300 * KIB),
    st.integers(MIN_PART, MAX_PART),
    st.integers(1, MAX_PART),
)
def test_pieces_cover_the_object_exactly(grant, size, part_size, threshold):
    """For any size and grant the pieces are legal, or the plan is refused."""
    try:
        found = plan(grant, size, part_size=part_size, multipart_threshold=threshold)
    except ConfigurationError:
        return
    count = max(1, -(-size // found.part_size))
    last = size - (count - 1) * found.part_size
    assert 0 <= last <= found.part_size
    if not found.multipart:
        assert grant.single
        assert count == 1
        assert size <= MAX_SINGLE_PUT
        return
    assert count <= min(grant.multipart.max_parts, found.max_parts)
    assert last <= MAX_PART
    assert count == 1 or MIN_PART <= found.part_size <= MAX_PART
    assert grant.multipart.part_size in (None, found.part_size)


def test_streams():
    """A stream begins with one PUT, grows its parts, or waits on disk."""
    found = plan(BOTH, None)
    assert (found.multipart, found.grows, found.spools) == (False, True, False)
    found = plan(Grant(single=False), None)
    assert (found.multipart, found.grows) == (True, True)
    found = plan(SINGLE, None)
    assert (found.spools, found.max_parts) == (True, 1)
    found = plan(owners(7, MIB), None)
    assert (found.multipart, found.part_size, found.max_parts) == (True, MIB, 7)
    assert not found.grows
    assert plan(owners(7, single=True), None).spools
    with pytest.raises(ConfigurationError, match='put "part_size" into the entry'):
        plan(owners(7), None)


def test_small_parts_where_memory_is_short():
    """They are as small as the store permits, and a stream holds nearly as much."""
    found = plan(BOTH, None)
    small = [found.early_size(number) for number in range(1, MAX_PARTS + 1)]
    assert small[:2000] == [MIN_PART] * 2000
    assert small[2000:5000] == [MIB] * 3000
    assert set(small[5000:]) == {None}
    sizes = [found.size_of(number) for number in range(1, MAX_PARTS + 1)]
    assert sum(s or size for s, size in zip(small, sizes, strict=True)) > 0.99 * sum(
        sizes
    )
    s3 = plan(Grant(multipart=MultipartGrant(min_part=5 * MIB)), None)
    assert (s3.early_size(1), s3.early_size(2001)) == (5 * MIB, 5 * MIB)
    assert plan(owners(7, MIB), None).early_size(1) is None  # each URL has its size
    assert plan(owners(7, single=True), None).early_size(9999) == MIN_PART  # on disk


def test_growth():
    """Parts keep their size for long, double every 500, and stay legal to the end."""
    found = plan(BOTH, None)
    sizes = [found.size_of(number) for number in range(1, MAX_PARTS + 1)]
    assert sizes[:5000] == [8 * MIB] * 5000
    assert sizes[5000:5500] == [16 * MIB] * 500
    assert sizes[5500] == 32 * MIB
    assert sorted(sizes) == sizes
    assert max(sizes) == MAX_PART
    assert sum(sizes) > 6 * 1024 * GIB
    fixed = UploadPlan(multipart=True, part_size=5)
    assert fixed.size_of(9999) == 5

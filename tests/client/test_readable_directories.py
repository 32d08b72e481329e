"""Directories in which the store answers HeadObject or a listing."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.client.written_objects import BlindLooks, ReadableDirectories
from fsspec_osspresigned.model import Action, Operation

HEAD, GET = Action.HeadObject, Action.GetObject


def looked(action, path):
    """Return a look at an object."""
    bucket, _, key = path.partition("/")
    return Operation(action=action, bucket=bucket, key=key)


def listed(bucket, prefix=""):
    """Return the listing of a prefix."""
    query = {"prefix": prefix} if prefix else {}
    return Operation(action=Action.ListObjectsV2, bucket=bucket, query=query)


@pytest.mark.parametrize(
    ("looks", "path", "found"),
    [
        ([], "b/d/x", ("", False)),
        ([looked(HEAD, "b/d/y")], "b/d/x", ("", False)),
        ([listed("b", "d/")], "b/d/x", ("", False)),
        ([listed("b", "d/"), looked(HEAD, "b/d/y")], "b/d/x", ("b/d", False)),
        ([listed("b", "d/y"), looked(GET, "b/d/y")], "b/d/e/x", ("b/d", True)),
        ([listed("b", "d/e/"), looked(HEAD, "b/d/e")], "b/d/e/x", ("b/d/e", False)),
        ([listed("b", "d/e/"), looked(HEAD, "b/d/e")], "b/d/x", ("", False)),
        ([listed("b", "d/"), looked(GET, "b/d/e/y")], "b/d/e/x", ("b/d/e", True)),
        ([listed("b", "d/"), looked(HEAD, "b/d/y")], "b/dx", ("", False)),
        ([listed("b", "d/"), looked(HEAD, "b/d/y")], "other/d/x", ("", False)),
        # The top of a bucket says nothing of its directories.
        ([listed("b"), looked(HEAD, "b/y")], "b/x", ("b", False)),
        ([listed("b"), looked(HEAD, "b/y")], "b/d/x", ("", False)),
        ([listed("b"), looked(HEAD, "b/d/y")], "b/d/x", ("", False)),
    ],
)
def test_an_object_is_seen_where_listing_and_looking_were_answered(looks, path, found):
    """In its directory or one above it, by whatever looks."""
    places = ReadableDirectories()
    for look in looks:
        places.add(look)
    assert places.cover(path) == found


def test_only_what_is_new_is_told():
    """The same answer says something once; a path without a bucket never does."""
    places = ReadableDirectories()
    assert places.add(looked(HEAD, "b/d/x")) == "b/d"
    assert places.add(looked(HEAD, "b/d/y")) == ""
    assert places.add(looked(GET, "b/d/y")) == "b/d"
    assert places.add(Operation(action=HEAD, key="", bucket="url")) == ""


def test_a_bounded_number_of_places_is_known():
    """Further ones are as if nothing had been answered."""
    places = ReadableDirectories(most=1)
    for path in ("b/d/x", "b/e/x"):
        places.add(listed("b", path[2:]))
        places.add(looked(HEAD, path))
    assert places.cover("b/d/y") == ("b/d", False)
    assert places.cover("b/e/y") == ("", False)


def test_what_was_left_out():
    """Below a place everything may be missing; above it, only what is asked in depth."""
    places = ReadableDirectories()
    assert not places.lacks("", below=True)
    places.leave_out("b/d")
    assert [places.lacks(path) for path in ("b/d", "b/d/x", "b/dx", "b")] == [
        True,
        True,
        False,
        False,
    ]
    assert [places.lacks(path, below=True) for path in ("", "b", "b/e")] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("place", "covered", "free"),
    [
        ("b/d/x", ["b/d/x", "b/d/x/y/z"], ["b/d/x-", "b/d", "b/d/y", "c/d/x"]),
        ("b/d/", ["b/d/x", "b/d/x/y"], ["b/d", "b/dx", "b/x"]),
        ("b/", ["b/x", "b/d/x"], ["b", "bx/y"]),
    ],
)
def test_a_place_is_an_object_or_what_is_below(place, covered, free):
    """A slash at the end leaves out the object of the directory's name."""
    looks = BlindLooks()
    assert looks.since(covered[0]) is None
    looks.add(place)
    assert [looks.since(path) for path in covered] == [0.0] * len(covered)
    assert {looks.since(path) for path in free} == {None}


def test_many_places_become_their_directory():
    """The fullest one first; no place is ever forgotten."""
    looks = BlindLooks(3)
    for place in ("b/x/1", "b/x/2", "b/y/1/", "b/x/", "c/1"):
        looks.add(place)
    assert set(looks.stamps()) == {"b/x/", "b/y/1/", "c/1"}
    for n in range(9):
        looks.add(f"b/z{n}/1")
    assert looks.since("b/y/1/2") == looks.since("c/1") == looks.since("b/new") == 0.0
    assert looks.since("d/1") is None
    for bucket in "defgh":
        looks.add(f"{bucket}/")
    assert set(looks.stamps()) == {f"{bucket}/" for bucket in "bcdefgh"}


def test_a_look_of_another_process_has_a_time():
    """Each new one: what was written before it was not seen by it."""
    looks, other = BlindLooks(2), BlindLooks()
    other.add("b/x")
    looks.add_stamps(other.stamps())
    first = looks.since("b/x")
    assert first > 1e9
    looks.add_stamps(other.stamps())
    assert looks.since("b/x") == first
    looks.add("b/x")  # its own looks see its own objects
    assert looks.since("b/x") == first
    other.add("b/x")
    looks.add_stamps(other.stamps())
    again = looks.since("b/x")
    assert again >= first
    looks.add("b/y")
    looks.add("b/z")
    assert set(looks.stamps()) == {"b/"}
    assert looks.since("b/new") == again

"""The memory of what this process wrote."""

from __future__ import annotations

import tracemalloc

from fsspec_osspresigned.client import written as known
from fsspec_osspresigned.client.written import BODIES_CAP, BODY_CAP, Known
from fsspec_osspresigned.model import PartReceipt, Receipt


def names(found):
    """Return name -> type."""
    return {item["name"]: item["type"] for item in found}


def test_objects_and_directories_are_listed_level_by_level():
    """Each level shows its own names once."""
    memory = Known()
    for path in ("b/d/x", "b/d/e/y", "b/d/e/z", "b/top"):
        memory.add(Receipt(path=path, size=1), None)
    memory.make_directory("b/d/e")
    memory.make_directory("b/empty")
    assert names(memory.below("b")) == {
        "b/top": "file",
        "b/d": "directory",
        "b/empty": "directory",
    }
    assert names(memory.below("b/d")) == {"b/d/x": "file", "b/d/e": "directory"}
    assert names(memory.below("")) == {"b": "directory"}
    assert names(memory.below("b/empty")) == {}
    assert names(memory.beneath("b/d")) == {
        "b/d/x": "file",
        "b/d/e/y": "file",
        "b/d/e/z": "file",
        "b/d/e": "directory",
    }
    assert set(names(memory.beneath(""))) >= {"b/empty", "b/top"}
    assert names(memory.beneath("b/empty")) == {}
    assert memory.is_directory("b/d")
    assert memory.is_directory("")
    assert memory.is_directory("b/empty")
    assert not memory.is_directory("b/d/x")
    assert not memory.is_directory("other")


def test_an_object_and_a_directory_may_share_a_name():
    """A flat store allows both; the object is shown."""
    memory = Known()
    memory.add(Receipt(path="b/x", size=1), None)
    memory.add(Receipt(path="b/x/y", size=1), None)
    assert names(memory.below("b")) == {"b/x": "file"}


def test_small_bodies_are_kept_up_to_a_limit(monkeypatch):
    """The least recently used bodies go first; what was not kept is None."""
    monkeypatch.setattr(known, "BODIES_CAP", 10)
    memory = Known()
    for name in "abc":
        memory.add(Receipt(path=name, size=4), b"1234")
        assert memory.body("a") == b"1234"
    assert memory.body("b") is None
    assert memory.body("c") == b"1234"
    memory.add(Receipt(path="a", size=2), b"12")
    assert memory.body("a") == b"12"
    memory.add(Receipt(path="a", size=2), None)
    assert memory.body("a") is None
    assert memory.object("a").size == 2
    memory.add(Receipt(path="d", size=BODY_CAP + 1), bytes(BODY_CAP + 1))
    assert memory.body("d") is None
    assert BODIES_CAP >= BODY_CAP


def test_very_many_objects_take_little():
    """An ordinary object is remembered in some 350 bytes, and as it was stored."""

    def receipt(number):
        return Receipt(
            path=f"examplebucket/directory/{number:06}.bin",
            size=number,
            etag=f"{number:032X}",
            crc64=number,
            request_id=f"{number:024X}",
            verified="crc64",
        )

    memory = Known()
    tracemalloc.start()
    try:
        for number in range(10_000):
            memory.add(receipt(number), None)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10_000 * 400
    for number in (7, 9_999):
        found = memory.object(f"examplebucket/directory/{number:06}.bin")
        assert (found.size, found.etag) == (number, f"{number:032X}")
        assert found.crc64 == number


def test_parts_of_an_object_are_not_kept():
    """They are in its receipt, for whoever wants them; there may be 10,000."""
    memory = Known()
    part = PartReceipt(part_number=1, size=1, etag="e", crc64=1)
    whole = Receipt(path="b/k", size=1, crc64=1, upload_id="u", parts=(part,))
    memory.add(whole, None)
    assert memory.object("b/k").parts == ()
    assert memory.object("b/k").crc64 == 1


def test_what_is_forgotten_is_gone():
    """Removed objects and directories answer no more."""
    memory = Known()
    memory.add(Receipt(path="b/x", size=1), b"x")
    memory.make_directory("b/d")
    memory.make_directory("b/e")
    memory.forget("b/x")
    memory.forget("b/d")
    memory.forget("none")
    memory.forget_directory("b/e")
    assert memory.object("b/x") is None
    assert memory.body("b/x") is None
    assert not memory.is_directory("b")


def test_a_warning_is_due_once_a_root():
    """Each bucket is worth one warning."""
    memory = Known()
    assert [memory.warn_once(root) for root in "aab"] == [True, False, True]


def test_copies_of_own_objects_are_own_objects():
    """Size and body go along, the ETag need not; what was there before is forgotten."""
    memory = Known()
    memory.add(Receipt(path="b/x", size=1, etag="E", crc64=5), b"x")
    memory.add(Receipt(path="b/large", size=9), None)
    memory.copy("b/x", "b/y")
    memory.copy("b/large", "b/z")
    assert (memory.object("b/y").size, memory.object("b/y").crc64) == (1, 5)
    assert memory.object("b/y").etag == ""
    assert memory.body("b/y") == memory.body("b/x") == b"x"
    assert (memory.object("b/z").size, memory.body("b/z")) == (9, None)
    memory.copy("b/none", "b/y")
    assert memory.object("b/y") is None
    assert memory.body("b/y") is None
    assert names(memory.beneath("b", "z")) == {"b/z": "file"}


def test_directory_just_made_is_there_until_something_is_written():
    """Whoever makes a directory finds it; after the first write the store answers."""
    known = Known()
    for path in ("b/made/in", "b/made", "b/other"):
        known.make_directory(path, asked=True)
    known.make_directory("b/seen")
    assert [known.is_fresh(f"b/{p}") for p in ("made/in", "made", "other")] == [
        True
    ] * 3
    assert not known.is_fresh("b/seen")
    known.settle("b/made/in/x")
    assert [known.is_fresh(f"b/{p}") for p in ("made/in", "made", "other")] == [
        False,
        False,
        True,
    ]
    known.forget_directory("b/other")
    assert not known.is_fresh("b/other")
    assert known.is_directory("b/made")


def test_directory_just_made_can_be_listed_where_listing_is_signed(fs):
    """DuckDB and get_mapper ask for what they have just made."""
    fs.mkdir("examplebucket/new")
    assert fs.ls("examplebucket/new") == []
    assert fs.isdir("examplebucket/new")
    fs.pipe_file("examplebucket/new/a", b"x")
    fs.rm("examplebucket/new/a")
    assert not fs.exists("examplebucket/new")

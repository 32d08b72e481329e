"""The memory of what this process wrote."""

from __future__ import annotations

import threading

import pytest

from fsspec_osspresigned.client import local_index
from fsspec_osspresigned.client.local_index import BODY_COST, Answer, LocalIndex
from fsspec_osspresigned.model import PartReceipt, Receipt


def names(found):
    """Return name -> type."""
    return {item["name"]: item["type"] for item in found}


def test_objects_and_directories_are_listed():
    """Return the paths below a directory, each once."""
    memory = LocalIndex()
    for path in ("b/d/x", "b/d/e/y", "b/d/e/z", "b/top"):
        memory.remember(Receipt(path=path, size=1), None)
    memory.remember_directory("b/d/e")
    memory.remember_directory("b/empty")
    assert names(memory.descendants("b/d")) == {
        "b/d/x": "file",
        "b/d/e/y": "file",
        "b/d/e/z": "file",
        "b/d/e": "directory",
    }
    assert set(names(memory.descendants(""))) >= {"b/empty", "b/top"}
    assert names(memory.descendants("b/empty")) == {}
    assert memory.is_directory("b/d")
    assert memory.is_directory("")
    assert memory.is_directory("b/empty")
    assert not memory.is_directory("b/d/x")
    assert not memory.is_directory("other")


def test_small_bodies_are_kept_up_to_a_limit():
    """The least recently used bodies go first; what was not kept is None."""
    memory = LocalIndex(max_body=8, max_bodies=2 * (4 + BODY_COST))
    for name in "abc":
        memory.remember(Receipt(path=name, size=4), b"1234")
        assert memory.body("a") == b"1234"
    assert memory.body("b") is None
    assert memory.body("c") == b"1234"
    memory.remember(Receipt(path="a", size=2), b"12")
    assert memory.body("a") == b"12"
    memory.remember(Receipt(path="a", size=2), None)
    assert memory.body("a") is None
    assert memory.receipt("a").size == 2
    memory.remember(Receipt(path="d", size=9), bytes(9))
    assert memory.body("d") is None


@pytest.mark.parametrize(("most", "left"), [(3, "cde"), (1, "e"), (20, "abcde")])
def test_the_oldest_objects_are_forgotten(most, left):
    """Beyond the limit the first ones go, with their bodies; a rewritten one is new."""
    memory = LocalIndex(most)
    memory.remember(Receipt(path="e", size=0), b"")
    for name in "abcde":
        memory.remember(Receipt(path=name, size=1), name.encode())
    assert sorted(names(memory.descendants(""))) == [*left]
    for name in "abcde":
        assert memory.body(name) == (name.encode() if name in left else None)


def test_what_was_used_last_is_remembered():
    """A question about an object is a use; objects and directories share one bound."""
    memory = LocalIndex(4)
    for name in "abc":
        memory.remember(Receipt(path=f"b/{name}", size=1), None)
    memory.remember_directory("made/a", asked=True)
    assert memory.receipt("b/a") is not None
    memory.remember(Receipt(path="other/d", size=1), None)
    assert names(memory.descendants("b")) == {"b/a": "file", "b/c": "file"}
    memory.remember_directory("made/b")
    memory.remember_directory("made/c")
    assert set(names(memory.descendants("made"))) == {"made/b", "made/c"}
    assert not memory.is_new_directory("made/a")
    for name in "wxyz":
        memory.remember(Receipt(path=f"z/{name}", size=1), None)
    for gone in ("b", "other", "made"):
        assert memory.info(gone) is Answer.MISSING


class Halting(str):
    """A path whose replacement in the index lets another thread run."""

    __slots__ = ("asked", "hashes", "listed")
    __eq__ = str.__eq__

    def __hash__(self):
        self.hashes += 1
        if self.hashes == 2:  # the first time it was looked up
            self.asked.set()
            self.listed.wait(30)
        return str.__hash__(self)


def test_an_object_that_is_asked_for_is_listed_all_the_while():
    """Its place among those that were used changes; it is never missing."""
    memory = LocalIndex()
    for name in "xy":
        memory.remember(Receipt(path=f"b/{name}", size=1), None)
    listing = memory.descendants("b")
    first = next(listing)["name"]
    path = Halting("b/x" if first == "b/y" else "b/y")
    path.asked, path.listed, path.hashes = threading.Event(), threading.Event(), 0
    thread = threading.Thread(target=memory.receipt, args=(path,))
    thread.start()
    assert path.asked.wait(30)
    rest = [item["name"] for item in listing]
    path.listed.set()
    thread.join()
    assert rest == [path]


def test_parts_of_an_object_are_not_kept():
    """The record leaves out the parts of a receipt, of which there may be 10,000."""
    memory = LocalIndex()
    part = PartReceipt(part_number=1, size=1, etag="e", crc64=1)
    whole = Receipt(path="b/k", size=1, crc64=1, upload_id="u", parts=(part,))
    memory.remember(whole, None)
    assert memory.receipt("b/k").parts == ()
    assert memory.receipt("b/k").crc64 == 1


def test_an_object_in_doubt_is_neither_there_nor_missing():
    """It may be stored, replaced or removed; a directory of its name has an answer."""
    memory = LocalIndex()
    memory.remember(Receipt(path="b/d/x", size=1), b"x")
    memory.doubt("b/d/x")
    assert memory.info("b/d/x") is Answer.UNKNOWN
    assert memory.body("b/d/x") is None
    assert memory.info("b/d/y") is Answer.MISSING
    assert memory.info("b/d") is Answer.MISSING
    assert not [*memory.descendants("b")]
    memory.remember(Receipt(path="b/d/x/y", size=1), None)
    assert memory.info("b/d/x")["type"] == "directory"
    memory.remember(Receipt(path="b/d/x", size=2), None)
    assert memory.info("b/d/x")["size"] == 2
    memory.doubt("b/d/x")
    memory.forget("b/d/x/y")
    memory.forget("b/d/x")
    assert memory.info("b/d/x") is Answer.MISSING


def test_copies_of_own_objects_are_own_objects():
    """Size and body go along, the ETag need not; what was there before is forgotten."""
    memory = LocalIndex()
    memory.remember(Receipt(path="b/x", size=1, etag="E", crc64=5), b"x")
    memory.remember(Receipt(path="b/large", size=9, crc64=6), None)
    memory.remember_copy("b/x", "b/y", "5")
    memory.remember_copy("b/large", "b/z", "6")
    assert (memory.receipt("b/y").size, memory.receipt("b/y").crc64) == (1, 5)
    assert memory.receipt("b/y").etag == ""
    assert memory.body("b/y") == memory.body("b/x") == b"x"
    assert (memory.receipt("b/z").size, memory.body("b/z")) == (9, None)
    memory.remember_copy("b/none", "b/y", "5")
    assert memory.info("b/y") is Answer.UNKNOWN
    assert memory.body("b/y") is None
    assert names(memory.descendants("b", "z")) == {"b/z": "file"}


@pytest.mark.parametrize(("known", "stated"), [(5, "6"), (5, None), (None, "None")])
def test_a_copy_that_may_be_of_another_version_is_unknown(known, stated):
    """The CRC-64 differs, or is missing in the reply or in the record."""
    memory = LocalIndex()
    memory.remember(Receipt(path="b/x", size=1, crc64=known), b"x")
    memory.remember(Receipt(path="b/y", size=1, crc64=7), b"y")
    memory.remember_copy("b/x", "b/y", stated)
    assert memory.info("b/y") is Answer.UNKNOWN
    assert memory.body("b/y") is None


def test_directory_just_made_is_there_until_something_is_written():
    """A directory that was made is found; after the first write, the store decides."""
    memory = LocalIndex()
    for path in ("b/made", "b/made/in", "b/other"):
        memory.remember_directory(path, asked=True)
    memory.remember_directory("b/seen")
    assert [
        memory.is_new_directory(f"b/{p}") for p in ("made/in", "made", "other")
    ] == [True] * 3
    assert not memory.is_new_directory("b/seen")
    memory.remember(Receipt(path="b/made/in/x", size=1), None)
    assert [
        memory.is_new_directory(f"b/{p}") for p in ("made/in", "made", "other")
    ] == [False, False, True]
    memory.forget_directory("b/other")
    assert not memory.is_new_directory("b/other")
    assert memory.is_directory("b/made")


@pytest.mark.parametrize(
    ("place", "covered", "free"),
    [
        ("b/d/x", ["b/d/x", "b/d/x/y/z"], ["b/d/x-", "b/d", "b/d/y", "c/d/x"]),
        ("b/d/", ["b/d/x", "b/d/x/y"], ["b/d", "b/dx", "b/x"]),
        ("b/", ["b/x", "b/d/x"], ["b", "bx/y"]),
    ],
)
def test_a_blind_look_covers_an_object_or_what_is_below(place, covered, free):
    """A slash at the end leaves out the object of the directory's name."""
    memory = LocalIndex()
    assert not any(memory.may_hide(path) for path in covered)
    memory.mark_unverified(place)
    assert all(memory.may_hide(path) for path in covered)
    assert not any(memory.may_hide(path) for path in free)
    memory.remember(Receipt(path=covered[0], size=1), None)
    assert not memory.may_hide(covered[0])


def test_many_blind_looks_become_their_directory(monkeypatch):
    """The fullest one first; no look is ever forgotten."""
    monkeypatch.setattr(local_index, "MAX_PREFIXES", 3)
    memory = LocalIndex()
    for place in ("b/x/1", "b/x/2", "b/y/1/", "b/x/", "c/1"):
        memory.mark_unverified(place)
    assert set(memory.unverified()) == {"b/x/", "b/y/1/", "c/1"}
    for n in range(9):
        memory.mark_unverified(f"b/z{n}/1")
    assert all(memory.may_hide(path) for path in ("b/y/1/2", "c/1", "b/new"))
    assert not memory.may_hide("d/1")
    for bucket in "defgh":
        memory.mark_unverified(f"{bucket}/")
    assert set(memory.unverified()) == {f"{bucket}/" for bucket in "bcdefgh"}


def test_a_blind_look_of_another_process_has_a_time(monkeypatch):
    """A look does not cover objects that were written before it."""
    monkeypatch.setattr(local_index, "MAX_PREFIXES", 2)
    now = 1_000.0
    monkeypatch.setattr(local_index.time, "time", lambda: now)
    memory, other = LocalIndex(), LocalIndex()

    def hidden(path, written_at):
        memory.remember(Receipt(path=path, size=1, stored_at=written_at), None)
        return memory.may_hide(path)

    other.mark_unverified("b/x")
    memory.add_unverified(other.unverified())
    now = 2_000.0
    memory.add_unverified(other.unverified())
    memory.mark_unverified("b/x")  # its own looks see its own objects
    assert [hidden("b/x", at) for at in (999.0, 1_001.0)] == [True, False]
    other.mark_unverified("b/x")
    memory.add_unverified(other.unverified())
    assert [hidden("b/x", at) for at in (1_001.0, 2_001.0)] == [True, False]
    memory.mark_unverified("b/y")
    memory.mark_unverified("b/z")
    assert set(memory.unverified()) == {"b/"}
    assert [hidden("b/new", at) for at in (1_001.0, 2_001.0)] == [True, False]

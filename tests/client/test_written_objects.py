"""The memory of what this process wrote."""

from __future__ import annotations

import sys
import threading
import tracemalloc

import pytest

from fsspec_osspresigned.client import written_objects
from fsspec_osspresigned.client.written_objects import BODY_COST, WrittenObjects
from fsspec_osspresigned.model import Action, Operation, PartReceipt, Receipt

HEAD, GET = Action.HeadObject, Action.GetObject


def names(found):
    """Return name -> type."""
    return {item["name"]: item["type"] for item in found}


def test_objects_and_directories_are_listed_level_by_level():
    """Each level shows its own names once."""
    memory = WrittenObjects()
    for path in ("b/d/x", "b/d/e/y", "b/d/e/z", "b/top"):
        memory.remember(Receipt(path=path, size=1), None)
    memory.remember_directory("b/d/e")
    memory.remember_directory("b/empty")
    assert names(memory.children("b")) == {
        "b/top": "file",
        "b/d": "directory",
        "b/empty": "directory",
    }
    assert names(memory.children("b/d")) == {"b/d/x": "file", "b/d/e": "directory"}
    assert names(memory.children("")) == {"b": "directory"}
    assert names(memory.children("b/empty")) == {}
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
    memory = WrittenObjects(max_body=8, max_bodies=2 * (4 + BODY_COST))
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
    memory = WrittenObjects(most)
    memory.remember(Receipt(path="e", size=0), b"")
    for name in "abcde":
        memory.remember(Receipt(path=name, size=1), name.encode())
    assert sorted(names(memory.descendants(""))) == [*left]
    for name in "abcde":
        assert memory.body(name) == (name.encode() if name in left else None)


def test_what_was_used_last_is_remembered():
    """A question about an object is a use, and a directory that was made is no more."""
    memory = WrittenObjects(3)
    for name in "abc":
        memory.remember(Receipt(path=f"b/{name}", size=1), None)
        memory.remember_directory(f"made/{name}", asked=True)
    assert memory.receipt("b/a") is not None
    memory.remember(Receipt(path="other/d", size=1), None)
    memory.remember_directory("made/c")
    memory.remember_directory("made/d")
    assert names(memory.descendants("b")) == {"b/a": "file", "b/c": "file"}
    assert set(names(memory.children("made"))) == {"made/b", "made/c", "made/d"}
    assert not memory.is_new_directory("made/a")
    for name in "xyz":
        memory.remember(Receipt(path=f"z/{name}", size=1), None)
    assert not memory.is_directory("b")
    assert not memory.is_directory("other")


class Halting(str):
    """A path; when it is put in its place again, another thread gets to run."""

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
    memory = WrittenObjects()
    for name in "xy":
        memory.remember(Receipt(path=f"b/{name}", size=1), None)
    listing = memory.children("b")
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


def _steps(act):
    """Return how many lines of the memory run until *act* is done."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if not frame.f_code.co_filename.endswith("written_objects.py"):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


QUESTIONS = {
    "no directory": lambda memory: memory.is_directory("a/none"),
    "directory": lambda memory: memory.is_directory("a/own"),
    "nothing in it": lambda memory: [*memory.children("a/none")],
    "children": lambda memory: [*memory.children("a/own")],
    "descendants": lambda memory: [*memory.descendants("a/own", "f")],
    "object": lambda memory: memory.receipt("a/own/file"),
    "again": lambda memory: memory.remember(Receipt(path="a/own/file", size=2), None),
    "deleted": lambda memory: memory.forget("a/own/file"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_question_costs_more_the_more_is_remembered(question):
    """Ten objects elsewhere or thousands: the same steps."""
    few, many = WrittenObjects(), WrittenObjects()
    for memory, count in ((few, 10), (many, 5_000)):
        for number in range(count):
            memory.remember(Receipt(path=f"b/{number}", size=1), None)
            memory.remember_directory(f"a/other/{number}")
        memory.remember(Receipt(path="a/own/file", size=1), None)
    ask = QUESTIONS[question]
    assert _steps(lambda: ask(few)) == _steps(lambda: ask(many)) > 0


def test_very_many_objects_take_little():
    """An object is remembered by its receipt alone, which others may hold as well."""
    receipts = [Receipt(path=f"b/{number:06}", size=number) for number in range(10_000)]
    memory = WrittenObjects()
    tracemalloc.start()
    try:
        for receipt in receipts:
            memory.remember(receipt, None)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10_000 * 150
    assert memory.receipt("b/000007") is receipts[7]


def test_parts_of_an_object_are_not_kept():
    """They are in its receipt, for whoever wants them; there may be 10,000."""
    memory = WrittenObjects()
    part = PartReceipt(part_number=1, size=1, etag="e", crc64=1)
    whole = Receipt(path="b/k", size=1, crc64=1, upload_id="u", parts=(part,))
    memory.remember(whole, None)
    assert memory.receipt("b/k").parts == ()
    assert memory.receipt("b/k").crc64 == 1


def test_what_is_forgotten_is_gone():
    """Removed objects and directories answer no more."""
    memory = WrittenObjects()
    memory.remember(Receipt(path="b/x", size=1), b"x")
    memory.remember_directory("b/d")
    memory.remember_directory("b/e")
    memory.forget("b/x")
    memory.forget("b/d")
    memory.forget("none")
    memory.forget_directory("b/e")
    assert memory.receipt("b/x") is None
    assert memory.body("b/x") is None
    assert not memory.is_directory("b")


def test_copies_of_own_objects_are_own_objects():
    """Size and body go along, the ETag need not; what was there before is forgotten."""
    memory = WrittenObjects()
    memory.remember(Receipt(path="b/x", size=1, etag="E", crc64=5), b"x")
    memory.remember(Receipt(path="b/large", size=9, crc64=6), None)
    memory.remember_copy("b/x", "b/y", "5")
    memory.remember_copy("b/large", "b/z", "6")
    assert (memory.receipt("b/y").size, memory.receipt("b/y").crc64) == (1, 5)
    assert memory.receipt("b/y").etag == ""
    assert memory.body("b/y") == memory.body("b/x") == b"x"
    assert (memory.receipt("b/z").size, memory.body("b/z")) == (9, None)
    memory.remember_copy("b/none", "b/y", "5")
    assert memory.receipt("b/y") is None
    assert memory.body("b/y") is None
    assert names(memory.descendants("b", "z")) == {"b/z": "file"}


@pytest.mark.parametrize(("known", "stated"), [(5, "6"), (5, None), (None, "None")])
def test_a_copy_that_may_be_of_another_version_is_unknown(known, stated):
    """Its CRC-64 is another one, or the store or the record does not tell it."""
    memory = WrittenObjects()
    memory.remember(Receipt(path="b/x", size=1, crc64=known), b"x")
    memory.remember(Receipt(path="b/y", size=1, crc64=7), b"y")
    memory.remember_copy("b/x", "b/y", stated)
    assert memory.receipt("b/y") is None
    assert memory.body("b/y") is None


def test_directory_just_made_is_there_until_something_is_written():
    """Whoever makes a directory finds it; after the first write the store answers."""
    memory = WrittenObjects()
    for path in ("b/made/in", "b/made", "b/other"):
        memory.remember_directory(path, asked=True)
    memory.remember_directory("b/seen")
    assert [
        memory.is_new_directory(f"b/{p}") for p in ("made/in", "made", "other")
    ] == [True] * 3
    assert not memory.is_new_directory("b/seen")
    memory.trust_store("b/made/in/x")
    assert [
        memory.is_new_directory(f"b/{p}") for p in ("made/in", "made", "other")
    ] == [
        False,
        False,
        True,
    ]
    memory.forget_directory("b/other")
    assert not memory.is_new_directory("b/other")
    assert memory.is_directory("b/made")


def test_memory_does_not_grow_where_the_store_answers():
    """Ten thousand objects more take nothing: kept, they would take megabytes."""
    memory = WrittenObjects()
    for look in (listed("b", "d/"), looked(GET, "b/d/any")):
        memory.answered(look)
    tracemalloc.start()
    try:
        for number in range(10_000):
            memory.remember(Receipt(path=f"b/d/{number}", size=1), b"1")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 500_000  # other threads of the process may take some


def looked(action, path):
    """Return a look at an object."""
    bucket, _, key = path.partition("/")
    return Operation(action=action, bucket=bucket, key=key)


def listed(bucket, prefix=""):
    """Return the listing of a prefix."""
    query = {"prefix": prefix} if prefix else {}
    return Operation(action=Action.ListObjectsV2, bucket=bucket, query=query)


@pytest.mark.parametrize("is_written_first", [False, True])
@pytest.mark.parametrize(
    ("answers", "path", "unknown", "keeps_body"),
    [
        ([], "b/d/x", "", True),
        ([looked(HEAD, "b/d/y")], "b/d/x", "", True),
        ([looked(GET, "b/d/y")], "b/d/x", "", False),
        ([listed("b", "d/")], "b/d/x", "", True),
        ([listed("b", "d/"), looked(HEAD, "b/d/y")], "b/d/x", "b/d", True),
        ([listed("b", "d/y"), looked(GET, "b/d/y")], "b/d/e/x", "b/d", False),
        ([listed("b", "d/e/"), looked(HEAD, "b/d/e")], "b/d/e/x", "b/d/e", True),
        ([listed("b", "d/e/"), looked(HEAD, "b/d/e")], "b/d/x", "", True),
        ([listed("b", "d/"), looked(GET, "b/d/e/y")], "b/d/e/x", "b/d/e", False),
        ([listed("b", "d/"), looked(HEAD, "b/d/y")], "b/dx", "", True),
        ([listed("b", "d/"), looked(HEAD, "b/d/y")], "other/d/x", "", True),
        # The top of a bucket says nothing of its directories.
        ([listed("b"), looked(HEAD, "b/y")], "b/x", "b", True),
        ([listed("b"), looked(HEAD, "b/y")], "b/d/x", "", True),
        ([listed("b"), looked(HEAD, "b/d/y")], "b/d/x", "", True),
        # An answer without a bucket, as of one URL, belongs to no directory.
        ([listed(""), looked(HEAD, "url")], "b/x", "", True),
    ],
)
def test_an_object_is_unknown_where_the_store_answers(
    answers, path, unknown, keeps_body, is_written_first
):
    """Below the directory of both answers all may be missing; elsewhere all stays."""
    memory = WrittenObjects()
    if is_written_first:
        memory.remember(Receipt(path=path, size=1), b"1")
    for look in answers:
        memory.answered(look)
    if not is_written_first:
        memory.remember(Receipt(path=path, size=1), b"1")
    assert (memory.receipt(path) is None) == bool(unknown)
    keeps_body = keeps_body or (is_written_first and not unknown)
    assert (memory.body(path) is not None) == keeps_body
    assert memory.is_directory(unknown or path.rpartition("/")[0])
    within = [path, f"{unknown}/new", f"{unknown}/new/er"]
    assert {memory.is_unrecorded(place) for place in within} == {bool(unknown)}
    above = ["", path[0]]
    assert {memory.is_unrecorded(p, below=True) for p in above} == {bool(unknown)}
    free = [f"{unknown}-", "", f"{path[0]}/other"] if unknown != "b" else [""]
    assert not any(memory.is_unrecorded(place) for place in free)
    memory.remember(Receipt(path=path, size=1), None)
    assert memory.body(path) is None


def test_an_answer_is_new_once_for_a_directory():
    """The same answer says nothing more; a path without a bucket never does."""
    memory = WrittenObjects()
    answers = [looked(HEAD, path) for path in ("b/d/x", "b/d/y", "url")]
    answers += [looked(GET, "b/d/y"), looked(GET, "b/d/x")]
    assert [memory.answered(look) for look in answers] == [
        True,
        False,
        False,
        True,
        False,
    ]


def test_answers_of_a_bounded_number_of_directories_count(monkeypatch):
    """In further directories all is recorded, as if nothing had been answered."""
    monkeypatch.setattr(written_objects, "MAX_READABLE", 1)
    memory = WrittenObjects()
    for path in ("b/d/x", "b/e/x"):
        memory.answered(listed("b", path[2:]))
        memory.answered(looked(HEAD, path))
        memory.remember(Receipt(path=path, size=1), None)
    assert memory.receipt("b/d/x") is None
    assert memory.receipt("b/e/x") is not None


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
    memory = WrittenObjects()
    assert not any(memory.may_hide(path) for path in covered)
    memory.note_blind_look(place)
    assert all(memory.may_hide(path) for path in covered)
    assert not any(memory.may_hide(path) for path in free)
    memory.remember(Receipt(path=covered[0], size=1), None)
    assert not memory.may_hide(covered[0])


def test_no_look_is_blind_where_the_store_answers():
    """The store itself says there what exists."""
    memory = WrittenObjects()
    memory.note_blind_look("b/d/x")
    for look in (listed("b", "d/"), looked(HEAD, "b/d/any")):
        assert memory.may_hide("b/d/x")
        memory.answered(look)
    assert not memory.may_hide("b/d/x")


def test_many_blind_looks_become_their_directory(monkeypatch):
    """The fullest one first; no look is ever forgotten."""
    monkeypatch.setattr(written_objects, "MAX_BLIND", 3)
    memory = WrittenObjects()
    for place in ("b/x/1", "b/x/2", "b/y/1/", "b/x/", "c/1"):
        memory.note_blind_look(place)
    assert set(memory.blind_looks()) == {"b/x/", "b/y/1/", "c/1"}
    for n in range(9):
        memory.note_blind_look(f"b/z{n}/1")
    assert all(memory.may_hide(path) for path in ("b/y/1/2", "c/1", "b/new"))
    assert not memory.may_hide("d/1")
    for bucket in "defgh":
        memory.note_blind_look(f"{bucket}/")
    assert set(memory.blind_looks()) == {f"{bucket}/" for bucket in "bcdefgh"}


def test_a_blind_look_of_another_process_has_a_time(monkeypatch):
    """What was written before it, it did not see; the same look counts once."""
    monkeypatch.setattr(written_objects, "MAX_BLIND", 2)
    now = 1_000.0
    monkeypatch.setattr(written_objects.time, "time", lambda: now)
    memory, other = WrittenObjects(), WrittenObjects()

    def hidden(path, written_at):
        memory.remember(Receipt(path=path, size=1, stored_at=written_at), None)
        return memory.may_hide(path)

    other.note_blind_look("b/x")
    memory.add_blind_looks(other.blind_looks())
    now = 2_000.0
    memory.add_blind_looks(other.blind_looks())
    memory.note_blind_look("b/x")  # its own looks see its own objects
    assert [hidden("b/x", at) for at in (999.0, 1_001.0)] == [True, False]
    other.note_blind_look("b/x")
    memory.add_blind_looks(other.blind_looks())
    assert [hidden("b/x", at) for at in (1_001.0, 2_001.0)] == [True, False]
    memory.note_blind_look("b/y")
    memory.note_blind_look("b/z")
    assert set(memory.blind_looks()) == {"b/"}
    assert [hidden("b/new", at) for at in (1_001.0, 2_001.0)] == [True, False]

"""A plan is made of two listings, and makes the destination what the source is."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.tools.sync.plan import (
    Aside,
    Entry,
    Extra,
    Filter,
    How,
    PlanRules,
    Sent,
    Stored,
    Why,
    plan,
    verdict,
)

NOW = 1_000_000.0
OLD = Entry("n", 3, int((NOW - 60) * 1e9))
NEW = Entry("n", 3, int((NOW + 60) * 1e9))
CLOSE = Entry("n", 3, int((NOW + 1) * 1e9))
MUTE = Entry("n", 3)
STORED = Stored(3, "E", NOW)
SENT = Sent(3, OLD.mtime_ns, "", "e", 7)
TIME, SIZE, SUM = (PlanRules(how=how) for how in How)
BLIND = PlanRules(listed=False)
ALWAYS = PlanRules(ignore_times=True)


@pytest.mark.parametrize(
    ("entry", "stored", "sent", "rules", "why"),
    [
        (OLD, None, None, TIME, Why.NEW),
        (OLD, None, SENT, TIME, Why.NEW),  # somebody has deleted it
        (OLD, STORED, None, TIME, Why.SAME),
        (NEW, STORED, None, TIME, Why.TIME),
        (NEW, STORED, None, PlanRules(ahead=200.0), Why.SAME),
        (OLD, STORED, None, PlanRules(ahead=-200.0), Why.TIME),
        (CLOSE, STORED, None, TIME, Why.UNSURE),
        (MUTE, STORED, None, TIME, Why.UNSURE),
        (OLD, Stored(3), None, TIME, Why.UNSURE),
        (OLD, Stored(4, "", NOW), None, TIME, Why.SIZE),
        (OLD, STORED, SENT, TIME, Why.SAME),
        (NEW, STORED, SENT, TIME, Why.TIME),
        (evolve(OLD, mtime_ns=1), STORED, SENT, TIME, Why.TIME),  # older, but changed
        (OLD, Stored(3, "other", NOW), SENT, TIME, Why.SAME),
        (NEW, Stored(3, "other", NOW), SENT, TIME, Why.TIME),
        (OLD, Stored(3, "", NOW), evolve(SENT, etag=""), TIME, Why.SAME),
        (MUTE, STORED, SENT, TIME, Why.UNSURE),
        (NEW, STORED, None, SIZE, Why.SAME),
        (NEW, Stored(4, "", NOW), None, SIZE, Why.SIZE),
        (evolve(OLD, size=None), STORED, None, SIZE, Why.UNSURE),
        (evolve(OLD, size=None), STORED, None, TIME, Why.SAME),
        (OLD, STORED, None, SUM, Why.UNSURE),
        (OLD, Stored(4, "", NOW), None, SUM, Why.SIZE),
        (OLD, STORED, SENT, ALWAYS, Why.ALWAYS),
        (OLD, None, None, ALWAYS, Why.NEW),
        (OLD, None, None, BLIND, Why.NEW),
        (OLD, None, SENT, BLIND, Why.SAME),
        (NEW, None, SENT, BLIND, Why.TIME),
        (evolve(OLD, size=4), None, SENT, BLIND, Why.SIZE),
        (MUTE, None, SENT, BLIND, Why.UNSURE),
        (
            Entry("n", 3, None, "t"),
            None,
            evolve(SENT, mtime_ns=None, tag="t"),
            BLIND,
            Why.SAME,
        ),
        (
            Entry("n", 3, None, "u"),
            None,
            evolve(SENT, mtime_ns=None, tag="t"),
            BLIND,
            Why.TIME,
        ),
        (NEW, None, SENT, PlanRules(how=How.SIZE, listed=False), Why.SAME),
        (OLD, None, SENT, PlanRules(how=How.CHECKSUM, listed=False), Why.UNSURE),
    ],
)
def test_verdict(entry, stored, sent, rules, why):
    """One file, its object, and what is remembered of it."""
    assert verdict(entry, stored, sent, rules) is why


def test_names_that_lead_out_are_neither_sent_nor_deleted():
    """Names that no key can have are neither sent nor deleted."""
    names = ["../a", "a/../b", "./a", "a/.", "\\a", "a" * 1024, "\udcff", "/a"]
    there = {"../x": Stored(1), "a/../y": Stored(1), "a//b": Stored(1), "": Stored(0)}
    made = plan([Entry(n, 1, 1) for n in names], there, {}, PlanRules())
    assert list(made.problems) == names
    assert (made.send, made.extra) == ([], [Extra("a//b", 1)])
    within = plan(
        [Entry(n, 1, 1) for n in ("\\a", "/a")], {}, {}, PlanRules(prefix="p/")
    )
    assert [item.entry.name for item in within.send] == ["\\a", "/a"]


def test_nothing_is_extra_below_what_was_not_looked_into():
    """A directory that could not be listed protects everything below it."""
    error = PermissionError(13, "no")
    source = [Aside("d", "unreadable", error), Aside("l", "link"), Aside("p", "pipe")]
    names = ["d/a.csv", "l/b.csv", "l/c.txt", "p", "e/f.csv", "l.csv"]
    there = {name: Stored(1) for name in names}
    made = plan(source, dict(there), {}, PlanRules())
    assert [one.name for one in made.extra] == ["e/f.csv", "l.csv"]
    assert (made.errors, made.left_out) == ({"d": error}, {"l": "link", "p": "pipe"})
    rules = PlanRules(filter=Filter.of(["+ *.csv"]))
    made = plan(source, dict(there), {}, rules)
    assert [one.name for one in made.extra] == ["e/f.csv", "l.csv"]
    assert (made.errors, made.left_out) == ({"d": error}, {})
    rules = PlanRules(filter=Filter.of(["- d/", "- l/", "- p"]))
    made = plan(source, dict(there), {}, rules)
    assert (made.errors, made.left_out) == ({}, {})
    whole = plan([Aside("", "unreadable", error)], dict(there), {}, PlanRules())
    assert (whole.extra, whole.errors) == ([], {"": error})


# -- what must be true of every plan -----------------------------------------------------

NAME = st.lists(st.sampled_from(["a", "b", "c.csv", "tmp"]), min_size=1, max_size=3)
NAMES = NAME.map("/".join)
DATA = st.binary(max_size=3)
WHEN = st.integers(0, 9)
RULES = st.lists(
    st.sampled_from(
        ["+ *.csv", "- *.csv", "- tmp/", "+ /a", "- *", "+ b", "- /a/**/b"]
    ),
    max_size=3,
)


class Store:
    """Objects as a store has them: bytes, and when they came; its clock continues."""

    def __init__(self, objects):
        self.now = 5.0
        self.objects = {name: (data, float(at)) for name, (data, at) in objects.items()}

    def listed(self):
        """Return what a listing shows."""
        return {
            name: Stored(len(data), data.hex(), at)
            for name, (data, at) in self.objects.items()
        }


def synced(files, store, rules, memory, *, delete):
    """Do what a plan says; return the plan as it was carried out."""
    entries = [Entry(n, len(d), int(at * 1e9)) for n, (d, at) in files.items()]
    there = store.listed() if rules.listed else {}
    made = plan(entries, there, memory, rules)
    unsure, made.unsure = made.unsure, []
    for item in unsure:  # what their bytes tell
        data = files[item.entry.name][0]
        same = store.objects[item.entry.name][0] == data
        made.resolve(item, Why.SAME if same else Why.CONTENT)
    store.now += 100
    for item in made.send:
        data, at = files[item.entry.name]
        store.objects[item.entry.name] = (data, store.now)
        memory[item.entry.name] = Sent(len(data), int(at * 1e9), "", data.hex(), None)
    for extra in made.extra if delete else ():
        del store.objects[extra.name]
        memory.pop(extra.name, None)
    return made


@given(
    files=st.dictionaries(NAMES, st.tuples(DATA, WHEN)),
    objects=st.dictionaries(NAMES, st.tuples(DATA, WHEN)),
    rules=RULES,
    how=st.sampled_from([How.TIME, How.CHECKSUM]),
    delete=st.booleans(),
)
def test_destination_equals_the_source(files, objects, rules, how, delete):
    """Under the filters, and nothing else has changed; a second plan is empty."""
    chosen = Filter.of(rules)
    # By time, an object that came later than its file was changed is believed.
    if how is How.TIME:
        for name in files.keys() & objects.keys():
            (data, changed), (there, at) = files[name], objects[name]
            if at > changed and len(there) == len(data):
                objects[name] = (data, at)
    store = Store(objects)
    before = dict(store.objects)
    made = synced(files, store, PlanRules(how=how, filter=chosen), {}, delete=delete)
    for name in files.keys() | before.keys():
        there = store.objects.get(name, (None,))[0]
        if not chosen.takes(name):
            assert there == before.get(name, (None,))[0]
        elif name in files:
            assert there == files[name][0]
        elif delete:
            assert there is None
        else:
            assert there == before[name][0]
    assert made.found == made.same + len(made.send)
    again = synced(files, store, PlanRules(how=how, filter=chosen), {}, delete=delete)
    assert again.send == []
    assert not (delete and again.extra)


@given(
    runs=st.lists(
        st.dictionaries(NAMES, st.tuples(DATA, WHEN)), min_size=1, max_size=4
    ),
    rules=RULES,
)
def test_memory_alone_is_enough(runs, rules):
    """Without a listing, the state counts as the content of the bucket."""
    chosen = PlanRules(filter=Filter.of(rules), listed=False)
    store, memory = Store({}), {}
    for number, files in enumerate(runs):
        # Nobody changes a file within the same nanosecond.
        changed = {n: (data, at + 10 * number) for n, (data, at) in files.items()}
        synced(changed, store, chosen, memory, delete=False)
        for name, (data, _) in changed.items():
            if chosen.filter.takes(name):
                assert store.objects[name][0] == data
        assert synced(changed, store, chosen, memory, delete=False).send == []

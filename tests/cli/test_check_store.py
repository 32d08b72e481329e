"""``osspresigned check store``: asks first, tries each fact, removes what it made."""

from __future__ import annotations

import json

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.owner.store_facts import FACTS
from tests.cli.conftest import BUCKET, stored

STORE = ("check", "store", BUCKET)


def test_store_is_tried_and_left_as_it_was(oss, run, tmp_path):
    """One line a fact, a count, a report for machines, and nothing stays."""
    ended = run(*STORE, "--yes", "--report", "facts.json")
    assert ended.code == 0, ended.out
    *lines, count = ended.out.splitlines()
    assert len(lines) == len(FACTS)
    assert count.endswith("0 not asked")
    document = json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))
    assert [fact["name"] for fact in document["facts"]] == [f.name for f in FACTS]
    assert stored(oss) == {}


def test_difference_is_exit_code_1(oss, run):
    """A store that is different, and what could not be removed, are told."""
    oss.faults.add(Fault(action="DeleteObject", times=None, status=403))
    ended = run(*STORE, "--yes", "--prefix", "mine/")
    assert ended.code == 1
    assert "different    delete" in ended.out
    assert f"could not be removed: {BUCKET}/mine/object" in ended.err


@pytest.mark.parametrize(("answer", "asked"), [(b"n\n", False), (b"y\n", True)])
def test_it_asks_first(oss, run, answer, asked):
    """Requests cost money: nothing is sent before somebody has agreed."""
    ended = run(*STORE, stdin=answer, terminal=True)
    assert ended.code == 0
    assert "OSS bills" in ended.err
    assert bool(oss.requests) is asked


def test_wrong_calls(oss, run):
    """Without a terminal it needs --yes; a prefix is a directory."""
    ended = run(*STORE)
    assert ended.code == 2
    assert "--yes" in ended.err
    for prefix in ("mine", "/"):
        ended = run(*STORE, "--yes", "--prefix", prefix)
        assert ended.code == 2
        assert "end it with a slash" in ended.err
    assert not oss.requests

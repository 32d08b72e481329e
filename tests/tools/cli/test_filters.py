"""``--include``, ``--exclude`` and ``--filter-from`` of put, get and rm."""

from __future__ import annotations

import pytest

from tests.tools.cli.conftest import BUCKET, KEYS, stored

IN = f"{BUCKET}/in/"


def test_put_sends_what_the_filters_include(run, oss, tree):
    """The last rule that fits decides; a name is relative to what was given."""
    assert run("put", "data", IN, *KEYS, "--exclude", "/b/", "--include", "*e.bin").code == 0  # fmt: skip
    assert stored(oss).keys() == {"in/data/a.csv", "in/data/b/d e.bin"}
    assert run("put", "data/", IN, *KEYS, "--include", "/a.csv", "-q").code == 0
    assert "in/a.csv" in stored(oss)
    ended = run("put", "data", IN, *KEYS, "--include", "*.none")
    assert ended.code == 2
    assert "no file that the filters include is in data" in ended.err


def test_rules_of_a_file(run, oss, tree, tmp_path):
    """Rules of a file count at its position among the options; comments are skipped."""
    (tmp_path / "rules").write_text("# ours\n\n- *\n; and\n+ *.csv\n")
    call = ("put", "data", IN, *KEYS, "--filter-from", "rules")
    assert run(*call, "--exclude", "/a.csv").code == 0
    assert stored(oss).keys() == {"in/data/b/c.csv"}
    assert run(*call[:-2], "--exclude", "/a.csv", *call[-2:]).code == 0
    assert stored(oss).keys() == {"in/data/a.csv", "in/data/b/c.csv"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"*.csv\n", "rules, line 1: '*.csv' is not a rule"),
        (b"+ a\n- **a\n", "rules, line 2: '**a' is not a glob"),
        (b"\xff", "rules: no text"),
        (None, "rules: No such file or directory"),
    ],
)
def test_bad_rules_are_named(run, oss, tree, tmp_path, text, told):
    """By file and line, before anything is sent."""
    if text is not None:
        (tmp_path / "rules").write_bytes(text)
    ended = run("put", "data", IN, *KEYS, "--filter-from", "rules")
    assert ended.code == 2
    assert f"--filter-from {told}" in ended.err
    assert not stored(oss)


def test_get_and_rm_take_the_same_rules(run, oss, tree, tmp_path):
    """Relative to the prefix, or to where the pattern begins."""
    run("put", "data/", IN, *KEYS)
    assert run("get", IN, "new/", "-r", *KEYS, "--exclude", "/a.csv").code == 0
    assert {one.name for one in (tmp_path / "new").rglob("*.*")} == {"c.csv", "d e.bin"}
    ended = run("get", f"{IN}b/*", "other/", *KEYS, "--include", "/c.csv")
    assert ended.err.startswith("fetched 1 file, ")
    assert run("rm", IN, "-r", "-y", *KEYS, "--include", "*.bin").code == 0
    assert stored(oss).keys() == {"in/a.csv", "in/b/c.csv"}
    ended = run("rm", IN, "-r", *KEYS, "--include", "*.none")
    assert (ended.code, ended.err) == (0, "deleted 0 files\n")

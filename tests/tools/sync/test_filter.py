"""The last rule that fits decides."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.tools.sync.plan import Filter, Rule

NAMES = ("a.csv", "b.txt", "tmp/a.csv", "tmp/deep/b.txt", "x/tmp/c.csv", "x/y/d.csv")


@pytest.mark.parametrize(
    ("glob", "fits"),
    [
        ("*.csv", {"a.csv", "tmp/a.csv", "x/tmp/c.csv", "x/y/d.csv"}),
        ("/*.csv", {"a.csv"}),
        ("*", set(NAMES)),
        ("**", set(NAMES)),
        ("tmp", {"tmp/a.csv", "tmp/deep/b.txt", "x/tmp/c.csv"}),
        ("tmp/", {"tmp/a.csv", "tmp/deep/b.txt", "x/tmp/c.csv"}),
        ("/tmp/", {"tmp/a.csv", "tmp/deep/b.txt"}),  # noqa: S108 - a glob
        ("tmp/*", {"tmp/a.csv", "tmp/deep/b.txt", "x/tmp/c.csv"}),
        ("a.csv/", set()),
        ("?.txt", {"b.txt", "tmp/deep/b.txt"}),
        ("/x/**/d.csv", {"x/y/d.csv"}),
        ("/x/**/y/d.csv", {"x/y/d.csv"}),
        ("[ab].*", {"a.csv", "b.txt", "tmp/a.csv", "tmp/deep/b.txt"}),
        ("[!ab].*", {"x/tmp/c.csv", "x/y/d.csv"}),
        ("[!a-c].csv", {"x/y/d.csv"}),
        ("tmp?deep", set()),
        ("tmp[!a]deep", set()),
        ("[*].csv", set()),
        ("A.CSV", set()),
    ],
)
def test_glob_fits(glob, fits):
    """Names, and what lies in directories that fit."""
    rule = Rule(takes=True, glob=glob)
    assert {name for name in NAMES if rule.fits(name)} == fits


def test_characters_stand_for_themselves():
    """Characters with a meaning in other tools, and newlines, match themselves."""
    for name in ("a+b(c).|$", "}", ",", "a\nb", "]", "^", "\\", "a{b", "a[b", "{a,b}"):
        assert Rule(takes=True, glob=name).fits(name)
    for name in ("*", "?", "[a]", "a[^b]*"):
        rule = Rule.against(name)
        assert rule.fits(name)
        assert not rule.fits("a")
    assert Rule(takes=True, glob="[]^]").fits("]")
    assert Rule(takes=True, glob="[[&&~||]").fits("&")


@pytest.mark.parametrize("glob", ["", "/", "//", "a**", "/x/**.csv"])
def test_what_is_no_glob_is_refused(glob):
    """With the glob in the message."""
    with pytest.raises(ConfigurationError, match="is not a glob"):
        Rule(takes=True, glob=glob)


@pytest.mark.parametrize(
    ("rules", "taken"),
    [
        ((), set(NAMES)),
        (("- *.csv",), {"b.txt", "tmp/deep/b.txt"}),
        (("+ *.txt",), {"b.txt", "tmp/deep/b.txt"}),
        (("- *", "+ *.txt"), {"b.txt", "tmp/deep/b.txt"}),
        (("+ *.txt", "- *"), set()),
        (("+ *.csv", "- tmp/"), {"a.csv", "x/y/d.csv"}),
        (("- tmp/", "+ /tmp/a.csv"), {"a.csv", "b.txt", "tmp/a.csv", "x/y/d.csv"}),
    ],
)
def test_last_rule_that_fits_decides(rules, taken):
    """If none fits, a name is taken unless the first rule takes."""
    chosen = Filter.of(rules)
    assert {name for name in NAMES if chosen.takes(name)} == taken


@pytest.mark.parametrize(
    ("rules", "skips"),
    [
        ((), False),
        (("- tmp/",), True),
        (("- tmp",), True),
        (("- *.csv",), False),
        (("- *", "+ *.csv"), False),
        (("+ *.csv", "- tmp/"), True),
        (("+ *.csv",), False),
    ],
)
def test_directory_is_skipped_only_if_surely_nothing_in_it_is_taken(rules, skips):
    """A later rule could take something in it."""
    assert Filter.of(rules).skips("x/tmp") is skips

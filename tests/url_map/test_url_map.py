"""What somebody may have meant is found in huge folders too, at a bounded cost."""

from __future__ import annotations

import unicodedata

import pytest

from fsspec_osspresigned.url_map.url_map import Nearest

FOLDER = [f"b/data/2026/part-{n:05}-of-99999.parquet" for n in range(0, 99_999, 7)]
HUGE = Nearest(frozenset(FOLDER))
MEANT = "b/data/2026/part-04942-of-99999.parquet"


@pytest.mark.parametrize(
    "typed",
    [
        MEANT.replace("b/", "c/", 1),
        MEANT.replace("data", "dat"),
        MEANT.replace("data", "daata"),
        MEANT.replace("04942", "0494x"),
        MEANT.replace("04942", "0x942"),
        MEANT.replace("04942", "04x42"),
        MEANT.replace("04942", "049x42"),
        MEANT.replace("04942", "x4942"),
        MEANT.replace("data", "daat"),
        MEANT.replace("of", "fo"),
        MEANT.replace(".parquet", ".parqet"),
        MEANT.replace("/2026/", "/"),
        MEANT.replace("/", "\\"),
        MEANT.replace("/2026/", "//2026/"),
        MEANT.replace("/", "%2F"),
        MEANT.upper(),
        f"/{MEANT}",
    ],
)
def test_one_mistake_in_a_huge_folder(typed):
    """Wherever the mistake stands, what was meant is among the first three."""
    assert MEANT in HUGE.to(typed)


def test_other_ways_to_write_a_name():
    """A name of a Mac, or one that was encoded, is the same name."""
    name = "b/Zürich.csv"
    found = Nearest({name, "b/a b.csv"})
    assert found.to(unicodedata.normalize("NFD", name))[0] == name
    assert found.to("b/a%20b.csv")[0] == "b/a b.csv"
    assert Nearest({"b/a%20b.csv"}).to("b/a b.csv")[0] == "b/a%20b.csv"
    assert Nearest({"b/k"}).to("b/\ud800") == ("b/k",)


def test_question_is_bounded():
    """The longest names, all alike, are compared by what differs at most."""
    names = {"b/" + "ab" * 500 + f"{n:03}" for n in range(200)}
    asked = "b/" + "ba" * 511
    assert Nearest(names).to(asked) == ()

"""Similar paths are found in huge maps, too, at a bounded cost."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.url_map.url_map import MapEntry, URLMap

FOLDER = [f"b/data/2026/part-{n:05}-of-99999.parquet" for n in range(0, 99_999, 7)]
HUGE = URLMap(dict.fromkeys(FOLDER, MapEntry()))
MEANT = "b/data/2026/part-04942-of-99999.parquet"


@pytest.mark.parametrize(
    ("correct", "typed"),
    [
        ("b/", "c/"),
        ("data", "daata"),
        ("04942", "0x942"),
        ("quet", "qet"),
        ("b/", "/b/"),
    ],
)
def test_one_mistake_in_a_huge_folder(correct, typed):
    """The intended path is among the first three suggestions, wherever the mistake is."""
    assert MEANT in HUGE.nearest(MEANT.replace(correct, typed, 1))

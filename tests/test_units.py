"""Sizes, times and rates are read and written as people do."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import units
from fsspec_osspresigned.units import GIB, KIB, MIB


def test_lives():
    """A number and a unit, from a second to a week."""
    assert [units.seconds_of(t) for t in ("1s", "2m", "3h", "7d")] == [
        1,
        120,
        10_800,
        604_800,
    ]
    for bad in ("", "0s", "1", "1w", "8d", "-1h"):
        with pytest.raises(ValueError, match="not a lifetime"):
            units.seconds_of(bad)


def test_sizes():
    """Units are powers of 1024, whatever their spelling."""
    assert units.bytes_of("10") == units.bytes_of("10 B") == 10
    assert units.bytes_of("8MiB") == units.bytes_of("8m") == 8 << 20
    assert units.bytes_of("1T") == 1 << 40
    with pytest.raises(ValueError, match="not a size"):
        units.bytes_of("1.5G")


def test_rates():
    """Sizes per second; the caller says what a number without a unit counts."""
    assert units.rate_of("1.5M/s") == units.rate_of("1.5 MiB") == 1.5 * units.MIB
    assert units.rate_of("500") == units.rate_of("500b") == 500
    assert units.rate_of("2", units.MIB) == units.rate_of("2048K", units.MIB)
    for bad in ("0", "fast", "-1", "1 M/h"):
        with pytest.raises(ValueError, match="not a rate"):
            units.rate_of(bad)


def test_shown():
    """What is shown can be read at a glance, even if it is absurd."""
    assert units.shown_bytes(3 << 30) == "3 GiB"
    assert units.shown_bytes(2048) == "2 KiB"
    assert units.shown_bytes(0) == "0 bytes"
    assert units.shown_seconds(0.5) == "0 s"
    assert units.shown_seconds(90_061) == "1 d 1 h"
    assert units.shown_moment(0) == "1970-01-01T00:00:00Z"
    assert units.shown_moment(1e15) == "1000000000000000 s after 1970"
    assert units.shown_text("a\x1b\u202eb") == "a\\x1b\\u202eb"


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (12.3 * MIB, "12.3 MiB"),
     (512 * KIB, "512 KiB"), (3 * GIB, "3.0 GiB"), (2000 * GIB, "2.0 TiB")],
)  # fmt: skip
def test_bytes_have_three_digits(number, shown):
    """People compare sizes, and copy them from nowhere."""
    assert units.short_bytes(number) == shown

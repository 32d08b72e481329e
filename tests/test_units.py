"""Sizes, times and rates are read and written as people do."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import units


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

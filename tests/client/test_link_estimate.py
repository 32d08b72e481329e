"""What is learned of a link from the requests that were answered."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.client.congestion import LinkEstimate
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.units import KIB, MIB


def estimate(*samples: tuple[int, float]) -> LinkEstimate:
    """Return an estimate that has seen PUTs of these bytes and seconds."""
    made = LinkEstimate()
    for size, seconds in samples:
        made.note(Action.PutObject, size, seconds)
    return made


@pytest.mark.parametrize("samples", [[], [(0, 0.02)], [(MIB, 0.1)], [(500 * KIB, 0.1)]])
def test_half_of_it_says_nothing(samples):
    """Round trip and rate are both needed."""
    assert estimate(*samples).link is None


def test_rate_is_without_the_round_trip():
    """The time of a large body is a round trip, and the bytes at the rate."""
    link = estimate((0, 0.02), (10 * MIB, 1.02)).link
    assert link.round_trip == 0.02
    assert link.rate == pytest.approx(10 * MIB)
    assert not link.parts


def test_a_better_sample_counts_at_once_and_a_worse_one_little():
    """A busy moment does not spoil what is known; a link that changed shows in time."""
    seen = [(0, 0.02), (MIB, 0.12)]
    better = estimate(*seen, (0, 0.01), (MIB, 0.06)).link
    assert better.round_trip == 0.01
    assert better.rate == pytest.approx(20 * MIB)
    worse = estimate(*seen, (0, 0.1), (MIB, 1.03)).link
    assert worse.round_trip == pytest.approx(0.03)
    assert MIB < worse.rate < 10 * MIB
    changed = estimate(*seen, *[(0, 0.1), (MIB, 1.1)] * 50).link
    assert changed.round_trip == pytest.approx(0.1, rel=0.01)
    assert changed.rate == pytest.approx(MIB, rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.02])
def test_a_rate_is_always_finite(seconds):
    """A large request that took no longer than a small one has a rate all the same."""
    assert 0 < estimate((0, 0.02), (MIB, seconds)).link.rate <= 1e6 * MIB


def test_parts_are_known_to_be_permitted():
    """An answered InitiateMultipartUpload says so."""
    made = estimate((0, 0.02), (MIB, 0.1))
    made.note(Action.InitiateMultipartUpload, 0, 0.02)
    assert made.link.parts

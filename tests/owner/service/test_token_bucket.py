"""Token buckets of the service."""

from __future__ import annotations

from fsspec_osspresigned.owner.service.limits import TokenBucket


def test_bucket_refills_evenly_and_allows_one_burst():
    """What goes into debt is waited for, and a long pause fills the bucket once."""
    now = [100.0]
    bucket = TokenBucket(2, 60, 60, lambda: now[0])
    assert [bucket.spend() for _ in range(3)] == [0, 0, 30]
    now[0] += 60
    assert bucket.wait() == 0
    assert bucket.spend(100) == 2970
    assert bucket.wait() == 3000
    now[0] += 1e6
    assert [bucket.spend() for _ in range(3)] == [0, 0, 30]

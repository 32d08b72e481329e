"""Token buckets of the service."""

from __future__ import annotations

from fsspec_osspresigned.owner.service.limits import TokenBucket


def test_bucket_refills_evenly_and_allows_one_burst():
    """What goes into debt is waited for, and a long pause fills the bucket once."""
    now = [100.0]
    bucket = TokenBucket(2, lambda: now[0])

    def waits():
        waited = []
        for _ in range(4):
            waited.append(bucket.wait())
            bucket.spend(1)
        return waited

    assert waits() == [0, 0, 30, 60]
    now[0] += 90
    assert bucket.wait() == 0
    bucket.spend(100)
    assert bucket.wait() == 3000
    now[0] += 1e6
    assert waits() == [0, 0, 30, 60]

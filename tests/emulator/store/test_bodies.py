"""Bodies in memory and in files."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault

BUCKET = "examplebucket"
MIB = 1024 * 1024


def files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


def test_a_large_body_goes_to_a_file(make_client):
    """A body of 64 MiB is spilled: memory grows by a small part of it."""
    with Emulator() as oss:
        client = make_client(oss)

        def body():
            for _ in range(64):
                yield b"x" * MIB

        client.put("warm", body())
        tracemalloc.start()
        try:
            client.put("large", body())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 * MIB
        stored = oss.get(BUCKET, "large")
        assert stored.size == 64 * MIB
        (segment,) = stored.body
        folder = segment.path.parent
        assert files(folder) == 2
        del stored, segment
        client.call("DELETE", "large")
        assert files(folder) == 1
    assert not folder.exists()


def test_an_object_outlives_its_deletion_for_its_reader(make_client):
    """A body that somebody still holds can be read after the object is deleted."""
    with Emulator() as oss:
        client = make_client(oss)
        client.put("k", b"x" * (5 * MIB))
        stored = oss.get(BUCKET, "k")
        client.call("DELETE", "k")
        assert stored.size == len(stored.data()) == 5 * MIB


def test_a_body_that_breaks_off_leaves_nothing(make_client):
    """After a cut body of several MiB no file and no object is left."""
    with Emulator() as oss:
        client = make_client(oss)
        client.put("other", b"x" * (5 * MIB))
        folder = oss.get(BUCKET, "other").body[0].path.parent
        oss.faults.add(Fault(cut_after=8 * MIB))
        with pytest.raises(requests.ConnectionError):
            client.call("PUT", "k", data=b"x" * (20 * MIB))
        assert list(oss.objects(BUCKET)) == ["other"]
        assert files(folder) == 1

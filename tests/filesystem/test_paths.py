"""Paths as callers write them."""

from __future__ import annotations

ROOT = "examplebucket"


def test_paths_lose_their_protocol_one_or_many(fs):
    """Fsspec strips single paths and lists alike."""
    paths = [f"osspresigned://{ROOT}/a/", f"{ROOT}/b"]
    assert fs._strip_protocol(paths) == [f"{ROOT}/a", f"{ROOT}/b"]

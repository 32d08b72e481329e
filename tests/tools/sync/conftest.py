"""A source with a few files, and destinations that are signed in several ways."""

from __future__ import annotations

import os
import time

import pytest

from tests.filesystem.conftest import (  # noqa: F401 - fixtures
    BUCKET,
    Owner,
    environment,
    fs,
    full,
    only,
    owner,
)

FILES = {
    "a.csv": b"a,b\n1,2\n",
    "empty": b"",
    "logs/2026/one.log": b"one\n" * 100,
    "logs/two.log": b"two\n",
    "\N{LATIN SMALL LETTER U WITH DIAERESIS} %2B+&.txt": b"odd name",
}


def write(root, files, *, age=60.0):
    """Write files that were changed *age* seconds ago."""
    then = time.time() - age
    for name, data in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        os.utime(place, (then, then))


@pytest.fixture
def source(tmp_path):
    """A directory of files that are older than what is stored now."""
    root = tmp_path / "source"
    root.mkdir()
    write(root, FILES)
    return root

"""A stamp tells of every change of a file."""

from __future__ import annotations

import os

from fsspec_osspresigned.files import FileStamp


def test_a_stamp_tells_of_a_change(tmp_path):
    """Equal as long as the file is the same; without a file it is empty."""
    path = tmp_path / "one"
    assert FileStamp.read(path) == FileStamp()
    path.write_text("a")
    before = FileStamp.read(path)
    assert FileStamp.read(path) == before != FileStamp()
    path.write_text("ab")
    assert FileStamp.read(path) != before
    os.replace(path, tmp_path / "two")
    assert FileStamp.read(path) == FileStamp()

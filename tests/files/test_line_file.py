"""A file of lines loses no whole line."""

from __future__ import annotations

import os

import pytest

from fsspec_osspresigned.files import LineFile


def test_lines_are_appended_after_a_torn_one(tmp_path):
    """A line that was cut stays apart from the next one."""
    place = str(tmp_path / "lines")
    LineFile.create(place, [b"1\n", b"2"]).close()
    file = LineFile.reopen(place, is_torn=True)
    file.append(b"3\n")
    file.append(b"4\n")
    file.flush()
    file.close()
    file.flush()
    file.append(b"5\n")
    with open(place, "rb") as found:
        assert found.read() == b"1\n2\n3\n4\n"
    assert os.stat(place).st_mode & 0o777 == 0o600


def test_only_an_existing_file_is_reopened(tmp_path):
    """A journal that was removed meanwhile does not come back without its head."""
    with pytest.raises(FileNotFoundError):
        LineFile.reopen(str(tmp_path / "none"))


def test_a_pipe_is_not_written_to(tmp_path):
    """A pipe is refused, with or without a reader."""
    place = str(tmp_path / "pipe")
    os.mkfifo(place)
    with pytest.raises(OSError, match="not a regular file"):
        LineFile.reopen(place)
    end = os.open(place, os.O_RDWR)
    with pytest.raises(OSError, match="not a regular file"):
        LineFile.reopen(place)
    os.close(end)

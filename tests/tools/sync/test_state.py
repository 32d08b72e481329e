"""State files of sync, and their behaviour after crashes."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest

from fsspec_osspresigned.errors import ConfigurationError, UploadInProgressError
from fsspec_osspresigned.tools.sync.plan import Sent
from fsspec_osspresigned.tools.sync.state import SyncState, read_state
from tests.power_cut import PowerCut

ONE = Sent(3, 17, "t", "e", 2**63)
TWO = Sent(0)


@pytest.fixture
def place(tmp_path):
    """The path of the state file."""
    return tmp_path / "state"


def test_what_is_noted_is_there_next_time(place):
    """The last line about an object counts; what was deleted is forgotten."""
    with SyncState(place) as state:
        assert state.rows == {}
        state.record("b/é\n", TWO)
        state.record("b/é\n", ONE)
        state.record("b/gone", ONE)
        state.forget("b/gone")
        state.forget("b/never")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert read_state(place) == {"b/é\n": ONE}
    with SyncState(str(place)) as state:
        assert state.rows == {"b/é\n": ONE}
    assert os.listdir(place.parent) == ["state"]
    assert read_state(place.parent / "none") == {}


def test_torn_or_strange_lines_do_not_count(place):
    """The file is written again then, as a whole."""
    with SyncState(place) as state:
        state.record("b/a", ONE)
    strange = [
        b"no json",
        b"[]",
        b'{"path": 7}',
        b'{"path": "b/b", "size": "3", "mtime_ns": 1, "tag": "", "etag": "", "crc64": 1}',
        b'{"path": "b/b", "tag": ""}',
        b'{"path": "b/b", "size": 3, "more": 1}',
        b'{"path": "b/c", "size": 3, "mti',
    ]
    with place.open("ab") as file:
        file.write(b"\n".join(strange))
    assert read_state(place) == {"b/a": ONE}
    with SyncState(place) as state:
        assert state.rows == {"b/a": ONE}
        state.record("b/d", TWO)
    assert len(place.read_bytes().splitlines()) == 3
    assert read_state(place) == {"b/a": ONE, "b/d": TWO}


def test_a_power_cut_after_the_end_takes_nothing(place, monkeypatch):
    """A power cut after the run loses nothing, also if the file was rewritten."""
    disk = PowerCut(monkeypatch)
    for number in range(20):
        with SyncState(place) as state:
            state.record(f"b/{number % 4}", ONE)
        disk.check(place)
    assert len(read_state(place)) == 4


def test_superseded_lines_are_dropped_in_time(place):
    """Outdated lines are removed, so the file stays small."""
    for _ in range(20):
        with SyncState(place) as state:
            state.record("b/a", ONE)
    assert len(place.read_bytes().splitlines()) == 3


def test_other_files_are_left_alone(place):
    """Somebody has named the wrong one."""
    for text in (
        "precious",
        json.dumps({"what": "sent by osspresigned sync", "version": 2}),
    ):
        place.write_text(text)
        for read in (read_state, SyncState):
            with pytest.raises(ConfigurationError, match="not the state of a sync"):
                read(place)
        assert place.read_text() == text
    assert os.listdir(place.parent) == ["state"]


def test_one_process_at_a_time(place):
    """The second process gets the pid of the first; afterwards the file is free."""
    with (
        SyncState(place),
        pytest.raises(
            UploadInProgressError,
            match=f"process {os.getpid()} .*wait until it has ended",
        ),
    ):
        SyncState(place)
    SyncState(place).__exit__(None, None, None)


def test_link_is_followed_to_the_file(place, tmp_path):
    """The state is written to the target, and the link stays a link."""
    link = tmp_path / "link"
    place.touch()
    link.symlink_to(place)
    with SyncState(link) as state:
        state.record("b/a", ONE)
    assert link.is_symlink()
    assert read_state(place) == {"b/a": ONE}


def full(*_, **__):
    """Be a full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_on_the_way_is_told_once(place, monkeypatch, caplog):
    """A full disk costs records but no upload, and is logged once."""
    with SyncState(place) as state, monkeypatch.context() as patch:
        state.record("b/a", ONE)
        patch.setattr(os, "write", full)
        state.record("b/b", ONE)
        state.forget("b/a")
    assert read_state(place) == {"b/a": ONE}
    assert caplog.text.count("is sent again next time") == 1


def test_a_pipe_is_no_state(place):
    """It is not waited for, and stays."""
    os.mkfifo(place)
    for read in (read_state, SyncState):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            read(place)
    assert stat.S_ISFIFO(place.stat().st_mode)
    assert os.listdir(place.parent) == ["state"]


def test_a_link_to_a_missing_file_creates_nothing(place, tmp_path):
    """Another user may have made that link."""
    place.symlink_to(tmp_path / "target")
    with pytest.raises(ConfigurationError, match=r"state is a link to a missing file"):
        SyncState(place)
    assert os.listdir(tmp_path) == ["state"]
    (tmp_path / "target").touch()
    with SyncState(place) as state:
        state.record("b/a", ONE)
    assert read_state(tmp_path / "target") == {"b/a": ONE}

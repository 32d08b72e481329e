"""A directory of journals: found again, held by one, and never in the way of bytes."""

from __future__ import annotations

import os
import sys

import pytest
from attrs import evolve

from fsspec_osspresigned.errors import ConfigurationError, UploadInProgressError
from fsspec_osspresigned.http.body import Fingerprint
from fsspec_osspresigned.model import PartReceipt
from fsspec_osspresigned.upload.journal import JournalHead, JournalPart, ResumeDirectory
from fsspec_osspresigned.upload.resume import reason_to_start_over

PATH, SOURCE = "examplebucket/k", "/data/a.bin"
MARK = Fingerprint(device=1, inode=2, size=250, mtime_ns=3, ctime_ns=4)
HEAD = JournalHead(
    path=PATH,
    source=SOURCE,
    fingerprint=MARK,
    part_size=100,
    parts=3,
    demands="0" * 64,
    upload_id="U",
    owners=False,
    created=5.0,
)
PART = JournalPart(PartReceipt(part_number=1, size=100, etag="E", crc64=1), "crc64")


@pytest.fixture
def place(tmp_path):
    """A resume directory that it makes."""
    return ResumeDirectory(tmp_path / "deep" / "journals")


def test_a_directory_that_everybody_can_write_is_refused(tmp_path):
    """Others could put journals there."""
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="everybody can write there"):
        ResumeDirectory(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="groups of files")
def test_a_directory_of_another_group_is_refused(tmp_path, monkeypatch):
    """Its members could put journals there; a group of one's own is no danger."""
    tmp_path.chmod(0o770)
    ResumeDirectory(tmp_path)
    monkeypatch.setattr(os, "getegid", lambda: tmp_path.stat().st_gid + 1)
    with pytest.raises(ConfigurationError, match="its group can write there"):
        ResumeDirectory(tmp_path)
    tmp_path.chmod(0o750)
    ResumeDirectory(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="owners of files")
def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    """Its owner could put journals there; root works in directories of others."""
    tmp_path.chmod(0o700)
    owner = tmp_path.stat().st_uid
    os.chown(tmp_path, owner or 12_345, -1)
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigurationError, match="its owner can write there"):
        ResumeDirectory(tmp_path)
    for user in (0, owner):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        ResumeDirectory(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_in_the_place_of_a_journal_is_not_waited_for(place, caplog):
    """The upload continues without a resume file, and the list names existing ones."""
    held = place.hold(PATH, SOURCE)
    held.release()
    os.mkfifo(held.file_path)
    held = place.hold(PATH, SOURCE)
    held.create(HEAD)
    assert not held.keeps
    assert "not a regular file" in caplog.text
    (found,) = place.found()
    assert found.record is None


def test_a_place_that_cannot_be_used_is_refused(tmp_path, monkeypatch):
    """A file, a directory that is not ours to write, a name that no file can have."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"resume_dir=.*file: File exists"):
        ResumeDirectory(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="null"):
        ResumeDirectory("a\0b")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="not writable"):
        ResumeDirectory(tmp_path)


def test_an_upload_is_found_again_by_object_and_file(place):
    """Another object or another file is another upload."""
    held = place.hold(PATH, SOURCE)
    assert held.record is None
    assert not held.keeps
    held.create(HEAD)
    assert held.keeps
    held.append(PART)
    held.release()
    for path, source in (("examplebucket/K", SOURCE), (PATH, "/data/b.bin")):
        other = place.hold(path, source)
        assert other.record is None
        other.release()
    again = place.hold(PATH, SOURCE)
    assert again.record.head == HEAD
    assert again.record.parts == {1: PART}
    again.resume()
    assert again.keeps
    again.append(JournalPart(evolve(PART.part, part_number=2), "none"))
    again.release()
    (found,) = place.found()
    assert set(found.record.parts) == {1, 2}
    assert found.in_use is None


def test_what_is_done_leaves_nothing_behind(place):
    """Journal and lock are gone."""
    held = place.hold(PATH, SOURCE)
    held.create(HEAD)
    held.remove()
    held.remove()
    assert not held.keeps
    held.release()
    assert os.listdir(place.directory) == []


def test_only_one_is_at_an_upload(place):
    """The second process gets the pid of the first, which continues undisturbed."""
    held = place.hold(PATH, SOURCE)
    held.create(HEAD)
    with pytest.raises(UploadInProgressError, match=f"process {os.getpid()} on") as e:
        place.hold(PATH, SOURCE)
    assert e.value.path == PATH
    (found,) = place.found()
    assert found.in_use.startswith(f"process {os.getpid()} on")
    assert found.record.head == HEAD
    with pytest.raises(UploadInProgressError):
        place.hold_name(found.name)
    held.release()
    place.hold_name(found.name).release()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_the_journal_to_its_parent(place, monkeypatch):
    """A forked child cannot release the lock of its parent."""
    held = place.hold(PATH, SOURCE)
    held.create(HEAD)
    child = os.fork()
    if child == 0:  # pragma: no cover - the child ends without its record
        try:
            held.release()
        finally:
            os._exit(0 if sys.exception() is None else 1)
    assert os.waitpid(child, 0)[1] == 0
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)  # as in the child
        held.release()
    with pytest.raises(UploadInProgressError):
        place.hold(PATH, SOURCE)
    held.append(PART)
    held.release()
    assert place.hold(PATH, SOURCE).record.parts == {1: PART}


def test_a_journal_that_cannot_be_read_is_said_and_replaced(place, caplog):
    """The warning names the upload, because it can no longer be found."""
    held = place.hold(PATH, SOURCE)
    held.create(HEAD)
    held.release()
    with open(held.file_path, "r+b") as file:
        file.write(b"?")
    (found,) = place.found()
    assert found.record is None
    held = place.hold(PATH, SOURCE)
    assert held.record is None
    (said,) = caplog.messages
    assert "cannot be read" in said
    held.create(HEAD)
    held.release()
    assert place.hold(PATH, SOURCE).record.head == HEAD


def change(**facts):
    """Return HEAD with another fingerprint."""
    return evolve(HEAD, fingerprint=evolve(MARK, **facts))


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (HEAD, None),
        (evolve(HEAD, created=9.0, upload_id=""), None),
        (change(device=9), None),
        (change(size=251), "the file has 251 bytes, it had 250"),
        (change(mtime_ns=4), "the file has changed"),
        (change(inode=4), "the file has changed"),
        (evolve(HEAD, part_size=101), "parts have 101 bytes now, they had 100 bytes"),
        (evolve(HEAD, demands="1" * 64), "other headers are required"),
        (evolve(HEAD, owners=True), "the grant now differs"),
    ],
)
def test_when_an_upload_begins_anew(new, reason):
    """The upload starts over if stored parts would differ from new ones."""
    assert reason_to_start_over(HEAD, new) == reason

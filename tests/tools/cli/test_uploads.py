"""``osspresigned uploads`` lists what was interrupted, and aborts it."""

from __future__ import annotations

import json
import os

import pytest

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.body import Fingerprint
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.upload.journal import JournalHead, ResumeDirectory

BUCKET = "examplebucket"


@pytest.fixture
def place(tmp_path):
    """The directory of the journals."""
    return str(tmp_path / "journals")


@pytest.fixture
def interrupted(oss, place, tmp_path):
    """Two uploads that failed at their third part, and are kept."""
    fs = OSSPresignedFileSystem(
        signer="keys",
        part_size=MIN_PART,
        multipart_threshold=MIN_PART,
        max_concurrency=1,
        retries=0,
        resume_dir=place,
    )
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(os.urandom(3 * MIN_PART))
        refused = {"status": 403, "code": "AccessDenied"}
        oss.faults.add(Fault(action="UploadPart", part_number=3, **refused))
        with pytest.raises(PermissionError):
            fs.put_file(str(tmp_path / name), f"{BUCKET}/{name}")
    oss.clear()
    return [one.record.head.upload_id for one in ResumeDirectory(place).found()]


def keep(place: str, **facts) -> None:
    """Write a journal that no run of ours has written."""
    head = {
        "path": f"{BUCKET}/o",
        "source": "/data/o",
        "fingerprint": Fingerprint(device=1, inode=1, size=5, mtime_ns=1, ctime_ns=1),
        "part_size": 5,
        "parts": 1,
        "demands": "",
        "upload_id": "U",
        "owners": False,
        "created": 0.0,
        **facts,
    }
    held = ResumeDirectory(place).hold(head["path"], head["source"])
    held.create(JournalHead(**head))
    held.release()


def test_they_are_listed(interrupted, place, tmp_path, capsys):
    """Path, file, size, parts and age of each, and their number."""
    assert cli.main(["uploads", "list", place]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "2 uploads"
    (a,) = (line for line in lines if line.startswith(f"{BUCKET}/a from "))
    assert str(tmp_path / "a") in a
    assert ": 300 KiB, 2 of 3 parts stored, begun " in a
    assert " ago, upload " in a
    assert "in use" not in a


def test_they_are_listed_as_json(interrupted, place, capsys):
    """JSON has sizes in bytes and ages in seconds."""
    assert cli.main(["uploads", "list", place, "--json", f"{BUCKET}/b"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["path"] == f"{BUCKET}/b"
    assert one["upload_id"] in interrupted
    assert (one["size"], one["stored"]) == (3 * MIN_PART, 2 * MIN_PART)
    assert (one["parts"], one["parts_stored"]) == (3, 2)
    assert one["age"] >= 0
    assert one["in_use"] is None


def test_without_a_directory_it_is_that_of_resume(place, monkeypatch, capsys):
    """Uploads kept by --resume are found without naming their directory."""
    monkeypatch.setenv("XDG_STATE_HOME", place)
    keep(f"{place}/osspresigned", owners=True)
    assert cli.main(["uploads", "list"]) == 0
    assert capsys.readouterr().out.endswith("\n1 upload\n")
    assert cli.main(["uploads", "abort", "--yes"]) == 0
    assert cli.main(["uploads", "list"]) == 0
    assert capsys.readouterr().out.endswith("\n0 uploads\n")


def test_they_are_aborted(oss, interrupted, place, capsys):
    """All of them, and nothing is left."""
    assert cli.main(["uploads", "abort", place, "--yes"]) == 0
    assert capsys.readouterr().out.count("is aborted") == 2
    assert oss.uploads(BUCKET) == []
    assert os.listdir(place) == []
    assert cli.main(["uploads", "list", place]) == 0
    assert capsys.readouterr().out == "0 uploads\n"


def test_it_asks_before_it_aborts_all(oss, interrupted, place, run):
    """An answer of no leaves them, and so does a program that cannot be asked."""
    abort = ("uploads", "abort", place)
    ended = run(*abort, stdin=b"n\n", terminal=True)
    assert ended.code == 1
    assert f"{BUCKET}/a\n" in ended.err
    assert "abort 2 uploads? [y/N]" in ended.err
    ended = run(*abort)
    assert ended.code == 2
    assert "give --yes" in ended.err
    assert len(oss.uploads(BUCKET)) == len(os.listdir(place)) == 2
    assert run(*abort, stdin=b"y\n", terminal=True).code == 0
    assert oss.uploads(BUCKET) == os.listdir(place) == []


def test_a_dry_run_aborts_none(oss, interrupted, place, run):
    """It names each of them."""
    ended = run("uploads", "abort", place, "-n")
    assert ended.code == 0
    lines = [f"{BUCKET}/{name}: would be aborted" for name in ("a", "b")]
    assert sorted(ended.out.splitlines()) == lines
    assert len(oss.uploads(BUCKET)) == len(os.listdir(place)) == 2


def test_one_that_is_not_there_is_an_error(interrupted, place, capsys):
    """A misspelt path must not pass for done."""
    assert cli.main(["uploads", "abort", place, f"{BUCKET}/c", f"{BUCKET}/a"]) == 1
    assert f"no interrupted upload in there is of {BUCKET}/c" in capsys.readouterr().err
    assert len(os.listdir(place)) == 2


def test_one_that_is_gone_already_is_done(oss, interrupted, place, capsys):
    """Its journal goes too."""
    oss.store.buckets[BUCKET].uploads.clear()
    assert cli.main(["uploads", "abort", place, "--yes"]) == 0
    assert capsys.readouterr().out.count("no longer existed") == 2
    assert os.listdir(place) == []


def test_another_store_does_not_remove_it(oss, interrupted, place, monkeypatch, capsys):
    """It does not know the upload, which is therefore not gone: both names are said."""
    first = {name: os.environ[name] for name in os.environ if name.startswith("OSS_")}
    with Emulator() as other:
        monkeypatch.setenv("OSS_ENDPOINT", other.url)
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", other.credentials.access_key_id)
        secret = other.credentials.access_key_secret.reveal()
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", secret)
        assert cli.main(["uploads", "abort", place, "--yes"]) == 1
        said = capsys.readouterr().err
        hosts = [url.partition("://")[2] for url in (oss.url, other.url)]
    assert said.count(f"was begun at {hosts[0]}, and {hosts[1]} does not know it") == 2
    assert len(oss.uploads(BUCKET)) == len(os.listdir(place)) == 2
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["uploads", "abort", place, "--yes"]) == 0
    assert oss.uploads(BUCKET) == os.listdir(place) == []


def test_one_that_cannot_be_aborted_is_kept(oss, interrupted, place, capsys):
    """The exit code is 1, and the resume file is kept for another try."""
    refused = {"status": 403, "code": "AccessDenied"}
    oss.faults.add(Fault(action="AbortMultipartUpload", key="a", **refused))
    assert cli.main(["uploads", "abort", place, "--yes"]) == 1
    said = capsys.readouterr()
    assert f"{BUCKET}/a: not aborted: the signing key lacks" in said.err
    assert f"{BUCKET}/b: upload" in said.out
    assert len(os.listdir(place)) == 1


def test_one_that_is_under_way_is_left_alone(interrupted, place, tmp_path, capsys):
    """The list names the process; a running upload is not aborted."""
    held = ResumeDirectory(place).hold(f"{BUCKET}/a", str(tmp_path / "a"))
    assert cli.main(["uploads", "list", place]) == 0
    assert f"in use by process {os.getpid()} on" in capsys.readouterr().out
    assert cli.main(["uploads", "abort", place, "--yes"]) == 1
    assert f"process {os.getpid()}" in capsys.readouterr().err
    held.release()


def test_an_owners_upload_is_forgotten_only(oss, place, capsys):
    """It is not ours to abort: nothing is sent."""
    keep(place, owners=True)
    assert cli.main(["uploads", "list", place]) == 0
    assert "its owner's" in capsys.readouterr().out
    assert cli.main(["uploads", "abort", place, "--yes"]) == 0
    assert "is its owner's to abort" in capsys.readouterr().out
    assert oss.requests == []
    assert os.listdir(place) == []


def test_a_journal_that_cannot_be_read_is_listed_and_removed(oss, place, capsys):
    """There is nothing in it that could be aborted."""
    keep(place)
    (name,) = os.listdir(place)
    with open(os.path.join(place, name), "wb") as file:
        file.write(b"?")
    assert cli.main(["uploads", "list", place]) == 0
    assert f"{name}: cannot be read" in capsys.readouterr().out
    assert cli.main(["uploads", "list", "--json", place]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one == {"journal": name, "path": None, "in_use": None}
    assert cli.main(["uploads", "abort", place, "--yes"]) == 0
    assert f"{name}: its resume file could not be read" in capsys.readouterr().out
    assert os.listdir(place) == []


def test_a_link_among_the_journals_is_left_alone(oss, place, capsys):
    """A link among the resume files is not removed."""
    ResumeDirectory(place)
    os.symlink("/nonexistent", os.path.join(place, "x.upload.jsonl"))
    assert cli.main(["uploads", "abort", place, "--yes"]) == 1
    assert "cannot be locked or read" in capsys.readouterr().err
    assert os.listdir(place) == ["x.upload.jsonl"]

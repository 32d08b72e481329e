"""After a sync down the directory is what the prefix is, and nothing outside changes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from fsspec_osspresigned import (
    ConfigurationError,
    NotCoveredError,
    UploadErrors,
    sync,
    sync_down,
)
from fsspec_osspresigned.client import client
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.tools.cli.sync import exit_code
from tests.tools.sync.conftest import BUCKET, FILES, write

SOURCE = f"{BUCKET}/out"


@pytest.fixture
def stored(fs):
    """A filesystem whose prefix has a few objects, and one beside it."""
    fs.pipe({f"{SOURCE}/{name}": data for name, data in FILES.items()})
    fs.pipe_file(f"{BUCKET}/outside", b"o")
    return fs


@pytest.fixture
def target(tmp_path):
    """A directory that does not exist yet."""
    return tmp_path / "to" / "target"


def files(root):
    """Return name -> bytes of everything below *root* that is not a directory."""
    return {
        place.relative_to(root).as_posix(): place.read_bytes()
        for place in root.rglob("*")
        if not place.is_dir()
    }


def age(root, seconds):
    """Make all files below *root* older."""
    then = time.time() - seconds
    for name in files(root):
        os.utime(root / name, (then, then))


def reasons(result):
    """Return name -> verdict of what is to be fetched."""
    return {item.entry.name: str(item.why) for item in result.plan.send}


def put(owner, key, data):
    """Store an object, whatever its key."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}  # what urllib adds
    url = owner.url(key, headers=form)
    urlopen(Request(url, data=data, method="PUT")).close()


# -- what is fetched ---------------------------------------------------------------------


def test_all_is_fetched_once(stored, full, owner, target):
    """The first run fetches all, the second one nothing, with any signer."""
    result = sync_down(SOURCE, target, filesystem=full)
    assert files(target) == FILES
    assert (result.sent, result.sent_bytes) == (5, sum(map(len, FILES.values())))
    assert (result.verb, exit_code(result), result.is_complete) == ("fetched", 0, True)
    age(target, -60)  # otherwise the times are too close to compare
    owner.oss.clear()
    result = sync_down(f"osspresigned://{SOURCE}/", str(target), filesystem=full)
    assert (result.sent, result.same, exit_code(result)) == (0, 5, 0)
    # If no reply has shown the store's clock, one HeadObject asks for it.
    assert owner.actions().count("HeadObject") <= 1
    assert set(owner.actions()) - {"HeadObject"} == {"ListObjectsV2"}


def test_times_that_are_close_are_settled_by_the_bytes(stored, owner, target):
    """An object of the same seconds is compared, and not fetched."""
    sync_down(SOURCE, target, filesystem=stored)
    owner.oss.clear()
    assert sync_down(SOURCE, target, filesystem=stored).same == 5
    assert "GetObject" not in owner.actions()


def test_only_changes_are_fetched(stored, target):
    """New ones, those of another size, and those stored after the file was fetched."""
    sync_down(SOURCE, target, filesystem=stored)
    age(target, 60)
    (target / "a.csv").write_bytes(b"longer than it was")
    (target / "empty").unlink()
    for name in ("logs/two.log", "logs/2026/one.log"):
        os.utime(target / name, (time.time() + 60,) * 2)
    result = sync_down(SOURCE, target, filesystem=stored)
    odd = next(name for name in FILES if "%" in name)
    assert reasons(result) == {"a.csv": "other size", "empty": "new", odd: "newer"}
    assert files(target) == FILES


@pytest.mark.parametrize("offset", [-300, 300])
def test_clocks_may_differ(monkeypatch, offset, target):
    """The times of objects are by the store's clock, those of files by this one."""
    with Emulator() as oss:
        oss.clock.offset = offset
        key = oss.credentials
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
        options = {"signer": "keys", "endpoint": oss.url, "region": "cn-hangzhou"}
        fs = OSSPresignedFileSystem(**options)
        fs.pipe({f"{SOURCE}/{name}": b"x" for name in ("older", "younger")})
        sync_down(SOURCE, target, filesystem=fs)
        os.utime(target / "older", (time.time() - 60,) * 2)
        os.utime(target / "younger", (time.time() + 60,) * 2)
        OSSPresignedFileSystem.clear_instance_cache()
        client.reset()
        again = sync_down(SOURCE, target, storage_options=options, dry_run=True)
        assert reasons(again) == {"older": "newer"}


def test_object_that_is_replaced_meanwhile_is_fetched_next_time(stored, owner, target):
    """The time of a file is that at which its download began."""
    old, new = FILES["a.csv"], FILES["a.csv"].upper()
    stall = {"stall_reply_after": 1, "stall_for": 0.5}
    owner.oss.faults.add(Fault(action="GetObject", key="out/a.csv", **stall))
    replaced: list[float] = []

    def replace():
        owner.wait_for_faults()  # the download has begun
        replaced.append(time.time())
        put(owner, "out/a.csv", new)

    before = time.time()
    thread = threading.Thread(target=replace)
    thread.start()
    sync_down(SOURCE, target, filesystem=stored)
    thread.join()
    assert (target / "a.csv").read_bytes() == old
    assert before - 1 <= (target / "a.csv").stat().st_mtime <= replaced[0]
    sync_down(SOURCE, target, filesystem=stored)
    assert (target / "a.csv").read_bytes() == new


def test_filters_hold_on_both_sides(stored, target):
    """Excluded objects are neither fetched nor deleted."""
    write(target, {"old.log": b"old", "old.csv": b"old"})
    rules = ["- *.log"]
    result = sync_down(SOURCE, target, filesystem=stored, filters=rules, delete=True)
    assert result.deleted == ["old.csv"]
    expected = {n: d for n, d in FILES.items() if not n.endswith(".log")}
    assert files(target) == {**expected, "old.log": b"old"}


def test_there_and_back(stored, source, target):
    """Uploaded files come back unchanged, and a second run does nothing."""
    sync(source, f"{BUCKET}/both", filesystem=stored)
    sync_down(f"{BUCKET}/both", target, filesystem=stored)
    assert files(target) == FILES
    assert sync(target, f"{BUCKET}/both", filesystem=stored).sent == 0


# -- deleting ----------------------------------------------------------------------------


def test_delete_deletes_exactly_what_it_lists(stored, target, tmp_path):
    """Files and links to files; no directory, and nothing that a link leads to."""
    kept = tmp_path / "kept"
    write(kept, {"a": b"a"})
    write(
        target,
        {"old": b"old", "logs/older": b"older", ".osspresigned-" + "0" * 16: b""},
    )
    (target / "link").symlink_to(kept / "a")
    (target / "directory").symlink_to(kept)
    asked = []
    result = sync_down(
        SOURCE, target, filesystem=stored, delete=True, confirm=asked.extend
    )
    names = ["link", "logs/older", "old"]
    assert sorted(result.deleted) == sorted(one.name for one in asked) == names
    assert files(kept) == {"a": b"a"}
    assert (target / "directory").is_symlink()
    assert set(files(target)) >= set(FILES)


def test_empty_source_deletes_nothing(stored, target):
    """A prefix with a mistake in it looks like an empty one."""
    write(target, {"old": b"old"})
    for more in ({}, {"max_delete": 9}):
        with pytest.raises(FileNotFoundError, match="the source does not exist"):
            sync_down(f"{BUCKET}/nope", target, filesystem=stored, delete=True, **more)
    with pytest.raises(ConfigurationError, match="all 1 files would be deleted"):
        sync_down(
            SOURCE, target, filesystem=stored, filters=["- *", "+ old"], delete=True
        )
    assert files(target) == {"old": b"old"}


def test_nothing_is_deleted_after_a_failure(stored, owner, target):
    """Nothing is deleted if a download fails or a key cannot be a file."""
    write(target, {"old": b"old"})
    owner.oss.faults.add(Fault(action="GetObject", key="out/a.csv", refuse="denied"))
    with pytest.raises(UploadErrors, match="4 of 5 files fetched") as caught:
        sync_down(SOURCE, target, filesystem=stored, delete=True)
    assert list(caught.value.failures) == ["a.csv"]
    assert "a.csv" not in files(target)
    assert "old" in files(target)


# -- never outside, and never half -------------------------------------------------------


@pytest.mark.parametrize("key", ["../x", "logs/../../x", "a/./b", "/etc/x", "a//b"])
def test_key_that_leads_out_fails_alone(stored, owner, target, key):
    """All other objects are fetched, and nothing is beside the directory."""
    put(owner, f"out/{key}", b"out")
    with pytest.raises(UploadErrors, match="is not fetched") as caught:
        sync_down(SOURCE, target, filesystem=stored)
    assert list(caught.value.failures) == [key]
    assert files(target.parent) == {f"target/{n}": d for n, d in FILES.items()}


@pytest.fixture
def folding(tmp_path, monkeypatch):
    """A directory on a file system that keeps case, but finds names in any case."""
    root = tmp_path / "folding"
    root.mkdir()
    listdir = os.listdir

    def real(path):
        if not (isinstance(path, str | Path) and str(path).startswith(f"{root}/")):
            return path
        here = str(root)
        for name in Path(path).relative_to(root).parts:
            names = listdir(here) if Path(here).is_dir() else []
            found = (known for known in names if known.lower() == name.lower())
            here = f"{here}/{next(found, name)}"
        return here

    def fold(name):
        function = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, **kwargs: function(*map(real, args), **kwargs)
        )

    for name in ("lstat", "mkdir", "open", "rename", "replace", "stat", "unlink"):
        fold(name)
    monkeypatch.setattr(
        os, "utime", lambda path, ns, utime=os.utime: utime(real(path), ns=ns)
    )
    return root


def test_new_case_of_a_name(fs, folding):
    """The new object replaces the file, which is not deleted as one that is extra."""
    fs.pipe_file(f"{SOURCE}/Data/Report.csv", b"old")
    options = {"filesystem": fs, "delete": True}
    sync_down(SOURCE, folding, **options)
    fs.mv_file(f"{SOURCE}/Data/Report.csv", f"{SOURCE}/data/report.csv")
    fs.pipe_file(f"{SOURCE}/data/report.csv", b"new")
    assert sync_down(SOURCE, folding, **options, dry_run=True).plan.extra == []
    result = sync_down(SOURCE, folding, **options)
    assert (result.sent, result.deleted) == (1, [])
    assert list(files(folding).values()) == [b"new"]


@pytest.mark.parametrize("names", [("a", "A"), ("d/x", "D/x")])
def test_two_keys_that_are_one_file(fs, folding, names):
    """No object takes the place of another one; elsewhere both are files."""
    first, second = names
    fs.pipe({f"{SOURCE}/{name}": name.encode() for name in names})
    with pytest.raises(ConfigurationError, match="would be one file"):
        fs.get(f"{SOURCE}/", f"{folding}/", recursive=True)
    with pytest.raises(ConfigurationError, match="would be one file"):
        sync_down(SOURCE, folding, filesystem=fs)
    sync_down(SOURCE, folding, filesystem=fs, filters=[f"- /{second}"])
    with pytest.raises(ConfigurationError, match="file that was not listed"):
        sync_down(SOURCE, folding, filesystem=fs)
    assert files(folding) == {first: first.encode()}
    elsewhere = folding.parent / "elsewhere"
    assert sync_down(SOURCE, elsewhere, filesystem=fs).sent == 2
    fs.get(f"{SOURCE}/", f"{elsewhere}/", recursive=True)
    assert files(elsewhere) == {name: name.encode() for name in names}


def test_link_to_a_directory_is_not_followed(stored, owner, target, tmp_path):
    """It is found before the first byte, wherever it leads."""
    (tmp_path / "elsewhere").mkdir()
    target.mkdir(parents=True)
    (target / "logs").symlink_to(tmp_path / "elsewhere")
    owner.oss.clear()
    with pytest.raises(ConfigurationError, match="link to a directory"):
        sync_down(SOURCE, target, filesystem=stored)
    assert "GetObject" not in owner.actions()
    assert files(tmp_path / "elsewhere") == {}


def test_link_that_appears_meanwhile_is_not_followed(stored, target, tmp_path):
    """The directory of each file is checked again before its download or deletion."""
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere", {"older": b"older"})
    write(target, {"logs/older": b"older"})

    def swap(event):
        if event.kind == "plan":
            (target / "logs" / "older").unlink()
            (target / "logs").rmdir()
            (target / "logs").symlink_to(tmp_path / "elsewhere")

    options = {"filesystem": stored, "on_event": swap, "on_error": "return"}
    result = sync_down(SOURCE, target, filters=["- *.log"], delete=True, **options)
    assert list(result.failed) == ["logs/older"]
    (target / "logs").unlink()
    write(target, {"logs/older": b"older"})
    result = sync_down(SOURCE, target, **options)
    assert set(result.failed) == {"logs/2026/one.log", "logs/two.log"}
    assert files(tmp_path / "elsewhere") == {"older": b"older"}


def test_link_to_a_file_is_replaced_by_the_file(stored, target, tmp_path):
    """The target of a link stays unchanged."""
    write(tmp_path, {"theirs": b"theirs"})
    target.mkdir(parents=True)
    (target / "a.csv").symlink_to(tmp_path / "theirs")
    sync_down(SOURCE, target, filesystem=stored)
    assert not (target / "a.csv").is_symlink()
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert files(target) == FILES


def _file_for_a_directory(target):
    write(target, {"logs": b"a file"})


def _directory_for_a_file(target):
    (target / "a.csv").mkdir(parents=True)


def _pipe_for_a_file(target):
    target.mkdir(parents=True)
    os.mkfifo(target / "a.csv")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_file_for_a_directory, "needs the directory"),
        (_directory_for_a_file, "an existing directory"),
        (_pipe_for_a_file, "would replace a pipe"),
    ],
)
def test_conflicts_are_found_before_the_first_byte(stored, owner, target, make, why):
    """Nothing is fetched, and nothing is deleted."""
    make(target)
    owner.oss.clear()
    with pytest.raises(ConfigurationError, match=why):
        sync_down(SOURCE, target, filesystem=stored, delete=True)
    assert "GetObject" not in owner.actions()


def test_object_below_an_object_is_a_conflict(stored, target):
    """One of them would be a file, and a directory as well."""
    stored.pipe_file(f"{SOURCE}/logs", b"an object")
    with pytest.raises(ConfigurationError, match="would be a file, where"):
        sync_down(SOURCE, target, filesystem=stored)
    assert not target.exists()


def test_damaged_download_leaves_the_old_file(stored, owner, target):
    """A file is replaced only if the CRC-64 agrees."""
    write(target, {"a.csv": b"the old one"})
    owner.oss.faults.add(
        Fault(action="GetObject", key="out/a.csv", wrong_crc=True, times=None)
    )
    result = sync_down(SOURCE, target, filesystem=stored, on_error="return")
    assert list(result.failed) == ["a.csv"]
    assert files(target) == {**FILES, "a.csv": b"the old one"}


# -- what is not signed, and wrong calls -------------------------------------------------


def test_listing_must_be_signed(stored, only, target):
    """Without a listing the source is unknown, and does not count as empty."""
    with pytest.raises(NotCoveredError):
        sync_down(SOURCE, target, filesystem=only("GetObject"), delete=True)

"""Answers of a filesystem with write-only permission."""

from __future__ import annotations

import os
import warnings

import pytest

from fsspec_osspresigned.client.local_index import BODY_CAP
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    ExistenceNotVerifiedWarning,
    NetworkError,
    NotCoveredError,
    ObjectExistsError,
    RefusalReason,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from tests.filesystem.conftest import VERBS

ROOT = "examplebucket"


@pytest.mark.filterwarnings("ignore:listing .* is not granted")
def test_own_objects_answer(blind):
    """Objects of this process exist, with size, checksums and directories."""
    receipt = blind.pipe_file(f"{ROOT}/d/e/a.json", b"{}")
    blind.pipe_file(f"{ROOT}/d/b", b"b")
    path = f"{ROOT}/d/e/a.json"
    info = blind.info(f"osspresigned://{path}")
    assert info["name"] == path
    assert info["size"] == 2
    assert info["type"] == "file"
    assert info["ETag"] == receipt.etag
    assert info["crc64"] == receipt.crc64
    assert blind.exists(path)
    assert blind.isfile(path)
    assert not blind.isdir(path)
    assert blind.isdir(f"{ROOT}/d/e/")
    assert blind.isdir(f"{ROOT}/d")
    assert blind.isdir(ROOT)
    assert blind.isdir("")
    assert blind.ls(f"{ROOT}/d", detail=False) == [f"{ROOT}/d/b", f"{ROOT}/d/e"]
    assert blind.ls(path, detail=False) == [path]
    assert blind.find(ROOT) == [f"{ROOT}/d/b", path]
    assert blind.find(path) == [path]
    assert list(blind.find(ROOT, withdirs=True, detail=True)) == [
        ROOT,
        f"{ROOT}/d",
        f"{ROOT}/d/b",
        f"{ROOT}/d/e",
        path,
    ]
    assert blind.find(ROOT, maxdepth=2) == [f"{ROOT}/d/b"]
    assert blind.glob(f"{ROOT}/d/*") == [f"{ROOT}/d/b", f"{ROOT}/d/e"]
    assert blind.created(path) == blind.modified(path)
    assert abs(blind.created(path).timestamp() - receipt.stored_at) < 1e-3
    blind.invalidate_cache()


@pytest.mark.parametrize("ask", ["find", "glob", "du"])
def test_a_search_in_memory_says_that_it_is_partial(blind, ask):
    """As ls does, once per bucket; a search that finds nothing has another warning."""
    blind.pipe_file(f"{ROOT}/d/a", b"a")
    place = f"{ROOT}/d/*" if ask == "glob" else f"{ROOT}/d"
    with pytest.warns(
        ExistenceNotVerifiedWarning, match="only objects that this process wrote"
    ):
        assert getattr(blind, ask)(place) == (1 if ask == "du" else [f"{ROOT}/d/a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert blind.find(ROOT) == [f"{ROOT}/d/a"]
        assert blind.ls(ROOT, detail=False) == [f"{ROOT}/d"]


def test_own_bodies_are_read_back(blind, tmp_path):
    """Tools that read their own metadata back (zarr, xarray) find it."""
    path = f"{ROOT}/zarr.json"
    blind.pipe_file(path, b"0123456789")
    assert blind.cat_file(path) == b"0123456789"
    assert blind.cat_file(path, 2, 4) == b"23"
    assert blind.cat_file(path, -2) == b"89"
    assert blind.open(path).read() == b"0123456789"
    assert blind.open(path, "r").read() == "0123456789"
    blind.get_file(path, tmp_path / "new" / "a")
    assert (tmp_path / "new" / "a").read_bytes() == b"0123456789"
    blind.get_file(f"{ROOT}", tmp_path / "directory")
    assert (tmp_path / "directory").is_dir()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("size", [0, 10, 300_000, BODY_CAP])
def test_all_verbs_keep_small_bodies(blind, owner, tmp_path, verb, size):
    """What can be read back does not depend on how the object was stored."""
    data, path = os.urandom(size), f"{ROOT}/d/a"
    if size:  # a request that is sent again changes nothing
        owner.oss.faults.add(Fault(action="PutObject", status=500))
    VERBS[verb](blind, path, data, tmp_path)
    assert blind.cat_file(path) == data
    with blind.transaction:
        VERBS[verb](blind, path, data[::-1], tmp_path)
    assert blind.cat_file(path) == data[::-1]
    VERBS[verb](blind, path, bytes(BODY_CAP + 1), tmp_path)
    with pytest.raises(PermissionError, match="this process wrote it"):
        blind.cat_file(path)


def test_an_own_body_that_was_too_large_is_no_missing_object(blind, tmp_path):
    """An own object that cannot be read back is refused, never called missing."""
    path = f"{ROOT}/big"
    blind.pipe_file(path, bytes(BODY_CAP + 1))
    assert blind.exists(path)
    for read in (
        lambda: blind.cat_file(path),
        lambda: blind.open(path),
        lambda: blind.get_file(path, tmp_path / "a"),
    ):
        with pytest.raises(PermissionError, match="this process wrote it"):
            read()
    assert not list(tmp_path.iterdir())


def test_the_unknown_is_missing_with_one_warning_a_root(blind, oss):
    """Blind answers are said once, and never become requests."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for look in (blind.info, blind.ls, blind.cat_file, blind.open, blind.rm_file):
            with pytest.raises(FileNotFoundError):
                look(f"{ROOT}/x")
        assert not blind.exists(f"{ROOT}/x")
        assert not blind.isfile(f"{ROOT}/x")
        assert not blind.isdir(f"{ROOT}/x")
        assert blind.find(f"{ROOT}/x") == []
        assert blind.glob(f"{ROOT}/x*") == []
        with pytest.raises(FileNotFoundError):
            blind.rm(f"{ROOT}/x", recursive=True)
        with pytest.raises(FileNotFoundError):
            blind.cp_file(f"{ROOT}/x", f"{ROOT}/y")
        assert not blind.exists("other/x")
    roots = [
        str(w.message) for w in caught if w.category is ExistenceNotVerifiedWarning
    ]
    assert len(roots) == 2
    assert "'examplebucket'" in roots[0]
    assert "'other'" in roots[1]
    assert not oss.requests


def test_the_unknown_is_an_error_if_that_is_wanted(only):
    """``if_unverifiable="error"`` refuses to guess."""
    fs = only(if_unverifiable="error")
    for look in (fs.info, fs.ls, fs.cat_file, fs.open, fs.rm_file, fs.exists, fs.find):
        with pytest.raises(PermissionError, match="unknown"):
            look(f"{ROOT}/x")
    fs.pipe_file(f"{ROOT}/x", b"x")
    assert fs.exists(f"{ROOT}/x")


def test_directories_are_remembered(blind, oss):
    """Directories that a writer makes exist for this process, because OSS has none."""
    blind.mkdir(f"{ROOT}/a/b", create_parents=True, mode=0o777)
    blind.makedirs(f"osspresigned://{ROOT}/c/", exist_ok=True)
    with pytest.warns(
        ExistenceNotVerifiedWarning, match="only objects that this process wrote"
    ):
        assert blind.ls(f"{ROOT}/a/b") == []
    assert blind.isdir(f"{ROOT}/a")
    assert blind.isdir(f"{ROOT}/c")
    assert blind.find(f"{ROOT}/c") == []
    assert blind.find(f"{ROOT}/c", withdirs=True) == [f"{ROOT}/c"]
    assert blind.find(f"{ROOT}/a", withdirs=True) == [f"{ROOT}/a", f"{ROOT}/a/b"]
    with pytest.raises(PermissionError):
        blind.rm_file(f"{ROOT}/c")
    blind.rmdir(f"{ROOT}/c")
    with pytest.warns(ExistenceNotVerifiedWarning):
        assert not blind.isdir(f"{ROOT}/c")
    assert not oss.requests


def test_what_is_seen_wins_over_what_is_remembered(only):
    """If HEAD is signed, the store answers, not our record."""
    fs = only("HeadObject", "DeleteObject")
    fs.pipe_file(f"{ROOT}/d/x", b"x")
    fs.rm_file(f"{ROOT}/d/x")
    assert not fs.exists(f"{ROOT}/d/x")
    fs.pipe_file(f"{ROOT}/d/x", b"x")
    assert fs.isdir(f"{ROOT}/d")
    assert not fs.isdir(f"{ROOT}/e")


def test_what_is_seen_but_not_read_exists(only, fs):
    """With HEAD alone, an object cannot be read, and one that HEAD misses is missing."""
    fs.pipe_file(f"{ROOT}/x", b"x")
    looks = only("HeadObject")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert looks.info(f"{ROOT}/x")["size"] == 1
        with pytest.raises(NotCoveredError, match="GetObject"):
            looks.cat(f"{ROOT}/x")
        with pytest.raises(FileNotFoundError):
            looks.cat(f"{ROOT}/none")


def test_an_own_directory_that_others_emptied_holds_nothing(only, fs):
    """A listing shows that others have removed the object."""
    lists = only("ListObjectsV2")
    lists.pipe_file(f"{ROOT}/d/x", b"x")
    fs.rm_file(f"{ROOT}/d/x")
    assert lists.find(f"{ROOT}/d") == []


# -- an object beside a directory of its name ---------------------------------------------

BESIDE = {f"{ROOT}/c/x": b"x", f"{ROOT}/c/x/y": b"y", f"{ROOT}/c/z": b"z"}


@pytest.fixture(params=["seen", "remembered"])
def beside(request, fs, blind):
    """A filesystem with one, which the store lists, or memory alone knows."""
    one = fs if request.param == "seen" else blind
    one.pipe(BESIDE)
    return one


@pytest.mark.filterwarnings("ignore:listing .* is not granted")
def test_an_object_is_listed_beside_the_directory_of_its_name(beside):
    """Each verb sees both the object and the directory."""
    kinds = [(item["name"], item["type"]) for item in beside.ls(f"{ROOT}/c")]
    x = f"{ROOT}/c/x"
    assert kinds == [(x, "directory"), (x, "file"), (f"{ROOT}/c/z", "file")]
    assert beside.find(f"{ROOT}/c") == sorted(BESIDE)
    assert beside.glob(f"{ROOT}/c/*") == [x, f"{ROOT}/c/z"]
    assert list(beside.walk(f"{ROOT}/c")) == [
        (f"{ROOT}/c", ["x"], ["x", "z"]),
        (x, [], ["y"]),
    ]
    assert beside.cat(f"{ROOT}/c", recursive=True) == BESIDE
    assert beside.cat(x, recursive=True) == {x: b"x", f"{x}/y": b"y"}


@pytest.mark.parametrize("path", ["c/x", "c", "c/*", "c/x*", ["c/x", "c/z"]])
def test_an_object_is_removed_with_the_directory_of_its_name(fs, owner, path):
    """Nothing that was meant is left, whatever was said."""
    fs.pipe(BESIDE)
    several = isinstance(path, list)
    names = [f"{ROOT}/{one}" for one in (path if several else [path])]
    fs.rm(names if several else names[0], recursive=True)
    assert set(owner.stored()) <= {"c/z"}
    assert ("c/z" in owner.stored()) == ("x" in path)


def test_an_object_is_copied_with_the_directory_of_its_name(fs, owner):
    """In a store one does not exclude the other."""
    fs.pipe(BESIDE)
    fs.copy(f"{ROOT}/c", f"{ROOT}/d", recursive=True)
    assert {key for key in owner.stored() if key[0] == "d"} == {"d/x", "d/x/y", "d/z"}


@pytest.mark.parametrize("path", ["c", "c/x"])
def test_get_finds_an_object_that_would_be_a_directory(beside, tmp_path, path):
    """Before the first byte, for on a disk one excludes the other."""
    with pytest.raises(ConfigurationError, match="would be a file, where"):
        beside.get(f"{ROOT}/{path}", str(tmp_path / "new"), recursive=True)
    assert not list(tmp_path.iterdir())


def test_get_of_a_pattern_finds_an_object_that_would_be_a_directory(fs, tmp_path):
    """As for the directory itself."""
    fs.pipe(BESIDE)
    with pytest.raises(ConfigurationError, match="would be a file, where"):
        fs.get(f"{ROOT}/c/*", str(tmp_path / "new"), recursive=True)
    assert not list(tmp_path.iterdir())


def test_get_finds_what_is_in_the_way_before_the_first_byte(fs, tmp_path):
    """A directory where a file would be, and a file where a directory would be."""
    fs.pipe({f"{ROOT}/c/a": b"a", f"{ROOT}/c/d/e": b"e"})
    (tmp_path / "one" / "a").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="an existing directory"):
        fs.get(f"{ROOT}/c/", f"{tmp_path}/one", recursive=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "d").touch()
    with pytest.raises(ConfigurationError, match="needs the directory"):
        fs.get(f"{ROOT}/c/", f"{tmp_path}/two", recursive=True)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
    assert left == {"one", "one/a", "two", "two/d"}


# -- a bucket that does not exist ----------------------------------------------------------


def test_a_bucket_that_does_not_exist_is_not_there(fs, only):
    """The store says so where listing is signed; else a bucket is a directory."""
    assert not fs.exists("no-such-bucket")
    assert not fs.isdir("no-such-bucket")
    for look in (fs.info, fs.ls, fs.rm, fs.find):
        with pytest.raises(FileNotFoundError):
            look("no-such-bucket")
    assert not fs.exists("no-such-bucket/a")
    assert fs.isdir(ROOT)
    assert fs.isdir("")
    fs.rm(ROOT)
    assert only().isdir("no-such-bucket")
    assert only("GetObject").isdir("no-such-bucket")


@pytest.mark.parametrize("verb", ["info", "exists", "ls", "cat_file"])
def test_an_object_that_may_be_stored_is_not_called_missing(only, owner, verb):
    """The reply was lost: this process does not know, and does not replace it."""
    fs = only(retries=0)
    owner.oss.faults.add(Fault(action="PutObject", drop_reply=True))
    with pytest.raises(NetworkError):
        fs.pipe_file(f"{ROOT}/a", b"new")
    with pytest.raises(PermissionError, match="unknown"):
        getattr(fs, verb)(f"{ROOT}/a")
    with pytest.raises(ObjectExistsError):  # a tool may ignore the error
        fs.pipe_file(f"{ROOT}/a", b"newer")
    assert owner.stored() == {"a": b"new"}


def test_a_disabled_key_is_no_missing_object(oss):
    """Listing is granted and finds nothing below; the refusal of HeadObject is raised."""
    fs = OSSPresignedFileSystem(signer="keys")
    fs.pipe_file(f"{ROOT}/a", b"x")
    oss.faults.add(Fault(action="HeadObject", refuse="key-disabled"))
    with pytest.raises(AccessDeniedError) as caught:
        fs.find(f"{ROOT}/a")
    assert caught.value.reason is RefusalReason.KEY_DISABLED

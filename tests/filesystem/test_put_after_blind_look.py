"""Writes to paths that were reported as missing without the store replace nothing."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    ExistenceNotVerifiedWarning,
    NotCoveredError,
    ObjectExistsError,
    OutcomeUnknownError,
    UploadErrors,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from tests.filesystem.conftest import WRITES, OnlyActions, forked
from tests.form_signer import grant_of

ROOT = "examplebucket"
PATH = f"{ROOT}/d/a"
BIG = bytes(300_000)
PARTS = {"part_size": 102_400, "multipart_threshold": 102_400}


pytestmark = pytest.mark.filterwarnings("ignore:.* is not granted")


@pytest.fixture
def store_options():
    """One bucket keeps versions."""
    return {"versioned": ["versioned"]}


@pytest.fixture
def old(fs):
    """An object of another process."""
    fs.pipe_file(PATH, b"old")
    return b"old"


def look(fs, verb, path, **options):
    """Look at a path; a tool takes the error for the answer "missing"."""
    try:
        return getattr(fs, verb)(path, **options)
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("path", [PATH, f"{ROOT}/d"])
@pytest.mark.parametrize(
    ("verb", "options"),
    [
        *((verb, {}) for verb in ("info", "exists", "ls", "find", "du", "cat_file")),
        *(("open", {}), ("rm_file", {}), ("rm", {"recursive": True})),
        ("cat", {"recursive": True}),
    ],
)
def test_an_object_that_a_look_missed_is_kept(blind, owner, old, verb, options, path):
    """A tool acts on the answer: what it writes there must be new."""
    assert not look(blind, verb, path, **options)
    with pytest.raises(ObjectExistsError, match=r"stays as it is.*overwrite=True"):
        blind.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": old}
    blind.pipe_file(f"{ROOT}/d/b", b"new")
    blind.pipe_file(f"{ROOT}/d/b", b"newer")  # its own
    with pytest.raises(ObjectExistsError, match="this process itself has stored"):
        blind.pipe_file(f"{ROOT}/d/b", b"newest", overwrite=False)
    assert owner.stored() == {"d/a": old, "d/b": b"newer"}


def test_a_pattern_is_a_look_too(blind, owner, old):
    """It lists the directory, as a prefix does."""
    assert blind.glob(f"{ROOT}/d/*") == blind.find(f"{ROOT}/d", prefix="x") == []
    with pytest.raises(ObjectExistsError), blind.open(PATH, "wb") as file:
        file.write(b"new")
    assert owner.stored() == {"d/a": old}


@pytest.mark.parametrize("verb", ["isfile", "isdir"])
def test_the_kind_of_a_path_is_no_such_look(blind, only, owner, old, verb):
    """DuckDB asks before each write, also where it overwrites; ``error`` refuses."""
    assert old
    assert not look(blind, verb, PATH)
    blind.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": b"new"}
    with pytest.raises(PermissionError, match="unknown"):
        getattr(only(if_unverifiable="error"), verb)(PATH)


def test_the_destination_of_put_is_no_such_look(blind, owner, old, tmp_path):
    """Uploads without a check replace an existing object each time."""
    assert old
    (tmp_path / "a").write_bytes(b"new")
    blind.put(str(tmp_path / "a"), PATH)
    blind.put([str(tmp_path / "a")], f"{ROOT}/d/")
    assert owner.stored() == {"d/a": b"new"}


@pytest.mark.parametrize("verb", ["find", "ls"])
def test_a_directory_that_was_made_is_listed_blindly(blind, only, owner, old, verb):
    """A directory made by ``mkdir`` may contain objects of others."""
    blind.mkdir(f"{ROOT}/d")
    with pytest.warns(ExistenceNotVerifiedWarning, match="listing .* is not granted"):
        assert getattr(blind, verb)(f"{ROOT}/d") == []
    with pytest.raises(ObjectExistsError):
        blind.pipe_file(PATH, b"new")
    strict = only(if_unverifiable="error")
    strict.mkdir(f"{ROOT}/d")
    with pytest.raises(PermissionError, match="unknown"):
        getattr(strict, verb)(f"{ROOT}/d")
    strict.pipe_file(f"{ROOT}/d/own", b"own")
    with pytest.raises(PermissionError, match="unknown"):  # incomplete
        getattr(strict, verb)(f"{ROOT}/d")
    with pytest.raises(ObjectExistsError):  # a tool may ignore the error
        strict.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": old, "d/own": b"own"}


def test_a_look_without_listing_knows_no_directory(only, owner, old):
    """HEAD finds no object of that name; what is below is not seen."""
    fs = only("HeadObject")
    assert not fs.exists(f"{ROOT}/d")
    with pytest.raises(ObjectExistsError):
        fs.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": old}
    fs.pipe_file(f"{ROOT}/d", b"new")
    with pytest.raises(PermissionError, match="unknown"):
        only("HeadObject", if_unverifiable="error").find(f"{ROOT}/e")


def test_looks_that_the_store_answered_protect_nothing(full, owner, old):
    """They were true."""
    assert old
    assert not full.exists(f"{ROOT}/e")
    full.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": b"new"}


@pytest.mark.parametrize("place", ["filesystem", "call"])
def test_who_wants_to_overwrite_says_so(only, owner, old, place):
    """``overwrite=True`` replaces objects that no look could see."""
    assert old
    given = {"overwrite": True}
    fs = only(**given) if place == "filesystem" else only()
    assert not fs.exists(PATH)
    fs.pipe_file(PATH, b"new", **(given if place == "call" else {}))
    assert owner.stored() == {"d/a": b"new"}


def test_headers_of_the_user_are_sent_as_they_are(blind, owner, old):
    """A header that allows to overwrite is as clear as the option."""
    assert old
    assert not blind.exists(PATH)
    headers = {"X-OSS-Forbid-Overwrite": "false"}
    blind.pipe_file(PATH, b"new", headers=headers)
    assert owner.stored() == {"d/a": b"new"}


def test_parts_keep_an_object_too(only, owner, oss, fs, old):
    """Objects that exist at the start, or appear during the upload, are kept."""
    blind = only(**PARTS)
    assert not blind.exists(PATH)
    assert not blind.exists(f"{ROOT}/d/late")
    oss.clear()
    with pytest.raises(ObjectExistsError):
        blind.pipe_file(PATH, BIG)
    assert owner.actions() == ["InitiateMultipartUpload"]
    with pytest.raises(ObjectExistsError), blind.open(f"{ROOT}/d/late", "wb") as file:
        file.write(BIG)
        fs.pipe_file(f"{ROOT}/d/late", b"old")
    assert "CompleteMultipartUpload" in owner.actions()
    assert owner.stored() == {"d/a": old, "d/late": b"old"}
    assert not oss.uploads(ROOT)


def test_a_lost_reply_is_not_taken_for_an_object_of_others(blind, only, oss, owner):
    """If a retry finds an object, HEAD shows whether the first try wrote it."""
    assert not blind.exists(PATH)
    oss.faults.add(Fault(action="PutObject", drop_reply=True))
    with pytest.raises(OutcomeUnknownError):
        blind.pipe_file(PATH, b"new")
    fs = only("HeadObject")
    fs.client.written.mark_unverified(f"{ROOT}/")
    oss.faults.add(Fault(action="PutObject", drop_reply=True))
    receipt = fs.pipe_file(f"{ROOT}/e", b"new")
    assert (receipt.status, receipt.retries) == ("stored", 1)
    assert owner.stored() == {"d/a": b"new", "e": b"new"}


def test_a_deletion_whose_reply_is_lost_leaves_no_record(only, oss, owner):
    """The bytes of an object that may be deleted are not read from what was written."""
    fs = only("DeleteObject", retries=0)
    fs.pipe_file(PATH, b"own")
    oss.faults.add(Fault(action="DeleteObject", drop_reply=True))
    with pytest.raises(ConnectionError) as caught:
        fs.rm_file(PATH)
    assert caught.value.outcome == "unknown"
    assert owner.stored() == {}
    with pytest.raises(NotCoveredError):
        fs.cat_file(PATH)


def test_many_objects_and_transactions(blind, owner, old):
    """The fast way and the end of a transaction keep an existing object, too."""
    assert not blind.exists(f"{ROOT}/d")
    with pytest.raises(ObjectExistsError):
        blind.pipe({PATH: b"new", f"{ROOT}/d/b": b"new"})
    with pytest.raises(ObjectExistsError), blind.transaction:
        blind.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": old, "d/b": b"new"}


def test_a_copy_keeps_an_object(only, owner, old):
    """``cp`` never replaces an object that a look reported as missing."""
    fs = only("CopyObject")
    fs.pipe_file(f"{ROOT}/own", b"own")
    assert not fs.exists(PATH)
    with pytest.raises(ObjectExistsError):
        fs.cp_file(f"{ROOT}/own", PATH)
    assert owner.stored() == {"d/a": old, "own": b"own"}


# -- where the header cannot be sent -------------------------------------------------------


def test_a_url_without_the_header_warns_once(owner, fs):
    """URLs of a map cannot protect the object: it is replaced, with a warning."""
    fs.pipe({f"{ROOT}/{name}": b"old" for name in "ab"})
    by_map = OSSPresignedFileSystem(url_map=owner.map_file("a", "b"))
    assert not by_map.exists(f"{ROOT}/a")
    assert not by_map.exists(f"{ROOT}/b")
    with pytest.warns(
        ExistenceNotVerifiedWarning, match="it is replaced, because"
    ) as caught:
        by_map.pipe_file(f"{ROOT}/a", b"new")
    assert [one.filename for one in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_map.pipe_file(f"{ROOT}/b", b"new")
    assert owner.stored() == {"a": b"new", "b": b"new"}


@pytest.mark.parametrize("many", [False, True])
def test_a_url_without_the_header_is_refused_if_that_is_wanted(owner, oss, fs, many):
    """``if_unverifiable="error"`` sends nothing, also after a tool ignored an error."""
    fs.pipe({f"{ROOT}/{name}": b"old" for name in "ab"})
    oss.clear()
    strict = OSSPresignedFileSystem(
        url_map=owner.map_file("a", "b"), if_unverifiable="error"
    )
    for name in "ab":
        with pytest.raises(PermissionError):
            strict.exists(f"{ROOT}/{name}")
    if many:  # the first refusal may come before the other object is begun
        with pytest.raises((NotCoveredError, UploadErrors), match="overwrite=True"):
            strict.pipe({f"{ROOT}/{name}": b"new" for name in "ab"})
    else:
        with pytest.raises(NotCoveredError, match="overwrite=True"):
            strict.pipe_file(f"{ROOT}/a", b"new")
    assert not oss.requests
    assert owner.stored() == {"a": b"old", "b": b"old"}


class DropsWishes(OnlyActions):
    """Signs the required headers only, as a service may."""

    def sign(self, operations):
        """Sign without optional headers."""
        return super().sign([evolve(one, optional_headers={}) for one in operations])


def test_a_signer_that_drops_the_header(environment, owner, old):
    """A signer may drop the header: then the write gives a warning."""
    assert old
    fs = OSSPresignedFileSystem(signer=DropsWishes(WRITES))
    assert not fs.exists(PATH)
    with pytest.warns(ExistenceNotVerifiedWarning, match="it is replaced, because"):
        fs.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": b"new"}


def by_grant(oss, place, **terms):
    """Return a filesystem by a grant."""
    place.write_text(json.dumps(grant_of(oss, ROOT, "d/", **terms)))
    place.chmod(0o600)
    return OSSPresignedFileSystem(grant=str(place), skip_instance_cache=True)


def test_a_grant_sends_the_field_if_its_policy_allows(oss, owner, old, tmp_path):
    """A policy that names another value makes it a warning."""
    fs = by_grant(oss, tmp_path / "grant.json")
    assert not fs.exists(PATH)
    with pytest.raises(ObjectExistsError):
        fs.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": old}
    fields = {"x-oss-forbid-overwrite": "false"}
    fs = by_grant(oss, tmp_path / "grant.json", fields=fields)
    assert not fs.exists(PATH)
    with pytest.warns(ExistenceNotVerifiedWarning, match="it is replaced, because"):
        fs.pipe_file(PATH, b"new")
    assert owner.stored() == {"d/a": b"new"}


def test_a_bucket_that_keeps_versions_ignores_the_header(blind):
    """The previous version stays, but is hidden."""
    blind.pipe_file("versioned/a", b"old")  # no look: no warning
    assert not blind.exists("versioned/b")
    with pytest.warns(
        ExistenceNotVerifiedWarning, match="a bucket that keeps versions"
    ):
        blind.pipe_file("versioned/b", b"new")


# -- other processes -----------------------------------------------------------------------


def writing(operations):
    """Sign with the keys of the environment what writes."""
    return OnlyActions(WRITES).sign(operations)


def test_a_worker_acts_on_the_look_of_its_client(environment, owner, old):
    """The pickled filesystem brings the looks; a worker's older objects are no answer."""
    fs = OSSPresignedFileSystem(signer=writing)
    assert not fs.exists(f"{ROOT}/d")
    looks = fs.client.written.unverified()
    assert list(looks) == [f"{ROOT}/d"]
    worker = OSSPresignedFileSystem(signer=writing, retries=0)
    worker.pipe_file(f"{ROOT}/d/own", b"first")
    worker.client.written.add_unverified(looks)
    for path in (PATH, f"{ROOT}/d/own"):
        with pytest.raises(ObjectExistsError):
            worker.pipe_file(path, b"new")
    worker.pipe_file(f"{ROOT}/d/b", b"new")
    worker.client.written.add_unverified(looks)  # with the next task
    worker.pipe_file(f"{ROOT}/d/b", b"newer")
    assert not fs.exists(f"{ROOT}/d")  # the next computation
    worker.client.written.add_unverified(fs.client.written.unverified())
    with pytest.raises(ObjectExistsError):
        worker.pipe_file(f"{ROOT}/d/b", b"newest")
    assert owner.stored() == {"d/a": old, "d/b": b"newer", "d/own": b"first"}


WORKER = """
import pickle, sys
fs = pickle.load(sys.stdin.buffer)
try:
    fs.pipe_file("examplebucket/d/a", b"new")
except FileExistsError:
    sys.exit(17)
"""


def test_a_pickle_brings_the_looks_to_a_process(oss, owner, old, tmp_path):
    """It stays small, and holds paths and numbers only."""
    fs = by_grant(oss, tmp_path / "grant.json")
    bare = len(pickle.dumps(fs))
    assert not fs.exists(f"{ROOT}/d")
    data = pickle.dumps(fs)
    assert len(data) - bare < 100
    done = subprocess.run([sys.executable, "-c", WORKER], input=data, check=False)
    assert done.returncode == 17
    assert owner.stored() == {"d/a": old}


def test_a_forked_child_acts_on_the_look_of_its_parent(blind, owner, old):
    """The filesystem that it inherits has them."""
    assert not blind.exists(f"{ROOT}/d")

    def act():
        with pytest.raises(FileExistsError):
            blind.pipe_file(PATH, b"new")

    assert forked(act) == 0
    assert owner.stored() == {"d/a": old}

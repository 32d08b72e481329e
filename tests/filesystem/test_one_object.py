"""One object: its options, the modes of opening, exclusive creation, copies."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.emulator import Fault, messages
from fsspec_osspresigned.errors import (
    ConfigurationError,
    ExistenceNotVerifiedWarning,
    IntegrityError,
    NetworkError,
    StoreError,
    UploadErrors,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.objects import copy as copying
from tests.filesystem.conftest import VERBS

ROOT = "examplebucket"
PATH = f"{ROOT}/a.json"


def headers(owner, key="a.json"):
    """Return what is stored beside an object."""
    return owner.oss.get(ROOT, key).headers


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("a.json", "application/json"),
        ("a.csv.gz", "application/gzip"),
        ("a.csv.bz2", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_content_type_is_guessed_from_the_name(blind, owner, name, guess):
    """A browser that opens the object knows what it is."""
    blind.pipe_file(f"{ROOT}/{name}", b"{}")
    assert headers(owner, name)["content-type"] == guess


def test_a_checksum_can_be_turned_off_for_a_call(blind, owner):
    """With ``none`` a reply is believed; with the default it is not."""
    owner.oss.faults.add(Fault(action="PutObject", wrong_crc=True, times=None))
    receipt = blind.pipe_file(PATH, b"1", checksum="none")
    assert receipt.verified == "none"
    with pytest.raises(IntegrityError):
        blind.pipe_file(PATH, b"1")


@pytest.mark.parametrize(
    "write",
    [
        lambda fs: fs.pipe_file(PATH, b"", contenttype="a/b"),
        lambda fs: fs.pipe(PATH, b"", contenttype="a/b"),
        lambda fs: fs.open(PATH, "wb", contenttype="a/b"),
        lambda fs: fs.open(PATH, "wb", encoding="utf-8"),
        lambda fs: fs.open(PATH, "wb", storage_class="Cold"),
        lambda fs: fs.open(PATH, "rb", contenttype="a/b"),
        lambda fs: fs.put_file(__file__, PATH, contenttype="a/b"),
        lambda fs: fs.cp_file(PATH, PATH, contenttype="a/b"),
    ],
    ids=("pipe_file", "pipe", "wb", "text", "class", "rb", "put_file", "cp_file"),
)
def test_an_unknown_option_is_refused_before_the_first_byte(blind, owner, write):
    """No argument is ignored."""
    with pytest.raises(ConfigurationError):
        write(blind)
    assert not owner.actions()


@pytest.mark.parametrize("mode", ["a", "ab", "r+b", "w+b", "r+", "wbx", "", "rw"])
def test_objects_are_not_changed_in_place(blind, owner, mode):
    """Appending and updating are refused when the file is opened, with a remedy."""
    with pytest.raises(ValueError, match="cannot be changed in place") as caught:
        blind.open(PATH, mode)
    assert ("log to a local file" in str(caught.value)) is ("a" in mode)
    with pytest.raises(ValueError, match="cannot be changed in place"):
        blind._open(PATH, mode=mode)
    assert not owner.actions()


def test_a_bad_layer_leaves_no_open_file(blind, owner):
    """Invalid text or compression options raise an error, and leave no upload."""
    with pytest.raises(ValueError, match="ompression"):
        blind.open(PATH, "wb", compression="none-such")
    with pytest.raises(LookupError):
        blind.open(PATH, "w", encoding="none-such")
    assert not owner.actions()


CREATE = {
    **{
        verb: lambda fs, place, verb=verb: VERBS[verb](
            fs, PATH, b"x", place, mode="create"
        )
        for verb in ("pipe_file", "pipe", "put_file", "put")
    },
    "overwrite": lambda fs, _: fs.pipe_file(PATH, b"new", overwrite=False),
    "touch": lambda fs, _: fs.touch(PATH, truncate=False),
    "xb": lambda fs, _: fs.open(PATH, "xb").close(),
    "x": lambda fs, _: fs.open(PATH, "x").close(),
}


@pytest.mark.parametrize("way", CREATE)
@pytest.mark.parametrize("looks", [(), ("HeadObject",)])
def test_an_exclusive_object_is_never_replaced(only, owner, tmp_path, way, looks):
    """The server refuses; where HEAD is signed, we refuse before the bytes go."""
    fs = only(*looks)
    CREATE[way](fs, tmp_path)
    before = owner.stored()
    assert set(before) == {"a.json"}
    owner.oss.clear()
    with pytest.raises(FileExistsError):
        CREATE[way](fs, tmp_path)
    assert owner.stored() == before
    assert owner.actions() == ([looks[0]] if looks else ["PutObject"])


def test_touch_replaces_only_if_told(fs, owner):
    """The default of fsspec truncates."""
    fs.pipe_file(PATH, b"x")
    fs.touch(PATH)
    assert owner.stored() == {"a.json": b""}


def test_copying_keeps_what_belongs_to_the_object(fs, owner):
    """Metadata of the source stays, unless other is demanded."""
    fs.pipe_file(PATH, b"1", metadata={"k": "v"}, content_type="a/b")
    fs.cp_file(f"osspresigned://{PATH}", f"{ROOT}/d/odd %20+ü?#")
    assert headers(owner, "d/odd %20+ü?#")["x-oss-meta-k"] == "v"
    assert headers(owner, "d/odd %20+ü?#")["content-type"] == "a/b"
    fs.cp_file(PATH, f"{ROOT}/c", storage_class="IA")
    assert headers(owner, "c")["x-oss-meta-k"] == "v"
    assert headers(owner, "c")["x-oss-storage-class"] == "IA"
    fs.cp_file(PATH, f"{ROOT}/d", content_type="c/d")
    assert "x-oss-meta-k" not in headers(owner, "d")
    assert headers(owner, "d")["content-type"] == "c/d"
    with pytest.raises(FileExistsError):
        fs.cp_file(PATH, f"{ROOT}/d", overwrite=False)
    with pytest.raises(FileNotFoundError):
        fs.cp_file(f"{ROOT}/none", f"{ROOT}/d")
    fs.mv(PATH, f"{ROOT}/moved")
    assert "a.json" not in owner.stored()
    assert owner.stored()["moved"] == b"1"


@pytest.mark.parametrize("action", ["CopyObject", "UploadPartCopy", "ListObjectsV2"])
def test_a_reply_that_confirms_nothing_is_an_error(fs, monkeypatch, action):
    """A 200 that is no copy or listing is neither success nor an empty directory."""
    fs.pipe_file(PATH, b"1" * 200_000)
    roots = {"UploadPartCopy": "CopyPartResult", "ListObjectsV2": "ListBucketResult"}
    real = messages.xml
    monkeypatch.setattr(
        messages,
        "xml",
        lambda root, *more: (
            b"<no/>"
            if root == roots.get(action, "CopyObjectResult")
            else real(root, *more)
        ),
    )
    if action == "UploadPartCopy":
        monkeypatch.setattr(copying, "MAX_SINGLE_COPY", 100_000)
    with pytest.raises(StoreError, match=f"{action} is bad"):
        fs.ls(f"{ROOT}/d") if action == "ListObjectsV2" else fs.cp_file(
            PATH, f"{ROOT}/d"
        )


def test_a_signer_of_head_without_listing(only, owner):
    """HEAD decides about objects; only directories made or filled here exist."""
    fs = only("HeadObject")
    fs.pipe_file(f"{ROOT}/d/x", b"x")
    assert fs.info(f"{ROOT}/d/x")["size"] == 1
    assert fs.isdir(f"{ROOT}/d")
    with pytest.raises(FileNotFoundError):
        fs.info(f"{ROOT}/other")
    with pytest.warns(
        ExistenceNotVerifiedWarning, match="only objects that this process wrote"
    ):
        assert fs.find(f"{ROOT}/other") == []
    assert fs.open(f"{ROOT}/d/x").read() == b"x"
    assert fs.put([__file__], f"{ROOT}/d/") != []


def test_a_signer_of_listing_without_head(only):
    """A single object is then seen in the listing of its directory only."""
    fs = only("ListObjectsV2")
    fs.pipe_file(f"{ROOT}/d/x", b"x")
    assert fs.ls(f"{ROOT}/d", detail=False) == [f"{ROOT}/d/x"]
    assert fs.info(f"{ROOT}/d/x")["size"] == 1
    with pytest.warns(ExistenceNotVerifiedWarning), pytest.raises(FileNotFoundError):
        fs.ls(f"{ROOT}/other")


@pytest.mark.parametrize("count", [1, 3])
def test_a_deletion_whose_reply_has_a_body_is_not_confirmed(environment, owner, count):
    """An error document, or the page of a proxy, may come with status 200."""
    fs = OSSPresignedFileSystem(signer="keys", retries=0)
    paths = [f"{ROOT}/x/{number}" for number in range(count)]
    fs.pipe(dict.fromkeys(paths, b"x"))
    owner.oss.faults.add(
        Fault(action="DeleteObject", status=200, error_body=True, times=None)
    )
    with pytest.raises((NetworkError, UploadErrors)):
        fs.rm(paths, on_error="raise")
    assert set(owner.stored()) == {path.removeprefix(f"{ROOT}/") for path in paths}
    owner.oss.clear()
    fs.rm(paths)
    assert not owner.stored()

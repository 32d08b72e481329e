"""One object: its options, the modes of opening, exclusive creation, copies."""

from __future__ import annotations

import asyncio
import os
import stat
import threading

import fsspec
import pytest

from fsspec_osspresigned.client.error_codes import from_reply
from fsspec_osspresigned.emulator import Fault, StoredObject
from fsspec_osspresigned.errors import (
    BlindAnswerWarning,
    ConfigurationError,
    IntegrityError,
    NetworkError,
    NotSignedError,
    ReplyError,
    UploadErrors,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action, Reply
from fsspec_osspresigned.objects import calls

ROOT = "examplebucket"
PATH = f"{ROOT}/a.json"


def headers(owner, key="a.json"):
    """Return what is stored beside an object."""
    return owner.oss.get(ROOT, key).headers


def test_options_of_the_filesystem_and_of_the_call(only, owner):
    """The call's options lie over the constructor's."""
    fs = only(
        content_type="text/plain",
        metadata={"a": "1", "b": "1"},
        headers={"Cache-Control": "no-cache"},
        storage_class="IA",
    )
    fs.pipe_file(PATH, b"1")
    assert headers(owner)["content-type"] == "text/plain"
    assert headers(owner)["x-oss-storage-class"] == "IA"
    with fs.open(
        PATH, "wb", content_type="a/b", metadata={"b": "2"}, storage_class="Standard"
    ) as file:
        file.write(b"2")
    found = headers(owner)
    assert found["content-type"] == "a/b"
    assert found["cache-control"] == "no-cache"
    assert found["x-oss-storage-class"] == "Standard"
    assert (found["x-oss-meta-a"], found["x-oss-meta-b"]) == ("1", "2")


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
    """Appending and updating are refused when the file is opened."""
    with pytest.raises(ValueError, match="cannot be changed in place"):
        blind.open(PATH, mode)
    with pytest.raises(ValueError, match="cannot be changed in place"):
        blind._open(PATH, mode=mode)
    assert not owner.actions()


def test_a_bad_layer_leaves_no_open_file(blind, owner):
    """What is wrong with text or compression is told without a dangling upload."""
    with pytest.raises(ValueError, match="ompression"):
        blind.open(PATH, "wb", compression="none-such")
    with pytest.raises(LookupError):
        blind.open(PATH, "w", encoding="none-such")
    assert not owner.actions()


def test_text_and_compression_are_written_and_read(fs, owner):
    """The layers of our own close in the right order."""
    with fs.open(PATH, "w", encoding="utf-16", newline="\r\n") as file:
        file.write("ä\n")
    assert owner.stored()["a.json"].decode("utf-16") == "ä\r\n"
    path = f"{ROOT}/a.txt.gz"
    with fs.open(path, "wt", compression="infer") as file:
        file.write("text")
    assert owner.stored()["a.txt.gz"][:2] == b"\x1f\x8b"
    with fs.open(path, "rt", compression="gzip") as file:
        assert file.read() == "text"
    with fs.open(PATH, "wb", compression="infer") as file:
        file.write(b"plain")
    assert fs.cat_file(PATH) == b"plain"


@pytest.mark.parametrize(
    "create",
    [
        lambda fs: fs.pipe_file(PATH, b"new", mode="create"),
        lambda fs: fs.pipe({PATH: b"new"}, mode="create"),
        lambda fs: fs.pipe_file(PATH, b"new", overwrite=False),
        lambda fs: fs.put_file(__file__, PATH, mode="create"),
        lambda fs: fs.put([__file__], [PATH], mode="create"),
        lambda fs: fs.touch(PATH, truncate=False),
        lambda fs: fs.open(PATH, "xb").close(),
        lambda fs: fs.open(PATH, "x").close(),
    ],
    ids=("pipe_file", "pipe", "overwrite", "put_file", "put", "touch", "xb", "x"),
)
@pytest.mark.parametrize("looks", [(), ("HeadObject",)])
def test_an_exclusive_object_is_never_replaced(only, owner, create, looks):
    """The server refuses; where HEAD is signed, we refuse before the bytes go."""
    fs = only(*looks)
    create(fs)
    before = owner.stored()
    assert set(before) == {"a.json"}
    owner.oss.clear()
    with pytest.raises(FileExistsError):
        create(fs)
    assert owner.stored() == before
    assert owner.actions() == ([looks[0]] if looks else ["PutObject"])


def test_touch_replaces_only_if_told(fs, owner):
    """The default of fsspec truncates."""
    fs.pipe_file(PATH, b"x")
    fs.touch(PATH)
    assert owner.stored() == {"a.json": b""}


def test_a_transaction_publishes_at_its_end(blind, owner):
    """Files of a transaction appear together, or not at all."""
    with blind.transaction:
        with blind.open(PATH, "wb") as file:
            file.write(b"1")
        with fsspec.open(
            f"osspresigned://{ROOT}/b", "wb", signer=blind.storage_options["signer"]
        ) as f:
            f.write(b"2")
        assert not owner.stored()
    assert owner.stored() == {"a.json": b"1", "b": b"2"}


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


def test_a_reply_to_a_copy_is_read(fs, owner, monkeypatch):
    """A 200 that is no result of a copy is an error."""
    monkeypatch.setattr(
        "fsspec_osspresigned.emulator.messages.xml", lambda *_: b"<no/>"
    )
    fs.pipe_file(PATH, b"1")
    with pytest.raises(ReplyError, match="CopyObject is bad"):
        fs.cp_file(PATH, f"{ROOT}/d")


def test_reading_where_everything_is_signed(fs, owner, tmp_path):
    """Ranges, files and listings come from the store."""
    fs.pipe_file(PATH, bytes(range(200)), metadata={"k": "v"})
    data = bytes(range(200))
    for start, end in [
        (None, None),
        (0, None),
        (5, None),
        (None, 5),
        (5, 10),
        (-5, None),
        (-10, -5),
        (5, -5),
        (10, 5),
        (150, 1000),
        (300, None),
        (300, 400),
        (-300, None),
    ]:
        assert fs.cat_file(PATH, start, end) == data[start:end]
    assert fs.cat([PATH]) == {PATH: data}
    with fs.open(PATH, block_size=50) as file:
        file.seek(100)
        assert file.read(10) == data[100:110]
        assert file.read() == data[110:]
    with pytest.raises(FileNotFoundError):
        fs.open(f"{ROOT}/none")
    with pytest.raises(FileNotFoundError):
        fs.info(f"{ROOT}/none")
    info = fs.info(PATH)
    assert info["size"] == 200
    assert info["crc64"] == owner.oss.get(ROOT, "a.json").crc64
    assert fs.created(PATH) == fs.modified(PATH) == info["LastModified"]
    assert fs.ls(ROOT)[0]["LastModified"].tzinfo is not None
    target = tmp_path / "new" / "a"
    umask = os.umask(0o027)
    try:
        fs.get(ROOT, str(tmp_path / "new"), recursive=True)
    finally:
        os.umask(umask)
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in found] == [data]
    assert stat.S_IMODE(found[0].stat().st_mode) == 0o640
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{ROOT}/none", target)


def test_a_broken_download_leaves_the_old_file(fs, owner, tmp_path, monkeypatch):
    """A local file is replaced only when everything has arrived and fits its CRC."""
    fs.pipe_file(PATH, b"12345")
    owner.oss.faults.add(Fault(action="GetObject", wrong_crc=True, times=None))
    target = tmp_path / "a"
    target.write_bytes(b"old")
    for read in (lambda: fs.get_file(PATH, target), lambda: fs.cat_file(PATH)):
        with pytest.raises(IntegrityError):
            read()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_listing_and_finding(fs, owner):
    """One listing request finds a whole tree, with odd slashes and markers."""
    for key in ("d/a", "d/e/f/g", "d//x", "d/m/", "dd"):
        owner_put(owner, key)
    assert fs.ls(f"{ROOT}/d", detail=False) == [
        f"{ROOT}/d/a",
        f"{ROOT}/d/e",
        f"{ROOT}/d/m",
    ]
    owner.oss.clear()
    names = [f"{ROOT}/{key}" for key in ("d//x", "d/a", "d/e/f/g", "d/m/")]
    assert fs.find(f"{ROOT}/d") == names
    assert owner.actions() == ["ListObjectsV2"]
    assert fs.find(f"{ROOT}/d", maxdepth=1) == [f"{ROOT}/d/a"]
    assert fs.find(ROOT, maxdepth=2, withdirs=True) == [
        ROOT,
        f"{ROOT}/d",
        f"{ROOT}/d/a",
        f"{ROOT}/d/e",
        f"{ROOT}/d/m",
        f"{ROOT}/dd",
    ]
    assert fs.find(f"{ROOT}/d/a") == [f"{ROOT}/d/a"]
    assert fs.find(f"{ROOT}/none") == []
    assert fs.ls(f"{ROOT}/d/a", detail=False) == [f"{ROOT}/d/a"]
    assert fs.isdir(f"{ROOT}/d/e")
    assert fs.glob(f"{ROOT}/d/**/g") == [f"{ROOT}/d/e/f/g"]
    with pytest.raises(FileNotFoundError):
        fs.ls(f"{ROOT}/none")
    fs.mkdir(f"{ROOT}/made")
    assert fs.ls(f"{ROOT}/made") == []
    with pytest.raises(ValueError, match="maxdepth"):
        fs.find(ROOT, maxdepth=0)


def owner_put(owner, key):
    """Store an object as somebody else would."""
    bucket = owner.oss.store.buckets[ROOT]
    like = StoredObject(
        key=key, etag="E", crc64=0, headers={"x-oss-storage-class": "IA"}
    )
    owner.oss.store.put(bucket, like, exclusive=False)


def test_listings_come_in_pages(fs, owner, monkeypatch):
    """More than one page is one answer."""
    monkeypatch.setattr("fsspec_osspresigned.objects.calls.PAGE_SIZE", 2)
    fs.pipe({f"{ROOT}/p/{n}": b"" for n in range(5)})
    owner.oss.clear()
    assert len(fs.ls(f"{ROOT}/p")) == 5
    assert owner.actions() == ["ListObjectsV2"] * 3


def test_a_listing_that_is_none_is_an_error(fs, monkeypatch):
    """A 200 that is no listing is not an empty directory."""
    monkeypatch.setattr(
        "fsspec_osspresigned.emulator.messages.xml", lambda *_: b"<no/>"
    )
    with pytest.raises(ReplyError, match="ListObjectsV2 is bad"):
        fs.ls(f"{ROOT}/d")


def test_a_signer_of_head_without_listing(only, owner):
    """What HEAD shows is true; directories are those that were made or filled here."""
    fs = only("HeadObject")
    fs.pipe_file(f"{ROOT}/d/x", b"x")
    assert fs.info(f"{ROOT}/d/x")["size"] == 1
    assert fs.isdir(f"{ROOT}/d")
    with pytest.raises(FileNotFoundError):
        fs.info(f"{ROOT}/other")
    with pytest.warns(BlindAnswerWarning, match="only objects that this process wrote"):
        assert fs.find(f"{ROOT}/other") == []
    assert fs.open(f"{ROOT}/d/x").read() == b"x"
    assert fs.put([__file__], f"{ROOT}/d/") != []


def test_a_signer_of_listing_without_head(only):
    """A single object is then seen in the listing of its directory only."""
    fs = only("ListObjectsV2")
    fs.pipe_file(f"{ROOT}/d/x", b"x")
    assert fs.ls(f"{ROOT}/d", detail=False) == [f"{ROOT}/d/x"]
    assert fs.info(f"{ROOT}/d/x")["size"] == 1
    with pytest.warns(BlindAnswerWarning), pytest.raises(FileNotFoundError):
        fs.ls(f"{ROOT}/other")


def test_an_asynchronous_file_says_that_it_is_none(blind):
    """The names of what works stand in the error."""
    with pytest.raises(NotImplementedError, match="_pipe_file"):
        asyncio.run(blind.open_async(PATH, "wb"))


def test_put_only_keys_are_not_stopped_by_a_denied_listing(fs, owner):
    """A store that denies looking leaves the layout to the slashes."""
    owner.oss.faults.add(Fault(action="ListObjectsV2", status=403, times=None))
    fs.put(__file__, f"{ROOT}/name")
    assert set(owner.stored()) == {"name"}
    with pytest.raises(FileNotFoundError):
        fs.info(f"{ROOT}/none")


@pytest.mark.parametrize("code", ["AccessDenied", None])
def test_a_denied_look_is_no_mistake(code):
    """Some stores answer a HEAD with 403 and nothing that tells why."""
    reply = Reply(status=403, body=f"<Error><Code>{code}</Code></Error>".encode())
    reply = reply if code else Reply(status=403)
    assert calls.means_unseen(
        from_reply(calls.operation_on(Action.HeadObject, PATH), reply)
    )


def test_downloads_at_once_do_not_touch_the_umask(fs, tmp_path):
    """The mask belongs to the process: changing it would race with other threads."""
    fs.pipe({f"{ROOT}/{n}": b"x" for n in range(8)})
    before = os.umask(0o022)
    os.umask(before)
    threads = [
        threading.Thread(target=fs.get_file, args=(f"{ROOT}/{n}", tmp_path / str(n)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = os.umask(before)
    assert after == before
    assert len(list(tmp_path.iterdir())) == 8


def test_nothing_is_removed_without_permission(only, owner):
    """A refusal for an object that HEAD shows is a PermissionError only for own ones."""
    fs = only("HeadObject")
    fs.pipe_file(PATH, b"x")
    with pytest.raises(NotSignedError):
        fs.rm_file(PATH)
    assert "a.json" in owner.stored()


def test_a_bucket_stays(fs, owner):
    """Removing everything in a bucket leaves the bucket itself alone."""
    fs.pipe({f"{ROOT}/{n}": b"x" for n in "ab"})
    fs.rm(ROOT, recursive=True)
    assert not owner.stored()
    assert fs.isdir(ROOT)


@pytest.mark.parametrize("text", [None, "", "yesterday"])
def test_an_unreadable_date_is_none(text):
    """A listing with an odd date is still a listing."""
    assert calls.date_of(text) is None


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

"""Looking: listings page by page, odd keys, dates and versions, signed URLs."""

from __future__ import annotations

import asyncio
import datetime as dt
import errno
from urllib.parse import urlsplit

import fsspec
import pytest
import requests

from fsspec_osspresigned.client import operations
from fsspec_osspresigned.emulator import Fault, StoredObject
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    ExistenceNotVerifiedWarning,
    NotCoveredError,
    StoreError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.objects import copy as copying

ROOT = "examplebucket"
PATH = f"{ROOT}/a"
ODD = [
    "a b",
    "per%20cent",
    "new\nline",
    "tab\tand\x01",
    "plus+",
    "ünï-日本-🦊",
    "&<>'\"",
    "d//x",
    "d/m/",
    "d/m/y",
    "star*",
    "~",
    "\x7f",
]


def put(owner, *keys):
    """Store objects as another process would."""
    store = owner.oss.store
    for key in keys:
        like = StoredObject(
            key=key, etag="E", crc64=0, headers={"x-oss-storage-class": "IA"}
        )
        store.put(store.buckets[ROOT], like, exclusive=False)


def test_odd_keys_are_listed_as_they_are(full, owner, monkeypatch):
    """Unusual keys come back unchanged, also across pages of a listing."""
    put(owner, *ODD)
    monkeypatch.setattr(operations, "PAGE_SIZE", 2)
    every = sorted(f"{ROOT}/{key}" for key in ODD)
    assert full.find(ROOT) == every
    assert full.find(f"osspresigned://{ROOT}/") == every
    names = [name for name in every if not name.endswith("/")]
    for name in names:
        if "*" not in name:
            assert full.find(name) == full.glob(name) == [name]
        assert full.info(name)["type"] == "file"
        assert full.isfile(name)
    top = {name.removeprefix(f"{ROOT}/").partition("/")[0] for name in names}
    assert full.ls(ROOT, detail=False) == sorted(f"{ROOT}/{name}" for name in top)
    assert full.ls(f"{ROOT}/d", detail=False) == [f"{ROOT}/d/m"]
    assert full.ls(f"{ROOT}/d/m/", detail=False) == [f"{ROOT}/d/m/y"]
    walked = list(full.walk(ROOT))
    assert [path for path, _, _ in walked] == [ROOT, f"{ROOT}/d", f"{ROOT}/d/m"]
    assert full.du(ROOT) == 0
    full.rm(ROOT, recursive=True)
    assert not owner.stored()


def test_an_empty_object_for_a_directory_is_one(full, owner):
    """An object like the console's folders is listed, found and removed as a directory."""
    put(owner, "made/", "made/in/")
    assert full.isdir(f"{ROOT}/made")
    assert full.ls(f"{ROOT}/made", detail=False) == [f"{ROOT}/made/in"]
    assert full.ls(f"{ROOT}/made/in") == []
    assert full.find(ROOT) == [f"{ROOT}/made/", f"{ROOT}/made/in/"]
    assert full.find(ROOT, maxdepth=1) == []
    assert full.find(ROOT, withdirs=True) == [
        ROOT,
        f"{ROOT}/made",
        f"{ROOT}/made/",
        f"{ROOT}/made/in",
        f"{ROOT}/made/in/",
    ]
    assert full.glob(f"{ROOT}/**") == full.find(ROOT, withdirs=True)
    assert full.glob(f"{ROOT}/*") == [f"{ROOT}/made"]
    walked = [(path, dirs, files) for path, dirs, files in full.walk(ROOT)]
    assert walked == [
        (ROOT, ["made"], []),
        (f"{ROOT}/made", ["in"], [""]),
        (f"{ROOT}/made/in", [], [""]),
    ]
    assert asyncio.run(listed(full._walk(ROOT))) == walked
    full.rm(f"{ROOT}/made", recursive=True)
    assert not owner.stored()


async def listed(generator):
    """Return what an asynchronous generator yields."""
    return [item async for item in generator]


@pytest.mark.parametrize("pattern", [False, True])
def test_objects_for_directories_are_copied_and_moved(full, owner, tmp_path, pattern):
    """With their names; a download makes directories of them."""
    full.pipe({f"{ROOT}/top/{key}": b"" for key in ("", "in/", "in/a")})
    source = f"{ROOT}/top/**" if pattern else f"{ROOT}/top/"
    full.get(source, f"{tmp_path}/got/", recursive=True)
    assert [p.name for p in sorted((tmp_path / "got").rglob("*"))] == ["in", "a"]
    assert set(full.cat(source, recursive=True)) == {f"{ROOT}/top/in/a"}
    full.cp(f"{ROOT}/top/", f"{ROOT}/copy/", recursive=True)
    assert {key for key in owner.stored() if key[0] == "c"} == {"copy/", "copy/in/", "copy/in/a"}  # fmt: skip
    full.mv(f"{ROOT}/top/", f"{ROOT}/new/", recursive=True)
    assert {key for key in owner.stored() if key[0] != "c"} == {"new/", "new/in/", "new/in/a"}  # fmt: skip


@pytest.fixture
def both(full):
    """Names that ``find`` returns, of a directory's object beside another object."""
    full.pipe({f"{ROOT}/m/d": b"data", f"{ROOT}/m/d/": b"mark", f"{ROOT}/m/e/": b""})
    assert full.find(f"{ROOT}/m") == [f"{ROOT}/m/d", f"{ROOT}/m/d/", f"{ROOT}/m/e/"]
    return full


def test_names_with_a_trailing_slash_are_read(both, owner, tmp_path):
    """Each name that ``find`` returns has its own bytes; on a disk, it is a directory."""
    names = both.find(f"{ROOT}/m")
    bodies = [b"data", b"mark", b""]
    assert both.cat(names) == dict(zip(names, bodies, strict=True))
    assert [both.cat_file(name) for name in names] == bodies
    assert both.cat(f"{ROOT}/m/d/") == b"mark"
    assert both.cat_ranges(names, 0, 2) == [b"da", b"ma", b""]
    assert urlsplit(both.sign(f"{ROOT}/m/d/")).path.endswith("/m/d/")
    both.get_file(f"{ROOT}/m/e/", tmp_path / "e")
    assert (tmp_path / "e").is_dir()


@pytest.mark.parametrize("many", [False, True])
def test_names_with_a_trailing_slash_are_copied_moved_and_removed(both, owner, many):
    """The object of the directory is changed, and no other."""
    one = f"{ROOT}/m/d/"
    source = [one] if many else one
    both.cp(source, f"{ROOT}/copies/" if many else f"{ROOT}/copies/d/")
    both.cp_file(one, f"{ROOT}/copy")
    both.mv_file(f"{ROOT}/copy/", f"{ROOT}/new/")
    both.rm(source)
    both.rm_file(f"{ROOT}/m/e/")
    assert owner.stored() == {"m/d": b"data", "copies/d/": b"mark", "new/": b"mark"}
    both.mv([f"{ROOT}/new/"], [f"{ROOT}/old/"])
    assert set(owner.stored()) == {"m/d", "copies/d/", "old/"}
    with pytest.raises(FileNotFoundError):
        both.cat_file(f"{ROOT}/m/d/")
    both.rm(f"{ROOT}/copies/", recursive=True)
    assert set(owner.stored()) == {"m/d", "old/"}


def test_a_directory_beside_an_object_of_its_name(fs, only):
    """It is both, from the store and from the record."""
    for one in (fs, only()):
        one.pipe({f"{ROOT}/x": b"1", f"{ROOT}/x/y": b"2", f"{ROOT}/z": b"3"})
        assert one.isdir(f"{ROOT}/x")
        assert one.isfile(f"{ROOT}/x")
        assert asyncio.run(one._isdir(f"{ROOT}/x"))
        assert not one.isdir(f"{ROOT}/z")
    assert not fs.isdir(f"{ROOT}/none")
    with pytest.warns(ExistenceNotVerifiedWarning):
        assert not only().isdir(f"{ROOT}/none")


def test_the_warning_about_a_kind_promises_no_protection(fs, only, owner):
    """A hidden object is a missing one for isfile, and a write then replaces it."""
    fs.pipe_file(PATH, b"old")
    blind = only()
    with pytest.warns(ExistenceNotVerifiedWarning) as caught:
        assert not blind.isfile(PATH)
    (warning,) = caught
    assert "are reported as missing (if_unver" in str(warning.message)
    blind.pipe_file(PATH, b"new")
    assert owner.stored() == {"a": b"new"}


@pytest.mark.parametrize("write", ["touch", "pipe_file", "pipe", "open"])
def test_a_name_with_a_trailing_slash_stands_for_a_directory(full, owner, write):
    """The object that the console would make, and not a file in its place."""
    if write == "touch":
        full.touch(f"{ROOT}/mark/")
        with pytest.raises(FileExistsError):
            full.touch(f"{ROOT}/mark/", truncate=False)
    elif write == "open":
        full.open(f"{ROOT}/mark/", "wb").close()
    elif write == "pipe":
        full.pipe({f"{ROOT}/mark/": b""})
    else:
        full.pipe_file(f"{ROOT}/mark/", b"")
    assert owner.stored() == {"mark/": b""}
    assert full.isdir(f"{ROOT}/mark")
    assert full.ls(f"{ROOT}/mark") == []
    full.rmdir(f"{ROOT}/mark")
    full.rm(f"{ROOT}/mark", recursive=True)
    assert not owner.stored()


def test_a_made_directory_can_be_removed(fs, only, owner):
    """Tools make one, delete it and write it again, with and without listing."""
    for one in (fs, only()):
        one.mkdir(f"{ROOT}/m")
        assert one.exists(f"{ROOT}/m")
        one.rm(f"{ROOT}/m", recursive=True)
        one.mkdir(f"{ROOT}/m")
        one.rmdir(f"{ROOT}/m")
    assert not fs.exists(f"{ROOT}/m")
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{ROOT}/m", recursive=True)


def test_a_directory_with_objects_is_not_removed_alone(full, blind):
    """``rmdir`` is for empty ones, of the store and of memory."""
    for one in (full, blind):
        one.pipe_file(f"{ROOT}/d/e/a", b"a")
        for path in (f"{ROOT}/d", f"{ROOT}/d/e", ROOT):
            with pytest.raises(FileExistsError, match="recursive=True"):
                one.rmdir(path)
        one.rmdir(f"{ROOT}/d/e/a")
    assert full.find(ROOT) == [f"{ROOT}/d/e/a"]


def test_one_object_shows_that_a_directory_is_not_empty(fs, owner):
    """A large directory is not listed to its end."""
    fs.pipe({f"{ROOT}/d/{number:04}": b"" for number in range(1_001)})
    owner.oss.clear()
    with pytest.raises(FileExistsError):
        fs.rmdir(f"{ROOT}/d")
    assert owner.actions() == ["ListObjectsV2"]


def test_a_pattern_lists_only_what_begins_so(fs, owner):
    """The text before the first wildcard is sent as the prefix."""
    fs.pipe({f"{ROOT}/d/{name}": b"12" for name in ("ab1", "ab2", "b1", "e/ab3")})
    owner.oss.clear()
    assert fs.glob(f"{ROOT}/d/ab*") == [f"{ROOT}/d/ab1", f"{ROOT}/d/ab2"]
    asked = [r.parameters for r in owner.oss.requests if r.action == "ListObjectsV2"]
    assert len(asked) == 1
    assert asked[0]["delimiter"] == "/"
    assert fs.find(f"{ROOT}/d", prefix="ab") == [f"{ROOT}/d/ab1", f"{ROOT}/d/ab2"]
    assert fs.find(f"{ROOT}/d", prefix="none") == []
    assert len(fs.find(f"{ROOT}/d", prefix=None)) == 4
    ours = [f"{ROOT}/d/e", f"{ROOT}/d/e/ab3"]
    assert fs.find(f"{ROOT}/d", prefix="e", withdirs=True) == ours
    assert fs.find(ROOT, prefix="d/e") == [f"{ROOT}/d/e/ab3"]
    assert fs.find(f"{ROOT}/d", maxdepth=1, withdirs=True) == [
        f"{ROOT}/d",
        f"{ROOT}/d/ab1",
        f"{ROOT}/d/ab2",
        f"{ROOT}/d/b1",
        f"{ROOT}/d/e",
    ]
    assert set(fs.glob(f"{ROOT}/**/ab?", detail=True)) == {
        f"{ROOT}/d/ab1",
        f"{ROOT}/d/ab2",
        f"{ROOT}/d/e/ab3",
    }
    owner.oss.clear()
    assert fs.du(f"{ROOT}/d") == 8
    assert fs.du(f"{ROOT}/d", total=False, maxdepth=1, withdirs=True) == {
        f"{ROOT}/d": 0,
        f"{ROOT}/d/ab1": 2,
        f"{ROOT}/d/ab2": 2,
        f"{ROOT}/d/b1": 2,
        f"{ROOT}/d/e": 0,
    }
    assert set(owner.actions()) == {"ListObjectsV2"}


def page(**members):
    """Return a listing page as a store might write it."""
    rows = "".join(f"<{name}>{text}</{name}>" for name, text in members.items())
    return f"<ListBucketResult>{rows}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (page(IsTruncated="true"), "where it continues"),
        (page(IsTruncated="true", NextContinuationToken="again"), "where it continues"),
        (page(Contents="<Key>elsewhere</Key>"), "not requested"),
        (page(CommonPrefixes="<Prefix>e/</Prefix>"), "not requested"),
        (page(Contents="<Key>d/x</Key><Size>many</Size>"), "size"),
    ],
)
def test_a_listing_that_cannot_be_right_is_an_error(fs, monkeypatch, body, why):
    """No endless pages, no missing ones, and nothing that was not requested."""
    monkeypatch.setattr("fsspec_osspresigned.emulator.messages.xml", lambda *_: body)
    monkeypatch.setattr("fsspec_osspresigned.emulator.listing.read_token", str)
    with pytest.raises(StoreError, match=why):
        fs.find(f"{ROOT}/d")


def test_a_store_that_does_not_encode_keys(fs, monkeypatch):
    """Names are decoded only if the reply declares an encoding."""
    body = page(Contents="<Key>d/a%20+b</Key>")
    monkeypatch.setattr("fsspec_osspresigned.emulator.messages.xml", lambda *_: body)
    assert fs.find(f"{ROOT}/d") == [f"{ROOT}/d/a%20+b"]


def test_a_failure_on_a_later_page_is_no_short_listing(fs, owner, monkeypatch):
    """An incomplete listing raises an error."""
    fs.pipe({f"{ROOT}/p/{n}": b"" for n in range(5)})
    monkeypatch.setattr(operations, "PAGE_SIZE", 2)
    for look in (fs.ls, fs.find):
        owner.oss.faults.add(
            Fault(action="ListObjectsV2", after=1, refuse="denied", times=1)
        )
        with pytest.raises(AccessDeniedError):
            look(f"{ROOT}/p")


@pytest.mark.parametrize("after", [0, 1])
def test_a_directory_that_cannot_be_listed_is_not_walked_as_empty(fs, owner, after):
    """``walk`` raises what ``ls`` raises, unless a directory is missing."""
    put(owner, "d/a", "d/e/b", "d/f/c")
    assert not list(fs.walk(f"{ROOT}/none"))
    with pytest.raises(ConfigurationError):
        list(fs.walk(""))
    fault = Fault(action="ListObjectsV2", status=400, code="BadThing", after=after)
    owner.oss.faults.add(fault)
    with pytest.raises(StoreError, match="BadThing"):
        list(fs.walk(f"{ROOT}/d"))
    owner.oss.faults.add(fault)
    with pytest.raises(StoreError, match="BadThing"):
        asyncio.run(listed(fs._walk(f"{ROOT}/d")))


@pytest.mark.filterwarnings("ignore:listing .* is not granted")
def test_a_store_that_lets_nobody_look(fs, owner):
    """Keys that may only write: as without signatures, and the store's word is kept."""
    for action in ("HeadObject", "GetObject", "ListObjectsV2"):
        owner.oss.faults.add(Fault(action=action, refuse="denied", times=None))
    fs.pipe_file(f"{ROOT}/d/own", b"own")
    assert fs.info(f"{ROOT}/d/own")["size"] == 3
    assert fs.ls(f"{ROOT}/d", detail=False) == fs.find(ROOT) == [f"{ROOT}/d/own"]
    assert fs.isdir(f"{ROOT}/d")
    with (
        pytest.warns(ExistenceNotVerifiedWarning, match="HTTP 403 AccessDenied"),
        pytest.raises(FileNotFoundError) as caught,
    ):
        fs.info(f"{ROOT}/none")
    assert isinstance(caught.value.__cause__, AccessDeniedError)
    assert caught.value.__cause__.explanation is not None
    assert not fs.exists(f"{ROOT}/none")
    assert fs.find(f"{ROOT}/none") == []
    with pytest.raises(FileNotFoundError):
        fs.ls(f"{ROOT}/none")
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{ROOT}/none")
    fs.put([__file__], f"{ROOT}/e/")
    with fs.open(f"{ROOT}/x", "xb") as file:
        file.write(b"x")


REFUSED = {
    "cat_file": lambda fs, _: fs.cat_file(PATH),
    "cat": lambda fs, _: fs.cat([PATH]),
    "cat_ranges": lambda fs, _: fs.cat_ranges([PATH], 0, 1, on_error="raise"),
    "open": lambda fs, _: fs.open(PATH, "rb"),
    "get_file": lambda fs, local: fs.get_file(PATH, local),
    "get": lambda fs, local: fs.get(PATH, local),
    "get -r": lambda fs, local: fs.get(ROOT, local, recursive=True),
    "get *": lambda fs, local: fs.get(f"{ROOT}/*", local),
    "rm_file": lambda fs, _: fs.rm_file(PATH),
    "rm": lambda fs, _: fs.rm(PATH),
    "rm -r": lambda fs, _: fs.rm(f"{ROOT}/d", recursive=True),
    "mv": lambda fs, _: fs.mv(PATH, f"{ROOT}/b"),
    "copy": lambda fs, _: fs.copy([PATH], [f"{ROOT}/b"], on_error="ignore"),
}


@pytest.mark.filterwarnings("ignore::fsspec_osspresigned.ExistenceNotVerifiedWarning")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("refusing", ["signer", "store"])
def test_a_refused_read_or_deletion_is_a_permission_error(
    fs, only, owner, tmp_path, name, refusing
):
    """An object that exists is not reported as missing, but tools that look continue."""
    fs.pipe({PATH: b"x", f"{ROOT}/d/a": b"x"})
    refused = only()
    if refusing == "store":
        refused = only("HeadObject", "GetObject", "ListObjectsV2", "DeleteObject", "CopyObject")  # fmt: skip
        owner.oss.faults.add(Fault(refuse="denied", times=None))
    with pytest.raises(PermissionError) as caught:
        REFUSED[name](refused, str(tmp_path / "got"))
    assert caught.value.errno == errno.EACCES
    is_change = name in ("rm_file", "rm", "mv", "copy")
    tells = (
        AccessDeniedError if refusing == "store" and is_change else FileNotFoundError
    )
    assert isinstance(caught.value, tells)
    assert not (tmp_path / "got").exists()
    owner.oss.faults.clear()
    assert owner.stored() == {"a": b"x", "d/a": b"x"}


@pytest.mark.parametrize(
    "code", ["InvalidObjectState", "UserDisable", "BucketDisable", "PermanentRedirect"]
)
def test_a_refusal_of_another_kind_is_no_answer(fs, owner, code):
    """Only a plain AccessDenied counts as a missing permission."""
    owner.oss.faults.add(Fault(action="HeadObject", status=403, code=code, times=None))
    for look in (fs.info, fs.exists):
        with pytest.raises(AccessDeniedError, match=code):
            look(f"{ROOT}/none")


def test_a_store_that_lets_nobody_look_with_unknown_error(only, owner):
    """The refusal itself is raised then, with its explanation."""
    fs = only("HeadObject", "GetObject", "ListObjectsV2", if_unverifiable="error")
    for action in ("HeadObject", "GetObject", "ListObjectsV2"):
        owner.oss.faults.add(Fault(action=action, refuse="denied", times=None))
    for look in (fs.info, fs.exists, fs.ls, fs.find, fs.cat_file):
        with pytest.raises(AccessDeniedError) as caught:
            look(f"{ROOT}/none")
        assert caught.value.explanation is not None


def test_looking_is_blind_where_only_listing_is_signed(only):
    """With listing alone, a made directory is empty, and a missing path gives a warning."""
    fs = only("ListObjectsV2")
    fs.mkdir(f"{ROOT}/made")
    assert fs.find(f"{ROOT}/made") == []
    assert fs.ls(f"{ROOT}/made") == []
    fs.pipe_file(PATH, b"x")
    assert fs.find(PATH) == [PATH]
    with pytest.warns(ExistenceNotVerifiedWarning):
        assert fs.find(f"{ROOT}/none") == []


def test_an_object_has_the_same_fields_whatever_tells_them(fs, blind):
    """HEAD, listings and memory know different things by the same names."""
    fs.pipe_file(PATH, b"1", storage_class="IA", content_type="a/b")
    blind.pipe_file(PATH, b"1", storage_class="IA", content_type="a/b")
    head = fs.info(PATH)
    (listed,), found = fs.ls(ROOT), fs.find(ROOT, detail=True)[PATH]
    own = blind.info(PATH)
    assert {*own} - {"status"} == {*head} == {*listed} == {*found}
    assert own.pop("status") == "stored"
    for field in ("name", "size", "type", "ETag"):
        assert head[field] == listed[field] == found[field] == own[field]
    assert head["StorageClass"] == listed["StorageClass"] == "IA"
    assert head["ContentType"] == own["ContentType"] == "a/b"
    assert abs(head["mtime"] - own["mtime"]) < dt.timedelta(seconds=60)
    for one in (head, listed, found, own):
        assert one["mtime"] == one["LastModified"]
        assert one["mtime"].tzinfo is not None


def test_pyarrow_sees_when_an_object_was_stored(fs):
    """It asks ``info`` for ``mtime``."""
    pyarrow = pytest.importorskip("pyarrow.fs")
    fs.pipe_file(PATH, b"1")
    arrow = pyarrow.PyFileSystem(pyarrow.FSSpecHandler(fs))
    assert arrow.get_file_info(PATH).mtime == fs.modified(PATH)


def test_metadata_is_read_back(full, only):
    """By name, in lower case; without HEAD it is refused."""
    full.pipe_file(PATH, b"1", metadata={"Run-Id": "17", "by": "me"})
    assert full.metadata(PATH) == {"run-id": "17", "by": "me"}
    assert full.getxattr(PATH, "run_id") == full.getxattr(PATH, "Run-Id") == "17"
    assert full.getxattr(PATH, "none") is None
    with pytest.raises(FileNotFoundError):
        full.metadata(f"{ROOT}/none")
    with pytest.raises(NotCoveredError, match="HeadObject"):
        only("GetObject").metadata(PATH)


def test_dates_versions_and_checksums(full, owner):
    """They distinguish versions of an object, for caches."""
    full.pipe_file(PATH, b"1")
    now = dt.datetime.now(dt.UTC)
    assert abs((full.created(PATH) - now).total_seconds()) < 60
    assert full.modified(PATH) == full.created(PATH)
    before = (full.ukey(PATH), full.checksum(PATH))
    assert before == (full.ukey(PATH), full.checksum(PATH))
    full.cp_file(PATH, f"{ROOT}/same")
    assert full.ukey(f"{ROOT}/same") == before[0]
    full.pipe_file(PATH, b"2")
    assert full.ukey(PATH) != before[0]
    assert full.checksum(PATH) != before[1]
    assert isinstance(before[1], int)
    for ask in (full.created, full.ukey, full.checksum):
        with pytest.raises(IsADirectoryError):
            ask(ROOT)
        with pytest.raises(FileNotFoundError):
            ask(f"{ROOT}/none")


def test_memory_and_store_name_the_same_version(fs, only):
    """A cache that was filled before stays good when HEAD is no longer signed."""
    blind = only()
    blind.pipe_file(PATH, b"1")
    assert blind.ukey(PATH) == fs.ukey(PATH)


@pytest.mark.parametrize("date", ["yesterday", f"Wed, 25 Nov {10**20} 10:00:00 GMT"])
def test_a_head_that_tells_nothing(fs, date):
    """A HEAD reply needs a size, but no date or checksum."""
    assert operations.size_of({"content-length": "5"}, PATH) == 5
    for headers in ({}, {"content-length": "-1"}, {"content-length": "many"}):
        with pytest.raises(StoreError, match="how large"):
            operations.size_of(headers, PATH)
    odd = {"last-modified": date, "x-oss-hash-crc64ecma": "x"}
    found = operations.described(PATH, odd, 5)
    assert (found["LastModified"], found["crc64"], found["ETag"]) == (None, None, "")
    source = copying.SourceHead(5, "", "x", {})
    assert source.number is None


def test_caches_of_fsspec_see_a_new_version(full, environment, tmp_path):
    """They ask for ``ukey`` and fetch again."""
    options = {
        "signer": full.client.options.signer,
        "signer_token": full.client.options.signer_token,
    }
    options = {name: value for name, value in options.items() if value}
    cache = fsspec.filesystem(
        "filecache",
        target_protocol="osspresigned",
        target_options=options,
        cache_storage=str(tmp_path / "cache"),
        check_files=True,
    )
    for body in (b"old", b"newer"):
        full.pipe_file(PATH, body)
        with cache.open(PATH) as file:
            assert file.read() == body


@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("HEAD", None), ("PUT", b"2"), ("DELETE", None)]
)
def test_a_signed_url_does_what_it_is_for(full, owner, method, body):
    """Anybody who has the text can use it."""
    full.pipe_file(PATH, b"1")
    url = full.sign(
        f"osspresigned://{PATH}",
        expiration=60,
        method=method.lower(),
        size=None if body is None else len(body),
    )
    assert url.startswith(owner.oss.url)
    reply = requests.request(method, url, data=body, timeout=10)
    assert reply.ok
    if method == "GET":
        assert reply.content == b"1"
        assert full.sign(PATH) != url
    assert owner.stored() == {"PUT": {"a": b"2"}, "DELETE": {}}.get(method, {"a": b"1"})


def test_signed_urls_are_not_given_without_permission(blind, only):
    """Operations that are not granted, or need more than a URL, are refused."""
    with pytest.raises(NotCoveredError):
        blind.sign(PATH)
    for wrong in ({"method": "POST"}, {"expiration": 0}):
        with pytest.raises(ValueError, match="expiration 1 s"):
            blind.sign(PATH, **wrong)


def test_a_signed_url_that_needs_headers_is_refused(owner, tmp_path):
    """A text cannot say them, and would be refused by the store."""
    url = owner.url("a", headers={"Content-Type": "a/b"})
    entry = {"url": url, "headers": {"Content-Type": "a/b"}}
    fs = OSSPresignedFileSystem(url_map={PATH: entry})
    with pytest.raises(NotCoveredError, match="headers Content-Type"):
        fs.sign(PATH, method="PUT")


def test_directory_just_made_can_be_listed_where_listing_is_signed(fs):
    """DuckDB and get_mapper ask for what they have just made."""
    fs.mkdir("examplebucket/new")
    assert fs.ls("examplebucket/new") == []
    assert fs.isdir("examplebucket/new")
    fs.pipe_file("examplebucket/new/a", b"x")
    fs.rm("examplebucket/new/a")
    assert not fs.exists("examplebucket/new")

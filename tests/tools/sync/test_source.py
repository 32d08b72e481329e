"""A sync reads from any filesystem of fsspec, and believes no listing blindly."""

from __future__ import annotations

import io
import os
import signal
import time
from datetime import UTC, datetime

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem

from fsspec_osspresigned import (
    ConfigurationError,
    NotCoveredError,
    SourceChangedError,
    sync,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.tools.sync.plan import Aside, Entry
from fsspec_osspresigned.tools.sync.source import LocalSource, RemoteSource, source_of
from fsspec_osspresigned.units import MIB
from tests.tools.sync.conftest import BUCKET, FILES

DEST = f"{BUCKET}/backup"
OBJECTS = {f"backup/{name}": data for name, data in FILES.items()}


@pytest.fixture
def memory():
    """The files in memory."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    fs = MemoryFileSystem()
    for name, data in FILES.items():
        fs.pipe_file(f"/from/{name}", data)
    fs.makedirs("/from/hollow")
    yield fs
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


class Listed(AbstractFileSystem):
    """A filesystem with one fixed listing."""

    protocol = "listed"
    cachable = False

    def __init__(self, infos=(), data=None, **options):
        super().__init__(**options)
        self.infos = infos
        self.data = data or {}

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **_):
        """Return what there is."""
        return {info["name"]: info for info in self.infos}

    def isdir(self, path):
        """Say no."""
        return False

    def _open(self, path, mode="rb", **_):
        return io.BytesIO(self.data[path])


def entries(*infos, root="r"):
    """Return what a source yields that lists *infos*."""
    return list(RemoteSource(Listed(infos), root).entries())


# -- local -------------------------------------------------------------------------------


def test_local_source_is_what_put_sends(source, tmp_path):
    """Names, sizes and times are listed; unreadable entries are reported."""
    (source / "hollow").mkdir()
    (source / "broken").symlink_to(source / "none")
    found = {one.name: one for one in source_of(f"file://{source}", {}).entries()}
    broken = found.pop("broken")
    assert isinstance(broken, Aside)
    assert isinstance(broken.error, FileNotFoundError)
    assert found.keys() == FILES.keys()
    status = os.stat(source / "a.csv")
    assert found["a.csv"] == Entry("a.csv", 8, status.st_mtime_ns)


def test_local_source_must_be_a_directory(source, tmp_path):
    """It may have the name of a pattern, and be reached through a link."""
    with pytest.raises(FileNotFoundError, match="no such local directory"):
        source_of(source / "none", {})
    with pytest.raises(ConfigurationError, match="is a file: use put for a file"):
        source_of(source / "a.csv", {})
    strange = tmp_path / "s[ou]*"
    source.rename(strange)
    (tmp_path / "link").symlink_to(strange)
    for place in (strange, tmp_path / "link"):
        assert len(list(source_of(place, {}).entries())) == 5
    assert source_of("/", {}) == LocalSource("/")
    assert LocalSource("/").path_of("a") == "/a"


# -- remote ------------------------------------------------------------------------------


def test_files_in_memory_are_sent(fs, owner, memory):
    """Their size is known beforehand; a second run sends nothing."""
    assert sync("memory://from", DEST, filesystem=fs).sent == 5
    assert owner.stored() == OBJECTS
    assert sync("memory://from/", DEST, filesystem=fs).same == 5


def test_remote_source_must_be_a_directory_that_is_there(fs, memory):
    """An empty directory is listed; older releases of fsspec list the path itself."""
    with pytest.raises(FileNotFoundError, match=r"the source does not exist|^/none$"):
        sync("memory://none", DEST, filesystem=fs)
    with pytest.raises(ConfigurationError, match="is a file"):
        entries({"name": "r", "size": 1, "type": "file"})
    assert sync("memory://from/hollow", DEST, filesystem=fs).sent == 0


class Walked(Listed):
    """A filesystem that lists one directory at a time."""

    protocol = "walked"
    find = AbstractFileSystem.find
    tree = {  # noqa: RUF012 - a constant
        "r": [("r", "directory"), ("r/a", "file"), ("r/d", "directory")],
        "r/d": [("r/d/b", "file"), ("r/d/e/", "directory")],
        "r/d/e": [("r/d/e/c", "file")],
    }

    def ls(self, path, detail=True, **_):
        """Return the entry, or the one that the test has put in its place."""
        found = self.tree[path]
        if isinstance(found, Exception):
            raise found
        return [{"name": name, "type": kind, "size": 1} for name, kind in found]


def test_other_filesystems_are_walked():
    """Directory by directory; also through a filesystem that stands before another."""
    source = RemoteSource(Walked(), "r")
    assert {one.name for one in source.entries()} == {"a", "d/b", "d/e/c"}
    source = RemoteSource(DirFileSystem("r", Walked()), "")
    assert {one.name for one in source.entries()} == {"a", "d/b", "d/e/c"}


def test_directory_that_cannot_be_listed_stops_all(fs, owner, monkeypatch):
    """A directory that cannot be listed ends the run, or its objects would be deleted."""
    fs.pipe_file(f"{DEST}/d/b", b"b")
    monkeypatch.setitem(Walked.tree, "r/d", PermissionError(13, "no"))
    assert "r/d/b" not in Walked().find("r")
    fsspec.register_implementation("walked", Walked, clobber=True)
    with pytest.raises(PermissionError):
        sync("walked://r", DEST, filesystem=fs, delete=True)
    assert owner.stored() == {"backup/d/b": b"b"}


def test_directory_that_leads_out_is_refused(monkeypatch):
    """A listing with a directory outside of its own is refused."""
    monkeypatch.setitem(Walked.tree, "r/d", [("r", "directory")])
    with pytest.raises(ConfigurationError, match="cannot be trusted"):
        list(RemoteSource(Walked(), "r").entries())


def test_one_listing_is_used_where_there_is_one():
    """A filesystem with its own ``find`` works; directories are no files."""
    info = {"name": "r/a", "size": 1, "type": "file"}
    marker = {"name": "r/d/", "size": 0, "type": "directory"}
    link = {"name": "r/l", "size": 0, "type": "link"}
    assert entries(info, marker, link) == [Entry("a", 1), Aside("l", "link")]

    class Async(AsyncFileSystem):
        cachable = False

        async def _find(self, path, **_):
            return {"r/a": info}

    assert list(RemoteSource(Async(), "r").entries()) == [Entry("a", 1)]


def test_listing_that_leads_elsewhere_is_refused():
    """A listing with a name outside of the source is refused."""
    with pytest.raises(ConfigurationError, match="cannot be trusted"):
        entries({"name": "other/a", "size": 1, "type": "file"})


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"size": 1}, (1, None, "")),
        ({"size": None, "mtime": 1.5}, (None, 1_500_000_000, "")),
        ({"size": -1, "mtime": 2}, (None, 2_000_000_000, "")),
        (
            {"LastModified": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)},
            (None, 10**9, ""),
        ),
        ({"created": datetime(1970, 1, 1, 0, 0, 1)}, (None, 10**9, "")),  # noqa: DTZ001
        ({"updated": "1970-01-01T00:00:01Z", "etag": "x"}, (None, 10**9, "x")),
        ({"mtime": "yesterday", "ETag": '"y"'}, (None, None, "y")),
        ({"mtime": True, "generation": 7}, (None, None, "7")),
    ],
)
def test_facts_of_a_file_are_read_in_every_form(info, expected):
    """The keys of other filesystems for sizes, times and versions are understood."""
    (entry,) = entries({"name": "r/a", "type": "file", **info})
    assert (entry.size, entry.mtime_ns, entry.tag) == expected


# -- streams -----------------------------------------------------------------------------


@pytest.fixture
def parts(environment):
    """A destination with small parts."""
    return OSSPresignedFileSystem(
        signer="keys", part_size=MIN_PART, multipart_threshold=MIN_PART
    )


@pytest.mark.parametrize("size", [0, 1, MIN_PART, MIN_PART + 1, 3 * MIN_PART])
@pytest.mark.parametrize("known", [True, False])
def test_stream_is_sent_as_it_is(parts, owner, size, known):
    """In one request or in parts, whether its size is known or not."""
    data = os.urandom(size)
    info = {"name": "r/a", "size": size if known else None, "type": "file"}
    MADE["made"] = Listed([info], {"r/a": data})
    result = _sync_made(parts)
    assert result.sent_bytes == size
    assert owner.stored() == {"backup/a": data}
    assert not owner.oss.uploads(BUCKET)
    assert _sync_made(parts, compare="checksum").same == 1


class Interrupting(io.BytesIO):
    """A file with a Ctrl-C during its last read."""

    def read(self, *args):
        block = super().read(*args)
        if not block:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # another thread may get the signal: then the wait ends first
        return block


@pytest.mark.parametrize("size", [3 * MIN_PART, None])
def test_ctrl_c_at_the_end_of_a_file_publishes_nothing(parts, owner, size):
    """A file that was read to its end in a call that is over is not stored."""

    class Source(_Made):
        def _open(self, path, mode="rb", **_):
            return Interrupting(self.data[path])

    data = bytes(3 * MIN_PART)
    info = {"name": "r/a", "size": size, "type": "file"}
    MADE["made"] = Listed([info], {"r/a": data})
    fsspec.register_implementation("listed", Source, clobber=True)
    # A shell starts background jobs with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            sync("listed://r", DEST, filesystem=parts)
    finally:
        signal.signal(signal.SIGINT, before)
    assert owner.stored() == {}
    assert not owner.oss.uploads(BUCKET)


MADE = {}


def _sync_made(fs, **options):
    fsspec.register_implementation("listed", _Made, clobber=True)
    return sync("listed://r", DEST, filesystem=fs, **options)


class _Made(Listed):
    def __init__(self, **options):
        made = MADE["made"]
        super().__init__(made.infos, made.data, **options)

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("listed://")


@pytest.mark.parametrize("size", [1, 3 * MIN_PART])
@pytest.mark.parametrize("more", [-1, 1, MIN_PART])
def test_stream_of_another_size_is_not_published(parts, owner, size, more):
    """It was changed after it was listed."""
    data = bytes(size)
    info = {"name": "r/a", "size": max(0, size + more), "type": "file"}
    MADE["made"] = Listed([info], {"r/a": data})
    result = _sync_made(parts, on_error="return")
    assert isinstance(result.failed["a"], SourceChangedError)
    assert owner.stored() == {}
    assert not owner.oss.uploads(BUCKET)


@pytest.mark.parametrize("size", [10, 3 * MIN_PART, 17 * MIB])
def test_a_source_that_never_ends_is_not_read_for_ever(parts, owner, size):
    """No more is read than what shows that it is longer than it was listed."""
    reads = []

    class Endless(io.RawIOBase):
        def readable(self):
            return True

        def read(self, count=-1):
            reads.append(count)
            assert len(reads) < 40, "it is read on and on"
            return bytes(min(count, MIB) if count > 0 else MIB)

    class Source(_Made):
        def _open(self, path, mode="rb", **_):
            return Endless()

    info = {"name": "r/a", "size": size, "type": "file"}
    MADE["made"] = Listed([info], {})
    fsspec.register_implementation("listed", Source, clobber=True)
    result = sync("listed://r", DEST, filesystem=parts, on_error="return")
    assert isinstance(result.failed["a"], SourceChangedError)
    assert owner.stored() == {}
    assert not owner.oss.uploads(BUCKET)


# -- one store ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two"),
    [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("", "a"), ("a", "")],
)
def test_overlap_is_refused(fs, one, two):
    """An object would be read while it is written, or sent below itself."""
    options = {"source_options": {"signer": "keys"}, "filesystem": fs}
    with pytest.raises(ConfigurationError, match="overlap"):
        sync(f"osspresigned://{BUCKET}/{one}", f"{BUCKET}/{two}", **options)


def test_source_that_nobody_may_list_is_no_empty_one(only, fs, source):
    """Its own memory does not answer for it."""
    blind = only()
    blind.pipe_file(f"{BUCKET}/one/a", b"a")
    remote = RemoteSource(blind, f"{BUCKET}/one")
    with pytest.raises(NotCoveredError):
        list(remote.entries())

"""Reading where GET is signed: ranges, caches, several at once, one version only."""

from __future__ import annotations

import gzip
import io
import itertools
import logging
import os
import pickle
import signal
import socket
import threading

import fsspec
import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.emulator.reading import wanted_range
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    InvalidRequestError,
    NotCoveredError,
    SourceChangedError,
    StoreError,
    UploadErrors,
    URLExpiredError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

ROOT = "examplebucket"
PATH = f"{ROOT}/a.bin"
DATA = bytes(range(256)) * 40


def test_range_without_an_end_is_asked_for_once(fs, owner):
    """It may be large, so a worker thread reads it at once."""
    data = os.urandom(600_000)
    fs.pipe_file(PATH, data)
    owner.oss.clear()
    assert fs.cat_ranges([PATH], [10], [None]) == [data[10:]]
    assert owner.actions() == ["GetObject"]


def test_ranges_are_those_of_a_slice(full, owner):
    """Any start and end return the bytes of the slice."""
    full.pipe_file(PATH, DATA)
    size = len(DATA)
    ends = (None, 0, 1, 7, size - 1, size, size + 1, 10**12, -1, -size, -size - 5)
    for start in ends:
        for end in ends:
            assert full.cat_file(PATH, start, end) == DATA[start:end], (start, end)


def test_an_empty_object_has_only_empty_ranges(full):
    """Nothing is nothing, from wherever it is read."""
    full.pipe_file(PATH, b"")
    for start, end in [(None, None), (0, 5), (3, None), (-3, None), (-3, -1), (2, 9)]:
        assert full.cat_file(PATH, start, end) == b""
    for cache in ("readahead", "all"):
        with full.open(PATH, cache_type=cache) as file:
            assert file.read() == b""


def test_a_range_behind_the_end_does_not_transfer_the_object(fs, owner):
    """OSS answers it with the whole object: its head is enough."""
    fs.pipe_file(PATH, bytes(5_000_000))
    owner.oss.clear()
    assert fs.cat_file(PATH, 6_000_000) == b""
    assert fs.cat_file(PATH, 4_999_998, 6_000_000) == bytes(2)
    ranges = [r.request_headers.get("range") for r in owner.oss.requests]
    assert ranges == [
        "bytes=6000000-",
        "bytes=4999998-5999999",
        "bytes=4999998-4999999",
    ]


def test_a_store_without_ranges_is_read_all_the_same(fs, owner, monkeypatch):
    """If a gateway replies with the whole object, the range is cut from it."""
    fs.pipe_file(PATH, DATA)
    monkeypatch.setattr(
        "fsspec_osspresigned.emulator.reading.wanted_range", lambda *_: None
    )
    assert fs.cat_file(PATH, 5, 10) == DATA[5:10]
    assert fs.cat_file(PATH, 0, 10) == DATA[:10]
    assert fs.cat_file(PATH, -10) == DATA[-10:]


@pytest.mark.parametrize(("start", "end"), [(20_000, None), (20_000, 20_001)])
def test_a_store_that_refuses_a_range_behind_the_end(fs, owner, start, end):
    """416 means that there is nothing; every other refusal is an error."""
    fs.pipe_file(PATH, DATA)
    owner.oss.faults.add(Fault(action="GetObject", status=416, code="InvalidRange"))
    assert fs.cat_file(PATH, start, end) == b""
    owner.oss.faults.add(Fault(action="GetObject", status=400, code="InvalidArgument"))
    with pytest.raises(InvalidRequestError):
        fs.cat_file(PATH, start, end)


def test_a_suffix_longer_than_the_object_is_all_of_it(fs, monkeypatch):
    """It returns the whole object, also if the store replies 206 instead of 200."""

    def standard(call, size):
        headers = {**call.headers, "x-oss-range-behavior": "standard"}
        return wanted_range(evolve(call, headers=headers), size)

    monkeypatch.setattr("fsspec_osspresigned.emulator.reading.wanted_range", standard)
    fs.pipe({PATH: b"abc", f"{ROOT}/empty": b""})
    assert fs.cat_file(PATH, -8) == b"abc"
    assert fs.cat_ranges([PATH, f"{ROOT}/empty"], -8, None) == [b"abc", b""]


@pytest.mark.parametrize("cache", ["readahead", "none", "all"])
def test_a_range_that_comes_short_is_an_error(fs, tmp_path, monkeypatch, cache):
    """HTTP lets a cache answer with less: never is that returned as the whole."""

    def short(call, size):
        start, stop = wanted_range(call, size) or (0, size)
        return start, start + (stop - start) // 2

    fs.pipe_file(PATH, DATA)
    monkeypatch.setattr("fsspec_osspresigned.emulator.reading.wanted_range", short)
    for start, end in ((0, 100), (100, None), (-100, None), (-100, -10)):
        with pytest.raises(StoreError, match="not the requested range"):
            fs.cat_file(PATH, start, end)
    found = fs.cat_ranges([PATH, PATH], [0, 5_000], [10, 5_010])
    assert [type(one) for one in found] == [StoreError] * 2
    with pytest.raises(StoreError), fs.open(PATH, cache_type=cache) as file:
        file.read()
    with pytest.raises(StoreError, match="not the requested range"):
        fs.get_file(PATH, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("store", ["honest", "no pins", "no tags"])
def test_ranges_of_one_call_are_of_one_version(fs, owner, monkeypatch, store):
    """An object that is replaced between two of them is an error, not a mixture."""
    fs.pipe_file(PATH, DATA)
    if store != "honest":
        monkeypatch.setattr(
            "fsspec_osspresigned.emulator.reading.check_conditions",
            lambda *_: None,
        )
    if store == "no tags":  # then only the size can differ
        owner.oss.faults.add(Fault(action="GetObject", no_etag=True, times=None))
    real, seen = fs.client.call, itertools.count(1)

    async def call(operation, *args, **options):
        if operation.action == "GetObject" and next(seen) == 2:
            await fs._pipe_file(PATH, DATA + b"more")
        return await real(operation, *args, **options)

    monkeypatch.setattr(fs.client, "call", call)
    found = fs.cat_ranges([PATH, PATH], [0, 9_000], [10, 9_010], batch_size=1)
    assert found[0] == DATA[:10]
    assert isinstance(found[1], SourceChangedError)
    assert fs.cat_ranges([PATH], [0], [10]) == [DATA[:10]]


def test_range_with_an_end_beyond_the_object_is_of_one_version(fs, monkeypatch):
    """The object may be replaced before the part that exists is asked for."""
    fs.pipe_file(PATH, DATA)
    assert fs.cat_file(PATH, 5, len(DATA) + 9) == DATA[5:]
    real, seen = fs.client.call, itertools.count(1)

    async def call(operation, *args, **options):
        if operation.action == "GetObject" and next(seen) == 2:
            await fs._pipe_file(PATH, DATA + b"more")
        return await real(operation, *args, **options)

    monkeypatch.setattr(fs.client, "call", call)
    with pytest.raises(SourceChangedError):
        fs.cat_file(PATH, 5, len(DATA) + 9)


def test_a_whole_object_that_came_for_a_range_is_compared(fs, owner):
    """The CRC-64 of the whole object is known, so it counts."""
    fs.pipe_file(PATH, DATA)
    owner.oss.faults.add(Fault(action="GetObject", wrong_crc=True, times=None))
    assert fs.cat_file(PATH, 3, 5) == DATA[3:5]
    with pytest.raises(IntegrityError):
        fs.cat_file(PATH, 0, len(DATA) + 1)


def test_only_get_is_enough_to_look(only, owner):
    """Without HEAD, a GET of the first byte returns size, version and date."""
    fs = only("GetObject")
    owner.oss.clear()
    for body in (b"", b"1", DATA):
        fs.pipe_file(PATH, body)
        assert fs.info(PATH)["size"] == len(body)
        assert fs.info(PATH)["ETag"] == owner.oss.get(ROOT, "a.bin").etag
        assert fs.exists(PATH)
        with fs.open(PATH) as file:
            assert file.read() == body
    assert fs.cat_file(PATH, -5, -1) == DATA[-5:-1]
    assert not fs.exists(f"{ROOT}/none")


def test_looking_by_the_first_byte_in_odd_stores(only, owner, monkeypatch):
    """A refused range is asked for without one; another refusal is an error."""
    fs = only("GetObject")
    for data in [b"", DATA]:
        fs.pipe_file(PATH, data)
        owner.oss.faults.add(Fault(action="GetObject", status=416, code="InvalidRange"))
        assert fs.info(PATH)["size"] == len(data)
    owner.oss.faults.add(Fault(action="GetObject", status=400, code="InvalidArgument"))
    with pytest.raises(InvalidRequestError):
        fs.info(PATH)

    async def silent(client, piece):
        piece.begin()

    monkeypatch.setattr("fsspec_osspresigned.objects.reading.fetch", silent)
    with pytest.raises(StoreError, match="how large"):
        fs.info(PATH)


@pytest.mark.parametrize(
    "cache", ["readahead", "bytes", "all", "none", "blockcache", "first", "background"]
)
def test_every_cache_reads_the_same(fs, owner, cache):
    """Caches of fsspec ask for ranges as they like."""
    fs.pipe_file(PATH, DATA)
    with fs.open(PATH, cache_type=cache, block_size=1000) as file:
        assert file.size == len(DATA)
        assert file.details["ETag"] == owner.oss.get(ROOT, "a.bin").etag
        for at, size in [(0, 10), (5000, 2000), (len(DATA) - 3, 10), (10, 0)]:
            file.seek(at)
            assert file.read(size) == DATA[at : at + size]
        file.seek(-4, os.SEEK_END)
        assert file.read() == DATA[-4:]


def test_readers_options_are_taken_as_elsewhere(environment, fs, tmp_path):
    """Options of dask, s3fs and gcsfs work, or are accepted without effect."""
    fs.pipe_file(PATH, DATA)
    for taken in (
        {"default_cache": "none"},
        {"cache_type": "none", "blocksize": 100},
        {"block_size": 100, "fill_cache": True, "size": len(DATA)},
    ):
        with fs.open(PATH, **taken) as file:
            assert file.read() == DATA
            assert file.cache.name == ("readahead" if "size" in taken else "none")
            assert file.blocksize == (5 * 2**20 if len(taken) == 1 else 100)
    fs.get_file(PATH, str(tmp_path / "a"), chunksize=100)
    fs.get(PATH, str(tmp_path / "b"), chunksize=100)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == DATA
    other = OSSPresignedFileSystem(
        signer="keys",
        default_block_size="1KiB",
        default_cache_type="all",
        default_fill_cache=False,
    )
    with other.open(PATH) as file:
        assert (file.blocksize, file.cache.name) == (1024, "all")
        assert pickle.loads(pickle.dumps(file)).cache.name == "all"
    with other.open(PATH, block_size=7, cache_type="bytes") as file:
        assert (file.blocksize, file.cache.name) == (7, "bytes")


def test_an_unknown_option_of_a_reader_is_refused(fs):
    """The message suggests the nearest name, or lists the caches."""
    with pytest.raises(ConfigurationError, match="mean 'cache_type'"):
        fs.open(PATH, cache_typ="all")
    with pytest.raises(ConfigurationError, match="mean 'default_cache_type'"):
        OSSPresignedFileSystem(signer="keys", default_cache_typ="all")
    with pytest.raises(ValueError, match=r"cache_type must be one of .*readahead"):
        fs.open(PATH, cache_type="al")


@pytest.mark.parametrize("cache", ["readahead", "none", "all", "first", "bytes"])
def test_empty_object_is_not_requested(fs, oss, cache):
    """No range of it exists, so no cache asks for one."""
    fs.pipe_file(PATH, b"")
    with fs.open(PATH, cache_type=cache) as file:
        assert file.read() == b""
        file.seek(0)
        assert file.read(5) == b""
    assert "GetObject" not in {request.action for request in oss.requests}


@pytest.mark.parametrize("cache", ["readahead", "none", "blockcache"])
def test_an_object_that_is_replaced_while_it_is_read_is_an_error(full, cache):
    """No file ever holds bytes of two versions."""
    full.pipe_file(PATH, DATA)
    with full.open(PATH, cache_type=cache, block_size=1000) as file:
        assert file.read(10) == DATA[:10]
        full.pipe_file(PATH, DATA[::-1])
        with pytest.raises(SourceChangedError, match="was replaced while it was read"):
            file.read()


def test_a_store_that_ignores_the_pin_is_found_out(fs, owner, monkeypatch):
    """The ETag of each reply is compared, too."""
    fs.pipe_file(PATH, DATA)
    monkeypatch.setattr(
        "fsspec_osspresigned.emulator.reading.check_conditions", lambda *_: None
    )
    with fs.open(PATH, cache_type="none") as file:
        fs.pipe_file(PATH, DATA[::-1])
        with pytest.raises(SourceChangedError):
            file.read(10)


def test_an_object_that_shrank_is_an_error(fs, owner):
    """A range that is no longer there is a change of the pinned version."""
    fs.pipe_file(PATH, DATA)
    with fs.open(PATH, cache_type="none") as file:
        owner.oss.faults.add(Fault(action="GetObject", status=416, code="InvalidRange"))
        with pytest.raises(SourceChangedError):
            file.read(10)
        owner.oss.faults.add(Fault(action="GetObject", status=400, code="BadThing"))
        with pytest.raises(InvalidRequestError, match="BadThing"):
            file.read(10)


def test_a_file_survives_pickling_at_its_place(fs):
    """Dask sends open files to workers; they must go on in the same version."""
    fs.pipe_file(PATH, DATA)
    with fs.open(PATH, cache_type="bytes", block_size=100) as file:
        file.seek(50)
        text = pickle.dumps(file)
        with pickle.loads(text) as twin:
            assert (twin.tell(), twin.cache.name, twin.blocksize) == (50, "bytes", 100)
            assert twin.read(5) == DATA[50:55]
    fs.pipe_file(PATH, DATA[::-1])
    with pytest.raises(SourceChangedError):
        pickle.loads(text)


def test_text_and_compression_are_read(full):
    """The layers of fsspec lie over our file."""
    full.pipe_file(f"{ROOT}/a.txt.gz", gzip.compress("ä\nb\n".encode()))
    with full.open(f"{ROOT}/a.txt.gz", "rt", compression="infer") as file:
        assert file.readlines() == ["ä\n", "b\n"]
    full.pipe_file(f"{ROOT}/a.txt", "ü\r\n".encode("utf-16"))
    with full.open(f"{ROOT}/a.txt", "r", encoding="utf-16", newline="") as file:
        assert file.read() == "ü\r\n"
    options = {"signer": full.client.options.signer}
    if full.client.options.signer_token:
        options["signer_token"] = full.client.options.signer_token
    with fsspec.open(f"osspresigned://{ROOT}/a.txt.gz", "rb", **options) as file:
        assert gzip.decompress(file.read())


WAYS = {
    "at once": lambda file: file.read(),
    "in blocks": lambda file: [file.read(900) for _ in range(12)],
    "by lines": lambda file: [*file],
    "into a buffer": lambda file: file.readinto(bytearray(len(DATA))),
    "back and on": lambda file: (file.read(600), file.seek(100), file.read()),
    "as text": lambda file: io.TextIOWrapper(file, "latin-1").read(),
}


@pytest.mark.parametrize("cache", ["readahead", "none", "all", "background"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_read_from_start_to_end_is_compared(fs, owner, way, cache):
    """The last bytes come only if the CRC-64 of all is that of the store."""
    fs.pipe_file(PATH, DATA)
    with fs.open(PATH, cache_type=cache, block_size=1000) as file:
        WAYS[way](file)
    owner.oss.faults.add(Fault(action="HeadObject", wrong_crc=True))
    with fs.open(PATH, cache_type=cache, block_size=1000) as file:
        assert file.read(len(DATA) - 1) == DATA[:-1]
        file.seek(0)
        with pytest.raises(IntegrityError, match="the store says CRC-64"):
            WAYS[way](file)


@pytest.mark.parametrize("data", [DATA[::-1], DATA + b"more"])
def test_a_store_without_etags_mixes_nothing(fs, owner, data):
    """The size, or the CRC-64 at the end, shows that the object was replaced."""
    fs.pipe_file(PATH, DATA)
    for action in ("HeadObject", "GetObject"):
        owner.oss.faults.add(Fault(action=action, no_etag=True, times=None))
    with fs.open(PATH, cache_type="none") as file:
        assert file.read(1_000) == DATA[:1_000]
        fs.pipe_file(PATH, data)
        with pytest.raises((IntegrityError, SourceChangedError)):
            file.read()


def test_what_is_read_with_gaps_is_not_compared(fs, owner):
    """A store returns the CRC-64 of the whole object only."""
    fs.pipe_file(PATH, DATA)
    owner.oss.faults.add(Fault(action="HeadObject", wrong_crc=True))
    with fs.open(PATH) as file:
        file.seek(1)
        assert file.read() == DATA[1:]
        file.seek(0)
        assert file.read(1) == DATA[:1]
    owner.oss.faults.add(Fault(action="HeadObject", no_crc=True))
    with fs.open(PATH) as file:
        assert file.read() == DATA


def test_a_file_object_gets_the_last_bytes_only_if_all_are_right(fs, owner):
    """Written bytes cannot be taken back, so an error is raised."""
    fs.pipe_file(PATH, DATA)
    owner.oss.faults.add(Fault(action="HeadObject", wrong_crc=True))
    with pytest.raises(IntegrityError):
        fs.get_file(PATH, io.BytesIO())


def test_a_file_object_that_takes_fewer_bytes_is_an_error(fs):
    """An unbuffered file of a socket may do so, and the rest would be missing."""
    fs.pipe_file(PATH, bytes(2**20))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        with (
            ours.makefile("wb", buffering=0) as file,
            pytest.raises(OSError, match="of 1048576 bytes: give a buffered file"),
        ):
            fs.get_file(PATH, file)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("cache", ["readahead", "none", "background"])
def test_children_read_on_in_a_file_of_their_parent(fs, cache):
    """Ranges over several connections return the right bytes."""
    data = os.urandom(1_000_000)
    fs.pipe_file(PATH, data)
    file = fs.open(PATH, cache_type=cache, block_size=100_000)
    assert file.read(1000) == data[:1000]
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:  # pragma: no cover - seen by its exit code
            code = 1
            logging.disable()  # a thread of the parent may have been in pytest's log
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(60)  # a child that waits for a thread of its parent
            try:
                rest = b"".join(iter(lambda: file.read(70_000), b""))
                file.seek(0)
                code = 0 if rest == data[1000:] and file.read() == data else 2
            finally:
                os._exit(code)
        children.append(child)
    assert file.read() == data[1000:]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * 4
    file.close()


def test_many_are_read_at_once(full, owner):
    """Paths, patterns and directories; a single one is bytes."""
    bodies = {f"{ROOT}/d/{n}": bytes([n]) * n for n in range(20)}
    full.pipe(bodies)
    assert full.cat(sorted(bodies)) == bodies
    assert full.cat(f"{ROOT}/d", recursive=True) == bodies
    assert full.cat(f"{ROOT}/d/1*") == {k: v for k, v in bodies.items() if "/d/1" in k}
    assert full.cat(f"{ROOT}/d/7") == bytes([7]) * 7
    assert full.cat(f"osspresigned://{ROOT}/d/7", start=1, end=3) == bytes([7]) * 2
    assert full.cat([f"{ROOT}/d/7"]) == {f"{ROOT}/d/7": bytes([7]) * 7}
    with pytest.raises(FileNotFoundError):
        full.cat(f"{ROOT}/none*")


def test_what_cannot_be_read_of_many(fs, owner):
    """It is raised, left out or returned."""
    fs.pipe({f"{ROOT}/{n}": b"x" for n in "ab"})
    paths = [f"{ROOT}/{n}" for n in "abc"]
    with pytest.raises(FileNotFoundError):
        fs.cat(paths)
    assert set(fs.cat(paths, on_error="omit")) == {f"{ROOT}/a", f"{ROOT}/b"}
    found = fs.cat(paths, on_error="return")
    assert isinstance(found[f"{ROOT}/c"], FileNotFoundError)
    assert found[f"{ROOT}/a"] == b"x"
    assert fs.cat(f"{ROOT}/c", on_error="omit") == {}
    with pytest.raises(ValueError, match="on_error"):
        fs.cat(paths, on_error="ignore")
    with pytest.raises(UploadErrors, match="2 transfers failed"):
        owner.oss.faults.add(Fault(action="GetObject", status=404, delay=0.1, times=2))
        fs.cat(paths[:2])


def test_ranges_of_many_objects(full):
    """Each range gets its bytes."""
    full.pipe({PATH: DATA, f"{ROOT}/b": DATA[::-1]})
    paths = [PATH, f"{ROOT}/b", PATH, PATH, PATH, f"osspresigned://{PATH}", PATH]
    starts = [0, 5, 12, None, -4, 9_000, 30]
    ends = [10, 9, 20, 3, None, None, 30]
    expected = [
        (DATA[::-1] if path.endswith("b") else DATA)[start:end]
        for path, start, end in zip(paths, starts, ends, strict=True)
    ]
    assert full.cat_ranges(paths, starts, ends) == expected
    assert full.cat_ranges((PATH, PATH), 1, 3, batch_size=1) == [DATA[1:3]] * 2
    assert full.cat_ranges([], [], []) == []


def test_generators_run_in_the_thread_of_the_caller(fs, tmp_path):
    """They may use the filesystem, and stop no other call while they wait."""
    paths = [PATH, f"{ROOT}/b"]
    fs.pipe(dict.fromkeys(paths, DATA))
    sizes = (fs.info(path)["size"] for path in paths)
    assert fs.cat_ranges((p for p in paths), (0 for _ in paths), sizes) == [DATA] * 2
    threads = set()

    def named(items):
        for item in items:
            threads.add(threading.current_thread())
            yield item

    (tmp_path / "x").write_bytes(b"x")
    fs.put(named([tmp_path / "x"]), named([f"{ROOT}/x"]))
    assert threads == {threading.current_thread()}


def test_ranges_that_fail(fs):
    """The error is returned in place of the bytes, or raised."""
    fs.pipe_file(PATH, DATA)
    paths = [PATH, f"{ROOT}/none", f"{ROOT}/none"]
    found = fs.cat_ranges(paths, [0, 0, 5], [5, 5, 9])
    assert found[0] == DATA[:5]
    assert all(isinstance(one, FileNotFoundError) for one in found[1:])
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths[:2], 0, 5, on_error="raise")
    with pytest.raises(NotImplementedError):
        fs.cat_ranges(paths, 0, 5, max_gap=0)
    with pytest.raises(TypeError):
        fs.cat_ranges(PATH, 0, 5)
    with pytest.raises(ValueError, match="1 starts"):
        fs.cat_ranges(paths, [0], 5)
    with pytest.raises(ValueError, match="on_error"):
        fs.cat_ranges(paths, 0, 5, on_error="omit")


def test_a_get_that_the_store_denies(fs, owner):
    """Keys that may only write: own small bodies are read from memory."""
    owner.oss.faults.add(Fault(action="GetObject", refuse="denied", times=None))
    owner.oss.faults.add(Fault(action="HeadObject", refuse="denied", times=None))
    fs.pipe_file(PATH, b"own")
    assert fs.cat_file(PATH) == b"own"
    assert fs.open(PATH).read() == b"own"
    fs.pipe_file(f"{ROOT}/big", bytes(2_000_000))
    with pytest.raises(NotCoveredError, match="this process wrote it") as caught:
        fs.cat_file(f"{ROOT}/big")
    assert isinstance(caught.value.__cause__, AccessDeniedError)


def test_an_expired_url_is_no_missing_object(fs, owner):
    """Only a missing permission counts as "cannot be checked"; an expiry is raised."""
    fs.pipe_file(PATH, b"own")
    for action in ("GetObject", "HeadObject", "ListObjectsV2"):
        owner.oss.faults.add(Fault(action=action, refuse="expired", times=None))
    for look in (fs.info, fs.cat_file, fs.open, fs.ls, fs.find):
        with pytest.raises(URLExpiredError):
            look(PATH)

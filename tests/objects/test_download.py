"""Objects become local files: whole, of one version, and only where they belong."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import signal
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve
from fsspec.callbacks import Callback

from fsspec_osspresigned import sync
from fsspec_osspresigned.emulator import Fault, StoredObject, reading
from fsspec_osspresigned.engine import abort_at_exit, engine
from fsspec_osspresigned.engine.engine import blocking, run
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    IntegrityError,
    InvalidRequestError,
    SourceChangedError,
    StoreError,
    UploadDiscardedError,
    UploadErrors,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.body import SMALL
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.objects.download import AtomicFile, Download
from tests.loopback_server import LoopbackServer

ROOT = "examplebucket"
PATH = f"{ROOT}/d/a.bin"
PART = 100 * 1024
LARGE = os.urandom(PART * 7 + 5)


@pytest.fixture
def parts(environment):
    """A filesystem of small parts, so that little data is many ranges."""
    return OSSPresignedFileSystem(signer="keys", part_size=PART)


class Told(Callback):
    """Records the events of the callback and of its branches."""

    def __init__(self):
        super().__init__()
        self.children = {}

    def branched(self, path_1, path_2, **kwargs):
        child = self.children[path_1] = Told()
        return child


def left(directory):
    """Return the names in a directory."""
    return sorted(os.listdir(directory))


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, len(LARGE)])
def test_every_size_arrives_whole(parts, owner, tmp_path, size):
    """Small objects cost one request, large ones one a part; nothing else is asked."""
    parts.pipe_file(PATH, LARGE[:size])
    owner.oss.clear()
    told = Told()
    assert parts.get_file(PATH, tmp_path / "x" / "a", callback=told) is None
    assert (tmp_path / "x" / "a").read_bytes() == LARGE[:size]
    assert left(tmp_path / "x") == ["a"]
    assert (told.size, told.value) == (size, size)
    assert owner.actions() == ["GetObject"] * max(1, -(-size // PART))
    pins = [r.request_headers.get("if-match") for r in owner.oss.requests]
    etag = f'"{owner.oss.get(ROOT, "d/a.bin").etag}"'
    assert pins[0] is None
    assert set(pins[1:]) <= {etag}


def test_an_object_that_is_replaced_meanwhile_is_an_error(parts, owner, tmp_path):
    """Ranges of two versions never make one file."""
    parts.pipe_file(PATH, LARGE)
    target = tmp_path / "a"
    target.write_bytes(b"old")

    class Replaces(Told):
        def set_size(self, size):
            super().set_size(size)
            parts.pipe_file(PATH, LARGE[::-1])

    with pytest.raises(SourceChangedError):
        parts.get_file(PATH, target, callback=Replaces())
    assert target.read_bytes() == b"old"
    assert left(tmp_path) == ["a"]


@pytest.mark.parametrize("size", [PART // 2, len(LARGE)])
def test_a_wrong_checksum_leaves_the_old_file(parts, owner, tmp_path, size):
    """The CRC-64 of all ranges together is that of the store, or nothing changes."""
    parts.pipe_file(PATH, LARGE[:size])
    owner.oss.faults.add(Fault(action="GetObject", wrong_crc=True, times=None))
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(IntegrityError):
        parts.get_file(PATH, tmp_path / "a")
    assert left(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_store_without_checksums_is_believed(parts, owner, tmp_path):
    """Size and version are compared anyway."""
    parts.pipe_file(PATH, LARGE)
    owner.oss.faults.add(Fault(action="GetObject", no_crc=True, times=None))
    parts.get_file(PATH, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == LARGE


def test_a_store_without_etags_sends_all_in_one(parts, owner, tmp_path):
    """Without a version to name, ranges could be of two: one request cannot."""
    parts.pipe_file(PATH, LARGE)
    owner.oss.clear()
    owner.oss.faults.add(Fault(action="GetObject", no_etag=True, times=None))
    told = Told()
    parts.get_file(PATH, tmp_path / "a", callback=told)
    assert (tmp_path / "a").read_bytes() == LARGE
    assert (told.size, told.value) == (len(LARGE), len(LARGE))
    assert len(owner.actions()) == 2


def test_a_store_that_has_no_range_of_an_empty_object(parts, owner, tmp_path):
    """416 to the first byte is asked about again; another refusal is an error."""
    no_range = Fault(action="GetObject", status=416, code="InvalidRange")
    for data in (b"", b"small", LARGE):
        parts.pipe_file(PATH, data)
        owner.oss.faults.add(no_range)
        parts.get_file(PATH, tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == data
        owner.oss.faults.add(no_range)
        assert parts.cat_file(PATH, 0, 3) == data[:3]
    owner.oss.faults.add(evolve(no_range, times=None))
    with pytest.raises(InvalidRequestError):
        parts.get_file(PATH, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == LARGE
    owner.oss.faults.clear()
    owner.oss.faults.add(Fault(action="GetObject", status=400, code="BadThing"))
    with pytest.raises(InvalidRequestError):
        parts.get_file(PATH, tmp_path / "b")
    assert left(tmp_path) == ["a"]


@pytest.mark.parametrize("size", [5, SMALL, SMALL + 1, 4 * SMALL])
def test_a_store_without_ranges_sends_all_at_once(
    fs, owner, tmp_path, monkeypatch, size
):
    """A large object goes to the disk, not into memory."""
    data = os.urandom(size)
    fs.pipe_file(PATH, data)
    owner.oss.clear()
    monkeypatch.setattr(
        "fsspec_osspresigned.emulator.reading.wanted_range", lambda *_: None
    )
    told = Told()
    fs.get_file(PATH, tmp_path / "a", callback=told)
    assert (tmp_path / "a").read_bytes() == data
    assert (told.size, told.value) == (size, size)
    assert len(owner.actions()) <= 3


class Overlong(LoopbackServer):
    """Answers the first request of range *hit* with more bytes, and no length."""

    hit, etag = 5, '"ABC"'

    def __init__(self, status):
        super().__init__()
        self.status, self.requests = status, []

    def serve(self, request):
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        first, last = int(first), min(int(last), len(LARGE) - 1)
        is_hit = first // PART == self.hit and first not in self.requests
        if is_hit:  # the neighbours come first
            time.sleep(0.3)
        self.requests.append(first)
        request.send_response(self.status if is_hit else 206)
        request.send_header("ETag", self.etag)
        request.send_header("x-oss-request-id", secrets.token_hex(8))
        request.send_header("x-oss-hash-crc64ecma", str(crc64(LARGE)))
        if not is_hit or self.status == 206:
            span = f"bytes {first}-{last}/{len(LARGE)}"
            request.send_header("Content-Range", span)
        body = LARGE[first : last + 1]
        if is_hit:
            body = LARGE if self.status == 200 else body + b"x" * 5000
            request.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        else:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@pytest.mark.parametrize("status", [200, 206])
def test_a_reply_that_is_too_long_changes_no_other_range(
    environment, monkeypatch, tmp_path, status
):
    """The bytes of the neighbours stay, although only this range is got again."""
    with Overlong(status) as store:
        monkeypatch.setenv("OSS_ENDPOINT", store.url)
        fs = OSSPresignedFileSystem(signer="keys", part_size=PART)
        fs.get_file(PATH, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == LARGE
    assert len([first for first in store.requests if first // PART == 5]) == 2


def test_a_whole_object_in_place_of_a_later_range_is_told(parts, tmp_path, monkeypatch):
    """The error says what came."""
    parts.pipe_file(PATH, LARGE)
    real = reading.wanted_range

    def first_alone(call, size):
        begins = call.headers["range"].startswith("bytes=0-")
        return real(call, size) if begins else None

    monkeypatch.setattr(reading, "wanted_range", first_alone)
    with pytest.raises(StoreError, match="the whole object arrived"):
        parts.get_file(PATH, tmp_path / "a")
    assert left(tmp_path) == []


def test_a_cut_range_is_fetched_again(parts, owner, tmp_path):
    """Retries begin the range again, also for those who count bytes."""
    parts.pipe_file(PATH, LARGE)
    for after in (0, 1, 2):
        owner.oss.faults.add(
            Fault(action="GetObject", after=after, cut_reply_after=PART // 2)
        )
    told = Told()
    parts.get_file(PATH, tmp_path / "a", callback=told)
    assert (tmp_path / "a").read_bytes() == LARGE
    assert told.value == len(LARGE)


@pytest.mark.parametrize("now", [b"small", b""])
def test_a_retry_after_a_smaller_version_leaves_nothing_of_the_larger_one(
    full, owner, tmp_path, now
):
    """The file is the new object alone, also if the cut try wrote more bytes."""
    full.pipe_file(PATH, os.urandom(1024 * 1024))
    owner.oss.faults.add(
        Fault(action="GetObject", no_etag=True),
        Fault(action="GetObject", no_etag=True, cut_reply_after=-1),
    )

    class Replaces(Callback):
        def relative_update(self, inc=1):
            if owner.oss.get(ROOT, "d/a.bin").size != len(now):
                full.pipe_file(PATH, now)

    full.get_file(PATH, tmp_path / "a", callback=Replaces())
    assert (tmp_path / "a").read_bytes() == now


def test_a_cancelled_download_leaves_nothing(parts, owner, tmp_path):
    """When the call ends, no request is in flight and no file exists."""
    parts.pipe_file(PATH, LARGE)
    owner.oss.faults.add(Fault(action="GetObject", after=1, delay=20.0, times=None))
    file, has_begun = AtomicFile(str(tmp_path / "a")), threading.Event()
    made = Download(parts.client, PATH, file, on_size=lambda _: has_begun.set())

    async def cancelled():
        reading = asyncio.create_task(made.run())
        await blocking(has_begun.wait, 20)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await file.end()

    began = time.monotonic()
    run(cancelled)
    assert time.monotonic() - began < 10
    assert engine.current().tasks == set()
    with pytest.raises(UploadDiscardedError, match="was cancelled"):
        file.write(LARGE, 0)  # as a thread that was left alone
    assert left(tmp_path) == []


def test_a_range_that_fails_ends_the_others(parts, owner, tmp_path):
    """The failure is raised at once, not when all ranges have come."""
    parts.pipe_file(PATH, LARGE)
    owner.oss.faults.add(
        Fault(action="GetObject", after=1, stall_reply_after=PART // 2, stall_for=20.0),
        Fault(action="GetObject", after=2, refuse="denied", times=None),
    )
    began = time.monotonic()
    with pytest.raises(AccessDeniedError):
        parts.get_file(PATH, tmp_path / "a")
    assert time.monotonic() - began < 10
    assert left(tmp_path) == []


@pytest.mark.parametrize("size", [SMALL - 1, SMALL, SMALL + 1, 4 * SMALL + 3])
def test_a_large_object_takes_one_more_request_for_each_part(fs, owner, tmp_path, size):
    """The first request is for what every small object is smaller than."""
    data = os.urandom(size)
    fs.pipe_file(PATH, data)
    owner.oss.clear()
    fs.get_file(PATH, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data
    assert owner.actions() == ["GetObject"] * (2 if size > SMALL else 1)


def test_no_file_appears_after_a_cancellation(fs, tmp_path, monkeypatch):
    """Files that wait for a slow disk are dropped; those that it writes are waited for."""
    fs.pipe({f"{ROOT}/t/{n}": b"x" for n in range(60)})
    replace, has_begun = os.replace, threading.Event()

    def slow(*args, **kwargs):
        has_begun.set()
        time.sleep(0.02)
        replace(*args, **kwargs)

    monkeypatch.setattr(os, "replace", slow)

    async def cancelled():
        getting = asyncio.create_task(
            fs._get(f"{ROOT}/t", str(tmp_path / "t"), recursive=True)
        )
        await asyncio.to_thread(has_begun.wait, 20)
        getting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await getting

    asyncio.run(cancelled())
    before = left(tmp_path / "t")
    assert len(before) < 60
    time.sleep(0.3)
    assert left(tmp_path / "t") == before


@pytest.mark.parametrize("verb", ["get", "get_file"])
@pytest.mark.parametrize("size", [5, len(LARGE)])
def test_a_full_disk_leaves_nothing(parts, tmp_path, monkeypatch, verb, size):
    """An error of the local file is raised unchanged."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    parts.pipe_file(PATH, LARGE[:size])
    with pytest.raises(OSError, match="No space left"):
        getattr(parts, verb)(PATH, str(tmp_path / "a"))
    assert left(tmp_path) == []


def test_a_place_that_cannot_be_written_is_an_error(parts, tmp_path):
    """A directory is not replaced, and the partial file goes."""
    parts.pipe_file(PATH, b"x")
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        parts.get_file(PATH, tmp_path / "a")
    assert left(tmp_path) == ["a"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_is_terminated_leaves_nothing(tmp_path):
    """SIGTERM removes the file that is not whole."""
    place = tmp_path / "new" / "a"
    child = os.fork()
    if child == 0:  # pragma: no cover - killed
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        abort_at_exit.watch()
        file = AtomicFile(str(place))
        file.write(bytes(SMALL), 0)
        file.write(b"begun", SMALL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert left(place.parent) == []


def test_an_unfinished_file_is_removed_and_never_sent(fs, owner, tmp_path):
    """Its name says what it is, so ``put`` and ``sync`` leave it out."""
    whole, begun = (AtomicFile(str(tmp_path / "d" / name)) for name in ("a", "b"))
    whole.write(b"whole", 0)
    whole.publish()
    begun.write(bytes(SMALL), 0)
    begun.write(b"begun", SMALL)
    assert len(left(tmp_path / "d")) == 2
    result = sync(tmp_path / "d", f"{ROOT}/s", filesystem=fs)
    assert [*result.left_out.values()] == ["unfinished download"]
    with pytest.warns(UserWarning, match="left out"):
        fs.put(f"{tmp_path}/d/", f"{ROOT}/p/", recursive=True)
    assert set(owner.stored()) == {"s/a", "p/a"}
    assert not begun.is_over
    abort_at_exit.end_all(1.0)
    assert begun.is_over
    assert left(tmp_path / "d") == ["a"]
    begun.discard()


def test_a_file_that_is_replaced_keeps_its_mode(fs, tmp_path):
    """A replaced file keeps its mode; a new one has that of the umask."""
    fs.pipe_file(PATH, b"new")
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o600)
    for name in "ab":
        fs.get_file(PATH, tmp_path / name)
    (tmp_path / "c").touch()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"]
    assert modes == [0o600, modes[2], modes[2]]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_pipe_and_a_device_are_written_into(fs, tmp_path):
    """None of them becomes a file; a directory of that name is made as always."""
    fs.pipe_file(PATH, LARGE)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    told = Told()
    with ThreadPoolExecutor(1) as pool:
        came = pool.submit(pipe.read_bytes)
        fs.get_file(PATH, pipe, callback=told)
        assert came.result() == LARGE
    assert (told.size, told.value) == (len(LARGE), len(LARGE))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    fs.pipe_file(PATH, b"line")
    here, there = os.openpty()
    fs.get(PATH, os.ttyname(there))
    assert os.read(here, 100) == b"line"
    os.close(here)
    os.close(there)
    with (tmp_path / "open").open("wb") as file:  # as /dev/stdout stands for one
        fs.get(PATH, f"/proc/self/fd/{file.fileno()}")
    assert (tmp_path / "open").read_bytes() == b"line"
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{ROOT}/none", pipe)


def test_a_file_object_is_written_to(full, tmp_path):
    """As fsspec allows."""
    full.pipe_file(PATH, LARGE)
    target = io.BytesIO()
    full.get_file(f"osspresigned://{PATH}", target)
    assert target.getvalue() == LARGE


def test_what_is_no_object_makes_no_file(parts, tmp_path):
    """A directory becomes one; a missing object creates no file and no parent."""
    parts.pipe_file(PATH, b"x")
    parts.get_file(f"{ROOT}/d", tmp_path / "d")
    assert (tmp_path / "d").is_dir()
    with pytest.raises(FileNotFoundError):
        parts.get_file(f"{ROOT}/none", tmp_path / "new" / "none")
    assert left(tmp_path) == ["d"]
    parts.get(f"{ROOT}/d", str(tmp_path / "e"))
    with pytest.raises(FileNotFoundError):
        parts.get(f"{ROOT}/none", str(tmp_path / "none"))
    assert left(tmp_path) == ["d"]
    with pytest.raises(ConfigurationError):
        parts.get_file(PATH, tmp_path / "a", contenttype="x")


def test_many_files_are_fetched_at_once(full, tmp_path):
    """A tree keeps its layout; the root counts files, the branches bytes."""
    bodies = {f"{ROOT}/t/{n // 5}/{n}": bytes([n]) * n for n in range(20)}
    full.pipe(bodies)
    told = Told()
    full.get(f"{ROOT}/t", str(tmp_path / "t"), recursive=True, callback=told)
    for path, body in bodies.items():
        assert (tmp_path / path.removeprefix(f"{ROOT}/")).read_bytes() == body
        assert told.children[path].value == told.children[path].size == len(body)
    assert told.size == told.value == 20 + 5
    full.get(f"{ROOT}/t", str(tmp_path / "one"), recursive=True, maxdepth=1)
    assert not (tmp_path / "one").exists()


def test_a_name_that_looks_like_a_pattern_is_itself(fs, tmp_path):
    """An object of that very name is meant."""
    fs.pipe({f"{ROOT}/a[1]": b"itself", f"{ROOT}/a1": b"other"})
    fs.get(f"{ROOT}/a[1]", str(tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == b"itself"
    fs.rm(f"{ROOT}/a[1]")
    assert fs.find(ROOT) == [f"{ROOT}/a1"]


@pytest.mark.parametrize("key", ["t/../../evil", "t/a/../../../evil", "t/nul\0l"])
def test_names_that_lead_elsewhere_are_refused_before_anything(
    fs, owner, tmp_path, key
):
    """Names of objects cannot lead outside of the destination directory."""
    fs.pipe_file(f"{ROOT}/t/fine", b"x")
    store = owner.oss.store
    like = StoredObject(
        key=key, etag="E", crc64=0, headers={"x-oss-storage-class": "IA"}
    )
    store.put(store.buckets[ROOT], like, exclusive=False)
    inside = tmp_path / "inside"
    with pytest.raises(ConfigurationError, match="get it alone"):
        fs.get(f"{ROOT}/t", str(inside), recursive=True)
    assert left(tmp_path) == []


def test_two_objects_that_would_be_one_file_are_refused(fs, tmp_path):
    """Two slashes are one on a disk."""
    fs.pipe({f"{ROOT}/t/a": b"1", f"{ROOT}/t//a": b"2"})
    with pytest.raises(ConfigurationError, match="would both be"):
        fs.get(f"{ROOT}/t", str(tmp_path / "t"), recursive=True)
    with pytest.raises(ConfigurationError, match="would both be"):
        fs.get([f"{ROOT}/t/a", f"{ROOT}/t//a"], [str(tmp_path / "x")] * 2)
    with pytest.raises(ValueError, match="1 sources for 2"):
        fs.get([f"{ROOT}/t/a"], [str(tmp_path / "x")] * 2)
    assert left(tmp_path) == []


def test_files_that_fail(fs, owner, tmp_path):
    """All failures are reported; with ``on_error`` the other files arrive."""
    fs.pipe({f"{ROOT}/t/{n}": b"x" for n in "abcd"})
    # So slow that both are under way when the first of them fails.
    slow = {"status": 400, "code": "BadThing", "delay": 0.2, "times": None}
    owner.oss.faults.add(Fault(action="GetObject", key="t/[ab]", **slow))
    with pytest.raises(UploadErrors) as caught:
        fs.get(f"{ROOT}/t", str(tmp_path / "t"), recursive=True)
    assert set(caught.value.failures) == {f"{ROOT}/t/a", f"{ROOT}/t/b"}
    fs.get(f"{ROOT}/t", str(tmp_path / "u"), recursive=True, on_error="omit")
    assert left(tmp_path / "u") == ["c", "d"]
    with pytest.raises(ValueError, match="on_error"):
        fs.get(f"{ROOT}/t", str(tmp_path / "t"), on_error="ignore")


def test_own_bodies_become_files_where_nobody_may_read(blind, tmp_path):
    """Memory counts as bytes that came."""
    blind.pipe({f"{ROOT}/t/a": b"1", f"{ROOT}/t/b": b""})
    told = Told()
    blind.get(f"{ROOT}/t", str(tmp_path / "t"), recursive=True, callback=told)
    assert (tmp_path / "t" / "a").read_bytes() == b"1"
    assert (tmp_path / "t" / "b").read_bytes() == b""
    assert told.children[f"{ROOT}/t/a"].value == 1
    blind.get_file(f"{ROOT}/t/a", tmp_path / "quiet")
    blind.mkdir(f"{ROOT}/made")
    blind.get_file(f"{ROOT}/made", tmp_path / "made")
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("several", [False, True])
def test_a_pipe_in_a_target_directory_is_not_waited_for(fs, tmp_path, several):
    """It fails alone, and the other objects arrive; sync refuses it, too."""
    fs.pipe({f"{ROOT}/t/{name}": name.encode() for name in "ab"})
    os.mkfifo(tmp_path / "a")
    source, target = f"{ROOT}/t/", f"{tmp_path}/"
    if several:
        source = [f"{ROOT}/t/{name}" for name in "ab"]
        target = [str(tmp_path / name) for name in "ab"]
    with pytest.raises(FileExistsError, match="a pipe or device exists at the path"):
        fs.get(source, target, recursive=not several)
    assert stat.S_ISFIFO((tmp_path / "a").stat().st_mode)
    fs.get(source, target, recursive=not several, on_error="omit")
    assert (tmp_path / "b").read_bytes() == b"b"

"""Many files and values: layout, concurrency, failures, progress, bad sources."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from fsspec.callbacks import Callback

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    ConfigurationError,
    Outcome,
    OutcomeUnknownError,
    PublishWarning,
    SourceChangedError,
    UploadErrors,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http import body
from fsspec_osspresigned.units import MIB

ROOT = "examplebucket"


@pytest.fixture
def tree(tmp_path):
    """A directory with two files, one of them in a subdirectory."""
    top = tmp_path / "src"
    (top / "sub").mkdir(parents=True)
    (top / "a.txt").write_bytes(b"a")
    (top / "sub" / "b.txt").write_bytes(b"bb")
    (top / "empty").mkdir()
    return top


def test_files_and_directories_by_any_name(blind, owner, tree):
    """Path objects and texts; two lists go pairwise; a directory alone is warned of."""
    a, b = tree / "a.txt", tree / "sub" / "b.txt"
    blind.put(str(a), f"{ROOT}/file")
    blind.put(a, f"osspresigned://{ROOT}/dir/")
    blind.put(a, ROOT)
    blind.put((str(a), b), [f"{ROOT}/x", f"osspresigned://{ROOT}/y"])
    with pytest.warns(PublishWarning, match="nothing was sent: .*give recursive=True"):
        assert blind.put(str(tree), f"{ROOT}/nothing") == []
    with pytest.warns(PublishWarning, match="nothing was sent: "):
        assert blind.put([str(tree)], f"{ROOT}/nothing/") == []
    with pytest.warns(PublishWarning, match="is a directory, put"):
        assert blind.put_file(tree, f"{ROOT}/made") is None
    assert blind.isdir(f"{ROOT}/made")
    assert owner.stored() == {
        "file": b"a",
        "dir/a.txt": b"a",
        "a.txt": b"a",
        "x": b"a",
        "y": b"bb",
    }


def test_wrong_arguments_of_put(blind, owner, tree):
    """Nothing is sent before the sources and destinations are known to fit."""
    with pytest.raises(ValueError, match="1 sources for 2 destinations"):
        blind.put([str(tree / "a.txt")], [f"{ROOT}/a", f"{ROOT}/b"])
    with pytest.raises(ValueError, match="1 sources for 1"):
        blind.put(str(tree / "a.txt"), [f"{ROOT}/a"])
    for missing in (tree / "none", f"{tree}/none*"):
        with pytest.raises(FileNotFoundError):
            blind.put(missing, f"{ROOT}/a")
    with pytest.raises(ValueError, match="mode must be"):
        blind.put(tree / "a.txt", f"{ROOT}/a", mode="append")
    assert not owner.actions()


def test_two_sources_of_one_object_are_refused(blind, owner, tmp_path):
    """Only one of them would be stored, but both would have a receipt."""
    paths = [tmp_path / "x" / "a", tmp_path / "y" / "a"]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    same = f"{ROOT}/a"
    for target in (f"{ROOT}/d/", [same, f"/{same}"]):
        with pytest.raises(ConfigurationError, match="would both be 'examplebucket/"):
            blind.put(paths, target)
    with pytest.raises(ConfigurationError, match="would both be 'examplebucket/a'"):
        blind.pipe({same: b"1", f"osspresigned://{same}": b"2"})
    assert not owner.stored()


def test_one_failure_is_raised_as_itself_and_stops_the_rest(blind, owner):
    """Nothing runs any more when the error arrives."""
    owner.oss.faults.add(Fault(action="PutObject", key="00", times=None, status=403))
    values = {f"{ROOT}/{n:02}": b"x" for n in range(100)}
    with pytest.raises(AccessDeniedError) as caught:
        blind.pipe(values, batch_size=1)
    assert caught.value.path == f"{ROOT}/00"
    count = len(owner.oss.requests)
    assert count == 1
    time.sleep(0.05)
    assert len(owner.oss.requests) == count


class AfterFailure(Callback):
    """Calls *change* when the bytes of a failed try are subtracted."""

    def __init__(self, change):
        super().__init__()
        self._change = change

    def relative_update(self, inc=1):
        if inc < 0:
            self._change()


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(b"other"),
        lambda file: file.unlink(missing_ok=True),
    ],
    ids=["other bytes", "missing"],
)
def test_a_file_that_changes_after_a_lost_reply(only, owner, tmp_path, change, retries):
    """The first try stored the object, so no error says "not stored"."""
    file, data = tmp_path / "file", os.urandom(2 * MIB)
    file.write_bytes(data)
    fs = only("HeadObject", retries=retries)
    owner.oss.faults.add(Fault(action="PutObject", drop_reply=True, times=retries + 1))
    with pytest.raises(OutcomeUnknownError) as caught:
        fs.put_file(file, f"{ROOT}/a", callback=AfterFailure(lambda: change(file)))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert "nothing was published" not in str(caught.value)
    assert owner.stored() == {"a": data}


def test_several_failures_are_all_named(blind, owner):
    """Uploads that were in flight may fail too: each is reported with its path."""
    gate = asyncio.Barrier(3)
    owner.oss.faults.add(Fault(action="PutObject", times=None, status=403))
    original = blind.client.transport.send

    async def send(*args, **kwargs):
        async with asyncio.timeout(10):
            await gate.wait()
        return await original(*args, **kwargs)

    blind.client.transport.send = send
    with pytest.raises(UploadErrors, match="3 transfers failed") as caught:
        blind.pipe({f"{ROOT}/{n}": b"x" for n in range(30)}, batch_size=3)
    assert len(caught.value.failures) == 3
    assert all(isinstance(e, PermissionError) for e in caught.value.failures.values())
    assert not owner.stored()


def test_a_failed_try_is_taken_back_from_the_progress(blind, owner, tmp_path):
    """A bar counts what is stored, also when a part had to be sent again."""
    (tmp_path / "f").write_bytes(bytes(200_000))
    owner.oss.faults.add(Fault(action="PutObject", status=500))
    callback = Callback()
    blind.put_file(tmp_path / "f", f"{ROOT}/f", callback=callback)
    assert (callback.size, callback.value) == (200_000, 200_000)
    assert owner.actions() == ["PutObject"] * 2


@pytest.mark.parametrize("blocks", [[b"1" * 100], [b"x" * 600_000] * 5, []])
def test_a_pipe_is_stored_as_a_stream(only, owner, tmp_path, blocks):
    """A source without a size works like a file that is written."""
    fs = only(part_size="100KiB")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def write():
        with open(fifo, "wb") as file:
            file.writelines(blocks)

    thread = threading.Thread(target=write)
    thread.start()
    callback = Callback()
    receipt = fs.put_file(fifo, f"{ROOT}/fifo", callback=callback)
    thread.join()
    assert receipt.size == callback.value == sum(map(len, blocks))
    assert owner.stored() == {"fifo": b"".join(blocks)}


def appended(path):
    with open(path, "ab") as file:
        file.write(b"more")


def replaced(path):
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def edited_and_set_back(path):
    """Write into a file and restore its modification time; only ctime differs."""
    before = path.stat()
    # Two changes within a few milliseconds have the same change time.
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        with path.open("r+b") as file:
            file.write(b"y")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "grown": appended,
    "shrunk": lambda path: os.truncate(path, 10),
    "rewritten": lambda path: path.write_bytes(b"y" * path.stat().st_size),
    "replaced": replaced,
    "edited, its time set back": edited_and_set_back,
}


@pytest.mark.parametrize(
    ("change", "size"),
    [
        *((change, 250_000) for change in CHANGES if change != "replaced"),
        *((change, 1_200_000) for change in CHANGES),
    ],
)
def test_a_source_that_changes_publishes_nothing(
    only, owner, tmp_path, monkeypatch, change, size
):
    """A file that changes while it is read is an error, never a mixed or short object."""
    fs = only(part_size="400KiB", multipart_threshold="1MiB")
    source = tmp_path / "f"
    source.write_bytes(bytes(size))
    os.utime(source, ns=(10**18, 10**18))
    blocks = body.FileBody.blocks
    first = threading.Lock()

    def changing(self):
        found = blocks(self)
        block = next(found)
        if first.acquire(blocking=False):
            CHANGES[change](source)
        yield block
        yield from found

    monkeypatch.setattr(body, "_READ", 64 * 1024)
    monkeypatch.setattr(body.FileBody, "blocks", changing)
    with pytest.raises(SourceChangedError, match="nothing was published"):
        fs.put_file(source, f"{ROOT}/f")
    assert not owner.stored()
    assert not owner.oss.uploads(ROOT)


def test_a_source_replaced_under_one_request_stays_the_old_one(
    blind, owner, tmp_path, monkeypatch
):
    """One request reads one open file: the object is the old file as a whole."""
    source = tmp_path / "f"
    source.write_bytes(b"old" * 100_000)
    blocks = body.FileBody.blocks

    def replacing(self):
        for block in blocks(self):
            source.with_suffix(".new").write_bytes(b"new" * 100_000)
            os.replace(source.with_suffix(".new"), source)
            yield block

    monkeypatch.setattr(body, "_READ", 64 * 1024)
    monkeypatch.setattr(body.FileBody, "blocks", replacing)
    blind.put_file(source, f"{ROOT}/f")
    assert owner.stored() == {"f": b"old" * 100_000}


@pytest.mark.timeout(60)
def test_receipts_may_use_the_same_filesystem(only, owner, tmp_path):
    """Each receipt is stored beside its object, by the verbs for many, at once."""
    gate = threading.Barrier(4, timeout=20)

    def keep(receipt):
        if receipt.path.endswith(".json"):
            return
        gate.wait()  # all workers are here, and none is left
        text = str(receipt.size).encode()
        fs.pipe({f"{receipt.path}.{n}.json": text for n in range(3)})
        assert fs.cat([f"{receipt.path}.0.json"]) == {f"{receipt.path}.0.json": text}

    fs = only("GetObject", receipts=keep, max_concurrency=4)
    (tmp_path / "f").write_bytes(b"12345")
    names = [f"{ROOT}/{n}" for n in range(8)]
    assert len(fs.put([str(tmp_path / "f")] * 8, names)) == 8
    assert len(owner.stored()) == 8 * 4


LIARS = [
    "/proc/version",
    "/proc/self/status",
    "/sys/kernel/mm/transparent_hugepage/enabled",
]


@pytest.mark.parametrize("place", LIARS)
def test_a_file_that_lies_about_its_size_is_read_to_its_end(blind, owner, place):
    """Files of the kernel say 0 bytes, or a page: what comes is what is stored."""
    if not os.path.exists(place):
        pytest.skip(f"this kernel has no {place}")
    blind.put_file(place, f"{ROOT}/one")
    assert len(blind.put([place], [f"{ROOT}/many"])) == 1
    with open(place, "rb") as file:
        wanted = file.read()
    assert len(wanted) > 0
    for data in owner.stored().values():
        assert data[:16] == wanted[:16]
    with pytest.raises(ConfigurationError, match="as a stream"):
        body.FileBody.of(place)


def test_a_file_that_becomes_a_pipe_is_not_waited_for(environment, owner, tmp_path):
    """It fails alone, whether the caller named it or a directory holds it."""
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 100_000)  # not read beforehand

    def swap(_):
        for name in "bc":
            (tmp_path / name).unlink(missing_ok=True)
            os.mkfifo(tmp_path / name)

    fs = OSSPresignedFileSystem(signer="keys", receipts=swap)
    named = [str(tmp_path / name) for name in "abc"]
    how = {"on_error": "return", "batch_size": 1}
    for lpath in (f"{tmp_path}/", named):
        for name in "bc":
            (tmp_path / name).unlink()
            (tmp_path / name).write_bytes(name.encode() * 100_000)
        stored, *changed = fs.put(lpath, f"{ROOT}/", recursive=True, **how)
        assert stored.size == 100_000
        assert [type(error) for error in changed] == [SourceChangedError] * 2
        assert {error.filename for error in changed} == set(named[1:])
        assert "nothing was published" in str(changed[0])
    assert owner.stored() == {"a": b"a" * 100_000}


def test_a_file_that_is_a_pipe_by_its_turn_is_named(environment, owner, tmp_path):
    """A file that becomes a pipe before its turn is refused; only a few are opened ahead."""
    names = [tmp_path / f"{number:03}" for number in range(400)]
    for name in names:
        name.write_bytes(b"x")

    def swap(_):
        if not names[-1].is_fifo():
            os.mkfifo(tmp_path / "pipe")
            os.replace(tmp_path / "pipe", names[-1])

    fs = OSSPresignedFileSystem(signer="keys", receipts=swap)
    how = {"on_error": "return", "batch_size": 1}
    *stored, changed = fs.put(f"{tmp_path}/", f"{ROOT}/", recursive=True, **how)
    assert len(stored) == 399
    assert isinstance(changed, SourceChangedError)
    assert "become a pipe" in str(changed)


def test_pipes_that_are_named_in_a_list_are_streams(blind, owner, tmp_path):
    """Pipes like those of several ``<(...)`` in a shell."""
    named = [tmp_path / "a", tmp_path / "b"]
    for pipe in named:
        os.mkfifo(pipe)
    threads = [
        threading.Thread(target=pipe.write_bytes, args=(pipe.name.encode(),))
        for pipe in named
    ]
    for thread in threads:
        thread.start()
    blind.put(named, [f"{ROOT}/a", f"{ROOT}/b"])
    for thread in threads:
        thread.join()
    assert owner.stored() == {"a": b"a", "b": b"b"}

"""Coroutines that are cancelled: nothing is published afterwards, no buffer is torn."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import sys
import threading
import time
from pathlib import PurePosixPath

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.engine import awaited
from fsspec_osspresigned.errors import UploadDiscardedError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.upload.transaction import Transaction
from tests.loopback_server import LoopbackServer

ROOT = "examplebucket"
SIZE = 3_000_000


@pytest.fixture
def fs(environment):
    """A filesystem with parts, and few workers."""
    return OSSPresignedFileSystem(
        signer="keys", part_size="1MiB", multipart_threshold="4MiB", max_concurrency=2
    )


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("size", [10, 3 * SIZE])
def test_a_transaction_fails_with_a_cancelled_call(fs, owner, monkeypatch, size, many):
    """A cancelled call fails the transaction, even if its object was complete."""
    begun, go, add = threading.Event(), threading.Event(), Transaction.add

    def slow(self, one):
        add(self, one)
        begun.set()
        assert go.wait(20)

    async def main():
        with fs.transaction:
            await fs._pipe_file(f"{ROOT}/before", b"1")
            monkeypatch.setattr(Transaction, "add", slow)
            path, data = f"{ROOT}/a", b"x" * size
            write = fs._pipe({path: data}) if many else fs._pipe_file(path, data)
            task = asyncio.create_task(write)
            assert await asyncio.to_thread(begun.wait, 20)
            task.cancel()
            await asyncio.sleep(0)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    with pytest.raises(UploadDiscardedError) as caught:
        asyncio.run(main())
    assert caught.value.path == f"{ROOT}/a"
    assert not owner.stored()
    assert not owner.oss.uploads(ROOT)


class Late(LoopbackServer):
    """A store that acts on a request a while after it has the last byte."""

    def __init__(self):
        super().__init__()
        self.got, self.acted = threading.Event(), threading.Event()

    def serve(self, request):
        """Read the body, wait, act, and reply."""
        data = request.rfile.read(int(request.headers["Content-Length"]))
        self.got.set()
        time.sleep(1.5)  # a request that is given up ends within a second
        self.acted.set()
        request.send_response(200)
        request.send_header("Content-Length", "0")
        request.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')  # noqa: S324
        request.end_headers()


@pytest.mark.parametrize("size", [10, SIZE])
def test_nothing_happens_after_a_cancellation(size):
    """A request that the store has as a whole may act, so its reply is waited for."""
    with Late() as server:
        url = f"{server.url}/{ROOT}/a?x-oss-signature=a"
        fs = OSSPresignedFileSystem(url_map={f"{ROOT}/a": url})

        async def main():
            task = asyncio.create_task(fs._pipe_file(f"{ROOT}/a", bytes(size)))
            assert await asyncio.to_thread(server.got.wait, 20)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return server.acted.is_set()

        assert asyncio.run(main())


def test_a_cancelled_call_ends_although_the_server_takes_nothing(serve, tmp_path):
    """The call does not wait for the server, and sends no more when that reads again."""
    begun, ended = threading.Event(), threading.Event()
    taken, is_read = [0], threading.Event()

    def takes_nothing(peer):
        peer.head()
        begun.set()
        ended.wait(60)
        taken[0] = len(peer.ahead)
        try:
            while taken[0] < 20 * SIZE and (block := peer.sock.recv(1 << 20)):
                taken[0] += len(block)
        finally:  # also after a reset
            is_read.set()

    server = serve(takes_nothing, small=True)
    url = f"{server.origin}/{ROOT}/a?x-oss-signature=a"
    fs = OSSPresignedFileSystem(url_map={f"{ROOT}/a": url}, timeout=(60, 60))
    source = tmp_path / "file"
    source.touch()
    os.truncate(source, 20 * SIZE)  # more than the buffers of the system hold

    async def main():
        task = asyncio.create_task(fs._put_file(str(source), f"{ROOT}/a"))
        assert await asyncio.to_thread(begun.wait, 20)
        await asyncio.sleep(0.5)  # the buffers of the system get full
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)

    asyncio.run(main())
    ended.set()
    assert is_read.wait(20)
    assert taken[0] < 20 * SIZE


def until(holds):
    """Wait until *holds* returns True."""
    while not holds():
        time.sleep(0.01)


async def cancel(task):
    """Cancel *task*, and wait until the engine knows."""
    task.cancel()
    await asyncio.sleep(0)
    await awaited(asyncio.sleep, 0)


@pytest.mark.parametrize("size", [1, SIZE])
@pytest.mark.parametrize("on_exception", ["discard", "publish"])
def test_a_pipe_of_the_system_is_not_published_after_its_end(
    environment, owner, oss, tmp_path, size, on_exception
):
    """A cancelled call ends its running request, and sends no further one."""
    fs = OSSPresignedFileSystem(
        signer="keys",
        part_size=2**20,
        retries=100,
        retry_timeout=1000,
        on_exception=on_exception,
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for action in ("PutObject", "CompleteMultipartUpload"):
        oss.faults.add(Fault(action=action, status=503, times=None))
    last = "PutObject" if size == 1 else "CompleteMultipartUpload"

    async def main():
        task = asyncio.create_task(fs._put_file(str(fifo), f"{ROOT}/f"))
        await asyncio.to_thread(fifo.write_bytes, bytes(size))
        await asyncio.to_thread(until, lambda: last in owner.actions())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        oss.faults.clear()
        assert not oss.uploads(ROOT)
        await asyncio.sleep(0.2)

    asyncio.run(main())
    assert not owner.stored()


@pytest.mark.parametrize("on_exception", ["discard", "publish"])
def test_half_of_a_pipe_of_the_system_is_never_published(
    environment, owner, tmp_path, on_exception
):
    """The option is for files that a program closes, and not for a cancelled call."""
    fs = OSSPresignedFileSystem(signer="keys", on_exception=on_exception)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main():
        task = asyncio.create_task(fs._put_file(str(fifo), f"{ROOT}/f"))
        with await asyncio.to_thread(open, fifo, "wb", 0) as file:
            file.write(b"half")
            await cancel(task)
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)

    asyncio.run(main())
    assert not owner.stored()


def test_a_cancelled_tree_fails_its_transaction_whatever_names_the_target(
    environment, oss, owner, tmp_path
):
    """A path object is a path; nothing else of the transaction is published."""
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=2**20, multipart_threshold=2**20, retries=100
    )
    oss.faults.add(Fault(action="UploadPart", status=503, times=None))
    (tmp_path / "large").write_bytes(bytes(SIZE))

    async def main():
        async def put():
            target = PurePosixPath(f"{ROOT}/tree")
            await fs._put(str(tmp_path), target, recursive=True)

        with fs.transaction:
            await fs._pipe_file(f"{ROOT}/first", b"1")
            task = asyncio.create_task(put())
            await asyncio.to_thread(until, lambda: "UploadPart" in owner.actions())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with pytest.raises(UploadDiscardedError, match="was cancelled"):
        asyncio.run(main())
    assert not owner.stored()


@pytest.mark.filterwarnings("ignore::fsspec_osspresigned.ExistenceNotVerifiedWarning")
def test_a_cancelled_write_is_not_remembered_as_undone(blind, oss):
    """The store may have acted, so what was written before is not taken for current."""
    fs = blind
    fs.pipe_file(f"{ROOT}/a", b"old")
    assert fs.info(f"{ROOT}/a")["size"] == 3
    oss.faults.add(Fault(action="PutObject", delay=1))

    async def main():
        task = asyncio.create_task(fs._pipe_file(f"{ROOT}/a", b"newer"))
        await asyncio.to_thread(until, lambda: oss.under_way)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    for look in (fs.info, fs.cat_file):
        with pytest.raises(PermissionError, match="unknown"):
            look(f"{ROOT}/a")


@pytest.mark.skipif(sys.platform != "linux", reason="a wait for a pipe ends on Linux")
@pytest.mark.parametrize("other_end", ["is closed", "waits"])
@pytest.mark.parametrize("verb", ["put", "get"])
def test_a_cancelled_call_does_not_wait_for_the_other_end(
    fs, owner, tmp_path, verb, other_end
):
    """A silent program does not delay a caller that was cancelled."""
    path, fifo = f"{ROOT}/f", str(tmp_path / "fifo")
    os.mkfifo(fifo)
    if verb == "get":
        fs.pipe_file(path, bytes(2**20))

    async def main():
        task = asyncio.create_task(
            fs._put_file(fifo, path) if verb == "put" else fs._get_file(path, fifo)
        )
        if other_end == "waits":
            end = await asyncio.to_thread(open, fifo, "wb" if verb == "put" else "rb")
        await asyncio.sleep(0.2)
        await cancel(task)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        if other_end == "waits":
            end.close()

    asyncio.run(main())
    assert list(owner.stored()) == (["f"] if verb == "get" else [])


class Slow(io.BytesIO):
    """A target that waits after its first block."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.open = threading.Event(), threading.Event()

    def write(self, data):
        self.begun.set()
        assert self.open.wait(20)
        return super().write(data)


@pytest.mark.parametrize("may_read", [True, False])
def test_a_cancelled_download_writes_no_more(only, may_read):
    """The caller may close the target, wherever the bytes come from."""
    fs = only(*(["HeadObject", "GetObject"] if may_read else []))
    fs.pipe_file(f"{ROOT}/a", bytes(2**20 if not may_read else SIZE))
    target = Slow()

    async def main():
        task = asyncio.create_task(fs._get_file(f"{ROOT}/a", target))
        assert await asyncio.to_thread(target.begun.wait, 20)
        await cancel(task)
        target.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(target.getvalue())

    assert asyncio.run(main()) <= 2**20


@pytest.mark.parametrize("verb", ["info", "ls", "find", "cat_file"])
def test_a_look_ends_at_once(fs, owner, verb):
    """Nothing depends on it, so the caller need not wait for the reply."""
    owner.oss.faults.add(Fault(delay=5.0))

    async def main():
        task = asyncio.create_task(getattr(fs, f"_{verb}")(f"{ROOT}/a"))
        await asyncio.to_thread(owner.wait_for_faults)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(main()) < 4


@pytest.mark.parametrize("verb", ["put_file", "get_file"])
def test_many_awaited_calls_share_the_threads(environment, tmp_path, verb):
    """Each waits for its turn: the engine starts no more than 62 threads for them."""
    fs, count, most = OSSPresignedFileSystem(signer="keys"), 400, 0
    (tmp_path / "f").write_bytes(b"some bytes")
    fs.put_file(str(tmp_path / "f"), f"{ROOT}/f")
    # Earlier tests may have left workers that have not ended yet.
    before = set(threading.enumerate())

    async def one(number):
        nonlocal most
        if verb == "put_file":
            await fs._put_file(str(tmp_path / "f"), f"{ROOT}/{number}")
        else:
            await fs._get_file(f"{ROOT}/f", str(tmp_path / f"got-{number}"))
        started = set(threading.enumerate()) - before
        names = [thread.name.rpartition("-")[0] for thread in started]
        most = max(most, names.count("osspresigned-worker"))

    async def main():
        await asyncio.gather(*(one(number) for number in range(count)))

    asyncio.run(main())
    assert most <= 62


def test_the_coroutine_of_copy_takes_its_arguments_as_fsspec_does(fs, owner):
    """The plain method has another order."""
    fs.pipe_file(f"{ROOT}/a", b"a")
    asyncio.run(fs._copy(f"{ROOT}/a", f"{ROOT}/b", False, "raise", None))
    assert owner.stored() == {"a": b"a", "b": b"a"}

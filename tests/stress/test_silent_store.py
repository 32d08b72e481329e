"""One interrupt, or one cancellation, ends a call although the store says nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.body import SMALL
from fsspec_osspresigned.model import MIN_PART

BUCKET = "examplebucket"
LIMIT = 20.0  # seconds: the time limit of a request is a minute


class Silent:
    """A store that reads all that it gets, and never answers."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.has_all = threading.Event()  # the first request, with its body
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        got = b""
        with connection:
            while block := connection.recv(1 << 20):
                got += block
                head, blank, body = got.partition(b"\r\n\r\n")
                size = head.lower().partition(b"content-length: ")[2]
                if blank and len(body) >= int(size.split(b"\r\n")[0] or 0):
                    self.has_all.set()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """A silent store, for which the environment has a key."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret")
    store = Silent()
    yield store
    store.listener.close()


def filesystem(store: Silent) -> OSSPresignedFileSystem:
    """Return a filesystem with the usual time limits."""
    return OSSPresignedFileSystem(
        signer="keys",
        endpoint=store.url,
        region="cn-hangzhou",
        addressing_style="path",
        skip_instance_cache=True,
    )


def interrupted(event: threading.Event, call) -> BaseException:
    """Send SIGINT during *call*, once *event* is set; return what it raises."""

    def interrupt() -> None:
        event.wait(60)
        time.sleep(0.1)  # the request is in the store; let its sender know, too
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught:
        call()
    assert time.monotonic() - began < LIMIT
    return caught.value


@pytest.mark.parametrize("size", [100, 2 * SMALL], ids=["loop", "thread"])
def test_interrupt_of_one_object(silent, size):
    """The call ends, and says that the outcome of what was sent is unknown."""
    fs = filesystem(silent)
    error = interrupted(
        silent.has_all, lambda: fs.pipe_file(f"{BUCKET}/k", bytes(size))
    )
    (note,) = error.__notes__
    assert note.startswith(f"whether the PUT of {BUCKET}/k took effect is unknown")


def test_interrupt_of_many_objects(silent):
    """The call ends; it names some of the objects, and the number of the others."""
    fs = filesystem(silent)
    values = {f"{BUCKET}/{n}": b"x" for n in range(100)}
    error = interrupted(silent.has_all, lambda: fs.pipe(values))
    assert any("is unknown" in note for note in error.__notes__)
    assert len(error.__notes__) <= 4


@pytest.mark.parametrize("size", [100, 2 * SMALL], ids=["loop", "thread"])
def test_cancelled_call(silent, size):
    """``wait_for`` takes little more than its time, and the caller learns what is left."""
    fs = filesystem(silent)

    async def main() -> asyncio.CancelledError:
        call = asyncio.ensure_future(fs._pipe_file(f"{BUCKET}/k", bytes(size)))
        await asyncio.to_thread(silent.has_all.wait, 60)
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        return caught.value

    began = time.monotonic()
    error = asyncio.run(main())
    assert time.monotonic() - began < LIMIT
    assert "is unknown" in "".join(error.__notes__)


def test_interrupt_of_an_upload_in_parts(oss, caplog):
    """The abort gets one try of some seconds; then the upload that is left is named."""
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=MIN_PART, multipart_threshold=1
    )
    begun = threading.Event()
    oss.faults.add(Fault(action="UploadPart", delay=60.0, times=None))
    oss.faults.add(Fault(action="AbortMultipartUpload", delay=60.0, times=None))

    def watch() -> None:
        while not (oss.requests and oss.under_way):  # parts of an upload that has begun
            time.sleep(0.01)
        begun.set()

    threading.Thread(target=watch, daemon=True).start()
    interrupted(begun, lambda: fs.pipe_file(f"{BUCKET}/k", bytes(3 * MIN_PART)))
    assert "could not be aborted; its parts cost storage" in caplog.text
    assert not oss.objects(BUCKET)

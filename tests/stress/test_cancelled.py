"""Cancelled calls give back what they hold and what they wait for."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.engine import current, run
from fsspec_osspresigned.engine.limits import memory_budget, request_limiter
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.handle import Handle
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.keys import KeySigner

BUCKET = "examplebucket"


async def in_flight() -> int:
    """Return the number of requests that the limiter counts."""
    return request_limiter().in_flight


async def cancelled(*calls, after: float) -> None:
    """Begin *calls* together, cancel all of them, and wait until they have ended."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(after)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            task.result()


@pytest.mark.parametrize("width", [1, 3])
def test_turns_are_given_back(oss, width):
    """Calls of which some send and some wait are cancelled; later ones are sent."""
    fs = OSSPresignedFileSystem(signer="keys", max_concurrency=width)
    fs.pipe_file(f"{BUCKET}/seed", b"x")
    oss.faults.add(Fault(action="*", delay=0.2, times=None))
    for number in range(3):
        calls = [fs._pipe({f"{BUCKET}/{number}-{n}": b"x"}) for n in range(12)]
        asyncio.run(cancelled(*calls, after=0.05))
        values = {f"{BUCKET}/{number}-{n}": b"y" for n in range(40)}
        asyncio.run(cancelled(fs._pipe(values), after=0.05))
        assert run(in_flight) == 0
    oss.faults.clear()
    fs.pipe({f"{BUCKET}/last-{n}": b"z" for n in range(20)})
    assert not current().tasks


def test_parts_are_given_back(oss):
    """A cancelled upload in parts leaves no part, no memory and no turn."""
    fs = OSSPresignedFileSystem(
        signer="keys", max_concurrency=2, part_size=MIN_PART, multipart_threshold=1
    )
    oss.faults.add(Fault(action="*", delay=0.1, times=None))
    calls = [fs._pipe_file(f"{BUCKET}/{n}", bytes(9 * MIN_PART)) for n in range(6)]
    asyncio.run(cancelled(*calls, after=0.35))
    assert run(in_flight) == 0
    assert memory_budget().used == 0
    assert not any(upload.parts for upload in oss.uploads(BUCKET))
    assert not oss.objects(BUCKET)


class _Ends(BaseException):
    """What ends a program, as KeyboardInterrupt does."""


@pytest.mark.parametrize("error", [_Ends, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("remote", [False, True], ids=["plain", "batches"])
def test_signer_that_ends_the_program(oss, error, remote):
    """What a signer raises reaches each caller that waits for it, and nothing hangs."""
    keys = KeySigner.from_options()

    class Failing(Signer):
        def __init__(self) -> None:
            self.remote, self.fails = remote, True

        def sign(self, operations):
            if self.fails:
                raise error
            return keys.sign(operations)

    signer = Failing()
    fs = OSSPresignedFileSystem(signer=signer)
    with pytest.raises(error):
        fs.pipe_file(f"{BUCKET}/a", b"x")
    with pytest.raises(error):
        fs.pipe({f"{BUCKET}/{n}": b"x" for n in range(30)})
    with pytest.raises(error):
        fs.pipe_file(f"{BUCKET}/large", bytes(20 * MIN_PART))
    signer.fails = False
    fs.pipe({f"{BUCKET}/{n}": b"x" for n in range(30)})
    assert len(oss.objects(BUCKET)) == 30
    assert not current().tasks


def test_connections_that_are_cancelled_while_they_open(oss, monkeypatch):
    """Their descriptors may belong to anything when a later request is sent.

    The requests are cancelled as soon as libcurl has a socket. Sockets without a port get
    the numbers of those.
    """
    fs = OSSPresignedFileSystem(signer="keys", max_concurrency=8)
    opened = Handle._opened
    others: list[socket.socket] = []
    cancels = False

    def note(handle, *args):
        if cancels:
            loop = asyncio.get_running_loop()
            for task in loop.engine.tasks:
                loop.call_soon(task.cancel)
        return opened(handle, *args)

    monkeypatch.setattr(Handle, "_opened", note)
    for _ in range(3):
        fs.pipe_file(f"{BUCKET}/seed", b"x")
        cancels = True
        with contextlib.suppress(asyncio.CancelledError):
            fs.pipe({f"{BUCKET}/{n}": b"x" for n in range(8)})
        cancels = False
        for _ in range(8):
            others.extend(socket.socketpair())
        fs.pipe({f"{BUCKET}/{n}": b"y" for n in range(8)})
        assert {bytes(value) for value in oss.objects(BUCKET).values()} == {b"x", b"y"}
    for other in others:
        other.close()

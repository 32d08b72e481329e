"""Cancelled calls give back what they hold and what they wait for."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from fsspec_osspresigned.engine.engine import current
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.handle import Handle
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.keys import KeySigner

BUCKET = "examplebucket"


class _Ends(BaseException):
    """An exception that ends a program, as KeyboardInterrupt does."""


@pytest.mark.parametrize("error", [_Ends, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("remote", [False, True], ids=["plain", "batches"])
def test_signer_that_ends_the_program(oss, error, remote):
    """An exception of a signer reaches each waiting caller, and nothing hangs."""
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

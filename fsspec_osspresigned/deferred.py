"""Objects that are ready and not published yet: what a transaction is made of."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Protocol

from attrs import define, frozen

from .body import BLOCK, Body, MemoryBody, Source
from .client import Client
from .model import MIB, Receipt
from .publish import Target
from .signers.ahead import Ahead
from .upload import Upload
from .workers import Cancellation

# Bytes that all small objects of one transaction may have in memory.
MEMORY = 32 * MIB


class Pending(Protocol):
    """An object that somebody else decides about."""

    @property
    def path(self) -> str:
        """``bucket/key``."""
        ...

    @property
    def receipt(self) -> Receipt | None:
        """What the finished upload proved; None before."""
        ...

    def settle(self) -> None:
        """Do everything but the last step, which alone publishes.

        Raises:
            Exception: it cannot be published any more.
        """
        ...

    def commit(self) -> None:
        """Publish."""
        ...

    def discard(self) -> None:
        """Publish nothing. Idempotent."""
        ...


class DeferredUpload(Upload):
    """An upload whose parts can be waited for long before it is finished."""

    def settle(self) -> None:
        """Wait until no part is in flight.

        Raises:
            OSSPresignedError: the first failure of any part.
        """
        self.window.drain()
        self._raise_failure()


class Holding:
    """Copies of small objects: in memory up to a limit, then in one unnamed file."""

    def __init__(self, limit: int = MEMORY) -> None:
        """Hold nothing; *limit* is the bytes in memory."""
        self._limit = limit
        self._lock = threading.Lock()
        self._held = 0
        self._file: IO[bytes] | None = None
        self._end = 0

    def keep(self, body: Body) -> Body:
        """Return a body of the same bytes that needs *body* no more.

        Raises:
            OSError: the disk is full.
            SourceChangedError: *body* changed while it was read.
        """
        with self._lock:
            in_memory = self._held + body.size <= self._limit
            if in_memory:
                self._held += body.size
        if in_memory:
            return MemoryBody(memoryview(b"".join(body.blocks())))
        with self._lock:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see close
            offset = self._end
            self._file.seek(offset)
            for block in body.blocks():
                left = block
                while left:
                    left = left[self._file.write(left) :]
            self._end = offset + body.size
            return _Stretch(self._file, self._lock, offset, body.size)

    def close(self) -> None:
        """Delete the file; what is on disk cannot be read any more."""
        with self._lock:
            if self._file is not None:
                self._file.close()


@frozen(eq=False)
class _Stretch:
    """Bytes in the file of a holding, which all its stretches share."""

    file: IO[bytes]
    lock: threading.Lock
    offset: int
    size: int

    def blocks(self) -> Iterator[memoryview]:
        """Yield the bytes."""
        at, end = self.offset, self.offset + self.size
        while at < end:
            with self.lock:
                self.file.seek(at)
                block = self.file.read(min(BLOCK, end - at))
            yield memoryview(block)
            at += len(block)


@define(eq=False)
class HeldObject:
    """A small object: one PutObject, all of which comes with the commit.

    Attributes:
        client: signs and sends.
        target: where to.
        body: bytes that nobody changes.
        ahead: signs along with others; None leaves it to the client's signer.
        cancel: set from elsewhere to give up; None if nobody does.
        receipt: what the finished upload proved; None before.
    """

    client: Client
    target: Target
    body: Body
    ahead: Ahead | None = None
    cancel: Cancellation | None = None
    receipt: Receipt | None = None

    @property
    def path(self) -> str:
        """``bucket/key``."""
        return self.target.path

    def settle(self) -> None:
        """Do nothing: there is only the last step."""

    def commit(self) -> None:
        """Store it."""
        upload = Upload(
            self.client,
            self.target,
            size=self.body.size,
            ahead=self.ahead,
            cancel=self.cancel,
        )
        try:
            upload.add(self.body)
            self.receipt = upload.finish()
        except BaseException as error:
            upload.discard(error)
            raise

    def discard(self) -> None:
        """Do nothing: nothing was sent."""


@define(eq=False)
class SentObject:
    """A large object, whose parts are all sent."""

    path: str
    upload: DeferredUpload
    receipt: Receipt | None = None

    def settle(self) -> None:
        """Do nothing: the parts were waited for when they were taken."""

    def commit(self) -> None:
        """Complete the multipart upload."""
        self.receipt = self.upload.finish()

    def discard(self) -> None:
        """Remove the parts."""
        self.upload.discard()


def defer(
    client: Client,
    target: Target,
    source: Source,
    holding: Holding,
    *,
    progress: Callable[[int], None] | None = None,
    cancel: Cancellation | None = None,
) -> HeldObject | SentObject:
    """Do all of an upload but what publishes; *source* is not needed any more then.

    Args:
        client: signs and sends.
        target: where to.
        source: what; its parts are sent now, a small one is copied.
        holding: takes the copy.
        progress: called with bytes sent, or copied.
        cancel: set from elsewhere to give up; None if nobody does.

    Raises:
        ConfigurationError: what is granted cannot carry it; before the first byte.
        NotSignedError: the signer will not sign it.
        SourceChangedError: it changed while it was read.
        OSSPresignedError: a part could not be stored.
    """
    upload = DeferredUpload(
        client, target, size=source.size, progress=progress, cancel=cancel
    )
    if not upload.plan.multipart:
        body = holding.keep(source)
        if progress is not None:
            progress(body.size)
        return HeldObject(client, target, body)
    try:
        step = upload.plan.part_size
        for offset in range(0, max(source.size, 1), step):
            upload.add(source.part(offset, min(step, source.size - offset)))
        upload.settle()
        source.check()
    except BaseException as error:
        upload.discard(error)
        raise
    return SentObject(target.path, upload)

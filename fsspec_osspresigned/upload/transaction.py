"""Several objects that are published together, at the end of ``with fs.transaction``.

Which transaction is under way is a matter of the context (:mod:`contextvars`), not of
the filesystem: threads that share one see only their own. What runs in the same context
joins: coroutines and tasks, and workers to which we hand its work.
"""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import IO, Protocol, Self

from attrs import define, frozen

from ..client.client import Client
from ..concurrency.workers import Cancellation, Transfers
from ..errors import UploadErrors
from ..http.body import BLOCK, Body, MemoryBody, Source
from ..model import Receipt
from ..options.object_options import Target
from ..signers.base import MAX_REQUESTS
from ..signers.batching import Prefetcher
from ..units import MIB
from .upload import Upload

# Objects that are ready and not published yet: what a transaction is made of.

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
    ahead: Prefetcher | None = None
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


_log = logging.getLogger(__name__)

_begun: ContextVar[tuple[Transaction, ...]] = ContextVar("osspresigned", default=())


def current(client: Client) -> Transaction | None:
    """Return the transaction on *client* that this context has begun; None if none."""
    for one in reversed(_begun.get()):
        if one.client is client and one.under_way:
            return one
    return None


class Transaction:
    """Gathers objects, and publishes all of them at its end, or none.

    Begun again while it is under way, it is one transaction still: everything is
    published at the outermost end, and an exception that leaves an inner block
    discards what that block has added.

    Attributes:
        client: signs and sends.
        files: what waits to be published.
        receipts: of what was published, in the order in which it was added.
    """

    def __init__(self, client: Client) -> None:
        """Begin nothing yet."""
        self.client = client
        self.files: list[Pending] = []
        self.receipts: list[Receipt] = []
        self._marks: list[int] = []  # of each block: what was there before
        self._holding: Holding | None = None  # from the first copy on
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def under_way(self) -> bool:
        """Whether it was begun, in this process, and has not ended."""
        return bool(self._marks) and self._pid == os.getpid()

    def start(self) -> None:
        """Begin: what this context writes from now on waits for the end."""
        if not self._marks:
            _open.add(self)
            _begun.set((*_begun.get(), self))
        self._marks.append(len(self.files))

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish if the body ended well, else discard."""
        self.complete(commit=error is None)

    def complete(self, commit: bool = True) -> None:
        """End: publish everything, or with *commit* False nothing.

        First it is made sure that all of it can be published; then it is, several
        objects at once, and the one that was added last after all the others. Of
        several for one path the last counts.

        Raises:
            UploadErrors: some were published and some were not: ``.receipts`` and
                ``.failures`` and ``.discarded`` say which.
            Exception: what failed, where nothing was published.
        """
        if not self.under_way:
            return
        with self._lock:
            mark = self._marks.pop()
            outermost = not self._marks
            first = 0 if outermost else mark
            files = self.files[first:]
            if outermost or not commit:
                del self.files[first:]
        if not outermost:
            if not commit:
                _discard(files)
            return
        try:
            if commit:
                self._publish(files)
            else:
                _discard(files)
        finally:
            holding, self._holding = self._holding, None
            if holding is not None:
                holding.close()
            _open.discard(self)
            _begun.set(tuple(one for one in _begun.get() if one.under_way))

    # -- taking ---------------------------------------------------------------------------

    def add(self, one: Pending) -> None:
        """Take an object that is being written."""
        with self._lock:
            self.files.append(one)

    def take(
        self,
        target: Target,
        source: Source,
        *,
        progress: Callable[[int], None] | None = None,
        cancel: Cancellation | None = None,
    ) -> None:
        """Take an object as a whole: see :func:`~fsspec_osspresigned.deferred.defer`."""
        self.add(
            defer(
                self.client,
                target,
                source,
                self._held(),
                progress=progress,
                cancel=cancel,
            )
        )

    def keep(self, body: Body) -> Body:
        """Return a body of the same bytes that needs *body* no more."""
        return self._held().keep(body)

    def _held(self) -> Holding:
        """Return what has the copies of this transaction."""
        with self._lock:
            if self._holding is None:
                self._holding = Holding()
            return self._holding

    def holds(self, path: str) -> bool:
        """Return whether an object for *path* waits."""
        with self._lock:
            return any(one.path == path for one in self.files)

    # -- publishing -----------------------------------------------------------------------

    def _publish(self, files: Sequence[Pending]) -> None:
        last = {one.path: one for one in files}
        chosen = [one for one in files if last[one.path] is one]
        try:
            _discard(one for one in files if last[one.path] is not one)
            failures = _settle(chosen)
            if not failures:
                failures = self._commit(chosen)
        except BaseException as error:
            error.add_note(_summary(chosen))
            raise
        finally:
            self.receipts = [one.receipt for one in chosen if one.receipt is not None]
            left = [one for one in chosen if one.receipt is None]
            _discard(left)
        if not failures:
            return
        if len(failures) == 1 and not self.receipts:
            (only,) = failures.values()
            only.add_note(_summary(chosen))
            raise only
        shown = "; ".join(f"{p}: {e}" for p, e in list(failures.items())[:3])
        raise UploadErrors(
            f"{_summary(chosen)}: {shown}",
            failures=failures,
            receipts=self.receipts,
            discarded=[one.path for one in left if one.path not in failures],
        )

    def _commit(self, chosen: list[Pending]) -> dict[str, Exception]:
        """Publish; return what failed: after a failure no other is begun."""
        coming = (
            one.target.put_operation(one.body.size)
            for one in chosen
            if isinstance(one, HeldObject)
        )
        ahead = self.client.prefetcher(
            lambda: next(coming, None),
            first=MAX_REQUESTS,
            low=self.client.options.max_concurrency,
        )

        def work(one: Pending, cancel: Cancellation) -> None:
            if isinstance(one, HeldObject):
                one.ahead, one.cancel = ahead, cancel
            one.commit()

        # Whoever reads a marker that was written last must find all the rest.
        for some in (chosen[:-1], chosen[-1:]):
            width = min(len(some), self.client.options.max_concurrency)
            run = Transfers(self.client.files, width, work, lambda one: one.path)
            failures = run.failures_of(some)
            if failures:
                return failures
        return {}


def _settle(files: Iterable[Pending]) -> dict[str, Exception]:
    failures: dict[str, Exception] = {}
    for one in files:
        try:
            one.settle()
        except Exception as error:  # noqa: BLE001 - told with all others
            failures[one.path] = error
    return failures


def _discard(files: Iterable[Pending]) -> None:
    """Discard each, whatever comes of the others."""
    for one in files:
        try:
            one.discard()
        except Exception as error:  # noqa: BLE001 - the others must be discarded too
            _log.warning("%s could not be discarded: %s", one.path, error)


def _summary(files: Sequence[Pending]) -> str:
    stored = sum(one.receipt is not None for one in files)
    return f"{stored or 'none'} of {len(files)} objects of the transaction published"


# Only to say at exit what nobody has ended; it keeps nothing alive.
_open: weakref.WeakSet[Transaction] = weakref.WeakSet()


@atexit.register
def _tell_open() -> None:
    """Warn of what was never published; parts are removed where all uploads are."""
    for one in list(_open):
        if one.under_way and one.files:
            text = f"a transaction of {len(one.files)} objects was never ended"
            warnings.warn(f"{text}: nothing was published", ResourceWarning, 2)

"""Files of a sync on their way, several at once."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeAlias

from attrs import field, frozen

from ..client.client import Client
from ..concurrency.budget import Lease, of_process
from ..concurrency.workers import Cancellation, Transfers
from ..errors import ConfigurationError, SourceChangedError
from ..filesystem.put import Sending
from ..http.body import FileBody, MemoryBody, PartBody, SpoolBody
from ..model import Operation, Receipt
from ..options.object_options import Target
from ..signers.batching import Prefetcher
from ..units import MIB
from ..upload import plan as preflight
from ..upload.upload import Upload, upload_source
from .plan import Entry
from .source import SyncSource

_HELD = 16 * MIB  # bytes of a remote file that wait in memory, not on disk
_LARGE_AT_ONCE = 2  # each has up to a window of parts in memory


@frozen
class Listener:
    """Who is told; called from several threads.

    Attributes:
        begin: with a file that is about to be sent.
        moved: with its name and bytes sent, negative when they are taken back.
        stored: with a file that is stored, and its receipt.
        failed: with one that is not.
    """

    begin: Callable[[Entry], None]
    moved: Callable[[str, int], None]
    stored: Callable[[Entry, Receipt], None]
    failed: Callable[[Entry, Exception], None]


@frozen
class Going:
    """What many files of one sync have in common.

    Attributes:
        source: where they are read.
        root: ``bucket/`` and the prefix of the keys, with a slash at its end.
        given: options of the objects.
        fail_fast: the first failure stops the rest.
    """

    source: SyncSource
    root: str
    given: Mapping[str, Any] = field(factory=dict)
    fail_fast: bool = False

    def send(self, client: Client, entries: Iterable[Entry], told: Listener) -> None:
        """Send *entries*, several at once; nothing runs any more at the end."""
        sending = Sending(client, self.given)

        def opening(entry: Entry) -> Operation:
            target = sending.wanted(self.root + entry.name)
            return preflight.opening(client, target, entry.size or 0)

        source, ahead = client.announced(entries, opening)
        large = threading.BoundedSemaphore(_LARGE_AT_ONCE)

        def work(entry: Entry, cancel: Cancellation) -> None:
            told.begin(entry)
            try:
                target = sending.target(self.root + entry.name)
                with contextlib.ExitStack() as stack:
                    if _is_large(self.source, entry):
                        stack.enter_context(large)
                    one = _One(client, target, self.source, entry, ahead, cancel, told)
                    receipt = one.send()
            except Exception as error:
                told.failed(entry, error)
                raise
            told.stored(entry, receipt)

        width = client.options.max_concurrency
        first = list(itertools.islice(source, width))  # no idle worker
        transfers = Transfers(
            client.files,
            len(first),
            work,
            lambda entry: entry.name,
            on_error="raise" if self.fail_fast else "omit",
        )
        transfers.failures_of(itertools.chain(first, source))


def _is_large(source: SyncSource, entry: Entry) -> bool:
    """Return whether a file has many parts in memory while it is sent."""
    return not source.is_local and (entry.size is None or entry.size > _HELD)


@frozen
class _One:
    """One file on its way."""

    client: Client
    target: Target
    source: SyncSource
    entry: Entry
    ahead: Prefetcher | None
    cancel: Cancellation
    told: Listener

    def send(self) -> Receipt:
        """Send it from its start."""
        if self.source.is_local:
            body = FileBody.of(self.source.place(self.entry.name))
            return upload_source(
                self.client,
                self.target,
                body,
                ahead=self.ahead,
                progress=self._moved,
                cancel=self.cancel,
            )
        upload = Upload(
            self.client,
            self.target,
            size=self.entry.size,
            ahead=self.ahead,
            progress=self._moved,
            cancel=self.cancel,
        )
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(self.source.open(self.entry.name))
                self._stream(upload, _Reader(file, self.cancel), stack)
                return upload.finish()
            except BaseException as error:
                upload.discard(error)
                raise

    def _moved(self, count: int) -> None:
        self.told.moved(self.entry.name, count)

    def _stream(
        self, upload: Upload, reader: _Reader, stack: contextlib.ExitStack
    ) -> None:
        """Hand the file over as *upload* wants it.

        Raises:
            SourceChangedError: it has not the bytes that it was listed with.
        """
        size = self.entry.size
        if size is None or upload.plan.multipart:
            self._add_parts(upload, reader)
        elif size <= _HELD:
            upload.add(MemoryBody.of(reader.take(size)))
        else:
            # Only one PUT is granted, and it may have to be sent again.
            spool = SpoolBody()
            stack.callback(spool.close)
            while block := reader.take(min(MIB, size - reader.count)):
                spool.append(MemoryBody.of(block))
            upload.add(spool)
        if size is not None and (reader.count != size or reader.take(1)):
            msg = f"the source has not the {size} bytes that it was listed with"
            raise SourceChangedError(msg, path=self.target.path)

    def _add_parts(self, upload: Upload, reader: _Reader) -> None:
        size, number = self.entry.size, 0
        while True:
            number += 1
            wanted = upload.plan.size_of(number)
            if size is not None:
                wanted = min(wanted, size - reader.count)
            part = reader.take(wanted)
            if part or number == 1:
                upload.add(_counted(part))
            if len(part) < wanted or reader.count == size:
                return


def _counted(part: bytearray) -> PartBody:
    """Return *part* as a body that counts for the memory of the process."""
    lease = Lease(of_process().memory, len(part))
    return PartBody((memoryview(part),), len(part), lease=lease)


class _Reader:
    """A file that counts what was read of it, and can be given up."""

    def __init__(self, file: Any, cancel: Cancellation) -> None:
        self._file = file
        self._cancel = cancel
        self.count = 0

    def take(self, size: int) -> bytearray:
        """Return the next *size* bytes, or as many as there are."""
        found = bytearray()
        while len(found) < size and not self._cancel.is_set():
            block = self._file.read(min(size - len(found), MIB))
            if not block:
                break
            found += block
        self.count += len(found)
        return found


# Files of a sync in batches, for other processes and machines.

_FILES = 64
_BYTES = 128 * MIB
_OUTSTANDING = 128  # batches that an executor has at a time


@frozen
class Batch:
    """Some files for another process or machine: no secret, no bytes.

    Attributes:
        filesystem: of the destination, which travels by its options.
        going: what the files have in common.
        entries: the files.
    """

    filesystem: Any
    going: Going
    entries: tuple[Entry, ...]


Outcome: TypeAlias = tuple[Entry, Receipt | Exception]


def run_batch(batch: Batch) -> list[Outcome]:
    """Send a batch, and return what became of the files that were tried."""
    found: list[Outcome] = []

    def done(entry: Entry, outcome: Receipt | Exception) -> None:
        found.append((entry, outcome))

    told = Listener(_nothing, _nothing, done, done)
    batch.going.send(batch.filesystem.client, batch.entries, told)
    return found


def _nothing(*_: Any) -> None:
    """Tell nobody."""


def spread(
    executor: Any,
    filesystem: Any,
    going: Going,
    entries: Iterable[Entry],
    told: Listener,
) -> None:
    """Send *entries* in batches through *executor*; nothing runs there at the end.

    Args:
        executor: of ``concurrent.futures``, or a client of dask.
        filesystem: of the destination.
        going: what the files have in common.
        entries: the files.
        told: is told here, when a batch is back; bytes are not counted.
    """
    if hasattr(executor, "get_executor"):  # of dask; equal work is done again there
        executor = executor.get_executor(pure=False)
    coming = _batches(filesystem, going, entries)
    running: dict[Future[list[Outcome]], Batch] = {}
    try:
        while True:
            for batch in itertools.islice(coming, _OUTSTANDING - len(running)):
                running[_submit(executor, batch, told)] = batch
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                if not _took(future, running.pop(future), told):
                    coming = iter(())
                    running = _without_queued(running)
                    break  # the others are done, and come next
    except BaseException:
        wait(_without_queued(running))
        raise


def _without_queued(
    running: dict[Future[list[Outcome]], Batch],
) -> dict[Future[list[Outcome]], Batch]:
    """Cancel what has not begun, and return the rest: that must be waited for."""
    return {future: batch for future, batch in running.items() if not future.cancel()}


def _submit(executor: Any, batch: Batch, told: Listener) -> Future[list[Outcome]]:
    for entry in batch.entries:
        told.begin(entry)
    try:
        future: Future[list[Outcome]] = executor.submit(run_batch, batch)
    except Exception as error:  # noqa: BLE001 - a pool whose processes have died
        future = Future()
        future.set_exception(error)
    return future


def _took(future: Future[list[Outcome]], batch: Batch, told: Listener) -> bool:
    """Take in a batch; return whether it makes sense to go on."""
    if future.cancelled():
        return False
    error = future.exception()
    if isinstance(error, Exception):
        for entry in batch.entries:
            told.failed(entry, error)
        return not batch.going.fail_fast
    found = future.result()
    for entry, outcome in found:
        if isinstance(outcome, Exception):
            told.failed(entry, outcome)
        else:
            told.stored(entry, outcome)
    # It stops before its end at the first failure, or where all is refused.
    return len(found) == len(batch.entries) and not (
        batch.going.fail_fast and any(isinstance(one, Exception) for _, one in found)
    )


def _batches(
    filesystem: Any, going: Going, entries: Iterable[Entry]
) -> Iterator[Batch]:
    """Yield *entries* in batches of few files and bytes; a large one goes alone."""
    held: list[Entry] = []
    size = 0
    for entry in entries:
        more = entry.size or 0
        if held and (len(held) == _FILES or size + more > _BYTES):
            yield Batch(filesystem, going, tuple(held))
            held, size = [], 0
        held.append(entry)
        size += more
    if held:
        yield Batch(filesystem, going, tuple(held))


def check_portable(executor: Any, filesystem: Any, going: Going) -> None:
    """Refuse what cannot, or must not, travel to where *executor* works.

    Raises:
        ConfigurationError: naming it.
    """
    if isinstance(executor, ThreadPoolExecutor):
        return
    going.source.check_portable()
    try:
        pickle.dumps((filesystem, going))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        msg = f"executor= needs what can travel to another process: {error}"
        raise ConfigurationError(msg) from None

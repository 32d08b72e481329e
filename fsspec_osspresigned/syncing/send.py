"""Uploads of a sync: several files at once, in this process or by an executor."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, TypeAlias

from attrs import Factory, define, field, frozen

from ..client.client import Client
from ..client.express_lane import ExpressLane
from ..client.small_request import Steps
from ..concurrency.budget import Lease, of_process
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import Transfers
from ..errors import ConfigurationError, Outcome, SourceChangedError
from ..filesystem.put import PutCall
from ..http.body import FileBody, MemoryBody, PartBody, SpooledBody
from ..model import Operation, Receipt
from ..options.object_options import Target
from ..units import MIB
from ..upload.plan import first_request
from ..upload.upload import Upload, upload_steps
from .plan import Entry
from .source import RemoteSource, SyncSource

_HELD = 16 * MIB  # bytes of a remote file that may wait in memory, not on disk
_LARGE_AT_ONCE = 2  # larger remote files, which have several parts in memory


class Listener:
    """Protocol of an object that is notified of transfers, from several threads."""

    def begin(self, entry: Entry) -> None:
        """Called when the transfer of *entry* begins."""

    def moved(self, name: str, count: int) -> None:
        """Called with the number of bytes moved; negative after a failed attempt."""

    def stored(self, entry: Entry, receipt: Receipt) -> None:
        """Called when a file is stored."""

    def fetched(self, entry: Entry) -> None:
        """Called when a file is fetched."""

    def failed(self, entry: Entry, error: Exception) -> None:
        """Called when a file could not be transferred."""


@frozen
class SyncRoute:
    """Source, destination and object options that all files of one sync share."""

    source: SyncSource
    root: str  # bucket and prefix of the keys, with a slash at the end
    given: Mapping[str, Any] = field(factory=dict)
    fail_fast: bool = False

    def send(
        self, client: Client, entries: Iterable[Entry], listener: Listener
    ) -> None:
        """Upload *entries*, several at once; return after all uploads have ended."""
        call = PutCall.from_options(client, self.given)
        large = threading.BoundedSemaphore(_LARGE_AT_ONCE)

        def opening(entry: Entry) -> Operation:
            target = call.target(self.root + entry.name)
            return first_request(client, target, entry.size or 0)

        source, ahead = client.announced(entries, opening)

        def store(entry: Entry, cancel: Cancellation) -> Steps[Receipt]:
            target = yield from call.target_steps(self.root + entry.name)
            moved = partial(listener.moved, entry.name)
            how: dict[str, Any] = {"ahead": ahead, "progress": moved, "cancel": cancel}
            if self.source.is_local:
                place = self.source.place(entry.name)
                return (yield from _sent_file(client, target, place, how))
            yield None
            is_large = entry.size is None or entry.size > _HELD
            with large if is_large else contextlib.nullcontext():
                upload = Upload(client, target, size=entry.size, **how)
                return _sent_stream(upload, entry, self.source, cancel)

        def work(entry: Entry, cancel: Cancellation) -> Steps[None]:
            listener.begin(entry)
            try:
                receipt = yield from store(entry, cancel)
            except Exception as error:
                listener.failed(entry, error)
                raise
            listener.stored(entry, receipt)

        transfers: Transfers[Entry, None] = Transfers(
            client.files,
            client.options.connections,
            work,
            lambda entry: entry.name,
            on_error="raise" if self.fail_fast else "omit",
            driver=ExpressLane(client),
        )
        transfers.failures_of(source)


def _sent_file(
    client: Client, target: Target, place: str, how: dict[str, Any], tries: int = 3
) -> Steps[Receipt]:
    """Upload a local file; upload it again if it changed during the upload.

    Without the second upload, the object would be newer than the change, and the next
    sync would skip the file.
    """
    body = FileBody.of(place)
    receipt = yield from upload_steps(client, target, body, **how)
    try:
        body.check()
    except FileNotFoundError:
        return receipt  # it was removed after all of it was sent
    except SourceChangedError as error:
        if tries == 1 or target.exclusive:
            why = "stored, but the file changed while it was sent, so the object is out of date"
            msg = f"{why}: run sync with --checksum when no program writes to it"
            facts = {"path": target.path, "outcome": Outcome.STORED}
            raise SourceChangedError(msg, **facts) from error
        how["progress"](-receipt.size)
        how = {**how, "ahead": None}
        return (yield from _sent_file(client, target, place, how, tries - 1))
    return receipt


def _sent_stream(
    upload: Upload, entry: Entry, source: SyncSource, cancel: Cancellation
) -> Receipt:
    """Upload a file of another filesystem while reading it."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(source.open(entry.name))
            _add_all(upload, entry.size, _BlockReader(file, cancel), stack)
            return upload.finish()
        except BaseException as error:
            upload.discard(error)
            raise


def _add_all(
    upload: Upload, size: int | None, reader: _BlockReader, stack: contextlib.ExitStack
) -> None:
    """Add all bytes to the upload; SourceChangedError if *size* is wrong."""
    if size is None or upload.plan.multipart:
        _add_parts(upload, size, reader)
    elif size <= _HELD:
        upload.add(MemoryBody.of(reader.read(size)))
    else:
        # A single PUT may have to be sent again, so its bytes wait on the disk.
        spool = SpooledBody()
        stack.callback(spool.close)
        while block := reader.read(min(MIB, size - reader.count)):
            spool.append(MemoryBody.of(block))
        upload.add(spool)
    if size is not None and (reader.count != size or reader.read(1)):
        msg = f"the source no longer has the {size} bytes that it was listed with"
        raise SourceChangedError(msg, path=upload.path)


def _add_parts(upload: Upload, size: int | None, reader: _BlockReader) -> None:
    number = 0
    while True:
        number += 1
        wanted = upload.plan.size_of(number)
        if size is not None:
            wanted = min(wanted, size - reader.count)
        part = reader.read(wanted)
        if part or number == 1:
            # The lease counts the part in the memory budget of the process.
            lease = Lease(of_process().memory, len(part))
            upload.add(PartBody((memoryview(part),), len(part), lease=lease))
        if len(part) < wanted or reader.count == size:
            return


@define
class _BlockReader:
    """Reader of a source file that counts its bytes and stops when it is cancelled."""

    file: Any
    cancel: Cancellation
    count: int = 0

    def read(self, size: int) -> bytearray:
        found = bytearray()
        while len(found) < size and not self.cancel.is_set():
            block = self.file.read(min(size - len(found), MIB))
            if not block:
                break
            found += block
        self.count += len(found)
        return found


@frozen
class BatchLimits:
    """Limits of a batch for an executor; a larger file is a batch by itself."""

    files: int = 64
    size: int = 128 * MIB
    outstanding: int = 128  # batches that an executor has at a time


LIMITS = BatchLimits()


@frozen
class Batch:
    """Files that one worker process uploads: their names, no secrets and no content."""

    filesystem: Any  # pickled by its options
    route: SyncRoute
    entries: tuple[Entry, ...]


BatchResult: TypeAlias = list[tuple[Entry, Receipt | Exception]]
_Running: TypeAlias = dict[Future[BatchResult], Batch]


@frozen
class _Collector(Listener):
    found: BatchResult = Factory(list)

    def stored(self, entry: Entry, receipt: Receipt) -> None:
        self.found.append((entry, receipt))

    def failed(self, entry: Entry, error: Exception) -> None:
        self.found.append((entry, error))


def run_batch(batch: Batch) -> BatchResult:
    """Upload the files of *batch* in this process, and return the result of each."""
    collector = _Collector()
    batch.route.send(batch.filesystem.client, batch.entries, collector)
    return collector.found


def spread(executor: Any, batches: Iterator[Batch], listener: Listener) -> None:
    """Upload *batches* through *executor*; return after all uploads have ended.

    *listener* is called when a batch is done, but not while its bytes are sent.
    """
    if hasattr(executor, "get_executor"):  # dask must not take equal work for done
        executor = executor.get_executor(pure=False)
    running: _Running = {}
    try:
        while True:
            for batch in itertools.islice(batches, LIMITS.outstanding - len(running)):
                running[_submit(executor, batch, listener)] = batch
            if not running:
                return
            done = wait(running, return_when=FIRST_COMPLETED).done
            # After the first failure, the others are done and come next.
            if not all(_collect(one, running.pop(one), listener) for one in done):
                batches = iter(())
                running = _without_queued(running)
    except BaseException:
        wait(_without_queued(running))
        raise


def _without_queued(running: _Running) -> _Running:
    """Cancel queued batches; return the batches that still run."""
    return {future: batch for future, batch in running.items() if not future.cancel()}


def _submit(executor: Any, batch: Batch, listener: Listener) -> Future[BatchResult]:
    for entry in batch.entries:
        listener.begin(entry)
    try:
        future: Future[BatchResult] = executor.submit(run_batch, batch)
    except Exception as error:  # noqa: BLE001 - a pool whose processes have died
        future = Future()
        future.set_exception(error)
    return future


def _collect(future: Future[BatchResult], batch: Batch, listener: Listener) -> bool:
    """Report the results of a finished batch; return whether to send more batches."""
    if future.cancelled():
        return False
    error = future.exception()
    if isinstance(error, Exception):
        for entry in batch.entries:
            listener.failed(entry, error)
        return not batch.route.fail_fast
    found = future.result()
    for entry, result in found:
        if isinstance(result, Exception):
            listener.failed(entry, result)
        else:
            batch.filesystem.client.written.remember(result, None)
            listener.stored(entry, result)
    # A batch stops before its end at the first failure, or where all is refused.
    return len(found) == len(batch.entries) and not (
        batch.route.fail_fast and any(isinstance(one, Exception) for _, one in found)
    )


def batches_of(
    filesystem: Any, route: SyncRoute, entries: Iterable[Entry]
) -> Iterator[Batch]:
    """Yield batches of *entries* that are within ``LIMITS``."""
    held: list[Entry] = []
    size = 0
    for entry in entries:
        more = entry.size or 0
        if held and (len(held) == LIMITS.files or size + more > LIMITS.size):
            yield Batch(filesystem, route, tuple(held))
            held, size = [], 0
        held.append(entry)
        size += more
    if held:
        yield Batch(filesystem, route, tuple(held))


def check_portable(executor: Any, filesystem: Any, route: SyncRoute) -> None:
    """Raise ConfigurationError for options that must not be sent to another process.

    Options with secrets, and those that cannot be pickled, are refused.
    """
    if isinstance(executor, ThreadPoolExecutor):
        return
    if isinstance(route.source, RemoteSource):
        route.source.check_portable()
    try:
        pickle.dumps((filesystem, route))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        msg = f"executor= needs arguments that can be pickled: {error}"
        raise ConfigurationError(msg) from None

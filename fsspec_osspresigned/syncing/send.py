"""Uploads of a sync: several files at once, in this process or through an executor."""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeAlias

from attrs import Factory, define, field, frozen

from ..client.client import Client
from ..concurrency.budget import Lease, of_process
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import Transfers
from ..errors import ConfigurationError, SourceChangedError
from ..filesystem.put import PutCall
from ..http.body import FileBody, MemoryBody, PartBody, SpooledBody
from ..model import Operation, Receipt
from ..options.object_options import Target
from ..signers.batching import Prefetcher
from ..units import MIB
from ..upload.plan import first_request
from ..upload.upload import Upload, upload_source
from .plan import Entry
from .source import SyncSource

_HELD = 16 * MIB  # bytes of a remote file that may wait in memory, not on disk
_LARGE_AT_ONCE = 2  # larger remote files, which have several parts in memory


class Listener:
    """Receiver of the progress of files, called from several threads."""

    def begin(self, entry: Entry) -> None:
        """Take in that the upload of *entry* begins."""

    def moved(self, name: str, count: int) -> None:
        """Count bytes; negative when a failed attempt is taken back."""

    def stored(self, entry: Entry, receipt: Receipt) -> None:
        """Take in a stored file."""

    def failed(self, entry: Entry, error: Exception) -> None:
        """Take in a file that was not stored."""


@frozen
class SyncRoute:
    """Source, destination and object options of the files of one sync.

    Attributes:
        root: bucket and prefix of the keys, with a slash at the end.
    """

    source: SyncSource
    root: str
    given: Mapping[str, Any] = field(factory=dict)
    fail_fast: bool = False

    def send(
        self, client: Client, entries: Iterable[Entry], listener: Listener
    ) -> None:
        """Upload *entries*, several at once; no upload runs when this returns."""
        call = PutCall.from_options(client, self.given)
        large = threading.BoundedSemaphore(_LARGE_AT_ONCE)

        def opening(entry: Entry) -> Operation:
            target = call.target(self.root + entry.name)
            return first_request(client, target, entry.size or 0)

        source, ahead = client.announced(entries, opening)

        def work(entry: Entry, cancel: Cancellation) -> None:
            listener.begin(entry)
            try:
                target = call.checked_target(self.root + entry.name)
                one = _FileUpload(client, target, entry, ahead, cancel, listener)
                if self.source.is_local:
                    receipt = one.send_path(self.source.place(entry.name))
                elif entry.size is None or entry.size > _HELD:
                    with large:
                        receipt = one.send_stream(self.source)
                else:
                    receipt = one.send_stream(self.source)
            except Exception as error:
                listener.failed(entry, error)
                raise
            listener.stored(entry, receipt)

        first = list(itertools.islice(source, client.options.max_concurrency))
        transfers = Transfers(
            client.files,
            len(first),  # no idle worker
            work,
            lambda entry: entry.name,
            on_error="raise" if self.fail_fast else "omit",
        )
        transfers.failures_of(itertools.chain(first, source))


@frozen
class _FileUpload:
    client: Client
    target: Target
    entry: Entry
    ahead: Prefetcher | None
    cancel: Cancellation
    listener: Listener

    def _moved(self, count: int) -> None:
        self.listener.moved(self.entry.name, count)

    def send_path(self, path: str) -> Receipt:
        return upload_source(
            self.client,
            self.target,
            FileBody.of(path),
            ahead=self.ahead,
            progress=self._moved,
            cancel=self.cancel,
        )

    def send_stream(self, source: SyncSource) -> Receipt:
        """Upload a file of another filesystem while it is read.

        Raises:
            SourceChangedError: the file does not have the size that was listed.
        """
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
                file = stack.enter_context(source.open(self.entry.name))
                self._add_all(upload, _BlockReader(file, self.cancel), stack)
                return upload.finish()
            except BaseException as error:
                upload.discard(error)
                raise

    def _add_all(
        self, upload: Upload, reader: _BlockReader, stack: contextlib.ExitStack
    ) -> None:
        size = self.entry.size
        if size is None or upload.plan.multipart:
            self._add_parts(upload, reader)
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
            msg = f"the source has not the {size} bytes that it was listed with"
            raise SourceChangedError(msg, path=self.target.path)

    def _add_parts(self, upload: Upload, reader: _BlockReader) -> None:
        size, number = self.entry.size, 0
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
    """Reader of a file that counts its bytes and stops when it is cancelled."""

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
    """Limits of the work that an executor gets; a larger file is a batch of its own."""

    files: int = 64
    size: int = 128 * MIB
    outstanding: int = 128  # batches that an executor has at a time


LIMITS = BatchLimits()


@frozen
class Batch:
    """Files for another process or machine; it holds no secret and no bytes.

    The filesystem of the destination is pickled by its options.
    """

    filesystem: Any
    route: SyncRoute
    entries: tuple[Entry, ...]


BatchResult: TypeAlias = list[tuple[Entry, Receipt | Exception]]


@frozen
class _Collector(Listener):
    found: BatchResult = Factory(list)

    def stored(self, entry: Entry, receipt: Receipt) -> None:
        self.found.append((entry, receipt))

    def failed(self, entry: Entry, error: Exception) -> None:
        self.found.append((entry, error))


def run_batch(batch: Batch) -> BatchResult:
    """Upload a batch, and return the result of each file that was tried."""
    collector = _Collector()
    batch.route.send(batch.filesystem.client, batch.entries, collector)
    return collector.found


def spread(executor: Any, batches: Iterator[Batch], listener: Listener) -> None:
    """Upload *batches* through *executor*; no upload runs when this returns.

    *listener* is called when a batch is done; bytes on the way are not counted.
    """
    if hasattr(executor, "get_executor"):  # dask must not take equal work for done
        executor = executor.get_executor(pure=False)
    running: dict[Future[BatchResult], Batch] = {}
    try:
        while True:
            for batch in itertools.islice(batches, LIMITS.outstanding - len(running)):
                running[_submit(executor, batch, listener)] = batch
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                if not _collect(future, running.pop(future), listener):
                    batches = iter(())
                    running = _without_queued(running)
                    break  # the others are done, and come next
    except BaseException:
        wait(_without_queued(running))
        raise


def _without_queued(
    running: dict[Future[BatchResult], Batch],
) -> dict[Future[BatchResult], Batch]:
    """Cancel what has not begun, and return the rest, which must be waited for."""
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
    """Report the results of a batch; return whether more batches make sense."""
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
    """Yield *entries* in batches within ``LIMITS``."""
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
    """Refuse what cannot, or must not, be pickled for *executor*.

    Raises:
        ConfigurationError: names it.
    """
    if isinstance(executor, ThreadPoolExecutor):
        return
    route.source.check_portable()
    try:
        pickle.dumps((filesystem, route))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        msg = f"executor= needs what can travel to another process: {error}"
        raise ConfigurationError(msg) from None

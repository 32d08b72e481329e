"""Uploads of a sync: several files at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, evolve

from ...client.client import Client
from ...engine.engine import blocking, call_user
from ...engine.scope import Scope
from ...errors import Outcome, SourceChangedError, UploadDiscardedError
from ...filesystem.put import PutCall
from ...http.body import SMALL, FileBody, MemoryBody
from ...model import Operation, Receipt
from ...options.target import Target
from ...units import MIB
from ...upload.plan import first_request
from ...upload.upload import TransferContext, upload_source
from .plan import Entry
from .source import SyncSource

if TYPE_CHECKING:
    from ...signers.batching import Prefetcher
    from ...upload.resume import UploadEvent

_HELD = 16 * MIB  # bytes up to which a remote file waits in memory, not on disk
# number of larger remote files at a time; each has several parts in memory
_LARGE_AT_ONCE = 2


class Listener(Protocol):
    """A sync run that counts and reports its transfers."""

    async def begin(self, entry: Entry) -> None: ...

    def mover(self, name: str) -> Callable[[int], None] | None: ...

    def on_upload_event(self, entry: Entry, event: UploadEvent) -> None: ...

    async def stored(self, entry: Entry, receipt: Receipt | None) -> None: ...

    async def failed(self, entry: Entry, error: Exception) -> None: ...


async def transfer_all(
    client: Client,
    entries: Iterable[Entry] | AsyncIterator[Sequence[Entry]],
    transfer: Callable[[Entry], Coroutine[Any, Any, Receipt | None]],
    listener: Listener,
    *,
    is_large: Callable[[Entry], bool],
    fail_fast: bool,
) -> None:
    """Call *transfer* for all *entries*, several at once; return when all have ended.

    Large entries (*is_large*) run at most ``connections`` at a time. Failures are
    passed to *listener*, and are not raised. With *fail_fast*, no entry begins after
    the first failure. Otherwise no entry begins after 16 equal refusals in a row.
    """
    large = asyncio.Semaphore(client.options.connections)

    async def work(entry: Entry) -> None:
        async with large if is_large(entry) else contextlib.nullcontext():
            await listener.begin(entry)
            try:
                receipt = await transfer(entry)
            except Exception as error:
                await listener.failed(entry, error)
                raise
            await listener.stored(entry, receipt)

    scope: Scope[Entry, None] = Scope(
        work,
        lambda entry: entry.name,
        width=client.options.max_small,
        on_error="raise" if fail_fast else "omit",
    )
    await scope.run_all(entries)


class Sending:
    """Uploads of one sync; *given* are options for every object."""

    def __init__(
        self,
        client: Client,
        source: SyncSource,
        root: str,
        given: Mapping[str, Any],
        listener: Listener,
    ) -> None:
        self._client, self._source, self._root = client, source, root
        self._listener = listener
        self._call = PutCall.from_options(client, given)
        self._large_streams = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._prefetcher: Prefetcher | None = None

    async def send(self, entries: Iterable[Entry], fail_fast: bool) -> None:
        source, self._prefetcher = self._client.announced(entries, self._opening)
        is_local = self._source.is_local

        def is_large(entry: Entry) -> bool:
            return not is_local or entry.size is None or entry.size > SMALL

        await transfer_all(
            self._client,
            source,
            self._send,
            self._listener,
            is_large=is_large,
            fail_fast=fail_fast,
        )

    async def _opening(self, entry: Entry) -> Operation:
        target = self._call.target(self._root + entry.name)
        return await first_request(self._client, target, entry.size or 0)

    async def _send(self, entry: Entry) -> Receipt:
        listener, source = self._listener, self._source
        context = TransferContext(
            prefetcher=self._prefetcher,
            progress=listener.mover(entry.name),
            on_event=partial(listener.on_upload_event, entry),
        )
        path = self._root + entry.name
        target = await self._call.checked_target(path)
        if source.is_local:
            return await self._send_file(target, source.path_of(entry.name), context)
        file = _RemoteFile(source, entry, path)
        if entry.size is not None and entry.size <= _HELD:
            body = MemoryBody(await blocking(file.read, stop=file.stop))
            return await upload_source(self._client, target, body, context)
        async with self._large_streams:
            return await blocking(
                self._send_stream, file, target, context, stop=file.stop
            )

    def _send_stream(
        self, file: _RemoteFile, target: Target, context: TransferContext
    ) -> Receipt:
        writer = self._call.writer(target, True, context, size=file.entry.size)
        return file.copy_to(writer)

    async def _send_file(
        self, target: Target, local: str, context: TransferContext, tries: int = 3
    ) -> Receipt:
        """Upload a local file, and upload it again if it changed during the upload.

        Without the second upload, the object would be newer than the change, and the
        next sync would skip the file. SourceChangedError if the file changed during the
        last of *tries* uploads, or if the object may be stored only once.
        """
        body = await blocking(FileBody.of, local)
        receipt = await upload_source(self._client, target, body, context)
        try:
            await blocking(body.check)
        except FileNotFoundError:
            return receipt  # the file was removed after it was sent completely
        except SourceChangedError as error:
            if tries == 1 or target.kind.exclusive:
                why = "stored, but the file changed while it was sent, so the object is out of date"
                msg = f"{why}: run sync with --checksum when no program writes to it"
                facts = {"path": target.path, "outcome": Outcome.STORED}
                raise SourceChangedError(msg, **facts) from error
        else:
            return receipt
        if context.progress is not None:
            await call_user(context.progress, -receipt.size)
        again = evolve(context, prefetcher=None)
        return await self._send_file(target, local, again, tries - 1)


@define
class _RemoteFile:
    source: SyncSource
    entry: Entry
    path: str  # path of the object
    is_stopped: bool = False
    writer: Any = None

    def stop(self) -> None:
        self.is_stopped = True
        if self.writer is not None:
            self.writer.abandon()

    def _blocks(self) -> Iterator[bytes]:
        size, count = self.entry.size, 0
        with self.source.open(self.entry.name) as file:
            while block := file.read(MIB):
                self._check_not_stopped()
                count += len(block)
                if size is not None and count > size:
                    break
                yield block
        self._check_not_stopped()
        if size not in (None, count):
            msg = f"the source no longer has the {size} bytes that it was listed with"
            raise SourceChangedError(msg, path=self.path)

    def _check_not_stopped(self) -> None:
        if self.is_stopped:
            msg = "the upload was cancelled"
            raise UploadDiscardedError(msg, path=self.path)

    def read(self) -> bytearray:
        data = bytearray()
        for block in self._blocks():
            data += block
        return data

    def copy_to(self, writer: Any) -> Receipt:
        """Copy the file to *writer*, publish the object, and return its receipt.

        If the file cannot be read to its end, the object is discarded.
        """
        self.writer = writer
        try:
            for block in self._blocks():
                writer.write(block)
            writer.commit()
        except BaseException:
            writer.discard()
            raise
        receipt: Receipt = writer.receipt
        return receipt

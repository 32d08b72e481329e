"""Uploads of values, files, directory trees and streams, with options per call."""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import os
import stat
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from attrs import evolve, frozen
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression

from .. import callers
from ..client.client import Client
from ..client.operations import OSSCalls
from ..compat import READ_ONLY, Stream
from ..engine.engine import awaited, blocking, run, waiting
from ..engine.warn import warn_user
from ..errors import (
    ConfigurationError,
    DiscardWarning,
    ObjectExistsError,
    PublishWarning,
    SourceChangedError,
)
from ..http.body import SMALL, FileBody, MemoryBody, Source, has_its_size
from ..model import Operation, Receipt
from ..options.target import ObjectOptions, Target
from ..units import KIB
from ..upload.plan import first_request
from ..upload.transaction import Transaction, around_statement
from ..upload.upload import ALONE, TransferContext, Upload, upload_source
from .arguments import BulkOptions, check_choice, in_turn
from .callbacks import BlockCopy, SharedCallback
from .receipts import ReceiptList

if TYPE_CHECKING:
    from ..upload.writer import PresignedWriter
    from .destinations import LocalEntry

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_READ_AHEAD = 64 * KIB  # bytes of the largest file that is read ahead

_DUCKDB = (
    "DuckDB closes a file alike whether its statement succeeded or failed, so a failure "
    "would publish a truncated object: run the statement in `with fs.transaction:`, "
    "with USE_TMP_FILE false; or write a local file, and fs.put_file it"
)
_ZIP = (
    "zip:// finishes its archive when it is garbage-collected, also after an exception, "
    "and hides errors of the upload: use zipfile.ZipFile(file, 'w') in a "
    "`with fs.open(path, 'wb') as file:`"
)


@frozen(eq=False)
class PutCall:
    """Options and uploads of one call that writes.

    Paths are ``bucket/key``.
    """

    client: Client
    options: ObjectOptions
    create: bool = False  # True: an existing object is never replaced
    transaction: Transaction | None = None  # publishes the objects at its end

    @classmethod
    def from_options(
        cls,
        client: Client,
        given: Mapping[str, Any],
        mode: str = "overwrite",
        transaction: Transaction | None = None,
    ) -> PutCall:
        """Combine the options *given* in the call with those of the filesystem."""
        options = client.object_options
        if given:
            options = ObjectOptions.from_call(client.options, given)
        if mode != "overwrite":
            check_choice("mode", mode, ("overwrite", "create"))
        create = mode == "create"
        if client.signer.names_objects:
            # the server chooses new names, so nothing is replaced
            options = ObjectOptions(evolve(options.options, overwrite=True))
            create = False
        return cls(client, options, create, transaction)

    def target(self, path: str) -> Target:
        """Return the object *path* with the headers to send; sends nothing."""
        guessed = media_type(path.rpartition("/")[2])
        hidden = self.client.written.may_hide(path)
        return self.options.target(
            path, guessed=guessed, exclusive=self.create, hidden=hidden
        )

    async def checked_target(self, path: str) -> Target:
        """Return ``target(path)``; if ``create`` is set, first check that no object exists.

        If HEAD is granted, it shows early whether the object exists, before any bytes
        are sent. The store's own check at the end decides.

        Raises:
            FileExistsError: the object exists, or is part of the transaction.
        """
        target = self.target(path)
        if target.kind.exclusive:
            await self._refuse_existing(path)
        return target

    async def _refuse_existing(self, path: str) -> None:
        if self.transaction is not None and path in self.transaction.held():
            msg = "the transaction already has an object for this path"
            raise ObjectExistsError(msg, path=path)
        with contextlib.suppress(FileNotFoundError, PermissionError):
            await OSSCalls(self.client, Target(path)).head()
            msg = "the object exists already: use another name"
            raise ObjectExistsError(msg, path=path)

    async def on_engine(
        self,
        paths: Iterable[str],
        function: Callable[P, Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Await *function*, which writes *paths*, by ``awaited``.

        If the call is cancelled, the transaction fails.
        """
        try:
            return await awaited(function, *args, **kwargs)
        except asyncio.CancelledError:
            if self.transaction is not None:
                for path in paths:
                    self.transaction.fail(path)
            raise

    def pipe_file(self, path: str, value: Any) -> Coroutine[Any, Any, Receipt | None]:
        """Upload one buffer of bytes; the coroutine returns None in a transaction."""
        return self._store(path, MemoryBody(value), ALONE)

    def _store(
        self, path: str, body: Source, context: TransferContext
    ) -> Coroutine[Any, Any, Receipt | None]:
        target = self.target(path)
        if self.transaction is None and not target.kind.exclusive:
            # true for nearly all uploads
            return upload_source(self.client, target, body, context)
        return self._store_checked(target, body, context)

    async def _store_checked(
        self, target: Target, body: Source, context: TransferContext
    ) -> Receipt | None:
        if target.kind.exclusive:
            await self._refuse_existing(target.path)
        if self.transaction is None:
            return await upload_source(self.client, target, body, context)
        await self.transaction.add_source(target, body, context)
        return None

    async def put_file(
        self, local: str, path: str, callback: SharedCallback
    ) -> Receipt | None:
        """Upload one local file; a pipe is uploaded as a stream.

        Return None in a transaction, and for a directory, which is only recorded.
        """
        file = await blocking(local_file, local)
        return await self._put_file(file, path, callback, ALONE, may_be_pipe=True)

    async def _put_file(
        self,
        file: LocalFile,
        path: str,
        callback: SharedCallback,
        context: TransferContext,
        *,
        may_be_pipe: bool,
    ) -> Receipt | None:
        """Upload *file*; return None in a transaction, or for a directory.

        Without *may_be_pipe*, a pipe or a device is not read, and raises
        SourceChangedError.
        """
        if file.problem is not None:
            raise file.problem
        if file.is_directory:
            self.client.written.remember_directory(path)
            text = (
                f"nothing was sent: {file.local} is a directory, "
                "put(recursive=True) sends it"
            )
            warn_user(text, PublishWarning)
            return None
        if not (file.is_regular or may_be_pipe):
            msg = "the file has become a pipe, socket or device, which was not read"
            raise SourceChangedError(msg, path=file.local)
        if file.body is None:
            target = await self.checked_target(path)
            copying = BlockCopy(path, callback)
            return await waiting(
                self._put_stream, file, target, copying, stop=copying.stop
            )
        context = evolve(context, on_event=callback.on_event)
        if callback.is_heard:
            await waiting(callback.set_size, file.body.size)
            context = evolve(context, progress=callback.add)
        return await self._store(path, file.body, context)

    def _put_stream(
        self, file: LocalFile, target: Target, copying: BlockCopy
    ) -> Receipt | None:
        transaction = self.transaction
        with (
            Stream(file.local, copying.check, regular=file.is_regular) as source,
            self.writer(target, autocommit=transaction is None) as sink,
        ):
            # otherwise an error would publish a truncated object
            sink.publish_always = False
            copying.discards(sink)
            if transaction is not None:
                transaction.add(sink)
            copying.run(source, sink)
        return sink.receipt

    async def put(
        self, entries: Iterable[LocalEntry], callback: SharedCallback, bulk: BulkOptions
    ) -> ReceiptList:
        """Upload local files, several at a time; directories are only recorded."""
        sent = [entry for entry in entries if entry.is_sent]
        if callback.is_heard:
            await waiting(lambda: callback.expect(len(sent), _bytes_of(sent)))
        for entry in entries:
            if entry.is_directory:
                self.client.written.remember_directory(entry.path)

        async def put_entry(
            entry: LocalEntry, file: LocalFile, context: TransferContext
        ) -> Receipt | None:
            if entry.problem is not None:
                raise entry.problem
            async with callback.of_file(entry.local, entry.path) as child:
                return await self._put_file(
                    file, entry.path, child, context, may_be_pipe=entry.is_pipe
                )

        def store(
            job: tuple[LocalEntry, LocalFile],
            context: TransferContext,
            large: asyncio.Semaphore,
        ) -> Coroutine[Any, Any, Receipt | None]:
            entry, file = job
            if type(file.body) is MemoryBody and not callback.is_heard:
                # most files are small and have no callback
                return self._store(entry.path, file.body, context)
            if file.body is not None and file.body.size > SMALL:
                return in_turn(large, put_entry, entry, file, context)
            return put_entry(entry, file, context)

        receipts = await self._store_all(
            _files(sent),
            store,
            lambda job: job[0].path,
            lambda job: 0 if job[1].body is None else job[1].body.size,
            bulk,
        )
        if skipped := [entry for entry in entries if entry.is_skipped]:
            first = f"{skipped[0].local} ({skipped[0].kind.value})"
            more = "" if len(skipped) == 1 else f" and {len(skipped) - 1} more"
            text = f"put left out paths that are neither files nor directories: {first}{more}"
            warn_user(text, PublishWarning)
        return receipts

    async def pipe(
        self, pairs: Sequence[tuple[str, Any]], bulk: BulkOptions
    ) -> ReceiptList:
        """Upload values in memory, several at a time; raises like ``put``."""

        def store(
            pair: tuple[str, Any], context: TransferContext, large: asyncio.Semaphore
        ) -> Coroutine[Any, Any, Receipt | None]:
            body = MemoryBody(pair[1])
            if body.size > SMALL:
                return in_turn(large, self._store, pair[0], body, context)
            return self._store(pair[0], body, context)

        return await self._store_all(
            pairs,
            store,
            lambda pair: pair[0],
            lambda pair: memoryview(pair[1]).nbytes,
            bulk,
        )

    async def _store_all(
        self,
        jobs: Iterable[T],
        store: Callable[..., Coroutine[Any, Any, Receipt | None]],
        path_of: Callable[[T], str],
        size_of: Callable[[T], int],
        bulk: BulkOptions,
    ) -> ReceiptList:
        """Call *store* for each of *jobs*, several at a time; return the receipts in order.

        *store* also gets *large*, a semaphore that lets ``max_concurrency`` jobs larger
        than ``SMALL`` run at a time. Its *context* has a prefetcher, which signs the
        first requests of several jobs together. In a transaction, or with a signer in
        this process, there is no prefetcher. Receipts that are None, as in a
        transaction, are left out.
        """
        client = self.client

        async def opening(job: T) -> Operation:
            return await first_request(client, self.target(path_of(job)), size_of(job))

        source: Iterable[T] | AsyncIterator[Sequence[T]] = jobs
        context = ALONE
        if self.transaction is None:
            source, prefetcher = client.announced(jobs, opening)
            if prefetcher is not None:
                context = TransferContext(prefetcher=prefetcher)
        large = asyncio.Semaphore(client.options.connections)
        work = partial(store, context=context, large=large)
        receipts = await bulk.run(client, source, work, path_of)
        return ReceiptList([receipt for receipt in receipts if receipt is not None])

    def open(
        self,
        path: str,
        *,
        binary: bool = True,
        codec: str | None = None,
        text: Mapping[str, Any] | None = None,
        autocommit: bool = True,
    ) -> Any:
        """Return a file for writing, with layers for text and compression.

        *codec* is the name of a compression; None means none. *text* holds the options
        of the text layer, unless *binary* is set. Without *autocommit*, the object is
        published by the transaction or by ``commit``.
        """
        name = get_compression(path, codec)
        file: Any = self.writer(run(self.checked_target, path), autocommit)
        try:
            if name is not None:
                from ..upload.codecs import ChainedWriter  # noqa: PLC0415 - needed only for text or compression

                file = ChainedWriter(compr[name](file, mode="w"), file)
            if not binary:
                from ..upload.codecs import TextWriter  # noqa: PLC0415 - needed only for text or compression

                file = TextWriter(file, **(text or {}))
        except BaseException:
            file.discard()
            raise
        if self.transaction is not None and not autocommit:
            self.transaction.add(file)
        return file

    def of_opener(self, path: str) -> PutCall:
        """Return the call that opens a file for writing at *path*.

        This is *self*, unless DuckDB opens the file in a thread of its own.

        Raises:
            ConfigurationError: the calling tool could publish an incomplete file.
        """
        if callers.is_called_by("fsspec.implementations.zip"):
            raise ConfigurationError(_ZIP, path=path)
        if not callers.duckdb_opens(path):
            return self
        around = around_statement(self.client)
        if around is None and not self._publishes_always:
            raise ConfigurationError(_DUCKDB, path=path)
        return evolve(self, transaction=around)

    def check_cache(self, path: Any) -> None:
        """Raise the exception that ended the ``with`` block of a ``simplecache::`` file.

        The cache itself would upload its file despite the exception. Does nothing
        without such an exception, for other callers, or with
        ``on_exception="publish"``.
        """
        error = callers.leaving()
        if (
            error is None
            or self._publishes_always
            or not callers.is_called_by("fsspec.implementations.cached")
        ):
            return
        names = ", ".join([path] if isinstance(path, str) else path)
        text = f"{names} was not published: {type(error).__name__} left its with block"
        error.add_note(text)
        with contextlib.suppress(DiscardWarning):
            # with -W error, the warning must not replace *error*
            warn_user(text, DiscardWarning)
        raise error

    @property
    def _publishes_always(self) -> bool:
        return self.client.options.on_exception == "publish"

    def writer(
        self,
        target: Target,
        autocommit: bool,
        context: TransferContext = ALONE,
        *,
        size: int | None = None,
    ) -> PresignedWriter:
        """Return a binary file for writing.

        It blocks until the engine answers, so the engine's thread must not call it.
        *size* is in bytes; None if it is not known. The caller must discard a file that
        gets fewer or more bytes.
        """
        from ..upload.writer import PresignedWriter  # noqa: PLC0415 - needed only for streams

        upload = run(Upload.begin, self.client, target, size=size, context=context)
        if size is not None and not upload.plan.multipart:
            # A stream that goes in one request waits on disk, not in memory.
            upload = run(Upload.begin, self.client, target, context=context)
        keep = None
        if self.transaction is not None and not autocommit:
            keep = None if upload.plan.multipart else self.transaction.keep
        writer = PresignedWriter(
            upload,
            path=target.path,
            autocommit=autocommit,
            publish_always=self._publishes_always,
            keep=keep,
        )
        writer.mode = "xb" if self.create else "wb"
        return writer


@frozen
class LocalFile:
    """Result of ``local_file``: the body of a local path, or why it has none."""

    local: str
    is_directory: bool = False
    is_regular: bool = True
    body: Source | None = None  # None for a stream, or if there is a problem
    problem: Exception | None = None  # the reason why the path cannot be read


def local_file(local: str) -> LocalFile:
    """Return the file at the path *local*; an error becomes its ``problem``.

    It waits for the disk, so only worker threads may call it.
    """
    try:
        status = os.stat(local)
        if stat.S_ISDIR(status.st_mode):
            return LocalFile(local, is_directory=True)
        is_regular = stat.S_ISREG(status.st_mode)
        if not (is_regular and has_its_size(local, status)):
            return LocalFile(local, is_regular=is_regular)
        return LocalFile(local, body=FileBody.of(local, status))
    except OSError as error:
        return LocalFile(local, problem=error)


def _read_file(local: str) -> LocalFile:
    """Like ``local_file``, but read a regular file of up to 64 KiB into memory."""
    with contextlib.suppress(OSError):  # ``local_file`` raises the error again
        descriptor = os.open(local, READ_ONLY)
        try:
            before = os.fstat(descriptor)
            if stat.S_ISREG(before.st_mode) and before.st_size <= _READ_AHEAD:
                data = os.read(descriptor, before.st_size + 1)
                after = os.fstat(descriptor)
                times = {before.st_mtime_ns, after.st_mtime_ns}
                # A file whose content has another size than its metadata, as in /proc,
                # is a stream.
                if {len(data), after.st_size} == {before.st_size} and len(times) == 1:
                    return LocalFile(local, body=MemoryBody(data))
        finally:
            os.close(descriptor)
    return local_file(local)


def _files(entries: Iterable[LocalEntry]) -> Iterator[tuple[LocalEntry, LocalFile]]:
    """Yield the files at *entries*, and read small ones; runs in a worker thread."""
    for entry in entries:
        read = local_file if entry.is_pipe else _read_file
        yield entry, read(entry.local)


def _bytes_of(entries: Iterable[LocalEntry]) -> int:
    size = 0
    for entry in entries:
        with contextlib.suppress(OSError):
            size += os.path.getsize(entry.local)
    return size


def media_type(name: str) -> str | None:
    if "." not in name and ":" not in name:
        return None  # filling the table would take longer than a PUT
    stem, _, ending = name.partition(".")
    return _guessed(f"x.{ending}" if stem and ":" not in name else name)


@lru_cache(maxsize=64)  # the files of an upload have few different suffixes
def _guessed(name: str) -> str | None:
    guessed, coding = _media_types().guess_type(name)
    if coding is not None:
        return "application/gzip" if coding == "gzip" else None
    return guessed


# Python's built-in table is the same on every machine.
_media_types = cache(mimetypes.MimeTypes)


def progress_callback(callback: Any, options: dict[str, Any]) -> SharedCallback:
    """Return fsspec's *callback*, wrapped for worker threads.

    An OSS callback (a mapping or a text) is moved into *options* instead, as
    ``callback``.
    """
    if isinstance(callback, Mapping | str):
        options["callback"] = callback
        callback = None
    return SharedCallback(DEFAULT_CALLBACK if callback is None else callback)


def write_mode(mode: str) -> str:
    kind = mode.replace("b", "", 1).replace("t", "", 1)
    if kind not in ("w", "x"):
        remedy = "write a new one with 'wb' or 'xb'"
        if "a" in kind:
            remedy = "log to a local file, then put or sync it"
        text = f"mode {mode!r}: an object cannot be changed in place; {remedy}"
        raise ValueError(text)
    return "create" if kind == "x" else "overwrite"

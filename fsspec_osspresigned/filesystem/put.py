"""Uploads of values, files, directory trees and streams, with options per call."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from attrs import evolve, frozen
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import stringify_path

from .. import callers
from ..client.client import Client
from ..client.small_request import Steps
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import run_steps
from ..concurrency.waiting import Future
from ..errors import (
    ConfigurationError,
    DiscardWarning,
    ObjectExistsError,
    PublishWarning,
    SourceChangedError,
    UploadDiscardedError,
)
from ..http.body import SMALL, FileBody, MemoryBody, has_its_size
from ..model import Operation, Receipt
from ..options.object_options import ObjectOptions, Target
from ..system import open_regular
from ..tracebacks import warn_user
from ..units import MIB
from ..upload.plan import first_request
from ..upload.transaction import Transaction, around_duckdb
from ..upload.upload import Upload, upload_steps
from .bulk_options import BulkOptions, check_choice
from .progress import SharedCallback

if TYPE_CHECKING:
    from ..client.coroutine_calls import GatheredCalls
    from ..client.receipt_output import ReceiptList
    from ..signers.batching import Prefetcher
    from ..upload.writer import PresignedWriter
    from .destinations import LocalEntry, LocalTree

T = TypeVar("T")

_DUCKDB = (
    "DuckDB closes a file alike whether its statement succeeded or failed, so a failure "
    "would publish a truncated object: run the statement in `with fs.transaction:`, "
    "without USE_TMP_FILE; or write a local file, and fs.put_file it"
)
_ZIP = (
    "zip:// finishes its archive when it is garbage-collected, also after an exception, "
    "and hides errors of the upload: use zipfile.ZipFile(file, 'w') in a "
    "`with fs.open(path, 'wb') as file:`"
)


@frozen(eq=False)
class PutCall:
    """Options of one writing call, and the uploads that it makes.

    Paths are ``bucket/key``.

    *create* never replaces an object. A *transaction* publishes later.
    """

    client: Client
    options: ObjectOptions
    create: bool = False
    transaction: Transaction | None = None

    @classmethod
    def from_options(
        cls,
        client: Client,
        given: Mapping[str, Any],
        mode: str = "overwrite",
        transaction: Transaction | None = None,
    ) -> PutCall:
        """Combine the options *given* in the call with those of the filesystem."""
        options = ObjectOptions.from_call(client.options, given)
        check_choice("mode", mode, ("overwrite", "create"))
        return cls(client, options, mode == "create", transaction)

    def target(self, path: str) -> Target:
        """Return the upload target for *path*; sends nothing."""
        guessed = media_type(path.rpartition("/")[2])
        hidden = self.client.written.may_hide(path)
        return self.options.target(
            path, guessed=guessed, exclusive=self.create, hidden=hidden
        )

    def target_steps(self, path: str) -> Steps[Target]:
        """Do ``checked_target`` as a generator, which yields before it waits."""
        target = self.target(path)
        if target.exclusive:
            yield None
            return self.checked_target(path)
        return target

    def checked_target(self, path: str) -> Target:
        """Return the upload target for *path*; *create* checks for an existing object.

        The check asks HEAD, if granted, whether the object exists, so that no bytes are
        sent in vain. The store's own check at the end decides.

        Raises:
            FileExistsError: the object exists, or is part of the transaction.
        """
        target = self.target(path)
        if target.exclusive:
            if self.transaction is not None and self.transaction.holds(path):
                msg = "the transaction has an object for this path already"
                raise ObjectExistsError(msg, path=path)
            from ..objects import calls  # noqa: PLC0415 - `objects` is lazy

            with contextlib.suppress(FileNotFoundError, PermissionError):
                calls.head(self.client, path)
                raise ObjectExistsError("the object is already there", path=path)
        return target

    def pipe_file(self, path: str, value: Any) -> Receipt | None:
        """Store one buffer of bytes; return None in a transaction."""
        return run_steps(self.pipe_steps(path, value))

    def pipe_steps(
        self,
        path: str,
        value: Any,
        ahead: Prefetcher | None = None,
        cancel: Cancellation | None = None,
    ) -> Steps[Receipt | None]:
        """Do ``pipe_file`` as a generator, like ``objects.calls.call_steps``.

        *ahead* signs the first request together with those of other values.
        """
        body = MemoryBody.of(value)
        target = yield from self.target_steps(path)
        if self.transaction is not None:
            self.transaction.add_source(target, body, cancel=cancel)
            return None
        return (
            yield from upload_steps(
                self.client, target, body, ahead=ahead, cancel=cancel
            )
        )

    def start_pipe_file(
        self, calls: GatheredCalls, path: str, value: Any, cancel: Cancellation
    ) -> Future[Any] | None:
        """Start ``pipe_file`` in *calls*; return None if a worker thread must do it."""
        if self.transaction is not None or MemoryBody.of(value).size > SMALL:
            return None
        return calls.start(lambda: self.pipe_steps(path, value, cancel=cancel))

    def start_put_file(
        self,
        calls: GatheredCalls,
        local: Any,
        path: str,
        told: SharedCallback,
        cancel: Cancellation,
    ) -> Future[Any] | None:
        """Start ``put_file`` in *calls*; return None if a worker thread must do it."""
        if self.transaction is not None:
            return None
        return calls.start(lambda: self.put_steps(local, path, told, cancel=cancel))

    def put_file(
        self,
        local: Any,
        path: str,
        told: SharedCallback,
        cancel: Cancellation | None = None,
    ) -> Receipt | None:
        """Store one local file; a pipe is stored as a stream.

        In a transaction, or for a directory, which is only recorded, return None.
        """
        return run_steps(self.put_steps(local, path, told, cancel=cancel))

    def put_steps(
        self,
        local: Any,
        path: str,
        told: SharedCallback,
        ahead: Prefetcher | None = None,
        cancel: Cancellation | None = None,
        *,
        may_be_pipe: bool = True,
    ) -> Steps[Receipt | None]:
        """Do ``put_file`` as a generator, like ``objects.calls.call_steps``.

        *ahead* signs the first request together with those of other files. Without
        *may_be_pipe*, a pipe or device raises SourceChangedError and is not read.
        """
        local = os.fspath(stringify_path(local))
        status = os.stat(local)
        if stat.S_ISDIR(status.st_mode):
            self.client.written.remember_directory(path)
            text = f"nothing was sent: {local} is a directory, put(recursive=True) sends it"
            warn_user(text, PublishWarning)
            return None
        is_regular = stat.S_ISREG(status.st_mode)
        if not is_regular and not may_be_pipe:
            msg = "the file has become a pipe, socket or device, which was not read"
            raise SourceChangedError(msg, path=local)
        target = yield from self.target_steps(path)
        if not (is_regular and has_its_size(local, status)):
            yield None
            opener = open_regular if is_regular else None
            with open(local, "rb", opener=opener) as source:
                return self._put_stream(source, target, told, cancel)
        body = FileBody.of(local, status)
        if told.is_heard:
            told.set_size(body.size)
        how: dict[str, Any] = {"progress": told.counter, "cancel": cancel}
        if self.transaction is not None:
            yield None
            self.transaction.add_source(target, body, **how)
            return None
        return (yield from upload_steps(self.client, target, body, ahead=ahead, **how))

    def _put_stream(
        self,
        source: BinaryIO,
        target: Target,
        told: SharedCallback,
        cancel: Cancellation | None,
    ) -> Receipt | None:
        cancel, at_once = Cancellation(cancel), self.transaction is None
        with self._writer(target, at_once) as sink:
            if self.transaction is not None:
                self.transaction.add(sink)
            while block := source.read(MIB):
                if cancel.is_set():
                    msg = "the upload was cancelled"
                    raise UploadDiscardedError(msg, path=target.path)
                sink.write(block)
                told.add(len(block))
        return sink.receipt

    def put(
        self, tree: LocalTree, told: SharedCallback, how: BulkOptions
    ) -> ReceiptList:
        """Store local files, several at a time; directories are only recorded.

        If the callback needs the totals, *tree* is first iterated to count files and
        bytes.
        """
        if told.is_heard:
            files = size = 0
            for entry in tree:
                files += entry.is_sent
                size += _size_of(entry.local) if entry.is_sent else 0
            told.expect(files, size)
        skipped: list[LocalEntry] = []
        sent = False

        def store(entry: LocalEntry, *more: Any) -> Steps[Receipt | None]:
            nonlocal sent
            sent = True
            if entry.problem is not None:
                raise entry.problem
            local, path, may_be_pipe = entry.local, entry.path, entry.is_pipe
            with told.of_file(local, path) as child:
                return (
                    yield from self.put_steps(
                        local, path, child, *more, may_be_pipe=may_be_pipe
                    )
                )

        done = self._store_all(
            self._files(tree, skipped),
            store,
            lambda entry: entry.path,
            lambda entry: os.path.getsize(entry.local),
            how,
        )
        if skipped:
            first = f"{skipped[0].local} ({skipped[0].kind.value})"
            more = "" if len(skipped) == 1 else f" and {len(skipped) - 1} more"
            text = f"put left out what is neither a file nor a directory: {first}{more}"
            warn_user(text, PublishWarning)
        if not sent and (directory := tree.unwalked):
            text = f"nothing was sent: {directory} is a directory, give recursive=True"
            warn_user(text, PublishWarning)
        return done

    def _files(
        self, tree: Iterable[LocalEntry], skipped: list[LocalEntry]
    ) -> Iterator[LocalEntry]:
        """Yield the files to upload; append links and devices to *skipped*."""
        for entry in tree:
            if entry.is_sent:
                yield entry
                continue
            if entry.is_skipped:
                skipped.append(entry)
            if entry.is_directory:
                self.client.written.remember_directory(entry.path)

    def pipe(self, pairs: Iterable[tuple[str, Any]], how: BulkOptions) -> ReceiptList:
        """Store values in memory, several at a time; raises like ``put``."""
        return self._store_all(
            pairs,
            lambda pair, *more: self.pipe_steps(*pair, *more),
            lambda pair: pair[0],
            lambda pair: MemoryBody.of(pair[1]).size,
            how,
        )

    def _store_all(
        self,
        jobs: Iterable[T],
        store: Callable[[T, Prefetcher | None, Cancellation], Steps[Receipt | None]],
        path_of: Callable[[T], str],
        size_of: Callable[[T], int],
        how: BulkOptions,
    ) -> ReceiptList:
        """Call *store* for all *jobs*, whose first requests are signed together."""
        from ..client.express_lane import ExpressLane  # noqa: PLC0415 - only for many
        from ..client.receipt_output import ReceiptList  # noqa: PLC0415 - only for many

        def opening(job: T) -> Operation:
            return first_request(self.client, self.target(path_of(job)), size_of(job))

        ahead = None
        if self.transaction is None:
            jobs, ahead = self.client.announced(jobs, opening)
        found = how.run(
            self.client,
            jobs,
            lambda job, cancel: store(job, ahead, cancel),
            path_of,
            ExpressLane(self.client, most=how.most),
        )
        return ReceiptList(one for one in found if one is not None)

    def open(
        self,
        path: str,
        *,
        binary: bool = True,
        codec: str | None = None,
        text: Mapping[str, Any] | None = None,
        autocommit: bool = True,
    ) -> Any:
        """Return a file for writing, with layers for *text* and compression.

        Without *autocommit*, the object is published by the transaction or by
        ``commit``.
        """
        name = get_compression(path, codec)
        file: Any = self._writer(self.checked_target(path), autocommit)
        try:
            if name is not None:
                from ..upload.file_layers import ChainedWriter  # noqa: PLC0415 - or none

                file = ChainedWriter(compr[name](file, mode="w"), file)
            if not binary:
                from ..upload.file_layers import TextWriter  # noqa: PLC0415 - or none

                file = TextWriter(file, **(text or {}))
        except BaseException:
            file.discard()
            raise
        if self.transaction is not None and not autocommit:
            self.transaction.add(file)
        return file

    def of_opener(self, path: str) -> tuple[PutCall, str]:
        """Return the call and the path of the object for a file that is opened now.

        A file of DuckDB belongs to the transaction around its statement.

        Raises:
            ConfigurationError: the tool that opens the file could publish a part of it.
        """
        if callers.is_called_by("fsspec.implementations.zip"):
            raise ConfigurationError(_ZIP, path=path)
        call = callers.duckdb_opens(path)
        if call is None:
            return self, path
        around = around_duckdb(self.client, path, call)
        if around is not None:
            return evolve(self, transaction=around), around.duckdb.open(path)
        if self._publishes_always:
            return self, path
        raise ConfigurationError(_DUCKDB, path=path)

    def check_cache(self, path: Any) -> None:
        """Raise the exception that ends the ``with`` block of a file of ``simplecache::``.

        The cache puts its file in spite of the exception.
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
        with contextlib.suppress(DiscardWarning):  # -W error: *error* is what counts
            warn_user(text, DiscardWarning)
        raise error

    @property
    def _publishes_always(self) -> bool:
        return self.client.options.on_exception == "publish"

    def _writer(self, target: Target, autocommit: bool) -> PresignedWriter:
        from ..upload.writer import PresignedWriter  # noqa: PLC0415 - only for streams

        upload = Upload(self.client, target)
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


def _size_of(local: str) -> int:
    """Return the size of a local file in bytes; 0 if it cannot be read."""
    with contextlib.suppress(OSError):
        return os.path.getsize(local)
    return 0


def media_type(name: str) -> str | None:
    """Return the media type of a file by its *name*; None if it is unknown."""
    if "." not in name and ":" not in name:
        return None  # spares the table: to fill it takes longer than to send a PUT
    stem, _, ending = name.partition(".")
    return _type_of_ending(ending) if stem and ":" not in name else _guessed(name)


@lru_cache(maxsize=64)
def _type_of_ending(ending: str) -> str | None:
    return _guessed(f"x.{ending}")


def _guessed(name: str) -> str | None:
    guessed, coding = _media_types().guess_type(name)
    if coding is not None:
        return "application/gzip" if coding == "gzip" else None
    return guessed


class _OwnTypes(mimetypes.MimeTypes):
    """Python's built-in table of media types, which is the same on every machine."""

    def __init__(self) -> None:
        if mimetypes.inited:  # the module's tables have those of the system by now
            super().__init__()
            return
        # Not super(): it would first read the system's tables, for milliseconds.
        self.suffix_map = mimetypes.suffix_map.copy()
        self.encodings_map = mimetypes.encodings_map.copy()
        self.types_map = mimetypes.common_types.copy(), mimetypes.types_map.copy()


@cache
def _media_types() -> mimetypes.MimeTypes:
    return _OwnTypes()


def progress_callback(callback: Any, options: dict[str, Any]) -> SharedCallback:
    """Wrap fsspec's callback; move an OSS callback (a mapping) into *options*."""
    if isinstance(callback, Mapping | str):
        options["callback"] = callback
        callback = None
    return SharedCallback(DEFAULT_CALLBACK if callback is None else callback)


def write_mode(mode: str) -> str:
    """Return ``create`` or ``overwrite`` for a file opened with *mode*."""
    kind = mode.replace("b", "", 1).replace("t", "", 1)
    if kind not in ("w", "x"):
        raise ValueError(
            f"mode {mode!r}: an object cannot be changed in place; write a new one "
            "with 'wb' or 'xb'"
        )
    return "create" if kind == "x" else "overwrite"

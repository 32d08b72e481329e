"""Bytes from here to there: values, files, trees and streams, for one client."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import Callback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import stringify_path

from ..client.client import Client
from ..concurrency.workers import Cancellation, Transfers
from ..errors import ObjectExistsError, PublishWarning, UploadDiscardedError
from ..http.body import FileBody, MemoryBody
from ..model import Operation, Receipt
from ..options.object_options import ObjectOptions, Target
from ..upload import plan as preflight
from ..upload.transaction import Transaction
from ..upload.upload import upload_source
from .progress import bytes_counter, is_heard

if TYPE_CHECKING:
    from ..client.receipts import ReceiptList
    from ..signers.batching import Prefetcher
    from ..upload.stream import PresignedWriter
    from .trees import Found


_COPY_BLOCK = 1024 * 1024

_Job = tuple[Any, str]


class Sending:
    """What the verbs that write have in common; paths are ``bucket/key``.

    Args:
        client: signs and sends.
        given: options of the call, laid over those of the filesystem.
        mode: ``overwrite``, or ``create``, which refuses to replace an object.
        transaction: publishes later; None publishes at once.

    Raises:
        ConfigurationError: with every problem of the options.
        ValueError: another mode.
    """

    def __init__(
        self,
        client: Client,
        given: Mapping[str, Any],
        mode: str = "overwrite",
        transaction: Transaction | None = None,
    ) -> None:
        """Check the options; send nothing."""
        self.client = client
        self.mode = mode
        self.transaction = transaction
        self._options = ObjectOptions.of(client.options, given)
        if mode not in ("overwrite", "create"):
            msg = f"mode must be 'overwrite' or 'create', not {mode!r}"
            raise ValueError(msg)

    def target(self, path: str) -> Target:
        """Return what to store where.

        Raises:
            ConfigurationError: a header is given twice.
            FileExistsError: it must not be replaced, and HEAD is signed and finds it. The
                server's own check at the end decides; this one spares the bytes.
        """
        target = self.wanted(path)
        if target.exclusive:
            if self.transaction is not None and self.transaction.holds(path):
                msg = "the transaction has an object for this path already"
                raise ObjectExistsError(msg, path=path)
            from ..objects import operations  # noqa: PLC0415 - only where none may be replaced

            with contextlib.suppress(FileNotFoundError, PermissionError):
                operations.head(self.client, path)
                msg = "the object is already there"
                raise ObjectExistsError(msg, path=path)
        return target

    def wanted(self, path: str) -> Target:
        """Return what to store where, without a request."""
        guessed = _guess(path.rpartition("/")[2])
        exclusive = self.mode == "create"
        return self._options.target(path, guessed=guessed, exclusive=exclusive)

    def value(
        self,
        path: str,
        value: Any,
        *,
        ahead: Prefetcher | None = None,
        cancel: Cancellation | None = None,
    ) -> Receipt | None:
        """Store one buffer of bytes; return None in a transaction."""
        body = MemoryBody.of(value)
        target = self.target(path)
        if self.transaction is not None:
            self.transaction.take(target, body, cancel=cancel)
            return None
        return upload_source(self.client, target, body, ahead=ahead, cancel=cancel)

    def file(
        self,
        local: Any,
        path: str,
        callback: Callback,
        *,
        lock: threading.Lock | None = None,
        ahead: Prefetcher | None = None,
        cancel: Cancellation | None = None,
    ) -> Receipt | None:
        """Store one local file.

        Return None in a transaction, and for a directory, which is remembered.

        Args:
            local: the file; one without a size (a pipe) is stored as a stream.
            path: ``bucket/key``.
            callback: told the bytes, one call at a time.
            lock: held while *callback* is called; None for one of its own.
            ahead: signs the first request, among those of other files.
            cancel: set from elsewhere to give up.
        """
        local = os.fspath(stringify_path(local))
        lock = lock or threading.Lock()
        status = os.stat(local)
        if stat.S_ISDIR(status.st_mode):
            self.client.written.remember_directory(path)
            return None
        target = self.target(path)
        if not stat.S_ISREG(status.st_mode):
            return self._stream(local, target, callback, lock, cancel)
        body = FileBody.of(local, status)
        progress = bytes_counter(callback, body.size, lock)
        if self.transaction is not None:
            self.transaction.take(target, body, progress=progress, cancel=cancel)
            return None
        return upload_source(
            self.client, target, body, ahead=ahead, progress=progress, cancel=cancel
        )

    def _stream(
        self,
        local: str,
        target: Target,
        callback: Callback,
        lock: threading.Lock,
        cancel: Cancellation | None,
    ) -> Receipt | None:
        with open(local, "rb") as source, self._writer(target) as sink:
            if self.transaction is not None:
                self.transaction.add(sink)
            while block := source.read(_COPY_BLOCK):
                if cancel is not None and cancel.is_set():
                    msg = "the upload was given up"
                    raise UploadDiscardedError(msg, path=target.path)
                sink.write(block)
                with lock:
                    callback.relative_update(len(block))
        return sink.receipt

    def files(
        self,
        tree: Iterable[Found],
        callback: Callback,
        batch_size: int | None,
        on_error: str = "raise",
    ) -> ReceiptList:
        """Store local files, several at once; nothing runs any more at the end.

        Args:
            tree: what goes where; directories are remembered. Iterated once more before
                if somebody wants to know how many files there are.
            callback: told the files; its branches are told the bytes.
            batch_size: files at once; None for ``max_concurrency``.
            on_error: ``raise``, ``omit`` or ``return`` what fails.

        Raises:
            UploadErrors: several files failed.
        """
        from .trees import Kind  # noqa: PLC0415 - whoever has a tree has loaded it

        left: list[str] = []
        lock, heard = threading.Lock(), is_heard(callback)
        if heard:
            sent = (one.kind is Kind.FILE or one.problem is not None for one in tree)
            callback.set_size(sum(sent))
        jobs, ahead = self._announced(self._jobs(tree, left), os.path.getsize)

        def work(job: _Job, cancel: Cancellation) -> Receipt | None:
            local, path = job
            if isinstance(local, OSError):
                raise local
            if not heard:  # 32 workers would queue for the lock
                return self.file(local, path, callback, ahead=ahead, cancel=cancel)
            with lock:
                child = callback.branched(local, path)
            with child:
                done = self.file(
                    local, path, child, lock=lock, ahead=ahead, cancel=cancel
                )
            with lock:
                callback.relative_update(1)
            return done

        done = self._run(jobs, work, batch_size, on_error)
        if left:
            more = "" if len(left) == 1 else f" and {len(left) - 1} more"
            text = f"put left out what is no file or directory: {left[0]}{more}"
            warnings.warn(text, PublishWarning, stacklevel=3)
        return done

    def _jobs(self, tree: Iterable[Found], left: list[str]) -> Iterator[_Job]:
        """Yield what is sent, remember directories, and add to *left* what is neither."""
        from .trees import Kind  # noqa: PLC0415 - whoever has a tree has loaded it

        for found in tree:
            if found.problem is not None:
                yield found.problem, found.path
            elif found.kind is Kind.FILE:
                yield found.local, found.path
            else:
                if found.kind is not Kind.DIRECTORY:
                    left.append(f"{found.local} ({found.kind.value})")
                if found.kind is not Kind.SPECIAL:
                    self.client.written.remember_directory(found.path)

    def values(
        self,
        pairs: Iterable[tuple[str, Any]],
        batch_size: int | None,
        on_error: str = "raise",
    ) -> ReceiptList:
        """Store values, several at once; nothing runs any more at the end.

        Raises:
            UploadErrors: several values failed.
        """
        values = ((value, path) for path, value in pairs)
        jobs, ahead = self._announced(values, lambda value: MemoryBody.of(value).size)

        def work(job: _Job, cancel: Cancellation) -> Receipt | None:
            return self.value(job[1], job[0], ahead=ahead, cancel=cancel)

        return self._run(jobs, work, batch_size, on_error)

    def _announced(
        self, jobs: Iterable[_Job], size_of: Callable[[Any], int]
    ) -> tuple[Iterator[_Job], Prefetcher | None]:
        """Return *jobs*, whose sources have *size_of* bytes, and their prefetcher."""
        if self.transaction is not None:
            return iter(jobs), None

        def opening(job: _Job) -> Operation:
            return preflight.opening(self.client, self.wanted(job[1]), size_of(job[0]))

        return self.client.announced(jobs, opening)

    def _run(
        self,
        jobs: Iterator[_Job],
        work: Callable[[_Job, Cancellation], Receipt | None],
        batch_size: int | None,
        on_error: str,
    ) -> ReceiptList:
        from ..client.receipts import ReceiptList  # noqa: PLC0415 - only for many

        most = self.client.options.max_concurrency
        wanted = most if batch_size in (None, -1) else int(batch_size or 1)
        first = list(islice(jobs, max(1, min(wanted, most))))  # no idle worker

        run = Transfers(
            self.client.files, len(first), work, lambda job: job[1], on_error=on_error
        )
        found = run.outcomes(chain(first, jobs))
        return ReceiptList(one for one in found if one is not None)

    def open(
        self,
        path: str,
        *,
        binary: bool,
        codec: str | None,
        text: Mapping[str, Any],
        autocommit: bool,
    ) -> Any:
        """Return a file for writing, with the layers that it needs.

        Args:
            path: ``bucket/key``.
            binary: whether bytes are written, not text.
            codec: name of a compression of fsspec; None for none.
            text: options of the text layer.
            autocommit: False leaves publishing to the transaction, or to ``commit``.
        """
        from ..upload.wrappers import (  # noqa: PLC0415 - as stream
            ChainedWriter,
            TextWriter,
        )

        name = get_compression(path, codec)
        file: Any = self._writer(self.target(path), autocommit=autocommit)
        try:
            if name is not None:
                file = ChainedWriter(compr[name](file, mode="w"), file)
            if not binary:
                file = TextWriter(file, **text)
        except BaseException:
            file.discard()
            raise
        if self.transaction is not None and not autocommit:
            self.transaction.add(file)
        return file

    def _writer(
        self, target: Target, *, autocommit: bool | None = None
    ) -> PresignedWriter:
        from ..upload.stream import PresignedWriter  # noqa: PLC0415 - likewise
        from ..upload.transaction import DeferredUpload  # noqa: PLC0415 - only for what is opened

        if autocommit is None:
            autocommit = self.transaction is None
        upload = DeferredUpload(self.client, target)
        keep = None
        if (
            self.transaction is not None
            and not autocommit
            and not upload.plan.multipart
        ):
            keep = self.transaction.keep
        return PresignedWriter(
            upload,
            path=target.path,
            autocommit=autocommit,
            publish_always=self.client.options.on_exception == "publish",
            keep=keep,
        )


def _guess(name: str) -> str | None:
    """Return the media type that the last part of a key tells; None if none."""
    if "." not in name and ":" not in name:
        return None  # spares the table: to fill it takes longer than to send a PUT
    guessed, coding = _types().guess_type(name)
    if coding is not None:
        guessed = "application/gzip" if coding == "gzip" else None
    return guessed


@cache
def _types() -> mimetypes.MimeTypes:
    """Return a table that is the same on every machine."""
    return mimetypes.MimeTypes(filenames=())

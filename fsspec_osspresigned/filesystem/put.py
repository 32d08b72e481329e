"""Writing: values, local files, directory trees and streams, with options of one call."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import frozen
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import stringify_path

from ..client.client import Client
from ..concurrency.cancellation import Cancellation
from ..errors import ObjectExistsError, PublishWarning, UploadDiscardedError
from ..http.body import FileBody, MemoryBody
from ..model import Receipt
from ..options.object_options import ObjectOptions, Target
from ..units import MIB
from ..upload.plan import first_request
from ..upload.transaction import Transaction
from ..upload.upload import Upload, upload_source
from .base import BulkOptions, check_choice
from .progress import bytes_counter, is_heard

if TYPE_CHECKING:
    from ..client.receipts import ReceiptList
    from ..signers.batching import Prefetcher
    from ..upload.writer import PresignedWriter
    from .destinations import LocalEntry

T = TypeVar("T")


@frozen(eq=False)
class PutCall:
    """Options of one call that writes, and where its objects go; paths are ``bucket/key``.

    Attributes:
        client: signs and sends.
        options: of the objects.
        create: refuse to replace an object.
        transaction: publishes later; None publishes at once.
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
        """Lay the options *given* over those of the filesystem.

        Raises:
            ConfigurationError: with every problem of the options.
            ValueError: *mode* is neither ``overwrite`` nor ``create``.
        """
        options = ObjectOptions.from_call(client.options, given)
        check_choice("mode", mode, ("overwrite", "create"))
        return cls(client, options, mode == "create", transaction)

    def target(self, path: str) -> Target:
        """Return what to store at *path*; sends nothing.

        Raises:
            ConfigurationError: a header is given twice.
        """
        guessed = media_type(path.rpartition("/")[2])
        return self.options.target(path, guessed=guessed, exclusive=self.create)

    def checked_target(self, path: str) -> Target:
        """Return the target after a HEAD if it must not be replaced and HEAD is signed.

        The store's own check at the end decides; this one spares the bytes.

        Raises:
            FileExistsError: the object is there, or in the transaction.
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

    def pipe_file(
        self,
        path: str,
        value: Any,
        *,
        ahead: Prefetcher | None = None,
        cancel: Cancellation | None = None,
    ) -> Receipt | None:
        """Store one buffer of bytes; return None in a transaction."""
        body = MemoryBody.of(value)
        target = self.checked_target(path)
        if self.transaction is not None:
            self.transaction.add_source(target, body, cancel=cancel)
            return None
        return upload_source(self.client, target, body, ahead=ahead, cancel=cancel)

    def put_file(
        self,
        local: Any,
        path: str,
        callback: Callback,
        *,
        lock: threading.Lock | None = None,
        ahead: Prefetcher | None = None,
        cancel: Cancellation | None = None,
    ) -> Receipt | None:
        """Store one local file; a pipe is stored as a stream.

        Return None in a transaction, and for a directory, which is remembered.

        Args:
            local: the file.
            path: ``bucket/key``.
            callback: told the bytes, one call at a time.
            lock: held while *callback* is called; None for a new one.
            ahead: signs the first request, together with those of other files.
            cancel: set from elsewhere to give up.
        """
        local = os.fspath(stringify_path(local))
        lock = lock or threading.Lock()
        status = os.stat(local)
        if stat.S_ISDIR(status.st_mode):
            self.client.written.remember_directory(path)
            return None
        target = self.checked_target(path)
        if not stat.S_ISREG(status.st_mode):
            return self._put_stream(local, target, callback, lock, cancel)
        body = FileBody.of(local, status)
        progress = bytes_counter(callback, body.size, lock)
        if self.transaction is not None:
            self.transaction.add_source(target, body, progress=progress, cancel=cancel)
            return None
        return upload_source(
            self.client, target, body, ahead=ahead, progress=progress, cancel=cancel
        )

    def _put_stream(
        self,
        local: str,
        target: Target,
        callback: Callback,
        lock: threading.Lock,
        cancel: Cancellation | None,
    ) -> Receipt | None:
        at_once = self.transaction is None
        with open(local, "rb") as source, self._writer(target, at_once) as sink:
            if self.transaction is not None:
                self.transaction.add(sink)
            while block := source.read(MIB):
                if cancel is not None and cancel.is_set():
                    msg = "the upload was given up"
                    raise UploadDiscardedError(msg, path=target.path)
                sink.write(block)
                with lock:
                    callback.relative_update(len(block))
        return sink.receipt

    def put(
        self,
        tree: Iterable[LocalEntry],
        callback: Callback,
        how: BulkOptions,
    ) -> ReceiptList:
        """Store local files, several at once; directories are remembered.

        Args:
            tree: iterated once more before, to count its files, if *callback* is heard.
            callback: told the files; its branches are told the bytes.
            how: files at once, and failures.

        Raises:
            UploadErrors: several files failed.
        """
        lock, heard = threading.Lock(), is_heard(callback)
        if heard:
            callback.set_size(sum(entry.is_sent for entry in tree))
        skipped: list[LocalEntry] = []
        files, ahead = self._announced(
            self._files(tree, skipped),
            lambda entry: entry.path,
            lambda entry: os.path.getsize(entry.local),
        )

        def work(entry: LocalEntry, cancel: Cancellation) -> Receipt | None:
            if entry.problem is not None:
                raise entry.problem
            if not heard:  # 32 workers would queue for the lock
                return self.put_file(
                    entry.local, entry.path, callback, ahead=ahead, cancel=cancel
                )
            with lock:
                child = callback.branched(entry.local, entry.path)
            with child:
                done = self.put_file(
                    entry.local,
                    entry.path,
                    child,
                    lock=lock,
                    ahead=ahead,
                    cancel=cancel,
                )
            with lock:
                callback.relative_update(1)
            return done

        done = self._receipts(files, work, lambda entry: entry.path, how)
        if skipped:
            first = f"{skipped[0].local} ({skipped[0].kind.value})"
            more = "" if len(skipped) == 1 else f" and {len(skipped) - 1} more"
            text = f"put left out what is no file or directory: {first}{more}"
            warnings.warn(text, PublishWarning, stacklevel=3)
        return done

    def _files(
        self, tree: Iterable[LocalEntry], skipped: list[LocalEntry]
    ) -> Iterator[LocalEntry]:
        """Yield what is sent, remember directories, add links and devices to *skipped*."""
        for entry in tree:
            if entry.is_sent:
                yield entry
                continue
            if entry.is_skipped:
                skipped.append(entry)
            if entry.is_directory:
                self.client.written.remember_directory(entry.path)

    def pipe(self, pairs: Iterable[tuple[str, Any]], how: BulkOptions) -> ReceiptList:
        """Store values, several at once; raises as ``put``."""
        jobs, ahead = self._announced(
            pairs, lambda pair: pair[0], lambda pair: MemoryBody.of(pair[1]).size
        )

        def work(pair: tuple[str, Any], cancel: Cancellation) -> Receipt | None:
            return self.pipe_file(*pair, ahead=ahead, cancel=cancel)

        return self._receipts(jobs, work, lambda pair: pair[0], how)

    def _announced(
        self,
        jobs: Iterable[T],
        path_of: Callable[[T], str],
        size_of: Callable[[T], int],
    ) -> tuple[Iterator[T], Prefetcher | None]:
        if self.transaction is not None:
            return iter(jobs), None
        return self.client.announced(
            jobs,
            lambda job: first_request(
                self.client, self.target(path_of(job)), size_of(job)
            ),
        )

    def _receipts(
        self,
        jobs: Iterator[T],
        work: Callable[[T, Cancellation], Receipt | None],
        name: Callable[[T], str],
        how: BulkOptions,
    ) -> ReceiptList:
        from ..client.receipts import ReceiptList  # noqa: PLC0415 - only for many

        found = how.run(self.client, jobs, work, name)
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
        """Return a file for writing, with its layers of text and compression.

        Args:
            path: ``bucket/key``.
            binary: bytes are written, not text.
            codec: the name of a compression of fsspec; None for none.
            text: options of the text layer.
            autocommit: False leaves publishing to the transaction, or to ``commit``.
        """
        from ..upload.file_layers import (  # noqa: PLC0415 - only for streams
            ChainedWriter,
            TextWriter,
        )

        name = get_compression(path, codec)
        file: Any = self._writer(self.checked_target(path), autocommit)
        try:
            if name is not None:
                file = ChainedWriter(compr[name](file, mode="w"), file)
            if not binary:
                file = TextWriter(file, **(text or {}))
        except BaseException:
            file.discard()
            raise
        if self.transaction is not None and not autocommit:
            self.transaction.add(file)
        return file

    def _writer(self, target: Target, autocommit: bool) -> PresignedWriter:
        from ..upload.writer import PresignedWriter  # noqa: PLC0415 - only for streams

        upload = Upload(self.client, target)
        keep = None
        if self.transaction is not None and not autocommit:
            keep = None if upload.plan.multipart else self.transaction.keep
        return PresignedWriter(
            upload,
            path=target.path,
            autocommit=autocommit,
            publish_always=self.client.options.on_exception == "publish",
            keep=keep,
        )


def media_type(name: str) -> str | None:
    """Return the media type of a file *name*; None if it tells none."""
    if "." not in name and ":" not in name:
        return None  # spares the table: to fill it takes longer than to send a PUT
    guessed, coding = _media_types().guess_type(name)
    if coding is not None:
        guessed = "application/gzip" if coding == "gzip" else None
    return guessed


@cache
def _media_types() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes(filenames=())  # the same on every machine


def progress_callback(callback: Any, options: dict[str, Any]) -> Callback:
    """Return fsspec's callback; a callback of OSS (a mapping) goes into *options*."""
    if isinstance(callback, Mapping | str):
        options["callback"] = callback
        return DEFAULT_CALLBACK
    return DEFAULT_CALLBACK if callback is None else callback


def write_mode(mode: str) -> str:
    """Return ``create`` or ``overwrite`` for a file that is opened with *mode*.

    Raises:
        ValueError: a mode that changes an object in place.
    """
    kind = mode.replace("b", "", 1).replace("t", "", 1)
    if kind not in ("w", "x"):
        msg = (
            f"mode {mode!r}: an object cannot be changed in place; write a new one "
            "with 'wb' or 'xb'"
        )
        raise ValueError(msg)
    return "create" if kind == "x" else "overwrite"

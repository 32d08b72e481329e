"""Bytes from here to there: values, files, trees and streams, for one client."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen
from fsspec.callbacks import Callback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import stringify_path

from . import objects
from .body import FileBody, MemoryBody
from .client import Client
from .errors import ObjectExistsError, UploadDiscardedError
from .model import Receipt
from .object_options import ObjectOptions
from .progress import bytes_counter
from .publish import Target
from .stream import PresignedWriter
from .transfers import Transfers
from .upload import Upload, upload_source
from .workers import Cancellation
from .writer import ChainedWriter, TextWriter

_TYPES = mimetypes.MimeTypes(filenames=())  # the same on every machine
_COPY_BLOCK = 1024 * 1024


@frozen
class Sending:
    """What the verbs that write have in common; paths are ``bucket/key``.

    Attributes:
        client: signs and sends.
        given: options of the call, laid over those of the filesystem.
        mode: ``overwrite``, or ``create``, which refuses to replace an object.
    """

    client: Client
    given: Mapping[str, Any]
    mode: str = "overwrite"

    def target(self, path: str) -> Target:
        """Return what to store where.

        Raises:
            ConfigurationError: with every problem of the options.
            FileExistsError: it must not be replaced, and HEAD is signed and finds it. The
                server's own check at the end decides; this one spares the bytes.
        """
        if self.mode not in ("overwrite", "create"):
            msg = f"mode must be 'overwrite' or 'create', not {self.mode!r}"
            raise ValueError(msg)
        wanted = ObjectOptions.of(self.client.options, self.given, path=path)
        guessed, coding = _TYPES.guess_type(path.rpartition("/")[2])
        if coding is not None:
            guessed = "application/gzip" if coding == "gzip" else None
        exclusive = self.mode == "create"
        target = wanted.target(path, guessed=guessed, exclusive=exclusive)
        if target.exclusive:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                objects.head(self.client, path)
                msg = "the object is already there"
                raise ObjectExistsError(msg, path=path)
        return target

    def value(
        self, path: str, value: Any, *, cancel: Cancellation | None = None
    ) -> Receipt:
        """Store one buffer of bytes."""
        body = MemoryBody.of(value)
        return upload_source(self.client, self.target(path), body, cancel=cancel)

    def file(
        self,
        local: Any,
        path: str,
        callback: Callback,
        *,
        lock: threading.Lock | None = None,
        cancel: Cancellation | None = None,
    ) -> Receipt | None:
        """Store one local file; return None for a directory, which is remembered.

        Args:
            local: the file; one without a size (a pipe) is stored as a stream.
            path: ``bucket/key``.
            callback: told the bytes, one call at a time.
            lock: held while *callback* is called; None for one of its own.
            cancel: set from elsewhere to give up.
        """
        local = os.fspath(stringify_path(local))
        lock = lock or threading.Lock()
        kind = os.stat(local).st_mode
        if stat.S_ISDIR(kind):
            self.client.known.make_directory(path)
            return None
        target = self.target(path)
        if not stat.S_ISREG(kind):
            return self._stream(local, target, callback, lock, cancel)
        body = FileBody.of(local)
        return upload_source(
            self.client,
            target,
            body,
            progress=bytes_counter(callback, body.size, lock),
            cancel=cancel,
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
        pairs: Iterable[tuple[str, str]],
        callback: Callback,
        batch_size: int | None,
    ) -> list[Receipt]:
        """Store local files, several at once; nothing runs any more at the end.

        Args:
            pairs: local and remote paths; directories are remembered.
            callback: told the files; its branches are told the bytes.
            batch_size: files at once; None for ``max_concurrency``.

        Raises:
            UploadErrors: several files failed.
        """
        files = []
        for local, path in pairs:
            if os.path.isdir(local):
                self.client.known.make_directory(path)
            else:
                files.append((local, path))
        lock = threading.Lock()
        callback.set_size(len(files))

        def work(pair: tuple[str, str], cancel: Cancellation) -> Receipt | None:
            with lock:
                child = callback.branched(*pair)
            with child:
                done = self.file(*pair, child, lock=lock, cancel=cancel)
            with lock:
                callback.relative_update(1)
            return done

        found = self._run(files, work, batch_size)
        return [receipt for receipt in found if receipt is not None]

    def values(
        self, pairs: Sequence[tuple[str, Any]], batch_size: int | None
    ) -> list[Receipt]:
        """Store values, several at once; nothing runs any more at the end.

        Raises:
            UploadErrors: several values failed.
        """

        def work(pair: tuple[Any, str], cancel: Cancellation) -> Receipt:
            return self.value(pair[1], pair[0], cancel=cancel)

        return self._run([(value, path) for path, value in pairs], work, batch_size)

    def _run(
        self,
        jobs: Sequence[tuple[Any, str]],
        work: Callable[[tuple[Any, str], Cancellation], Any],
        batch_size: int | None,
    ) -> list[Any]:
        most = self.client.options.max_concurrency
        wanted = most if batch_size in (None, -1) else int(batch_size or 1)
        width = max(1, min(wanted, most, len(jobs)))
        return Transfers(self.client.files, width, work, lambda job: job[1]).run(jobs)

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
            autocommit: False leaves publishing to ``commit``.
        """
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
        return file

    def _writer(self, target: Target, *, autocommit: bool = True) -> PresignedWriter:
        return PresignedWriter(
            Upload(self.client, target),
            path=target.path,
            autocommit=autocommit,
            publish_always=self.client.options.on_exception == "publish",
        )

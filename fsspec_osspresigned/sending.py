"""Bytes from here to there: values, files, trees and streams, for one client."""

from __future__ import annotations

import contextlib
import mimetypes
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from attrs import frozen
from fsspec.callbacks import Callback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.utils import stringify_path

from . import objects, preflight
from .body import FileBody, MemoryBody
from .client import Client
from .errors import ObjectExistsError, UploadDiscardedError
from .model import Operation, Receipt
from .object_options import ObjectOptions
from .progress import bytes_counter
from .publish import Target
from .signers.ahead import Ahead
from .signers.protocol import MAX_REQUESTS
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
        target = self._wanted(path)
        if target.exclusive:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                objects.head(self.client, path)
                msg = "the object is already there"
                raise ObjectExistsError(msg, path=path)
        return target

    def _wanted(self, path: str) -> Target:
        """Return what to store where; asks nobody."""
        if self.mode not in ("overwrite", "create"):
            msg = f"mode must be 'overwrite' or 'create', not {self.mode!r}"
            raise ValueError(msg)
        wanted = ObjectOptions.of(self.client.options, self.given, path=path)
        guessed, coding = _TYPES.guess_type(path.rpartition("/")[2])
        if coding is not None:
            guessed = "application/gzip" if coding == "gzip" else None
        exclusive = self.mode == "create"
        return wanted.target(path, guessed=guessed, exclusive=exclusive)

    def value(
        self,
        path: str,
        value: Any,
        *,
        ahead: Ahead | None = None,
        cancel: Cancellation | None = None,
    ) -> Receipt:
        """Store one buffer of bytes."""
        body = MemoryBody.of(value)
        target = self.target(path)
        return upload_source(self.client, target, body, ahead=ahead, cancel=cancel)

    def file(
        self,
        local: Any,
        path: str,
        callback: Callback,
        *,
        lock: threading.Lock | None = None,
        ahead: Ahead | None = None,
        cancel: Cancellation | None = None,
    ) -> Receipt | None:
        """Store one local file; return None for a directory, which is remembered.

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
            ahead=ahead,
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

        jobs, ahead = self._announced(files, os.path.getsize)

        def work(pair: tuple[str, str], cancel: Cancellation) -> Receipt | None:
            with lock:
                child = callback.branched(*pair)
            with child:
                done = self.file(*pair, child, lock=lock, ahead=ahead, cancel=cancel)
            with lock:
                callback.relative_update(1)
            return done

        found = self._run(jobs, len(files), work, batch_size)
        return [receipt for receipt in found if receipt is not None]

    def values(
        self, pairs: Sequence[tuple[str, Any]], batch_size: int | None
    ) -> list[Receipt]:
        """Store values, several at once; nothing runs any more at the end.

        Raises:
            UploadErrors: several values failed.
        """
        values = [(value, path) for path, value in pairs]
        jobs, ahead = self._announced(values, lambda value: MemoryBody.of(value).size)

        def work(pair: tuple[Any, str], cancel: Cancellation) -> Receipt:
            return self.value(pair[1], pair[0], ahead=ahead, cancel=cancel)

        return self._run(jobs, len(values), work, batch_size)

    def _announced(
        self, jobs: Iterable[tuple[Any, str]], size_of: Callable[[Any], int]
    ) -> tuple[Iterator[tuple[Any, str]], Ahead | None]:
        """Return *jobs*, and what signs their first requests in few calls.

        Args:
            jobs: sources and their paths.
            size_of: the bytes of a source.
        """
        coming: deque[Operation] = deque()
        ahead = self.client.ahead(
            lambda: coming.popleft() if coming else None,
            first=MAX_REQUESTS,
            low=self.client.options.max_concurrency,
        )
        source = iter(jobs)
        if ahead is None:
            return source, None

        def chunk() -> list[tuple[Any, str]]:
            found = list(islice(source, MAX_REQUESTS))
            for one, path in found:
                # What is wrong with one of them, its own turn will say.
                with contextlib.suppress(OSError, TypeError, ValueError):
                    target = self._wanted(path)
                    coming.append(preflight.opening(self.client, target, size_of(one)))
            return found

        def announced() -> Iterator[tuple[Any, str]]:
            now = chunk()
            while now:
                following = chunk()
                yield from now
                now = following

        return announced(), ahead

    def _run(
        self,
        jobs: Iterable[tuple[Any, str]],
        count: int,
        work: Callable[[tuple[Any, str], Cancellation], Any],
        batch_size: int | None,
    ) -> list[Any]:
        most = self.client.options.max_concurrency
        wanted = most if batch_size in (None, -1) else int(batch_size or 1)
        width = max(1, min(wanted, most, count))
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

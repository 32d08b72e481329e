"""The file that is open for writing: published as a whole, on success only.

What closing means when an exception is about (each line was measured to be possible):

1. ``with fs.open(...)``: the file's own ``__exit__`` knows whether the body raised, and
   decides alone. So do the text and compression wrappers that ``fs.open`` makes.
2. Everybody else just calls ``close()``: pandas, pyarrow, ``TextIOWrapper``, gzip. An
   exception in flight that was not in flight at ``open``, or has another traceback
   now, means that the body is being left: the file is not published.
3. Such a discard is loud: the exception gets a note, is raised again, and a warning is
   given, because ``except StopIteration: f.close()`` looks the same from here.
4. ``commit()`` and ``discard()`` say it outright. Garbage collection discards.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from .body import MemoryBody
from .errors import DiscardWarning, UploadDiscardedError
from .upload import Upload

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from .model import Receipt


class _InFlight:
    """The exception that was being handled when the file was opened."""

    def __init__(self) -> None:
        self.error = sys.exception()
        self.traceback = self.error.__traceback__ if self.error else None

    def leaving(self) -> BaseException | None:
        """Return the exception that leaves a body now; None if it was there before."""
        now = sys.exception()
        if now is None:
            return None
        same = now is self.error and now.__traceback__ is self.traceback
        return None if same else now


class PresignedWriter(io.BufferedIOBase):
    """A binary file for writing; not seekable, ``tell`` counts.

    Parts are sent in the background while writing goes on; memory is bounded by part
    size times (``max_concurrency`` + 1). Nothing is visible before ``close`` returns.

    Attributes:
        receipt: what the finished upload proved; None before.
    """

    mode = "wb"

    def __init__(
        self,
        upload: Upload,
        *,
        path: str,
        autocommit: bool = True,
        publish_always: bool = False,
    ) -> None:
        """Wrap an upload that has not begun.

        Args:
            upload: where the parts go.
            path: ``bucket/key``.
            autocommit: False leaves publishing to ``commit``, as transactions do.
            publish_always: ``close`` publishes whatever is in flight (fsspec's way).
        """
        super().__init__()
        self.path = self.name = path
        self.receipt: Receipt | None = None
        self.autocommit = autocommit
        self._upload = upload
        self._publish_always = publish_always
        self._in_flight = _InFlight()
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._position = 0
        self._part = 1
        self._buffer = bytearray()
        self._state = "open"  # open, closed (waits for commit), published, discarded
        self._failure: BaseException | None = None

    # -- io ------------------------------------------------------------------------------

    def writable(self) -> bool:
        """Return True while open."""
        self._check_open()
        return True

    def readable(self) -> bool:
        """Return False."""
        return False

    def seekable(self) -> bool:
        """Return False: zip and xlsx writers then stream."""
        return False

    def tell(self) -> int:
        """Return the bytes written so far."""
        return self._position

    def fileno(self) -> int:
        """Raise UnsupportedOperation: there is no descriptor to write to."""
        msg = "a presigned upload has no file descriptor"
        raise io.UnsupportedOperation(msg)

    @property
    def closed(self) -> bool:
        """Whether the file was closed, published or discarded."""
        return self._state != "open"

    def write(self, data: ReadableBuffer, /) -> int:
        """Take *data* and return its bytes; waits while too many parts are in flight.

        Raises:
            OSError: the first failure of the upload, at every further call.
            TypeError: *data* is no buffer of bytes.
            ValueError: the file is closed.
        """
        view = memoryview(data)
        view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        with self._lock:
            self._check_open()
            try:
                self._take(view)
            except BaseException as error:
                self._give_up(error)
                raise
            self._position += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Do nothing: parts must keep their size, so bytes wait for the next part."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Publish, or discard if an exception is in flight that was not at ``open``.

        Raises:
            OSError: the upload failed, again at every further call.
            BaseException: the exception in flight, after a discard because of it.
        """
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self.closed:
                return
            leaving = None if self._publish_always else self._in_flight.leaving()
            if leaving is not None:
                self._discard_loudly(leaving)
            self._close_body()
            if self.autocommit:
                self.commit()

    def __enter__(self) -> Self:
        """Return the file."""
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish if the body ended well, else discard."""
        self.leave(error)

    def leave(self, error: BaseException | None) -> None:
        """End as ``__exit__`` does: also for wrappers that know how the body ended."""
        if error is not None and not self._publish_always:
            self.discard()
            return
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if not self.closed:
                self._close_body()
                if self.autocommit:
                    self.commit()

    def __del__(self) -> None:
        """Discard what nobody closed, without network in this thread."""
        if getattr(self, "_state", "") != "open" or os.getpid() != self._pid:
            return
        self._state = "discarded"
        warnings.warn(
            f"{self.path} was never closed and was not published",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )
        self._upload.abandon()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse: an upload on its way belongs to one process."""
        msg = (
            f"the open file {self.path} cannot be pickled: pickle the filesystem and "
            "open the file where it is written"
        )
        raise TypeError(msg)

    # -- publishing ----------------------------------------------------------------------

    def commit(self) -> None:
        """Publish now, whatever exception is in flight.

        Raises:
            OSError: the upload failed; nothing was published.
            ValueError: the file was discarded.
        """
        with self._lock:
            if self._state == "published":
                return
            if self._failure is not None:
                raise self._failure
            if self._state == "discarded":
                msg = f"{self.path} was discarded"
                raise ValueError(msg)
            try:
                if self._state == "open":
                    self._close_body()
                self.receipt = self._upload.finish()
            except BaseException as error:
                self._give_up(error)
                raise
            self._state = "published"

    def discard(self) -> None:
        """Publish nothing, and remove the parts that were sent. Idempotent."""
        with self._lock:
            if self._state not in ("published", "discarded"):
                self._state = "discarded"
                self._buffer = bytearray()
                self._upload.discard()

    def _close_body(self) -> None:
        """Hand over the last bytes; what comes now is ``commit`` or ``discard``."""
        try:
            if self._buffer:
                self._add()
        except BaseException as error:
            self._give_up(error)
            raise
        self._state = "closed"

    def _discard_loudly(self, leaving: BaseException) -> NoReturn:
        self.discard()
        text = (
            f"{self.path} was closed while {type(leaving).__name__} was in flight, and "
            "was not published; f.commit() publishes"
        )
        leaving.add_note(text)
        warnings.warn(text, DiscardWarning, stacklevel=3)
        raise leaving

    def _give_up(self, error: BaseException) -> None:
        """Keep the first failure, so that nothing after it can publish."""
        if isinstance(error, Exception):
            self._failure = self._failure or error
        else:
            text = f"writing was interrupted ({type(error).__name__})"
            self._failure = UploadDiscardedError(text, path=self.path)
        self._state = "discarded"
        self._buffer = bytearray()
        self._upload.discard(error)

    # -- slicing -------------------------------------------------------------------------

    def _take(self, view: memoryview) -> None:
        """Fill buffers of exactly one part each."""
        while view.nbytes:
            size = self._upload.plan.size_of(self._part)
            if len(self._buffer) == size:
                # Only now: a part that turns out to be the last one may stay single.
                self._add()
                continue
            room = size - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]

    def _add(self) -> None:
        body = MemoryBody(memoryview(self._buffer))
        self._buffer = bytearray()
        self._part += 1
        self._upload.add(body)

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.closed:
            msg = f"{self.path} is closed"
            raise ValueError(msg)


class ChainedWriter(io.BufferedIOBase):
    """A codec over a writer: closing it closes both, in the right order."""

    mode = "wb"

    def __init__(self, codec: Any, inner: PresignedWriter) -> None:
        """Write into *codec*, which writes into *inner*."""
        super().__init__()
        self._codec = codec
        self._inner = inner
        self._ended = False

    @property
    def receipt(self) -> Receipt | None:
        """What the finished upload proved; None before."""
        return self._inner.receipt

    @property
    def closed(self) -> bool:
        """Whether the chain was closed."""
        return self._ended

    def writable(self) -> bool:
        """Return True."""
        return not self._ended

    def write(self, data: ReadableBuffer, /) -> int:
        """Compress *data*."""
        self._check_open()
        self._codec.write(data)
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Do nothing: a flushed codec compresses worse, and parts keep their size."""

    def tell(self) -> int:
        """Return the bytes written into the codec."""
        return int(self._codec.tell())

    def close(self) -> None:
        """Finish the codec, then close the writer by its own rules."""
        if not self._ended:
            self._ended = True
            self._finish_codec()
            self._inner.close()
        elif self._inner.receipt is None:
            self._inner.close()

    def commit(self) -> None:
        """Publish now, whatever exception is in flight."""
        if not self._ended:
            self._ended = True
            self._finish_codec()
        self._inner.commit()

    def discard(self) -> None:
        """Publish nothing."""
        self._inner.discard()
        self._ended = True
        self._drop_codec()

    def leave(self, error: BaseException | None) -> None:
        """End as ``__exit__`` does."""
        if error is not None and not self._inner._publish_always:  # noqa: SLF001 - same module
            self.discard()
        elif not self._ended:
            self._ended = True
            self._finish_codec()
            self._inner.leave(None)

    def __enter__(self) -> Self:
        """Return the chain."""
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish if the body ended well, else discard."""
        self.leave(error)

    def __del__(self) -> None:
        """Leave the warning about an unclosed file to the writer below."""
        if not getattr(self, "_ended", True):
            self._ended = True
            self._inner.__del__()
            self._drop_codec()

    def _finish_codec(self) -> None:
        """Write the end of the compressed stream; a failure publishes nothing."""
        try:
            self._codec.close()
        except BaseException:
            self._inner.discard()
            raise

    def _drop_codec(self) -> None:
        """Close the codec although its file is gone, so that no finalizer tries."""
        with contextlib.suppress(Exception):  # whatever a codec raises, the file is gone
            self._codec.close()

    def _check_open(self) -> None:
        if self._ended:
            msg = f"{self._inner.path} is closed"
            raise ValueError(msg)


class TextWriter(io.TextIOWrapper):
    """A text layer whose ``with`` block decides as the binary one does."""

    def __init__(
        self, binary: PresignedWriter | ChainedWriter, **text_options: Any
    ) -> None:
        """Encode into *binary*."""
        self._binary = binary
        super().__init__(binary, **text_options)

    @property
    def receipt(self) -> Receipt | None:
        """What the finished upload proved; None before."""
        return self._binary.receipt

    def commit(self) -> None:
        """Publish now, whatever exception is in flight."""
        self.flush()
        self._binary.commit()

    def discard(self) -> None:
        """Publish nothing."""
        self._binary.discard()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish if the body ended well, else discard."""
        if error is None and not self.closed:
            self.flush()
        self._binary.leave(error)

    def __del__(self) -> None:
        """Leave the warning about an unclosed file to the writer below."""
        binary = getattr(self, "_binary", None)
        if binary is not None and not binary.closed:
            binary.__del__()

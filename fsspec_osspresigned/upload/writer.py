"""Writable binary file, which is published as a whole, and only on success.

Closing while an exception is in flight:

1. ``with fs.open(...)``: the file's own ``__exit__`` knows whether the body raised, and
   decides. The text and compression wrappers of ``fs.open`` do the same.
2. Other code only calls ``close()``: pandas, pyarrow, ``TextIOWrapper``, gzip. If an
   exception is in flight that was not in flight at ``open``, or that has another
   traceback now, it is leaving the body. Then the file is not published.
3. The program is told of such a discard, because ``except StopIteration: f.close()``
   looks the same: the exception gets a note and is raised again, with a warning.
4. ``commit()`` and ``discard()`` are explicit. Garbage collection and the end of the
   interpreter discard the file, with a warning. A ``close`` that a finalizer calls does
   the same.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ..engine.engine import run
from ..engine.warn import warn_user
from ..errors import DiscardWarning, Outcome, UploadDiscardedError
from ..http.body import Body
from .buffer import KEPT, PartBuffer
from .finalizers import in_finalizer
from .modes import as_failure
from .upload import Upload

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..model import Receipt

# Causes of an exception that are searched; a program can make a cycle of them.
_MAX_LINKS = 100


def bytes_of(data: ReadableBuffer) -> memoryview:
    """Return the bytes of any buffer, regardless of shape, strides and item format."""
    view = memoryview(data)
    try:
        return view.cast("B")
    except (TypeError, ValueError):
        # the buffer has strides, an empty shape or a foreign byte order
        # CPython 3.11 crashes when it collects PickleBuffer(view).raw().
        return memoryview(view.tobytes())


def _in_flight() -> tuple[BaseException | None, TracebackType | None]:
    error = sys.exception()
    return error, error.__traceback__ if error else None


def _is_of_seek(error: BaseException | None) -> bool:
    for _ in range(_MAX_LINKS):
        if error is None or isinstance(error, io.UnsupportedOperation):
            break
        error = error.__cause__ or error.__context__
    return isinstance(error, io.UnsupportedOperation)


class PresignedWriter(io.BufferedIOBase):
    """A binary file for writing; not seekable, so zip and xlsx writers stream.

    Parts are sent in the background during writing. Memory is bounded by the part size
    times (``max_concurrency`` + 1). The object is not visible before ``close`` returns.

    Args:
        autocommit: False publishes only on ``commit``, as transactions do.
        publish_always: ``close`` publishes even if an exception is in flight, as other
            filesystems do.
        keep: copies a body that waits for ``commit``; None keeps it in memory.
    """

    mode = "wb"

    def __init__(
        self,
        upload: Upload,
        *,
        path: str,
        autocommit: bool = True,
        publish_always: bool = False,
        keep: Callable[[Body], Body] | None = None,
    ) -> None:
        super().__init__()
        self.path = self.name = path
        self.autocommit, self.publish_always = autocommit, publish_always
        self.upload = upload
        self._keep = keep
        self._at_open = _in_flight()
        self._is_of_finalizer = in_finalizer()
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._sent = 0  # bytes in the parts before the current one
        # The buffer refers to no method of the file, so a dropped file is collected at
        # once.
        self._buffer = PartBuffer(upload)
        self._state = (
            "open"  # one of: open, closed (waits for commit), published, discarded
        )
        self._failure: Exception | None = None
        self._released = self._silent = self._is_dropped = False
        _unfinished.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}, {self._state}>"

    def fileno(self) -> int:
        """Raise UnsupportedOperation, because there is no descriptor to write to."""
        raise io.UnsupportedOperation("a presigned upload has no file descriptor")

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Raise UnsupportedOperation, because sent bytes cannot be changed.

        Unless the file is already at this position, it is also discarded, because a
        library that ignores the exception would write the next bytes to the wrong
        position.
        """
        with self._lock:
            is_there = offset == (0 if whence else self.tell())
            if not (is_there or self.closed):
                self.give_up(self._no_seek())
        raise self._no_seek()

    def _no_seek(self) -> io.UnsupportedOperation:
        return io.UnsupportedOperation(
            f"a file that is uploaded while it is written cannot seek: {self._remedy}"
        )

    @property
    def _remedy(self) -> str:  # advice for a program that seeks
        url = f"simplecache::osspresigned://{self.path}"
        return f"write to {url}, a local file that is uploaded when it is closed"

    def writable(self) -> bool:
        """Return True, or raise like ``write`` if the file can no longer be written."""
        self.check_open()
        return True

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of the finished upload; None before it has finished."""
        return self.upload.receipt

    def tell(self) -> int:
        """Return the number of bytes written so far."""
        return self._sent + self._buffer.held

    @property
    def closed(self) -> bool:
        """True once ``close``, ``commit`` or ``discard`` was called, even if it failed.

        After a failed write, the file counts as open until ``close`` has raised that
        error, or ``discard`` was called. Otherwise ``TextIOWrapper`` and others would
        not call ``close``, and hide the error.
        """
        return self._released

    @property
    def failed(self) -> bool:
        """True if the upload or a write has failed, so nothing is published."""
        return self._failure is not None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write *data* and return its size; waits while too many parts are in flight.

        Raises:
            OSError: the first failure of the upload; raised again by every later call.
            TypeError: *data* is not a buffer of bytes.
            ValueError: the file is closed.
        """
        buffer = self._buffer  # the buffer rejects all data unless the file is open
        if type(data) is bytes:  # most data are bytes, which need no view
            size = len(data)
            with self._lock:
                if KEPT <= size < buffer.free:
                    buffer.pieces.append(data)
                    buffer.free -= size
                    return size
                if size < KEPT and buffer.copy(data, size):
                    return size
        view = bytes_of(data)
        size = view.nbytes
        with self._lock:
            if buffer.copy(view, size) or self._silent:
                return size
            self.check_open()
            try:
                self._fill(view)
            except BaseException as error:
                self.give_up(error)
                raise
        return size

    def flush(self) -> None:
        """Raise the first failure of the upload; send nothing.

        Bytes wait until their part is full.
        """
        if self._failure is not None and not self._silent:
            raise self._failure

    def close(self) -> None:
        """Publish the object, unless an exception is leaving the code that wrote it.

        In that case, the file is discarded. The docstring of the module explains how
        this is recognized.

        Raises:
            OSError: the upload failed; raised again by every later call.
            BaseException: the exception in flight; the file was discarded because of
                it.
        """
        if not self._released and (self._is_dropped or self._is_closed_by_finalizer()):
            self._end_dropped()
            return
        with self._lock:
            leaving, trace = _in_flight()
            is_known = leaving is self._at_open[0] and trace is self._at_open[1]
            if leaving is not None and not (
                is_known or self.publish_always or self.closed
            ):
                if self._failure is None:
                    self._discard_and_raise(leaving)
                if not isinstance(leaving, Exception):
                    self._released = True
                    # the caller gets KeyboardInterrupt itself after Ctrl-C
                    raise leaving
            self._end()

    def __enter__(self) -> Self:
        self.check_open()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and not self.publish_always:
            self.note_discarded(error)
            self._discard(error)
        else:
            with self._lock:
                self._end()

    def note_discarded(self, error: BaseException) -> None:
        """Add a note to *error*, which left the ``with`` block: nothing is published."""
        outcome = getattr(self._failure, "outcome", Outcome.NOT_STORED)
        if outcome is not Outcome.NOT_STORED:
            return
        if self._state != "published" and error is not self._failure:
            is_of_seek = isinstance(self._failure, io.UnsupportedOperation)
            why = self._failure if is_of_seek else "an exception left its with block"
            error.add_note(f"{self.path} was not published: {why}")

    def __del__(self) -> None:
        if getattr(self, "_state", ""):
            # a worker thread sends the requests of the discard
            self.drop(self.upload.abandon)

    def _dealloc_warn(self, _: object) -> None:
        """Make the next ``close`` discard the file, because a wrapper was dropped.

        The finalizer of an ``io.TextIOWrapper`` or ``io.BufferedWriter`` that was never
        closed calls this, and then ``write``, ``flush`` and ``close`` (CPython,
        Modules/_io). The wrapper may have lost bytes in a failed write, so its object
        could be truncated.

        Later bytes are ignored, and ``close`` marks the file as failed. ``__del__``
        then discards the upload. While the program still has the file, its methods
        raise. Does nothing if the file is closed already.
        """
        if not self.closed:
            self._is_dropped = self._silent = True

    def _is_closed_by_finalizer(self) -> bool:
        # A finalizer that opened the file itself, to save something, closes it like a
        # program does.
        return not (self.publish_always or self._is_of_finalizer) and in_finalizer()

    def _end_dropped(self) -> None:
        self._buffer.close()
        self._released, self._silent = True, False
        if self._failure is None:
            text = (
                f"{self.path} was not published: its wrapper was garbage-collected "
                "without being closed or detached"
            )
            self._failure = UploadDiscardedError(text, path=self.path)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(
            f"the open file {self.path} cannot be pickled: pickle the filesystem and "
            "open the file where it is written"
        )

    # -- publishing ----------------------------------------------------------------------

    def wait_for_parts(self) -> None:
        """Wait until all parts of the closed file are stored, without publishing.

        Raises UploadDiscardedError if the file is still open, and otherwise like
        ``commit``.
        """
        with self._lock:
            if self._state == "open" and self._failure is None:
                raise UploadDiscardedError(
                    "it was still open at the end of its transaction: close it, and what "
                    "writes into it, before",
                    path=self.path,
                )
            self._last_step(lambda: run(self.upload.wait_for_parts))

    def commit(self) -> None:
        """Publish the object now, even while an exception is being handled.

        Raises:
            OSError: the upload failed. Nothing was published, unless the ``outcome`` of
                the error says otherwise.
            UploadDiscardedError: the file was discarded.
        """
        with self._lock:
            if self._state != "published":
                self._last_step(lambda: run(self.upload.finish))
                self._state = "published"
                self._buffer.end()

    def discard(self) -> None:
        """Discard the file: publish nothing, and remove the sent parts. Idempotent."""
        self._discard(None)

    def _discard(self, reason: BaseException | None) -> None:
        with self._lock:
            self._released = True
            if self._state not in ("published", "discarded"):
                self._end_upload(reason)

    def abandon(self) -> None:
        """Begin to discard the upload without waiting; a call that waits for it ends.

        This is for an interrupt, so discarding takes a few seconds at most.
        """
        self.upload.stop()

    def give_up(self, error: BaseException) -> None:
        """Record *error* as the failure of the file, unless it has one; discard the upload.

        Nothing can be published afterwards.
        """
        # A traceback keeps the variables of its frames alive, and so the bytes of the
        # parts.
        traceback.clear_frames(error.__traceback__)
        if self._failure is None:
            self._failure = as_failure(error, self.path)
        self._end_upload(error)

    def _end_upload(self, reason: BaseException | None) -> None:
        try:
            self._forget()
            run(self.upload.discard, reason)
        except BaseException:  # an interrupt, or a finalizer in the engine's thread
            self.upload.abandon()
            raise
        finally:
            self._buffer.end()

    def check_open(self) -> None:
        """Raise the first failure, or ValueError if the file is closed."""
        if self._failure is not None:
            raise self._failure
        if self.closed:
            raise ValueError(f"{self.path} is closed")

    def silence(self) -> None:
        """Ignore further writes, such as the last bytes of a discarded codec."""
        self._silent = True
        self._buffer.close()

    def _last_step(self, step: Callable[[], object]) -> None:
        if self._failure is not None:
            raise self._failure
        if self._state == "discarded":
            raise UploadDiscardedError("the file was discarded", path=self.path)
        try:
            if self._state == "open":
                self._close_body()
            step()
        except BaseException as error:
            self.give_up(error)
            raise

    def _end(self) -> None:
        if self._failure is not None:
            self._released = True
            if self._state == "open":
                # discard now, because a finalizer could not wait for it
                self.give_up(self._failure)
            raise self._failure
        if not self.closed:
            self._close_body()
            if self.autocommit:
                self.commit()

    def _close_body(self) -> None:
        """Send the last bytes; if there is only one part, keep it for ``commit``.

        Only ``commit`` or ``discard`` may follow.
        """
        self._released = True
        try:
            if self._buffer.held:
                is_only_part = self._buffer.number == 1
                part = self._buffer.take()
                self._sent += part.size
                body: Body = part
                if is_only_part and self._keep is not None:
                    body = self._keep(part)
                    part.release()
                run(self.upload.add, body)
            self._buffer.close()
        except BaseException as error:
            self.give_up(error)
            raise
        self._state = "closed"
        self._at_open = None, None  # drops all frames that the traceback keeps alive

    def _discard_and_raise(self, leaving: BaseException) -> NoReturn:
        self._discard(leaving)
        # After a failed seek, the file has wrong bytes, so publishing it is no advice.
        remedy = self._remedy if _is_of_seek(leaving) else "f.commit() publishes"
        text = (
            f"{self.path} was closed while {type(leaving).__name__} was in flight, and "
            f"was not published; {remedy}"
        )
        leaving.add_note(text)
        with contextlib.suppress(DiscardWarning):
            # with -W error, *leaving* is raised, not the warning
            warn_user(text, DiscardWarning)
        raise leaving

    def drop(self, give_up: Callable[[], None]) -> None:
        """Discard the unpublished file, and warn that it was never closed or committed.

        *give_up* discards the upload. Does nothing if the file was published or
        discarded, or in a forked child.
        """
        if self._state in ("published", "discarded") or os.getpid() != self._pid:
            return
        missing = "closed" if self._state == "open" else "committed"
        self._forget()
        self._released = self._silent = True
        give_up()
        text = f"{self.path} was never {missing} and was not published"
        # Data is lost, so this is no ResourceWarning, which Python hides by default.
        warnings.warn(text, DiscardWarning, source=self, stacklevel=3)

    def _forget(self) -> None:
        self._state = "discarded"
        self._buffer.close()
        self._at_open = None, None

    def _fill(self, view: memoryview) -> None:
        source = view.obj
        # Keeping a slice would keep the whole bytes object.
        whole = len(source) if type(source) is bytes else None
        while view.nbytes:
            # A full part waits for more data, because a PutObject may send the only
            # part.
            size = self._buffer.fill(view, whole=whole) or self._send(view)
            view = view[size:]

    def _send(self, view: memoryview) -> int:
        """Send the part, and return how many bytes of *view* were sent with it.

        A part that is not full is sent because memory is short. Then it includes bytes
        of *view* without a copy, so this waits until the part is stored.
        """
        size = min(self._buffer.lacking, view.nbytes)
        body = self._buffer.take(view[:size] if size else None)
        self._sent += body.size
        run(self.upload.add, body, more=True)
        if size:
            run(self.upload.wait_for_memory, lambda: False)
        return size


# Finds unfinished files at exit, and keeps none of them alive.
_unfinished: weakref.WeakSet[PresignedWriter] = weakref.WeakSet()


@atexit.register
def _warn_of_unfinished() -> None:  # ``abort_at_exit`` removes their parts
    with contextlib.ExitStack() as stack:
        # warns about each file, even where warnings are errors
        for writer in list(_unfinished):
            stack.callback(writer.drop, lambda: None)

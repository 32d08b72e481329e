"""Downloads of whole objects into local files, in one request or in parallel ranges."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import define, frozen

from ..client.client import Client
from ..client.small_request import Steps
from ..concurrency import abort_at_exit
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import Transfers
from ..errors import UploadDiscardedError, UploadErrors
from ..http.checksums import CRC_HEADER, combine, crc64
from ..model import Reply
from ..system import BINARY, write_at
from . import calls
from .ranges import Range, Version, WholeError

# Seconds to create a small file, beyond which threads do it. A local disk takes up to
# one millisecond, which costs one thread less than waiting for the store.
SLOW_FILE = 0.004


class AtomicFile:
    """Local file that appears at its destination only when it is complete.

    Several threads write at offsets. On Linux the file has no name until it is
    complete, so a killed process leaves nothing behind. Elsewhere the file has a
    temporary name beside its destination, and SIGTERM removes it. Files and directories
    are created only when bytes are written, so a failed download leaves no directory.
    """

    def __init__(self, place: str) -> None:
        self._place, self._parent = place, os.path.dirname(os.path.abspath(place))
        self._name = ""
        self._descriptor = -1
        self._held = b""  # the first bytes, until the file is created
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        """Whether any bytes were written to the file."""
        return self._descriptor >= 0

    @property
    def is_over(self) -> bool:
        """True if no temporary file would remain if the process ended now."""
        return not self._name

    def resize(self, size: int) -> None:
        """Make the file *size* bytes long."""
        os.ftruncate(self._opened(), size)

    def cut(self, size: int) -> None:
        """Drop what was written after the first *size* bytes."""
        if self.begun:
            self.resize(size)
        else:
            self._held = self._held[:size]

    def write(self, data: bytes, offset: int) -> None:
        """Write *data* at *offset*.

        The first block stays in memory until the next block, or until ``publish``.
        """
        with self._lock:
            if not offset and not self.begun:
                self._held = data
                return
        write_at(self._opened(), memoryview(data), offset)

    def publish(self) -> None:
        """Move the file to its destination, replacing an existing file."""
        descriptor = self._opened()  # an empty one, too
        with self._lock:
            if not self._name:
                self._take_name()
                unnamed = f"/proc/self/fd/{descriptor}"
                os.link(unnamed, self._name, src_dir_fd=descriptor)  # else not followed
            self._close()  # Windows replaces no open file
            os.replace(self._name, self._place)
            self._name = ""

    def stop(self) -> None:
        """Remove the temporary name; other threads may still write to the file."""

    def discard(self, *, hurry: bool = False) -> None:
        """Remove the unpublished file.

        *hurry* permits that other threads still write to the file.
        """
        with self._lock:
            if not hurry:
                self._close()
            if self._name:
                with contextlib.suppress(OSError):
                    os.unlink(self._name)
            self._name = ""

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _opened(self) -> int:
        with self._lock:
            if self._descriptor < 0:
                os.makedirs(self._parent, exist_ok=True)
                self._descriptor = self._made()
                # What is replaced keeps its mode, where the system can tell it.
                with contextlib.suppress(OSError, AttributeError):
                    mode = os.stat(self._place).st_mode & 0o777
                    os.fchmod(self._descriptor, mode)
                write_at(self._descriptor, memoryview(self._held), 0)
                self._held = b""
            return self._descriptor

    def _made(self) -> int:
        with contextlib.suppress(AttributeError, OSError):
            os.stat("/proc/self/fd")  # by which a file gets a name later
            return os.open(self._parent, os.O_TMPFILE | os.O_RDWR, 0o666)
        self._take_name()
        return os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)

    def _take_name(self) -> None:
        name = f".osspresigned-{secrets.token_hex(8)}"  # `put` and `sync` leave it out
        self._name = os.path.join(self._parent, name)
        abort_at_exit.add(self)


def given_up(path: str) -> UploadDiscardedError:
    """Return the error of a cancelled download."""
    return UploadDiscardedError("the download was cancelled", path=path)


@define(eq=False)
class RangeWriter:
    """Sink that writes a range into a file at *offset*, and computes its CRC-64."""

    download: Download
    offset: int
    cancel: Cancellation
    size: int = 0
    crc64: int = 0

    def begin(self) -> None:
        """Discard the bytes written so far."""
        if self.size:
            self.download.progress(-self.size)
        self.size = self.crc64 = 0

    def write(self, block: bytes, /) -> None:
        """Write the next bytes of the range."""
        if self.cancel.is_set():
            raise given_up(self.download.path)
        self.download.file.write(block, self.offset + self.size)
        self.size += len(block)
        self.crc64 = crc64(block, self.crc64)
        self.download.progress(len(block))


_Rest: TypeAlias = Transfers[int, RangeWriter]


@frozen(eq=False)
class Download:
    """Download of one object; the file is complete when ``run`` returns.

    *progress* is called from several threads with the number of bytes received, or a
    negative number before a retry. *on_size* is called once with the size of the object.
    """

    client: Client
    path: str
    file: AtomicFile
    cancel: Cancellation | None = None
    progress: Callable[[int], object] = lambda _: None
    on_size: Callable[[int], object] = lambda _: None

    def steps(self) -> Steps[int]:
        """Download the object, and return its size; yields like ``call_steps``.

        A small object takes one request. A larger one is read in ranges, all of the same
        version as the first reply. The other ranges start as soon as the head of the
        first reply has arrived.

        Raises:
            IntegrityError: the CRC-64 differs.
            SourceChangedError: the object was replaced during the download.
        """
        cancel = Cancellation(self.cancel)
        writer = RangeWriter(self, 0, cancel)
        rest: list[_Rest] = []

        def on_head() -> None:
            more = (first.total or 0) > (first.expected or 0)
            if first.partial and first.etag and more and not rest:
                first.version = Version(first.etag, first.total)
                rest.append(self._begin_rest(first, cancel))
                stack.callback(rest[0].stop)

        stop = self.client.options.largest_part
        first = Range(self.path, 0, stop, writer, takes_whole=True, on_head=on_head)
        with contextlib.ExitStack() as stack:
            try:
                yield from self._get(first, writer, cancel)
            except WholeError:
                self.on_size(0)  # other stores have no range of an empty object
                self.file.cut(0)
                return 0
            if rest:
                yield None
                self._join(rest[0], first, writer)
                return first.total or 0
        whole = first.total is None or not first.partial
        total = writer.size if whole else first.total or 0
        self.on_size(total)
        if total != writer.size:
            # Without an ETag, two ranges could be of two versions: get all in one.
            everything = Range(self.path, 0, None, writer, takes_whole=True)
            yield from self._get(everything, writer, cancel)
            total = writer.size
        # A failed try may have left more, if the object was larger then.
        self.file.cut(total)
        return total

    def _get(
        self, piece: Range, writer: RangeWriter, cancel: Cancellation
    ) -> Steps[None]:
        def check(reply: Reply) -> None:
            piece.check()
            if not piece.partial or piece.total == writer.size:
                calls.check_whole(
                    reply.headers.get(CRC_HEADER), writer.crc64, self.path
                )

        yield from calls.fetch_steps(self.client, piece, cancel, check)

    def _begin_rest(self, first: Range, cancel: Cancellation) -> _Rest:
        """Start to read all ranges except the first one, several at a time."""
        total, size = first.total or 0, first.expected or 1
        jobs = range(size, total, size)
        self.on_size(total)
        self.file.resize(total)

        def work(offset: int, cancel: Cancellation) -> RangeWriter:
            writer = RangeWriter(self, offset, cancel)
            stop = min(offset + size, total)
            piece = Range(self.path, offset, stop, writer, version=first.version)
            calls.fetch(self.client, piece, cancel)
            return writer

        width = self.client.options.connections
        transfers = Transfers(self.client.requests, width, work, str, cancel=cancel)
        transfers.start(jobs)
        return transfers

    def _join(self, rest: _Rest, first: Range, begun: RangeWriter) -> None:
        """Wait for all ranges, and compare the CRC-64 of the object with the store's."""
        try:
            found: list[Any] = rest.finish()
        except UploadErrors as error:
            raise next(iter(error.failures.values())) from None
        crc, size = begun.crc64, begun.size
        for one in found:
            crc, size = combine(crc, one.crc64, one.size), size + one.size
        if size != first.total:
            raise given_up(self.path)
        calls.check_whole(first.headers.get(CRC_HEADER), crc, self.path)

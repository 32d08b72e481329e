"""A whole object into a local file: in one request, or in ranges at once."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable

from attrs import frozen

from ..client.client import Client
from ..concurrency.cancellation import Cancellation
from ..concurrency.transfers import Transfers
from ..errors import InvalidRequestError, UploadDiscardedError, UploadErrors
from ..http.body import EMPTY, combine, crc64
from ..http.transport import Exchange
from ..model import Reply
from . import operations
from .ranges import Range, get_object, is_beyond

# A local file that appears as a whole, or not at all.


class AtomicFile:
    """Is written under another name beside its place, at offsets, by several threads.

    Nothing is made before the first byte: what cannot be fetched leaves no directory.
    """

    def __init__(self, place: str) -> None:
        """Make nothing yet."""
        self._place = place
        self._name = ""
        self._descriptor = -1
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return self._descriptor >= 0

    def resize(self, size: int) -> None:
        """Make the file *size* bytes long."""
        os.ftruncate(self._opened(), size)

    def write(self, data: bytes, offset: int) -> None:
        """Write *data* at *offset*."""
        descriptor, view = self._opened(), memoryview(data)
        while view:
            done = self._write_at(descriptor, view, offset)
            view, offset = view[done:], offset + done

    def _write_at(self, descriptor: int, data: memoryview, offset: int) -> int:
        write = getattr(os, "pwrite", None)
        if write is not None:
            return int(write(descriptor, data, offset))
        with self._lock:  # Windows has no such call
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.write(descriptor, data)

    def publish(self) -> None:
        """Put the file in its place; what was there is replaced."""
        self._opened()  # an empty one, too
        self._close()
        os.replace(self._name, self._place)
        self._name = ""

    def discard(self) -> None:
        """Remove what was not published. Idempotent."""
        with self._lock:
            self._close()
            if self._name:
                with contextlib.suppress(OSError):
                    os.unlink(self._name)
            self._name = ""

    def _opened(self) -> int:
        with self._lock:
            if self._descriptor < 0:
                parent = os.path.dirname(os.path.abspath(self._place))
                os.makedirs(parent, exist_ok=True)
                name = os.path.join(parent, f".osspresigned-{secrets.token_hex(8)}")
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
                self._descriptor = os.open(name, flags, 0o666)
                self._name = name
            return self._descriptor

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)


Progress = Callable[[int], None]


class _Stretch:
    """Writes one range into the file and sums it up; starts anew at every try."""

    def __init__(
        self,
        file: AtomicFile,
        offset: int,
        path: str,
        cancel: Cancellation,
        progress: Progress | None,
    ) -> None:
        self._file = file
        self._offset = offset
        self._path = path
        self._cancel = cancel
        self._progress = progress
        self.size = 0
        self.crc64 = 0

    def begin(self) -> None:
        if self.size and self._progress is not None:
            self._progress(-self.size)
        self.size = self.crc64 = 0

    def write(self, block: bytes, /) -> None:
        if self._cancel.is_set():
            raise _given_up(self._path)
        self._file.write(block, self._offset + self.size)
        self.size += len(block)
        self.crc64 = crc64(block, self.crc64)
        if self._progress is not None:
            self._progress(len(block))


@frozen
class _Rest:
    """The ranges behind the first one, on their way."""

    transfers: Transfers[int, tuple[int, int, int]]
    count: int


@frozen
class Download:
    """Fetches one object; the file holds it when ``run`` returns.

    Attributes:
        client: signs and sends.
        path: ``bucket/key``.
        file: where to.
        cancel: set from elsewhere to give up; None if nobody does.
        progress: called with bytes that came, negative when a try is taken back, from
            several threads.
        told: called with the bytes of the object, as soon as they are known.
    """

    client: Client
    path: str
    file: AtomicFile
    cancel: Cancellation | None = None
    progress: Progress | None = None
    told: Callable[[int | None], None] = lambda _: None

    def run(self) -> None:
        """Fetch it.

        A small object costs one request. A larger one comes in ranges, all of them of
        the version that the first one showed.

        Raises:
            FileNotFoundError: it is not there.
            NotSignedError: GET is not signed.
            IntegrityError: its CRC-64 differs.
            SourceChangedError: it was replaced meanwhile.
        """
        cancel = Cancellation(self.cancel)
        stretch = self._stretch(0, cancel)
        rest: list[_Rest] = []

        def seen() -> None:
            # The others need not wait for the bytes of the first one.
            more = (first.total or 0) > (first.expected or 0)
            if first.partial and first.etag and more and not rest:
                first.pin()
                rest.append(self._rest(first, cancel))
                stack.callback(rest[0].transfers.stop)

        stop = self.client.options.largest_part
        first = Range(self.path, 0, stop, stretch, takes_whole=True, seen=seen)

        def check(reply: Reply) -> None:
            first.check()
            if not first.partial or first.total == stretch.size:
                operations.check_whole(reply.headers, stretch.crc64, self.path)

        with contextlib.ExitStack() as stack:
            try:
                self._call(first, check, cancel)
            except InvalidRequestError as error:
                if not is_beyond(error):
                    raise
                self.told(0)  # of an empty object other stores have no range
                return
            if rest:
                self._join(rest[0], first, stretch)
                return
        whole = first.total is None or not first.partial
        total = stretch.size if whole else first.total or 0
        self.told(total)
        if total != stretch.size:
            self._anew(stretch, cancel)

    def _anew(self, stretch: _Stretch, cancel: Cancellation) -> None:
        """Fetch all in one: two ranges could be of two versions, and nothing would tell."""
        piece = Range(self.path, 0, None, stretch, takes_whole=True)

        def check(reply: Reply) -> None:
            piece.check()
            operations.check_whole(reply.headers, stretch.crc64, self.path)

        self._call(piece, check, cancel)

    def _rest(self, first: Range, cancel: Cancellation) -> _Rest:
        """Begin to fetch what is behind the first range, several at once."""
        total, size = first.total or 0, first.expected or 1
        jobs = range(size, total, size)
        self.told(total)
        self.file.resize(total)

        def work(offset: int, cancel: Cancellation) -> tuple[int, int, int]:
            stretch = self._stretch(offset, cancel)
            stop = min(offset + size, total)
            operations.fetch(
                self.client,
                Range(self.path, offset, stop, stretch, etag=first.etag),
                cancel,
            )
            return offset, stretch.size, stretch.crc64

        width = min(self.client.options.max_concurrency, len(jobs))
        transfers = Transfers(self.client.requests, width, work, str, cancel=cancel)
        transfers.start(jobs)
        return _Rest(transfers, len(jobs))

    def _join(self, rest: _Rest, first: Range, begun: _Stretch) -> None:
        """Wait for all ranges, and prove what they add up to."""
        try:
            done = rest.transfers.finish()
        except UploadErrors as error:
            raise next(iter(error.failures.values())) from None
        found = [one for one in done if not isinstance(one, Exception)]
        if len(found) < rest.count:
            raise _given_up(self.path)
        crc = begun.crc64
        for _, length, part in sorted(found):
            crc = combine(crc, part, length)
        operations.check_whole(first.headers, crc, self.path)

    def _call(
        self, piece: Range, check: Callable[[Reply], None], cancel: Cancellation
    ) -> None:
        self.client.call(
            get_object(self.path),
            EMPTY,
            Exchange(free_headers=piece.free, sink=piece, cancel=cancel),
            parse=check,
        )

    def _stretch(self, offset: int, cancel: Cancellation) -> _Stretch:
        return _Stretch(self.file, offset, self.path, cancel, self.progress)


def _given_up(path: str) -> UploadDiscardedError:
    return UploadDiscardedError("the download was given up", path=path)

"""A whole object into a local file: in one request, or in ranges at once."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from . import objects
from .checksum import combine, crc64
from .client import Client
from .errors import InvalidRequestError, UploadDiscardedError, UploadErrors
from .model import Reply
from .partial import PartialFile
from .ranges import Range, get_object, is_beyond
from .transfers import Transfers
from .workers import Cancellation

Progress = Callable[[int], None]


class _Stretch:
    """Writes one range into the file and sums it up; starts anew at every try."""

    def __init__(
        self,
        file: PartialFile,
        offset: int,
        path: str,
        cancel: Cancellation | None,
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
        if self._cancel is not None and self._cancel.is_set():
            raise _given_up(self._path)
        self._file.write(block, self._offset + self.size)
        self.size += len(block)
        self.crc64 = crc64(block, self.crc64)
        if self._progress is not None:
            self._progress(len(block))


@frozen
class Fetching:
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
    file: PartialFile
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
        stretch = self._stretch(0)
        stop = self.client.options.part_size
        first = Range(self.path, 0, stop, stretch, takes_whole=True)

        def check(reply: Reply) -> None:
            first.check()
            if not first.partial or first.total == stretch.size:
                objects.check_whole(reply.headers, stretch.crc64, self.path)

        try:
            self._call(first, check)
        except InvalidRequestError as error:
            if not is_beyond(error):
                raise
            self.told(0)  # of an empty object other stores have no range
            return
        whole = first.total is None or not first.partial
        total = stretch.size if whole else first.total or 0
        self.told(total)
        if total == stretch.size:
            return
        if first.etag:
            self._rest(first, stretch, total)
            return
        # Two ranges could be of two versions, and nothing would tell.
        piece = Range(self.path, 0, None, stretch, takes_whole=True)

        def check_all(reply: Reply) -> None:
            piece.check()
            objects.check_whole(reply.headers, stretch.crc64, self.path)

        self._call(piece, check_all)

    def _rest(self, first: Range, begun: _Stretch, total: int) -> None:
        """Fetch what is behind the first range, several at once."""
        size = begun.size
        self.file.resize(total)
        jobs = range(size, total, size)

        def work(offset: int, cancel: Cancellation) -> tuple[int, int, int]:
            stretch = self._stretch(offset, cancel)
            stop = min(offset + size, total)
            objects.fetch(
                self.client,
                Range(self.path, offset, stop, stretch, etag=first.etag),
                cancel,
            )
            return offset, stretch.size, stretch.crc64

        width = min(self.client.options.max_concurrency, len(jobs))
        transfers = Transfers(
            self.client.requests, width, work, str, cancel=self.cancel
        )
        try:
            found = transfers.run(jobs)
        except UploadErrors as error:
            raise next(iter(error.failures.values())) from None
        if len(found) < len(jobs):
            raise _given_up(self.path)
        crc = begun.crc64
        for _, length, part in sorted(found):
            crc = combine(crc, part, length)
        objects.check_whole(first.headers, crc, self.path)

    def _call(self, piece: Range, check: Callable[[Reply], None]) -> None:
        self.client.call(
            get_object(self.path),
            free=piece.free,
            sink=piece,
            check=check,
            cancel=self.cancel,
        )

    def _stretch(self, offset: int, cancel: Cancellation | None = None) -> _Stretch:
        cancel = cancel or self.cancel
        return _Stretch(self.file, offset, self.path, cancel, self.progress)


def _given_up(path: str) -> UploadDiscardedError:
    return UploadDiscardedError("the download was given up", path=path)

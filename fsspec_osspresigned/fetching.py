"""A whole object into a local file: in one request, or in ranges at once."""

from __future__ import annotations

import contextlib
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
                objects.check_whole(reply.headers, stretch.crc64, self.path)

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
            objects.check_whole(reply.headers, stretch.crc64, self.path)

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
            objects.fetch(
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
        objects.check_whole(first.headers, crc, self.path)

    def _call(
        self, piece: Range, check: Callable[[Reply], None], cancel: Cancellation
    ) -> None:
        self.client.call(
            get_object(self.path),
            free=piece.free,
            sink=piece,
            check=check,
            cancel=cancel,
        )

    def _stretch(self, offset: int, cancel: Cancellation) -> _Stretch:
        return _Stretch(self.file, offset, self.path, cancel, self.progress)


def _given_up(path: str) -> UploadDiscardedError:
    return UploadDiscardedError("the download was given up", path=path)

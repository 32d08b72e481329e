"""Downloads of whole objects into local files, in one request or in parallel ranges."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator

from attrs import define, frozen

from ..client.client import Client
from ..compat import BINARY, write_at
from ..engine import abort_at_exit
from ..engine.engine import blocking, call_user, running
from ..engine.scope import in_parallel
from ..errors import NetworkError, UploadDiscardedError
from ..http.body import SMALL
from ..http.checksums import CRC_HEADER, combine, crc64
from ..model import Reply
from . import calls
from .ranges import Range, Version, WholeError


class AtomicFile:
    """Local file that appears at its destination only when it is complete.

    Several threads write at offsets. On Linux the file has no name until it is
    complete, so a killed process leaves nothing behind. Elsewhere the file has a
    temporary name beside its destination, and SIGTERM removes it. Files and directories
    are created only when bytes are written, so a failed download leaves no directory.
    """

    def __init__(self, place: str) -> None:
        self._place, self._parent = place, os.path.dirname(os.path.abspath(place))
        self._name, self._pid = "", os.getpid()
        self._descriptor = -1
        self._held = bytearray()  # the first bytes, until the file is created
        self._writing = 0  # threads that use the descriptor
        self._is_discarded = False
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        return self._descriptor >= 0

    @property
    def is_over(self) -> bool:
        """True if this process has no temporary file that would be left if it ended now."""
        return not self._name or os.getpid() != self._pid

    def resize(self, size: int) -> None:
        with self._descriptor_in_use() as descriptor:
            os.ftruncate(descriptor, size)

    def cut(self, size: int) -> None:
        """Shorten the file to *size* bytes."""
        if self.begun:
            self.resize(size)
        else:
            del self._held[size:]

    def write(self, data: bytes, offset: int) -> None:
        """Write *data* at *offset*.

        The first ``SMALL`` bytes stay in memory until more follow, or until ``publish``.
        """
        with self._lock:
            is_next = not self.begun and offset <= len(self._held)
            if is_next and offset + len(data) <= SMALL:
                self._held[offset:] = data
                return
        with self._descriptor_in_use() as descriptor:
            write_at(descriptor, memoryview(data), offset)

    @contextlib.contextmanager
    def _descriptor_in_use(self) -> Iterator[int]:
        """Yield the descriptor, and keep it open within the block.

        Otherwise, a thread that still writes after a cancellation could write into
        another file, which got the same descriptor.
        """
        with self._lock:
            descriptor = self._opened()
            self._writing += 1
        try:
            yield descriptor
        finally:
            with self._lock:
                self._writing -= 1
                if self._is_discarded:
                    self._close()

    def publish(self) -> None:
        """Move the file to its destination, replacing an existing file."""
        with self._lock:
            descriptor = self._opened()  # created now if it is empty
            if not self._name:
                self._take_name()
                # With src_dir_fd Python calls linkat, which follows the link in /proc.
                unnamed = f"/proc/self/fd/{descriptor}"
                os.link(unnamed, self._name, src_dir_fd=descriptor)
            self._close()  # Windows cannot replace an open file
            os.replace(self._name, self._place)
            self._name = ""

    async def end(self) -> None:
        """Remove the file unless it was published; later writes raise an error."""
        if self.begun or self._name:
            await blocking(self.discard)
        else:
            self.discard()

    def stop(self) -> None:
        """Remove the unpublished file when the process ends.

        The descriptor stays open, because other threads may still write.
        """
        if not self.is_over:
            self.discard(closes=False)

    def discard(self, *, closes: bool = True) -> None:
        """Remove the unpublished file; *closes* False leaves it open for writing."""
        with self._lock:
            if closes:
                self._is_discarded = True
                self._close()
            if self._name:
                with contextlib.suppress(OSError):
                    os.unlink(self._name)
            self._name = ""

    def _close(self) -> None:
        if self._writing:
            return
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _opened(self) -> int:
        if self._is_discarded:
            raise UploadDiscardedError("the download was cancelled", path=self._place)
        if self._descriptor < 0:
            os.makedirs(self._parent, exist_ok=True)
            self._descriptor = self._made()
            # A replaced file keeps its mode, where the system has modes.
            with contextlib.suppress(OSError, AttributeError):
                mode = os.stat(self._place).st_mode & 0o777
                os.fchmod(self._descriptor, mode)
            write_at(self._descriptor, memoryview(self._held), 0)
            self._held = bytearray()
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


@define(eq=False)
class RangeWriter:
    """Sink that writes a range into a file at *offset*, and computes its CRC-64."""

    download: Download
    offset: int
    size: int = 0
    crc64: int = 0

    def begin(self) -> None:
        if self.size:
            self.download.progress(-self.size)
        self.size = self.crc64 = 0

    def write(self, block: bytes, /) -> None:
        self.download.file.write(block, self.offset + self.size)
        self.size += len(block)
        self.crc64 = crc64(block, self.crc64)
        self.download.progress(len(block))


@frozen(eq=False)
class Download:
    """Download of one object; *file* is complete when ``run`` returns.

    *heard* is called by several threads with the number of bytes received, or with a
    negative number before a retry; None disables it. *on_size* is called once with the
    size of the object. *in_thread* means that worker threads read, because the object
    may be large.
    """

    client: Client
    path: str
    file: AtomicFile
    heard: Callable[[int], object] | None = None
    on_size: Callable[[int], object] | None = None
    in_thread: bool = True

    def progress(self, count: int) -> None:
        if self.heard is not None:
            self.heard(count)

    async def run(self) -> int:
        """Download the object, and return its size.

        A small object takes one request. A larger one is read in ranges, all of the same
        version as the first reply. The other ranges start as soon as the head of the
        first reply has arrived.

        Raises:
            IntegrityError: the CRC-64 differs.
            SourceChangedError: the object was replaced during the download.
        """
        writer = RangeWriter(self, 0)
        first = Range(self.path, 0, self._stop, writer, takes_whole=True)
        try:
            rest = await self._first_and_rest(first, writer)
        except WholeError:  # other stores have no range of an empty object
            await self._set_size(0)
            await self._cut(0)
            return 0
        if first.version is not None:
            self._check(first, writer, rest)
            return first.total or 0
        whole = first.total is None or not first.partial
        total = writer.size if whole else first.total or 0
        await self._set_size(total)
        if total != writer.size:
            # Without an ETag, two ranges could be of two versions: get all in one.
            everything = Range(self.path, 0, None, writer, takes_whole=True)
            await self._get(everything, writer, in_thread=True)
            total = writer.size
        # A failed try may have left more, if the object was larger then.
        await self._cut(total)
        return total

    @property
    def _is_threaded(self) -> bool:
        return self.in_thread or self.heard is not None

    @property
    def _stop(self) -> int:
        """End offset of the first range."""
        largest = self.client.options.piece_size
        return largest if self._is_threaded else min(largest, SMALL)

    async def _first_and_rest(
        self, first: Range, writer: RangeWriter
    ) -> list[RangeWriter]:
        """Read *first* and the other ranges of the object; return the writers of the others.

        If worker threads read, all are read at the same time. If there are others, they
        have the version of *first*; otherwise its ``version`` is None.
        """
        head, engine = asyncio.Event(), running()

        def on_head() -> None:  # in the thread that reads
            more = (first.total or 0) > self._stop
            if first.partial and first.etag and more and first.version is None:
                first.version = Version(first.etag, first.total)
                if self._is_threaded and self.on_size is not None:
                    self.on_size(first.total or 0)  # before its first bytes
                engine.post(head.set)

        async def begin() -> list[RangeWriter]:
            try:
                await self._get(first, writer, in_thread=self._is_threaded)
            finally:
                head.set()
            return []

        async def go_on() -> list[RangeWriter]:
            await head.wait()
            return [] if first.version is None else await self._rest(first.version)

        first.on_head = on_head
        if self._is_threaded:
            return (await in_parallel(lambda work: work(), (begin, go_on), 2))[1]
        await begin()
        if first.version is not None:
            await self._set_size(first.total or 0)
        return await go_on()

    async def _cut(self, size: int) -> None:
        if self.file.begun:
            await blocking(self.file.cut, size)
        else:
            self.file.cut(size)

    async def fill(self, body: bytes) -> None:
        """Write *body*, which was kept in memory, as the whole object."""
        await self._set_size(len(body))
        await blocking(self.file.write, body, 0)
        if self.heard is not None:
            await call_user(self.heard, len(body))

    async def _set_size(self, size: int) -> None:
        if self.on_size is not None:
            await call_user(self.on_size, size)

    async def _get(self, piece: Range, writer: RangeWriter, *, in_thread: bool) -> None:
        def check(reply: Reply) -> None:
            piece.check()
            if not piece.partial or piece.total == writer.size:
                calls.check_whole(
                    reply.headers.get(CRC_HEADER), writer.crc64, self.path
                )

        await calls.fetch(self.client, piece, check, in_thread=in_thread)

    async def _rest(self, version: Version) -> list[RangeWriter]:
        total, step = version.total or 0, self.client.options.piece_size
        await blocking(self.file.resize, total)

        async def work(offset: int) -> RangeWriter:
            writer = RangeWriter(self, offset)
            stop = min(offset + step, total)
            piece = Range(self.path, offset, stop, writer, version=version)
            await calls.fetch(self.client, piece, in_thread=True)
            return writer

        jobs = range(self._stop, total, step)
        return await in_parallel(work, jobs, self.client.options.connections)

    def _check(self, first: Range, begun: RangeWriter, rest: list[RangeWriter]) -> None:
        crc, size = begun.crc64, begun.size
        for writer in rest:
            crc, size = combine(crc, writer.crc64, writer.size), size + writer.size
        if size != first.total:
            msg = f"{size} bytes came, {first.total} were announced"
            raise NetworkError(msg, path=self.path)
        calls.check_whole(first.headers.get(CRC_HEADER), crc, self.path)

"""Downloads of whole objects into local files, in one request or in parallel ranges."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import stat
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from attrs import define, frozen

from ..client.client import Client
from ..compat import BINARY, write_at
from ..engine import abort_at_exit
from ..engine.engine import blocking, call_user, running
from ..engine.logs import Logger
from ..engine.scope import in_parallel
from ..errors import (
    IntegrityError,
    NetworkError,
    SourceChangedError,
    UploadDiscardedError,
)
from ..files import is_at
from ..http.body import SMALL
from ..http.checksums import CRC_HEADER, combine, crc64
from ..model import Reply
from . import reading
from .partial import PREFIX, PartialFile, blocks
from .ranges import MemorySink, Range, Version, WholeError

_log = Logger(__name__)

_EACH = 16  # files that one job publishes; if more are waiting, another job begins


def is_written_into(path: str) -> bool:
    """Return whether *path* is a device or a pipe, which must not be replaced."""
    mode = _mode_of(path)
    return mode is not None and _must_stay(path, mode)


def _mode_of(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def _must_stay(path: str, mode: int) -> bool:
    # Names of open files, such as /dev/stdout and /dev/fd/1, must stay, too.
    parent = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    is_open = parent == "/dev" or parent.startswith("/proc/")
    return not stat.S_ISDIR(mode) and (is_open or not stat.S_ISREG(mode))


class AtomicFile:
    """Local file that appears at its destination only when it is complete.

    Several threads write at offsets. Until it is complete, the file has a temporary name
    beside its destination; SIGTERM removes it. Files and directories are created only
    when bytes are written, so a failed download leaves no directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._name, self._pid = "", os.getpid()
        self._descriptor = -1
        self._held = b""  # whole content of a small file that is not created yet
        self._writing = 0  # number of threads that use the descriptor
        # True: if not published, the file is kept for a later process
        self._is_kept = False
        self._is_discarded = False
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        return self._descriptor >= 0

    @property
    def is_over(self) -> bool:
        """True if this process could end now and leave no temporary file behind."""
        return not self._name or os.getpid() != self._pid

    def resize(self, size: int) -> None:
        with self.descriptor_in_use() as descriptor:
            os.ftruncate(descriptor, size)

    def adopt(self, partial: PartialFile) -> None:
        """Write into *partial*, which is kept unless the file is published or dropped."""
        with self._lock:
            self._descriptor, self._name = partial.descriptor, partial.name
            self._is_kept = True
            if self._is_discarded:
                self._close()

    def drop(self) -> None:
        """Let ``end`` remove the written bytes, even if a later process could use them."""
        self._is_kept = False

    def hold(self, data: bytes) -> None:
        """Keep *data*, the whole content, in memory until ``publish``."""
        self._held = data

    def write(self, data: bytes, offset: int) -> None:
        """Write *data* at *offset*."""
        with self.descriptor_in_use() as descriptor:
            write_at(descriptor, memoryview(data), offset)

    @contextlib.contextmanager
    def descriptor_in_use(self) -> Iterator[int]:
        """Yield the descriptor, and keep it open within the block.

        Otherwise, a thread that still writes after a cancellation could write into
        another file with the same descriptor.
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
        """Move the file to its destination, replacing an existing file.

        Raises FileExistsError if the destination is a pipe or a device.
        """
        mode = _mode_of(self.path)
        if mode is not None and _must_stay(self.path, mode):
            msg = "a pipe or device exists at the path of the file: remove it"
            raise FileExistsError(errno.EEXIST, msg, self.path)
        with self._lock:
            descriptor = self._opened()  # a small file is created only now
            if mode is not None:
                # The new file gets the mode of the file that it replaces, if the system
                # has modes.
                with contextlib.suppress(OSError, AttributeError):
                    os.fchmod(descriptor, mode & 0o777)
            if self._is_kept and not is_at(descriptor, self._name):
                msg = "another program replaced the partial file: get it again"
                raise FileNotFoundError(errno.ENOENT, msg, self.path)
            if os.name != "posix":  # Windows cannot replace an open file
                self._close()
            os.replace(self._name, self.path)
            self._name = ""
            self._close()  # the lock ends, too

    async def end(self) -> None:
        """Remove the file unless it was published; later writes raise an error."""
        # If another thread has the lock, a worker thread waits for it, because the
        # other thread may wait for the disk.
        if self._name or self._lock.locked():
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
                if os.name != "posix":  # Windows cannot remove an open file
                    self._close()
            if self._name and not self._is_kept:
                with contextlib.suppress(OSError):
                    os.unlink(self._name)
            self._name = ""
            if closes:
                self._close()  # the lock ends after the name is gone

    def _close(self) -> None:
        if self._writing:
            return
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _opened(self) -> int:
        if self._is_discarded:
            raise UploadDiscardedError("the download was cancelled", path=self.path)
        if self._descriptor < 0:
            self._descriptor = self._made()
            write_at(self._descriptor, memoryview(self._held), 0)
        return self._descriptor

    def _made(self) -> int:
        parent = os.path.dirname(self.path) or os.curdir
        if not os.path.isdir(parent):
            os.makedirs(parent, exist_ok=True)
        self._name = os.path.join(parent, PREFIX + secrets.token_hex(8))
        abort_at_exit.add(self)
        return os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)


class Publisher:
    """Publishes many files: each job of a worker thread publishes the waiting files.

    Starting a job takes longer than publishing a small file. On a slow disk, more files
    wait, so more jobs run at the same time.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[AtomicFile, asyncio.Future[None]]] = deque()
        self._jobs = 0  # number of running jobs

    async def publish(self, file: AtomicFile) -> None:
        """Publish *file*; a cancelled caller must call ``end`` of the file."""
        published = asyncio.get_running_loop().create_future()
        self._waiting.append((file, published))
        if len(self._waiting) > _EACH * self._jobs:
            self._jobs += 1
            _ = running().spawn(self._work())
        await published

    async def _work(self) -> None:
        while self._waiting:
            count = min(_EACH, len(self._waiting))
            entries = [self._waiting.popleft() for _ in range(count)]
            try:
                errors = await blocking(_publish_all, [file for file, _ in entries])
            except Exception as problem:  # noqa: BLE001 - for example, no thread can be started
                errors = [problem] * count
            for (_, published), error in zip(entries, errors, strict=True):
                if published.done():  # the caller was cancelled
                    continue
                if error is None:
                    published.set_result(None)
                else:
                    published.set_exception(error)
        self._jobs -= 1


def _publish_all(files: Iterable[AtomicFile]) -> list[Exception | None]:
    """Publish *files*; return the error of each, or None."""
    errors: list[Exception | None] = []
    for file in files:
        try:
            file.publish()
            errors.append(None)
        except Exception as error:  # noqa: BLE001 - the task that awaits the file raises it
            errors.append(error)
    return errors


class _FirstBytes(MemorySink):
    """Sink for the first range; it raises WholeError if a large object comes instead."""

    def write(self, block: bytes, /) -> None:
        super().write(block)
        if self.size > SMALL:
            raise WholeError


@define(eq=False)
class RangeWriter:
    """Sink that writes a range into a file, and computes its CRC-64.

    The range is *offset* to *stop*; None is the end of the object. A block that reaches
    beyond the range raises NetworkError, because it would overwrite another range.
    """

    download: Download
    offset: int
    stop: int | None = None
    size: int = 0
    crc64: int = 0

    def begin(self) -> None:
        self.download.progress(-self.size)
        self.size = self.crc64 = 0

    def write(self, block: bytes, /) -> None:
        start = self.offset + self.size
        if self.stop is not None and start + len(block) > self.stop:
            msg = "more bytes arrived than were requested"
            raise NetworkError(msg, path=self.download.path)
        self.download.file.write(block, start)
        self.take(block)

    def take(self, block: bytes) -> None:
        """Count *block*, which is already in the file."""
        self.size += len(block)
        self.crc64 = crc64(block, self.crc64)
        self.download.progress(len(block))


@frozen(eq=False)
class Download:
    """Download of one object; *file* is complete when ``run`` returns.

    *on_size* is called once with the size of the object. Several threads call *heard*
    with the number of bytes received, or with a negative number before a retry. None
    disables these calls. A large object takes one of *turns*; None lets it begin at
    once.
    """

    client: Client
    path: str
    file: AtomicFile
    heard: Callable[[int], object] | None = None
    on_size: Callable[[int], object] | None = None
    turns: asyncio.Semaphore | None = None

    def progress(self, count: int) -> None:
        if self.heard is not None and count:
            self.heard(count)

    async def run(self) -> int:
        """Download the object, and return its size.

        The first request is for the first ``SMALL`` bytes, or for one part if it is
        smaller. Worker threads read the rest in ranges with the size of a part, all
        from the same version.

        Raises:
            IntegrityError: the CRC-64 differs.
            SourceChangedError: the object was replaced during the download.
        """
        sink = _FirstBytes()
        stop = min(self.client.options.piece_size, SMALL)
        first = Range(self.path, 0, stop, sink, takes_whole=True)
        try:
            await self._get(first, sink, in_thread=False)
            is_all = not first.partial or first.total == sink.size
        except WholeError:  # a large object, from a store without ranges
            is_all, first.partial = False, False
            sink.begin()
        if is_all:
            await self.fill(sink.bytes())
            return sink.size
        async with self.turns or contextlib.nullcontext():
            return await self._get_large(first, sink)

    async def _get_large(self, first: Range, sink: MemorySink) -> int:
        if first.partial and first.etag:
            return await self._add_rest(first, sink)
        # Without an ETag, two ranges could belong to two versions, so get the object in
        # one request.
        writer = RangeWriter(self, 0)
        everything = Range(self.path, 0, None, writer, takes_whole=True)
        await self._get(everything, writer, in_thread=True)
        # A failed try may have left more bytes, if the object was larger then.
        await blocking(self.file.resize, writer.size)
        await self._tell(writer.size, 0)
        return writer.size

    async def fill(self, body: bytes) -> None:
        """Use *body* as the whole object."""
        self.file.hold(body)
        if self.heard is not None or self.on_size is not None:
            await self._tell(len(body), len(body))

    async def _tell(self, size: int, count: int) -> None:
        """Report the *size* of the object and *count* received bytes to the callbacks."""
        if self.on_size is not None:
            await call_user(self.on_size, size)
        if self.heard is not None:
            await call_user(self.progress, count)

    def _get(
        self, piece: Range, sink: MemorySink | RangeWriter, *, in_thread: bool
    ) -> Coroutine[Any, Any, None]:
        def check(_: Reply) -> None:
            piece.check()
            if not piece.partial or piece.total == sink.size:
                stated = piece.headers.get(CRC_HEADER)
                reading.check_whole(stated, sink.crc64, self.path)

        return reading.fetch(self.client, piece, check, in_thread=in_thread)

    async def _add_rest(self, first: Range, begun: MemorySink) -> int:
        """Write the bytes of *first*, which *begun* has, and read the rest."""
        total, step = first.total or 0, self.client.options.piece_size
        version = Version(first.etag, total)
        await self._tell(total, begun.size)
        jobs = range(begun.size, total, step)
        partial = await blocking(self._partial, first, jobs)
        if partial is None:
            await blocking(self.file.resize, total)
        await blocking(self.file.write, begun.bytes(), 0)

        async def work(offset: int) -> RangeWriter:
            stop, index = min(offset + step, total), jobs.index(offset)
            writer = RangeWriter(self, offset, stop)
            if partial is not None and partial.done[index]:
                await blocking(self._take_again, writer, stop)
                return writer
            piece = Range(self.path, offset, stop, writer, version=version)
            try:
                await reading.fetch(self.client, piece, in_thread=True)
            except WholeError:
                raise piece.refused("the whole object arrived") from None
            if partial is not None:
                await blocking(self._mark, partial, index)
            return writer

        try:
            rest = await in_parallel(work, jobs, self.client.options.connections)
            self._check_all(first, begun, rest)
        except BaseException as error:
            if partial is not None:
                self._keep(partial, error)
            raise
        if partial is not None:
            await blocking(self.file.resize, total)
        return total

    def _check_all(
        self, first: Range, begun: MemorySink, rest: Iterable[RangeWriter]
    ) -> None:
        crc, size = begun.crc64, begun.size
        for writer in rest:
            crc, size = combine(crc, writer.crc64, writer.size), size + writer.size
        if size != first.total:
            msg = f"{size} bytes came, {first.total} were announced"
            raise NetworkError(msg, path=self.path)
        reading.check_whole(first.headers.get(CRC_HEADER), crc, self.path)

    # -- resumption ----------------------------------------------------------------------

    def _partial(self, first: Range, jobs: range) -> PartialFile | None:
        """Return the partial file, if downloads are resumable and the CRC-64 is known."""
        if self.client.options.resume_dir is None or CRC_HEADER not in first.headers:
            return None
        content = repr((self.path, first.etag, jobs))
        total = first.total or 0
        partial = PartialFile.open(self.file.path, content, total, len(jobs))
        if partial is not None:
            self.file.adopt(partial)
            if done := sum(partial.done):
                text = "%s: resumed: %d of %d parts have arrived"
                _log.info(text, self.path, done, len(jobs))
        return partial

    def _take_again(self, writer: RangeWriter, stop: int) -> None:
        with self.file.descriptor_in_use() as descriptor:
            for block in blocks(descriptor, writer.offset, stop):
                writer.take(block)

    def _mark(self, partial: PartialFile, index: int) -> None:
        with self.file.descriptor_in_use() as descriptor:
            partial.mark(descriptor, index)

    def _keep(self, partial: PartialFile, error: BaseException) -> None:
        """Leave *partial* for a later process, unless its bytes are useless."""
        if isinstance(error, IntegrityError | SourceChangedError):
            self.file.drop()
            return
        done, count = sum(partial.done), len(partial.done)
        note = f"{done} of {count} parts have arrived; run the same again to resume"
        _log.info("%s: %s", self.path, note)
        error.add_note(note)

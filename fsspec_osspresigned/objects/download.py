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
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import cache
from typing import Any

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

_EACH = 16  # files that a job publishes at once; more that wait begin another job


def is_written_into(place: str) -> bool:
    """Return whether *place* is a device or a pipe, which must not be replaced."""
    mode = _mode_of(place)
    return mode is not None and _must_stay(place, mode)


def _mode_of(place: str) -> int | None:
    try:
        return os.stat(place).st_mode
    except OSError:
        return None


def _must_stay(place: str, mode: int) -> bool:
    # Names of open files count as well, such as /dev/stdout and /dev/fd/1.
    parent = os.path.realpath(os.path.dirname(os.path.abspath(place)))
    is_open = parent == "/dev" or parent.startswith("/proc/")
    return not stat.S_ISDIR(mode) and (is_open or not stat.S_ISREG(mode))


@cache
def _has_proc() -> bool:
    """Return whether the system names open files: so a file gets its name later."""
    return os.path.isdir("/proc/self/fd")


class AtomicFile:
    """Local file that appears at its destination only when it is complete.

    Several threads write at offsets. On Linux the file has no name until it is
    complete, so a killed process leaves nothing behind. Elsewhere the file has a
    temporary name beside its destination, and SIGTERM removes it. Files and directories
    are created only when bytes are written, so a failed download leaves no directory.
    """

    def __init__(self, place: str) -> None:
        self.place = place
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
            is_next = self._descriptor < 0 and offset <= len(self._held)
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
        """Move the file to its destination, replacing an existing file.

        Raises FileExistsError if a pipe or a device is there.
        """
        mode = _mode_of(self.place)
        if mode is not None and _must_stay(self.place, mode):
            msg = "a pipe or device is in the place of the file: remove it"
            raise FileExistsError(errno.EEXIST, msg, self.place)
        with self._lock:
            descriptor = self._opened()  # created now if it is small
            if mode is not None:
                # The file that is replaced keeps its mode, where the system has modes.
                with contextlib.suppress(OSError, AttributeError):
                    os.fchmod(descriptor, mode & 0o777)
            if not self._name:
                try:
                    self._link(self.place)
                except FileExistsError:
                    self._take_name()
                    self._link(self._name)
            self._close()  # Windows cannot replace an open file
            if self._name:
                os.replace(self._name, self.place)
                self._name = ""

    def _link(self, name: str) -> None:
        """Give the file, which has no name, a *name* that does not exist."""
        # With src_dir_fd Python calls linkat, which follows the link in /proc.
        unnamed = f"/proc/self/fd/{self._descriptor}"
        os.link(unnamed, name, src_dir_fd=self._descriptor)

    async def end(self) -> None:
        """Remove the file unless it was published; later writes raise an error."""
        # Not here while a thread has the lock: it may wait for the disk.
        if self.begun or self._name or self._lock.locked():
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
            raise UploadDiscardedError("the download was cancelled", path=self.place)
        if self._descriptor < 0:
            self._descriptor = self._made()
            write_at(self._descriptor, memoryview(self._held), 0)
            self._held = bytearray()
        return self._descriptor

    def _made(self) -> int:
        parent = os.path.dirname(self.place) or os.curdir
        try:
            return self._made_in(parent)
        except FileNotFoundError:
            os.makedirs(parent, exist_ok=True)
        return self._made_in(parent)

    def _made_in(self, parent: str) -> int:
        unnamed = getattr(os, "O_TMPFILE", 0)
        if unnamed and _has_proc():
            try:
                return os.open(parent, unnamed | os.O_RDWR, 0o666)
            except FileNotFoundError:
                raise
            except OSError:  # some network drives have no such files
                pass
        self._take_name()
        return os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | BINARY, 0o666)

    def _take_name(self) -> None:
        name = f".osspresigned-{secrets.token_hex(8)}"  # `put` and `sync` leave it out
        self._name = os.path.join(os.path.dirname(self.place), name)
        abort_at_exit.add(self)


class Publisher:
    """Publishes many files: each job of a worker thread publishes those that wait.

    A job takes longer than a small file. On a slow disk more files wait, and more jobs
    publish at the same time.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[AtomicFile, asyncio.Future[None]]] = deque()
        self._jobs = 0  # that run

    async def publish(self, file: AtomicFile) -> None:
        """Publish *file*; a caller that is cancelled ends it, so that it never appears."""
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
            except Exception as problem:  # noqa: BLE001 - such as no thread
                errors = [problem] * count
            for (_, published), error in zip(entries, errors, strict=True):
                if published.done():  # its caller was cancelled
                    continue
                if error is None:
                    published.set_result(None)
                else:
                    published.set_exception(error)
        self._jobs -= 1


def _publish_all(files: Sequence[AtomicFile]) -> list[Exception | None]:
    """Publish *files*; return the error of each, or None."""
    errors: list[Exception | None] = []
    for file in files:
        try:
            file.publish()
        except Exception as error:  # noqa: BLE001 - raised where the file is awaited
            errors.append(error)
        else:
            errors.append(None)
    return errors


@define(eq=False)
class RangeWriter:
    """Sink that writes a range into a file at *offset*, and computes its CRC-64."""

    download: Download
    offset: int
    size: int = 0
    crc64: int = 0

    def begin(self) -> None:
        heard = self.download.heard
        if self.size and heard is not None:
            heard(-self.size)
        self.size = self.crc64 = 0

    def write(self, block: bytes, /) -> None:
        heard = self.download.heard
        self.download.file.write(block, self.offset + self.size)
        self.size += len(block)
        self.crc64 = crc64(block, self.crc64)
        if heard is not None:
            heard(len(block))


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

    async def run(self) -> int:
        """Download the object, and return its size.

        A small object takes one request. A larger one is read in ranges, all of the same
        version as the first reply. If worker threads read, the other ranges start as soon
        as the head of the first reply has arrived.

        Raises:
            IntegrityError: the CRC-64 differs.
            SourceChangedError: the object was replaced during the download.
        """
        in_thread = self.in_thread or self.heard is not None
        step = self.client.options.largest_part
        writer = RangeWriter(self, 0)
        stop = step if in_thread else min(step, SMALL)
        first = Range(self.path, 0, stop, writer, takes_whole=True)
        rest: list[RangeWriter] | None = None
        try:
            if in_thread:
                rest = await self._first_and_rest(first, writer, step)
            else:
                await self._get(first, writer, in_thread=False)
        except WholeError:  # other stores have no range of an empty object
            first.partial, first.total = False, 0
            writer.begin()
        whole = first.total is None or not first.partial
        total = writer.size if whole else first.total or 0
        if rest is None:
            if self.on_size is not None:
                await call_user(self.on_size, total)
            if total > writer.size and first.etag:
                rest = await self._rest(Version(first.etag, total), stop)
        if rest is not None:
            self._check(first, writer, rest)
            return total
        if total != writer.size:
            # Without an ETag, two ranges could be of two versions: get all in one.
            everything = Range(self.path, 0, None, writer, takes_whole=True)
            await self._get(everything, writer, in_thread=True)
            total = writer.size
        # A failed try may have left more, if the object was larger then.
        if self.file.begun:
            await blocking(self.file.cut, total)
        else:
            self.file.cut(total)
        return total

    async def _first_and_rest(
        self, first: Range, writer: RangeWriter, stop: int
    ) -> list[RangeWriter] | None:
        """Read *first*, which ends at *stop*, and the others at the same time, in threads.

        Return the writers of the others, which have the version of *first*. None means
        that *first* is all, or that its version is unknown.
        """
        head, engine = asyncio.Event(), running()

        def on_head() -> None:  # in the thread that reads
            total = first.total or 0
            has_more = first.partial and first.etag and total > stop
            if has_more and first.version is None:
                first.version = Version(first.etag, total)
                if self.on_size is not None:
                    self.on_size(total)  # before its first bytes
                engine.post(head.set)

        async def begin() -> None:
            try:
                await self._get(first, writer, in_thread=True)
            finally:
                head.set()

        async def go_on() -> list[RangeWriter] | None:
            await head.wait()
            version = first.version
            return None if version is None else await self._rest(version, stop)

        first.on_head = on_head
        works: Sequence[Callable[[], Coroutine[Any, Any, Any]]] = (begin, go_on)
        rest: list[RangeWriter] | None
        _, rest = await in_parallel(lambda work: work(), works, 2)
        return rest

    async def fill(self, body: bytes) -> None:
        """Write *body*, which was kept in memory, as the whole object."""
        if self.on_size is not None:
            await call_user(self.on_size, len(body))
        await blocking(self.file.write, body, 0)
        if self.heard is not None:
            await call_user(self.heard, len(body))

    def _get(
        self, piece: Range, writer: RangeWriter, *, in_thread: bool
    ) -> Coroutine[Any, Any, None]:
        def check(_: Reply) -> None:
            piece.check()
            if not piece.partial or piece.total == writer.size:
                stated = piece.headers.get(CRC_HEADER)
                calls.check_whole(stated, writer.crc64, self.path)

        return calls.fetch(self.client, piece, check, in_thread=in_thread)

    async def _rest(self, version: Version, begin: int) -> list[RangeWriter]:
        total, step = version.total or 0, self.client.options.largest_part
        await blocking(self.file.resize, total)

        async def work(offset: int) -> RangeWriter:
            writer = RangeWriter(self, offset)
            stop = min(offset + step, total)
            piece = Range(self.path, offset, stop, writer, version=version)
            await calls.fetch(self.client, piece, in_thread=True)
            return writer

        jobs = range(begin, total, step)
        return await in_parallel(work, jobs, self.client.options.connections)

    def _check(self, first: Range, begun: RangeWriter, rest: list[RangeWriter]) -> None:
        crc, size = begun.crc64, begun.size
        for writer in rest:
            crc, size = combine(crc, writer.crc64, writer.size), size + writer.size
        if size != first.total:
            msg = f"{size} bytes came, {first.total} were announced"
            raise NetworkError(msg, path=self.path)
        calls.check_whole(first.headers.get(CRC_HEADER), crc, self.path)

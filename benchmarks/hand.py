"""What an engineer would write by hand for each work, without checksums or retries.

Requests are signed outside of time (the names of parts excepted, which are known late;
they carry a query of the length of a signature). `http.client` sends a whole memoryview
by one `sendall`, outside of the GIL: nothing in Python is faster.
"""

from __future__ import annotations

import mmap
import os
import queue
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from .candidates import Timed, Where, candidate, produce
from .ours import presigner
from .work import KIB, Work

BLOCK = 256 * KIB
_SIGNATURE = "&x-oss-signature=" + "0" * 300
Task = Callable[[HTTPConnection], Any]


class Pool:
    """Threads with a connection each, and a queue of tasks for them."""

    def __init__(self, where: Where, width: int) -> None:
        self._where = where
        self._local = threading.local()
        self._threads = ThreadPoolExecutor(width)

    def do(self, task: Task) -> Future[Any]:
        """Run *task* with the connection of some thread."""
        return self._threads.submit(lambda: task(self.connection()))

    def connection(self) -> HTTPConnection:
        """Return the connection of this thread."""
        if not hasattr(self._local, "connection"):
            self._local.connection = connect(self._where)
        return self._local.connection

    def each(self, tasks: Iterable[Task]) -> list[Any]:
        """Run them all; return what they return, in order."""
        return [future.result() for future in [self.do(task) for task in tasks]]


def connect(where: Where) -> HTTPConnection:
    """Return a new connection to the sink."""
    netloc = urlsplit(where.url).netloc
    if where.ca is None:
        return HTTPConnection(netloc, blocksize=BLOCK)
    context = ssl.create_default_context(cafile=where.ca)
    return HTTPSConnection(netloc, context=context, blocksize=BLOCK)


def ask(
    connection: HTTPConnection,
    method: str,
    target: str,
    body: Any = None,
    size: int = 0,
) -> tuple[str, bytes]:
    """Send one request; return the ETag and the body of its answer."""
    headers = {"Content-Length": str(size)} if method != "GET" else {}
    connection.request(method, target, body=body, headers=headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise RuntimeError(f"{method}: {response.status} {answer[:200]!r}")
    return response.headers["ETag"] or "", answer


def target_of(url: str) -> str:
    """Return path and query of *url*."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


class Multipart:
    """An upload in parts: began, its parts, its end."""

    def __init__(self, where: Where, pool: Pool) -> None:
        sign = presigner(where)
        self._begin = target_of(sign("POST", where.key(), uploads=""))
        self._path = urlsplit(where.url).path + f"/{where.target}/{where.key()}"
        self._pool = pool
        self._id = ""

    def begin(self) -> None:
        """Begin it."""
        _, answer = ask(self._pool.connection(), "POST", self._begin)
        text = answer.decode()
        self._id = text.partition("<UploadId>")[2].partition("</UploadId>")[0]

    def part(self, number: int, body: Any, size: int) -> Task:
        """Return what sends one part and gives its ETag."""
        query = f"partNumber={number}&uploadId={self._id}{_SIGNATURE}"
        target = f"{self._path}?{query}"
        return lambda connection: ask(connection, "PUT", target, body, size)[0]

    def end(self, etags: Iterable[str]) -> None:
        """Complete it."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        target = f"{self._path}?uploadId={self._id}{_SIGNATURE}"
        ask(self._pool.connection(), "POST", target, body, len(body))


@candidate(
    "hand:mmap",
    verbs={"put", "multipart"},
    note="threads over slices of one mmap, http.client; mapped pages count as memory",
)
def mapped(work: Work, where: Where) -> Timed:
    """Slices of a mapped file, one `sendall` each."""
    pool = Pool(where, work.concurrency)
    put = target_of(presigner(where)("PUT", where.key()))
    upload = Multipart(where, pool)

    def run() -> None:
        with (
            open(where.files[0], "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
            memoryview(whole) as view,
        ):
            if work.verb == "put":
                ask(pool.connection(), "PUT", put, view, len(view))
                return
            upload.begin()
            starts = range(0, len(view), work.part_size)
            pieces = [view[at : at + work.part_size] for at in starts]
            tasks = [
                upload.part(n, piece, len(piece)) for n, piece in enumerate(pieces, 1)
            ]
            upload.end(pool.each(tasks))
            for piece in pieces:
                piece.release()
            del tasks

    return run


@candidate(
    "hand:preadv",
    verbs={"put", "multipart"},
    note="threads, `preadv` into one buffer of 256 KiB a thread, http.client",
)
def preadv(work: Work, where: Where) -> Timed:
    """The same in little memory."""
    pool = Pool(where, work.concurrency)
    put = target_of(presigner(where)("PUT", where.key()))
    upload = Multipart(where, pool)

    def blocks(file: int, start: int, stop: int) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(BLOCK))
        while start < stop:
            count = os.preadv(file, [buffer[: min(BLOCK, stop - start)]], start)
            yield buffer[:count]
            start += count

    def run() -> None:
        file = os.open(where.files[0], os.O_RDONLY)
        if work.verb == "put":
            body = blocks(file, 0, work.size)
            ask(pool.connection(), "PUT", put, body, work.size)
        else:
            upload.begin()
            tasks = []
            for number, start in enumerate(range(0, work.size, work.part_size), 1):
                stop = min(start + work.part_size, work.size)
                body = blocks(file, start, stop)
                tasks.append(upload.part(number, body, stop - start))
            upload.end(pool.each(tasks))
        os.close(file)

    return run


class Overlap:
    """A file for writing whose parts are sent while the next ones are written.

    What is written is kept, not copied: it is `bytes`, which nobody changes.
    """

    def __init__(self, upload: Multipart, pool: Pool, work: Work) -> None:
        self._upload, self._pool, self._size = upload, pool, work.part_size
        self._free = threading.Semaphore(work.concurrency)
        self._sent: list[Future[str]] = []
        self._blocks: list[Any] = []
        self._length = 0

    def write(self, block: bytes) -> None:
        """Take a block; waits while too many parts are under way."""
        if self._length + len(block) < self._size:
            self._blocks.append(block)
            self._length += len(block)
            return
        view = memoryview(block)
        room = self._size - self._length
        self._blocks.append(view[:room])
        self._flush(self._size)
        self._blocks, self._length = [], 0
        if room < len(block):
            self.write(view[room:])  # type: ignore[arg-type]

    def _flush(self, size: int) -> None:
        self._free.acquire()
        blocks = self._blocks
        number = len(self._sent) + 1

        def send(connection: HTTPConnection) -> str:
            few = len(blocks) <= size // BLOCK
            body = iter(blocks) if few else b"".join(blocks)
            try:
                return str(self._upload.part(number, body, size)(connection))
            finally:
                self._free.release()

        self._sent.append(self._pool.do(send))

    def close(self) -> None:
        """Send the last part and complete."""
        if self._blocks:
            self._flush(self._length)
        self._upload.end([future.result() for future in self._sent])


class Buffered:
    """The same, copying into buffers of one part: for writers that reuse theirs."""

    def __init__(self, upload: Multipart, pool: Pool, work: Work) -> None:
        self._upload, self._pool, self._size = upload, pool, work.part_size
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(work.concurrency + 1):
            self._free.put(bytearray(work.part_size))
        self._sent: list[Future[str]] = []
        self._buffer, self._length = self._free.get(), 0

    def write(self, block: bytes) -> None:
        """Take a block; waits while too many parts are under way."""
        view = memoryview(block)
        while view:
            step = min(len(view), self._size - self._length)
            self._buffer[self._length : self._length + step] = view[:step]
            self._length += step
            view = view[step:]
            if self._length == self._size:
                self._flush()
                self._buffer, self._length = self._free.get(), 0

    def _flush(self) -> None:
        buffer, size = self._buffer, self._length
        number = len(self._sent) + 1

        def send(connection: HTTPConnection) -> str:
            try:
                body = memoryview(buffer)[:size]
                return str(self._upload.part(number, body, size)(connection))
            finally:
                self._free.put(buffer)

        self._sent.append(self._pool.do(send))

    def close(self) -> None:
        """Send the last part and complete."""
        if self._length:
            self._flush()
        self._upload.end([future.result() for future in self._sent])


def _streaming(work: Work, where: Where, kind: Callable[..., Any]) -> Timed:
    pool = Pool(where, work.concurrency)
    upload = Multipart(where, pool)
    blocks = produce(work, where)

    def run() -> None:
        upload.begin()
        file = kind(upload, pool, work)
        write = file.write
        for block in blocks():
            write(block)
        file.close()

    return run


@candidate(
    "hand:overlap", verbs={"stream"}, note="keeps what is written: right for bytes only"
)
def overlap(work: Work, where: Where) -> Timed:
    """Parts in the background, of slices of what was written."""
    return _streaming(work, where, Overlap)


@candidate("hand:buffered", verbs={"stream"}, note="copies what is written once")
def buffered(work: Work, where: Where) -> Timed:
    """Parts in the background, of buffers."""
    return _streaming(work, where, Buffered)

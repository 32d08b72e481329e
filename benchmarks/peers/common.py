"""What several clients need: made-up keys, signed URLs, threads, a producer."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ..candidates import Timed, Where, offsets, produce
from ..ours import interpreters, presigner
from ..work import Work

KEY_ID = "LTAIfakeid"
SECRET = "fakesecret"  # noqa: S105 - made up
REGION = "cn-hangzhou"

T = TypeVar("T")


def signed(work: Work, where: Where) -> list[str]:
    """Return the signed URLs of the work's objects, as a signer hands them out."""
    method = "GET" if work.verb in ("get", "ranges") else "PUT"
    sign = presigner(where)
    count = work.count if work.verb == "small" else 1
    return [sign(method, where.key(index)) for index in range(count)]


def chosen(work: Work, verbs: Mapping[str, Timed]) -> Timed:
    """Return what does the work.

    Raises:
        ValueError: The candidate declares a verb that it has no function for.
    """
    if work.verb not in verbs:
        raise ValueError(f"no function for {work.verb}")
    return verbs[work.verb]


def trust(where: Where) -> None:
    """Let requests, and what is built on it, trust the authority of the sink."""
    if where.ca:
        os.environ["REQUESTS_CA_BUNDLE"] = where.ca


def in_threads(work: Work, call: Callable[[T], object], items: Iterable[T]) -> None:
    """Call it with each item, `concurrency` at once; the first error is raised."""
    with ThreadPoolExecutor(work.concurrency) as pool:
        for _ in pool.map(call, items):
            pass


def contents(path: str) -> bytes:
    """Read a small file."""
    with open(path, "rb") as file:
        return file.read()


def sections(work: Work) -> list[tuple[int, int]]:
    """Cut the object of the work in parts: (start, length) of each."""
    return [
        (start, min(work.part_size, work.size - start))
        for start in range(0, work.size, work.part_size)
    ]


def spans(work: Work) -> list[tuple[int, int]]:
    """Return the ranges of the work: (start, length) of each."""
    return [(start, work.block) for start in offsets(work)]


class Reader(io.RawIOBase):
    """The producer as a file, for a client that pulls and has no writer."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        """Take what `produce` made."""
        self._blocks = blocks
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Take from the block at hand; 0 when the producer has ended."""
        if not self._left:
            self._left = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def producer(work: Work, where: Where) -> Callable[[], Iterator[bytes]]:
    """Return what `produce` makes, and for any other verb nothing."""
    return produce(work, where) if work.verb == "stream" else lambda: iter(())


def pulled(work: Work, blocks: Iterator[bytes]) -> io.BufferedReader:
    """Return the producer as a file whose `read(n)` gives n bytes while there are."""
    return io.BufferedReader(Reader(blocks), max(work.block, io.DEFAULT_BUFFER_SIZE))


def started(work: Work, where: Where, code: str) -> Timed:
    """Time `code` in new interpreters, one after another.

    Args:
        work: How many, and how large the object is.
        where: What the code is told.
        code: It finds url, bucket, key, ca (None for plain http), signed (the URL for
            that PUT) and body.
    """
    told = (where.url, where.target, where.key(), where.ca, signed(work, where)[0])
    names = f"url, bucket, key, ca, signed = {told!r}; body = b'x' * {work.size}\n"
    return interpreters(names + code, work.count)

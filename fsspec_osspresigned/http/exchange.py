"""Exchange: what a request has besides its signature and its body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from attrs import field, frozen

MAX_REPLY = 8 * 1024 * 1024  # a listing of 1,000 keys of 1 KiB, URL-encoded, fits


class Sink(Protocol):
    """Protocol of a receiver of reply bodies; ``begin`` is called again for a retry."""

    def begin(self) -> object:
        """Discard the bytes written so far."""
        ...

    def write(self, block: bytes, /) -> object:
        """Write the next bytes of the body."""
        ...


@runtime_checkable
class JudgingSink(Sink, Protocol):
    """Protocol of a sink that checks the head of a reply before its body is read."""

    def head(self, status: int, headers: Mapping[str, str]) -> object:
        """Check the head of a reply; raise to skip its body."""
        ...


@frozen(kw_only=True, eq=False)
class Exchange:
    """Unsigned parts of a request, and limits for its exchange.

    Attributes:
        path: ``bucket/key`` for error messages; None if the request concerns no object.
        progress: called in worker threads with the number of bytes sent, and with a
            negative number after a failure.
        free_headers: unsigned headers, such as Range.
        sink: receives the body of a 2xx reply block by block; None keeps it in the
            reply.
        limit: maximum size of the reply's body in bytes; a longer body is an error, the
            body of an error is truncated.
        in_thread: a worker thread sends the request, because the reply may be large.
        is_fresh: the request opens a connection, because kept ones may be broken.
    """

    path: str | None = None
    with_crc: bool = False
    progress: Callable[[int], None] | None = None
    free_headers: Mapping[str, str] = field(factory=dict, repr=False)
    sink: Sink | None = None
    limit: int = MAX_REPLY
    in_thread: bool = False
    is_fresh: bool = False


PLAIN = Exchange()
FRESH = Exchange(is_fresh=True)

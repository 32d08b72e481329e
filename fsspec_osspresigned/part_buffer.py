"""Collects what is written, piece by piece, into parts of exactly their size.

Small writes are copied into buffers that are used again when their part is sent. Large
ones of bytes that nobody can change are kept as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from .body import BLOCK, PartBody
from .budget import Budget, Lease
from .model import KIB, MIB

_FIRST = 64 * KIB  # bytes of the first buffer: most files are small
_IDLE = 8  # buffers that wait for the next part: parts end in bursts
# Bytes after which a part is sent although it is not full, when memory is short; and up
# to which part, since there are 10,000.
_EARLY = MIB
_EARLY_PARTS = 2_000


class PartBuffer:
    """The part that is being written.

    Attributes:
        number: of the part, counted from 1.
        room: bytes that ``put`` takes at most.
        held: bytes of the part so far.

    Args:
        size_of: bytes of part *number*.
        memory: what the process uses for such buffers.
        limit: bytes of it from which on a part is sent early.
        early: whether parts may be smaller than they should be.
    """

    def __init__(
        self,
        size_of: Callable[[int], int],
        memory: Budget,
        *,
        limit: int,
        early: bool,
    ) -> None:
        """Hold nothing."""
        self.number = 1
        self.room = 0
        self.held = 0
        self._size_of = size_of
        self._size = size_of(1)
        self._memory = memory
        self._limit = limit
        self._early = early
        self._pieces: list[memoryview] = []
        self._lease: Lease | None = None
        self._chunk: memoryview | None = None  # of it, what is free begins at _end
        self._begin = self._end = 0
        self._idle: deque[tuple[memoryview, Lease]] = deque(maxlen=_IDLE)
        self._forgotten = False

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits into the part."""
        return self.held >= self._size

    def put(self, view: memoryview, size: int) -> None:
        """Copy *view*, whose *size* bytes are less than ``room``, or fill it."""
        end = self._end + size
        self._chunk[self._end : end] = view  # type: ignore[index]  # there is room
        self._end = end
        self.held += size
        self.room -= size

    def take(self, view: memoryview, *, whole: int | None) -> int:
        """Take some bytes of *view* and return how many; 0 if the part is to be sent.

        Args:
            view: bytes.
            whole: bytes of the object that would be kept with them; None if somebody
                can change it.
        """
        left = self._size - self.held
        size = min(left, view.nbytes)
        if (
            whole is not None
            and size >= BLOCK
            and (size == left or whole <= self._size)
        ):
            self._end_piece()
            self._pieces.append(view[:size])
            self._use(size)
            self.held += size
            self.room = min(self.room, self._size - self.held)
            return size
        if not self.room and not self._make_room(left):
            return 0
        size = min(size, self.room)
        self.put(view[:size], size)
        return size

    def body(self) -> PartBody:
        """Return the part, and begin the next one."""
        self._end_piece()
        chunk, lease = self._chunk, self._lease
        given_back: Callable[[], object] | None = None
        if chunk is not None and lease is not None and len(self._pieces) == 1:
            given_back = partial(self._give_back, chunk, lease)
        body = PartBody(tuple(self._pieces), self.held, given_back, lease)
        self._drop()
        self.number += 1
        self._size = self._size_of(self.number)
        return body

    def forget(self) -> None:
        """Drop the part and all buffers, and those that are still in use after that."""
        self._forgotten = True
        self._drop()
        self._idle.clear()

    def _drop(self) -> None:
        self._pieces = []
        self._lease = self._chunk = None
        self.held = self.room = self._begin = self._end = 0

    def _make_room(self, left: int) -> bool:
        """Return whether there is a new buffer for more of the part."""
        self._end_piece()
        short = self._early and self._memory.used >= self._limit
        if short and self.held >= _EARLY and self.number <= _EARLY_PARTS:
            return False
        if not self.held and self._idle:
            chunk, self._lease = self._idle.pop()
        else:
            size = left
            if self.number == 1 or short:
                size = min(left, max(_FIRST, self.held))
            chunk = memoryview(bytearray(size))
            self._use(size)
        self._chunk = chunk
        self._begin = self._end = 0
        self.room = min(left, chunk.nbytes)
        return True

    def _give_back(self, chunk: memoryview, lease: Lease) -> None:
        """Keep a buffer, which counts as used on, unless memory is short."""
        if self._memory.used <= self._limit:
            self._idle.append((chunk, lease))
        if self._forgotten:
            self._idle.clear()

    def _end_piece(self) -> None:
        if self._chunk is not None and self._end > self._begin:
            self._pieces.append(self._chunk[self._begin : self._end])
            self._begin = self._end

    def _use(self, size: int) -> None:
        if self._lease is None:
            self._lease = Lease(self._memory, size)
        else:
            self._lease.more(size)

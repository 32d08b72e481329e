"""Collects what is written, piece by piece, into parts of exactly their size.

Bytes that nobody can change are kept as they are, unless they are so few that to copy
them is cheaper; all others are copied into buffers that are used again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from ..concurrency.budget import Budget, Lease
from ..http.body import PartBody
from ..units import KIB, MIB

KEPT = 4 * KIB  # bytes from which on to keep an object costs less than to copy it
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
        room: bytes that ``put`` takes.
        pieces: of the part. Whoever has bytes that nobody can change, fewer than
            *free*, may append them, and must take their number off *free*.
        free: bytes that may be appended; none behind what was copied last.

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
        self.room = self.free = 0
        self.pieces: list[memoryview | bytes] = []
        self._size_of = size_of
        self._size = size_of(1)
        self._memory = memory
        self._limit = limit
        self._early = early
        self._held = 0  # bytes when `free` was looked at last, which was this then
        self._free = 0
        self._spare = 0  # bytes that count as used, and are not free now
        self._lease: Lease | None = None
        self._chunk: memoryview | None = None  # of it, what is free begins at _end
        self._begin = self._end = 0
        self._idle: deque[tuple[memoryview, Lease]] = deque(maxlen=_IDLE)
        self._forgotten = False

    @property
    def held(self) -> int:
        """Bytes of the part so far."""
        return self._held + self._free - self.free

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits into the part."""
        return self.held >= self._size

    def put(self, data: memoryview | bytes, size: int) -> None:
        """Copy *data*, whose *size* bytes are less than ``room``, or fill it."""
        if self._free:
            self._let(0)
        end = self._end + size
        self._chunk[self._end : end] = data  # type: ignore[index]  # there is room
        self._end = end
        self._held += size
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
        if whole is not None and size >= KEPT and (size == left or whole <= self._size):
            self._end_piece()
            if not self._make_free(size, left):
                return 0
            self.pieces.append(view[:size])
            self.free -= size
            self.room = 0
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
        if chunk is not None and lease is not None and self._end == self.held > 0:
            given_back = partial(self._give_back, chunk, lease)
        body = PartBody(tuple(self.pieces), self.held, given_back, lease)
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
        self.pieces = []
        self._lease = self._chunk = None
        self.room = self.free = self._begin = self._end = 0
        self._held = self._free = self._spare = 0

    def _make_free(self, size: int, left: int) -> bool:
        """Return whether *size* bytes more may be kept, and some behind them."""
        have = self.free + self._spare
        if have < size:
            more = self._more(left)
            if not more:
                return False
            self._use(max(more, size) - have)
            self._spare += max(more, size) - have
        self._let(min(self.free + self._spare, left))
        return True

    def _let(self, free: int) -> None:
        """Have *free* bytes free, of those that count as used already."""
        self._held += self._free - self.free
        self._spare += self.free - free
        self.free = self._free = free

    def _make_room(self, left: int) -> bool:
        """Return whether there is a buffer for more of the part."""
        self._end_piece()
        if self._chunk is None or self._end == self._chunk.nbytes:
            size = self._more(left)
            if not size:
                return False
            if not self.held and self._idle:
                self._chunk, self._lease = self._idle.pop()
            else:
                self._chunk = memoryview(bytearray(size))
                self._use(size)
            self._begin = self._end = 0
        self.room = min(left, self._chunk.nbytes - self._end)
        return True

    def _more(self, left: int) -> int:
        """Return for how many bytes there may be memory now; 0 if the part is to go."""
        short = self._early and self._memory.used >= self._limit
        if short and self.held >= _EARLY and self.number <= _EARLY_PARTS:
            return 0
        if self.number == 1 or short:
            return min(left, max(_FIRST, self.held))
        return left

    def _give_back(self, chunk: memoryview, lease: Lease) -> None:
        """Keep a buffer, which counts as used on, unless memory is short."""
        if self._memory.used <= self._limit:
            self._idle.append((chunk, lease))
        if self._forgotten:
            self._idle.clear()

    def _end_piece(self) -> None:
        if self._chunk is not None and self._end > self._begin:
            self.pieces.append(self._chunk[self._begin : self._end])
            self._begin = self._end

    def _use(self, size: int) -> None:
        if self._lease is None:
            self._lease = Lease(self._memory, size)
        else:
            self._lease.more(size)

"""Part buffer: collects written bytes into parts of the planned size.

Immutable bytes are kept without a copy, unless they are so few that copying is cheaper.
Other bytes are copied into reusable buffers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ..engine.limits import MemoryAccount, MemoryBudget
from ..http.body import PartBody
from ..units import KIB

KEPT = 4 * KIB  # bytes from which on to keep an object costs less than to copy it
_FIRST = 64 * KIB  # bytes of the first buffer: most files are small
_IDLE = 8  # buffers that wait for the next part: parts end in bursts


class PartBuffer:
    """Buffer of the next part: objects kept without a copy, and a chunk for copies.

    At most one of ``_room`` and ``free`` is positive. So two copies in a row, or two kept
    objects in a row, need one check of memory.

    All buffers of *memory* may use *limit* bytes together. *size_of* returns the size in
    bytes of a part, by its number from 1. *early* returns the smallest size that the
    part may have if memory is short, or None if it must have its planned size. *wait*
    gets a condition, and returns when it holds, or no part of this file is in flight.
    """

    def __init__(
        self,
        size_of: Callable[[int], int],
        memory: MemoryBudget,
        *,
        limit: int,
        early: Callable[[int], int | None],
        wait: Callable[[Callable[[], bool]], object],
    ) -> None:
        self.number = 1  # of the part
        self._size_of = size_of
        self._account, self._limit = MemoryAccount(memory), limit
        self._early, self._wait = early, wait
        self._idle: deque[memoryview] = deque()  # chunks for later parts
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._size = self._size_of(self.number)
        self.pieces: list[memoryview | bytes] = []  # what was written so far, in order
        self._filling = 0  # bytes of memory that are counted for the part
        self._copied = 0  # bytes of the part that are copies
        self._leased = 0  # bytes that kept pieces may have in all
        # Bytes of immutable objects that the caller may append to *pieces* without a
        # check of memory; the caller subtracts them. ``_max_kept`` has the kept ones, too.
        self.free = self._max_kept = 0
        self._room = 0  # bytes that may be copied now without a check of memory
        self._chunk: memoryview | None = None
        self._begin = self._end = 0  # of the copied bytes that are no piece yet

    @property
    def held(self) -> int:
        """Number of bytes in the part so far."""
        return self._kept + self._copied

    @property
    def _kept(self) -> int:
        return self._max_kept - self.free

    def copy(self, data: memoryview | bytes, size: int) -> bool:
        """Append a copy of *data*, which has *size* bytes; return False if it does not fit.

        False also means that ``fill`` must first make room, which may take memory.
        """
        if not 0 < size <= self._room:
            return False
        end = self._end + size
        self._chunk[self._end : end] = data  # type: ignore[index]  # there is room
        self._end = end
        self._copied += size
        self._room -= size
        return True

    def fill(self, view: memoryview, *, whole: int | None) -> int:
        """Append some bytes of *view*, and return their number; 0 if the part must be sent.

        If it must be sent although it is not full, memory is short: the caller then
        sends it with the next ``lacking`` bytes of *view*, and waits until it is stored.

        *whole* is the size of the immutable object that contains *view*; None if the
        bytes of *view* can change.
        """
        lacking = self.lacking
        size = min(lacking, view.nbytes)
        if not size:
            return 0
        is_kept = whole is not None and (size == lacking or whole <= self._size)
        if is_kept and size >= KEPT and self._make_free(size, lacking):
            kept = self._kept + size
            self.pieces.append(view[:size])
            self.free = min(self._leased - kept, lacking - size)
            self._max_kept = kept + self.free
            return size
        if not self._room and not self._make_room(size, lacking):
            return 0
        size = min(size, self._room)
        self.copy(view[:size], size)
        return size

    @property
    def lacking(self) -> int:
        """Number of bytes until the part is full."""
        return self._size - self.held

    def take(self, last: memoryview | None = None) -> PartBody:
        """Return the collected part, and start the next one.

        *last* are more bytes of the part, which are not copied.
        """
        self._end_piece()
        chunk, size = self._chunk, self.held
        is_whole = chunk is not None and chunk.nbytes == self._filling
        again = chunk if is_whole and self._end == size else None
        given_back = partial(self._give_back, self._filling, again)
        if last is not None:
            self.pieces.append(last)
            size += last.nbytes
        body = PartBody(tuple(self.pieces), size, given_back)
        self.number += 1
        self._reset()
        return body

    def close(self) -> None:
        """Free the part and all idle chunks; those of parts in flight when they return."""
        self._closed = True
        self._account.add(-self._filling)
        self._reset()
        self._free_idle()

    def end(self) -> None:
        """Close the buffer after the end of the upload, and count none of its memory."""
        self.close()
        self._account.close()

    def _make_free(self, size: int, lacking: int) -> bool:
        """Lease memory to keep *size* more bytes without a copy; return False without room.

        *lacking* is the number of bytes until the part is full.
        """
        self._end_piece()
        short = size - (self._leased - self._kept)
        if short > 0:
            taken = self._take_room(short, lacking - size + short)
            if not taken:
                return False
            self._leased += taken
        self._room = 0
        return True

    def _make_room(self, size: int, lacking: int) -> bool:
        """Take a new chunk if this one is full; return False if the part must be sent."""
        self._end_piece()
        if self._chunk is None or self._end == self._chunk.nbytes:
            if not self.held and self._idle:
                self._chunk = self._idle.pop()
                self._filling = self._chunk.nbytes
            else:
                taken = self._take_room(1, lacking) or self._take_min(size, lacking)
                if not taken:
                    return False
                self._chunk = memoryview(bytearray(taken))
            self._begin = self._end = 0
        self._room = min(lacking, self._chunk.nbytes - self._end)
        self._max_kept, self.free = self._kept, 0
        return True

    def _take_room(self, min_size: int, max_size: int) -> int:
        """Lease memory for *min_size* to *max_size* bytes; return how many, 0 without room.

        Without room, first wait for parts of this file.
        """
        doubled = min(max_size, max(_FIRST, self.held, min_size))
        usual = doubled if self.number == 1 else max_size
        if not self._reserve(usual):
            self._free_idle()
            # For parts of this file only: one thread may write to all files.
            self._wait(lambda: self._has_room(usual))
            if not self._reserve(usual):
                return doubled if doubled < usual and self._reserve(doubled) else 0
        return usual

    def _take_min(self, size: int, lacking: int) -> int:
        """Lease memory beyond the limit, and return how many bytes.

        Return 0 if the part, with the next *size* bytes, is large enough to be sent.
        """
        early = self._early(self.number)
        if early is None:
            taken = min(lacking, max(_FIRST, self.held))
        elif self.held + size >= early:
            return 0
        else:
            taken = min(lacking, _FIRST, early - self.held)
        self._account.add(taken)
        self._filling += taken
        return taken

    def _has_room(self, size: int) -> bool:
        return self._account.has_room(size, self._limit)

    def _reserve(self, size: int) -> bool:
        if has_room := self._account.reserve(size, self._limit):
            self._filling += size
        return has_room

    def _give_back(self, size: int, chunk: memoryview | None) -> None:
        # *chunk* is None unless it is all of the part's memory.
        self._account.add(-size)
        if (
            chunk is not None
            and len(self._idle) < _IDLE
            and self._account.reserve(size, self._limit)
        ):
            self._idle.append(chunk)
        if self._closed:
            self._free_idle()

    def _free_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._account.add(-self._idle.pop().nbytes)

    def _end_piece(self) -> None:
        if self._chunk is not None and self._end > self._begin:
            self.pieces.append(self._chunk[self._begin : self._end])
            self._begin = self._end

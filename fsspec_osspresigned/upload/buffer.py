"""Part buffer: collects written bytes into parts of the planned size.

Immutable bytes are kept without a copy, except small ones, which are cheaper to copy.
Other bytes are copied into chunks of memory.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..engine.engine import run
from ..engine.limits import MemoryAccount, memory_budget
from ..http.body import PartBody
from ..units import KIB

if TYPE_CHECKING:
    from .upload import Upload

KEPT = 4 * KIB  # minimum bytes for which keeping an object costs less than copying it
_FIRST = 64 * KIB  # bytes of the first buffer; small, because most files are small


class PartBuffer:
    """Buffer for the next part: objects that are kept, and a chunk for copies.

    At most one of ``_room`` and ``free`` is positive. So two copies in a row, or two
    kept objects in a row, need only one memory check.

    The buffers of all open files share the memory of the process. If memory is short,
    the buffer waits for the parts of *upload* that are in flight.
    """

    def __init__(self, upload: Upload) -> None:
        self.number = 1  # number of the part
        self._upload, self._limit = upload, upload.memory_limit
        self._account = MemoryAccount(memory_budget())
        self._reset()

    def _reset(self) -> None:
        self._size = self._upload.plan.size_of(self.number)
        self.pieces: list[memoryview | bytes] = []  # what was written so far, in order
        self._filling = 0  # bytes of memory that are reserved for the part
        self._copied = 0  # bytes of the part that were copied
        self._leased = 0  # maximum bytes of all kept pieces
        # Bytes of immutable objects that the caller may append to *pieces* without a
        # memory check; the caller subtracts what it appends. ``_max_kept`` also
        # includes the pieces already kept.
        self.free = self._max_kept = 0
        self._room = 0  # bytes that may be copied now without a memory check
        self._chunk: memoryview | None = None
        # range of copied bytes that are not in *pieces* yet
        self._begin = self._end = 0

    @property
    def held(self) -> int:
        """Number of bytes in the part so far."""
        return self._kept + self._copied

    @property
    def _kept(self) -> int:
        return self._max_kept - self.free

    def copy(self, data: memoryview | bytes, size: int) -> bool:
        """Append a copy of *data*, which has *size* bytes; return False if it does not fit.

        It also returns False if ``fill`` must first make room.
        """
        if not 0 < size <= self._room:
            return False
        end = self._end + size
        self._chunk[self._end : end] = data  # type: ignore[index]  # there is a chunk if there is room
        self._end = end
        self._copied += size
        self._room -= size
        return True

    def fill(self, view: memoryview, *, whole: int | None) -> int:
        """Append some bytes of *view*, and return their number; 0 if the part must be sent.

        If memory is short, a part may have to be sent before it is full. Then the
        caller sends it with the next ``lacking`` bytes of *view*, and waits until it is
        stored.

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

        *last* are further bytes of the part, which are not copied.
        """
        self._end_piece()
        size = self.held
        given_back = partial(self._account.add, -self._filling)
        if last is not None:
            self.pieces.append(last)
            size += last.nbytes
        body = PartBody(tuple(self.pieces), size, given_back)
        self.number += 1
        self._reset()
        return body

    def close(self) -> None:
        """Free the part; parts in flight are freed when they have been sent."""
        self._account.add(-self._filling)
        self._reset()

    def end(self) -> None:
        """Close the buffer after the upload has ended, and stop counting its memory."""
        self.close()
        self._account.close()

    def _make_free(self, size: int, lacking: int) -> bool:
        """Lease memory to keep *size* more bytes; return False if there is no room.

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
            taken = self._take_room(1, lacking) or self._take_min(size, lacking)
            if not taken:
                return False
            self._chunk = memoryview(bytearray(taken))
            self._begin = self._end = 0
        self._room = min(lacking, self._chunk.nbytes - self._end)
        self._max_kept, self.free = self._kept, 0
        return True

    def _take_room(self, min_size: int, max_size: int) -> int:
        """Lease memory for *min_size* to *max_size* bytes; return its size, or 0.

        If there is no room, first wait for parts of this file.
        """
        doubled = min(max_size, max(_FIRST, self.held, min_size))
        usual = doubled if self.number == 1 else max_size
        if not self._reserve(usual):
            # Wait only for parts of this file, because one thread may write to several
            # files.
            run(self._upload.wait_for_memory, lambda: self._has_room(usual))
            if not self._reserve(usual):
                return doubled if doubled < usual and self._reserve(doubled) else 0
        return usual

    def _take_min(self, size: int, lacking: int) -> int:
        """Lease memory beyond the limit, and return its size in bytes.

        Return 0 if the part, with the next *size* bytes, is large enough to be sent.
        """
        early = self._upload.plan.early_size(self.number)
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

    def _end_piece(self) -> None:
        if self._chunk is not None and self._end > self._begin:
            self.pieces.append(self._chunk[self._begin : self._end])
            self._begin = self._end

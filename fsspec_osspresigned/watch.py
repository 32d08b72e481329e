"""How long nothing may move on a connection: slow is fine, stalled is not."""

from __future__ import annotations

import enum
import fcntl
import math
import sys
import time
from collections.abc import Callable
from typing import Any

# Bytes a second below which a connection counts as stalled. Sixteen connections that
# share an uplink of 64 kbit/s are faster.
SLOWEST = 256.0


class Phase(enum.Enum):
    """What a connection was doing when time ran out."""

    CONNECT = "connecting"
    SEND = "sending"
    WAIT = "waiting for the answer"
    READ = "reading the answer"


class StalledError(TimeoutError):
    """Too few bytes moved in time."""

    def __init__(
        self, phase: Phase, seconds: float, moved: int, *, late: bool = False
    ) -> None:
        """Keep in which phase, the length of the window, and the bytes of the phase.

        *late* if it is the end of the whole request that was reached.
        """
        super().__init__(f"{seconds:g} s without progress while {phase.value}")
        self.late = late
        self.phase = phase
        self.seconds = seconds
        self.moved = moved


class Watch:
    """Tells a slow connection from a stalled one.

    Only time spent in the system counts, so that a slow source or sink is not taken for
    a slow network. A window ends well as soon as enough bytes have moved.

    Attributes:
        seconds: length of a window; ``inf`` waits for ever.
        phase: what the connection does.
        sliced: whether a call that ran into its timeout may be made again.
        until: when the request must be over, however well it moves; on the clock of
            ``time.monotonic``.
        moved: bytes of this phase.
    """

    def __init__(self, seconds: float, phase: Phase) -> None:
        """Begin *phase*, with windows of so many *seconds*."""
        self.seconds = seconds
        self.sliced = False
        self.until = math.inf
        self.enter(phase)

    def enter(self, phase: Phase) -> None:
        """Begin a phase, and a window with it."""
        self.phase = phase
        self.moved = self._fresh = 0
        self._waited = 0.0
        self._queued: int | None = None

    def run(self, sock: Any, step: Callable[[Any], int], view: Any) -> int:
        """Return what *step* (send or receive) makes of *view*, however slow it is.

        Raises:
            StalledError: too few bytes moved within the window.
        """
        while True:
            started = time.monotonic()
            late = started >= self.until
            if late or self._waited >= self.seconds:
                raise StalledError(self.phase, self.seconds, self.moved, late=late)
            try:
                count = step(view)
            except (TimeoutError, BlockingIOError):  # the system says EAGAIN
                self._waited += time.monotonic() - started
                if not self.sliced:
                    self._waited = self.seconds
                queued = _queued(sock)
                if self._queued is not None:
                    # Megabytes may wait in the system while it delivers them slowly.
                    self._progress(max(0, self._queued - queued))
                self._queued = queued
                continue
            self._waited += time.monotonic() - started
            self.moved += count
            self._progress(count)
            return count

    def _progress(self, count: int) -> None:
        self._fresh += count
        if self._fresh >= SLOWEST * self.seconds:
            self._fresh = 0
            self._waited = 0.0


def _queued(sock: Any) -> int:
    """Return the bytes that the peer has not confirmed; 0 if the system hides them."""
    import termios  # noqa: PLC0415 - only where nothing moves

    try:
        packed = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(packed, sys.byteorder)

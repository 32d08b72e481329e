"""Progress timeout: distinguishes a stalled connection from a slow one."""

from __future__ import annotations

import enum
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from .awake_clock import AWAKE

# Bytes a second below which a connection counts as stalled. Sixteen connections that
# share an uplink of 64 kbit/s are faster.
SLOWEST = 256.0


class Phase(enum.Enum):
    """Phase of a request, named in the error message if the connection stalls."""

    CONNECT = "connecting"
    SEND = "sending"
    WAIT = "waiting for the answer"
    READ = "reading the answer"


class StalledError(TimeoutError):
    """Too few bytes moved within a window, or the deadline has passed (*late*)."""

    def __init__(
        self, phase: Phase, seconds: float, moved: int, *, late: bool = False
    ) -> None:
        super().__init__(f"{seconds:g} s without progress while {phase.value}")
        self.phase, self.seconds, self.moved, self.late = phase, seconds, moved, late


class ProgressTimer:
    """Enforces a minimum transfer rate of one connection.

    Only time spent in system calls counts, so a slow source or sink is not mistaken for
    a slow network. A new window starts as soon as enough bytes have moved.

    Attributes:
        seconds: length of a window; ``inf`` is no limit.
        sliced: whether a system call may be repeated after its timeout.
        deadline: time by which the request must end, by ``time.monotonic``.
        moved: bytes moved in this phase.
    """

    def __init__(self, seconds: float, phase: Phase, *, sliced: bool = False) -> None:
        self.seconds = seconds
        self.sliced = sliced
        self.deadline = self._latest = math.inf
        self._allowance = math.inf
        self.enter(phase)

    def enter(self, phase: Phase) -> None:
        """Begin a phase and a new window."""
        self.phase = phase
        self.moved = self._fresh = 0
        self._waited = 0.0
        self._queued: int | None = None

    def expect_answer(self, seconds: float) -> None:
        """Begin to wait for an answer, which must be complete within *seconds*.

        The time begins anew while the system still delivers the request.
        """
        self.enter(Phase.WAIT)
        self._latest, self._allowance = self.deadline, seconds
        self.deadline = min(self._latest, time.monotonic() + seconds)

    def run(self, sock: Any, step: Callable[[Any], Any], argument: Any) -> Any:
        """Return ``step(argument)``, a call on *sock* that sends or receives bytes.

        Raises StalledError if too few bytes moved within the window.
        """
        while True:
            started = AWAKE.step(self.seconds)
            self._check(started)
            try:
                result = step(argument)
            except (TimeoutError, BlockingIOError):  # the system says EAGAIN
                spent = time.monotonic() - started
                self._wait(sock, spent if self.sliced else self.seconds)
                continue
            moved = result if isinstance(result, int) else len(result)
            if moved < SLOWEST * self.seconds:  # else a new window starts now
                self._waited += time.monotonic() - started
            self.count(moved)
            return result

    def wait(self, sock: Any, seconds: float) -> None:
        """Count *seconds* of waiting for *sock*; raises StalledError like ``run``."""
        self._wait(sock, seconds)
        self._check(time.monotonic())

    def count(self, moved: int) -> None:
        """Count bytes that were sent or received."""
        self.moved += moved
        self._progress(moved)

    def _check(self, now: float) -> None:
        late = now >= self.deadline
        if late or self._waited >= self.seconds:
            raise StalledError(self.phase, self.seconds, self.moved, late=late)

    def _wait(self, sock: Any, seconds: float) -> None:
        self._waited += seconds
        queued = unconfirmed_bytes(sock)
        if self._queued is not None:
            # Megabytes may wait in the system while it delivers them slowly.
            self._progress(max(0, self._queued - queued))
            if self.phase is Phase.WAIT and queued < self._queued:
                later = time.monotonic() + self._allowance
                self.deadline = min(self._latest, later)
        self._queued = queued

    def _progress(self, count: int) -> None:
        self._fresh += count
        if self._fresh >= SLOWEST * self.seconds:
            self._fresh = 0
            self._waited = 0.0


def unconfirmed_bytes(sock: Any) -> int:
    """Return the number of sent bytes without acknowledgement; 0 if it is unknown."""
    try:
        import fcntl  # noqa: PLC0415 - only where nothing moves
        import termios  # noqa: PLC0415 - only where nothing moves

        packed = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ImportError):
        return 0
    return int.from_bytes(packed, sys.byteorder)

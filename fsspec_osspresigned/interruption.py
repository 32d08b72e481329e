"""Ctrl-C: the first one ends a command in good order, the second one at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from .exit_code import ExitCode

_SAID = b"\nending: Ctrl-C again ends at once\n"


@contextlib.contextmanager
def interruptible(*stop: Callable[[], object]) -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt, and the second end the process.

    Does nothing where the program handles SIGINT by itself, and in other threads than
    the main one. After a first Ctrl-C it stays so to the end of the process, which may
    still have uploads to give up.

    Args:
        stop: called at the first one, such as what releases those who wait; must not
            take a lock.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return

    def first(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, _at_once)
        with contextlib.suppress(OSError):
            os.write(2, _SAID)
        for one in stop:
            one()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _at_once(_: int, __: FrameType | None) -> None:
    os._exit(ExitCode.INTERRUPTED)

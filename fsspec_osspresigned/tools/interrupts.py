"""Ctrl-C and SIGTERM during a command."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from ..engine import abort_at_exit
from .failures import ExitCode


@contextlib.contextmanager
def interruptible(
    *stop: Callable[[], object], at_sigterm: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Within the block, make the first Ctrl-C raise KeyboardInterrupt.

    The second Ctrl-C ends the process immediately, also after the block, where uploads
    may still be aborted. The first Ctrl-C and SIGTERM call *stop* in the signal
    handler; *stop* must not take a lock. SIGTERM then aborts the uploads, and calls
    *at_sigterm* in a thread before it ends the process. No signal changes outside the
    main thread, or if the program handles SIGINT itself.
    """
    at_interrupt = signal.getsignal(signal.SIGINT)
    if (
        threading.current_thread() is not threading.main_thread()
        or at_interrupt not in (signal.default_int_handler, signal.SIG_IGN)
    ):
        yield
        return

    def halt(message: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(2, message)
        for call in stop:
            call()

    def first(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(ExitCode.INTERRUPTED))
        halt(b"\nstopping: press Ctrl-C again to quit at once\n")
        raise KeyboardInterrupt

    def terminated(number: int, _: FrameType | None) -> None:
        halt(b"\nterminated: unfinished uploads are discarded\n")
        abort_at_exit.terminate(number, then=at_sigterm)

    usual = signal.SIG_DFL, abort_at_exit.terminate
    handles_sigterm = signal.getsignal(signal.SIGTERM) in usual
    if handles_sigterm:
        signal.signal(signal.SIGTERM, terminated)
    if at_interrupt is not signal.SIG_IGN:
        # a script that runs in the background ignores SIGINT
        signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if handles_sigterm and signal.getsignal(signal.SIGTERM) is terminated:
            signal.signal(signal.SIGTERM, abort_at_exit.terminate)
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, signal.default_int_handler)

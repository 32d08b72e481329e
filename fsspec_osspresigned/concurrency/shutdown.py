"""The multipart uploads that this process has begun: none may outlive it unseen.

Parts of an upload that nobody ends cost storage until its owner removes them. Failure
and discard end it where they happen; this module is for the end of the process.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
import weakref
from types import FrameType
from typing import Protocol

_log = logging.getLogger(__name__)

# Seconds for all uploads together; what is not ended by then is left to its owner.
_PATIENCE = 10.0


class Unfinished(Protocol):
    """An upload that can be given up, at any time and more than once."""

    def discard(self, *, hurry: bool) -> None:
        """Remove its parts, if it has not ended yet."""
        ...


_begun: weakref.WeakSet[Unfinished] = weakref.WeakSet()


def add(upload: Unfinished) -> None:
    """Remember *upload* as long as somebody else does."""
    _begun.add(upload)
    watch()


def watch() -> None:
    """See to it that SIGTERM ends the uploads before it ends the process.

    Only where Python leaves SIGTERM to the system, and only from the main thread, which
    alone may: a program that handles the signal itself is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


@atexit.register
def end_all() -> None:
    """Give all unfinished uploads up; takes about ten seconds at most.

    One after the other, for no thread can be started when the interpreter ends.
    """
    end = time.monotonic() + _PATIENCE
    left = list(_begun)
    while left and time.monotonic() < end:
        upload = left.pop()
        try:
            upload.discard(hurry=True)
        except Exception as error:  # noqa: BLE001 - the others are to end all the same
            _log.warning("an unfinished upload could not be given up: %s", error)
    if left:
        _log.warning("%d unfinished uploads were left as they are", len(left))


def _terminate(number: int, _: FrameType | None) -> None:
    """End the uploads, then let the signal do what it would have done."""
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    try:
        end_all()
    finally:
        os.kill(os.getpid(), number)

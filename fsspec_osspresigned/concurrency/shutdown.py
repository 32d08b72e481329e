"""Shutdown: unfinished multipart uploads are aborted when the process ends.

The parts of an upload that is never ended cost storage until its owner removes them.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterable
from types import FrameType
from typing import Protocol

_log = logging.getLogger(__name__)


class Abortable(Protocol):
    """An upload that can be discarded, at any time and more than once."""

    def discard(self, *, hurry: bool) -> None:
        """Remove its parts, if it has not ended yet."""
        ...


_begun: weakref.WeakSet[Abortable] = weakref.WeakSet()


def add(upload: Abortable) -> None:
    """Abort *upload* at the end of the process, unless it is deleted before."""
    _begun.add(upload)
    watch()


def watch() -> None:
    """Make SIGTERM abort the uploads before it ends the process.

    Only the main thread may set a handler, and one of the program itself is kept.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


@atexit.register
def end_all(seconds: float = 10.0, uploads: Iterable[Abortable] = _begun) -> None:
    """Abort all unfinished uploads, or what *seconds* suffice for; leave the others.

    One after the other, because no thread can be started when the interpreter ends.
    """
    end = time.monotonic() + seconds
    left = list(uploads)
    while left and time.monotonic() < end:
        upload = left.pop()
        try:
            upload.discard(hurry=True)
        except Exception as error:  # noqa: BLE001 - the others are to end all the same
            _log.warning("an unfinished upload could not be given up: %s", error)
    if left:
        _log.warning("%d unfinished uploads were left as they are", len(left))


def _terminate(number: int, _: FrameType | None) -> None:
    """Abort the uploads, then let the signal end the process."""
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    try:
        end_all()
    finally:
        os.kill(os.getpid(), number)

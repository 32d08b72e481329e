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

from ..errors import UploadDiscardedError

_log = logging.getLogger(__name__)


class Abortable(Protocol):
    """An upload that can be discarded, at any time and more than once."""

    @property
    def is_over(self) -> bool:
        """True if it is stored, or was given up and has no parts any more."""
        ...

    def stop(self) -> None:
        """Send no more of it; never waits."""
        ...

    def discard(self, *, hurry: bool) -> None:
        """Remove its parts, if it has not ended yet."""
        ...


_GLANCE = 0.05
_LIMIT = 12.0  # seconds from SIGTERM to the end of the process, at most
_begun: weakref.WeakSet[Abortable] = weakref.WeakSet()
_terminating = threading.Event()


def add(upload: Abortable) -> None:
    """Abort *upload* if the process ends before it is over.

    Raises:
        UploadDiscardedError: SIGTERM has come; nothing is begun any more.
    """
    if is_terminating():
        raise UploadDiscardedError("SIGTERM ends this process: nothing more is begun")
    _begun.add(upload)
    watch()


def is_terminating() -> bool:
    """Return whether SIGTERM has come, so that nothing more should be begun."""
    return _terminating.is_set()


def watch() -> None:
    """Make SIGTERM abort the uploads before it ends the process.

    Only the main thread may set a handler, and one of the program itself is kept.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)


@atexit.register
def end_all(seconds: float = _LIMIT - 2, uploads: Iterable[Abortable] = _begun) -> None:
    """Abort all unfinished uploads, or what *seconds* suffice for; leave the others.

    One after the other, because no thread can be started when the interpreter ends.
    Uploads that other threads begin meanwhile are aborted, too.
    """
    end = time.monotonic() + seconds
    failed: list[Abortable] = []
    while left := [one for one in uploads if not (one.is_over or one in failed)]:
        for upload in left:
            upload.stop()
        for upload in left:
            if time.monotonic() >= end:
                text = "%d unfinished uploads were left as they are"
                _log.warning(text, sum(not one.is_over for one in left))
                return
            try:
                upload.discard(hurry=True)
            except Exception as error:  # noqa: BLE001 - the others are to end all the same
                _log.warning("an unfinished upload could not be given up: %s", error)
                failed.append(upload)
        if not all(one.is_over for one in left):
            time.sleep(_GLANCE)  # other threads are at them


def terminate(number: int, _: FrameType | None = None) -> None:
    """Abort the uploads, then let the signal end the process.

    The code that the signal interrupted may hold any lock. So a thread does the work, and
    is waited for with a limit.
    """
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    _terminating.set()
    try:
        ending = threading.Thread(target=end_all, daemon=True)
        ending.start()
    except RuntimeError:  # no thread can be started
        end_all()
    else:
        ending.join(_LIMIT)
    finally:
        os.kill(os.getpid(), number)
        _terminating.clear()  # something has kept the process alive

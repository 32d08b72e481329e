"""Abort at exit: unfinished multipart uploads are aborted when the process ends.

The parts of an unfinished upload cost storage until the owner removes them.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Protocol

from ..errors import UploadDiscardedError
from . import background
from .engine import in_waiting_thread

_log = logging.getLogger(__name__)


class Abortable(Protocol):
    """Protocol of an upload or a temporary file, which must not outlive the process."""

    @property
    def is_over(self) -> bool:
        """True if the process could end now and leave nothing behind."""
        ...

    def stop(self) -> None:
        """Begin to remove everything that would be left; does not wait, idempotent."""
        ...


TERMINATED = "SIGTERM ends this process: no new transfer begins"
_POLL_INTERVAL = 0.05  # seconds between two checks for SIGTERM
_TIMEOUT = 12.0  # maximum of seconds from SIGTERM to the end of the process
_LOG_TIMEOUT = 1.0  # seconds to write the engine's last log records
_begun: weakref.WeakSet[Abortable] = weakref.WeakSet()
is_terminating = False


def add(upload: Abortable) -> None:
    """Register *upload*, to abort it if the process ends first.

    Raises:
        UploadDiscardedError: SIGTERM was received, so no upload can begin.
    """
    refuse_if_terminating()
    _begun.add(upload)
    in_waiting_thread(watch)  # only the main thread can set signal handlers


def refuse_if_terminating(path: str | None = None) -> None:
    """Raise UploadDiscardedError for *path* if SIGTERM was received."""
    if is_terminating:
        raise UploadDiscardedError(TERMINATED, path=path)


def _unfinished() -> list[Abortable]:
    while True:
        with suppress(RuntimeError):  # another thread has started one meanwhile
            return [upload for upload in _begun if not upload.is_over]


def watch() -> None:
    """Install a SIGTERM handler that aborts the uploads before the process ends.

    Only the main thread can set a handler, so nothing is done in other threads. A handler
    that the program has set stays.

    Raises:
        RuntimeError: this is the main thread of a subinterpreter.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        try:
            signal.signal(signal.SIGTERM, terminate)
        except ValueError:
            text = (
                "a subinterpreter cannot use this package: call it in another process"
            )
            raise RuntimeError(text) from None


@atexit.register
def end_all(seconds: float = _TIMEOUT - 2) -> None:
    """Abort all unfinished uploads within *seconds*; log those that are left.

    Uploads that other threads begin meanwhile are aborted too.
    """
    try:
        _end_all(time.monotonic() + seconds)
    finally:
        background.finish(_LOG_TIMEOUT)


def _end_all(end: float) -> None:
    failed: list[Abortable] = []
    while pending := [item for item in _unfinished() if item not in failed]:
        if time.monotonic() >= end:
            _log.warning("%d unfinished uploads were left as they are", len(pending))
            return
        for upload in pending:
            try:
                upload.stop()
            except Exception as error:  # noqa: BLE001 - the other uploads must still end
                _log.warning("an unfinished upload could not be aborted: %s", error)
                failed.append(upload)
        if not all(item.is_over or item in failed for item in pending):
            time.sleep(_POLL_INTERVAL)


@atexit.register
def _let_pyarrow_end() -> None:
    # A thread of pyarrow drops its filesystem just after ``write_dataset`` has
    # returned. Up to Python 3.12, that thread would crash the process if it waited for
    # the interpreter during exit: C++ ends a process whose thread is stopped within a
    # destructor.
    if sys.version_info < (3, 13) and "pyarrow" in sys.modules:
        time.sleep(_POLL_INTERVAL)


def terminate(
    number: int, _: FrameType | None = None, then: Callable[[], object] = lambda: None
) -> None:
    """Handle a signal: abort the uploads, call *then*, and let the signal end the process.

    The interrupted code may hold any lock. Therefore a thread does the work, and the
    handler waits for it with a time limit.
    """

    def end() -> None:
        end_all()
        then()

    global is_terminating  # noqa: PLW0603 - one for each process
    signal.signal(number, signal.SIG_DFL)  # a second SIGTERM ends the process at once
    is_terminating = True
    try:
        ending = threading.Thread(target=end, daemon=True)
        ending.start()
    except RuntimeError:  # the system can start no thread
        end()
    else:
        ending.join(_TIMEOUT)
    finally:
        os.kill(os.getpid(), number)
        is_terminating = False  # another handler has kept the process alive

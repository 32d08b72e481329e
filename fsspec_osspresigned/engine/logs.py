"""Log records of the engine's threads, which are handled in the waiting thread.

A handler of the program may wait for a lock, or write into the store. In a thread of
the engine, it could block every filesystem, so no handler is called there.
"""

from __future__ import annotations

import inspect
import logging
from contextvars import ContextVar
from functools import partial

from .engine import in_waiting_thread
from .threads import is_own_thread

# True if a log handler of this package's records called this code. Further records are
# dropped, because a handler that writes into the store would log itself forever.
_is_handling: ContextVar[bool] = ContextVar("osspresigned_log", default=False)


class Logger:
    """The logger *name* of the standard library, for a module of this package.

    A record of one of the engine's threads is handled by the thread that waits for the
    call, in order, before the call returns. The record names the thread and the line of
    the code that logged it.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def shows(self, level: int) -> bool:
        """Return whether records of *level* may be shown; never waits for a lock."""
        # ``isEnabledFor`` would wait for a thread that configures logging.
        logger: logging.Logger | None = self._logger
        while logger is not None and not logger.level:
            logger = logger.parent
        return logger is None or level >= logger.level

    def debug(self, text: str, *args: object) -> None:
        self._log(logging.DEBUG, text, args)

    def info(self, text: str, *args: object) -> None:
        self._log(logging.INFO, text, args)

    def warning(self, text: str, *args: object) -> None:
        self._log(logging.WARNING, text, args)

    def _log(self, level: int, text: str, args: tuple[object, ...]) -> None:
        if not self.shows(level) or _is_handling.get():
            return
        frame = inspect.currentframe()
        for _ in range(2):
            # skip this function, and the method that has the name of the level
            frame = frame and frame.f_back
        assert frame is not None  # noqa: S101 - for the type checker
        code, line = frame.f_code, frame.f_lineno
        record = self._logger.makeRecord(
            self._logger.name, level, code.co_filename, line, text, args, None, code.co_name
        )  # fmt: skip
        in_waiting_thread(partial(_handle, record))


def _handle(record: logging.LogRecord) -> None:
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        token = _is_handling.set(True)
        try:
            logger.handle(record)
        finally:
            _is_handling.reset(token)


def route_records(name: str) -> None:
    """Handle records of another library's logger *name* in the same way in our threads."""
    logging.getLogger(name).addFilter(_is_for_this_thread)


def _is_for_this_thread(record: logging.LogRecord) -> bool:
    if not is_own_thread():
        return True
    if not _is_handling.get():
        in_waiting_thread(partial(_handle, record))
    return False

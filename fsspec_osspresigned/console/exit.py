"""The exit codes of ``osspresigned``: the only place that decides them."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Any

from attrs import frozen

from ..errors import (
    ConfigurationError,
    NetworkError,
    OSSPresignedError,
    Outcome,
    SignerError,
    SignerUnavailableError,
    StoreUnavailableError,
    UploadErrors,
)
from ..secret import redact
from ..units import shown_text

# One thing that a command could not do: what, why, and what became of it.


@frozen
class Failure:
    """A file or object that failed.

    Attributes:
        path: ``bucket/key``.
        local: the file here, or ``-``; empty where none is concerned.
        error: why not.
    """

    path: str
    local: str
    error: BaseException

    @property
    def outcome(self) -> Outcome:
        """Whether it is stored, as far as anybody can tell."""
        return getattr(self.error, "outcome", Outcome.NOT_STORED)

    def as_dict(self) -> dict[str, Any]:
        """Return plain members for JSON; they never hold a URL."""
        return {
            "path": self.path,
            "local": self.local,
            "error": type(self.error).__name__,
            "message": why(self.error),
            "outcome": str(self.outcome),
            "status": getattr(self.error, "status", None),
            "code": getattr(self.error, "code", None),
            "request_id": getattr(self.error, "request_id", None),
        }


def why(error: BaseException) -> str:
    """Return the reason alone, fit for a terminal: no path, no secret, no traceback."""
    if isinstance(error, OSSPresignedError):
        text = error.message
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = f"{type(error).__name__}: {error}"
    return "\n".join(shown_text(line) for line in redact(text).splitlines())


_REFUSED = (401, 403)


class ExitCode(enum.IntEnum):
    """What a program that calls ``osspresigned`` can tell apart; docs/cli.md says more.

    Several failures of one kind have the code of that kind if nothing went well, and
    ``FAILED`` in all other cases.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    NETWORK = 4
    UNKNOWN = 5
    INTERRUPTED = 130
    NOBODY_READS = 141


def code_of(error: BaseException) -> ExitCode:
    """Return the exit code of a command that ended by *error*."""
    if isinstance(error, UploadErrors):
        return code_of_all(error.failures.values(), went_well=0)
    if getattr(error, "outcome", None) is Outcome.UNKNOWN:
        return ExitCode.UNKNOWN
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, OSSPresignedError) and isinstance(error, PermissionError):
        return ExitCode.DENIED
    if isinstance(error, SignerError) and error.status in _REFUSED:
        return ExitCode.DENIED
    if isinstance(error, NetworkError | SignerUnavailableError | StoreUnavailableError):
        return ExitCode.NETWORK
    return ExitCode.FAILED


def code_of_all(errors: Collection[BaseException], *, went_well: int) -> ExitCode:
    """Return the exit code after *errors*, and so many things that *went_well*."""
    codes = {code_of(error) for error in errors}
    if not codes:
        return ExitCode.OK
    if went_well or len(codes) > 1:
        return ExitCode.FAILED
    return codes.pop()


# Ctrl-C: the first one ends a command in good order, the second one at once.

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

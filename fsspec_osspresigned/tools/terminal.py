"""Output of commands, exit codes and Ctrl-C.

Lines, tables and warnings go to a stream that may be closed. Each error has an exit code.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import logging
import os
import re
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

from attrs import frozen

from ..engine import abort_at_exit
from ..errors import (
    ConfigurationError,
    NetworkError,
    ObjectNotFoundError,
    OSSPresignedError,
    Outcome,
    SignerError,
    SignerUnavailableError,
    StoreUnavailableError,
    UploadErrors,
)
from ..secret import redact
from ..units import shown_local, shown_text
from .language import translated

_GAP = "  "
_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield *rows* as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(cells).rstrip()


class Output:
    """Thread-safe stream of whole lines; writes nothing after its reader has exited."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # While a bar is drawn, sys.stderr prints above it.
        self._is_stderr = stream is sys.stderr
        self._lock = threading.RLock()
        self.closed = False
        live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = live and not os.environ.get("NO_COLOR")

    def line(self, text: str) -> None:
        with self._lock:
            if self.closed:
                return
            stream = sys.stderr if self._is_stderr else self._stream
            try:
                stream.write(f"{text}\n")
                stream.flush()
            except BrokenPipeError:
                self.closed = True
                silence(self._stream)

    def red(self, text: str) -> str:
        return f"{_RED}{text}{_PLAIN}" if self._coloured else text


def silence(stream: TextIO) -> None:
    """Redirect *stream*, whose reader has exited, to the null device."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class _LogLines(logging.Handler):
    """Log handler that passes the records of a single level to *take*."""

    def __init__(self, level: int, take: Callable[[logging.LogRecord], object]) -> None:
        super().__init__(level)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == self.level:
            self._take(record)


def message_of(record: logging.LogRecord) -> str:
    """Return the message of *record* without secrets and control characters."""
    return shown_text(redact(record.getMessage()))


@contextlib.contextmanager
def log_taken(
    name: str, level: int, take: Callable[[logging.LogRecord], object]
) -> Iterator[None]:
    """Within the block, pass records of *level* from the logger *name* to *take*."""
    log, handler = logging.getLogger(name), _LogLines(level, take)
    before = log.level
    log.setLevel(min(level, log.getEffectiveLevel()))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


@contextlib.contextmanager
def warnings_said() -> Iterator[None]:
    """Within the block, print each warning as one line on standard error.

    This includes warnings that the package logs.
    """

    def say(message: Warning | str, *_: Any, **__: Any) -> None:
        text = f"warning: {shown_text(redact(str(message)))}"
        Output(sys.stderr).line(translated(text))

    with (
        warnings.catch_warnings(),
        log_taken(
            "fsspec_osspresigned",
            logging.WARNING,
            lambda record: say(message_of(record)),
        ),
    ):
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = say
        yield


_ALIKE = (
    *("signer", "region", "endpoint", "addressing_style", "allow_http", "retries"),
    *("timeout", "metadata", "content_type", "storage_class", "part_size", "receipts"),
    *("resume_dir", "state", "ignore_times", "max_delete", "grant", "upload_server"),
    "max_concurrency",
)
FLAGS = {  # storage option -> command-line flag
    **{name: f"--{name.replace('_', '-')}" for name in _ALIKE},
    "presigned_url": "--url-file",
    "url_map": "--map",
    "signer_token": "--token",
    "allowed_hosts": "--allowed-host",
    "upload_server_options": "--upload-server-option",
    "headers": "--header",
    "expires_in": "--expires",
    "size": "--size",
    "overwrite": "--no-overwrite",  # the flag means overwrite=False
}
_REWORDED = {  # advice for Python -> advice for the command line
    "leave the path empty": "leave DEST out",
    "give allow_path_mismatch=True": "set FSSPEC_OSSPRESIGNED_ALLOW_PATH_MISMATCH=true",
    "give overwrite=True": "set FSSPEC_OSSPRESIGNED_OVERWRITE=true",
    # no flag permits replacing objects
    "overwrite=True": "FSSPEC_OSSPRESIGNED_OVERWRITE=true",
}
_ALONE = ("", "True", "False")  # for these values, only the flag is shown
_OPTION = rf"\b({'|'.join(FLAGS)})=('[^']*'|[^\s,;:)]*)"


class ExitCode(enum.IntEnum):
    """Exit code of a command; docs/cli.md lists their meaning."""

    OK = 0
    FAILED = 1
    USAGE = 2
    DENIED = 3
    NETWORK = 4
    UNKNOWN = 5
    INTERRUPTED = 130
    NOBODY_READS = 141
    TERMINATED = 143


def code_of(error: BaseException) -> ExitCode:
    if isinstance(error, UploadErrors):
        return code_of_all(error.failures.values(), went_well=0)
    if getattr(error, "outcome", None) is Outcome.UNKNOWN:
        return ExitCode.UNKNOWN
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, NetworkError | SignerUnavailableError | StoreUnavailableError):
        return ExitCode.NETWORK
    if isinstance(error, SignerError) and error.status in (401, 403):
        return ExitCode.DENIED
    denied = isinstance(error, OSSPresignedError) and isinstance(error, PermissionError)
    return ExitCode.DENIED if denied else ExitCode.FAILED


def code_of_all(errors: Collection[BaseException], *, went_well: int) -> ExitCode:
    """Return the exit code that all *errors* share; FAILED if codes differ.

    *went_well* is the number of successful files; unless it is 0, any error means
    FAILED. Without errors, the code is OK.
    """
    codes = {code_of(error) for error in errors}
    if not codes:
        return ExitCode.OK
    return ExitCode.FAILED if went_well or len(codes) > 1 else codes.pop()


_FEW_FILES = "raise ulimit -n, or lower max_concurrency"


def why(error: BaseException) -> str:
    """Return only the reason of *error*: no path, no secret, no traceback."""
    if isinstance(error, OSSPresignedError):
        text = error.message
    elif isinstance(error, OSError) and error.strerror:
        few = error.errno in (errno.EMFILE, errno.ENFILE)
        text = f"{error.strerror}: {_FEW_FILES}" if few else error.strerror
    else:
        text = f"{type(error).__name__}: {error}"
    return "\n".join(shown_text(line) for line in redact(text).splitlines())


def told(error: BaseException) -> str:
    """Return the reason of *error* in the terms of the command line.

    It has flags instead of storage options, such as ``--map`` for ``url_map=``.
    """
    missing = isinstance(error, ObjectNotFoundError)
    if missing and getattr(error, "code", None) in (None, "NoSuchKey"):
        return "not found"
    text = in_flags(why(error))
    tries = getattr(error, "tries", 1)
    if code_of(error) is ExitCode.NETWORK and tries > 1:
        text += f", after {tries} tries"
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        text += ": choose another --port"
    if number in (errno.EADDRNOTAVAIL, socket.EAI_NONAME, socket.EAI_AGAIN):
        text += ": choose another --host"
    return text


def in_flags(text: str) -> str:
    """Return *text* with flags instead of storage options."""
    for ours, theirs in _REWORDED.items():
        text = text.replace(ours, theirs)
    return re.sub(_OPTION, _flag, text)


def _flag(match: re.Match[str]) -> str:
    value = match[2].strip("'")
    return FLAGS[match[1]] if value in _ALONE else f"{FLAGS[match[1]]} {value}"


@frozen
class Failure:
    path: str
    local: str  # local file: "-" for a stream, empty if there is none
    error: BaseException

    @property
    def name(self) -> str:
        """Name for messages: the local file if its access failed, else the object."""
        error = self.error
        is_local = isinstance(error, OSError) and not (
            isinstance(error, OSSPresignedError) or error.filename == self.path
        )
        if is_local and self.local not in ("", "-"):
            return shown_local(self.local)
        return shown_text(self.path)

    @property
    def outcome(self) -> Outcome:
        return getattr(self.error, "outcome", Outcome.NOT_STORED)

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as a JSON object, without any URL."""
        error = self.error
        return {
            "path": self.path,
            "local": self.local,
            "error": type(error).__name__,
            "message": told(error),
            "outcome": str(self.outcome),
            **{n: getattr(error, n, None) for n in ("status", "code", "request_id")},
        }


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

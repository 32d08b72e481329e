"""Exit codes of ``osspresigned``, failures in its output, and Ctrl-C."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from types import FrameType
from typing import Any

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
from ..tracebacks import hint
from ..units import shown_local, shown_text

_ALIKE = (
    *("signer", "region", "endpoint", "addressing_style", "allow_http", "retries"),
    *("timeout", "metadata", "content_type", "storage_class", "part_size", "receipts"),
    *("checkpoint", "state", "always", "max_delete", "grant", "profile"),
)
FLAGS = {  # storage option -> flag
    **{name: f"--{name.replace('_', '-')}" for name in _ALIKE},
    "presigned_url": "--url-file",
    "url_map": "--map",
    "signer_token": "--token",
    "allowed_hosts": "--allowed-host",
    "headers": "--header",
    "expires_in": "--expires",
    "max_concurrency": "--jobs",
    "size": "--size",
    "overwrite": "--no-overwrite",  # it is named as overwrite=False alone
}
_REWORDED = {  # advice of Python -> of the command line
    "leave the path empty": "leave DEST out",
    "give trust_map=True": "set FSSPEC_OSSPRESIGNED_TRUST_MAP=true",
}
_ALONE = ("", "True", "False")  # values that have no word in a command
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
    """Return the exit code for a command that failed with *error*."""
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
    """Return the exit code that all *errors* share; FAILED if their codes differ.

    *went_well* is the number of files that succeeded; if it is not 0, any error means
    FAILED. Without errors, the code is OK.
    """
    codes = {code_of(error) for error in errors}
    if not codes:
        return ExitCode.OK
    return ExitCode.FAILED if went_well or len(codes) > 1 else codes.pop()


def why(error: BaseException) -> str:
    """Return only the reason of *error*: no path, no secret, no traceback."""
    if isinstance(error, OSSPresignedError):
        text = error.message
    elif isinstance(error, OSError) and error.strerror:
        text = ": ".join(filter(None, (error.strerror, hint(error))))
    else:
        text = f"{type(error).__name__}: {error}"
    return "\n".join(shown_text(line) for line in redact(text).splitlines())


def told(error: BaseException) -> str:
    """Return the reason of *error*, with flags in place of option names."""
    missing = isinstance(error, ObjectNotFoundError)
    if missing and getattr(error, "code", None) in (None, "NoSuchKey"):
        return "nothing there"
    text = why(error)
    for ours, theirs in _REWORDED.items():
        text = text.replace(ours, theirs)
    tries = getattr(error, "tries", 1)
    if isinstance(error, NetworkError) and tries > 1:
        text += f", after {tries} tries"
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        text += ": choose another --port"
    return re.sub(_OPTION, _flag, text)


def _flag(found: re.Match[str]) -> str:
    value = found[2].strip("'")
    return FLAGS[found[1]] if value in _ALONE else f"{FLAGS[found[1]]} {value}"


@frozen
class Failure:
    """Failure of one file or object, for the output of a command.

    *local* is the local file: ``-`` for a stream, empty if there is none.
    """

    path: str
    local: str
    error: BaseException

    @property
    def name(self) -> str:
        """Shown name: the local file if it cannot be read or written, else the object."""
        is_ours = isinstance(self.error, OSSPresignedError)
        if is_ours or not isinstance(self.error, OSError) or self.local in ("", "-"):
            return shown_text(self.path)
        return shown_local(self.local)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the failed upload: stored, not stored, or unknown."""
        return getattr(self.error, "outcome", Outcome.NOT_STORED)

    def as_dict(self) -> dict[str, Any]:
        """Return the failure as members of a JSON object, without any URL."""
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
    may still be aborted. The first Ctrl-C calls *stop* in the signal handler; *stop* must
    not take a lock. SIGTERM calls *stop*, too, prints a line, aborts the uploads, and
    calls *at_sigterm* in a thread before it ends the process. The block changes no
    signal outside the main thread, or if the program handles SIGINT itself.
    """
    at_interrupt = signal.getsignal(signal.SIGINT)
    if (
        threading.current_thread() is not threading.main_thread()
        or at_interrupt not in (signal.default_int_handler, signal.SIG_IGN)
    ):
        yield
        return

    def first(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(ExitCode.INTERRUPTED))
        with contextlib.suppress(OSError):
            os.write(2, b"\nending: Ctrl-C again ends at once\n")
        for one in stop:
            one()
        raise KeyboardInterrupt

    def terminated(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"\nterminated: unfinished uploads are ended\n")
        for one in stop:
            one()
        abort_at_exit.terminate(number, then=at_sigterm)

    tells = signal.getsignal(signal.SIGTERM) in (
        signal.SIG_DFL,
        abort_at_exit.terminate,
    )
    if tells:
        signal.signal(signal.SIGTERM, terminated)
    if at_interrupt is not signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if tells and signal.getsignal(signal.SIGTERM) is terminated:
            signal.signal(signal.SIGTERM, abort_at_exit.terminate)
        if signal.getsignal(signal.SIGINT) is first:
            signal.signal(signal.SIGINT, signal.default_int_handler)

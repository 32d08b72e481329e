"""Failures in the words of the command line, and the exit code of each."""

from __future__ import annotations

import enum
import errno
import re
import socket
from collections.abc import Collection
from typing import Any

from attrs import frozen

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

_ALIKE = (
    *("signer", "region", "endpoint", "addressing_style", "allow_http", "retries"),
    *("metadata", "content_type", "storage_class", "part_size", "receipts"),
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

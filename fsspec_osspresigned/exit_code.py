"""The exit codes of ``osspresigned``: the only place that decides them."""

from __future__ import annotations

import enum
from collections.abc import Collection

from .errors import (
    ConfigurationError,
    NetworkError,
    OSSPresignedError,
    SignerError,
    SignerUnavailableError,
    StoreUnavailableError,
    UploadErrors,
)
from .outcome import Outcome

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

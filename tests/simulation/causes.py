"""Causes: the possible errors of each fault, and the tries before an error.

If no fault explains an error, the error is a defect. An error of the interpreter is
always a defect. The ledger checks a call's statement about its object.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from attrs import frozen

from fsspec_osspresigned import errors
from fsspec_osspresigned.errors import OSSPresignedError

from .verbs import ByUserError


@frozen
class Fault:
    """Possible errors of a request with one fault."""

    errors: tuple[type[BaseException], ...] = ()
    # True if the client cannot know whether the store has acted on a whole request.
    is_doubtful: bool = False


_LOST = (errors.NetworkError, errors.OutcomeUnknownError, errors.UploadNotFoundError)
_STALLED = (*_LOST, errors.NetworkTimeoutError)
# If the ETag of a part was replaced, the store refuses to complete the upload.
_LIE = (
    *(errors.IntegrityError, errors.OutcomeUnknownError, errors.InvalidRequestError),
)
_BUSY = (errors.StoreUnavailableError, errors.OutcomeUnknownError)
_SIGNER = (
    *(
        errors.SignatureMismatchError,
        errors.NotCoveredError,
        errors.WrongRequestSignedError,
    ),
    *(errors.SignerError, errors.URLExpiredError, errors.ConfigurationError),
    errors.SignerUnavailableError,
)

# Name of a fault -> the possible errors. The names are those of ``network.Faults``, and
# of faults that no exchange shows.
FAULTS: Mapping[str, Fault] = {
    "ok": Fault(),
    "hints": Fault(),
    "unread": Fault(),
    "refuse": Fault(_STALLED),
    "down": Fault(_LOST),
    "lose_request": Fault(_LOST, is_doubtful=True),
    "lose_whole": Fault(_LOST, is_doubtful=True),
    "lose_reply": Fault(_LOST, is_doubtful=True),
    "cut_reply": Fault((*_LOST, errors.StoreError), is_doubtful=True),
    "stall_request": Fault(_STALLED, is_doubtful=True),
    "stall_reply": Fault(_STALLED, is_doubtful=True),
    "slow": Fault(_STALLED, is_doubtful=True),
    # The reply to the last request, sent a second time, may belong to another method.
    "stale": Fault(
        (*_STALLED, errors.IntegrityError, errors.StoreError), is_doubtful=True
    ),
    "broken_head": Fault(_LOST, is_doubtful=True),
    # An object with another length, or with no checksum, counts as another version.
    "wrong_length": Fault(
        (*_STALLED, *_LIE, errors.StoreError, errors.SourceChangedError),
        is_doubtful=True,
    ),
    "unframed": Fault((*_LOST, errors.StoreError), is_doubtful=True),
    "busy": Fault((*_BUSY, errors.UploadNotFoundError)),
    "early": Fault((*_BUSY, errors.UploadNotFoundError)),
    "busy_acted": Fault((*_BUSY, errors.UploadNotFoundError), is_doubtful=True),
    # A damaged form may violate its policy.
    "damage": Fault(
        (*_LIE, errors.BodyCorruptedError, errors.AccessDeniedError), is_doubtful=True
    ),
    # no checksum is no error, unless the program asks for one
    "no_crc": Fault((*_LIE, errors.SourceChangedError), is_doubtful=True),
    "no_proof": Fault(
        (*_LIE, errors.NetworkError, errors.SourceChangedError), is_doubtful=True
    ),
    "false_proof": Fault(_LIE, is_doubtful=True),
    "damage_reply": Fault((*_LIE, errors.SourceChangedError, errors.StoreError)),
    "impostor": Fault((*_LOST, *_LIE, errors.StoreError), is_doubtful=True),
    "early_good": Fault((*_LOST, *_LIE, errors.StoreError), is_doubtful=True),
    "expired": Fault((errors.URLExpiredError,)),
    # The signer fails or refuses the request. "blind": the signer refuses all reads.
    "signer": Fault(_SIGNER),
    "blind": Fault((errors.ConfigurationError, FileNotFoundError)),
    "expiry": Fault((errors.URLExpiredError,)),  # the expiry of a presigned URL
    "edit": Fault((errors.SourceChangedError,)),  # an edit of a local file
    "disk": Fault((errors.ReceiptFailedError,)),  # a full disk
    # Another call on the same object. It may replace the source of a copy.
    "rival": Fault(
        (
            *(errors.IntegrityError, errors.SourceChangedError),
            *(errors.UploadInProgressError, errors.UploadNotFoundError),
        )
    ),
    "discard": Fault((errors.UploadDiscardedError, errors.UploadNotFoundError)),
}
# Error -> retries that must be used up before it is raised, if the options permit so
# many.
_TRIES = (
    (errors.NetworkError, 1000),
    (errors.StoreUnavailableError, 1000),
    (errors.SignerUnavailableError, 1000),
    (errors.BodyCorruptedError, 1),
)
# Verbs that write nothing, and the errors that they must never raise.
READS = ("cat", "get", "info", "ranges", "list", "sync_down")
_OF_WRITES = (
    *(
        errors.OutcomeUnknownError,
        errors.BodyCorruptedError,
        errors.UploadNotFoundError,
    ),
    *(errors.ReceiptFailedError, errors.UploadDiscardedError, FileExistsError),
    errors.UploadInProgressError,
)
_ENDS = (KeyboardInterrupt, asyncio.CancelledError, ByUserError)
_LONGEST = 20.0  # maximum seconds before a retry


@frozen
class Circumstances:
    """Faults and facts since a call began."""

    faults: AbstractSet[str]
    seconds: float
    options: Mapping[str, Any]
    there: AbstractSet[
        bool
    ]  # whether the object existed, at each time when this was checked
    verb: str = ""


def unexplained(error: BaseException, seen: Circumstances) -> str:
    """Return why *error* must not have been raised; "" if a fault explains it."""
    if isinstance(error, _ENDS):
        return ""
    if isinstance(error, FileExistsError):
        # in this case, no object is replaced
        is_hidden = "was reported as missing" in str(error)
        if "rival" in seen.faults:  # it may have stored the object since that report
            is_hidden |= "this process itself has stored" in str(error)
        is_kept = is_hidden or seen.options["overwrite"] is False
        # a reply that was sent a second time may say that another object exists
        is_right = is_kept and (True in seen.there or "stale" in seen.faults)
        return (
            ""
            if is_right
            else "the object did not exist, or the call was permitted to replace it"
        )
    if "because all requests fail now" in str(error):
        # the circuit breaker raised this error
        return ""  # the failed requests may belong to an earlier call
    if seen.verb in READS and isinstance(error, _OF_WRITES):
        return f"{seen.verb} writes nothing"
    if seen.verb in READS and getattr(error, "outcome", "not stored") != "not stored":
        return f"{seen.verb} stores nothing"
    if any(type(error) in FAULTS[name].errors for name in seen.faults):
        return _too_early(error, seen)
    if isinstance(error, FileNotFoundError):
        is_unseen = False in seen.there or "blind" in seen.faults
        return "" if is_unseen else "the object existed all the time"
    if isinstance(error, ValueError) and str(error).endswith("is closed"):
        return "" if "discard" in seen.faults else "the file was open"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "" if "disk" in seen.faults else "the disk was not full"
    return "no fault has this effect"


def _too_early(error: BaseException, seen: Circumstances) -> str:
    """Return "" if the retries of *error* were used up, or their time."""
    most = next((tries for kind, tries in _TRIES if isinstance(error, kind)), 0)
    if not most:
        return ""
    assert isinstance(error, OSSPresignedError)
    retries, limit = (
        min(most, seen.options.get("retries", 5)),
        seen.options.get("retry_timeout", 300),
    )
    if error.tries > seen.options.get("retries", 5) + 2:
        # one more try may have a new signature
        return f"it was sent {error.tries} times"
    wait = max(min(_LONGEST, 0.25 * 2.0 ** (error.tries - 1)), error.retry_after or 0.0)
    if error.tries > retries or seen.seconds + wait > limit:
        return ""
    return f"the call gave up after {error.tries} tries of {retries + 1}"

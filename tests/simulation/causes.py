"""Causes: which fault may end a call with which error, and after how many tries.

An error without a fault of its time that explains it is a defect, as is an error of the
interpreter. What a call said of its object is checked by the ledger.
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

_STALLS = {"slow", "stall_request", "stall_reply"}
_CUTS = {
    *("refuse", "down", "lose_request", "lose_whole", "lose_reply", "cut_reply"),
    *("unframed", "impostor", "early_good"),
}
_LIES = {"damage", "no_proof", "false_proof", "damage_reply", "impostor", "early_good"}
_BUSY = {"busy", "busy_acted", "early"}

# The first class of an error decides. Beside the faults of ``network.Faults``:
# ``signer`` fails or does not sign this, ``blind``: nor any read, ``edit`` of a local file, ``disk`` that is full,
# ``rival``, another call of the same object, ``discard`` by the program, ``expiry`` of URLs.
_CAUSES: tuple[tuple[type[BaseException], AbstractSet[str]], ...] = (
    (errors.URLExpiredError, {"expiry", "signer"}),
    (errors.SignatureMismatchError, {"signer"}),
    (errors.NotSignedError, {"signer"}),
    (errors.BindingError, {"signer"}),
    (errors.SignerError, {"signer"}),
    (errors.NetworkTimeoutError, _STALLS),
    (errors.NetworkError, _CUTS | _STALLS | {"no_proof"}),
    (errors.StoreUnavailableError, _BUSY),
    (errors.DamagedBodyError, {"damage"}),
    (errors.IntegrityError, _LIES | {"rival"}),  # which replaces the source of a copy
    (errors.OutcomeUnknownError, _CUTS | _STALLS | _LIES | _BUSY),
    (errors.SourceChangedError, {"edit", "rival", "damage_reply"}),
    (errors.UploadDiscardedError, {"discard"}),
    (errors.CheckpointInUseError, {"rival"}),
    (errors.UploadNotFoundError, {"rival", "discard"} | _CUTS | _STALLS | _BUSY),
    (errors.ReceiptFailedError, {"disk"}),
    (errors.ConfigurationError, {"blind", "signer"}),
)
_ENDS = (KeyboardInterrupt, asyncio.CancelledError, ByUserError)
_LONGEST = 20.0  # seconds of the longest wait before a retry


@frozen
class Circumstances:
    """What has happened since a call began."""

    faults: AbstractSet[str]
    seconds: float
    options: Mapping[str, Any]
    there: AbstractSet[bool]  # whether the object was there, at any time


def unexplained(error: BaseException, seen: Circumstances) -> str:
    """Return why *error* must not have been raised; "" if a fault explains it."""
    if isinstance(error, _ENDS):
        return ""
    if isinstance(error, FileExistsError):
        return "" if True in seen.there else "no such object was there"
    if "for all requests fail now" in str(error):  # of the circuit breaker
        return ""  # those that failed may be of another call, before this one
    for kind, causes in _CAUSES:
        if isinstance(error, kind):
            if not causes & seen.faults:
                return f"none of {sorted(causes)} has happened"
            return _too_early(error, seen)
    if isinstance(error, FileNotFoundError):
        is_unseen = False in seen.there or "blind" in seen.faults
        return "" if is_unseen else "the object was there all the time"
    if isinstance(error, errors.ReplyError):
        return "" if (_CUTS | _LIES) & seen.faults else "nothing was replaced"
    if isinstance(error, ValueError) and str(error).endswith("is closed"):
        return "" if "discard" in seen.faults else "the file was open"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "" if "disk" in seen.faults else "the disk was not full"
    return "no fault has this effect"


def _too_early(error: BaseException, seen: Circumstances) -> str:
    """Return "" if the retries of *error* were used up, or their time."""
    kinds = (errors.NetworkError, errors.StoreUnavailableError)
    if not isinstance(error, kinds):
        return ""
    assert isinstance(error, OSSPresignedError)
    retries, limit = (
        seen.options.get("retries", 5),
        seen.options.get("retry_timeout", 300),
    )
    wait = max(min(_LONGEST, 0.25 * 2.0 ** (error.tries - 1)), error.retry_after or 0.0)
    if error.tries > retries or seen.seconds + wait > limit:
        return ""
    return f"it was given up after {error.tries} tries of {retries + 1}"

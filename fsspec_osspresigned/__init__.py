"""An fsspec filesystem that uploads to Alibaba Cloud OSS through presigned URLs.

The names below are public. Each is loaded on first use, so importing the package is
fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.receipt_output import ReceiptList
    from .errors import (
        AccessDeniedError,
        BindingError,
        BlindAnswerWarning,
        CallbackFailedWarning,
        CheckpointInUseError,
        ConfigurationError,
        DamagedBodyError,
        DiscardWarning,
        EndpointForbiddenError,
        ExclusiveNotEnforcedError,
        Explanation,
        ExposedMapWarning,
        IntegrityError,
        InvalidRequestError,
        NetworkError,
        NetworkTimeoutError,
        NotSignedError,
        ObjectExistsError,
        ObjectNotFoundError,
        OSSPresignedError,
        Outcome,
        OutcomeUnknownError,
        PublishWarning,
        ReceiptFailedError,
        Refused,
        ReplyError,
        SignatureMismatchError,
        SignerError,
        SignerUnavailableError,
        SourceChangedError,
        StoreUnavailableError,
        TooLargeError,
        UnreadableMapWarning,
        UploadDiscardedError,
        UploadErrors,
        UploadNotFoundError,
        URLExpiredError,
    )
    from .filesystem.filesystem import OSSPresignedFileSystem
    from .filesystem.progress import BytesProgress
    from .model import Action, Operation, PartReceipt, Receipt, SignedRequest
    from .secret import Secret, SecretURL
    from .signers.base import Grant, MultipartGrant, Signer
    from .syncing.result import SyncEvent, SyncResult
    from .syncing.sync import sync, sync_down

    __version__: str


__all__ = [
    "AccessDeniedError",
    "Action",
    "BindingError",
    "BlindAnswerWarning",
    "BytesProgress",
    "CallbackFailedWarning",
    "CheckpointInUseError",
    "ConfigurationError",
    "DamagedBodyError",
    "DiscardWarning",
    "EndpointForbiddenError",
    "ExclusiveNotEnforcedError",
    "Explanation",
    "ExposedMapWarning",
    "Grant",
    "IntegrityError",
    "InvalidRequestError",
    "MultipartGrant",
    "NetworkError",
    "NetworkTimeoutError",
    "NotSignedError",
    "OSSPresignedError",
    "OSSPresignedFileSystem",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "Operation",
    "Outcome",
    "OutcomeUnknownError",
    "PartReceipt",
    "PublishWarning",
    "Receipt",
    "ReceiptFailedError",
    "ReceiptList",
    "Refused",
    "ReplyError",
    "Secret",
    "SecretURL",
    "SignatureMismatchError",
    "SignedRequest",
    "Signer",
    "SignerError",
    "SignerUnavailableError",
    "SourceChangedError",
    "StoreUnavailableError",
    "SyncEvent",
    "SyncResult",
    "TooLargeError",
    "URLExpiredError",
    "UnreadableMapWarning",
    "UploadDiscardedError",
    "UploadErrors",
    "UploadNotFoundError",
    "__version__",
    "sync",
    "sync_down",
]

# The modules of the public names that are no errors or warnings.
_HOMES = {
    **dict.fromkeys(("Action", "Operation", "SignedRequest"), "model"),
    **dict.fromkeys(("PartReceipt", "Receipt"), "model"),
    **dict.fromkeys(("Secret", "SecretURL"), "secret"),
    **dict.fromkeys(("Grant", "MultipartGrant", "Signer"), "signers.base"),
    **dict.fromkeys(("SyncEvent", "SyncResult"), "syncing.result"),
    "BytesProgress": "filesystem.progress",
    "OSSPresignedFileSystem": "filesystem",
    "ReceiptList": "client.receipt_output",
    **dict.fromkeys(("sync", "sync_down"), "syncing.sync"),
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name == "__version__":
        return import_module("importlib.metadata").version("fsspec-osspresigned")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return list(__all__)

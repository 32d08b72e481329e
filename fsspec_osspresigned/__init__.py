"""An fsspec filesystem that uploads to Alibaba Cloud OSS through presigned URLs.

The names below are public. Each is loaded on first use, so importing the package is
fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .compat import lazy

if TYPE_CHECKING:
    from .errors import (
        AccessDeniedError,
        BodyCorruptedError,
        CallbackFailedWarning,
        ConfigurationError,
        DiscardWarning,
        EndpointForbiddenError,
        ExistenceNotVerifiedWarning,
        Explanation,
        IntegrityError,
        InvalidRequestError,
        NetworkError,
        NetworkTimeoutError,
        NotCoveredError,
        ObjectExistsError,
        ObjectNotFoundError,
        ObjectNotVisibleError,
        OSSPresignedError,
        Outcome,
        OutcomeUnknownError,
        OverwriteProtectionIgnoredError,
        PublishWarning,
        ReceiptFailedError,
        RefusalReason,
        SecretFileReadableWarning,
        SignatureMismatchError,
        SignerError,
        SignerUnavailableError,
        SourceChangedError,
        StoreError,
        StoreUnavailableError,
        TooLargeError,
        UnreadableMapWarning,
        UploadDiscardedError,
        UploadErrors,
        UploadInProgressError,
        UploadNotFoundError,
        URLExpiredError,
        WrongRequestSignedError,
    )
    from .filesystem.filesystem import OSSPresignedFileSystem
    from .filesystem.oss import register_oss
    from .filesystem.receipts import ReceiptList
    from .model import Action, Operation, PartReceipt, Receipt, SignedRequest
    from .secret import Secret, SecretURL
    from .signers.base import Grant, MultipartGrant, Signer
    from .tools.sync.sync import SyncEvent, SyncResult, sync, sync_down

    __version__: str


__all__ = [
    "AccessDeniedError",
    "Action",
    "BodyCorruptedError",
    "CallbackFailedWarning",
    "ConfigurationError",
    "DiscardWarning",
    "EndpointForbiddenError",
    "ExistenceNotVerifiedWarning",
    "Explanation",
    "Grant",
    "IntegrityError",
    "InvalidRequestError",
    "MultipartGrant",
    "NetworkError",
    "NetworkTimeoutError",
    "NotCoveredError",
    "OSSPresignedError",
    "OSSPresignedFileSystem",
    "ObjectExistsError",
    "ObjectNotFoundError",
    "ObjectNotVisibleError",
    "Operation",
    "Outcome",
    "OutcomeUnknownError",
    "OverwriteProtectionIgnoredError",
    "PartReceipt",
    "PublishWarning",
    "Receipt",
    "ReceiptFailedError",
    "ReceiptList",
    "RefusalReason",
    "Secret",
    "SecretFileReadableWarning",
    "SecretURL",
    "SignatureMismatchError",
    "SignedRequest",
    "Signer",
    "SignerError",
    "SignerUnavailableError",
    "SourceChangedError",
    "StoreError",
    "StoreUnavailableError",
    "SyncEvent",
    "SyncResult",
    "TooLargeError",
    "URLExpiredError",
    "UnreadableMapWarning",
    "UploadDiscardedError",
    "UploadErrors",
    "UploadInProgressError",
    "UploadNotFoundError",
    "WrongRequestSignedError",
    "__version__",
    "register_oss",
    "sync",
    "sync_down",
]

_HOMES = {
    "filesystem": "OSSPresignedFileSystem",
    "filesystem.oss": "register_oss",
    "filesystem.receipts": "ReceiptList",
    "model": "Action Operation PartReceipt Receipt SignedRequest",
    "secret": "Secret SecretURL",
    "signers.base": "Grant MultipartGrant Signer",
    "tools.sync.sync": "SyncEvent SyncResult sync sync_down",
}
_others = set(__all__) - {"__version__"} - set(" ".join(_HOMES.values()).split())
_load = lazy(__name__, errors=" ".join(_others), **_HOMES)[1]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("fsspec-osspresigned")
    return _load(name)


def __dir__() -> list[str]:
    return list(__all__)

"""Signatures: make, verify and describe presigned URLs.

Begin with ``canonical``, which holds the formulas of both versions; ``presigning`` makes
URLs, ``verifying`` judges requests as the service does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .canonical import Credentials
    from .endpoint import Endpoint, check_bucket, check_key
    from .presigning import presign, presign_unchecked
    from .signed_url import SignedURL, describe
    from .verifying import Received, Refusal, verify

__all__ = [
    "Credentials",
    "Endpoint",
    "Received",
    "Refusal",
    "SignedURL",
    "check_bucket",
    "check_key",
    "describe",
    "presign",
    "presign_unchecked",
    "verify",
]

_HOMES = {
    "Credentials": "canonical",
    "Endpoint": "endpoint",
    "check_bucket": "endpoint",
    "check_key": "endpoint",
    "presign": "presigning",
    "presign_unchecked": "presigning",
    "SignedURL": "signed_url",
    "describe": "signed_url",
    "Received": "verifying",
    "Refusal": "verifying",
    "verify": "verifying",
}


def __getattr__(name: str) -> Any:
    """Load a public name where it lives."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

"""Signatures: make, verify and describe presigned URLs.

Begin with ``canonical``, which holds the formulas of both versions; ``presigning`` makes
URLs, ``verifying`` judges requests as the service does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .canonical import Credentials
    from .endpoint import Endpoint
    from .presigning import presign
    from .signed_url import describe
    from .verifying import Received, verify

_HOMES = {
    "Credentials": "canonical",
    "Endpoint": "endpoint",
    "Received": "verifying",
    "describe": "signed_url",
    "presign": "presigning",
    "verify": "verifying",
}
__all__ = ["Credentials", "Endpoint", "Received", "describe", "presign", "verify"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

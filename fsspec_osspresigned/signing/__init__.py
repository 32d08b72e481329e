"""Signatures: make, verify and describe presigned URLs and POST policies.

Begin with ``canonical``, which has the formulas of both versions. ``presigning`` makes
URLs; ``verifying`` verifies requests as OSS does. ``post_policy`` and
``post_verifying`` do the same for the policies of PostObject and their signatures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .canonical import Credentials
    from .endpoint import Endpoint
    from .post_policy import PostPolicy, PostPolicyError
    from .presigning import presign
    from .signed_url import describe

_HOMES = {
    "Credentials": "canonical",
    "Endpoint": "endpoint",
    "PostPolicy": "post_policy",
    "PostPolicyError": "post_policy",
    "describe": "signed_url",
    "presign": "presigning",
}
__all__ = [
    "Credentials",
    "Endpoint",
    "PostPolicy",
    "PostPolicyError",
    "describe",
    "presign",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)

"""Signatures: make and describe presigned URLs and POST policies.

Begin with ``canonical``, which has the formulas of both versions. ``presigning`` makes
URLs, ``post_policy`` the policies of PostObject and their signatures. ``mismatch``
explains why the store refused a signature.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    canonical="Credentials",
    endpoint="Endpoint",
    presigning="PresignRequest",
    signed_url="describe",
)

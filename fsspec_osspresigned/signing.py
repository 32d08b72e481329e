"""The one door to signatures: make, judge and describe a presigned URL.

Whoever only makes URLs takes them from ``presigning``, and loads no more than that.
"""

from __future__ import annotations

from .endpoint import Endpoint, check_bucket, check_key
from .judgement import Received, Refusal
from .presigning import presign, presign_unchecked
from .signature import Credentials
from .signed_url import SignedURL, describe
from .verifying import verify

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

"""Dialects of stores other than OSS.

``s3`` adds the checksums that URLs of S3-compatible stores sign.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(__name__, "s3")

"""Dialects of stores other than OSS.

Begin with ``facts``: names and limits, which every folder may import. ``s3`` adds the
checksums that URLs of S3-compatible stores sign.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__, facts="GOOGLE_KEY_V2 GOOGLE_QUERY S3_CHECKSUM S3_HEADER S3_QUERY S3_TOKEN"
)

"""What a presigned URL tells about itself, its secrets left out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from attrs import frozen

from ..secret import SecretURL
from .canonical import ALGORITHM, parse_moment, parse_query

URLVersion = Literal["v1", "v2", "v4", "s3-v4", "unknown"]
_MAX_DIGITS = 15


@frozen(kw_only=True)
class SignedURL:
    """The facts in a presigned URL; never its signature, token or key.

    Attributes:
        version: kind of signature; ``s3-v4`` is that of S3-compatible stores.
        host: with the port if there is one; empty if it is no URL.
        path: as it stands, percent-encoded.
        signed_at: seconds since the epoch; None if the URL does not tell.
        expires_at: seconds since the epoch; None if the URL does not tell.
        additional_headers: lower-case names that must be sent as they were signed; more
            may be signed without the URL telling.
        upload_id: of a multipart upload; None without one.
        part_number: None without one.
        region: that it was signed for; None if the URL does not tell.
        has_token: whether a temporary (STS) key signed it, which may end earlier.
    """

    version: URLVersion
    host: str = ""
    path: str = ""
    signed_at: float | None = None
    expires_at: float | None = None
    additional_headers: tuple[str, ...] = ()
    upload_id: str | None = None
    part_number: int | None = None
    region: str | None = None
    has_token: bool = False


@lru_cache(maxsize=256)
def describe(url: SecretURL) -> SignedURL:
    """Read what *url* tells; what cannot be read is None, never an error.

    Kept for a while: a URL of a map is asked about five times on its way out.
    """
    try:
        parts = urlsplit(url.reveal())
    except ValueError:
        return SignedURL(version="unknown")
    query = dict(reversed(parse_query(parts.query)))
    version = _version(query)
    signed_at, expires_at = _life(version, query)
    own = "X-Amz-SignedHeaders" if version == "s3-v4" else "x-oss-additional-headers"
    credential = query.get("x-oss-credential") or query.get("X-Amz-Credential", "")
    scope = credential.rsplit("/", 4)
    tokens = ("security-token", "x-oss-security-token", "X-Amz-Security-Token")
    return SignedURL(
        version=version,
        host=parts.netloc.rpartition("@")[2],
        path=parts.path,
        signed_at=signed_at,
        expires_at=expires_at,
        additional_headers=tuple(
            name for name in query.get(own, "").lower().split(";") if name
        ),
        upload_id=query.get("uploadId") or None,
        part_number=_number(query.get("partNumber")),
        region=scope[2] if len(scope) == 5 else None,  # noqa: PLR2004 - key id and four
        has_token=any(name in query for name in tokens),
    )


def _version(query: Mapping[str, str]) -> URLVersion:
    oss = query.get("x-oss-signature-version")
    if oss == ALGORITHM:
        return "v4"
    if oss == "OSS2":
        return "v2"
    if "X-Amz-Algorithm" in query:
        return "s3-v4"
    if "OSSAccessKeyId" in query and "Signature" in query:
        return "v1"
    return "unknown"


def _life(
    version: URLVersion, query: Mapping[str, str]
) -> tuple[float | None, float | None]:
    if version in ("v4", "s3-v4"):
        prefix = "x-oss-" if version == "v4" else "X-Amz-"
        names = ("date", "expires") if version == "v4" else ("Date", "Expires")
        signed_at = parse_moment(query.get(prefix + names[0], ""))
        life = _number(query.get(prefix + names[1]))
        if signed_at is None or life is None:
            return signed_at, None
        return signed_at, signed_at + life
    return None, _number(query.get("x-oss-expires" if version == "v2" else "Expires"))


def _number(text: str | None) -> int | None:
    is_number = (
        text and text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
    )
    return int(text) if text and is_number else None

"""Facts in a presigned URL: version, lifetime, signed headers; no secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from attrs import frozen

from ..other_stores import (
    GOOGLE_ALGORITHM,
    GOOGLE_KEY_V2,
    GOOGLE_QUERY,
    S3_ALGORITHM,
    S3_HEADER,
    S3_KEY_V2,
    S3_QUERY,
)
from ..secret import SecretURL
from ..url_checks import oss_bucket
from .canonical import (
    ALGORITHM,
    SIGNATURES,
    TOKENS,
    is_always_signed,
    parse_moment,
    parse_query,
)

URLVersion = Literal["v1", "v2", "v4", "s3-v2", "s3-v4", "gcs-v2", "gcs-v4", "unknown"]
_DATED = ("v4", "s3-v4", "gcs-v4")  # versions with a date and a lifetime in seconds
_OF_SIGNATURES = ("x-oss-", S3_HEADER, "ossaccesskeyid", S3_KEY_V2.lower())
_is_start_of_v4 = re.compile(r"[0-9a-f]{1,63}").fullmatch
_is_number = re.compile(r"[0-9]{1,15}").fullmatch


@frozen(kw_only=True)
class SignedURL:
    """Facts in a presigned URL, without its signature, token and key.

    None means that the URL does not contain the fact. More headers than the listed ones
    may be signed.
    """

    version: URLVersion  # s3-* for S3-compatible stores, gcs-* for Google Cloud Storage
    host: str = ""  # with the port, if any; empty if the text is no URL
    path: str = ""  # percent-encoded path, as in the URL
    signed_at: float | None = None  # seconds since the epoch
    expires_at: float | None = None  # seconds since the epoch
    # lower-case names of the signed headers that the URL lists
    additional_headers: tuple[str, ...] = ()
    upload_id: str | None = None
    part_number: int | None = None
    region: str | None = None
    # True if a temporary (STS) key signed it; the key may expire earlier
    has_token: bool = False
    is_bare: bool = False  # True for a URL without a query, which holds no signature

    @property
    def is_v4(self) -> bool:
        return self.version in ("v4", "s3-v4")

    @property
    def is_s3(self) -> bool:
        """True for a URL of an S3-compatible store, such as Google Cloud Storage."""
        return self.version.startswith(("s3-", "gcs-"))

    def covers(self, name: str) -> bool:
        """Return whether the signature includes the header *name* (lower case)."""
        if self.version in ("s3-v4", "gcs-v4"):
            # these versions sign exactly the headers that the URL lists
            return name in self.additional_headers
        is_signed = is_always_signed(name) or name.startswith(S3_HEADER)
        return is_signed or name in self.additional_headers


@lru_cache(maxsize=256)  # a URL of a map is described five times before it is sent
def describe(url: SecretURL) -> SignedURL:
    """Return the facts in *url*; unreadable facts are None, never an error."""
    try:
        parts = urlsplit(url.reveal())
    except ValueError:
        return SignedURL(version="unknown")
    query = dict(reversed(parse_query(parts.query)))
    version = _version(query)
    names = _NAMES.get(version, _OSS_NAMES)
    date, life, listed, credential = (query.get(name, "") for name in names)
    is_dated = version in _DATED
    signed_at = parse_moment(date) if is_dated else None
    end = _number(life if is_dated or version == "v2" else query.get("Expires"))
    if is_dated:
        end = None if signed_at is None or end is None else signed_at + end
    scope = credential.rsplit("/", 4)
    return SignedURL(
        version=version,
        host=parts.netloc.rpartition("@")[2],
        path=parts.path,
        signed_at=signed_at,
        expires_at=end,
        additional_headers=tuple(n for n in listed.lower().split(";") if n),
        upload_id=query.get("uploadId") or None,
        part_number=_number(query.get("partNumber")),
        region=scope[2] if len(scope) == 5 else None,  # noqa: PLR2004 - key ID and four more pieces
        has_token=not query.keys().isdisjoint(TOKENS),
        is_bare=bool(parts.netloc) and not parts.query,
    )


def damage(url: SecretURL) -> str | None:
    """Return how *url* was damaged when it was copied; None if no damage is visible.

    A URL without any trace of a signature may lead to a gateway. It counts as damaged
    only if its host belongs to OSS.
    """
    parts = urlsplit(url.reveal())
    query = dict(parse_query(parts.query))
    names = [name.lower() for name in query]
    signature = next((query[name] for name in SIGNATURES if query.get(name)), "")
    # the pairs contain the signature, and tracebacks may show variables
    del query, parts
    if any(name.startswith("amp;") for name in names):
        return "has &amp; instead of &"
    if signature:
        is_cut = _is_start_of_v4(signature) is not None
        return "has only the start of its signature" if is_cut else None
    is_oss = oss_bucket(urlsplit(url.shown()).hostname or "") is not None
    is_signed = any(name.startswith(_OF_SIGNATURES) for name in names)
    return "has no signature" if is_oss or is_signed else None


# Parameters for date, lifetime, listed headers and credential.
_OSS_NAMES = tuple(
    f"x-oss-{name}" for name in ("date", "expires", "additional-headers", "credential")
)
_NAMES = {
    version: tuple(
        f"{prefix}{name}" for name in ("Date", "Expires", "SignedHeaders", "Credential")
    )
    for version, prefix in (("s3-v4", S3_QUERY), ("gcs-v4", GOOGLE_QUERY))
}


def _version(query: Mapping[str, str]) -> URLVersion:
    oss = query.get("x-oss-signature-version")
    if oss in (ALGORITHM, "OSS2"):
        return "v4" if oss == ALGORITHM else "v2"
    if S3_ALGORITHM in query:
        return "s3-v4"
    if GOOGLE_ALGORITHM in query:
        return "gcs-v4"
    if "Signature" in query:
        if "OSSAccessKeyId" in query:
            return "v1"
        if S3_KEY_V2 in query:
            return "s3-v2"
        if GOOGLE_KEY_V2 in query:
            return "gcs-v2"
    return "unknown"


def _number(text: str | None) -> int | None:
    return int(text) if text and _is_number(text) else None

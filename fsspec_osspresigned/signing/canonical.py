"""Formulas of OSS's query signatures, V1 and V4: string to sign, and signing key.

V1 is HMAC-SHA1 over a text, with the access key secret. V4 is HMAC-SHA256 over a
string that contains the SHA-256 of the canonical request. Its key is derived for one
day and region.
Both the signing and the verifying side use these formulas.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import re
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import parse_qsl

from attrs import field, frozen
from attrs.converters import optional

from .. import other_stores
from ..secret import Secret, SecretURL

ALGORITHM = "OSS4-HMAC-SHA256"
TERMINATOR = "aliyun_v4_request"
MAX_V4_LIFE = 604_800  # seconds (OSS, "Include a V4 signature in a URL")
# seconds by which two clocks may differ (OSS EC 0002-00000235 and 0002-00000504)
SKEW = 900

# Parameters that V1 signs besides x-oss-*. This is the union over the official SDKs.
SUBRESOURCES = frozenset(
    """
    accessPoint accessPointPolicy acl append asyncFetch bucketArchiveDirectRead
    bucketInfo callback callback-var cleanRestoredObject cloudboxes cname comp
    continuation-token cors delete encryption endTime group httpsConfig img inventory
    inventoryId lifecycle link live location logging metaQuery objectInfo objectMeta
    partNumber policy policyStatus position processConfiguration publicAccessBlock qos
    qosInfo qosRequester redundancyTransition referer regionList replication
    replicationLocation replicationProgress requesterQosInfo requestPayment
    resourceGroup resourcePool resourcePoolBuckets resourcePoolInfo
    response-cache-control response-content-disposition response-content-encoding
    response-content-language response-content-type response-expires responseHeader
    restore rtc seal security-token sequential startTime stat status style styleName
    symlink tagging transferAcceleration udf udfApplication udfApplicationLog udfId
    udfImage udfImageDesc udfName uploadId uploads versionId versioning versions vip
    vod vpcip website withHashContext worm wormExtend wormId
    """.split()  # noqa: SIM905 - a list of a hundred quoted names is not readable
)

# Secret query parameters of a signature: those of OSS V4, of other stores, and of V1
# and V2.
SIGNATURES = ("x-oss-signature", *other_stores.SIGNATURES, "Signature")
TOKENS = ("x-oss-security-token", other_stores.S3_TOKEN, "security-token")
OWN_PARAMETERS = frozenset(
    """
    Expires OSSAccessKeyId Signature security-token x-oss-access-key-id
    x-oss-additional-headers x-oss-credential x-oss-date x-oss-expires
    x-oss-security-token x-oss-signature x-oss-signature-version
    """.split()  # noqa: SIM905 - a list of many quoted names is not readable
)
_S3_V4, _S3_V2 = f"{other_stores.S3_ALGORITHM}=", f"{other_stores.S3_KEY_V2}="
SECRET_PARAMETERS = frozenset(name.lower() for name in SIGNATURES + TOKENS)

_is_unreserved = re.compile(r"[A-Za-z0-9._~-]*").fullmatch
_is_plain_path = re.compile(r"[A-Za-z0-9._~/-]*").fullmatch
_is_moment = re.compile(r"[0-9]{8}T[0-9]{6}Z").fullmatch


def as_secret(value: str | Secret) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)


@frozen(cache_hash=True)
class Credentials:
    """An access key; plain strings are converted to secrets.

    A temporary (STS) key has a *security_token*, and *expires_at* in seconds since the
    epoch; None if unknown.
    """

    access_key_id: str
    access_key_secret: Secret = field(converter=as_secret)
    security_token: Secret | None = field(default=None, converter=optional(as_secret))
    expires_at: float | None = None


def is_of_s3(url: SecretURL) -> bool:
    text = url.reveal()
    return _S3_V4 in text or _S3_V2 in text


def quote(text: str) -> str:
    """Percent-encode everything but unreserved characters (RFC 3986)."""
    if _is_unreserved(text):
        # most texts are unreserved, and the library takes twenty times as long
        return text
    return urllib.parse.quote(text, safe="", errors="surrogateescape")


@lru_cache(maxsize=16)  # the URL and the string to sign contain the same path
def quote_path(text: str) -> str:
    """Percent-encode everything but unreserved characters and ``/``."""
    if _is_plain_path(text):
        return text
    return urllib.parse.quote(text, errors="surrogateescape")


def parse_query(raw: str) -> list[tuple[str, str]]:
    """Return the decoded parameters of a query in order; without ``=``, the value is ""."""
    # Bytes that are not UTF-8 become lone surrogates, which ``quote`` turns back into
    # the bytes.
    return parse_qsl(raw, keep_blank_values=True, errors="surrogateescape")


@lru_cache(maxsize=16)
def parse_moment(text: str) -> int | None:
    """Return ``20260101T000000Z`` as seconds since the epoch; None if invalid."""
    if not _is_moment(text):
        return None
    try:
        return calendar.timegm(time.strptime(text, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return None


@lru_cache(maxsize=16)
def written_moment(now: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def is_subresource(name: str) -> bool:
    """Return whether V1 signs the query parameter *name*."""
    return name in SUBRESOURCES or name.startswith("x-oss-")


def is_always_signed(name: str) -> bool:
    """Return whether V4 signs the header *name* (lower case) whenever it is sent."""
    return name.startswith("x-oss-") or name in ("content-type", "content-md5")


def string_to_sign_v1(
    method: str,
    bucket: str,
    key: str,
    *,
    expires: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
) -> str:
    """Return the string to sign of V1 (OSS, "Include a V1 signature in a URL").

    *headers* have lower-case names; *key* and *query* are decoded. Headers and
    parameters that V1 does not sign are left out. *bucket* is empty for a call on the
    service.
    """
    md5 = headers.get("content-md5", "").strip()
    content_type = headers.get("content-type", "").strip()
    own = [name for name in sorted(headers) if name.startswith("x-oss-")]
    lines = "".join([f"{name}:{headers[name].strip()}\n" for name in own])
    resource = f"/{bucket}/{key}" if bucket else "/"
    names = [name for name in sorted(query) if is_subresource(name)]
    signed = "&".join([f"{n}={query[n]}" if query[n] else n for n in names])
    if signed:
        resource = f"{resource}?{signed}"
    return f"{method}\n{md5}\n{content_type}\n{expires}\n{lines}{resource}"


def sign_v1(secret: Secret, string_to_sign: str) -> str:
    """Return the signature in base64."""
    text = string_to_sign.encode("utf-8", "surrogateescape")
    digest = hmac.digest(secret.reveal().encode(), text, "sha1")
    return base64.b64encode(digest).decode()


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Return decoded *pairs* as V4's canonical query: encoded and sorted."""
    encoded = sorted([(quote(name), quote(value)) for name, value in pairs])
    return "&".join([f"{name}={value}" if value else name for name, value in encoded])


def canonical_request_v4(
    method: str,
    bucket: str,
    key: str,
    *,
    query: str,
    headers: Mapping[str, str],
    additional: Iterable[str],
) -> str:
    """Return the canonical request of V4 (OSS, "Include a V4 signature in a URL").

    The path consists of bucket and key, regardless of the URL's style. *query* is
    canonical and without the signature. *headers* have lower-case names. Headers that
    are neither always signed nor in the sorted *additional* are left out.
    """
    path = f"/{bucket}/{quote_path(key)}" if bucket else "/"
    if not headers:
        return f"{method}\n{path}\n{query}\n\n\nUNSIGNED-PAYLOAD"
    names = tuple(additional)
    lines = "".join(
        f"{name}:{headers[name].strip()}\n"
        for name in sorted(headers)
        if is_always_signed(name) or name in names
    )
    payload = headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD").strip()
    return f"{method}\n{path}\n{query}\n{lines}\n{';'.join(names)}\n{payload}"


def string_to_sign_v4(moment: str, scope: str, canonical_request: str) -> str:
    """Return the text that V4 signs; *scope* is ``day/region/oss/TERMINATOR``."""
    text = canonical_request.encode("utf-8", "surrogateescape")
    return f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(text).hexdigest()}"


@lru_cache(maxsize=64)
def day_key(secret: Secret, day: str, region: str) -> bytes:
    key = f"aliyun_v4{secret.reveal()}".encode()
    for piece in (day, region, "oss", TERMINATOR):
        key = hmac.digest(key, piece.encode(), "sha256")
    return key


def sign_v4(key: bytes, string_to_sign: str) -> str:
    """Return the signature in lower-case hexadecimal."""
    return hmac.digest(key, string_to_sign.encode(), "sha256").hex()

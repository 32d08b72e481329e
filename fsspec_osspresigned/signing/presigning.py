"""Presigned URLs of OSS, V1 and V4: made here, pure, with the clock passed in."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from types import MappingProxyType

from ..errors import ConfigurationError
from ..secret import Secret, SecretURL
from .canonical import (
    ALGORITHM,
    MAX_V4_LIFE,
    OWN_PARAMETERS,
    SUBRESOURCES,
    TERMINATOR,
    Credentials,
    canonical_query,
    canonical_request_v4,
    day_key,
    is_always_signed,
    is_subresource,
    quote,
    sign_v1,
    sign_v4,
    string_to_sign_v1,
    string_to_sign_v4,
)
from .endpoint import Endpoint, check_bucket, check_key

_NONE: Mapping[str, str] = MappingProxyType({})

_is_token = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_is_visible = re.compile(r"[!-~]+").fullmatch
_is_value = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?").fullmatch
_is_method = re.compile(r"[A-Z]+").fullmatch
_is_region = re.compile(r"(?!oss-)[a-z0-9][a-z0-9-]*").fullmatch
_OWN_HEADERS = frozenset({"authorization", "x-oss-date", "x-oss-security-token"})


def presign(
    credentials: Credentials,
    endpoint: Endpoint,
    *,
    method: str,
    bucket: str,
    key: str = "",
    headers: Mapping[str, str] = _NONE,
    query: Mapping[str, str] = _NONE,
    version: str = "v4",
    region: str | None = None,
    product: str = "oss",
    now: float,
    expires_in: int,
    additional_headers: Iterable[str] = (),
) -> SecretURL:
    """Return the presigned URL of one request.

    Args:
        credentials: sign it.
        endpoint: where the bucket is reached.
        method: upper case.
        bucket: always part of the signature, whatever the URL looks like.
        key: not encoded; empty for a call on the bucket.
        headers: that will be sent; of them Content-Type, Content-MD5 and ``x-oss-*``
            are signed, the others only if *additional_headers* names them.
        query: parameters beside those of the signature, decoded.
        version: ``v4``, or ``v1``, which the service refuses for new buckets.
        region: without ``oss-`` in front; V4 needs it.
        product: ``oss``, or ``oss-cloudbox`` for a cloud box.
        now: seconds since the epoch; the life begins here.
        expires_in: seconds; 1..604800 for V4.
        additional_headers: names of more headers to sign; V4 only.

    Raises:
        ConfigurationError: what the service would refuse; all problems at once.
    """
    listed = tuple(additional_headers)
    problems = [
        *_problems_of_key(credentials),
        *_problems_of_target(method, bucket, key),
        *_problems_of_life(version, expires_in),
    ]
    if headers or listed:
        problems += _problems_of_headers(headers, listed, version)
    if query:
        problems += _problems_of_query(query)
    if version == "v1":
        problems += _problems_of_v1(key, query)
    elif not region:
        problems.append("no region: V4 signs it, for example cn-hangzhou")
    elif not _is_region(region):
        problems.append(
            f"region {region[:80]!r} is no region id: write cn-hangzhou, without oss-"
        )
    if not _is_token(product) or "/" in product:
        problems.append(f"product {product[:80]!r} is no product name: use oss")
    if problems:
        raise ConfigurationError(problems)
    return presign_unchecked(
        credentials,
        endpoint,
        method=method,
        bucket=bucket,
        key=key,
        headers=headers,
        query=query,
        version=version,
        region=region or "",
        product=product,
        now=now,
        expires_in=expires_in,
        additional_headers=listed,
    )


def presign_unchecked(
    credentials: Credentials,
    endpoint: Endpoint,
    *,
    method: str,
    bucket: str,
    key: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    version: str,
    region: str,
    product: str,
    now: float,
    expires_in: int,
    additional_headers: tuple[str, ...],
) -> SecretURL:
    """Sign as ``presign`` does, names and values as they are: a test's view."""
    base = endpoint.url(bucket, key)
    lowered = (
        {name.lower(): value for name, value in headers.items()} if headers else _NONE
    )
    parameters = dict(query)
    token = credentials.security_token
    if version == "v1":
        expires = str(int(now) + expires_in)
        if token is not None:
            parameters["security-token"] = token.reveal()
        text = string_to_sign_v1(
            method, bucket, key, expires=expires, headers=lowered, query=parameters
        )
        signature = sign_v1(credentials.access_key_secret, text)
        written = canonical_query(parameters.items()) + "&" if parameters else ""
        name = quote(credentials.access_key_id)
        return SecretURL(
            f"{base}?{written}OSSAccessKeyId={name}&Expires={expires}"
            f"&Signature={quote(signature)}"
        )
    moment = _moment(int(now))
    day = moment[:8]
    scope = f"{day}/{region}/{product}/{TERMINATOR}"
    names: list[str] = []
    if additional_headers:
        wanted = {name.lower() for name in additional_headers}
        names = sorted(n for n in wanted if n in lowered and not is_always_signed(n))
    credential = f"{credentials.access_key_id}/{scope}"
    own = (credential, token, moment, expires_in, ";".join(names))
    if parameters:
        written = canonical_query((parameters | _own(*own)).items())
    else:
        written = _own_query(*own)
    request = canonical_request_v4(
        method, bucket, key, query=written, headers=lowered, additional=names
    )
    text = string_to_sign_v4(moment, scope, request)
    secret = credentials.access_key_secret
    signature = sign_v4(day_key(secret, day, region, product), text)
    return SecretURL(f"{base}?{written}&x-oss-signature={signature}")


@lru_cache(maxsize=16)
def _moment(now: int) -> str:
    """Return seconds since the epoch as V4 writes them."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def _own(
    credential: str, token: Secret | None, moment: str, life: int, listed: str
) -> dict[str, str]:
    """Return the parameters of V4 itself, but for the signature."""
    parameters = {
        "x-oss-signature-version": ALGORITHM,
        "x-oss-credential": credential,
        "x-oss-date": moment,
        "x-oss-expires": str(life),
    }
    if token is not None:
        parameters["x-oss-security-token"] = token.reveal()
    if listed:
        parameters["x-oss-additional-headers"] = listed
    return parameters


@lru_cache(maxsize=64)
def _own_query(
    credential: str, token: Secret | None, moment: str, life: int, listed: str
) -> str:
    """Return them as a query, which is the same for all small files of a second."""
    return canonical_query(_own(credential, token, moment, life, listed).items())


def _problems_of_key(credentials: Credentials) -> list[str]:
    problems = []
    name = credentials.access_key_id
    if not name:
        problems.append("the access key id is empty")
    elif "/" in name or not _is_visible(name):
        problems.append("the access key id holds a blank, a slash or no ASCII")
    if not credentials.access_key_secret.reveal():
        problems.append("the access key secret is empty")
    token = credentials.security_token
    if token is not None and not _is_visible(token.reveal()):
        problems.append(
            "the security token is empty or holds blanks: use None for none"
        )
    return problems


def _problems_of_target(method: str, bucket: str, key: str) -> list[str]:
    problems = []
    if not _is_method(method):
        problems.append(f"method {method[:20]!r} is not in upper-case letters")
    found = check_bucket(bucket)
    if found:
        problems.append(found)
    found = check_key(key) if key else None
    if found:
        problems.append(found)
    return problems


def _problems_of_life(version: str, expires_in: int) -> list[str]:
    if version not in ("v1", "v4"):
        return [f"signature version {version[:20]!r}: use v4 or v1"]
    if isinstance(expires_in, bool) or not isinstance(expires_in, int):
        return [f"expires_in is {expires_in!r}: use whole seconds"]
    if version == "v4" and not 1 <= expires_in <= MAX_V4_LIFE:
        return [f"expires_in is {expires_in}: V4 allows 1..{MAX_V4_LIFE} seconds"]
    if expires_in < 1:
        return [f"expires_in is {expires_in}: use a positive number of seconds"]
    return []


def _problems_of_headers(
    headers: Mapping[str, str], listed: tuple[str, ...], version: str
) -> list[str]:
    problems = []
    seen = set()
    for name, value in headers.items():
        low = name.lower()
        if not _is_token(name):
            problems.append(f"header {name[:80]!r} is no header name")
        elif low in _OWN_HEADERS:
            problems.append(f"header {name} would break the signature in the URL")
        elif low in seen:
            problems.append(f"header {name} is given twice")
        if not _is_value(value):
            problems.append(
                f"the value of header {name[:80]!r} is not printable ASCII without "
                "blanks around it: encode it"
            )
        seen.add(low)
    if listed and version == "v1":
        problems.append(f"V1 cannot sign the headers {', '.join(listed)}: use v4")
    for name in listed:
        if name.lower() not in seen:
            problems.append(f"additional header {name[:80]!r} is not among the headers")
        elif "_" in name:
            problems.append(
                f"header {name[:80]!r} cannot be signed: it has an underscore"
            )
    return problems


def _problems_of_query(query: Mapping[str, str]) -> list[str]:
    problems = []
    for name, value in query.items():
        if not name:
            problems.append("a query parameter has no name")
        elif name in OWN_PARAMETERS:
            problems.append(f"query parameter {name} belongs to the signature")
        try:
            (name + value).encode()
        except UnicodeEncodeError:
            problems.append(f"query parameter {name[:80]!r} is not valid Unicode")
    return problems


def _problems_of_v1(key: str, query: Mapping[str, str]) -> list[str]:
    """Find what V1, which signs without encoding, cannot tell from other requests.

    The key ``a?acl`` and the sub-resource ``acl`` of the key ``a`` have one signature;
    so has the value ``x&tagging``. Who may choose one must not be given the other.
    """
    problems = []
    if "?" in key and re.search(rf"\?{_signed()}", key):
        problems.append(
            f"key {key[:80]!r} reads like a key with sub-resources in V1: use v4"
        )
    problems += [
        f"the value of query parameter {name} reads like two parameters in V1: use v4"
        for name, value in query.items()
        if "&" in value and is_subresource(name) and re.search(f"&{_signed()}", value)
    ]
    return problems


@cache
def _signed() -> str:
    """Return what V1 reads as a signed parameter, behind a ? or &; a pattern."""
    names = "|".join(map(re.escape, sorted(SUBRESOURCES)))
    return rf"(?:x-oss-[^=&?]*|{names})(?:[=&?]|$)"

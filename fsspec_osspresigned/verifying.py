"""Judging a presigned request as the service does: for the emulator and for tests.

Works on what arrived - method, decoded path, raw query, headers - and never on a URL
that this package made.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Container, Mapping

from attrs import field, frozen

from .model import frozen_mapping
from .signature import (
    ALGORITHM,
    MAX_V4_LIFE,
    TERMINATOR,
    Credentials,
    canonical_query,
    canonical_request_v4,
    day_key,
    parse_moment,
    parse_query,
    sign_v1,
    sign_v4,
    string_to_sign_v1,
    string_to_sign_v4,
)

_SKEW = 900  # seconds that a signer's clock may be ahead (OSS EC 0002-00000235)
_PRODUCTS = ("oss", "oss-cloudbox")
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your key and signing method."
)
_is_number = re.compile(r"-?[0-9]{1,15}").fullmatch
_is_visible = re.compile(r"[!-~]+").fullmatch


@frozen(kw_only=True)
class Received:
    """A request as a server got it.

    Attributes:
        method: as it came.
        bucket: from the host or the path; empty if none.
        key: decoded; bytes that are no UTF-8 as lone surrogates.
        query: as it came, not decoded.
        headers: lower-case names; values decoded as UTF-8.
    """

    method: str
    bucket: str
    key: str
    query: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(
        factory=dict, converter=frozen_mapping, repr=False
    )


@frozen(kw_only=True)
class Refusal:
    """The error that the service answers to a request.

    Attributes:
        status: HTTP status.
        code: OSS error code.
        message: for people.
        ec: OSS's finer number, as its documentation lists it; empty if not documented.
        extras: further members of the error document; they repeat what came, secrets
            included, as the service does.
    """

    status: int
    code: str
    message: str
    ec: str = ""
    extras: Mapping[str, str] = field(
        factory=dict, converter=frozen_mapping, repr=False
    )


def verify(
    received: Received,
    *,
    find: Callable[[str], Credentials | None],
    now: float,
    regions: Container[str] | None = None,
) -> Refusal | None:
    """Return why the service would refuse *received*; None if the signature is good.

    Args:
        received: the request.
        find: the credentials of an access key id; None if there are none.
        now: seconds since the epoch.
        regions: those that V4 may be signed for; None is every region.
    """
    pairs = parse_query(received.query)
    first = dict(reversed(pairs))
    version = first.get("x-oss-signature-version")
    is_signed = version is not None or not first.keys().isdisjoint(
        ("OSSAccessKeyId", "Signature", "Expires")
    )
    if "authorization" in received.headers:
        if is_signed:
            return _invalid("The request is signed in its header and in its query.")
        return Refusal(
            status=400,
            code="NotImplemented",
            message="Only signatures in the query are understood here.",
        )
    if not is_signed:
        return _denied(
            "You have no right to access this object because of bucket acl.",
            "0003-00000001",
        )
    world = _World(find, now, regions)
    if version is None:
        return _verify_v1(received, first, world)
    if version == ALGORITHM:
        return _verify_v4(received, pairs, world)
    return _invalid("The signature version is not supported.", "0002-00000066")


@frozen
class _World:
    """What the server knows beside the request."""

    find: Callable[[str], Credentials | None]
    now: float
    regions: Container[str] | None

    def key(self, name: str, token: str | None) -> Credentials | Refusal:
        """Return the credentials of *name* if *token* is theirs, else the refusal."""
        credentials = self.find(name)
        if credentials is None:
            return _unknown_key(name)
        return _check_token(credentials, token, self.now) or credentials


def _verify_v1(
    received: Received, query: Mapping[str, str], world: _World
) -> Refusal | None:
    # Life first: a URL that is stale and wrong is reported as stale.
    name = query.get("OSSAccessKeyId", "")
    given = query.get("Signature", "")
    refusal = _check_expires(query.get("Expires"), world.now) or _check_v1_pieces(
        received, name, given
    )
    if refusal:
        return refusal
    found = world.key(name, query.get("security-token"))
    if isinstance(found, Refusal):
        return found
    text = string_to_sign_v1(
        received.method,
        received.bucket,
        received.key,
        expires=query["Expires"],
        headers=received.headers,
        query=query,
    )
    if _same(sign_v1(found.access_key_secret, text), given):
        return None
    return _mismatch("0002-00000040", name, given, text)


def _check_expires(expires: str | None, now: float) -> Refusal | None:
    if expires is None:
        return _denied("The Expires parameter is missing.", "0002-00000067")
    if not expires:
        return _denied("The Expires parameter is empty.", "0002-00000068")
    if not _is_number(expires):
        return _denied("Invalid date (should be seconds since epoch)", "0002-00000070")
    if now > int(expires):
        return _denied("Request has expired.", "0002-00000069", now)
    return None


def _check_v1_pieces(received: Received, name: str, given: str) -> Refusal | None:
    if not name:
        return _denied("The OSSAccessKeyId parameter is missing.")
    if not given:
        return _denied("The Signature parameter is missing.")
    if "x-oss-security-token" in received.headers:
        return Refusal(
            status=400,
            code="InvalidRequest",
            message="Security-token must be provided by query string parameter.",
        )
    return None


def _verify_v4(
    received: Received, pairs: list[tuple[str, str]], world: _World
) -> Refusal | None:
    query = dict(reversed(pairs))
    name, *scope = query.get("x-oss-credential", "").rsplit("/", 4)
    moment = query.get("x-oss-date", "")
    additional = query.get("x-oss-additional-headers", "")
    given = query.get("x-oss-signature", "")
    refusal = (
        _check_scope(name, scope, world.regions)
        or _check_time(moment, scope, query.get("x-oss-expires"), world.now)
        or _check_additional(received, additional, given)
    )
    if refusal:
        return refusal
    found = world.key(name, query.get("x-oss-security-token"))
    if isinstance(found, Refusal):
        return found
    # Only the first signature is left out, so that a second one is an unsigned addition.
    at = next(i for i, pair in enumerate(pairs) if pair[0] == "x-oss-signature")
    request = canonical_request_v4(
        received.method,
        received.bucket,
        received.key,
        query=canonical_query(pairs[:at] + pairs[at + 1 :]),
        headers=received.headers,
        additional=_listed(additional),
    )
    text = string_to_sign_v4(moment, "/".join(scope), request)
    key = day_key(found.access_key_secret, *scope[:3])
    if _same(sign_v4(key, text), given):
        return None
    return _mismatch("0002-00000201", name, given, text, request)


def _check_scope(
    name: str, scope: list[str], regions: Container[str] | None
) -> Refusal | None:
    if not name and not scope:
        return _invalid("The x-oss-credential parameter is missing.", "0002-00000217")
    if len(scope) != 4 or scope[3] != TERMINATOR:  # noqa: PLR2004 - day/region/product/end
        return _invalid("The x-oss-credential parameter is malformed.", "0002-00000224")
    _, region, product, _ = scope
    if not _is_visible(name):
        return _invalid("The access key id is malformed.", "0002-00000222")
    if not _is_visible(region) or (regions is not None and region not in regions):
        return _invalid("The signing region in credential is invalid.", "0002-00000226")
    if product not in _PRODUCTS:
        return _invalid(
            "The signing product in credential is invalid.", "0002-00000227"
        )
    return None


def _check_time(
    moment: str, scope: list[str], expires: str | None, now: float
) -> Refusal | None:
    if expires is None:
        return _invalid("The x-oss-expires parameter is missing.", "0002-00000215")
    if not _is_number(expires) or not 1 <= int(expires) <= MAX_V4_LIFE:
        return _invalid("The x-oss-expires parameter is invalid.", "0002-00000232")
    signed_at = parse_moment(moment)
    if signed_at is None or moment[:8] != scope[0]:
        return _invalid("The x-oss-date parameter is missing or invalid.")
    if now < signed_at - _SKEW:
        return _denied("Request is not valid yet.", "0002-00000235", now)
    if now > signed_at + int(expires):
        return _denied("Request has expired.", "0002-00000236", now)
    return None


def _listed(additional: str) -> list[str]:
    return sorted(set(additional.lower().split(";"))) if additional else []


def _check_additional(
    received: Received, additional: str, given: str
) -> Refusal | None:
    if not given:
        return _invalid("The x-oss-signature parameter is missing.")
    if additional.endswith(";"):
        return _invalid(
            "The x-oss-additional-headers parameter is malformed.", "0002-00000210"
        )
    absent = [name for name in _listed(additional) if name not in received.headers]
    if absent:
        return _invalid(f"The signed header {absent[0][:80]} was not sent.")
    return None


def _check_token(
    credentials: Credentials, given: str | None, now: float
) -> Refusal | None:
    token = credentials.security_token
    if token is None:
        if given is None:
            return None
        return _denied_as(
            "AccessKeyIdAndSecurityTokenNotMatch",
            "The access key id takes no security token.",
        )
    if given is None:
        return _unknown_key(credentials.access_key_id)
    if not _same(token.reveal(), given):
        return _denied_as("InvalidSecurityToken", "The security token is invalid.")
    if credentials.expires_at is not None and now >= credentials.expires_at:
        return _denied_as("SecurityTokenExpired", "The security token has expired.")
    return None


def _same(wanted: str, given: str) -> bool:
    return hmac.compare_digest(
        wanted.encode(), given.encode("utf-8", "surrogateescape")
    )


def _invalid(message: str, ec: str = "") -> Refusal:
    return Refusal(status=400, code="InvalidArgument", message=message, ec=ec)


def _denied_as(code: str, message: str) -> Refusal:
    return Refusal(status=403, code=code, message=message)


def _denied(message: str, ec: str = "", now: float | None = None) -> Refusal:
    extras = {}
    if now is not None:
        extras["ServerTime"] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now))
    return Refusal(
        status=403, code="AccessDenied", message=message, ec=ec, extras=extras
    )


def _unknown_key(name: str) -> Refusal:
    return Refusal(
        status=403,
        code="InvalidAccessKeyId",
        message="The OSS access key id you provided does not exist in our records.",
        ec="0002-00000902",
        extras={"OSSAccessKeyId": name},
    )


def _mismatch(
    ec: str, name: str, given: str, text: str, request: str | None = None
) -> Refusal:
    extras = {
        "OSSAccessKeyId": name,
        "SignatureProvided": given,
        "StringToSign": text,
        "StringToSignBytes": text.encode("utf-8", "surrogateescape").hex(" ").upper(),
    }
    if request is not None:
        extras["CanonicalRequest"] = request
    return Refusal(
        status=403,
        code="SignatureDoesNotMatch",
        message=_MISMATCH,
        ec=ec,
        extras=extras,
    )

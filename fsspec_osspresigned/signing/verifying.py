"""Judging a signed request as the service does: for the emulator and for tests.

Works on what arrived - method, decoded path, raw query, headers - and never on a URL
that this package made. A signature stands in the query, as in a presigned URL, or in
the header ``Authorization``, as the SDKs send it.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Container, Iterable, Mapping
from email.utils import parsedate_to_datetime

from attrs import field, frozen

from ..model import frozen_mapping
from .canonical import (
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

# What every judge of a signature goes by: what arrived, what is known, and the errors.

SKEW = 900  # seconds that two clocks may differ (OSS EC 0002-00000235 and -504)

_PRODUCTS = ("oss", "oss-cloudbox")
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your key and signing method."
)
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


@frozen
class World:
    """What the server knows beside the request."""

    find: Callable[[str], Credentials | None]
    now: float
    regions: Container[str] | None

    def key(self, name: str, token: str | None) -> Credentials | Refusal:
        """Return the credentials of *name* if *token* is theirs, else the refusal."""
        credentials = self.find(name)
        if credentials is None:
            return unknown_key(name)
        return check_token(credentials, token, self.now) or credentials


def check_scope(
    name: str, scope: list[str], regions: Container[str] | None
) -> Refusal | None:
    """Return what is wrong with the credential of a V4 signature; None if nothing is."""
    if not name and not scope:
        return invalid("The x-oss-credential parameter is missing.", "0002-00000217")
    if len(scope) != 4 or scope[3] != TERMINATOR:  # noqa: PLR2004 - day/region/product/end
        return invalid("The x-oss-credential parameter is malformed.", "0002-00000224")
    _, region, product, _ = scope
    if not _is_visible(name):
        return invalid("The access key id is malformed.", "0002-00000222")
    if not _is_visible(region) or (regions is not None and region not in regions):
        return invalid("The signing region in credential is invalid.", "0002-00000226")
    if product not in _PRODUCTS:
        return invalid("The signing product in credential is invalid.", "0002-00000227")
    return None


def listed(additional: str) -> list[str]:
    """Return the names of additional headers, lower case and sorted."""
    return sorted(set(additional.lower().split(";"))) if additional else []


def check_token(
    credentials: Credentials, given: str | None, now: float
) -> Refusal | None:
    """Return what is wrong with the STS token that came with a key; None if nothing is."""
    token = credentials.security_token
    if token is None:
        if given is None:
            return None
        return denied_as(
            "AccessKeyIdAndSecurityTokenNotMatch",
            "The access key id takes no security token.",
        )
    if given is None:
        return unknown_key(credentials.access_key_id)
    if not same(token.reveal(), given):
        return denied_as("InvalidSecurityToken", "The security token is invalid.")
    if credentials.expires_at is not None and now >= credentials.expires_at:
        return denied_as("SecurityTokenExpired", "The security token has expired.")
    return None


def same(wanted: str, given: str) -> bool:
    """Compare two signatures or tokens, in a time that tells nothing about them."""
    return hmac.compare_digest(
        wanted.encode(), given.encode("utf-8", "surrogateescape")
    )


def invalid(message: str, ec: str = "") -> Refusal:
    """Return the refusal of a request that cannot be judged."""
    return Refusal(status=400, code="InvalidArgument", message=message, ec=ec)


def denied_as(code: str, message: str) -> Refusal:
    """Return a 403 of another code."""
    return Refusal(status=403, code=code, message=message)


def denied(message: str, ec: str = "", now: float | None = None) -> Refusal:
    """Return the refusal of access; with *now* it says the server's time."""
    extras = {} if now is None else {"ServerTime": _iso(now)}
    return Refusal(
        status=403, code="AccessDenied", message=message, ec=ec, extras=extras
    )


def skewed(given: str, now: float) -> Refusal:
    """Return the refusal of a header signature whose date is too far from *now*."""
    return Refusal(
        status=403,
        code="RequestTimeTooSkewed",
        message="The difference between the request time and the current time is too "
        "large.",
        ec="0002-00000504",
        extras={
            "MaxAllowedSkewMilliseconds": str(SKEW * 1000),
            "RequestTime": given,
            "ServerTime": _iso(now),
        },
    )


def unknown_key(name: str) -> Refusal:
    """Return the refusal of an access key id that nobody has."""
    return Refusal(
        status=403,
        code="InvalidAccessKeyId",
        message="The OSS access key id you provided does not exist in our records.",
        ec="0002-00000902",
        extras={"OSSAccessKeyId": name},
    )


def mismatch(
    ec: str, name: str, given: str, text: str, request: str | None = None
) -> Refusal:
    """Return the refusal of a signature, with what the server has signed itself."""
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


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


_PAYLOAD = "x-oss-content-sha256"
_TOKEN = "x-oss-security-token"  # noqa: S105 - the name of a header
_is_number = re.compile(r"-?[0-9]{1,15}").fullmatch
_is_v1_header = re.compile(r"OSS +([^: ]+):(\S+)").fullmatch


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
    world = World(find, now, regions)
    header = received.headers.get("authorization")
    if header is not None:
        if is_signed:
            return invalid("The request is signed in its header and in its query.")
        return _verify_header(received, header, pairs, world)
    if not is_signed:
        return denied(
            "You have no right to access this object because of bucket acl.",
            "0003-00000001",
        )
    if version is None:
        return _verify_v1(received, first, world)
    if version == ALGORITHM:
        return _verify_v4(received, pairs, world)
    return invalid("The signature version is not supported.", "0002-00000066")


def _verify_v1(
    received: Received, query: Mapping[str, str], world: World
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
    return _compare_v1(received, found, query, expires=query["Expires"], given=given)


def _compare_v1(
    received: Received,
    credentials: Credentials,
    query: Mapping[str, str],
    *,
    expires: str,
    given: str,
) -> Refusal | None:
    text = string_to_sign_v1(
        received.method,
        received.bucket,
        received.key,
        expires=expires,
        headers=received.headers,
        query=query,
    )
    if same(sign_v1(credentials.access_key_secret, text), given):
        return None
    return mismatch("0002-00000040", credentials.access_key_id, given, text)


def _check_expires(expires: str | None, now: float) -> Refusal | None:
    if expires is None:
        return denied("The Expires parameter is missing.", "0002-00000067")
    if not expires:
        return denied("The Expires parameter is empty.", "0002-00000068")
    if not _is_number(expires):
        return denied("Invalid date (should be seconds since epoch)", "0002-00000070")
    if now > int(expires):
        return denied("Request has expired.", "0002-00000069", now)
    return None


def _check_v1_pieces(received: Received, name: str, given: str) -> Refusal | None:
    if not name:
        return denied("The OSSAccessKeyId parameter is missing.")
    if not given:
        return denied("The Signature parameter is missing.")
    if "x-oss-security-token" in received.headers:
        return Refusal(
            status=400,
            code="InvalidRequest",
            message="Security-token must be provided by query string parameter.",
        )
    return None


def _verify_v4(
    received: Received, pairs: list[tuple[str, str]], world: World
) -> Refusal | None:
    query = dict(reversed(pairs))
    name, *scope = query.get("x-oss-credential", "").rsplit("/", 4)
    moment = query.get("x-oss-date", "")
    additional = query.get("x-oss-additional-headers", "")
    given = query.get("x-oss-signature", "")
    refusal = (
        check_scope(name, scope, world.regions)
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
    claim = _Claim(name, scope, moment, listed(additional), given, "0002-00000201")
    return _compare_v4(received, found, pairs[:at] + pairs[at + 1 :], claim)


@frozen
class _Claim:
    """What a V4 signature says of itself.

    Attributes:
        name: access key id.
        scope: day, region, product, end.
        moment: ``20260101T000000Z``.
        additional: names of the additional headers.
        given: the signature.
        ec: of a mismatch.
    """

    name: str
    scope: list[str]
    moment: str
    additional: list[str]
    given: str
    ec: str = ""


def _compare_v4(
    received: Received,
    credentials: Credentials,
    pairs: Iterable[tuple[str, str]],
    claim: _Claim,
) -> Refusal | None:
    request = canonical_request_v4(
        received.method,
        received.bucket,
        received.key,
        query=canonical_query(pairs),
        headers=received.headers,
        additional=claim.additional,
    )
    text = string_to_sign_v4(claim.moment, "/".join(claim.scope), request)
    key = day_key(credentials.access_key_secret, *claim.scope[:3])
    if same(sign_v4(key, text), claim.given):
        return None
    return mismatch(claim.ec, claim.name, claim.given, text, request)


def _verify_header(
    received: Received, header: str, pairs: list[tuple[str, str]], world: World
) -> Refusal | None:
    found = _is_v1_header(header)
    if found:
        query = dict(reversed(pairs))
        return _verify_v1_header(received, found[1], found[2], query, world)
    scheme, _, text = header.partition(" ")
    if scheme == ALGORITHM:
        named = [piece.strip().partition("=") for piece in text.split(",")]
        return _verify_v4_header(
            received, {name: value for name, _, value in named}, pairs, world
        )
    return invalid("The Authorization header is invalid.")


def _verify_v1_header(
    received: Received, name: str, given: str, query: Mapping[str, str], world: World
) -> Refusal | None:
    headers = received.headers
    date = headers.get("x-oss-date") or headers.get("date", "")
    moment = _parse_date(date)
    if moment is None:
        return denied("OSS authentication requires a valid Date.")
    if abs(world.now - moment) > SKEW:
        return skewed(date, world.now)
    # The second name is what alibabacloud-oss-v2 sends; as a header it is not signed.
    token = headers.get(_TOKEN, headers.get("security-token"))
    found = world.key(name, token)
    if isinstance(found, Refusal):
        return found
    return _compare_v1(received, found, query, expires=date, given=given)


def _parse_date(text: str) -> float | None:
    """Return a date as HTTP or as V4 writes it in seconds; None if it is neither."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (OverflowError, ValueError):
        return parse_moment(text)


def _verify_v4_header(
    received: Received,
    given: Mapping[str, str],
    pairs: list[tuple[str, str]],
    world: World,
) -> Refusal | None:
    headers = received.headers
    name, *scope = given.get("Credential", "").rsplit("/", 4)
    date = headers.get("x-oss-date") or headers.get("date", "")
    additional = given.get("AdditionalHeaders", "")
    signature = given.get("Signature", "")
    refusal = (
        check_scope(name, scope, world.regions)
        or _check_header_time(date, scope[0], world.now)
        or _check_additional(received, additional, signature)
    )
    if refusal:
        return refusal
    found = world.key(name, headers.get(_TOKEN))
    if isinstance(found, Refusal):
        return found
    claim = _Claim(name, scope, date, listed(additional), signature)
    if headers.get(_PAYLOAD) != "UNSIGNED-PAYLOAD":
        return invalid(f"The header {_PAYLOAD} must be UNSIGNED-PAYLOAD.")
    return _compare_v4(received, found, pairs, claim)


def _check_header_time(date: str, day: str, now: float) -> Refusal | None:
    moment = parse_moment(date)
    if moment is None or date[:8] != day:
        return denied("OSS authentication requires a valid Date.")
    return skewed(date, now) if abs(now - moment) > SKEW else None


def _check_time(
    moment: str, scope: list[str], expires: str | None, now: float
) -> Refusal | None:
    if expires is None:
        return invalid("The x-oss-expires parameter is missing.", "0002-00000215")
    if not _is_number(expires) or not 1 <= int(expires) <= MAX_V4_LIFE:
        return invalid("The x-oss-expires parameter is invalid.", "0002-00000232")
    signed_at = parse_moment(moment)
    if signed_at is None or moment[:8] != scope[0]:
        return invalid("The x-oss-date parameter is missing or invalid.")
    if now < signed_at - SKEW:
        return denied("Request is not valid yet.", "0002-00000235", now)
    if now > signed_at + int(expires):
        return denied("Request has expired.", "0002-00000236", now)
    return None


def _check_additional(
    received: Received, additional: str, given: str
) -> Refusal | None:
    if not given:
        return invalid("The x-oss-signature is missing.")
    if additional.endswith(";"):
        return invalid("The x-oss-additional-headers are malformed.", "0002-00000210")
    absent = [name for name in listed(additional) if name not in received.headers]
    if absent:
        return invalid(f"The signed header {absent[0][:80]} was not sent.")
    return None

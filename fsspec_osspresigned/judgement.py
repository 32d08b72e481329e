"""What every judge of a signature goes by: what arrived, what is known, and the errors."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Container, Mapping

from attrs import field, frozen

from .model import frozen_mapping
from .signature import TERMINATOR, Credentials

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

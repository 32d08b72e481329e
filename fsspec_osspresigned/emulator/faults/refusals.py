"""Refusals on demand: the errors that OSS answers for one of nine reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from ...secret import Secret
from ...signing import Credentials, verify
from ...signing.verifying import Refusal
from ..message.call import Call
from ..message.errors import refused
from ..message.replies import http_date, iso_date
from ..settings import DEFAULT_REGION, EmulatorSettings

_MAX_SKEW = 900  # seconds
_signed_header = re.compile(
    r"OSS (?P<v1>[^:]+):.*|OSS4-HMAC-SHA256 +Credential=(?P<v4>[^/]+)/.*"
).fullmatch


@frozen
class RefusedCall:
    """A call that is refused, and the settings of the emulator that refuses it."""

    call: Call
    settings: EmulatorSettings

    @property
    def now(self) -> float:
        """The server's time."""
        return self.settings.clock()

    @property
    def is_v4(self) -> bool:
        """Whether the signature is of version 4."""
        found = _signed_header(self.call.headers.get("authorization", ""))
        in_query = "x-oss-signature-version" in self.call.parameters
        return in_query or bool(found and found["v4"])

    @property
    def key_id(self) -> str:
        """The access key ID that signed."""
        found = _signed_header(self.call.headers.get("authorization", ""))
        if found:
            return found["v1"] or found["v4"]
        scope = self.call.parameters.get("x-oss-credential", "")
        return self.call.parameters.get("OSSAccessKeyId") or scope.partition("/")[0]

    def verify(self, find: Callable[[str], Credentials | None]) -> Refusal:
        """Return the refusal of a server that knows only the keys of *find*."""
        refusal = verify(self.call.received, find=find, now=self.now)
        assert refusal is not None  # noqa: S101 - no secret that *find* knows has signed
        return refusal


def wrong_region(bucket: str, region: str) -> Refusal:
    """Return the refusal of an endpoint that is not that of *region*."""
    return refused(
        "AccessDenied",
        "The bucket you are attempting to access must be addressed using the specified "
        "endpoint. Please send all future requests to this endpoint.",
        ec="0003-00001403",
        Bucket=bucket,
        Endpoint=f"oss-{region}.aliyuncs.com",
    ).refusal


def _denied(_: RefusedCall) -> Refusal:
    return refused(
        "AccessDenied",
        "You have no right to access this object because of bucket policy.",
    ).refusal


def _expired(case: RefusedCall) -> Refusal:
    return refused(
        "AccessDenied",
        "Request has expired.",
        ec="0002-00000236" if case.is_v4 else "0002-00000069",
        Expires=iso_date(case.now - 1),
        ServerTime=iso_date(case.now),
    ).refusal


def _not_yet(case: RefusedCall) -> Refusal:
    return refused(
        "AccessDenied",
        "Request is not valid yet.",
        ec="0002-00000235",
        ServerTime=iso_date(case.now),
    ).refusal


def _key_disabled(case: RefusedCall) -> Refusal:
    return refused(
        "InvalidAccessKeyId",
        "The OSS Access Key Id you provided is disabled.",
        ec="0002-00000903",
        OSSAccessKeyId=case.key_id,
    ).refusal


def _signature(case: RefusedCall) -> Refusal:
    """Verify with another secret, so that the document is the real one."""

    def find(name: str) -> Credentials | None:
        key = case.settings.keys.get(name)
        return key and evolve(key, access_key_secret=Secret("another"))

    return case.verify(find)


def _skewed(case: RefusedCall) -> Refusal:
    return refused(
        "RequestTimeTooSkewed",
        MaxAllowedSkewMilliseconds=str(_MAX_SKEW * 1000),
        RequestTime=http_date(case.now - 2 * _MAX_SKEW),
        ServerTime=iso_date(case.now),
    ).refusal


def _other_region(case: RefusedCall) -> Refusal:
    here = case.settings.region == "eu-central-1"
    return wrong_region(case.call.bucket, DEFAULT_REGION if here else "eu-central-1")


REASONS: Mapping[str, Callable[[RefusedCall], Refusal]] = {
    "denied": _denied,
    "expired": _expired,
    "key-disabled": _key_disabled,
    "key-unknown": lambda case: case.verify(lambda _: None),
    "not-yet": _not_yet,
    "signature": _signature,
    "skewed": _skewed,
    "token-expired": lambda _: refused("SecurityTokenExpired").refusal,
    "wrong-region": _other_region,
}

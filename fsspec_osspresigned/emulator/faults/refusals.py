"""Refusals on demand: the errors that OSS answers for one of nine reasons."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from ...secret import Secret
from ...signing import Credentials, verify
from ..message.call import Call
from ..message.errors import RefusedError, refused
from ..message.replies import http_date, iso_date
from ..settings import DEFAULT_REGION, EmulatorSettings

_MAX_SKEW = 900  # seconds
_signed_by = re.compile(
    r"(?:OSS |OSS4-HMAC-SHA256 +Credential=)?([^/:]+)[/:].*"
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
        header = self.call.headers.get("authorization", "")
        in_query = "x-oss-signature-version" in self.call.parameters
        return in_query or header.startswith("OSS4")

    @property
    def key_id(self) -> str:
        """The access key ID that signed."""
        header = self.call.headers.get("authorization", "")
        scope = self.call.parameters.get("x-oss-credential", "")
        found = _signed_by(header or scope)
        return found[1] if found else self.call.parameters.get("OSSAccessKeyId", "")

    def find_with_another_secret(self, key_id: str) -> Credentials | None:
        """Return a key with a secret that has not signed."""
        key = self.settings.keys.get(key_id)
        return key and evolve(key, access_key_secret=Secret("another"))

    def verify(self, find: Callable[[str], Credentials | None]) -> RefusedError:
        """Return the error of a server that knows only the keys of *find*."""
        refusal = verify(self.call.received, find=find, now=self.now)
        assert refusal is not None  # noqa: S101 - no secret that *find* knows has signed
        return RefusedError(refusal)


def wrong_region(bucket: str, region: str) -> RefusedError:
    """Return the error for an endpoint that is not that of *region*."""
    return refused(
        "AccessDenied",
        "The bucket you are attempting to access must be addressed using the specified "
        "endpoint. Please send all future requests to this endpoint.",
        ec="0003-00001403",
        Bucket=bucket,
        Endpoint=f"oss-{region}.aliyuncs.com",
    )


REASONS: Mapping[str, Callable[[RefusedCall], RefusedError]] = {
    "denied": lambda _: refused(
        "AccessDenied",
        "You have no right to access this object because of bucket policy.",
    ),
    "expired": lambda case: refused(
        "AccessDenied",
        "Request has expired.",
        ec="0002-00000236" if case.is_v4 else "0002-00000069",
        Expires=iso_date(case.now - 1),
        ServerTime=iso_date(case.now),
    ),
    "key-disabled": lambda case: refused(
        "InvalidAccessKeyId",
        "The OSS Access Key Id you provided is disabled.",
        ec="0002-00000903",
        OSSAccessKeyId=case.key_id,
    ),
    "key-unknown": lambda case: case.verify(lambda _: None),
    "not-yet": lambda case: refused(
        "AccessDenied",
        "Request is not valid yet.",
        ec="0002-00000235",
        ServerTime=iso_date(case.now),
    ),
    # Another secret makes the real document.
    "signature": lambda case: case.verify(case.find_with_another_secret),
    "skewed": lambda case: refused(
        "RequestTimeTooSkewed",
        MaxAllowedSkewMilliseconds=str(_MAX_SKEW * 1000),
        RequestTime=http_date(case.now - 2 * _MAX_SKEW),
        ServerTime=iso_date(case.now),
    ),
    "token-expired": lambda _: refused("SecurityTokenExpired"),
    "wrong-region": lambda case: wrong_region(
        case.call.bucket,
        DEFAULT_REGION if case.settings.region == "eu-central-1" else "eu-central-1",
    ),
}

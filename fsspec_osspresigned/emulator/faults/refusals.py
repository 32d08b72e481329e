"""What OSS says when it refuses: by error code, and by the name of a reason.

Codes, messages and EC numbers are those of the OSS API reference ("Error codes").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from ...secret import Secret
from ...signing import Credentials, Received, verify
from ..message.answers import RefusedError, http_date, iso_date
from ..message.call import Call

_MAX_SKEW = 900  # seconds
_is_v1_header = re.compile(r"OSS ([^:]+):.*").fullmatch
_is_v4_header = re.compile(r"OSS4-HMAC-SHA256 +Credential=([^/]+)/.*").fullmatch
DEFAULT_CODE = "InternalError"

# What is usual for a status, if no code is asked for.
USUAL_CODES = {
    203: "CallbackFailed",
    400: "InvalidArgument",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "FileAlreadyExists",
    429: "QpsLimitExceeded",
    500: DEFAULT_CODE,
    503: "ServiceUnavailable",
}
# Code -> (status, message).
KNOWN_CODES: Mapping[str, tuple[int, str]] = {
    "CallbackFailed": (203, "The callback failed."),
    "InvalidArgument": (400, "The request is not valid."),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidCRC64": (400, "The CRC64 checksum of the data does not match."),
    "IncompleteBody": (400, "The request body terminated unexpectedly."),
    "RequestTimeout": (400, "Your socket connection was not read from in time."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size."),
    "EntityTooSmall": (400, "Your proposed upload is below the minimum allowed size."),
    "InvalidPart": (400, "One or more of the specified parts could not be found."),
    "AccessDenied": (403, "You have no right to access this object."),
    "InvalidAccessKeyId": (403, "The OSS Access Key Id you provided is not valid."),
    "InvalidSecurityToken": (403, "The security token is invalid."),
    "RequestTimeTooSkewed": (403, "The request time and the current time differ."),
    "SecurityTokenExpired": (403, "The security token has expired."),
    "SignatureDoesNotMatch": (403, "The request signature does not match."),
    "UserDisable": (403, "UserDisable"),
    "NoSuchBucket": (404, "The specified bucket does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The specified upload does not exist."),
    "FileAlreadyExists": (409, "The object you specified already exists."),
    "QpsLimitExceeded": (429, "The request rate exceeds the limit."),
    DEFAULT_CODE: (500, "Please contact the server administrator."),
    "ServiceUnavailable": (503, "Please reduce your request rate."),
    "TotalQpsLimitExceeded": (503, "Please reduce your total request rate."),
    "UploadTrafficRateLimitExceeded": (503, "Please reduce your upload traffic."),
}


@frozen(kw_only=True)
class Case:
    """What a refusal may quote.

    Attributes:
        call: the request.
        now: the server's time.
        region: where the emulator stands; None takes every region.
        find: the credentials of an access key id.
    """

    call: Call
    now: float
    region: str | None
    find: Callable[[str], Credentials | None]

    @property
    def is_v4(self) -> bool:
        """Whether the signature is of version 4."""
        return (
            "x-oss-signature-version" in self.call.parameters
            or _is_v4_header(self.call.headers.get("authorization", "")) is not None
        )

    @property
    def key_id(self) -> str:
        """The access key id that signed."""
        header = self.call.headers.get("authorization", "")
        found = _is_v1_header(header) or _is_v4_header(header)
        if found:
            return found[1]
        scope = self.call.parameters.get("x-oss-credential", "")
        return self.call.parameters.get("OSSAccessKeyId") or scope.partition("/")[0]


def refused(name: str, case: Case) -> RefusedError:
    """Return the refusal for the reason *name*, one of :data:`REASONS`."""
    return REASONS[name](case)


def received(call: Call) -> Received:
    """Return *call* as what a signature is checked against."""
    return Received(
        method=call.method,
        bucket=call.bucket,
        key=call.key,
        query=call.query,
        headers=call.headers,
    )


def wrong_region(bucket: str, region: str) -> RefusedError:
    """Return the refusal of an endpoint that is not that of *region*."""
    return RefusedError(
        403,
        "AccessDenied",
        "The bucket you are attempting to access must be addressed using the specified "
        "endpoint. Please send all future requests to this endpoint.",
        "0003-00001403",
        extras={"Bucket": bucket, "Endpoint": f"oss-{region}.aliyuncs.com"},
    )


def _expired(case: Case) -> RefusedError:
    ended = case.now - 1
    return RefusedError(
        403,
        "AccessDenied",
        "Request has expired.",
        "0002-00000236" if case.is_v4 else "0002-00000069",
        extras={"Expires": iso_date(ended), "ServerTime": iso_date(case.now)},
    )


def _not_yet(case: Case) -> RefusedError:
    return RefusedError(
        403,
        "AccessDenied",
        "Request is not valid yet.",
        "0002-00000235",
        extras={"ServerTime": iso_date(case.now)},
    )


def _skewed(case: Case) -> RefusedError:
    return RefusedError(
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large.",
        "0002-00000504",
        extras={
            "MaxAllowedSkewMilliseconds": str(_MAX_SKEW * 1000),
            "RequestTime": http_date(case.now - 2 * _MAX_SKEW),
            "ServerTime": iso_date(case.now),
        },
    )


def _token_expired(_: Case) -> RefusedError:
    return RefusedError(403, "SecurityTokenExpired", "The security token has expired.")


def _wrong_region(case: Case) -> RefusedError:
    other = "eu-central-1" if case.region != "eu-central-1" else "cn-hangzhou"
    return wrong_region(case.call.bucket, other)


def _denied(_: Case) -> RefusedError:
    return RefusedError(
        403,
        "AccessDenied",
        "You have no right to access this object because of bucket policy.",
    )


def _key_disabled(case: Case) -> RefusedError:
    return RefusedError(
        403,
        "InvalidAccessKeyId",
        "The OSS Access Key Id you provided is disabled.",
        "0002-00000903",
        extras={"OSSAccessKeyId": case.key_id},
    )


def _key_unknown(case: Case) -> RefusedError:
    return _verified(case, lambda _: None)


def _signature(case: Case) -> RefusedError:
    """Judge as if the secret were another: the document is the real one."""

    def other(name: str) -> Credentials | None:
        key = case.find(name)
        return key and evolve(key, access_key_secret=Secret("another"))

    return _verified(case, other)


def _verified(case: Case, find: Callable[[str], Credentials | None]) -> RefusedError:
    refusal = verify(received(case.call), find=find, now=case.now)
    assert refusal is not None  # noqa: S101 - no secret that *find* knows has signed
    return RefusedError(
        refusal.status,
        refusal.code,
        refusal.message,
        refusal.ec,
        extras=refusal.extras,
    )


REASONS: Mapping[str, Callable[[Case], RefusedError]] = {
    "denied": _denied,
    "expired": _expired,
    "key-disabled": _key_disabled,
    "key-unknown": _key_unknown,
    "not-yet": _not_yet,
    "signature": _signature,
    "skewed": _skewed,
    "token-expired": _token_expired,
    "wrong-region": _wrong_region,
}

"""Refusals on demand: error replies by which OSS refuses a call, one for each cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import evolve, frozen

from ...secret import Secret
from ...signing import Credentials
from ...signing.canonical import SKEW
from ...signing.verifying import Refusal
from ...units import oss_moment
from ..message.authentication import EXPIRED, judge
from ..message.errors import refused
from ..message.replies import http_date
from ..message.request_head import Call
from ..settings import DEFAULT_REGION, EmulatorSettings


@frozen
class RefusedCall:
    """A call to refuse, with the settings of the emulator."""

    call: Call
    settings: EmulatorSettings

    @property
    def now(self) -> float:
        """Current time of the server in seconds since the epoch."""
        return self.settings.clock()

    @property
    def is_v4(self) -> bool:
        """True if the call has a signature of version 4 of OSS."""
        form = self.call.form
        given = self.call.parameters if form is None else form.fields
        header = self.call.headers.get("authorization", "")
        return "x-oss-signature-version" in given or header.startswith("OSS4")

    def verified(self, keys: Mapping[str, Credentials]) -> Refusal:
        """Return the refusal by a server that has only the access *keys*."""
        refusal = judge(self.call, keys.get, now=self.now)
        assert refusal is not None  # noqa: S101 - none of *keys* has signed
        return refusal


def wrong_region(bucket: str, region: str) -> Refusal:
    """Return the error for a request to a region other than *region*, the bucket's."""
    return refused(
        "AccessDenied",
        "The bucket you are attempting to access must be addressed using the specified "
        "endpoint. Please send all future requests to this endpoint.",
        ec="0003-00001403",
        Bucket=bucket,
        Endpoint=f"oss-{region}.aliyuncs.com",
    ).refusal


def _signature(case: RefusedCall) -> Refusal:
    """Return the error SignatureDoesNotMatch, made by verifying with another secret."""
    another, keys = Secret("another"), case.settings.keys.items()
    return case.verified({i: evolve(k, access_key_secret=another) for i, k in keys})


def _expired(case: RefusedCall) -> Refusal:
    return Refusal(
        message="Request has expired.",
        ec="0002-00000236" if case.is_v4 else "0002-00000069",
        extras={
            "Expires": oss_moment(case.now - 1),
            "ServerTime": oss_moment(case.now),
        },
    )


REASONS: Mapping[str, Callable[[RefusedCall], Refusal]] = {
    "denied": lambda _: Refusal(
        message="You have no right to access this object because of bucket policy."
    ),
    "expired": lambda case: EXPIRED if case.call.form else _expired(case),
    "key-disabled": lambda case: evolve(
        case.verified({}),
        message="The OSS Access Key Id you provided is disabled.",
        ec="0002-00000903",
    ),
    # What OSS says of a key of STS that has ended, once it has forgotten it.
    "key-expired": lambda case: evolve(case.verified({}), ec="0002-00000002"),
    "key-unknown": lambda case: case.verified({}),
    "not-yet": lambda case: Refusal(
        message="Request is not valid yet.",
        ec="0002-00000235",
        extras={"ServerTime": oss_moment(case.now)},
    ),
    "public-endpoint": lambda _: refused("PublicEndpointForbidden").refusal,
    "signature": _signature,
    "skewed": lambda case: (
        refused(
            "RequestTimeTooSkewed",
            MaxAllowedSkewMilliseconds=str(SKEW * 1000),
            RequestTime=http_date(case.now - 2 * SKEW),
            ServerTime=oss_moment(case.now),
        ).refusal
    ),
    "token-expired": lambda _: refused("SecurityTokenExpired").refusal,
    "wrong-region": lambda case: wrong_region(
        case.call.bucket,
        DEFAULT_REGION if case.settings.region == "eu-central-1" else "eu-central-1",
    ),
}

"""Verification of a request's signature: in its URL, in its header, or in its form."""

from __future__ import annotations

from collections.abc import Callable, Container

from ...signing import Credentials, PostPolicy, PostPolicyError
from ...signing.post_conditions import PolicyFault
from ...signing.post_policy import SIGNATURE_FIELDS
from ...signing.post_verifying import verify_policy
from ...signing.verifying import Refusal, verify
from .request_head import Call, ReceivedForm

EXPIRED = Refusal(
    message="Invalid according to Policy: Policy expired.", ec="0006-00000213"
)

ANONYMOUS = Refusal(
    message="You have no right to access this object because of bucket acl.",
    ec="0003-00000001",
)
# Why a form is not what its policy says -> EC, and how the message begins.
_FAULTS = {
    PolicyFault.ABSENT: ("0006-00000226", "Policy Condition failed"),
    PolicyFault.FAILED: ("0006-00000227", "Policy Condition failed"),
    PolicyFault.EXTRA: ("0006-00000228", "Extra input fields"),
}


def judge(
    call: Call,
    find: Callable[[str], Credentials | None],
    *,
    now: float,
    regions: Container[str] | None = None,
) -> Refusal | None:
    """Return why OSS would refuse the signature of *call*; None if it is valid.

    The size of a form's file is not checked. The arguments are those of :func:`verify`.
    """
    if call.form is None:
        return verify(call, find=find, now=now, regions=regions)
    if SIGNATURE_FIELDS.isdisjoint(call.form.fields):
        return ANONYMOUS
    refusal = verify_policy(call.form.fields, find, now=now, regions=regions)
    return refusal or _policy_refusal(call.form, call.bucket, now)


def size_range(form: ReceivedForm) -> tuple[int, int] | None:
    """Return the minimum and maximum file size in bytes that a form's policy permits.

    None means that the policy permits any size.
    """
    conditions = PostPolicy.parse(form.fields["policy"]).conditions
    ranges = [one.sizes for one in conditions if one.sizes is not None]
    if not ranges:
        return None
    return max(least for least, _ in ranges), min(most for _, most in ranges)


def _policy_refusal(form: ReceivedForm, bucket: str, now: float) -> Refusal | None:
    try:
        policy = PostPolicy.parse(form.fields["policy"])
    except PostPolicyError as error:
        message = f"Invalid Policy: {error.problems[0]}"
        return Refusal(status=400, code="InvalidPolicyDocument", message=message)
    for found in policy.judge(form.judged, bucket=bucket, size=None, now=now):
        if found.fault is PolicyFault.EXPIRED:
            return EXPIRED
        ec, begins = _FAULTS[found.fault]
        message = f"Invalid according to Policy: {begins}: {found}"
        return Refusal(message=message, ec=ec)
    return None

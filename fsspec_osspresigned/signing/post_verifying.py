"""Verification of a signed POST policy, as OSS does it, from the received fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from functools import partial

from .canonical import (
    ALGORITHM,
    MAX_V4_LIFE,
    SKEW,
    TERMINATOR,
    Credentials,
    parse_moment,
)
from .post_policy import TOKEN_FIELD, V4_FIELDS, lower_names, post_signature
from .verifying import (
    Refusal,
    RefusedSignature,
    invalid,
    known_key,
    mismatch,
    same_text,
)

_is_visible = re.compile(r"[!-~]+").fullmatch
_MISSING = "The {} form field is missing."


def verify_policy(
    fields: Mapping[str, str],
    find: Callable[[str], Credentials | None],
    *,
    now: float,
    regions: Container[str] | None = None,
) -> Refusal | None:
    """Return why OSS would refuse the signature of a form; None if it is valid.

    The conditions are not checked: see :meth:`PostPolicy.judge`.

    Args:
        fields: fields of the form, names in any case.
        find: returns the credentials of an access key ID, or None.
        now: seconds since the epoch.
        regions: permitted regions of V4; None permits every region.
    """
    given = lower_names(fields)
    is_v4 = "x-oss-signature-version" in given
    check = partial(_check_v4, regions=regions) if is_v4 else _check_v1
    try:
        check(given, find, now)
    except RefusedSignature as found:
        return found.refusal
    return None


def _check_v1(
    given: Mapping[str, str], find: Callable[[str], Credentials | None], now: float
) -> None:
    for name in ("OSSAccessKeyId", "policy", "Signature"):
        if not given.get(name.lower()):
            raise invalid(_MISSING.format(name))
    key = known_key(find, given["ossaccesskeyid"], given.get(TOKEN_FIELD), now)
    text = given["policy"]
    wanted = post_signature(key.access_key_secret, text)
    _compare(wanted, given["signature"], key.access_key_id, text)


def _check_v4(
    given: Mapping[str, str],
    find: Callable[[str], Credentials | None],
    now: float,
    regions: Container[str] | None,
) -> None:
    for name in (*V4_FIELDS, "policy", "x-oss-signature"):
        if not given.get(name):
            raise invalid(_MISSING.format(name))
    version, credential, date = (given[name] for name in V4_FIELDS)
    if version != ALGORITHM:
        raise invalid("The signature version is not supported.", "66")
    name, *scope = credential.rsplit("/", 4)
    if len(scope) != 4 or scope[2:] != ["oss", TERMINATOR] or not _is_visible(name):  # noqa: PLR2004 - day/region/product/end
        raise invalid("The x-oss-credential form field is malformed.", "708")
    day, region = scope[:2]
    signed_at = parse_moment(date)
    if signed_at is None or date[:8] != day or now < signed_at - SKEW:
        raise invalid("The x-oss-date form field is invalid.", "709")
    if regions is not None and region not in regions:
        raise invalid("The signing region in credential is invalid.", "715")
    if now > signed_at + MAX_V4_LIFE:
        raise RefusedSignature("Invalid according to Policy: Policy expired.")
    key = known_key(find, name, given.get(TOKEN_FIELD), now)
    text = given["policy"]
    wanted = post_signature(key.access_key_secret, text, day=day, region=region)
    _compare(wanted, given["x-oss-signature"], name, text)


def _compare(wanted: str, given: str, name: str, text: str) -> None:
    if not same_text(wanted, given):
        raise mismatch("", name, given, text)

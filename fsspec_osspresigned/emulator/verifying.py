"""Signature verification as in OSS, for the emulator and for tests.

It uses only the received request: method, decoded path, raw query, headers, or the fields
of a form. The signature is in the query, as in a presigned URL, in the header
``Authorization``, as the SDKs send it, or in a signed POST policy.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Container, Iterable, Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from attrs import frozen

from ..errors import ConfigurationError
from ..signing.canonical import (
    ALGORITHM,
    MAX_V4_LIFE,
    SKEW,
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
from ..signing.post_policy import (
    SIGNATURE_FIELDS,
    TOKEN_FIELD,
    V4_FIELDS,
    PolicyFault,
    PostPolicy,
    post_signature,
)
from ..signing.presigning import is_visible
from ..units import oss_moment
from .messages import Call, ReceivedForm, Refusal, RefusedError, refused

EXPIRED = Refusal(
    message="Invalid according to Policy: Policy expired.", ec="0006-00000213"
)

ANONYMOUS = Refusal(
    message="You have no right to access this object because of bucket acl.",
    ec="0003-00000001",
)
_PAYLOAD = "x-oss-content-sha256"
_is_number = re.compile(r"-?[0-9]{1,15}").fullmatch
_is_v1_header = re.compile(r"OSS +([^: ]+):(\S+)").fullmatch


FindKey = Callable[[str], Credentials | None]


def verify(
    call: Call, *, find: FindKey, now: float, regions: Container[str] | None = None
) -> Refusal | None:
    """Return why OSS would refuse *call*; None if its signature is valid.

    For a form, signature and conditions are checked, but not the size of its file.
    """
    judge = _Verification(call, find, now, regions)
    try:
        if call.form is None:
            judge.run()
        else:
            judge.form(call.form.fields)
    except RefusedError as error:
        return error.refusal
    return None if call.form is None else _policy_refusal(call.form, call.bucket, now)


_denied = partial(refused, "AccessDenied")
_invalid = partial(refused, "InvalidArgument")


def _ec(number: int) -> str:
    return f"0002-{number:08}"


@frozen
class _Claim:
    credential: str  # KEY_ID/DAY/REGION/PRODUCT/aliyun_v4_request
    moment: str
    additional: str  # names of the additional headers, separated by ";"
    signature: str

    @property
    def name(self) -> str:
        return self.credential.rsplit("/", 4)[0]

    @property
    def scope(self) -> list[str]:
        return self.credential.rsplit("/", 4)[1:]

    @property
    def names(self) -> list[str]:
        names = self.additional.lower()
        return sorted(set(names.split(";"))) if names else []


@frozen
class _Verification:
    received: Call
    find: FindKey
    now: float
    regions: Container[str] | None

    def run(self) -> None:
        pairs = parse_query(self.received.query)
        query = dict(reversed(pairs))
        version = query.get("x-oss-signature-version")
        is_signed = version is not None or not query.keys().isdisjoint(
            ("OSSAccessKeyId", "Signature", "Expires")
        )
        header = self.received.headers.get("authorization")
        if header is not None:
            if is_signed:
                raise _invalid("The request is signed in its header and in its query.")
            self._header(header, pairs)
        elif not is_signed:
            raise RefusedError(ANONYMOUS)
        elif version is None:
            self._query_v1(query)
        elif version == ALGORITHM:
            self._query_v4(pairs)
        else:
            raise _invalid("The signature version is not supported.", ec=_ec(66))

    def _query_v1(self, query: Mapping[str, str]) -> None:
        # The expiry is checked first: a URL that is both stale and wrong is reported as
        # stale.
        expires = query.get("Expires")
        if expires is None:
            raise _denied("The Expires parameter is missing.", ec=_ec(67))
        if not expires:
            raise _denied("The Expires parameter is empty.", ec=_ec(68))
        if not _is_number(expires):
            raise _denied("Invalid date (should be seconds since epoch)", ec=_ec(70))
        if self.now > int(expires):
            raise self._expired(_ec(69))
        for name in ("OSSAccessKeyId", "Signature"):
            if not query.get(name):
                raise _denied(f"The {name} parameter is missing.")
        if TOKEN_FIELD in self.received.headers:
            text = "Security-token must be provided by query string parameter."
            raise refused("InvalidRequest", text)
        key = self._key(query["OSSAccessKeyId"], query.get("security-token"))
        self._compare_v1(key, query, expires, query["Signature"])

    def _query_v4(self, pairs: list[tuple[str, str]]) -> None:
        query = dict(reversed(pairs))
        names = ("credential", "date", "additional-headers", "signature")
        claim = _Claim(*(query.get(f"x-oss-{name}", "") for name in names))
        self._check_scope(claim)
        self._check_life(claim, query.get("x-oss-expires"))
        self._check_additional(claim)
        key = self._key(claim.name, query.get(TOKEN_FIELD))
        # Only the first signature is excluded; a second one was added after signing.
        at = next(i for i, pair in enumerate(pairs) if pair[0] == "x-oss-signature")
        self._compare_v4(key, pairs[:at] + pairs[at + 1 :], claim, _ec(201))

    def _header(self, header: str, pairs: list[tuple[str, str]]) -> None:
        scheme, _, text = header.partition(" ")
        headers = self.received.headers
        date = headers.get("x-oss-date") or headers.get("date", "")
        if match := _is_v1_header(header):
            self._check_date(date, _parse_date(date))
            # alibabacloud-oss-v2 sends the token by the second name, which is not
            # signed.
            token = headers.get(TOKEN_FIELD, headers.get("security-token"))
            key = self._key(match[1], token)
            self._compare_v1(key, dict(reversed(pairs)), date, match[2])
            return
        if scheme != ALGORITHM:
            raise _invalid("The Authorization header is invalid.")
        named = (piece.strip().partition("=") for piece in text.split(","))
        values = {name: value for name, _, value in named}
        names = ("Credential", "AdditionalHeaders", "Signature")
        credential, additional, signature = (values.get(name, "") for name in names)
        claim = _Claim(credential, date, additional, signature)
        self._check_scope(claim)
        # Go's first SDK sends and signs Date in the format of HTTP.
        moment = _parse_date(date)
        day = "" if moment is None else oss_moment(moment)[:10].replace("-", "")
        self._check_date(date, moment if day == claim.scope[0] else None)
        self._check_additional(claim)
        key = self._key(claim.name, headers.get(TOKEN_FIELD))
        if headers.get(_PAYLOAD) != "UNSIGNED-PAYLOAD":
            raise _invalid(f"The header {_PAYLOAD} must be UNSIGNED-PAYLOAD.")
        self._compare_v4(key, pairs, claim)

    def _check_scope(self, claim: _Claim) -> None:
        if not claim.credential:
            raise _invalid("The x-oss-credential parameter is missing.", ec=_ec(217))
        scope = claim.scope
        if len(scope) != 4 or scope[3] != TERMINATOR:  # noqa: PLR2004 - day/region/product/end
            raise _invalid("The x-oss-credential parameter is malformed.", ec=_ec(224))
        _, region, product, _ = scope
        if not is_visible(claim.name):
            raise _invalid("The access key id is malformed.", ec=_ec(222))
        is_served = self.regions is None or region in self.regions
        if not is_visible(region) or not is_served:
            is_header = "authorization" in self.received.headers
            message = "The signing region in credential is invalid."
            if is_header:
                message = "Invalid signing region in Authorization header."
            raise _invalid(message, ec=_ec(226))
        if product != "oss":
            raise _invalid("The signing product in credential is invalid.", ec=_ec(227))

    def _check_life(self, claim: _Claim, expires: str | None) -> None:
        if expires is None:
            raise _invalid("The x-oss-expires parameter is missing.", ec=_ec(215))
        if not _is_number(expires) or not 1 <= int(expires) <= MAX_V4_LIFE:
            raise _invalid("The x-oss-expires parameter is invalid.", ec=_ec(232))
        signed_at = parse_moment(claim.moment)
        if signed_at is None or claim.moment[:8] != claim.scope[0]:
            raise _invalid("The x-oss-date parameter is missing or invalid.")
        if self.now < signed_at - SKEW:
            there = oss_moment(self.now)
            raise _denied("Request is not valid yet.", ec=_ec(235), ServerTime=there)
        if self.now > signed_at + int(expires):
            raise self._expired(_ec(236))

    def _expired(self, ec: str) -> RefusedError:
        return _denied("Request has expired.", ec=ec, ServerTime=oss_moment(self.now))

    def _check_date(self, text: str, moment: float | None) -> None:
        if moment is None:
            raise _denied("OSS authentication requires a valid Date.")
        if abs(self.now - moment) > SKEW:
            raise refused(
                "RequestTimeTooSkewed",
                MaxAllowedSkewMilliseconds=str(SKEW * 1000),
                RequestTime=text,
                ServerTime=oss_moment(self.now),
            )

    def _check_additional(self, claim: _Claim) -> None:
        if not claim.signature:
            raise _invalid("The x-oss-signature is missing.")
        if claim.additional.endswith(";"):
            raise _invalid("The x-oss-additional-headers are malformed.", ec=_ec(210))
        absent = [name for name in claim.names if name not in self.received.headers]
        if absent:
            raise _invalid(f"The signed header {absent[0][:80]} was not sent.")

    def _key(self, name: str, sent_token: str | None) -> Credentials:
        """Return the credentials of the key ID *name*, or raise RefusedError."""
        key = self.find(name)
        token = None if key is None else key.security_token
        if key is None or (token is not None and sent_token is None):
            ec = _ec(902) if key is None else _ec(3)
            raise refused("InvalidAccessKeyId", ec=ec, OSSAccessKeyId=name)
        if token is None:
            if sent_token is not None:
                raise refused("AccessKeyIdAndSecurityTokenNotMatch")
            return key
        if not _same(token.reveal(), sent_token or ""):
            raise refused("InvalidSecurityToken")
        if key.expires_at is not None and self.now >= key.expires_at:
            raise refused("SecurityTokenExpired")
        return key

    def _compare_v1(
        self, key: Credentials, query: Mapping[str, str], expires: str, signature: str
    ) -> None:
        received = self.received
        text = string_to_sign_v1(
            received.method,
            received.bucket,
            received.key,
            expires=expires,
            headers=received.headers,
            query=query,
        )
        if not _same(sign_v1(key.access_key_secret, text), signature):
            raise _mismatch(_ec(40), key.access_key_id, signature, text)

    def _compare_v4(
        self,
        key: Credentials,
        pairs: Iterable[tuple[str, str]],
        claim: _Claim,
        ec: str = "",
    ) -> None:
        received = self.received
        request = canonical_request_v4(
            received.method,
            received.bucket,
            received.key,
            query=canonical_query(pairs),
            headers=received.headers,
            additional=claim.names,
        )
        text = string_to_sign_v4(claim.moment, "/".join(claim.scope), request)
        signing_key = day_key(key.access_key_secret, *claim.scope[:2])
        if not _same(sign_v4(signing_key, text), claim.signature):
            more = {"CanonicalRequest": request}
            raise _mismatch(ec, claim.name, claim.signature, text, **more)

    def form(self, fields: Mapping[str, str]) -> None:
        """Check the signature of the policy in *fields*, whose names are lower case."""
        if SIGNATURE_FIELDS.isdisjoint(fields):
            raise RefusedError(ANONYMOUS)
        if "x-oss-signature-version" in fields:
            self._form_v4(fields)
            return
        for name in ("OSSAccessKeyId", "policy", "Signature"):
            if not fields.get(name.lower()):
                raise _invalid(f"The {name} form field is missing.")
        key = self._key(fields["ossaccesskeyid"], fields.get(TOKEN_FIELD))
        text = fields["policy"]
        if not _same(post_signature(key.access_key_secret, text), fields["signature"]):
            raise _mismatch("", key.access_key_id, fields["signature"], text)

    def _form_v4(self, fields: Mapping[str, str]) -> None:
        for name in (*V4_FIELDS, "policy", "x-oss-signature"):
            if not fields.get(name):
                raise _invalid(f"The {name} form field is missing.")
        version, credential, date = (fields[name] for name in V4_FIELDS)
        if version != ALGORITHM:
            raise _invalid("The signature version is not supported.", ec=_ec(66))
        name, *scope = credential.rsplit("/", 4)
        if len(scope) != 4 or scope[2:] != ["oss", TERMINATOR] or not is_visible(name):  # noqa: PLR2004 - day/region/product/end
            raise _invalid("The x-oss-credential form field is malformed.", ec=_ec(708))
        day, region = scope[:2]
        signed_at = parse_moment(date)
        if signed_at is None or date[:8] != day or self.now < signed_at - SKEW:
            raise _invalid("The x-oss-date form field is invalid.", ec=_ec(709))
        if self.regions is not None and region not in self.regions:
            raise _invalid("The signing region in credential is invalid.", ec=_ec(715))
        if self.now > signed_at + MAX_V4_LIFE:
            raise _denied("Invalid according to Policy: Policy expired.")
        key = self._key(name, fields.get(TOKEN_FIELD))
        text, signature = fields["policy"], fields["x-oss-signature"]
        expected = post_signature(key.access_key_secret, text, day=day, region=region)
        if not _same(expected, signature):
            raise _mismatch("", name, signature, text)


def _mismatch(
    ec: str, name: str, signature: str, text: str, **more: Any
) -> RefusedError:
    return refused(
        "SignatureDoesNotMatch",
        ec=ec,
        OSSAccessKeyId=name,
        SignatureProvided=signature,
        StringToSign=text,
        StringToSignBytes=text.encode("utf-8", "surrogateescape").hex(" ").upper(),
        **more,
    )


def _same(expected: str, received: str) -> bool:
    return hmac.compare_digest(
        expected.encode(), received.encode("utf-8", "surrogateescape")
    )


def _parse_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (OverflowError, ValueError):
        return parse_moment(text)


# Mistake in a form -> EC, and the beginning of the message.
_FAULTS = {
    PolicyFault.ABSENT: ("0006-00000226", "Policy Condition failed"),
    PolicyFault.FAILED: ("0006-00000227", "Policy Condition failed"),
    PolicyFault.EXTRA: ("0006-00000228", "Extra input fields"),
}


def size_range(form: ReceivedForm) -> tuple[int, int] | None:
    """Return the minimum and maximum size in bytes that the policy of *form* permits.

    None if the policy has no condition on the size.
    """
    conditions = PostPolicy.parse(form.fields["policy"]).conditions
    ranges = [c.sizes for c in conditions if c.sizes is not None]
    if not ranges:
        return None
    minimums, maximums = zip(*ranges, strict=True)
    return max(minimums), min(maximums)


def _policy_refusal(form: ReceivedForm, bucket: str, now: float) -> Refusal | None:
    try:
        policy = PostPolicy.parse(form.fields["policy"])
    except ConfigurationError as error:
        message = f"Invalid Policy: {error.problems[0]}"
        return Refusal(status=400, code="InvalidPolicyDocument", message=message)
    for refusal in policy.judge(form.checked_fields, bucket=bucket, size=None, now=now):
        if refusal.fault is PolicyFault.EXPIRED:
            return EXPIRED
        ec, begins = _FAULTS[refusal.fault]
        message = f"Invalid according to Policy: {begins}: {refusal}"
        return Refusal(message=message, ec=ec)
    return None

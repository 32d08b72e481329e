"""Grants that an owner signs: their terms, and the signed POST policy as a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen

from ..errors import ConfigurationError, SignerError
from ..model import FORBID_OVERWRITE, MAX_SINGLE_PUT, OBJECT_ACL, frozen_mapping
from ..secret import Secret
from ..signing.canonical import MAX_V4_LIFE, Credentials
from ..signing.endpoint import Endpoint, check_bucket, check_key
from ..signing.post_policy import (
    STATUS_FIELD,
    TYPE_FIELD,
    PolicyCondition,
    form_values,
    pinned_fields,
    policy_text,
    sign_policy,
    signature_conditions,
)
from ..units import shown_moment

_VERSION = 1  # version of the file format


@frozen(kw_only=True)
class GrantTerms:
    """Permissions of the holder of a grant."""

    bucket: str  # the only permitted bucket
    prefix: str  # prefix of every key, with a final slash; empty is the whole bucket
    expires_in: int = 3600  # lifetime in seconds, 7 days at most
    sizes: tuple[int, int] = (0, MAX_SINGLE_PUT)  # minimum and maximum in bytes
    # False protects existing objects, unless the bucket has versioning
    overwrite: bool = True
    acl: str | None = "default"  # ACL of every object; None lets the holder choose
    # Permitted types. A single type with a final slash is a prefix. Empty permits all.
    content_types: Sequence[str] = ()
    # Further form fields, each with its only permitted value.
    fields: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)

    def problems(self) -> Iterator[str]:
        """Yield the reasons why the terms cannot or should not be signed."""
        if problem := check_bucket(self.bucket):
            yield problem
        if problem := self.prefix and check_key(self.prefix):
            yield problem.replace("key ", "prefix ", 1)
        if "${" in self.prefix:
            yield "the prefix holds '${', which OSS would replace"
        if self.prefix and not self.prefix.endswith("/"):
            advice = (
                "would also match other names that start with it: end it with a slash"
            )
            yield f"the prefix {self.prefix[:80]!r} {advice}"
        if not 1 <= self.expires_in <= MAX_V4_LIFE:
            yield f"the grant would be valid for {self.expires_in} s: OSS allows 7 days"
        smallest, largest = self.sizes
        if not 0 <= smallest <= largest <= MAX_SINGLE_PUT:
            limit = f"0..{MAX_SINGLE_PUT} bytes"
            yield f"sizes from {smallest} to {largest}: use a range in {limit}"
        prefixes = [kind for kind in self.content_types if kind.endswith("/")]
        if prefixes and len(self.content_types) > 1:
            yield f"content type {prefixes[0]!r} is a prefix, which must be the only content type"

    def conditions(self) -> list[PolicyCondition]:
        """Return the policy conditions for these terms, without those for the signature.

        The holder can still add fields that no condition names: metadata, headers of
        the object, a callback. OSS has no condition that forbids a field.

        Raises:
            ConfigurationError: no policy can or should express the terms; the message
                lists all problems.
        """
        if problems := [*self.problems()]:
            raise ConfigurationError(problems)
        pinned = {STATUS_FIELD: "200"}
        if self.acl:
            pinned[OBJECT_ACL] = self.acl
        pinned |= self.fields
        if not self.overwrite:
            pinned[FORBID_OVERWRITE] = "true"
        conditions = [
            PolicyCondition("eq", "bucket", (self.bucket,)),
            PolicyCondition("starts-with", "key", (self.prefix,)),
            PolicyCondition.range(*self.sizes),
            *(PolicyCondition("eq", name.lower(), (v,)) for name, v in pinned.items()),
        ]
        if types := tuple(self.content_types):
            operator = "starts-with" if types[0].endswith("/") else "in"
            conditions.append(PolicyCondition(operator, TYPE_FIELD, types))
        return conditions


@frozen(kw_only=True)
class SignedGrant:
    """A signed grant, the content of a grant file."""

    url: str  # root URL of the bucket, to which the form is sent
    bucket: str  # name of the bucket
    prefix: str  # prefix of every key
    expires_at: float  # expiry time, seconds since the epoch
    fields: Mapping[str, Secret]  # all fields except the key, in the order of sending

    def text(self) -> str:
        """Return the grant file as text, which is a secret."""
        members = {
            "version": _VERSION,
            "url": self.url,
            "bucket": self.bucket,
            "prefix": self.prefix,
            "expires": shown_moment(self.expires_at),
            "fields": {name: value.reveal() for name, value in self.fields.items()},
        }
        return json.dumps(members, ensure_ascii=False, indent=1) + "\n"


def sign_grant(
    credentials: Credentials,
    endpoint: Endpoint,
    terms: GrantTerms,
    *,
    version: str = "v4",
    region: str | None = None,
    now: float,
) -> SignedGrant:
    """Sign *terms*; the grant expires no later than a temporary key.

    *version* is ``v4`` or ``v1``. *region*, without ``oss-``, is required for V4.
    *now*, the start of the lifetime, is seconds since the epoch.

    Raises:
        ConfigurationError: the terms cannot or should not be signed; the message lists
            all problems.
        SignerError: the temporary key has expired.
    """
    conditions = terms.conditions()
    expires_at = int(now) + terms.expires_in
    if credentials.expires_at is not None:
        expires_at = min(expires_at, int(credentials.expires_at))
    if expires_at <= now:
        raise SignerError("the temporary access key has expired: get a new one")
    signature = signature_conditions(
        credentials, version=version, region=region, now=now
    )
    text = Secret(policy_text([*conditions, *signature], expires_at=expires_at))
    signed = sign_policy(credentials, text, version=version, region=region, now=now)
    fields = {**pinned_fields(conditions), **signed}
    hidden = form_values(fields)
    del signature, signed, fields
    return SignedGrant(
        url=endpoint.url(terms.bucket),
        bucket=terms.bucket,
        prefix=terms.prefix,
        expires_at=float(expires_at),
        fields=hidden,
    )

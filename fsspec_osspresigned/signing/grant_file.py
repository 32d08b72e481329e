"""Grants as an owner makes them: safe terms, their signed policy, the file to hand out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen

from ..errors import ConfigurationError, SignerError
from ..model import MAX_SINGLE_PUT, OBJECT_ACL, frozen_mapping
from ..secret import FormValue, Secret
from ..units import shown_moment
from .canonical import MAX_V4_LIFE, Credentials
from .endpoint import Endpoint, check_bucket, check_key
from .post_conditions import SECRET_FIELDS, PolicyCondition
from .post_policy import (
    pinned_fields,
    policy_text,
    safe_conditions,
    sign_policy,
    signature_conditions,
)

_VERSION = 1  # of the file


@frozen(kw_only=True)
class GrantTerms:
    """What the holder of a grant may do.

    Attributes:
        bucket: the only one.
        prefix: of every key, with a slash at its end; empty is the whole bucket.
        expires_in: seconds, 7 days at most.
        sizes: least and most bytes of an object.
        overwrite: False keeps objects that exist, unless the bucket has versions.
        acl: of every object; None leaves it to the holder.
        content_types: those allowed; one with a slash at its end is a prefix, and stands
            alone; empty allows all.
        fields: more form fields with their only value.
    """

    bucket: str
    prefix: str
    expires_in: int = 3600
    sizes: tuple[int, int] = (0, MAX_SINGLE_PUT)
    overwrite: bool = True
    acl: str | None = "default"
    content_types: Sequence[str] = ()
    fields: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)

    def problems(self) -> Iterator[str]:
        """Yield what no policy can say, or should not."""
        if problem := check_bucket(self.bucket):
            yield problem
        if problem := self.prefix and check_key(self.prefix):
            yield problem.replace("key ", "prefix ", 1)
        if "${" in self.prefix:
            yield "the prefix holds '${', which OSS would replace"
        if not 1 <= self.expires_in <= MAX_V4_LIFE:
            yield f"the grant would live {self.expires_in} s: OSS allows 7 days"

    def conditions(self) -> list[PolicyCondition]:
        """Return the conditions of a policy, without those of its signature.

        Raises:
            ConfigurationError: what no policy can say, or should not; all at once.
        """
        problems = [*self.problems()]
        found: list[PolicyCondition] = []
        try:
            found = safe_conditions(
                self.bucket,
                self.prefix,
                sizes=self.sizes,
                overwrite=self.overwrite,
                acl=self.acl or "default",
                content_types=self.content_types,
                fields=self.fields,
            )
        except ConfigurationError as error:
            problems += error.problems
        if problems:
            raise ConfigurationError(problems)
        return [one for one in found if self.acl or one.field != OBJECT_ACL]


@frozen(kw_only=True)
class SignedGrant:
    """A grant that was signed.

    Attributes:
        url: where the form goes: the root of the bucket.
        bucket: its bucket.
        prefix: of every key.
        expires_at: seconds since the epoch.
        fields: all that the form needs but the key, in the order in which it is sent.
    """

    url: str
    bucket: str
    prefix: str
    expires_at: float
    fields: Mapping[str, Secret]

    def text(self) -> str:
        """Return the grant file: a secret."""
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
    """Sign *terms*; the end of a temporary key ends the grant too.

    Args:
        credentials: sign it.
        endpoint: where the holder reaches the bucket.
        terms: what the holder may do.
        version: ``v4`` or ``v1``.
        region: without ``oss-`` in front; V4 needs it.
        now: seconds since the epoch; the life begins here.

    Raises:
        ConfigurationError: what cannot or should not be signed; all problems at once.
        SignerError: the temporary key has ended.
    """
    if endpoint.product != "oss":
        msg = "no signature of forms is known for a cloud box: sign URLs instead"
        raise ConfigurationError(msg)
    meant = terms.conditions()
    ends = int(now) + terms.expires_in
    if credentials.expires_at is not None:
        ends = min(ends, int(credentials.expires_at))
    if ends <= now:
        raise SignerError("the temporary access key has ended: get a new one")
    own = signature_conditions(credentials, version=version, region=region, now=now)
    text = Secret(policy_text([*meant, *own], expires_at=ends))
    signed = sign_policy(credentials, text, version=version, region=region, now=now)
    fields = {**pinned_fields(meant), **signed}
    hidden = {
        name: (Secret if name.lower() in SECRET_FIELDS else FormValue)(value)
        for name, value in fields.items()
    }
    del own, signed, fields
    return SignedGrant(
        url=endpoint.url(terms.bucket),
        bucket=terms.bucket,
        prefix=terms.prefix,
        expires_at=float(ends),
        fields=hidden,
    )

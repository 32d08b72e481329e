"""Grants of an owner: terms, signed POST policy and file, description and check."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence

from attrs import field, frozen

from .. import url_checks
from ..errors import ConfigurationError, NotSignedError, SignerError
from ..model import FORBID_OVERWRITE, MAX_SINGLE_PUT, OBJECT_ACL, Action, frozen_mapping
from ..options.of_objects import Target
from ..secret import Secret
from ..signers.post_form import sign_form
from ..signers.post_grant_parser import PostGrant
from ..signing.canonical import MAX_V4_LIFE, Credentials
from ..signing.endpoint import Endpoint, check_bucket, check_key
from ..signing.post_policy import (
    RANGE,
    SIGNATURE_FIELDS,
    STATUS_FIELD,
    TOKEN_FIELD,
    TYPE_FIELD,
    PolicyCondition,
    form_values,
    pinned_fields,
    policy_text,
    sign_policy,
    signature_conditions,
)
from ..units import shown_bytes, shown_end, shown_moment, shown_seconds, shown_text
from .map_check import Intent, MapProblem

_VERSION = 1  # of the file


@frozen(kw_only=True)
class GrantTerms:
    """Permissions of the holder of a grant.

    Attributes:
        bucket: the only permitted bucket.
        prefix: prefix of every key, with a final slash; empty is the whole bucket.
        expires_in: lifetime in seconds, 7 days at most.
        sizes: minimum and maximum size of an object in bytes.
        overwrite: False protects existing objects, unless the bucket has versioning.
        acl: ACL of every object; None leaves the ACL to the holder.
        content_types: permitted types; a single one with a final slash is a prefix;
            empty permits all.
        fields: further form fields with their only permitted value.
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
        """Yield the reasons why the terms cannot or should not be signed."""
        if problem := check_bucket(self.bucket):
            yield problem
        if problem := self.prefix and check_key(self.prefix):
            yield problem.replace("key ", "prefix ", 1)
        if "${" in self.prefix:
            yield "the prefix holds '${', which OSS would replace"
        if self.prefix and not self.prefix.endswith("/"):
            said = (
                "would also match other names that start with it: end it with a slash"
            )
            yield f"the prefix {self.prefix[:80]!r} {said}"
        if not 1 <= self.expires_in <= MAX_V4_LIFE:
            yield f"the grant would be valid for {self.expires_in} s: OSS allows 7 days"
        least, most = self.sizes
        if not 0 <= least <= most <= MAX_SINGLE_PUT:
            limit = f"0..{MAX_SINGLE_PUT} bytes"
            yield f"sizes from {least} to {most}: use a range in {limit}"
        kinds = [one for one in self.content_types if one.endswith("/")]
        if kinds and len(self.content_types) > 1:
            yield f"content type {kinds[0]!r} is a prefix, which must be the only content type"

    def conditions(self) -> list[PolicyCondition]:
        """Return the policy conditions for these terms, without those of the signature.

        The conditions restrict everything that OSS can restrict. The holder can still
        add fields that no condition names: metadata, headers of the object, a callback.
        OSS has no condition that forbids a field.

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
    """A signed grant, the content of a grant file.

    Attributes:
        url: root URL of the bucket, to which the form is sent.
        bucket: name of the bucket.
        prefix: prefix of every key.
        expires_at: expiry time, seconds since the epoch.
        fields: all form fields except the key, in the order of sending.
    """

    url: str
    bucket: str
    prefix: str
    expires_at: float
    fields: Mapping[str, Secret]

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

    Args:
        credentials: the access key that signs.
        endpoint: the endpoint at which the holder reaches the bucket.
        terms: the permissions of the holder.
        version: ``v4`` or ``v1``.
        region: region without ``oss-``; required for V4.
        now: seconds since the epoch, the start of the lifetime.

    Raises:
        ConfigurationError: the terms cannot or should not be signed; the message lists
            all problems.
        SignerError: the temporary key has expired.
    """
    if endpoint.product != "oss":
        msg = "OSS documents no form signature for a cloud box (CloudBox): sign URLs instead"
        raise ConfigurationError(msg)
    meant = terms.conditions()
    ends = int(now) + terms.expires_in
    if credentials.expires_at is not None:
        ends = min(ends, int(credentials.expires_at))
    if ends <= now:
        raise SignerError("the temporary access key has expired: get a new one")
    own = signature_conditions(credentials, version=version, region=region, now=now)
    text = Secret(policy_text([*meant, *own], expires_at=ends))
    signed = sign_policy(credentials, text, version=version, region=region, now=now)
    fields = {**pinned_fields(meant), **signed}
    hidden = form_values(fields)
    del own, signed, fields
    return SignedGrant(
        url=endpoint.url(terms.bucket),
        bucket=terms.bucket,
        prefix=terms.prefix,
        expires_at=float(ends),
        fields=hidden,
    )


_TYPES = (TYPE_FIELD, "content-type")
_HTML = ("text/html", "image/svg+xml")  # run scripts in a browser
_ALWAYS = {"bucket", "key", RANGE, *SIGNATURE_FIELDS}


def about_grant(grant: PostGrant, now: float) -> Iterator[tuple[str, str]]:
    """Yield names and values that describe *grant*; *now* is seconds since the epoch."""
    policy = grant.policy
    yield "kind", f"grant, signature {grant.version.upper()}"
    yield "goes to", shown_text(grant.url)
    yield "objects", _told(policy.named("key")) or "any name in the bucket"
    yield "size", _told(policy.named(RANGE)) or f"up to {shown_bytes(MAX_SINGLE_PUT)}"
    yield "expires at", shown_end(grant.expires_at, now)
    if grant.has(TOKEN_FIELD):
        yield "key", "temporary (STS): it may end before the grant does"
    kept = pinned_fields(policy.conditions).get(FORBID_OVERWRITE) == "true"
    yield "existing objects", "are kept" if kept else "can be replaced"
    others = [one for one in policy.conditions if one.field not in _ALWAYS]
    yield "also bound", shown_text(_told(others)) or "nothing"
    for warning in warnings_of(grant):
        yield "warning", shown_text(warning)


def _told(conditions: list[PolicyCondition]) -> str:
    """Return readable descriptions of policy conditions."""
    texts = []
    for one in conditions:
        if one.sizes is not None:
            texts.append(" to ".join(map(shown_bytes, one.sizes)))
            continue
        words = {"eq": "is", "starts-with": "begins with", "not-in": "is none of"}
        operator = words.get(one.operator, "is one of")
        name = "" if one.field == "key" else f"{one.field} "
        texts.append(f"{name}{operator} {', '.join(map(repr, one.values))}")
    return "; ".join(texts)


def warnings_of(grant: PostGrant) -> Iterator[str]:
    """Yield warnings about unusually broad permissions in *grant*, without secrets."""
    policy, is_v1 = grant.policy, grant.version == "v1"
    if not policy.named("bucket"):
        where = "" if is_v1 else " of its region"
        yield f"no bucket is bound: it works for every bucket{where} that its key may write"
    yield from _prefix_warnings(policy.named("key"))
    if not policy.named(RANGE):
        yield "no size is bound: every object may have 5 GiB"
    if not policy.named(OBJECT_ACL):
        yield "the ACL is not bound: the holder can make objects public"
    yield from _type_warnings([one for n in _TYPES for one in policy.named(n)])
    if is_v1 and not grant.has(TOKEN_FIELD):
        yield "V1 with a lasting key: the key itself signs, for every region; use V4"
    for name in ("callback", "success_action_redirect"):
        if grant.has(name):
            yield f"it has a {name}: an address of its owner's choice is called"


def _prefix_warnings(conditions: list[PolicyCondition]) -> Iterator[str]:
    exact = [one for one in conditions if one.operator in ("eq", "in")]
    starts = [one.values[0] for one in conditions if one.operator == "starts-with"]
    longest = max(starts, key=len, default="")
    if exact:
        return
    if not longest:
        yield "no prefix is bound: every object of the bucket can be written"
    elif not longest.endswith("/"):
        said = "it has no slash at its end, so that longer names begin with it too"
        yield f"the prefix {longest[:80]!r} is wide: {said}"


def _type_warnings(conditions: list[PolicyCondition]) -> Iterator[str]:
    allowed = [one for one in _HTML if all(c.allows(one) for c in conditions)]
    if conditions and allowed:
        yield f"its types admit {', '.join(allowed)}, in which scripts can run"


def check_grant(grant: PostGrant, intent: Intent) -> list[MapProblem]:
    """Return all problems of *grant* for the planned uploads *intent*.

    The check assumes that the files are sent one after the other, in their order. The
    kinds of problems are ``expiry``, ``http`` and ``upload``.
    """
    place = f"{grant.bucket}/{''.join(grant.prefixes[:1])}"
    problems = []
    if grant.expires_at <= intent.now:
        ended = f"it expired at {shown_moment(grant.expires_at)}: sign it again"
        problems.append(MapProblem(place, "expiry", ended))
    allowed = {"allow_http": intent.allow_http, "local": intent.local}
    if problem := url_checks.http_problem(grant.url, **allowed):
        problems.append(MapProblem(place, "http", f"its URL {problem}"))
    sent = 0
    for path, local in intent.files.items():
        size = os.path.getsize(local)
        problems += _check_file(grant, path, size, sent, intent)
        sent += size
    return problems


def _check_file(
    grant: PostGrant, path: str, size: int, before: int, intent: Intent
) -> Iterator[MapProblem]:
    """Yield the problems of sending *size* bytes after *before* other bytes."""
    operation = Target(path=path, headers=intent.headers).operation(
        Action.PostObject, content_length=size
    )
    try:
        # The end of the grant is a problem of its own.
        sign_form(grant, operation, min(intent.now, grant.expires_at - 1))
    except NotSignedError as error:
        text = error.message.removeprefix(f"the grant does not allow {path!r}: ")
        yield MapProblem(path, "upload", text)
        return
    if intent.rate is None:
        return
    wait = before / intent.rate
    if intent.now < grant.expires_at <= intent.now + wait:
        ends = shown_moment(grant.expires_at)
        text = f"would be sent after {shown_seconds(wait)}, the grant ends at {ends}"
        yield MapProblem(path, "expiry", f"{text}: sign it for longer, or later")

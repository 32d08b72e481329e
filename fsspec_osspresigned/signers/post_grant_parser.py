"""Reader of untrusted grants, from owners and from application servers.

Names are compared without case and separators. The reader accepts the package's own
format, ``{url, fields}`` of ali-oss and boto3, and the flat formats of OSS's sample
servers, V1 and V4. Problems are collected as texts, because the traceback of an
exception would show secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from attrs import field, frozen

from .. import other_stores, parsing
from ..errors import ConfigurationError
from ..model import FORBID_OVERWRITE, OBJECT_ACL, STORAGE_CLASS, TRAFFIC_LIMIT
from ..secret import Secret
from ..signing.canonical import ALGORITHM, TERMINATOR, parse_moment
from ..signing.endpoint import check_bucket, region_of
from ..signing.post_policy import (
    SIGNATURE_FIELDS,
    STATUS_FIELD,
    TOKEN_FIELD,
    TYPE_FIELD,
    V4_FIELDS,
    PolicyCondition,
    PostPolicy,
    form_values,
    lower_names,
    pinned_fields,
    spelled,
)
from ..units import MIB, shown_moment
from ..url_checks import object_of, url_problem
from .wire_protocol import clean

MAX_GRANT = MIB
_VERSION = 1
_MAX_DEPTH = 8
_NEVER = float("inf")
_REDIRECT = "success_action_redirect"
# the upload sets these fields itself, or has no use for them
_REPLACED = {"key", "file", "bucket", _REDIRECT}


def _flat(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


# Known names for each key of a grant.
_MEMBERS = {
    name: member
    for member, names in {
        "fields": "fields formdata form formfields",
        "host": "host url uploadhost uploadurl posturl",
        "endpoint": "endpoint",
        "bucket": "bucket bucketname",
        "policy": "policy encodedpolicy",
        "signature": "signature xosssignature",
        "OSSAccessKeyId": "ossaccesskeyid accessid accesskeyid",
        V4_FIELDS[0]: "xosssignatureversion signatureversion version",
        V4_FIELDS[1]: "xosscredential credential",
        V4_FIELDS[2]: "xossdate",
        TOKEN_FIELD: "xosssecuritytoken securitytoken ststoken",
    }.items()
    for name in names.split()
}
# Form fields that a flat JSON object may have, by their names without separators.
_PLAIN_FIELDS = {
    _flat(name): name
    for name in (
        *("callback", STATUS_FIELD, TYPE_FIELD, OBJECT_ACL, FORBID_OVERWRITE),
        *(STORAGE_CLASS, TRAFFIC_LIMIT, "x-oss-server-side-encryption"),
        *("x-oss-server-side-encryption-key-id", "x-oss-server-side-data-encryption"),
    )
}
_WRAPPERS = ("data", "output", "result", "body")


@frozen(kw_only=True)
class PostGrant:
    """Grant: a signed POST policy with all form fields that do not depend on the object."""

    url: str  # root URL of the bucket, to which the form is sent
    bucket: str
    policy: PostPolicy
    # Fields that are sent unchanged, without ``key``, by OSS's names.
    fields: Mapping[str, Secret] = field(repr=False)
    version: str  # signature version: v1 or v4
    starts_at: float  # start of validity, seconds since the epoch
    expires_at: float  # seconds since the epoch

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Prefixes that the policy requires of every key; empty if it requires none."""
        named = self.policy.named("key")
        return tuple(c.values[0] for c in named if c.operator == "starts-with")

    @property
    def largest(self) -> int | None:
        """Maximum object size in bytes that the policy permits; None if unlimited."""
        sizes = [c.sizes for c in self.policy.conditions if c.sizes is not None]
        return min((high for _, high in sizes), default=None)

    def has(self, name: str) -> bool:
        return name.lower() in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(name.lower() for name in self.fields)

    def describe(self) -> dict[str, Any]:
        """Return facts about the grant for JSON, without secrets."""
        return {
            "url": self.url,
            "bucket": self.bucket,
            "signature": self.version,
            "temporary_key": self.has(TOKEN_FIELD),
            "fields": [*self.fields],
            **self.policy.describe(),
            "expires": shown_moment(self.expires_at),
        }


def parse_grant(
    file: BinaryIO, *, allowed_hosts: Mapping[str, str | None] | None = None
) -> PostGrant:
    """Return the grant in a JSON *file*; see :func:`read_grant`."""
    read = _Reader(allowed_hosts or {})
    return read.result(read.text(file.read(MAX_GRANT + 1)))


def read_grant(
    document: Any, *, allowed_hosts: Mapping[str, str | None] | None = None
) -> PostGrant:
    """Return the grant in *document*, which is parsed JSON.

    *allowed_hosts* may map a custom domain to its bucket. If *document* is no grant or
    cannot work, raises ConfigurationError, which lists all problems.
    """
    read = _Reader(allowed_hosts or {})
    grant = read.grant(document)
    del document  # a traceback may show the document
    return read.result(grant)


class _Reader:
    """Reader of one grant; its methods record all mistakes in ``problems``."""

    def __init__(self, allowed_hosts: Mapping[str, str | None]) -> None:
        self.problems: list[str] = []
        self._allowed = allowed_hosts

    def note(self, problem: str) -> None:
        self.problems.append(problem)

    def result(self, grant: PostGrant | None) -> PostGrant:
        if grant is None or self.problems:
            raise ConfigurationError(self.problems)
        return grant

    def text(self, data: bytes) -> PostGrant | None:
        if len(data) > MAX_GRANT:
            self.note(f"it is longer than {MAX_GRANT} bytes, the limit of a grant")
            return None
        try:
            document = parsing.loads(data, max_depth=_MAX_DEPTH)
        except ValueError as error:
            self.note(f"it is {error}")
            return None
        return self.grant(document)

    def grant(self, document: Any) -> PostGrant | None:
        inner = _unwrapped(document)
        members = self._members(inner)
        if members is None:
            return None
        own_end = self._own_end(inner) if "fields" in members else _NEVER
        fields = self._fields(members)
        if store := _other_store(fields):
            remedy = "only those of OSS are supported. Ask for presigned URLs"
            self.problems = [f"it is a POST policy of {store}: {remedy}"]
            return None
        policy = self._policy(fields.get("policy"))
        if policy is None:
            self._hint(document)
        target = self._target(members, [] if policy is None else policy.named("bucket"))
        if policy is None:
            return None
        fields = _completed(fields, policy)
        version = self._signature(fields, policy)
        url, bucket = target or ("", None)
        self._compare(fields, policy, bucket, url)
        if bucket is None:
            return None
        starts_at = parse_moment(fields.get("x-oss-date", ""))
        return PostGrant(
            url=url,
            bucket=bucket,
            policy=policy,
            fields=form_values(fields),
            version=version,
            starts_at=starts_at or 0.0,
            expires_at=min(policy.end(fields), own_end),
        )

    def _members(self, document: Any) -> dict[str, Any] | None:
        if not isinstance(document, Mapping):
            self.note(f"a grant is an object, not {parsing.kind(document)}")
            return None
        members: dict[str, Any] = {}
        for name, value in document.items():
            member = _MEMBERS.get(_flat(str(name)))
            if member is not None and value not in (None, ""):
                members[member] = value
        return {**members, "all": document}

    def _own_end(self, document: Mapping[str, Any]) -> float:
        """Return the expiry time of a grant in the package's own format; else infinity."""
        version = document.get("version")
        if not parsing.is_int(version):
            return _NEVER
        if version != _VERSION:
            known = f"this release reads version {_VERSION}"
            self.note(f"the grant has version {version}: {known}")
        expires = document.get("expires", "9999-12-31T00:00:00Z")
        expires_at = parsing.moment(expires) if isinstance(expires, str) else None
        if expires_at is None:
            self.note('"expires" is not a time such as 2026-11-27T10:00:00Z')
        return _NEVER if expires_at is None else expires_at

    def _fields(self, members: Mapping[str, Any]) -> dict[str, str]:
        """Return the form fields by their documented names."""
        form = members.get("fields")
        if form is not None and not isinstance(form, Mapping):
            self.note(f"its fields are {parsing.kind(form)}, not an object")
            form = {}
        if form is None:
            pairs = _flat_fields(members)
        else:
            pairs = ((spelled(str(name)), value) for name, value in form.items())
        fields: dict[str, str] = {}
        for name, value in pairs:
            if value is None or name in _REPLACED:
                continue
            text = str(value) if parsing.is_int(value) else value
            if not isinstance(text, str):
                shown = parsing.kind(value)
                self.note(f"the field {name[:60]!r} is {shown}, not a string")
            elif text or name.lower() not in SIGNATURE_FIELDS:
                fields[name] = text
        return fields

    def _policy(self, text: str | None) -> PostPolicy | None:
        if text is None:
            self.note("it has no policy")
            return None
        try:
            return PostPolicy.parse(text)
        except ConfigurationError as error:
            self.problems += error.problems
        return None

    def _hint(self, document: Any) -> None:
        """Record the error message of a server that returned no grant."""
        for name in ("message", "msg", "error", "detail"):
            text = document.get(name) if isinstance(document, Mapping) else None
            if isinstance(text, str) and text:
                self.note(f"it says: {clean(text)}")
                return

    def _signature(self, fields: Mapping[str, str], policy: PostPolicy) -> str:
        has = lower_names(fields)
        if "ossaccesskeyid" in has and V4_FIELDS[1] not in has:
            if "signature" not in has:
                self.note("it has no signature")
            return "v1"
        if missing := [n for n in (*V4_FIELDS, "x-oss-signature") if n not in has]:
            which = "neither an access key ID nor " if len(missing) > 1 else "no "
            self.note(f"it has {which}{', '.join(missing)}")
            return "v4"
        version, credential, date = (has[name] for name in V4_FIELDS)
        scope = credential.rsplit("/", 4)[1:]
        is_day = parse_moment(date) is not None and scope[:1] == [date[:8]]
        if version != ALGORITHM or scope[3:] != [TERMINATOR] or not is_day:
            self.note(f"{', '.join(V4_FIELDS)} are not those of one signature")
        if missing := [name for name in V4_FIELDS if not policy.named(name)]:
            self.note(f"the policy does not name {', '.join(missing)}, as V4 must")
        return "v4"

    def _target(
        self, members: Mapping[str, Any], named: list[PolicyCondition]
    ) -> tuple[str, str] | None:
        """Return the bucket's root URL and name; None after a problem."""
        names = [condition.values[0] for condition in named]
        bucket = members.get("bucket", names[0] if names else None)
        host = members.get("host", members.get("endpoint"))
        if not isinstance(host, str):
            self.note("it has no host or url to send the file to")
            return None
        if not isinstance(bucket, str | None):
            self.note(f"its bucket is {parsing.kind(bucket)}, not a string")
            return None
        if problem := bucket and check_bucket(bucket):
            self.note(problem)
            return None
        root = root_of(host, bucket, self._allowed)
        problem = root if isinstance(root, str) else check_bucket(root[1])
        if problem or isinstance(root, str):
            self.note(problem or "")
            return None
        of_host = root[1]
        wrong = {*names, *([bucket] if bucket else [])} - {of_host}
        if wrong:
            problem = f"it is for the bucket {', '.join(sorted(wrong))}"
            self.note(f"{problem}, but its host is for {of_host!r}")
        return root

    def _compare(
        self,
        fields: Mapping[str, str],
        policy: PostPolicy,
        bucket: str | None,
        url: str,
    ) -> None:
        has = lower_names(fields)
        for condition in policy.conditions:
            # Conditions on missing fields are skipped, because an option may set these
            # fields later.
            if condition.field in has:
                refusal = condition.refusal(has, bucket, None)
                self.problems += [] if refusal is None else [refusal.text]
            elif condition.field in SIGNATURE_FIELDS:
                self.note(f"it lacks {condition.field}, which {condition} needs")
            elif condition.field == _REDIRECT:
                problem = "the policy asks for a redirect, which proves no upload"
                self.note(f"{problem}: ask for one without {_REDIRECT}")
        region = region_of(urlsplit(url).hostname or "")
        signed = has.get(V4_FIELDS[1], "").split("/")
        if region and len(signed) > 2 and signed[2] != region:  # noqa: PLR2004 - ID/day/region
            problem = f"it is signed for the region {signed[2][:40]!r}"
            self.note(f"{problem}, but its host is for {region!r}")


def _unwrapped(document: Any) -> Any:
    """Return the inner object of ``{code, msg, data}`` and similar wrappers.

    If only one inner object has a policy, it may have any name.
    """
    if not isinstance(document, Mapping) or _is_grant(document):
        return document
    members = {_flat(str(name)): value for name, value in document.items()}
    wrapped = (members[name] for name in _WRAPPERS if name in members)
    inner = next((value for value in wrapped if isinstance(value, Mapping)), None)
    if inner is not None:
        return _unwrapped(inner)
    nested = [value for value in document.values() if _is_grant(value)]
    return nested[0] if len(nested) == 1 else document


def _is_grant(document: Any) -> bool:
    names = document if isinstance(document, Mapping) else ()
    return any(_MEMBERS.get(_flat(str(name))) in ("policy", "fields") for name in names)


def _other_store(fields: Mapping[str, str]) -> str | None:
    names = [name.lower() for name in fields]
    google = (other_stores.GOOGLE_QUERY.lower(), other_stores.GOOGLE_KEY_V2.lower())
    if any(name.startswith(google) for name in names):
        return "Google Cloud Storage"
    s3 = (f"{other_stores.S3_HEADER}signature", other_stores.S3_KEY_V2.lower())
    return "S3" if any(name in s3 for name in names) else None


def _flat_fields(members: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the form fields that are keys of a flat document."""
    is_v4 = V4_FIELDS[1] in members or members.get(V4_FIELDS[0]) == ALGORITHM
    for name in ("policy", "OSSAccessKeyId", *V4_FIELDS, TOKEN_FIELD):
        if name in members and not (is_v4 and name == "OSSAccessKeyId"):
            yield name, members[name]
    if "signature" in members:
        yield "x-oss-signature" if is_v4 else "Signature", members["signature"]
    for name, value in members["all"].items():
        lower = str(name).lower().replace("_", "-")
        if value in (None, ""):
            continue
        if (field_name := _PLAIN_FIELDS.get(_flat(lower))) is not None:
            yield field_name, value
        elif lower.startswith("x-oss-meta-"):
            yield lower, value


def _completed(fields: Mapping[str, str], policy: PostPolicy) -> dict[str, str]:
    """Return *fields*, completed by fields with only one permitted value."""
    has = lower_names(fields)
    conditions = policy.conditions
    pinned = {c.field: c.values[0] for c in conditions if c.operator == "eq"}
    own = {name: pinned[name] for name in (*V4_FIELDS, TOKEN_FIELD) if name in pinned}
    known = {**pinned_fields(conditions), **({} if "ossaccesskeyid" in has else own)}
    added = {n: v for n, v in known.items() if n not in has and n != _REDIRECT}
    return {**fields, **added}


def root_of(
    host: str, bucket: str | None, allowed_hosts: Mapping[str, str | None]
) -> tuple[str, str] | str:
    """Return the bucket's root URL at *host*, and the bucket, or a text about the problem.

    *host* may lack its scheme, have slashes around it, or be the host of a region
    without the bucket.
    """
    text = host.strip()
    if "://" not in text:
        text = f"https://{text.removeprefix('//')}"
    if problem := url_problem(text):
        return f"its host {problem}"
    parts = urlsplit(text)
    if parts.query or "?" in text:
        return "its host has a query"
    name = (parts.hostname or "").lower()
    root = f"{parts.scheme.lower()}://{parts.netloc.lower()}/"
    try:
        shown, rest = object_of(text)
    except ValueError:
        return "its host has a path that is not UTF-8"
    if rest.strip("/"):
        return f"its host {name} has a path: a form goes to the bucket's root"
    is_path = shown == "" or bool(parts.path.strip("/"))  # the host serves all buckets
    if is_path and not (bucket := shown or bucket):
        return f"its host {name} names no bucket, and neither does the grant"
    if is_path and name.endswith(".aliyuncs.com"):
        # OSS hosts do not support path style
        return f"{parts.scheme.lower()}://{bucket}.{parts.netloc.lower()}/", str(bucket)
    if is_path or shown:
        return (f"{root}{bucket}/" if is_path else root), str(shown or bucket)
    known = next(
        (allowed_hosts[n] for n in (parts.netloc.lower(), name) if n in allowed_hosts),
        None,
    )
    if bucket := known or bucket:
        return root, bucket
    remedy = f'name it with allowed_hosts={{"{name}": "BUCKET"}}'
    return f"its host {name} does not show the bucket: {remedy}"

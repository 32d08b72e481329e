"""Forms of PostObject: headers as form fields, checked against the policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..errors import NotCoveredError
from ..model import (
    ENCRYPTION,
    FORBID_OVERWRITE,
    MAX_POST_OBJECT,
    META,
    OBJECT_ACL,
    REQUEST_PAYER,
    STORAGE_CLASS,
    TAGGING,
    TRAFFIC_LIMIT,
    Action,
    Operation,
    SignedForm,
    SignedRequest,
    split_path,
)
from ..secret import FormValue, Secret
from ..signing.canonical import SKEW
from ..signing.endpoint import check_key
from ..signing.post_policy import (
    STATUS_FIELD,
    TYPE_FIELD,
    PolicyFault,
    PolicyRefusal,
    spelled,
)
from ..units import shown_moment
from .base import form_fields
from .post_grant_parser import PostGrant
from .wire_protocol import acl_problem

_TYPE = "content-type"
_PREFIXES = (META, ENCRYPTION)
# Headers that a form sends as a field, most of them with the same name.
_SAME = {
    *("cache-control", "content-disposition", "content-encoding", "expires", _TYPE),
    *(OBJECT_ACL, STORAGE_CLASS, FORBID_OVERWRITE, TRAFFIC_LIMIT, TAGGING),
    *("x-oss-callback", "x-oss-callback-var"),
}
# Field that a policy may require -> the option that sets it.
_OPTIONS = {
    _TYPE: "content_type=",
    OBJECT_ACL: "acl=",
    STORAGE_CLASS: "storage_class=",
    FORBID_OVERWRITE: "overwrite=",
    "callback": "callback=",
    TAGGING: "tagging=",
    META: "metadata=",
    ENCRYPTION: "server_side_encryption=",
}
_ANY_TYPE = "application/octet-stream"
# Statuses by which OSS can confirm a form. The body of 201 is not needed.
_STATUSES = ("200", "204", "201")


def sign_form(
    grant: PostGrant,
    operation: Operation,
    now: float,
    *,
    issued_at: float | None = None,
) -> SignedRequest:
    """Return the form for *operation*; NotCoveredError lists why *grant* forbids it.

    *issued_at* is the start of the grant's lifetime; None takes *now*. Both are seconds
    since the epoch.
    """
    new, kept = _fields(grant, operation)
    if problems := [*_problems(grant, operation, new, kept, now)]:
        raise _not_allowed(operation.path, problems)
    fields = {**{name: FormValue(value) for name, value in new.items()}, **kept}
    headers = operation.headers
    return SignedRequest(
        method=operation.action.method,
        url=grant.url,
        headers={n: v for n, v in headers.items() if n.lower() == REQUEST_PAYER},
        issued_at=now if issued_at is None else issued_at,
        expires_at=grant.expires_at,
        form=SignedForm(fields=fields),
    )


def _fields(
    grant: PostGrant, operation: Operation
) -> tuple[dict[str, str], Mapping[str, Secret]]:
    """Return the form fields of the object, and the remaining fields of *grant*."""
    new = {"key": operation.key}
    if operation.headers:
        of_object = form_fields(_of_object(operation.headers))
        new |= {spelled(name): value.strip() for name, value in of_object.items()}
    required_type = new.pop(spelled(_TYPE), None)
    new |= _types(grant, required_type, _guessed_type(operation))
    is_exclusive = FORBID_OVERWRITE in operation.optional_headers
    is_free = is_exclusive and not grant.has(FORBID_OVERWRITE)
    if is_free and _allowed(grant, FORBID_OVERWRITE, "true"):
        new[FORBID_OVERWRITE] = "true"
    if not grant.has(STATUS_FIELD):
        new[STATUS_FIELD] = _allowed(grant, STATUS_FIELD, *_STATUSES) or _STATUSES[0]
    own = {name.lower() for name in new}
    return new, {n: v for n, v in grant.fields.items() if n.lower() not in own}


def _allowed(grant: PostGrant, field: str, *values: str) -> str | None:
    """Return the first of *values* that the policy allows for *field*; None if none is."""
    rules = grant.policy.named(field)
    return next((v for v in values if all(rule.allows(v) for rule in rules)), None)


def _of_object(headers: Mapping[str, str]) -> dict[str, str]:
    # A form has no field for x-oss-request-payer.
    return {n: v for n, v in headers.items() if n.lower() != REQUEST_PAYER}


def _guessed_type(operation: Operation) -> str | None:
    headers = operation.optional_headers.items()
    return next((v for n, v in headers if n.lower() == _TYPE), None)


def _types(
    grant: PostGrant, required: str | None, guessed: str | None
) -> dict[str, str]:
    """Return the form fields with the content type that the policy names.

    If the policy names none, this is the field ``Content-Type``. *required* is always
    sent. If the policy forbids *guessed*, application/octet-stream is sent if it is
    allowed.
    """
    names = [n for n in (_TYPE, TYPE_FIELD) if grant.policy.named(n) or grant.has(n)]
    if required is not None:
        return {spelled(name): required for name in names or [_TYPE]}
    types = [_ANY_TYPE] if guessed is None else [guessed, _ANY_TYPE]
    fields = {}
    for name in names or ([_TYPE] if guessed else []):
        value = None if grant.has(name) else _allowed(grant, name, *types) or guessed
        if value is not None:
            fields[spelled(name)] = value
    return fields


def _problems(
    grant: PostGrant,
    operation: Operation,
    new: Mapping[str, str],
    kept: Mapping[str, Secret],
    now: float,
) -> Iterator[str]:
    yield from target_problems(grant, operation.bucket, operation.key)
    yield from life_problems(grant, now)
    if (operation.content_length or 0) > operation.action.spec.largest:
        limit = f"with its fields, so a file of at most {MAX_POST_OBJECT} bytes"
        yield f"a form upload takes at most 5 GiB {limit}: use a signer or part URLs"
    for name in _of_object(operation.headers):
        lower = name.lower()
        if lower not in _SAME and not lower.startswith(_PREFIXES):
            yield f"the header {name} has no field in a form: leave it out"
        elif lower == TAGGING and not (
            grant.policy.named(TAGGING) or grant.has(TAGGING)
        ):
            # OSS documents no form field for tags, and would silently drop them.
            yield "it does not name x-oss-tagging: leave tagging= out"
    fields = {**new, **{name: value.reveal() for name, value in kept.items()}}
    size = operation.content_length
    for refusal in grant.policy.judge(fields, bucket=grant.bucket, size=size, now=0.0):
        yield f"{refusal}{_remedy(refusal)}"


def _remedy(refusal: PolicyRefusal) -> str:
    if refusal.field in (_TYPE, TYPE_FIELD):
        return f": give {_OPTIONS[_TYPE]}"
    if refusal.fault is not PolicyFault.ABSENT:
        return ""
    names = (n for n in _OPTIONS if refusal.field.startswith(n))
    option = _OPTIONS.get(next(names, ""))
    return f": give {option}" if option else ": ask its owner for that field"


def target_problems(grant: PostGrant, bucket: str, key: str) -> Iterator[str]:
    if bucket != grant.bucket:
        yield f"it is for the bucket {grant.bucket!r}"
    if problem := check_key(key):
        yield problem
    if "${" in key:
        yield f"key {key[:80]!r} holds '${{', which OSS would replace"


def life_problems(grant: PostGrant, now: float) -> Iterator[str]:
    if now >= grant.expires_at:
        yield f"it expired at {shown_moment(grant.expires_at)}: ask its owner for a new one"
    if now < grant.starts_at - SKEW:
        begins = shown_moment(grant.starts_at)
        yield f"it is not valid before {begins}: check the clock of this machine"


def check_acl(fields: Mapping[str, Secret], operation: Operation) -> None:
    """Raise NotCoveredError if *fields*, but not *operation*, make the object public."""
    if problem := acl_problem({n: v.reveal() for n, v in fields.items()}, operation):
        text = f"{operation}: the form field {problem}"
        raise NotCoveredError(text, path=operation.path, action=operation.action)


def check_path(grant: PostGrant, path: str, now: float) -> None:
    """Raise NotCoveredError if *grant* does not allow an object at *path*."""
    bucket, key = split_path(path)
    problems = [*target_problems(grant, bucket, key), *life_problems(grant, now)]
    for condition in grant.policy.named("key"):
        refusal = condition.refusal({"key": key}, bucket, None)
        problems += [] if refusal is None else [refusal.text]
    if problems:
        raise _not_allowed(path, problems)


def _not_allowed(path: str, problems: Iterable[str]) -> NotCoveredError:
    text = f"the grant does not allow {path!r}: {'; '.join(problems)}"
    return NotCoveredError(text, path=path, action=Action.PostObject)

"""Description of a grant, and its check against the intended uploads."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .. import request_checks
from ..errors import NotSignedError
from ..model import FORBID_OVERWRITE, MAX_SINGLE_PUT, OBJECT_ACL, Action
from ..options.object_options import Target
from ..signers.post_form import sign_form
from ..signers.post_grant_parser import PostGrant
from ..signing.post_conditions import RANGE, PolicyCondition
from ..signing.post_policy import SIGNATURE_FIELDS, TOKEN_FIELD, TYPE_FIELD
from ..units import shown_bytes, shown_end, shown_moment, shown_seconds, shown_text
from .map_check import Intent, MapProblem

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
    kept = policy.pinned().get(FORBID_OVERWRITE) == "true"
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
    if problem := request_checks.http_problem(grant.url, **allowed):
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

"""Descriptions of presigned URLs, URL maps and grants, without signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

from attrs import frozen

from .. import url_checks
from ..client.causes import NO_SIGNATURE
from ..errors import ConfigurationError
from ..model import FORBID_OVERWRITE, MAX_SINGLE_PUT, OBJECT_ACL
from ..other_stores import GOOGLE_QUERY, S3_HEADER
from ..secret import SecretURL
from ..signers.post_grant_parser import MAX_GRANT, PostGrant, parse_grant
from ..signers.presigned_urls import expiry
from ..signing.canonical import OWN_PARAMETERS, parse_query
from ..signing.post_policy import (
    RANGE,
    SIGNATURE_FIELDS,
    TOKEN_FIELD,
    TYPE_FIELD,
    PolicyCondition,
    pinned_fields,
)
from ..signing.signed_url import SignedURL, damage, describe
from ..units import shown_bytes, shown_end, shown_moment, shown_text
from ..url_map.parser import parse
from ..url_map.source import Opener, kind_of, load_file
from ..url_map.url_file import headers_in, split_url_file
from ..url_map.url_map import EXTRAS, MapEntry, MapRequest, URLMap

_VERSIONS = {
    "v1": "V1 (refused for new buckets)",
    "v2": "V2",
    "v4": "V4",
    "s3-v2": "V2 of S3-compatible stores",
    "s3-v4": "V4 of S3-compatible stores",
    "gcs-v2": "V2 of Google Cloud Storage",
    "gcs-v4": "V4 of Google Cloud Storage",
    "unknown": "unknown: this may not be a presigned URL",
}
# bytes of a file that may contain a single URL instead of a map
_MAX_ONE = 2 * url_checks.MAX_URL
# Parameters of signatures. All other parameters decide what a URL does.
_OF_OTHER_STORES = (S3_HEADER, GOOGLE_QUERY.lower())
_OF_SIGNATURE = {"partnumber", "uploadid", *(name.lower() for name in OWN_PARAMETERS)}
_TYPE_FIELDS = (TYPE_FIELD, "content-type")
_HTML = ("text/html", "image/svg+xml")  # types with scripts that a browser would run
_ALWAYS = {"bucket", "key", RANGE, *SIGNATURE_FIELDS}


def read(reference: str, opener: Opener) -> MapRequest | URLMap | PostGrant:
    """Return the presigned URL with its headers, the URL map, or the grant, at *reference*.

    *reference* is ``-`` for standard input, ``env:NAME``, ``file:PATH``, a path, or any
    URL that *opener* can read.

    Raises:
        ConfigurationError: *reference* cannot be read, or is neither URL, map nor
            grant.
    """
    kind = "presigned URL, URL map or grant"
    return load_file(reference, _parsed, opener, kind=kind).current()


def _parsed(file: BinaryIO) -> MapRequest | URLMap | PostGrant:
    start = file.read(max(_MAX_ONE, MAX_GRANT) + 1)
    if len(start) <= _MAX_ONE and (
        one := _one_url(start.decode("utf-8-sig", "replace"))
    ):
        return one
    file.seek(0)
    return parse_grant(file) if kind_of(start) == "grant" else parse(file)


def _one_url(text: str) -> MapRequest | None:
    url, lines = split_url_file(text)
    if not url_checks.is_web(url) or any(map(url_checks.is_web, lines)):
        return None
    if problem := url_checks.url_problem(url):
        raise ConfigurationError(f"the URL {problem}")
    return MapRequest(url=SecretURL(url), headers=headers_in(lines))


Problem = Literal["", "damaged", "expired", "warning"]


@frozen
class Fact:
    """One fact of a presigned URL, a URL map or a grant, without secrets."""

    name: str
    text: str
    problem: Problem = ""


def described(source: MapRequest | URLMap | PostGrant, now: float) -> Iterator[Fact]:
    """Yield what *source* permits; for a map, one fact for each object.

    *now* is seconds since the epoch.
    """
    if isinstance(source, MapRequest):
        yield from about_url(source.url, now, source.headers)
    elif isinstance(source, PostGrant):
        yield from about_grant(source, now)
    else:
        for name, entry in source.items():
            yield _about_entry(name, entry, now)


def _about_end(end: float | None, now: float) -> Fact:
    is_expired = end is not None and end <= now
    return Fact("expires at", shown_end(end, now), "expired" if is_expired else "")


def about_url(
    url: SecretURL, now: float, headers: Mapping[str, str] | None = None
) -> Iterator[Fact]:
    """Yield facts that describe *url*; *now* is seconds since the epoch.

    *headers* are those to send; None if they are unknown.
    """
    signed = describe(url)
    if problem := damage(url):
        text = f"the URL {problem}; it was cut off or changed"
        yield Fact("damaged", text, "damaged")
    elif signed.is_bare:
        # a bucket may let anyone write, so this is no error
        yield Fact("warning", NO_SIGNATURE, "warning")
    yield Fact("version", _VERSIONS[signed.version])
    host = f"{urlsplit(url.reveal()).scheme}://{shown_text(signed.host)}"
    yield Fact("goes to", host)
    yield Fact("object", shown_text(_object_shown(url)))
    yield Fact("call", shown_text(_call(url, signed)))
    if signed.region:
        yield Fact("region", shown_text(signed.region))
    if signed.signed_at is not None:
        yield Fact("signed at", shown_moment(signed.signed_at))
    yield _about_end(signed.expires_at, now)
    if signed.has_token:
        yield Fact("key", "temporary (STS): it may end before the URL does")
    sent = "; ".join(f"{name}: {value}" for name, value in (headers or {}).items())
    yield Fact("must send", shown_text(sent) or _headers(signed))


def _object_shown(url: SecretURL) -> str:
    """Return ``bucket/key`` for the object of *url*, as far as the URL shows it."""
    try:
        bucket, key = url_checks.object_of(url.reveal())
    except ValueError:
        return "not visible: the path is not UTF-8"
    if bucket is None:
        return f"{key} (the host does not tell the bucket)"
    return f"{bucket}/{key}"


def _call(url: SecretURL, signed: SignedURL) -> str:
    names = {name for name, _ in parse_query(urlsplit(url.reveal()).query)}
    of_stores = {n for n in names if n.lower().startswith(_OF_OTHER_STORES)}
    foreign = sorted(n for n in names - of_stores if n.lower() not in _OF_SIGNATURE)
    if signed.part_number is not None:
        text = f"part {signed.part_number} of the upload {signed.upload_id}"
    elif signed.upload_id is not None:
        text = f"on the upload {signed.upload_id}: complete, abort or list"
    else:
        text = "on the object"
    text += "; its method is not visible in a URL"
    return f"{text}; parameters: {', '.join(foreign)}" if foreign else text


def _headers(signed: SignedURL) -> str:
    names = shown_text(", ".join(signed.additional_headers))
    visible = f"{names}, with the signed values" if names else "none is visible"
    if signed.version in ("s3-v4", "gcs-v4"):
        return visible
    return f"{visible}; Content-Type, Content-MD5 and x-oss-* may be signed unseen"


def _about_entry(name: str, entry: MapEntry, now: float) -> Fact:
    first = next(requests_of(entry))[1]
    kind = describe(first.url)
    ends = [expiry(request, entry) for _, request in requests_of(entry)]
    end = _about_end(min((e for e in ends if e is not None), default=None), now)
    text = (
        f"{_abilities(entry)}, until {end.text}, {_sent(first)}, "
        f"to {kind.host} ({kind.version})"
    )
    return Fact(shown_text(name), shown_text(text), end.problem)


def requests_of(entry: MapEntry) -> Iterator[tuple[str, MapRequest]]:
    """Yield every request of *entry* with its name: ``url``, ``parts[1]``, ``complete``."""
    if entry.put is not None:
        yield "url", entry.put
    for number, part in enumerate(entry.parts, 1):
        yield f"parts[{number}]", part
    for name in EXTRAS:
        request = getattr(entry, name)
        if isinstance(request, MapRequest):
            yield name, request


def _abilities(entry: MapEntry) -> str:
    words = ["PUT"] if entry.put is not None else []
    if entry.parts:
        size = f" of {shown_bytes(entry.part_size)}" if entry.part_size else ""
        words.append(f"{len(entry.parts)} parts{size}")
    if entry.complete == "external":
        words.append("the owner completes")
    words += [name for name in EXTRAS if isinstance(getattr(entry, name), MapRequest)]
    return ", ".join(words)


def _sent(request: MapRequest) -> str:
    if request.headers is None:
        return "headers not said"
    shown = (f"{name}: {value}" for name, value in request.headers.items())
    return "; ".join(shown) or "without headers"


def about_grant(grant: PostGrant, now: float) -> Iterator[Fact]:
    """Yield facts that describe *grant*; *now* is seconds since the epoch."""
    policy = grant.policy
    yield Fact("kind", f"grant, signature {grant.version.upper()}")
    yield Fact("goes to", shown_text(grant.url))
    names = _conditions(policy.named("key"))
    yield Fact("objects", names or "any name in the bucket")
    sizes = _conditions(policy.named(RANGE))
    yield Fact("size", sizes or f"up to {shown_bytes(MAX_SINGLE_PUT)}")
    yield _about_end(grant.expires_at, now)
    if grant.has(TOKEN_FIELD):
        yield Fact("key", "temporary (STS): it may end before the grant does")
    kept = pinned_fields(policy.conditions).get(FORBID_OVERWRITE) == "true"
    yield Fact("existing objects", "are kept" if kept else "can be replaced")
    others = [c for c in policy.conditions if c.field not in _ALWAYS]
    yield Fact("also bound", shown_text(_conditions(others)) or "nothing")
    for warning in warnings_of(grant):
        yield Fact("warning", shown_text(warning), "warning")


def _conditions(conditions: list[PolicyCondition]) -> str:
    texts = []
    for condition in conditions:
        if condition.sizes is not None:
            texts.append(" to ".join(map(shown_bytes, condition.sizes)))
            continue
        words = {"eq": "is", "starts-with": "begins with", "not-in": "is none of"}
        operator = words.get(condition.operator, "is one of")
        name = "" if condition.field == "key" else f"{condition.field} "
        texts.append(f"{name}{operator} {', '.join(map(repr, condition.values))}")
    return "; ".join(texts)


def warnings_of(grant: PostGrant) -> Iterator[str]:
    """Yield warnings about unusually broad permissions in *grant*, without secrets."""
    policy, is_v1 = grant.policy, grant.version == "v1"
    if not policy.named("bucket"):
        where = "" if is_v1 else " of its region"
        yield f"no bucket is fixed: it works for every bucket{where} that its key may write"
    yield from _prefix_warnings(policy.named("key"))
    if not policy.named(RANGE):
        yield "no size is fixed: every object may have 5 GiB"
    if not policy.named(OBJECT_ACL):
        yield "the ACL is not fixed: the holder can make objects public"
    types = [c for name in _TYPE_FIELDS for c in policy.named(name)]
    scripts = [kind for kind in _HTML if all(c.allows(kind) for c in types)]
    if types and scripts:
        yield f"its types include {', '.join(scripts)}, in which scripts can run"
    if is_v1 and not grant.has(TOKEN_FIELD):
        yield "V1 with a lasting key: the key itself signs, for every region; use V4"
    for name in ("callback", "success_action_redirect"):
        if grant.has(name):
            yield f"it has a {name}: OSS calls an address that its owner chose"


def _prefix_warnings(conditions: list[PolicyCondition]) -> Iterator[str]:
    if any(c.operator in ("eq", "in") for c in conditions):
        return
    starts = [c.values[0] for c in conditions if c.operator == "starts-with"]
    longest = max(starts, key=len, default="")
    if not longest:
        yield "no prefix is fixed: every object of the bucket can be written"
    elif not longest.endswith("/"):
        why = "it has no final slash, so it also matches longer names"
        yield f"the prefix {longest[:80]!r} is broad: {why}"

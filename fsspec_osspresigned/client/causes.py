"""Causes of refusals: one table, and one function that ranks them.

The errors of this package state the first cause, ``osspresigned explain`` all of them.
``tests/owner/refusals.py`` names the public threads that reported them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

from attrs import evolve, field, frozen

from .. import parsing
from ..errors import RefusalReason
from ..model import SignedRequest
from ..other_stores import S3_CHECKSUM, S3_HEADER, S3_TOKEN
from ..secret import SecretURL
from ..signing.canonical import parse_moment
from ..signing.endpoint import region_of
from ..signing.mismatch import Comparison, compare, received_request
from ..signing.signed_url import SignedURL, damage
from ..units import shown_seconds

Evidence = Literal["proven", "likely", "possible"]
EVIDENCE: tuple[Evidence, ...] = ("proven", "likely", "possible")


@frozen
class Cause:
    """One possible cause of a refusal, and what to do about it.

    *evidence* is ``proven`` if the reply itself shows the cause, ``likely`` for the
    most common of several causes, and otherwise ``possible``.
    """

    evidence: Evidence
    cause: str
    remedy: str


@frozen(kw_only=True)
class Refusal:
    """Facts about one refusal; unknown texts are empty, and unknown values None."""

    status: int | None
    code: str
    ec: str
    document: Mapping[str, str] = field(repr=False)  # elements of the error document
    # the message of the store, or all the text that a user pasted
    text: str = field(repr=False)
    form: bool = False  # the request was a form
    by_keys: bool = False  # this process signed the request with an access key
    by_signer: bool = False  # a signer service signed the request that was sent
    signed: SignedRequest | None = field(default=None, repr=False)
    # True: *signed* describes the request as sent; False: as it arrived
    is_sent: bool = True
    url: SignedURL  # what the presigned URL, or the fields of the form, contain
    object_key: str = ""
    row: str = ""  # name of the table row that applies, whatever the code is
    now: float  # clock of this machine, seconds since the epoch
    # seconds by which the clock of this machine is ahead of the store's
    offset: float | None

    @property
    def store(self) -> float | None:
        """The time by the store's clock, in seconds since the epoch."""
        return None if self.offset is None else self.now - self.offset

    @property
    def end(self) -> float | None:
        """Expiry time of the URL, seconds since the epoch."""
        if self.url.expires_at is not None:
            return self.url.expires_at
        return _moment(self.document.get("Expires", ""))


@frozen
class _Row:
    """One possible cause of refusals; *when* and *says* select those that it explains."""

    when: str  # a reason, or codes and EC numbers that blanks separate
    cause: str
    remedy: str = ""
    own: str = ""  # the remedy for a request that this process signed with its key
    says: str = ""  # pattern of the message, for refusals without a specific code


_OWNER = "tell the owner"
# New accounts cannot send data to the public hosts of mainland China since 2025-03-20
# (help.aliyun.com, "EC 0048-00000401").
_CLOSED_HOST = "the account may not use OSS's public host"
_OPEN_HOSTS = (
    "the signer must sign for a domain of the bucket (endpoint "
    "https://files.example.com, addressing style cname), for an internal host, or for a "
    "bucket outside mainland China"
)
OWN_DOMAIN = f"{_CLOSED_HOST}: {_OPEN_HOSTS}"
_AGAIN = "upload again"
NO_SIGNATURE = "the URL has no signature; it may have been cut at '?'"

_ROWS = (
    _Row(
        RefusalReason.EXPIRED, "the URL has expired", "ask for a new one",
        "check the clock of this machine, then run it again",
        says="Policy expired|Request has expired",
    ),
    _Row(
        RefusalReason.NOT_YET_VALID, "the URL is not valid yet",
        "check the clock of the machine that signed it",
        "check the clock of this machine",
    ),
    _Row(
        RefusalReason.CLOCK_SKEW, "", "set the clock, then sign anew or ask for a new URL",
        "set the clock",
    ),
    _Row(
        RefusalReason.TOKEN_ENDED,
        "the STS token that signed the URL has expired, and the URL with it",
        "ask for a new one",
        "set OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN to a new key",
    ),
    _Row(
        RefusalReason.TOKEN_INVALID,
        "the STS token in the URL does not belong to its key",
        "ask for a new one: the token was withdrawn, or cut when the URL was copied",
        "set OSS_SESSION_TOKEN to the one that was issued with OSS_ACCESS_KEY_ID",
    ),
    _Row(
        RefusalReason.WRONG_REGION, "the bucket is in another region",
        "tell the owner, who must sign for the region of the bucket",
        "set region= or OSS_REGION to",  # ``_cause`` adds the region
        says="the region '[^']*' is wrong|Invalid signing region|must be addressed using "
        "the specified endpoint",
    ),
    _Row("no-signature", NO_SIGNATURE, "copy the whole URL again, or ask for a new one"),
    _Row(
        RefusalReason.DENIED, "the signing key lacks the permission",
        "tell the owner, who grants it in a RAM or bucket policy",
        "grant it in a RAM or bucket policy",
    ),
    _Row(
        "denied-form",
        "the key of the grant lacks the permission oss:PutObject, or the policy "
        "of the grant does not allow it",
        "tell the owner, who gives the permission or another grant",
    ),
    _Row(
        RefusalReason.KEY_DISABLED,
        "the signing key is disabled, or not allowed from this address",
        _OWNER,
        "enable it, or set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET of another one",
    ),
    _Row(
        RefusalReason.ACCOUNT_DISABLED,
        "the account is disabled: a bill is unpaid, or its security is in doubt",
        _OWNER,
        "look at the messages of the account",
    ),
    _Row(
        RefusalReason.UNKNOWN_KEY, "the store does not know the signing key",
        "tell the owner: it was deleted, or it is an STS key whose token is missing",
        "correct OSS_ACCESS_KEY_ID; a temporary key needs OSS_SESSION_TOKEN, too",
    ),
    _Row(
        RefusalReason.MISMATCH, "the signature of the grant does not match its policy",
        "tell the owner, unless a copy of the grant was changed",
    ),
    _Row(
        RefusalReason.POLICY, "the policy of the grant does not allow it",
        "change the value that it names, or ask the owner for another grant",
        says="Policy Condition failed|Extra input fields",
    ),
    # Causes by code or EC number.
    _Row(
        "SecondLevelDomainForbidden", "the bucket must be in the host of the URL",
        "sign a virtual-hosted URL", "set addressing_style=virtual",
    ),
    _Row("0048-00000401 PublicEndpointForbidden", _CLOSED_HOST, _OPEN_HOSTS),
    _Row(
        "InvalidObjectState", "the object is archived", "ask its owner to restore it first",
        "restore it first",
    ),
    _Row(
        "NoSuchBucket", "the bucket does not exist", f"check its name, or {_OWNER}",
        "check its name, and region= or OSS_REGION",
    ),
    _Row(
        "NoSuchUpload", "the upload was completed or aborted",
        "start again; for a URL map with parts, ask its owner for a new one",
        "start again",
    ),
    _Row(
        "FileAlreadyExists ObjectAlreadyExists", "the object exists already",
        "use another name, or ask the owner for permission to replace", "use another name",
    ),
    _Row(
        "own-object", "this process itself has stored the object already",
        "a program that writes it several times needs a signature that permits replacing",
        "a program that writes it several times needs overwrite=True",
    ),
    _Row(
        "not-locked", "it must not be replaced, or a directory has the same name",
        "use another name, or ask the owner for permission to replace", "use another name",
    ),
    _Row(
        "hidden-object",
        "the object exists already, and stays as it is: it was reported as missing, "
        "because HeadObject or listing is not granted",
        "ask the signer for that permission, or use another name. The storage option "
        "overwrite=True replaces objects that cannot be seen (so an append of dask would "
        "replace the whole table)",
    ),
    _Row("FileImmutable", "the object is write-once", "use another name"),
    _Row(
        "InvalidDigest BadDigest InvalidCRC64", "the body was damaged in transit", _AGAIN
    ),
    _Row(
        "MissingContentLength", "the request has no Content-Length",
        "send it, and no Transfer-Encoding: chunked",
    ),
    _Row(
        "EntityTooSmall",
        "every part except the last needs at least 100 KiB, or 5 MiB with S3; a grant can "
        "demand more",
        "set part_size; for a grant, tell its owner", "set part_size",
    ),
    _Row(
        "EntityTooLarge", "one PUT or form can have at most 5 GiB, and a grant can allow less",
        "use a signer or part URLs", "use parts",
    ),
    _Row("MalformedPOSTRequest", "the form was cut or changed on the way", _AGAIN),
    _Row("QpsLimitExceeded", "too many requests", "use fewer at once"),
    _Row(
        "redirect", "redirects are not followed", "sign a URL of the final host",
        "set endpoint= to the final host",
    ),
    _Row(
        "unavailable", "the store is down or overloaded",
        "retry later, with fewer requests at once",
    ),
    # Causes by the message alone.
    _Row(
        "", "the URL is signed with the checksum of an empty body, which is a default of SDKs",
        "sign without checksums (requestChecksumCalculation WHEN_REQUIRED)",
        says=f"(?i){S3_CHECKSUM}crc32=AAAAAA(?:==|%3D%3D)",
    ),
    _Row(
        "", "the SDK sent the body in chunks, followed by a checksum (aws-chunked), which "
        "OSS does not accept",
        "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required (boto3: "
        "Config(request_checksum_calculation='when_required'); Java: "
        "chunkedEncodingEnabled(false)), or upload through a presigned URL, or with an "
        "SDK of OSS",
        says="aws-chunked|MultiChunkedEncoding|0017-00000804",
    ),
    _Row(
        "", "the request has an Authorization header in addition to the signature in its URL",
        "send no Authorization: HTTP clients with a default token, such as an "
        "instance of axios, add it to every request",
        says="Only one auth mechanism|Either the Signature query string parameter or",
    ),
    _Row(
        "", "the request is signed with version 2, and this region accepts version 4 only",
        "tell the owner, who signs with version 4 (boto3: "
        "Config(signature_version='s3v4'))",
        "set signature_version=v4",
        says="Please use AWS4-HMAC-SHA256",
    ),
    _Row(
        "", "a temporary (STS) key signed, and its token is missing in the request",
        "sign with the token, too; in a URL it is the parameter security-token (V1), "
        f"x-oss-security-token (V4) or {S3_TOKEN}",
        "set OSS_SESSION_TOKEN",
        says="Security Token may be lost",
    ),
    _Row(
        "", "the request arrived without a signature",
        "send the whole URL with its query; in a shell, quote it, because & ends a command",
        says="Anonymous (access|user)",
    ),
    _Row(
        "", "the object is stored, but OSS could not call the callback server",
        "do not upload again; tell the owner of the callback server",
        "do not upload again",
        says="CallbackFailed",
    ),
)  # fmt: skip
_NAMED = {
    name: row
    for row in _ROWS
    for name in (
        [row.when] if isinstance(row.when, RefusalReason) else row.when.split()
    )
}
# Content type that a program adds unasked -> how to send the file without it.
_UNASKED = {
    "application/x-www-form-urlencoded": (
        "curl --data and HTTP libraries add it to a body without a type",
        "curl: -T FILE; axios: headers {'Content-Type': false}",
    ),
    "multipart/form-data": (
        "the body is a form, and would be stored with its boundaries",
        "send the file itself as the body, not FormData (in Postman: body binary)",
    ),
    "application/json": (
        "axios and other libraries add it to a body of JSON",
        "axios: headers {'Content-Type': false}",
    ),
}
_OWN_SECRET = Cause(
    "likely",
    "the secret does not belong to the access key ID",
    "correct OSS_ACCESS_KEY_SECRET, and look for blanks around it",
)
_OTHER_SECRET = Cause(
    "possible",
    "the signer's secret does not belong to its key, or it signs another method or header",
    "tell the owner, who checks OSS_ACCESS_KEY_SECRET of the signer, and compares the "
    "text that it signs with what the store received",
)
_NOTABLE = 30.0  # seconds; a smaller clock offset is not named as a cause
_is_host = re.compile(r"[a-z0-9.-]{1,80}").fullmatch


def ranked(
    refusal: Refusal,
    reason: RefusalReason | None,
    hide: Callable[[str], str],
    more: Iterable[Cause] = (),
) -> tuple[tuple[Cause, ...], tuple[str, ...]]:
    """Return the causes of *refusal* and *more*, the likeliest first, and the differences.

    Each difference between the request and its signature is one line. *hide* removes
    the secrets of the request from a text.
    """
    found, signed = Comparison(), refusal.signed
    causes = [*_of_code(refusal, reason), *more]
    if reason is RefusalReason.MISMATCH and not refusal.form:
        if signed is not None:
            found = compare(refusal.document, signed, refusal.object_key, hide)
        causes += _of_mismatch(refusal, found)
    causes.sort(key=lambda each: EVIDENCE.index(each.evidence))
    return tuple(
        Cause(each.evidence, _line(hide(each.cause)), _line(hide(each.remedy)))
        for each in causes
    ), found.spoilt + found.changed


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _of_code(refusal: Refusal, reason: RefusalReason | None) -> Iterator[Cause]:
    """Yield the cause that follows from the elements, the message, the EC or the code."""
    document = refusal.document
    key_id = document.get("OSSAccessKeyId") or document.get("AWSAccessKeyId") or ""
    if key_id != key_id.strip():
        cause = "the access key ID has a blank or a line break around it"
        yield Cause("proven", cause, "enter the key again, without blanks")
    if names := document.get("HeadersNotSigned", ""):
        cause = f"it was sent with headers that the URL does not sign: {names[:200]}"
        remedy = "do not send them, or ask the owner for a URL that signs them"
        if refusal.signed is not None and "%25" in refusal.signed.url.reveal():
            cause, remedy = "the URL was percent-encoded twice", "use the URL untouched"
        yield Cause("proven", cause, remedy)
        return
    # A specific code takes precedence over the message.
    is_vague = reason in (None, RefusalReason.DENIED)
    by_message = (row for row in _ROWS if is_vague or not row.when)
    for row in by_message:
        if row.says and re.search(row.says, refusal.text):
            yield _cause(refusal, row)
            return
    if reason is not None:
        if reason is not RefusalReason.MISMATCH or refusal.form:
            yield _cause(refusal, _NAMED[reason])
        return
    for name in (refusal.row, refusal.ec, refusal.code, _by_status(refusal.status)):
        if name in _NAMED:
            yield _cause(refusal, _NAMED[name])
            return


def _is_unsigned(refusal: Refusal) -> bool:
    headers = {} if refusal.signed is None else refusal.signed.headers
    return refusal.url.is_bare and "authorization" not in map(str.lower, headers)


def _by_status(status: int | None) -> str:
    status = status or 0
    if status >= 500 or status in (408, 429):  # noqa: PLR2004 - HTTP status class
        return "unavailable"
    return "redirect" if 300 <= status < 400 else ""  # noqa: PLR2004 - HTTP status class


def _cause(refusal: Refusal, row: _Row) -> Cause:
    """Return the cause in *row*, with what *refusal* tells about it."""
    evidence: Evidence = "proven"
    if row.when == RefusalReason.DENIED:
        is_unsigned = _is_unsigned(refusal)
        if is_unsigned or not refusal.ec:  # several reasons have this code
            evidence = "likely"
        if is_unsigned or refusal.form:
            row = _NAMED["no-signature" if is_unsigned else "denied-form"]
    cause, remedy = row.cause, row.remedy
    if refusal.by_keys:
        remedy = row.own or ("" if "owner" in remedy else remedy)
    store, end = refusal.store, refusal.end
    if row.when == RefusalReason.EXPIRED and store and end and store - end >= 1:
        cause += f" {shown_seconds(store - end)} ago"
    elif row.when == RefusalReason.CLOCK_SKEW:
        cause = _of_clock(refusal)
    elif row.when == RefusalReason.WRONG_REGION:
        where = _where(refusal)
        cause = _of_region(refusal, row.cause, where)
        if refusal.by_keys:
            name = region_of(where) or (where if "." not in where else "")
            remedy = f"{row.own} {name or 'that of the bucket'}"
    if refusal.form:
        cause, remedy = (re.sub(r"\bURL\b", "grant", t) for t in (cause, remedy))
    return Cause(evidence, cause, remedy)


def _of_clock(refusal: Refusal) -> str:
    sent = _moment(refusal.document.get("RequestTime", ""))
    store = _moment(refusal.document.get("ServerTime", ""))
    # This machine may have sent a request that another machine dated.
    minimum = _NOTABLE if refusal.code == "RequestTimeTooSkewed" else 0
    if refusal.offset is not None and abs(refusal.offset) > minimum:
        return f"the clock of this machine is {_shown(refusal.offset)} the store's"
    if sent is None or store is None:
        return "the clock that dated the request is not the store's"
    return f"the request is dated {_shown(sent - store)} the store's clock"


def _where(refusal: Refusal) -> str:
    """Return the endpoint or region of the bucket according to the store; or ""."""
    document = refusal.document
    where = document.get("Endpoint") or document.get("Region") or ""
    if match := re.search("expecting '([a-z0-9-]{3,40})'", refusal.text):
        where = where or match[1]
    return where if _is_host(where) else ""


def _of_region(refusal: Refusal, cause: str, where: str) -> str:
    there = f" ({where})" if where else ""
    if "Endpoint" in refusal.document or "using the specified end" in refusal.text:
        return f"{cause}{there}"
    region = refusal.url.region or ""
    region = f" {region}" if _is_host(region) else ""
    return f"the URL is signed for the region{region}, the store is in another{there}"


def _of_mismatch(refusal: Refusal, found: Comparison) -> Iterator[Cause]:
    """Yield the causes of a signature that does not match."""
    if refusal.signed is not None and (problem := damage(refusal.signed.url)):
        remedy = "copy the whole URL again, or ask for a new one"
        yield Cause("proven", f"the URL {problem}", remedy)
    elif found.spoilt:
        cause = f"the request does not match its URL: {'; '.join(found.spoilt[:4])}"
        remedy = "use the URL untouched, with exactly the headers it was signed with"
        yield Cause("proven", cause, remedy)
    elif found.changed:
        cause = f"the store received another request than was sent: {'; '.join(found.changed[:4])}"
        remedy = (
            "look for a proxy or gateway that changes requests, or sign for the host and "
            "the path that the store sees"
        )
        yield Cause("proven", cause, remedy)
    if refusal.by_keys:
        yield _OWN_SECRET
        return
    if refusal.by_signer:
        yield evolve(_OTHER_SECRET, evidence="likely")
        return
    yield from _of_pieces(refusal, found)
    yield _OTHER_SECRET


def _of_pieces(refusal: Refusal, found: Comparison) -> Iterator[Cause]:
    """Yield the causes that the received request suggests."""
    url = SecretURL("") if refusal.signed is None else refusal.signed.url
    pieces = received_request(refusal.document, url)
    sent = f" ({found.sent})" if found.sent and pieces else ""
    edited = Cause(
        "likely",
        "the URL was changed or cut, or it is signed for another method or other headers "
        f"than those sent{sent}",
        "use the URL exactly as it was given, with exactly the headers that were signed; "
        "the usual one is Content-Type; a URL for downloads cannot upload",
    )
    if pieces is None:
        yield edited
        return
    if kind := pieces.headers.get("content-type", "")[:80]:
        cause = (
            f"Content-Type {kind!r} was sent, but the URL is probably signed without one, "
            "or with another one"
        )
        remedy = (
            "send no Content-Type if none was signed, otherwise exactly the signed one; or "
            f"ask the owner to sign {kind!r}"
        )
        if unasked := _UNASKED.get(kind.partition(";")[0].strip()):
            cause, remedy = f"{cause}: {unasked[0]}", f"{remedy} ({unasked[1]})"
        yield Cause("likely", cause, remedy)
        edited = evolve(edited, evidence="possible")
    yield edited
    own = sorted(n for n in pieces.headers if n.startswith(("x-oss-", S3_HEADER)))
    if own:
        cause = f"{', '.join(own)[:200]} arrived; the URL may be signed without them, or with other values"
        yield Cause("possible", cause, "send exactly the headers that are signed")


def _moment(text: str) -> float | None:
    # S3 repeats the time of the request in the format of the request.
    return parse_moment(text) if parsing.moment(text) is None else parsing.moment(text)


def _shown(offset: float) -> str:
    return f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'}"

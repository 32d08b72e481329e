"""Which exception an error reply of the store is."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from attrs import evolve, frozen

from .. import errors, parsing
from ..errors import (
    AccessDeniedError,
    DamagedBodyError,
    Explanation,
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
    Refused,
    ReplyError,
    SignatureMismatchError,
    StoreUnavailableError,
    UploadNotFoundError,
    URLExpiredError,
)
from ..model import Operation, Reply, SignedRequest
from ..parsing import moment
from ..secret import redact
from ..signing import compare as mismatch
from ..signing.canonical import parse_query, quote
from ..signing.signed_url import SignedURL, describe

# What a store says about an error: read without trust, cleaned of what it echoes.

_MAX_MESSAGE = 300
# Any query: whole URLs are echoed by gateways, and a signed one is a permission.
_QUERY = re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*")
# Elements and members of echoed documents, by their names in OSS's and S3's errors.
_ECHO = re.compile(
    r"""(?ix)
    \b( (?:security|session)[-_]?token | token | signature(?:provided)?
      | string-?to-?sign(?:bytes)? | canonicalrequest | credential
      | (?:oss|aws)?accesskeyid | (?:access-?key-?)?secret
    )
    ( ["']? \s* [=:>] \s* ["']? )
    [^\s"'<>&,;)]+ """
)
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_is_mark = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch


def members(body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the members of an ``<Error>`` document; empty if there is none.

    Args:
        body: of the reply; that of a HEAD stands in the header ``x-oss-err``, base64.
        headers: of the reply, names in lower case.
    """
    if not body and "x-oss-err" in headers:
        try:
            body = base64.b64decode(headers["x-oss-err"], validate=True)
        except (binascii.Error, ValueError):
            return {}
    try:
        root = parsing.parse(body, "Error")
    except ValueError:
        return {}
    return {child.tag: (child.text or "").strip() for child in root}


def clean(text: str) -> str:
    """Return what a store wrote for people: one line, no secret, not endless."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = redact(_QUERY.sub("?<hidden>", " ".join(text.split())))
    return _ECHO.sub(lambda m: f"{m[1]}{m[2]}<hidden>", text)[:_MAX_MESSAGE].strip()


def name(text: str) -> str:
    """Return *text* if it can be an error code or number, else nothing."""
    return text if _is_name(text) else ""


def mark(text: str) -> str:
    """Return *text* if it can be a request id, else nothing."""
    return text if _is_mark(text) else ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of ``Retry-After``, up to eleven days; None without them."""
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 7 else None  # noqa: PLR2004 - digits


_TOKEN_ENDED = (URLExpiredError, "ask for a new URL: the STS token ended")
_DAMAGED = (DamagedBodyError, "the body was damaged on the way")
_THERE = (ObjectExistsError, "the object is already there")
# Code -> (class, what to do). Meanings: OSS API reference, "Error codes".
_BY_CODE: dict[str, tuple[type[ReplyError], str]] = {
    "SignatureDoesNotMatch": (
        SignatureMismatchError,
        "send exactly the headers that were signed, and the URL untouched",
    ),
    "SecurityTokenExpired": _TOKEN_ENDED,
    "InvalidSecurityToken": _TOKEN_ENDED,
    "AccessKeyIdAndSecurityTokenNotMatch": _TOKEN_ENDED,
    "RequestTimeTooSkewed": (URLExpiredError, "check the clock, then sign anew"),
    "InvalidAccessKeyId": (AccessDeniedError, "the signer's key was disabled"),
    "SecondLevelDomainForbidden": (AccessDeniedError, "sign a virtual-hosted URL"),
    "NoSuchKey": (ObjectNotFoundError, ""),
    "NoSuchBucket": (ObjectNotFoundError, "the bucket does not exist: tell the owner"),
    "NoSuchUpload": (UploadNotFoundError, "it was completed or aborted: start anew"),
    "FileAlreadyExists": _THERE,
    "FileImmutable": (ObjectExistsError, "the object is write-once: use another key"),
    "ObjectAlreadyExists": _THERE,
    "PreconditionFailed": (InvalidRequestError, ""),
    "InvalidDigest": _DAMAGED,
    "BadDigest": _DAMAGED,
    "InvalidCRC64": _DAMAGED,
    "IncompleteBody": (DamagedBodyError, "the body was cut on the way"),
    "RequestTimeout": (DamagedBodyError, "the body arrived too slowly"),
    "EntityTooSmall": (InvalidRequestError, "parts but the last need 100 KiB at least"),
    "EntityTooLarge": (InvalidRequestError, "one PUT holds 5 GiB at most: use parts"),
    "InvalidPart": (InvalidRequestError, "a listed part is not the one stored"),
    "InvalidPartOrder": (InvalidRequestError, "parts must be listed in order"),
    "QpsLimitExceeded": (StoreUnavailableError, "too many requests: use fewer at once"),
}
_EXPIRED_EC = {"0002-00000069", "0002-00000236", "0002-00000418", "0002-00000007"}
_NOT_YET_EC = "0002-00000235"
_BY_STATUS: dict[int, type[ReplyError]] = {
    **dict.fromkeys((401, 403), AccessDeniedError),
    **dict.fromkeys((408, 429), StoreUnavailableError),
    404: ObjectNotFoundError,
    409: ReplyError,
}


def _family(
    status: int, code: str, ec: str, *, moved: bool
) -> tuple[type[ReplyError], str]:
    if ec in _EXPIRED_EC:
        return URLExpiredError, "the URL has expired: ask for a new one"
    if ec == _NOT_YET_EC:
        return AccessDeniedError, "the URL is not valid yet: check both clocks"
    if moved:
        return AccessDeniedError, "the bucket is in another region: tell the owner"
    if code in _BY_CODE:
        return _BY_CODE[code]
    if code == "AccessDenied":
        return AccessDeniedError, "the signer's identity lacks the permission"
    if status >= 500:  # noqa: PLR2004 - HTTP status class
        return StoreUnavailableError, ""
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP status class
        return ReplyError, "redirects are not followed: sign a URL of the final host"
    return _BY_STATUS.get(status, InvalidRequestError), ""


def from_reply(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    action: str,
    path: str,
    explanation: Explanation | None = None,
    hide: Callable[[str], str] = str,
) -> ReplyError:
    """Return the exception for an error reply of the store.

    Decides on EC, then code, then status; never on message text (OSS API reference,
    "Error responses"). Only Code, Message, RequestId and EC are taken over, because the
    rest of the document echoes keys, tokens and signatures.

    Args:
        status: HTTP status.
        headers: of the reply, names in lower case.
        body: of the reply, may be empty or no XML at all.
        action: OSS API name of the call.
        path: ``bucket/key``.
        explanation: what was found out about a refusal; stands in for the usual advice.
        hide: blanks out the secrets of the request, should the store repeat them.
    """
    document = members(body, headers)
    code = hide(name(document.get("Code", "")))
    ec = hide(name(headers.get("x-oss-ec") or document.get("EC", "")))
    said = clean(hide(document.get("Message", "")))
    marks = (headers.get("x-oss-request-id"), headers.get("x-amz-request-id"))
    request_id = next(filter(None, (*marks, document.get("RequestId"))), "")
    request_id = hide(mark(request_id))
    moved = status == 403 and "Endpoint" in document and code == "AccessDenied"  # noqa: PLR2004 - HTTP status
    family, hint = _family(status, code, ec, moved=moved)
    if explanation is not None:
        hint = str(explanation)
        if explanation.reason is Refused.EXPIRED and family is AccessDeniedError:
            family = URLExpiredError  # a store without EC numbers
    text = f"{action} was refused with HTTP {status}"
    if code:
        text += f" {code}"
    if said:
        text += f" ({said.rstrip('.')})"
    if hint:
        text += f": {hint}"
    named = [f"EC {ec}"] if ec else []
    named += [f"request id {request_id}"] if request_id else []
    if named:
        text += f" [{', '.join(named)}]"
    error = family(
        text,
        path=path,
        status=status,
        code=code or None,
        ec=ec or None,
        request_id=request_id or None,
        action=action,
        retry_after=retry_after(headers),
    )
    error.explanation = explanation
    return error


# A refusal explained: which case it is, how the clocks stand, and what to do.

_BLUR = 2.0  # seconds: Date has whole ones, and the reply travels for a moment
_NOTABLE = 30.0  # seconds of clock offset that are worth a word
_EARLY = 900.0  # seconds that V4 allows a signer's clock to be ahead
_WHERE = "content_type=, headers=, or the headers of a URL map"
_MIN_HIDDEN = 8  # characters: shorter values would blank out half of a message
_REFUSALS = (400, 403)

# OSS, "Error codes": EC 0002-*. Only where the code alone does not tell the case.
_BY_EC = {
    "0002-00000007": Refused.TOKEN_ENDED,
    "0002-00000069": Refused.EXPIRED,
    "0002-00000226": Refused.WRONG_REGION,
    "0002-00000235": Refused.NOT_YET_VALID,
    "0002-00000236": Refused.EXPIRED,
    "0002-00000418": Refused.EXPIRED,
    "0002-00000903": Refused.KEY_DISABLED,
    "0002-00000904": Refused.KEY_DISABLED,
}
# Codes of OSS, then those that only S3 has.
_CAUSE_BY_CODE = {
    "SignatureDoesNotMatch": Refused.MISMATCH,
    "SecurityTokenExpired": Refused.TOKEN_ENDED,
    "InvalidSecurityToken": Refused.TOKEN_INVALID,
    "AccessKeyIdAndSecurityTokenNotMatch": Refused.TOKEN_INVALID,
    "RequestTimeTooSkewed": Refused.CLOCK_SKEW,
    "InvalidAccessKeyId": Refused.UNKNOWN_KEY,
    "UserDisable": Refused.KEY_DISABLED,
    "ExpiredToken": Refused.TOKEN_ENDED,
    "InvalidToken": Refused.TOKEN_INVALID,
    "AuthorizationHeaderMalformed": Refused.WRONG_REGION,
}
_SIMPLE = {
    Refused.TOKEN_ENDED: (
        "the STS token behind the URL has ended, and the URL with it",
        "ask for a new one",
    ),
    Refused.TOKEN_INVALID: (
        "the STS token in the URL is not the one of its key",
        "ask for a new one: the token was withdrawn, or cut when the URL was copied",
    ),
    Refused.DENIED: (
        "the signer's identity lacks the permission",
        "tell the owner, who grants it in a RAM or bucket policy",
    ),
    Refused.KEY_DISABLED: (
        "the signer's key is disabled, or not allowed from this address",
        "tell the owner",
    ),
    Refused.UNKNOWN_KEY: (
        "the store does not know the key that signed the URL",
        "tell the owner: it was deleted, or it is an STS key whose token is missing",
    ),
}
_HIDDEN = frozenset(
    (
        "signature",
        "x-oss-signature",
        "x-amz-signature",
        "security-token",
        "x-oss-security-token",
        "x-amz-security-token",
    )
)
_is_host = re.compile(r"[a-z0-9.-]{1,80}").fullmatch


@frozen
class _Times:
    """The two clocks at the moment of the refusal, seconds since the epoch.

    Attributes:
        here: of this machine.
        store: of the store; None if it never told.
        offset: here minus store; None with it.
    """

    here: float
    store: float | None
    offset: float | None

    @property
    def note(self) -> str:
        """How the clock of this machine stands, for a sentence; empty if well."""
        if self.offset is None or abs(self.offset) < _NOTABLE:
            return ""
        return f"the clock of this machine is {_ahead(self.offset)} the store's"


def error_for(
    operation: Operation,
    reply: Reply,
    signed: SignedRequest,
    *,
    now: Callable[[], float],
    offset: float | None = None,
) -> errors.ReplyError:
    """Return the exception for an error reply, explained where that is possible.

    Args:
        operation: what was asked for.
        reply: the store's answer.
        signed: what was sent.
        now: this machine's clock, seconds since the epoch.
        offset: how many seconds it is ahead of the store's; None if unknown.
    """
    hide = _hider(signed)
    explanation = None
    if reply.status in _REFUSALS:
        explanation = explain(operation, reply, signed, now=now(), offset=offset)
    return from_reply(
        reply.status,
        reply.headers,
        reply.body,
        action=operation.action,
        path=operation.path,
        explanation=explanation and _clean(explanation, hide),
        hide=hide,
    )


def explain(
    operation: Operation,
    reply: Reply,
    signed: SignedRequest,
    *,
    now: float,
    offset: float | None = None,
) -> Explanation | None:
    """Say why *signed* was refused; None if it is no case that is known here.

    Args:
        operation: what was asked for.
        reply: the store's answer, 400 or 403.
        signed: what was sent.
        now: this machine's clock, seconds since the epoch.
        offset: how many seconds it is ahead of the store's; None if unknown.
    """
    document = members(reply.body, reply.headers)
    url = describe(signed.url)
    if offset is None:
        there = moment(document.get("ServerTime", ""))
        offset = None if there is None else float(round(now - there))
    times = _Times(now, None if offset is None else now - offset, offset)
    reason = _reason(document, reply, signed, url, times)
    if reason is None:
        return None
    differences: tuple[str, ...] = ()
    if reason in _SIMPLE:
        cause, remedy = _SIMPLE[reason]
    elif reason is Refused.EXPIRED:
        reason, cause, remedy = _expired(url, times)
    elif reason is Refused.NOT_YET_VALID:
        reason, cause, remedy = _not_yet(url, times)
    elif reason is Refused.CLOCK_SKEW:
        cause = times.note or _dated(document)
        remedy = "set the clock, then sign anew"
    elif reason is Refused.WRONG_REGION:
        cause, remedy = _elsewhere(document, url)
    else:
        found = mismatch.compare(document, signed, operation, _hider(signed))
        differences = found.spoilt + found.changed
        cause, remedy = _differs(found)
    return Explanation(
        reason=reason,
        cause=cause,
        remedy=remedy,
        differences=differences,
        clock_offset=offset,
    )


def _reason(
    document: Mapping[str, str],
    reply: Reply,
    signed: SignedRequest,
    url: SignedURL,
    times: _Times,
) -> Refused | None:
    code = document.get("Code", "")
    ec = reply.headers.get("x-oss-ec") or document.get("EC", "")
    found = _BY_EC.get(ec) or _CAUSE_BY_CODE.get(code)
    if found is not None:
        return found
    if code == "AccessDenied" and reply.status == 403:  # noqa: PLR2004 - HTTP status
        if "Endpoint" in document:
            return Refused.WRONG_REGION
        return _by_time(url, times) or Refused.DENIED
    if code in ("InvalidArgument", "InvalidRequest") and mismatch.unsent_headers(
        signed
    ):
        return Refused.MISMATCH
    return None


def _by_time(url: SignedURL, times: _Times) -> Refused | None:
    """Tell by the clock where no EC does: stores look at the life of a URL first."""
    if times.store is None:
        return None
    if url.expires_at is not None and times.store > url.expires_at + _BLUR:
        return Refused.EXPIRED
    if url.signed_at is not None and times.store < url.signed_at - _EARLY - _BLUR:
        return Refused.NOT_YET_VALID
    return None


def _expired(url: SignedURL, times: _Times) -> tuple[Refused, str, str]:
    cause, remedy = "the URL has expired", "ask for a new one"
    if url.expires_at is None or times.store is None or times.offset is None:
        return Refused.EXPIRED, cause, remedy
    gone = times.store - url.expires_at
    if gone >= 1:
        cause += f" {_span(gone)} ago"
    if gone > 0 and url.expires_at >= times.here and times.offset < -_BLUR:
        late = f"the clock of this machine is {_ahead(times.offset)} the store's"
        cause += f", which went unnoticed because {late}"
        return Refused.CLOCK_SKEW, cause, "set the clock, then ask for a new one"
    if times.note:
        cause += f" ({times.note})"
    return Refused.EXPIRED, cause, remedy


def _not_yet(url: SignedURL, times: _Times) -> tuple[Refused, str, str]:
    cause = "the URL is not valid yet"
    remedy = "check the clock of whoever signed it"
    if url.signed_at is None or times.store is None or times.offset is None:
        return Refused.NOT_YET_VALID, cause, remedy
    cause += f": it was signed for {_span(url.signed_at - times.store)} from now"
    if times.here >= url.signed_at - _EARLY and times.offset > _BLUR:
        cause += (
            f", and the clock of this machine is {_ahead(times.offset)} the store's"
        )
        return Refused.CLOCK_SKEW, cause, "set the clock, then sign anew"
    if times.note:
        cause += f" ({times.note})"
    return Refused.NOT_YET_VALID, cause, remedy


def _dated(document: Mapping[str, str]) -> str:
    asked = moment(document.get("RequestTime", ""))
    there = moment(document.get("ServerTime", ""))
    if asked is None or there is None:
        return "the clock that dated the request is not the store's"
    return f"the request is dated {_ahead(asked - there)} the store's clock"


def _elsewhere(document: Mapping[str, str], url: SignedURL) -> tuple[str, str]:
    where = document.get("Endpoint") or document.get("Region") or ""
    where = f" ({where})" if _is_host(where) else ""
    if "Endpoint" in document:
        cause = f"the bucket is in another region{where}"
        return cause, "tell the owner, whose URL must name that one"
    signed_for = f" {url.region}" if url.region and _is_host(url.region) else ""
    cause = f"the URL is signed for the region{signed_for}, the store is in another"
    return cause + where, "tell the owner, who must sign for the region of the bucket"


def _differs(found: mismatch.Comparison) -> tuple[str, str]:
    if found.spoilt:
        return (
            f"the request does not fit its URL: {'; '.join(found.spoilt[:4])}",
            "use the URL untouched, with exactly the headers it was signed with",
        )
    if found.changed:
        return (
            f"something on the way changed the request: {'; '.join(found.changed[:4])}",
            "look for a proxy or gateway that touches requests",
        )
    sent = f"sign exactly that, or send the headers that were signed ({_WHERE})"
    if found.told:
        return (
            f"what arrived is what was sent ({found.sent}), so something else was signed",
            f"{sent}; if they agree, the signer's secret is not that of its key",
        )
    return (
        f"{found.sent} is not what was signed, and the store does not say what it got",
        f"{sent}, and the URL untouched",
    )


def _ahead(offset: float) -> str:
    word = "ahead of" if offset > 0 else "behind"
    return f"{abs(offset):.0f} s {word}"


def _span(seconds: float) -> str:
    """Return a time as people say it, in the largest unit that has two of it."""
    seconds = max(seconds, 0.0)
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _hider(signed: SignedRequest) -> Callable[[str], str]:
    """Return what blanks out the secrets of *signed*, however they are spelt."""

    def hide(text: str) -> str:
        query = parse_query(urlsplit(signed.url.reveal()).query)
        for name, value in (*query, *signed.headers.items()):
            if name.lower() in _HIDDEN and len(value) >= _MIN_HIDDEN:
                for spelt in (value, quote(value), value.replace(" ", "+")):
                    text = text.replace(spelt, "<hidden>")
        return text

    return hide


def _clean(explanation: Explanation, hide: Callable[[str], str]) -> Explanation:
    return evolve(
        explanation,
        cause=hide(explanation.cause),
        differences=tuple(map(hide, explanation.differences)),
    )

"""Error replies of the store: one table of codes, and the exception of each reply.

``causes`` has the causes of refusals.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from attrs import frozen

from .. import parsing
from ..errors import (
    AccessDeniedError,
    BodyCorruptedError,
    EndpointForbiddenError,
    Explanation,
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
    RefusalReason,
    SignatureMismatchError,
    StoreError,
    StoreUnavailableError,
    UploadNotFoundError,
    URLExpiredError,
)
from ..model import FORBID_OVERWRITE, Operation, Reply, SignedRequest
from ..other_stores import GOOGLE_KEY_V2, GOOGLE_QUERY, S3_KEY_V2, S3_QUERY
from ..secret import HIDDEN, SecretURL, redact, without
from ..signing.canonical import SECRET_PARAMETERS, parse_moment, parse_query
from ..signing.mismatch import unsent_headers
from ..signing.post_policy import SECRET_FIELDS
from ..signing.signed_url import SignedURL, describe
from .causes import Refusal, ranked


@frozen
class Meaning:
    """Meaning of one error code or EC number of the store."""

    # The class decides about retries (``retry.RULES``). None leaves the class to the
    # code or the status.
    kind: type[StoreError] | None = None
    reason: RefusalReason | None = None  # the reason, if the error is a refusal


_DENIED = Meaning(AccessDeniedError, RefusalReason.DENIED)
_EXPIRED = Meaning(URLExpiredError, RefusalReason.EXPIRED)
_NOT_YET = Meaning(AccessDeniedError, RefusalReason.NOT_YET_VALID)
_TOKEN_ENDED = Meaning(URLExpiredError, RefusalReason.TOKEN_ENDED)
_TOKEN_INVALID = Meaning(URLExpiredError, RefusalReason.TOKEN_INVALID)
_ELSEWHERE = Meaning(reason=RefusalReason.WRONG_REGION)
_KEY_DISABLED = Meaning(AccessDeniedError, RefusalReason.KEY_DISABLED)

# Codes and EC numbers that are no refusals of a signature, by the class of their
# exception.
_KINDS: Mapping[type[StoreError], str] = {
    EndpointForbiddenError: "0048-00000401 PublicEndpointForbidden",
    AccessDeniedError: "SecondLevelDomainForbidden InvalidObjectState BucketDisable "
    "KmsInDebt TransferAccelerationDisabled AccessForbidden",
    ObjectNotFoundError: "NoSuchKey NoSuchBucket",
    UploadNotFoundError: "NoSuchUpload",
    ObjectExistsError: "FileAlreadyExists ObjectAlreadyExists FileImmutable",
    InvalidRequestError: "KeyNotFound AliasNotFound PreconditionFailed EntityTooSmall "
    "EntityTooLarge MissingContentLength InvalidPart InvalidPartOrder",
    BodyCorruptedError: "InvalidDigest BadDigest InvalidCRC64 IncompleteBody RequestTimeout",
    StoreUnavailableError: "QpsLimitExceeded",
}
# Meanings of codes and EC numbers (OSS API reference, "Error codes"). The EC number
# takes precedence over the code. ``causes`` has the causes.
MEANINGS = {
    **{code: Meaning(kind) for kind, codes in _KINDS.items() for code in codes.split()},
    "0002-00000007": _TOKEN_ENDED,
    "0002-00000069": _EXPIRED,
    "0002-00000226": _ELSEWHERE,
    "0002-00000235": _NOT_YET,
    "0002-00000236": _EXPIRED,
    "0002-00000418": _EXPIRED,
    "0002-00000903": _KEY_DISABLED,
    "0002-00000904": _KEY_DISABLED,
    "AccessDenied": _DENIED,
    "SignatureDoesNotMatch": Meaning(SignatureMismatchError, RefusalReason.MISMATCH),
    "SecurityTokenExpired": _TOKEN_ENDED,
    "InvalidSecurityToken": _TOKEN_INVALID,
    "AccessKeyIdAndSecurityTokenNotMatch": _TOKEN_INVALID,
    "RequestTimeTooSkewed": Meaning(URLExpiredError, RefusalReason.CLOCK_SKEW),
    "InvalidAccessKeyId": Meaning(AccessDeniedError, RefusalReason.UNKNOWN_KEY),
    "UserDisable": Meaning(AccessDeniedError, RefusalReason.ACCOUNT_DISABLED),
    "PermanentRedirect": _ELSEWHERE,
    # Codes that only S3 has.
    "ExpiredToken": _TOKEN_ENDED,
    "InvalidToken": _TOKEN_INVALID,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "ExpiredRequest": _EXPIRED,  # Cloudflare R2, "Error codes"
}
_POLICY = Meaning(AccessDeniedError, RefusalReason.POLICY)
# Meanings of codes and EC numbers in the reply to a form (OSS API reference,
# "PostObject").
_OF_FORMS = {
    **MEANINGS,
    "0006-00000213": _EXPIRED,
    "0006-00000226": _POLICY,  # a field that a condition names is missing
    "0006-00000227": _POLICY,  # a field does not meet its condition
    "0006-00000228": _POLICY,  # no condition names a field that must have one
    "0002-00000715": _ELSEWHERE,
    "InvalidPolicyDocument": Meaning(InvalidRequestError),
    "MalformedPOSTRequest": Meaning(BodyCorruptedError),
}
_BY_STATUS: Mapping[int, Meaning] = {
    **dict.fromkeys((401, 403), Meaning(AccessDeniedError)),
    **dict.fromkeys((408, 429), Meaning(StoreUnavailableError)),
    404: Meaning(ObjectNotFoundError),
    409: Meaning(StoreError),
}

_BLUR = 2.0  # seconds; Date has whole seconds, and the reply needs time to arrive
_EARLY = 900.0  # seconds by which V4 permits a signer's clock to be ahead
_FORBIDDEN = 403
_OF_HEADERS = ("InvalidArgument", "InvalidRequest")  # codes for a missing signed header
_SECRET = (
    SECRET_PARAMETERS
    | SECRET_FIELDS
    | {
        *("signatureprovided", "securitytoken", "ossaccesskeyid", S3_KEY_V2.lower()),
        *("x-oss-credential", "x-oss-access-key-id", f"{S3_QUERY}Credential".lower()),
        *(f"{GOOGLE_QUERY}Credential".lower(), GOOGLE_KEY_V2.lower()),
    }
)
_MIN_HIDDEN = 8  # characters; hiding shorter values would remove half of a message
_MAX_MESSAGE = 300
# The query of any URL. Gateways repeat whole URLs, and a signed URL is a permission.
_QUERY = re.compile(r"\?[^\s\"'<>]*=[^\s\"'<>]*")
# Elements of OSS and S3 error documents that repeat parts of the request.
_ECHO = re.compile(
    r"""(?ix)
    \b( (?:security|session)[-_]?token | token | signature(?:provided)?
      | string-?to-?sign(?:bytes)? | canonicalrequest | credential
      | (?:oss|aws)?accesskeyid | (?:access-?key-?)?secret
    )
    ( ["']? \s* [=:>] \s* ["']? )
    [^\s"'<>&,;)]+ """
)
# A policy condition that a store quotes. For some fields, the value is a secret.
_CONDITION = rf"""(?i)(\$(?:{"|".join(SECRET_FIELDS)})["']?\s*,\s*)["'\[][^\]]*"""
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_is_mark = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch

# EC -> code. If a refusal arrives while the body is sent, its document may be lost with
# the connection. For these EC numbers, the number alone is enough.
_CODES = {"0026-00000002": "FileAlreadyExists", "0042-00000104": "NoSuchUpload"}


def from_reply(
    operation: Operation,
    reply: Reply,
    signed: SignedRequest | None = None,
    *,
    now: Callable[[], float] = time.time,
    offset: float | None = None,
    by_keys: bool = False,
    by_signer: bool = False,
    is_ours: bool = False,
) -> StoreError:
    """Return the exception for an error reply of the store, with the likeliest cause.

    The EC number takes precedence over the code, and the code over the HTTP status.
    Only Code, Message, RequestId, EC and the elements that explain a refusal are
    quoted, because other elements repeat keys, tokens and signatures.

    *signed* is the request; without it, the error says less. *now* is the time by this
    machine's clock, and *offset* the seconds by which it is ahead of the store's; None
    if unknown. *by_keys* means that this process signed with its own access key.
    *by_signer* means that a signer service signed the headers that were sent. *is_ours*
    means that this process stored an object of this name.
    """
    document = members(reply.body, reply.headers)
    hide = hider(signed, document)
    if offset is None:
        offset = parsing.clock_offset({"date": document.get("ServerTime", "")}, now)
    ec = hide(name(reply.headers.get("x-oss-ec") or document.get("EC", "")))
    code = hide(name(document.get("Code", ""))) or _CODES.get(ec, "")
    message = clean(hide(document.get("Message", ""))).rstrip(".")
    refusal = Refusal(
        status=reply.status,
        code=code,
        ec=ec,
        document=document,
        text=f"{code} {message}",
        form=operation.action.spec.form,
        by_keys=by_keys,
        by_signer=by_signer,
        signed=signed,
        url=_facts(signed),
        object_key=operation.key,
        row=_row_of(operation, signed, code, is_ours=is_ours),
        now=now(),
        offset=offset,
    )
    kind, reason = meaning(refusal)
    causes, differences = ranked(refusal, reason, hide)
    best = causes[0] if causes and causes[0].evidence != "possible" else None
    explanation = None
    if best is not None and reason is not None:
        explanation = Explanation(
            reason=reason,
            cause=best.cause,
            remedy=best.remedy,
            differences=differences,
            clock_offset=offset,
        )
    request_id = hide(mark(reply.request_id or document.get("RequestId", "")))
    text = f"{operation.action} was refused with HTTP {reply.status}"
    text += (f" {code}" if code else "") + (f": {message}" if message else "")
    if best is not None:
        advice = best.cause + (f": {best.remedy}" if best.remedy else "")
        advice += f"; osspresigned explain {code} says more" if len(causes) > 1 else ""
        text = f"{advice} ({text})"
    if signed is not None and signed.carry_out is not None:
        # an upload server answered a different call than *operation*
        text = message
    marked = [f"EC {ec}"] if ec else []
    marked += [f"request id {request_id}"] if request_id else []
    return kind(
        text + (f" [{', '.join(marked)}]" if marked else ""),
        path=operation.path,
        status=reply.status,
        code=code or None,
        ec=ec or None,
        request_id=request_id or None,
        action=operation.action,
        retry_after=_retry_after(reply.headers),
        host=reply.host,
        explanation=explanation,
    )


def meaning(refusal: Refusal) -> tuple[type[StoreError], RefusalReason | None]:
    """Return the class of the exception, and the reason of the refusal, if one applies."""
    table = _OF_FORMS if refusal.form else MEANINGS
    fine = table.get(refusal.ec, Meaning())
    coarse = table.get(refusal.code, Meaning())
    status = refusal.status or _FORBIDDEN
    if refusal.code == "AccessDenied" and status == _FORBIDDEN:
        coarse = _denied(refusal)  # some stores send no EC number
    elif refusal.code == "InvalidAccessKeyId" and refusal.url.has_token:
        coarse = _TOKEN_ENDED  # a store forgets a temporary key when it expires
    elif (
        refusal.code in _OF_HEADERS
        and refusal.signed
        and unsent_headers(refusal.signed)
    ):
        coarse = Meaning(reason=RefusalReason.MISMATCH)
    last = _BY_STATUS.get(status, Meaning(InvalidRequestError))
    if status >= 500:  # noqa: PLR2004 - HTTP status class
        last = Meaning(StoreUnavailableError)
    elif 300 <= status < 400:  # noqa: PLR2004 - HTTP status class
        last = Meaning(StoreError)
    kind = fine.kind or coarse.kind or last.kind or StoreError
    reason = fine.reason or coarse.reason
    return kind, RefusalReason.CLOCK_SKEW if _is_clock(refusal, reason) else reason


def _denied(refusal: Refusal) -> Meaning:
    if "Endpoint" in refusal.document:
        return Meaning(AccessDeniedError, RefusalReason.WRONG_REGION)
    begin, end, store = refusal.url.signed_at, refusal.end, refusal.store
    if store is not None:
        # A new signature costs less than an upload that is refused at its end.
        if end is not None and store > end - _BLUR:
            return _EXPIRED
        if begin is not None and store < begin - _EARLY - _BLUR:
            return _NOT_YET
    return _DENIED


def _is_clock(refusal: Refusal, reason: RefusalReason | None) -> bool:
    """Return whether the URL is valid by this machine's clock, but not by the store's."""
    now, offset, store = refusal.now, refusal.offset, refusal.store
    if offset is None or store is None or abs(offset) <= _BLUR:
        return False
    begin, end = refusal.url.signed_at, refusal.end
    if reason is RefusalReason.EXPIRED:
        return end is not None and store > end >= now
    if reason is RefusalReason.NOT_YET_VALID:
        return begin is not None and store < begin - _EARLY <= now
    return False


def _row_of(
    operation: Operation, signed: SignedRequest | None, code: str, *, is_ours: bool
) -> str:
    """Return the name of the row of causes that follows from the request alone, or ""."""
    if code != "FileAlreadyExists" or signed is None:
        return ""
    if not forbids_overwrite(signed):
        return "not-locked"
    if is_ours:
        return "own-object"
    return "hidden-object" if FORBID_OVERWRITE in operation.optional_headers else ""


def forbids_overwrite(signed: SignedRequest) -> bool:
    """Return whether the headers or fields of *signed* forbid replacing an object."""
    sent = (*signed.headers.items(), *_fields(signed).items())
    lower = {name.lower(): value.lower() for name, value in sent}
    return lower.get(FORBID_OVERWRITE) == "true"


def _fields(signed: SignedRequest) -> dict[str, str]:
    fields = {} if signed.form is None else signed.form.fields
    return {name.lower(): value.reveal() for name, value in fields.items()}


def _facts(signed: SignedRequest | None) -> SignedURL:
    if signed is None or signed.form is None:
        return describe(SecretURL("") if signed is None else signed.url)
    fields = _fields(signed)
    _, *scope = fields.get("x-oss-credential", "").rsplit("/", 4)
    return SignedURL(
        version="v4" if scope else "v1",
        signed_at=parse_moment(fields.get("x-oss-date", "")),
        expires_at=signed.expires_at,
        region=scope[1] if len(scope) == 4 else None,  # noqa: PLR2004 - its pieces
        has_token="x-oss-security-token" in fields,
    )


def members(body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the elements of the ``<Error>`` document in *body*; empty if there is none.

    The reply to a HEAD has no body; its document is in the header ``x-oss-err``, in base64.
    """
    try:
        if not body and "x-oss-err" in headers:
            body = base64.b64decode(headers["x-oss-err"], validate=True)
        root = parsing.parse(body, "Error")
    except ValueError:
        return {}
    return {child.tag: (child.text or "").strip() for child in root}


def clean(text: str) -> str:
    """Return the store's message as one line, at most 300 characters, without secrets."""
    text = "".join(c if c.isprintable() else " " for c in text)
    text = redact(_QUERY.sub(f"?{HIDDEN}", " ".join(text.split())))
    text = re.sub(_CONDITION, lambda m: f"{m[1]}{HIDDEN}", text)
    return _ECHO.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}", text)[:_MAX_MESSAGE].strip()


def name(text: str) -> str:
    """Return *text* if it is a valid error code or EC number, else an empty string."""
    return text if _is_name(text) else ""


def mark(text: str) -> str:
    """Return *text* if it looks like a request ID, else an empty string."""
    return text if _is_mark(text) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 7 else None  # noqa: PLR2004 - eleven days


def hider(
    signed: SignedRequest | None, document: Mapping[str, str]
) -> Callable[[str], str]:
    """Return a function that removes the secrets of request and reply from a text."""
    pairs = [*document.items()]
    if signed is not None:
        pairs += parse_query(urlsplit(signed.url.reveal()).query)
        pairs += [*signed.headers.items(), *_fields(signed).items()]
    values = {value.strip() for name, value in pairs if name.lower() in _SECRET}
    # A credential begins with the ID of its access key.
    values |= {value.partition("/")[0] for value in values}
    values |= {value.replace(" ", "+") for value in values}
    # The longest secret is hidden first, because it may begin with a shorter one.
    secrets = sorted((v for v in values if len(v) >= _MIN_HIDDEN), key=len)[::-1]

    def hide(text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        for secret in secrets:
            data = without(data, secret)
        return redact(data.decode("utf-8", "surrogatepass"))

    return hide

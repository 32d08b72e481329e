"""Error replies of the store: one table of codes, and the exception of each reply."""

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
    DamagedBodyError,
    EndpointForbiddenError,
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
from ..model import FORBID_OVERWRITE, Operation, Reply, SignedRequest
from ..secret import SecretURL, redact
from ..signing.canonical import SECRET_PARAMETERS, parse_moment, parse_query, quote
from ..signing.mismatch import Comparison, compare, unsent_headers
from ..signing.post_policy import SECRET_FIELDS
from ..signing.signed_url import SignedURL, describe
from ..units import shown_seconds


@frozen
class Meaning:
    """Meaning of one error code or EC number of the store."""

    # Decides about retries (``retry.RULES``); None leaves it to the code or the status.
    kind: type[ReplyError] | None = None
    advice: str = ""  # the explanation of a refusal replaces it
    reason: Refused | None = None  # of a refusal


_DENIED = Meaning(AccessDeniedError, reason=Refused.DENIED)
_EXPIRED = Meaning(URLExpiredError, reason=Refused.EXPIRED)
_NOT_YET = Meaning(AccessDeniedError, reason=Refused.NOT_YET_VALID)
_TOKEN_ENDED = Meaning(URLExpiredError, reason=Refused.TOKEN_ENDED)
_TOKEN_INVALID = Meaning(URLExpiredError, reason=Refused.TOKEN_INVALID)
_ELSEWHERE = Meaning(reason=Refused.WRONG_REGION)
_KEY_DISABLED = Meaning(AccessDeniedError, reason=Refused.KEY_DISABLED)

_REFUSALS = {
    "0002-00000007": _TOKEN_ENDED,
    "0002-00000069": _EXPIRED,
    "0002-00000226": _ELSEWHERE,
    "0002-00000235": _NOT_YET,
    "0002-00000236": _EXPIRED,
    "0002-00000418": _EXPIRED,
    "0002-00000903": _KEY_DISABLED,
    "0002-00000904": _KEY_DISABLED,
    "AccessDenied": _DENIED,
    "SignatureDoesNotMatch": Meaning(SignatureMismatchError, reason=Refused.MISMATCH),
    "SecurityTokenExpired": _TOKEN_ENDED,
    "InvalidSecurityToken": _TOKEN_INVALID,
    "AccessKeyIdAndSecurityTokenNotMatch": _TOKEN_INVALID,
    "RequestTimeTooSkewed": Meaning(URLExpiredError, reason=Refused.CLOCK_SKEW),
    "InvalidAccessKeyId": Meaning(AccessDeniedError, reason=Refused.UNKNOWN_KEY),
    "UserDisable": Meaning(AccessDeniedError, reason=Refused.ACCOUNT_DISABLED),
    "PermanentRedirect": _ELSEWHERE,
    # Codes of S3 alone.
    "ExpiredToken": _TOKEN_ENDED,
    "InvalidToken": _TOKEN_INVALID,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "ExpiredRequest": _EXPIRED,  # Cloudflare R2, "Error codes"
}
_UPLOAD_ENDED = (
    "it was completed or aborted: start again; for a URL map with parts, ask its owner "
    "for a new one"
)
_HIDDEN_OBJECT = (
    "the object is already there, and stays as it is: it was reported as missing, because "
    "HeadObject or listing is not granted. Ask the signer for that permission, or use "
    "another name. The storage option overwrite=True replaces objects that cannot be seen: "
    "an append would then replace the table"
)
_NO_KMS_KEY = (
    "there is no such KMS key: correct server_side_encryption, or tell the owner"
)
# New accounts cannot send data to the public hosts of mainland China since 2025-03-20
# (help.aliyun.com, "EC 0048-00000401").
OWN_DOMAIN = (
    "the account may not use OSS's public host: the signer must sign for an own domain of "
    "the bucket (endpoint https://files.example.com, addressing style cname), for an "
    "internal host, or for a bucket outside mainland China"
)
_OTHERS: Mapping[str, tuple[type[ReplyError], str]] = {
    "SecondLevelDomainForbidden": (
        AccessDeniedError,
        "the bucket must be in the host of the URL: sign a virtual-hosted URL",
    ),
    "0048-00000401": (EndpointForbiddenError, OWN_DOMAIN),
    "PublicEndpointForbidden": (EndpointForbiddenError, OWN_DOMAIN),
    "InvalidObjectState": (
        AccessDeniedError,
        "the object is archived: its owner restores it first",
    ),
    "BucketDisable": (AccessDeniedError, "the bucket is disabled: tell the owner"),
    "KmsInDebt": (AccessDeniedError, "the bill of KMS is unpaid: tell the owner"),
    "TransferAccelerationDisabled": (
        AccessDeniedError,
        "the bucket has no acceleration: the signer must name a host of the region",
    ),
    "KeyNotFound": (InvalidRequestError, _NO_KMS_KEY),
    "AliasNotFound": (InvalidRequestError, _NO_KMS_KEY),
    "NoSuchKey": (ObjectNotFoundError, ""),
    "NoSuchBucket": (ObjectNotFoundError, "the bucket does not exist: tell the owner"),
    "NoSuchUpload": (UploadNotFoundError, _UPLOAD_ENDED),
    "FileAlreadyExists": (ObjectExistsError, "the object is already there"),
    "ObjectAlreadyExists": (ObjectExistsError, "the object is already there"),
    "FileImmutable": (ObjectExistsError, "the object is write-once: use another key"),
    "PreconditionFailed": (InvalidRequestError, ""),
    "InvalidDigest": (DamagedBodyError, "the body was damaged in transit"),
    "BadDigest": (DamagedBodyError, "the body was damaged in transit"),
    "InvalidCRC64": (DamagedBodyError, "the body was damaged in transit"),
    "IncompleteBody": (DamagedBodyError, "the body was truncated in transit"),
    "RequestTimeout": (DamagedBodyError, "the body arrived too slowly"),
    "MissingContentLength": (
        InvalidRequestError,
        "the request has no Content-Length: send it, and no Transfer-Encoding: chunked",
    ),
    "AccessForbidden": (
        AccessDeniedError,
        "the bucket's CORS rules do not allow this origin, method or header: tell the owner",
    ),
    "EntityTooSmall": (
        InvalidRequestError,
        "parts but the last need 100 KiB at least, 5 MiB at S3: set part_size",
    ),
    "EntityTooLarge": (InvalidRequestError, "one PUT holds 5 GiB at most: use parts"),
    "InvalidPart": (InvalidRequestError, "a listed part is not the one stored"),
    "InvalidPartOrder": (InvalidRequestError, "parts must be listed in order"),
    "QpsLimitExceeded": (StoreUnavailableError, "too many requests: use fewer at once"),
}
# OSS API reference, "Error codes". An EC number decides before the code.
MEANINGS = {**_REFUSALS, **{code: Meaning(*row) for code, row in _OTHERS.items()}}
_POLICY = Meaning(AccessDeniedError, reason=Refused.POLICY)
# Meanings in reply to a form (OSS API reference, "PostObject").
_OF_FORMS = {
    "0006-00000213": _EXPIRED,
    "0006-00000226": _POLICY,  # a field that a condition names is absent
    "0006-00000227": _POLICY,  # a condition is not met
    "0006-00000228": _POLICY,  # a field that must be named is not
    "0002-00000715": _ELSEWHERE,
    "InvalidPolicyDocument": Meaning(
        InvalidRequestError, "the policy of the grant is not valid: tell its owner"
    ),
    "MalformedPOSTRequest": Meaning(
        DamagedBodyError, "the form was cut or changed on the way"
    ),
    "EntityTooSmall": Meaning(
        InvalidRequestError, "the grant allows larger files only: tell its owner"
    ),
    "EntityTooLarge": Meaning(
        InvalidRequestError,
        "the grant allows smaller files only, and 5 GiB at most: a signer or part URLs "
        "could send it",
    ),
}
_BY_STATUS: Mapping[int, Meaning] = {
    **dict.fromkeys((401, 403), Meaning(AccessDeniedError)),
    **dict.fromkeys((408, 429), Meaning(StoreUnavailableError)),
    404: Meaning(ObjectNotFoundError),
    409: Meaning(ReplyError),
}
# Cause and remedy of the cases that need no look at the request.
_SIMPLE = {
    Refused.TOKEN_ENDED: (
        "the STS token that signed the URL has expired, and the URL with it",
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
    Refused.ACCOUNT_DISABLED: (
        "the owner's account is disabled: a bill is unpaid, or its security is in doubt",
        "tell the owner",
    ),
    Refused.UNKNOWN_KEY: (
        "the store does not know the key that signed the URL",
        "tell the owner: it was deleted, or it is an STS key whose token is missing",
    ),
    Refused.MISMATCH: (
        "what was sent is not what was signed",
        "send exactly the headers that were signed, and the URL untouched",
    ),
    Refused.POLICY: (
        "the policy of the grant does not allow it",
        "change what it names, or ask the owner for another grant",
    ),
}

_BLUR = 2.0  # seconds: Date has whole ones, and the reply travels for a moment
_NOTABLE = 30.0  # seconds of clock offset that are worth mentioning
_EARLY = 900.0  # seconds that V4 allows a signer's clock to be ahead
_FORBIDDEN = 403
_OF_HEADERS = ("InvalidArgument", "InvalidRequest")  # codes for a missing signed header
_SECRET = SECRET_PARAMETERS | SECRET_FIELDS
_MIN_HIDDEN = 8  # characters: shorter values would blank out half of a message
_MAX_MESSAGE = 300
# Any query: gateways echo whole URLs, and a signed one is a permission.
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
# A condition of a policy that a store quotes: of some fields the value is a secret.
_CONDITION = rf"""(?i)(\$(?:{"|".join(SECRET_FIELDS)})["']?\s*,\s*)["'\[][^\]]*"""
_is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_is_mark = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}").fullmatch
_is_host = re.compile(r"[a-z0-9.-]{1,80}").fullmatch

# EC -> code, where it decides what was stored and the document was lost: a refusal that
# comes while the body is sent may lose it with the connection.
_CODES = {"0026-00000002": "FileAlreadyExists", "0042-00000104": "NoSuchUpload"}


def from_reply(
    operation: Operation,
    reply: Reply,
    signed: SignedRequest | None = None,
    *,
    now: Callable[[], float] = time.time,
    offset: float | None = None,
) -> ReplyError:
    """Return the exception for an error reply of the store, explained if possible.

    The EC number takes precedence over the code, and the code over the HTTP status. Of the
    reply, only Code, Message, RequestId, EC and what explains a refusal are quoted: other
    members repeat keys, tokens and signatures.

    *signed* is the request; without it, the explanation is shorter. *offset* is how many
    seconds this machine's clock, *now*, is ahead of the store's; None if unknown.
    """
    hide = _hider(signed)
    document = members(reply.body, reply.headers)
    if offset is None:
        offset = parsing.clock_offset({"date": document.get("ServerTime", "")}, now)
    ec = hide(name(reply.headers.get("x-oss-ec") or document.get("EC", "")))
    case = ErrorReply(
        status=reply.status,
        document=document,
        code=hide(name(document.get("Code", ""))) or _CODES.get(ec, ""),
        ec=ec,
        form=operation.action.spec.form,
        url=_facts(signed),
        now=now,
        offset=offset,
    )
    kind, advice, reason = case.meaning()
    if signed and case.code in _OF_HEADERS and unsent_headers(signed):
        reason = reason or Refused.MISMATCH
    if signed and case.code == "FileAlreadyExists":
        advice = _advice_to_keep(operation, signed) or advice
    if case.code == "MissingRequiredHeader":
        advice = _advice_to_add(name(document.get("HeaderName", "")))
    explanation = None
    if reason is Refused.MISMATCH and signed is not None and signed.form is None:
        explanation = _mismatch(compare(document, signed, operation, hide), case, hide)
    elif reason is not None:
        explanation = case.explain(reason, hide)
    request_id = hide(mark(reply.request_id or document.get("RequestId", "")))
    message = clean(hide(document.get("Message", ""))).rstrip(".")
    # What a server of uploads carries out may be another call.
    is_sent = signed is None or signed.carry_out is None
    text = str(operation.action) if is_sent else "the call"
    text += f" was refused with HTTP {reply.status}"
    text += f" {case.code}" if case.code else ""
    text += (f" ({message})" if message else "") + f": {explanation or advice}"
    marked = [f"EC {case.ec}"] if case.ec else []
    marked += [f"request id {request_id}"] if request_id else []
    return kind(
        text.removesuffix(": ") + (f" [{', '.join(marked)}]" if marked else ""),
        path=operation.path,
        status=reply.status,
        code=case.code or None,
        ec=case.ec or None,
        request_id=request_id or None,
        action=operation.action,
        retry_after=_retry_after(reply.headers),
        host=reply.host,
        explanation=explanation,
    )


def _advice_to_keep(operation: Operation, signed: SignedRequest) -> str:
    if not forbids_overwrite(signed):
        return "it may not be replaced, or a directory has its name: use another key"
    return _HIDDEN_OBJECT if FORBID_OVERWRITE in operation.optional_headers else ""


def _advice_to_add(header: str) -> str:
    if header == "x-ms-blob-type":  # Azure Blob Storage
        return f"give headers= with {header}: BlockBlob"
    return f"give headers= with {header or 'the header'} that the store requires"


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
    """Return the members of the ``<Error>`` document in *body*; empty if there is none.

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
    text = redact(_QUERY.sub("?<hidden>", " ".join(text.split())))
    text = re.sub(_CONDITION, lambda m: f"{m[1]}<hidden>", text)
    return _ECHO.sub(lambda m: f"{m[1]}{m[2]}<hidden>", text)[:_MAX_MESSAGE].strip()


def name(text: str) -> str:
    """Return *text* if it is a valid error code or EC number, else an empty string."""
    return text if _is_name(text) else ""


def mark(text: str) -> str:
    """Return *text* if it is a valid request ID of OSS, else an empty string."""
    return text if _is_mark(text) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() and len(value) < 7 else None  # noqa: PLR2004 - eleven days


def _hider(signed: SignedRequest | None) -> Callable[[str], str]:
    def hide(text: str) -> str:
        if signed is None:
            return text
        query = parse_query(urlsplit(signed.url.reveal()).query)
        sent = (*query, *signed.headers.items(), *_fields(signed).items())
        for name, value in sent:
            if name.lower() in _SECRET and len(value) >= _MIN_HIDDEN:
                for spelt in (value, quote(value), value.replace(" ", "+")):
                    text = text.replace(spelt, "<hidden>")
        return text

    return hide


@frozen(kw_only=True)
class ErrorReply:
    """One error reply with its request; *code* and *ec* are empty if missing.

    *form* means that the request sent a form. *url* has the facts of the presigned URL, or
    of the fields of that form.
    """

    status: int
    document: Mapping[str, str]
    code: str
    ec: str
    form: bool
    url: SignedURL
    now: Callable[[], float]  # this machine's clock
    offset: float | None  # seconds by which it is ahead of the store's, if known

    @property
    def store(self) -> float | None:
        """Seconds since the epoch by the store's clock; None if unknown."""
        return None if self.offset is None else self.now() - self.offset

    @property
    def end(self) -> float | None:
        """Expiry time of the URL, seconds since the epoch; None if unknown."""
        if self.url.expires_at is not None:
            return self.url.expires_at
        return _moment(self.document.get("Expires", ""))

    def meaning(self) -> tuple[type[ReplyError], str, Refused | None]:
        """Return the class of the exception, advice for the user, and the reason.

        The reason says why the store refused the request, such as an expired URL; None if
        no reason of ``Refused`` applies. Its explanation replaces the advice, which may be
        empty.
        """
        table = {**MEANINGS, **_OF_FORMS} if self.form else MEANINGS
        fine = table.get(self.ec, Meaning())
        coarse = table.get(self.code, Meaning())
        if self.code == "AccessDenied" and self.status == _FORBIDDEN:
            coarse = self._denied()  # not every store sends an EC number
        elif self.code == "InvalidAccessKeyId" and self.url.has_token:
            coarse = _TOKEN_ENDED  # keys of STS are forgotten when they end
        last = _BY_STATUS.get(self.status, Meaning(InvalidRequestError))
        if self.status >= 500:  # noqa: PLR2004 - HTTP status class
            last = Meaning(StoreUnavailableError)
        elif 300 <= self.status < 400:  # noqa: PLR2004 - HTTP status class
            advice = "redirects are not followed: sign a URL of the final host"
            last = Meaning(ReplyError, advice)
        kind = fine.kind or coarse.kind or last.kind or ReplyError
        advice = fine.advice or (coarse.advice if coarse.kind else last.advice)
        return kind, advice, fine.reason or coarse.reason

    def _denied(self) -> Meaning:
        if "Endpoint" in self.document:
            return Meaning(AccessDeniedError, reason=Refused.WRONG_REGION)
        url, store = self.url, self.store
        if store is not None:
            # A new signature costs less than an upload that fails at its end.
            if self.end is not None and store > self.end - _BLUR:
                return _EXPIRED
            if url.signed_at is not None and store < url.signed_at - _EARLY - _BLUR:
                return _NOT_YET
        return _DENIED

    def explain(self, reason: Refused, hide: Callable[[str], str]) -> Explanation:
        """Return cause and remedy of a refusal for *reason*.

        *hide* removes the secrets of the request from a text.
        """
        if reason is Refused.EXPIRED:
            reason, cause, remedy = self._expired()
        elif reason is Refused.NOT_YET_VALID:
            reason, cause, remedy = self._not_yet()
        elif reason is Refused.CLOCK_SKEW:
            cause = self._clocks() or self._dated()
            remedy = "set the clock, then sign anew"
        elif reason is Refused.WRONG_REGION:
            cause, remedy = self._elsewhere()
        elif reason is Refused.MISMATCH and self.form:
            cause = "the signature of the grant is not that of its policy"
            remedy = "tell the owner, unless a copy of the grant was changed"
        elif reason is Refused.DENIED and self.form and not self.ec:
            # A bucket ACL and a policy are refused with the same code.
            cause = (
                "the key that signed the grant lacks the permission oss:PutObject, or "
                "the policy of the grant does not allow it"
            )
            remedy = "tell the owner, who gives the permission or another grant"
        else:
            cause, remedy = _SIMPLE[reason]
        if self.form:
            cause = cause.replace("URL", "grant")
            remedy = remedy.replace("URL", "grant")
        return Explanation(
            reason=reason, cause=hide(cause), remedy=remedy, clock_offset=self.offset
        )

    def _clocks(self, minimum: float = _NOTABLE) -> str:
        if self.offset is None or abs(self.offset) < minimum:
            return ""
        return f"the clock of this machine is {_shown_offset(self.offset)} the store's"

    def _expired(self) -> tuple[Refused, str, str]:
        cause, remedy = "the URL has expired", "ask for a new one"
        end, store, offset = self.end, self.store, self.offset
        if end is None or store is None or offset is None:
            return Refused.EXPIRED, cause, remedy
        if store - end >= 1:
            cause += f" {shown_seconds(store - end)} ago"
        if store > end >= self.now() and offset < -_BLUR:
            cause += f", which went unnoticed because {self._clocks(0)}"
            return Refused.CLOCK_SKEW, cause, "set the clock, then ask for a new one"
        return Refused.EXPIRED, self._with_clocks(cause), remedy

    def _not_yet(self) -> tuple[Refused, str, str]:
        cause = "the URL is not valid yet"
        remedy = "check the clock of the machine that signed it"
        begin, store, offset = self.url.signed_at, self.store, self.offset
        if begin is None or store is None or offset is None:
            return Refused.NOT_YET_VALID, cause, remedy
        cause += f": it was signed for {shown_seconds(begin - store)} from now"
        if self.now() >= begin - _EARLY and offset > _BLUR:
            cause += f", and {self._clocks(0)}"
            return Refused.CLOCK_SKEW, cause, "set the clock, then sign anew"
        return Refused.NOT_YET_VALID, self._with_clocks(cause), remedy

    def _with_clocks(self, cause: str) -> str:
        clocks = self._clocks()
        return f"{cause} ({clocks})" if clocks else cause

    def _dated(self) -> str:
        request_time = _moment(self.document.get("RequestTime", ""))
        store_time = _moment(self.document.get("ServerTime", ""))
        if request_time is None or store_time is None:
            return "the clock that dated the request is not the store's"
        offset = _shown_offset(request_time - store_time)
        return f"the request is dated {offset} the store's clock"

    def _elsewhere(self) -> tuple[str, str]:
        where = self.document.get("Endpoint") or self.document.get("Region") or ""
        where = f" ({where})" if _is_host(where) else ""
        if "Endpoint" in self.document:
            cause = f"the bucket is in another region{where}"
            return cause, "tell the owner, whose URL must name that one"
        region = self.url.region
        signed_for = f" {region}" if region and _is_host(region) else ""
        return (
            f"the URL is signed for the region{signed_for}, the store is in another{where}",
            "tell the owner, who must sign for the region of the bucket",
        )


def _mismatch(
    comparison: Comparison, case: ErrorReply, hide: Callable[[str], str]
) -> Explanation:
    other = "ask the owner which, and send them with content_type= or headers="
    if "without Content-Type" not in comparison.sent:
        other = f"leave content_type= out, or {other}"
    if comparison.spoilt:
        cause = f"the request does not fit its URL: {'; '.join(comparison.spoilt[:4])}"
        remedy = "use the URL untouched, with exactly the headers it was signed with"
    elif comparison.changed:
        changes = "; ".join(comparison.changed[:4])
        cause = f"the request was changed in transit: {changes}"
        remedy = "look for a proxy or gateway that touches requests"
    elif comparison.told:
        cause = (
            f"the store received exactly what was sent ({comparison.sent}), so the URL was "
            "signed for another method or other headers"
        )
        remedy = (
            f"{other}; if they agree, the signer's secret is not that of its key (with "
            "signer='keys', check OSS_ACCESS_KEY_SECRET first)"
        )
    else:
        cause = f"{comparison.sent} is not what was signed, and the store does not say what it got"
        remedy = f"{other}, and the URL untouched"
    return Explanation(
        reason=Refused.MISMATCH,
        cause=hide(cause),
        remedy=remedy,
        differences=tuple(map(hide, comparison.spoilt + comparison.changed)),
        clock_offset=case.offset,
    )


def _moment(text: str) -> float | None:
    # S3 writes the time of a request as the request does.
    return parse_moment(text) if parsing.moment(text) is None else parsing.moment(text)


def _shown_offset(offset: float) -> str:
    return f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'}"

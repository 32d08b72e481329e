"""Which exception an error reply of the store is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import error_document
from .errors import (
    AccessDeniedError,
    DamagedBodyError,
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
    ReplyError,
    SignatureMismatchError,
    StoreUnavailableError,
    UploadNotFoundError,
    URLExpiredError,
)
from .explanation import Explanation, Refused

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
    document = error_document.members(body, headers)
    code = hide(error_document.name(document.get("Code", "")))
    ec = hide(error_document.name(headers.get("x-oss-ec") or document.get("EC", "")))
    said = error_document.clean(hide(document.get("Message", "")))
    marks = (headers.get("x-oss-request-id"), headers.get("x-amz-request-id"))
    request_id = next(filter(None, (*marks, document.get("RequestId"))), "")
    request_id = hide(error_document.mark(request_id))
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
        retry_after=error_document.retry_after(headers),
    )
    error.explanation = explanation
    return error

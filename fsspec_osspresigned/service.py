"""The reference signer service: signer protocol 1 over any Signer, stateless."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from attrs import evolve, field, frozen
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import jsondoc
from .errors import (
    ConfigurationError,
    NotSignedError,
    OSSPresignedError,
    SignerUnavailableError,
    TooLargeError,
)
from .model import MAX_PARTS, Action, Operation, SignedRequest
from .sendable import header_problems
from .signers.base import Signer, sign_checked
from .signers.protocol import MAX_REQUEST_BODY, MAX_REQUESTS
from .signing import check_bucket, check_key

_MAX_DEPTH = 6
_MAX_LIFE = 604_800
_STRINGS = ("headers", "optional_headers", "query")
_PART = frozenset((Action.UploadPart, Action.UploadPartCopy))
_OF_UPLOAD = _PART | {
    Action.ListParts,
    Action.CompleteMultipartUpload,
    Action.AbortMultipartUpload,
}
_WITH_BODY = frozenset(
    (Action.PutObject, Action.UploadPart, Action.CompleteMultipartUpload)
)
_COPIES = frozenset((Action.CopyObject, Action.UploadPartCopy))
_VERSION = frozenset(("versionId",))
_LIMIT = frozenset(("x-oss-traffic-limit",))
_RESPONSE = frozenset(
    f"response-{name}"
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
)
_LISTING = frozenset(
    (
        "prefix",
        "delimiter",
        "start-after",
        "continuation-token",
        "max-keys",
        "encoding-type",
        "fetch-owner",
    )
)
# The closed list of the protocol. Anything else could turn a call into another one.
_QUERY: dict[Action, frozenset[str]] = {
    Action.ListObjectsV2: _LISTING,
    Action.ListParts: frozenset(("max-parts", "part-number-marker")),
    Action.GetObject: _VERSION | _RESPONSE,
    Action.HeadObject: _VERSION,
    Action.DeleteObject: _VERSION,
    Action.PutObject: _LIMIT,
    Action.UploadPart: _LIMIT,
}
_HEADERS = frozenset(
    (
        "content-type",
        "content-md5",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "expires",
    )
)
_SOURCE = "x-oss-copy-source"
# They open an object to others, or make it lead elsewhere: only if a policy names them.
_NAMED_ONLY = frozenset(
    (
        "x-oss-acl",
        "x-oss-object-acl",
        "x-oss-callback",
        "x-oss-callback-var",
        "x-oss-symlink-target",
    )
)


def _actions(value: Iterable[Action]) -> frozenset[Action]:
    return frozenset(value)


def _prefixes(value: Sequence[str]) -> tuple[str, ...]:
    bad = [prefix for prefix in value if not prefix.partition("/")[1]]
    if bad:
        problems = (f"the prefix {prefix!r} must be bucket/..." for prefix in bad)
        raise ConfigurationError(problems)
    return tuple(value)


@frozen(kw_only=True)
class Policy:
    """What the bearer of one token may have signed.

    Attributes:
        name: for people.
        prefixes: ``bucket/`` or ``bucket/begin/of/key``; a path must begin with one.
        actions: the calls.
        max_expires_in: seconds of life at most; longer wishes are shortened.
        headers: lower-case names of ACL, callback and symlink headers that are allowed.
    """

    name: str
    prefixes: tuple[str, ...] = field(converter=_prefixes)
    actions: frozenset[Action] = field(converter=_actions)
    max_expires_in: int = 3600
    headers: frozenset[str] = frozenset()

    def covers(self, path: str) -> bool:
        """Return whether *path* lies in what is granted; compared byte for byte."""
        return path.startswith(self.prefixes)


class _RefusedItem(Exception):  # noqa: N818 - never leaves this module
    """Carries the problem of one item."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code


def hash_token(token: str) -> str:
    """Return the SHA-256 of *token* in hex, by which a service knows it."""
    return hashlib.sha256(token.encode()).hexdigest()


def create_app(
    signer: Signer,
    *,
    tokens: Mapping[str, Policy],
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Return the ASGI app of a signer service.

    Args:
        signer: signs what a policy lets through.
        tokens: SHA-256 of a bearer token in hex -> what its bearer may have signed.
        clock: seconds since the epoch.
    """
    service = _Service(signer, dict(tokens), clock)
    return Starlette(
        routes=[
            Route("/v1/sign", service.sign, methods=["POST"]),
            Route("/healthz", _healthz),
        ],
        exception_handlers={HTTPException: _http_error},
    )


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _http_error(_: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    codes = {401: "unauthorized", 413: "batch_too_large", 400: "invalid_request"}
    detail = getattr(error, "detail", "")
    return JSONResponse(
        {"status": status, "code": codes.get(status, "not_found"), "detail": detail},
        status,
        headers={"WWW-Authenticate": "Bearer"} if status == 401 else None,  # noqa: PLR2004 - HTTP status
        media_type="application/problem+json",
    )


@frozen
class _Service:
    signer: Signer
    tokens: dict[str, Policy]
    clock: Callable[[], float]

    async def sign(self, request: Request) -> Response:
        policy = self.policy_of(request.headers.get("authorization", ""))
        body = bytearray()
        async for block in request.stream():
            body += block
            if len(body) > MAX_REQUEST_BODY:
                raise HTTPException(413, f"the body exceeds {MAX_REQUEST_BODY} bytes")
        try:
            call = jsondoc.loads(bytes(body), max_depth=_MAX_DEPTH)
        except ValueError as error:
            raise HTTPException(400, f"the body is {error}") from None
        requests = call.get("requests") if isinstance(call, dict) else None
        if not isinstance(requests, list) or not requests:
            raise HTTPException(400, "requests must be a list, and not empty")
        if len(requests) > MAX_REQUESTS:
            raise HTTPException(413, f"more than {MAX_REQUESTS} requests")
        results = await run_in_threadpool(self.results, requests, policy)
        return JSONResponse({"results": results})

    def policy_of(self, authorization: str) -> Policy:
        scheme, _, token = authorization.partition(" ")
        given = hash_token(token.strip())
        found = None
        for known, policy in self.tokens.items():
            # All of them are compared, so that time tells nothing.
            if hmac.compare_digest(known.lower(), given):
                found = policy
        if found is None or scheme.lower() != "bearer":
            raise HTTPException(401, "no valid bearer token")
        return found

    def results(self, requests: list[Any], policy: Policy) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = [{} for _ in requests]
        granted: dict[int, Operation] = {}
        for index, request in enumerate(requests):
            try:
                granted[index] = permitted(operation_of(request), policy)
            except _RefusedItem as refused:
                results[index] = _error(refused.status, refused.code, str(refused))
        outcomes = self.sign_each(list(granted.values()))
        for index, outcome in zip(granted, outcomes, strict=True):
            results[index] = self.result(outcome)
        return results

    def sign_each(
        self, operations: Sequence[Operation]
    ) -> Sequence[SignedRequest | OSSPresignedError]:
        if not operations:
            return []
        try:
            return sign_checked(self.signer, operations)
        except OSSPresignedError as error:
            if len(operations) == 1:
                return [error]
        # One bad item must not refuse the others.
        return [self.sign_each([operation])[0] for operation in operations]

    def result(self, outcome: SignedRequest | OSSPresignedError) -> dict[str, Any]:
        if isinstance(outcome, OSSPresignedError):
            return _error_of(outcome)
        result: dict[str, Any] = {
            "method": outcome.method,
            "url": outcome.url.reveal(),
            "headers": dict(outcome.headers),
        }
        if outcome.expires_at is not None:
            result["expires_in"] = int(outcome.expires_at - self.clock())
        return result


def _error(status: int, code: str, detail: str) -> dict[str, Any]:
    return {"error": {"status": status, "code": code, "detail": detail}}


def _error_of(error: OSSPresignedError) -> dict[str, Any]:
    """Return the item error of what the signer raised."""
    if isinstance(error, ConfigurationError):
        return _error(400, "invalid_request", error.message)
    if isinstance(error, TooLargeError):
        return _error(413, "too_large", error.message)
    if isinstance(error, NotSignedError):
        return _error(403, "forbidden", error.message)
    result = _error(503, "unavailable", "the signer cannot sign now")
    if isinstance(error, SignerUnavailableError) and error.retry_after is not None:
        result["error"]["retry_after"] = error.retry_after
    return result


def operation_of(request: Any) -> Operation:
    """Return the operation that one member of ``requests`` asks for.

    Raises:
        _RefusedItem: it is not valid.
    """
    if not isinstance(request, dict):
        raise _invalid(f"a request is {jsondoc.kind(request)}")
    try:
        action = Action(request.get("action", ""))
    except ValueError:
        raise _invalid("the action is unknown") from None
    if nulls := [n for n, v in request.items() if v is None and n in _MEMBERS]:
        raise _invalid(f"{', '.join(nulls)} must not be null")
    return Operation(
        action=action,
        bucket=_name(request, "bucket", check_bucket),
        key=_key(request, action),
        upload_id=_upload_id(request, action),
        part_number=_number(request, "part_number", MAX_PARTS, needed=action in _PART),
        content_length=_number(
            request, "content_length", 2**53, needed=action in _WITH_BODY, least=0
        ),
        expires_in=_number(request, "expires_in", _MAX_LIFE, needed=False),
        **{name: _strings(request, name) for name in _STRINGS},
    )


_MEMBERS = frozenset(
    (
        "bucket",
        "key",
        "upload_id",
        "part_number",
        "content_length",
        "expires_in",
        *_STRINGS,
    )
)


def _invalid(detail: str) -> _RefusedItem:
    return _RefusedItem(400, "invalid_request", detail)


def _name(
    request: Mapping[str, Any], member: str, check: Callable[[str], str | None]
) -> str:
    value = request.get(member)
    if not isinstance(value, str):
        raise _invalid(f"{member} must be a string")
    if problem := check(value):
        raise _invalid(f"{member}: {problem}")
    return value


def _key(request: Mapping[str, Any], action: Action) -> str:
    if action is not Action.ListObjectsV2:
        return _name(request, "key", check_key)
    if "key" in request:
        raise _invalid("ListObjectsV2 takes no key")
    return ""


def _upload_id(request: Mapping[str, Any], action: Action) -> str | None:
    if action not in _OF_UPLOAD:
        return None
    return _name(
        request, "upload_id", lambda text: None if text else "must not be empty"
    )


def _number(
    request: Mapping[str, Any], member: str, most: int, *, needed: bool, least: int = 1
) -> int | None:
    value = request.get(member)
    if value is None and not needed:
        return None
    if not jsondoc.is_int(value) or not least <= int(value or 0) <= most:
        raise _invalid(f"{member} must be a whole number from {least} to {most}")
    return int(value or 0)


def _strings(request: Mapping[str, Any], member: str) -> Mapping[str, str]:
    value = request.get(member, {})
    if not isinstance(value, dict) or not all(
        isinstance(text, str) for text in value.values()
    ):
        raise _invalid(f"{member} must be an object of strings")
    if member != "query":
        for problem in header_problems(value):
            raise _invalid(f"{member}: {problem}")
    return value


def permitted(operation: Operation, policy: Policy) -> Operation:
    """Return *operation* as *policy* lets it be signed: shorter, fewer wishes.

    Raises:
        _RefusedItem: the policy does not let it be signed.
    """
    action = operation.action
    if action not in policy.actions:
        raise _RefusedItem(403, "action_not_granted", f"{action} is not granted")
    if foreign := operation.query.keys() - _QUERY.get(action, frozenset()):
        raise _invalid(f"{action} takes no parameter {min(foreign)[:40]!r}")
    path = operation.path
    if action is Action.ListObjectsV2:
        path = f"{operation.bucket}/{operation.query.get('prefix', '')}"
    if not policy.covers(path):
        raise _RefusedItem(403, "forbidden", "the path lies outside what is granted")
    for name in operation.headers:
        if not _may_ask(name.lower(), action, policy):
            raise _RefusedItem(403, "header_refused", f"the header {name!r} is refused")
    wished = {
        name: value
        for name, value in operation.optional_headers.items()
        if name.lower() != _SOURCE and _may_ask(name.lower(), action, policy)
    }
    if action in _COPIES:
        _check_source(operation.headers, policy)
    life = min(operation.expires_in or policy.max_expires_in, policy.max_expires_in)
    return evolve(operation, optional_headers=wished, expires_in=life)


def _may_ask(name: str, action: Action, policy: Policy) -> bool:
    if name in _NAMED_ONLY:
        return name in policy.headers
    if name.startswith(_SOURCE):
        return action in _COPIES
    return name in _HEADERS or name.startswith("x-oss-")


def _check_source(headers: Mapping[str, str], policy: Policy) -> None:
    """Refuse a copy from where the policy does not let its bearer read."""
    lower = {name.lower(): value for name, value in headers.items()}
    source = unquote(lower.get(_SOURCE, "").partition("?")[0]).removeprefix("/")
    if Action.GetObject not in policy.actions or not policy.covers(source):
        detail = "the copy source lies outside what may be read"
        raise _RefusedItem(403, "forbidden", detail)

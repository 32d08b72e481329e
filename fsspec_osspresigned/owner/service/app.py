"""Signer service: an ASGI application that serves signer protocol 1 with any signer.

It also replies in the format of OSS's own sample servers, so existing upload code works
with it. ``GET /get_post_signature_for_oss_upload`` returns the reply of the sample in
"Obtain signature information from the server and upload data to OSS" (V4).
"""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

from attrs import define, field, fields_dict, frozen
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ... import parsing
from ...errors import (
    ConfigurationError,
    NotCoveredError,
    OSSPresignedError,
    TooLargeError,
)
from ...model import MAX_PARTS, URL_ACTIONS, Action, Operation, SignedRequest
from ...signers.base import MAX_REQUESTS, Signer, signed_each
from ...signers.function import as_signer
from ...signers.keys import KeySigner
from ...signers.wire_protocol import ITEM_STATUS, MAX_REQUEST_BODY
from ...signing.canonical import MAX_V4_LIFE
from ...signing.endpoint import check_bucket, check_key
from ...signing.post_policy import STATUS_FIELD, TOKEN_FIELD
from ...signing.signed_url import describe
from ...units import shown_moment
from ...url_checks import MAX_URL, header_problems
from ..grants import GrantTerms, SignedGrant, sign_grant
from .limits import RateLimits
from .policy import Policy, ServiceError, hash_token, permitted, place_in, terms_of
from .token_store import Count, TokenStore

PATH = "/get_post_signature_for_oss_upload"

_MEMBERS = {  # form field -> JSON key, if that is not the field's name with underscores
    "x-oss-signature": "signature",
    TOKEN_FIELD: "security_token",
}
_MAX_DEPTH = 6
# maximum brackets, braces and commas in the JSON of one body, one or more for each
# value; more take longer to parse than to sign
_MAX_MARKS = 20_000
_OPERATION = tuple(fields_dict(Operation))
_OUTLIVED = "the signature would outlive the token: retry"
_MAX_UPLOAD_ID = 1024  # characters; an upload ID of OSS has 32


@frozen(kw_only=True)
class ServiceRules:
    """Signer and policies of the service; each call keeps those of its beginning."""

    signer: Signer = field(converter=as_signer)
    tokens: Mapping[str, Policy]  # SHA-256 of the bearer token, in hex -> its policy


@define(kw_only=True)
class AccessRecord:
    """Log record of one call, without tokens, URLs and headers."""

    token: str | None = None  # name of the policy; None if the token was unknown
    # The requested ``bucket/key`` paths, as far as they were valid.
    paths: tuple[str, ...] = ()
    requests: int = 0
    status: int = 0  # HTTP status of the whole call
    # Code of the protocol -> number of answers with this code.
    codes: Counter[str] = field(factory=Counter)
    milliseconds: float = 0.0  # time from the headers of the call to the reply
    # Problem of the service, or the class of an unexpected exception.
    fault: str | None = None
    client: str | None = None  # address of the client, or of the proxy if there is one


def create_app(signer: Signer, *, tokens: Mapping[str, Policy]) -> Starlette:
    """Return the ASGI app of a signer service with fixed policies.

    *signer* is a Signer, or anything that ``as_signer`` accepts.
    """
    rules = ServiceRules(signer=signer, tokens=dict(tokens))
    if any(policy.has_quota for policy in rules.tokens.values()):
        raise ConfigurationError("quotas need the file of osspresigned serve")
    return create_ruled_app(lambda: rules)


def create_ruled_app(
    rules: Callable[[], ServiceRules],
    *,
    limits: RateLimits | None = None,
    store: TokenStore | None = None,
    tell: Callable[[AccessRecord], object] = lambda _: None,
    routes: Callable[[Service], Sequence[BaseRoute]] = lambda _: (),
) -> Starlette:
    """Return the ASGI app of a signer service whose policies may change.

    *rules* is called at the beginning of each call. *store* counts the usage of
    policies with a quota; it may be None if no policy has one. *tell* is called with
    the record of each call for signatures. *routes* returns further routes of the
    service.
    """
    service = Service(rules, limits or RateLimits(), store, tell)
    app = Starlette(
        routes=[
            Route("/v1/sign", service.recorded(service.sign), methods=["POST"]),
            Route("/v1/permissions", service.recorded(service.permissions)),
            Route(PATH, service.recorded(service.grant)),
            Route("/healthz", _healthz),
            *routes(service),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    # A redirect would lead to a host that the client chooses.
    app.router.redirect_slashes = False
    return app


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _http_error(_: Request, error: Any) -> Response:
    return _problem(error.status_code, error.detail, error.headers)


_CODES = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    408: "incomplete",
    409: "object_exists",
    413: "batch_too_large",
    429: "rate_limited",
    500: "unavailable",
}


def _problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    code: str | None = None,
) -> Response:
    code = code or _CODES.get(status, "not_found")
    problem: dict[str, Any] = {"status": status, "code": code, "detail": detail}
    if headers and "Retry-After" in headers:
        problem["retry_after"] = int(headers["Retry-After"])
    return JSONResponse(problem, status, headers, "application/problem+json")


Answer: TypeAlias = Callable[[Request, AccessRecord], Awaitable[Response]]


@frozen
class Service:
    """Answers calls within their limits, and reports a record of each call."""

    rules: Callable[[], ServiceRules]
    limits: RateLimits
    store: TokenStore | None
    tell: Callable[[AccessRecord], object]

    def recorded(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that calls *answer*, and reports a record of each call."""

        async def endpoint(request: Request) -> Response:
            began = time.perf_counter()
            call = AccessRecord(client=request.client.host if request.client else None)
            try:
                response = await answer(request, call)
            except HTTPException as error:
                response = _problem(error.status_code, error.detail, error.headers)
            except ServiceError as error:
                status = ITEM_STATUS[error.code]
                response = _problem(status, str(error), code=error.code)
                if status not in _CODES:
                    call.codes[error.code] += 1
            except ClientDisconnect:
                response = _problem(408, "the call was incomplete")
            except Exception as error:  # noqa: BLE001 - an error ends only one call, and is logged
                call.fault = type(error).__name__
                if isinstance(error, ConfigurationError):
                    call.fault = error.message
                response = _problem(500, "the signer failed")
            if response.status_code in _CODES:
                call.codes[_CODES[response.status_code]] += 1
            call.status = response.status_code
            call.milliseconds = round((time.perf_counter() - began) * 1000, 3)
            self.tell(call)
            return response

        return endpoint

    def admitted(
        self, request: Request, call: AccessRecord
    ) -> tuple[ServiceRules, Policy]:
        rules = self.rules()
        policy = policy_of(rules, request.headers.get("authorization", ""))
        call.token = policy.name
        return rules, policy

    async def grant(self, request: Request, call: AccessRecord) -> Response:
        rules, policy = self.admitted(request, call)
        self.limits.charge(policy, 1)
        call.requests = 1
        if Action.PostObject not in policy.actions:
            raise ServiceError("action_not_granted", "PostObject is not granted")
        path = place_in(policy, request.query_params)
        call.paths = (path,)
        members = await run_in_threadpool(grant_members, rules.signer, policy, path)
        return JSONResponse(members, headers={"Cache-Control": "no-store"})

    async def permissions(self, request: Request, call: AccessRecord) -> Response:
        _, policy = self.admitted(request, call)
        self.limits.charge(policy, 1)
        left = {}
        if self.store:
            async with self.limits.turn(policy, request.stream()):
                left = await run_in_threadpool(self.store.left, policy)
        headers = {"Cache-Control": "no-store"}
        return JSONResponse({**policy.permissions(), **left}, headers=headers)

    def counting(self, policy: Policy) -> AbstractContextManager[Count]:
        """Return a context manager that yields a function, which counts one operation.

        It counts against the quotas of *policy*; without a token store, it does nothing.
        """
        return (
            self.store.counting(policy) if self.store else nullcontext(lambda _: None)
        )

    async def sign(self, request: Request, call: AccessRecord) -> Response:
        _, policy = self.admitted(request, call)
        self.limits.charge(policy)
        async with self.limits.turn(policy, request.stream()) as body:
            # The token may have been revoked while the body arrived.
            rules, policy = self.admitted(request, call)
            return await run_in_threadpool(self.reply, body, rules.signer, policy, call)

    def reply(
        self, body: bytes, signer: Signer, policy: Policy, call: AccessRecord
    ) -> Response:
        requests: list[Any] = []
        try:
            requests = _requests_of(body)
        finally:
            cost = max(1, len(requests), len(body) * MAX_REQUESTS // MAX_REQUEST_BODY)
            self.limits.charge(policy, cost)
        call.requests = len(requests)
        results: list[dict[str, Any]] = [{} for _ in requests]
        granted: dict[int, Operation] = {}
        with self.counting(policy) as count:
            for index, request in enumerate(requests):
                try:
                    operation = operation_of(request)
                    call.paths += (operation.path,)
                    operation = permitted(operation, policy)
                    count(operation)
                    granted[index] = operation
                except ServiceError as error:
                    results[index] = _error(error.code, str(error))
        operations = list(granted.values())
        # One invalid item must not fail the others.
        outcomes = signed_each(signer, operations, OSSPresignedError) if granted else ()
        for index, outcome in zip(granted, outcomes, strict=True):
            results[index] = result_of(outcome, granted[index], policy)
        call.codes.update(r["error"]["code"] for r in results if "error" in r)
        return JSONResponse({"results": results}, headers={"Cache-Control": "no-store"})


# Class of the signer's exception -> code of the item.
_ITEM_CODES: tuple[tuple[type[OSSPresignedError], str], ...] = (
    (ConfigurationError, "invalid_request"),
    (TooLargeError, "too_large"),
    (NotCoveredError, "forbidden"),
)


def result_of(
    outcome: SignedRequest | OSSPresignedError, operation: Operation, policy: Policy
) -> dict[str, Any]:
    """Return *outcome* for a bearer with *policy*, as a result of the signer protocol.

    A signed result is a secret; an error has only the key ``error``.
    """
    if isinstance(outcome, OSSPresignedError):
        for kind, code in _ITEM_CODES:
            if isinstance(outcome, kind):
                return _error(code, outcome.message)
        wait = getattr(outcome, "retry_after", None)
        more = {} if wait is None else {"retry_after": wait}
        return _error("unavailable", "the signer cannot sign now", **more)
    if policy.is_outlived(outcome.expires_at):
        return _error("unavailable", _OUTLIVED)
    if operation.action.spec.on_bucket and describe(outcome.url).version == "v1":
        # The holder of the URL could change its prefix.
        detail = f"V1 signs no prefix: {operation.action} needs a signer of V4"
        return _error("action_not_granted", detail)
    url = outcome.url.reveal()
    if len(url) > MAX_URL:
        return _error(
            "invalid_request", f"the URL would be longer than {MAX_URL} bytes"
        )
    headers = dict(outcome.headers)
    result: dict[str, Any] = {"method": outcome.method, "url": url, "headers": headers}
    if outcome.expires_at is not None:
        # Count from the time of the signature, because the clock may show a later
        # second by now.
        result["expires_in"] = int(outcome.expires_at - outcome.issued_at)
    return result


def document_of(body: bytes, max_marks: int = _MAX_MARKS) -> Any:
    """Return the value of the JSON *body*.

    HTTPException 400 if it is invalid, 413 if it has more than *max_marks* brackets,
    braces and commas.
    """
    if sum(map(body.count, (b"[", b"{", b","))) > max_marks:
        raise HTTPException(
            413, f"the JSON of the body has more than {max_marks} brackets and commas"
        )
    try:
        return parsing.loads(body, max_depth=_MAX_DEPTH)
    except ValueError as error:
        raise HTTPException(400, f"the body is {error}") from None


def _requests_of(body: bytes) -> list[Any]:
    call = document_of(body)
    requests = call.get("requests") if isinstance(call, dict) else None
    if not isinstance(requests, list) or not requests:
        raise HTTPException(400, "requests must be a list, and not empty")
    if len(requests) > MAX_REQUESTS:
        raise HTTPException(413, f"more than {MAX_REQUESTS} requests")
    return requests


def signed_grant(signer: Signer, terms: GrantTerms) -> SignedGrant:
    """Return the grant of *terms*.

    ServiceError if *signer* has no key for V4, or cannot sign *terms*.
    """
    if not isinstance(signer, KeySigner) or signer.version != "v4":
        detail = "this signer cannot issue grants: they need a key and V4"
        raise ServiceError("action_not_granted", detail)
    try:
        return sign_grant(
            signer.credentials(),
            signer.endpoint,
            terms,
            region=signer.region,
            now=signer.clock(),
        )
    except ConfigurationError as error:
        raise ServiceError("invalid_request", error.message) from None
    except OSSPresignedError:
        raise ServiceError("unavailable", "the signer cannot sign now") from None


def grant_members(signer: Signer, policy: Policy, path: str) -> dict[str, str]:
    """Return the grant below *path* as members of the reply, which is a secret."""
    grant = signed_grant(signer, terms_of(policy, path))
    if policy.is_outlived(grant.expires_at):
        raise ServiceError("unavailable", _OUTLIVED)
    members = {
        _MEMBERS.get(name, name.replace("-", "_")): value.reveal()
        for name, value in grant.fields.items()
        if name != STATUS_FIELD  # OSS's sample clients set this field themselves
    }
    members.setdefault("security_token", "")
    return {**members, "host": grant.url.removesuffix("/"), "dir": grant.prefix}


def policy_of(rules: ServiceRules, authorization: str) -> Policy:
    """Return the policy of the bearer token; HTTPException 401 if none has it."""
    scheme, _, token = authorization.partition(" ")
    digest = hash_token(token.strip())
    granted = None
    for known, policy in rules.tokens.items():
        # All hashes are compared, so the time reveals nothing about the token.
        if hmac.compare_digest(known.lower(), digest):
            granted = policy
    headers = {"WWW-Authenticate": "Bearer"}
    if granted is None or scheme.lower() != "bearer":
        raise HTTPException(401, "no valid bearer token", headers)
    if granted.expires_at is not None and granted.expires_at <= time.time():
        detail = f"the token expired at {shown_moment(granted.expires_at)}"
        raise HTTPException(401, detail, headers)
    return granted


def _error(code: str, detail: str, **more: Any) -> dict[str, Any]:
    error = {"status": ITEM_STATUS[code], "code": code, "detail": detail, **more}
    return {"error": error}


def operation_of(
    request: Any, actions: Collection[Action] = URL_ACTIONS, *, is_sized: bool = True
) -> Operation:
    """Return the operation in *request*, which is one item of a call.

    *actions* are the accepted actions. With *is_sized*, an operation with a body must
    have a ``content_length``. ServiceError if the request is invalid.
    """
    if not isinstance(request, dict):
        raise _invalid(f"a request is {parsing.kind(request)}")
    try:
        action = Action(request.get("action", ""))
    except ValueError:
        raise _invalid("the action is unknown") from None
    if action not in actions:
        raise _invalid(
            f"{action} is not called by a URL: its policy is signed as a form"
        )
    if nulls := [n for n in _OPERATION if request.get(n, ...) is None]:
        raise _invalid(f"{', '.join(nulls)} must not be null")
    spec = action.spec
    if spec.on_bucket and "key" in request:
        raise _invalid(f"{action} takes no key")
    names: dict[str, Any] = {"bucket": _name(request, "bucket", check_bucket)}
    if not spec.on_bucket:
        names["key"] = _name(request, "key", check_key)
    if spec.upload_id:
        names["upload_id"] = _name(request, "upload_id", _check_upload_id)
    needs_size = is_sized and bool(spec.body)
    return Operation(
        action=action,
        **names,
        part_number=_number(request, "part_number", MAX_PARTS, needed=spec.part_number),
        content_length=_number(
            request, "content_length", spec.largest, 0, needed=needs_size
        ),
        expires_in=_number(request, "expires_in", MAX_V4_LIFE),
        headers=_headers(request, "headers"),
        optional_headers=_headers(request, "optional_headers"),
        query=_strings(request, "query"),
    )


def _invalid(detail: str) -> ServiceError:
    return ServiceError("invalid_request", detail)


def _check_upload_id(text: str) -> str | None:
    if text.isascii() and 0 < len(text) <= _MAX_UPLOAD_ID:
        return None
    return f"must have 1 to {_MAX_UPLOAD_ID} characters of ASCII"


def _name(
    request: Mapping[str, Any], member: str, check: Callable[[str], str | None]
) -> str:
    value = request.get(member)
    if not isinstance(value, str):
        raise _invalid(f"{member} must be a string")
    if problem := check(value):
        raise _invalid(f"{member}: {problem}")
    return value


def _number(
    request: Mapping[str, Any],
    member: str,
    maximum: int,
    minimum: int = 1,
    *,
    needed: bool = False,
) -> int | None:
    value: Any = request.get(member)
    if value is None and not needed:
        return None
    if not parsing.is_int(value) or not minimum <= value <= maximum:
        raise _invalid(f"{member} must be a whole number from {minimum} to {maximum}")
    return int(value)


def _strings(request: Mapping[str, Any], member: str) -> Mapping[str, str]:
    value = request.get(member, {})
    if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return value
    raise _invalid(f"{member} must be an object of strings")


def _headers(request: Mapping[str, Any], member: str) -> Mapping[str, str]:
    value = _strings(request, member)
    for problem in header_problems(value):
        raise _invalid(f"{member}: {problem}")
    return value

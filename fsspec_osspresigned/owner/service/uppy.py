"""Routes for Uppy, an uploader of web sites: ``/s3/...``.

``/s3/presign`` serves the function ``signRequest`` of Uppy's plugin AwsS3. The other routes
are those of Companion, Uppy's own server (``controllers/s3`` of @uppy/companion 6.2.2).
Like Companion, the service itself begins, lists, completes and aborts multipart uploads,
with its own key; no byte of an object passes through it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial, reduce
from typing import Any, TypeAlias
from uuid import uuid4

from attrs import define, evolve, field, frozen
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router

from ...client.client import Client
from ...client.operations import OSSCalls, bare
from ...engine.engine import awaited
from ...errors import InvalidRequestError, OSSPresignedError
from ...filesystem import client_for, media_type
from ...http.checksums import combine
from ...model import (
    MAX_PARTS,
    OPERATIONS,
    Action,
    Operation,
    PartReceipt,
    split_path,
)
from ...options.options import Options
from ...options.target import Target
from ...parsing import is_int
from ...signers.base import MAX_REQUESTS, MultipartGrant, signed_each
from ...signers.keys import KeySigner
from ...signers.wire_protocol import MAX_REQUEST_BODY
from ...signing.post_policy import STATUS_FIELD, TYPE_FIELD
from .app import (
    AccessRecord,
    Service,
    document_of,
    operation_of,
    result_of,
    signed_grant,
)
from .policy import Policy, ServiceError, object_path, permitted, place_in, terms_of

# Method, and whether uploadId and partNumber are among the members -> the call.
_SIGNED = {
    ("PUT", False, False): Action.PutObject,
    ("PUT", True, True): Action.UploadPart,
    ("POST", False, False): Action.InitiateMultipartUpload,
    ("POST", True, False): Action.CompleteMultipartUpload,
    ("GET", True, False): Action.ListParts,
    ("DELETE", True, False): Action.AbortMultipartUpload,
    ("DELETE", False, False): Action.DeleteObject,
}
_TYPED = (Action.PutObject, Action.InitiateMultipartUpload)
_BINARY = "application/octet-stream"  # what Uppy takes for a file without a type
_SET_BY_BROWSERS = ("content-length", "host")
_PAGE = 1000  # parts in one reply of the store
_MAX_VALUES = 4 * MAX_PARTS  # of JSON in the list of all parts
_NUMBER = re.compile(r"[0-9]{1,5}").fullmatch
_METADATA = re.compile(r"metadata\[(.+)\]").fullmatch
# A browser waits for the reply, and the service stops within 35 seconds.
_PATIENCE = {"retries": 3, "retry_timeout": 25, "timeout": 25}


@frozen(kw_only=True)
class _Ask:
    """An admitted call, and the rules for its answer."""

    request: Request
    signer: KeySigner
    policy: Policy
    call: AccessRecord
    document: Mapping[str, Any]  # in its body; empty without one

    def parameter(self, name: str) -> str:
        if value := self.request.query_params.get(name):
            return value
        raise ServiceError("invalid_request", f"the parameter {name!r} is missing")

    def operation(self, action: Action, path: str, **members: Any) -> Operation:
        """Return the operation that the policy permits; ServiceError if it does not."""
        bucket, key = split_path(path)
        given = {name: value for name, value in members.items() if value is not None}
        item = {"action": action, "bucket": bucket, "key": key, **given}
        operation = operation_of(item, OPERATIONS, is_sized=False)
        self.call.paths += (operation.path,)
        return permitted(operation, self.policy)

    def of_upload(self, action: Action, **members: Any) -> Operation:
        """Return the operation on the upload that the path of the request names."""
        query = self.request.query_params
        path = object_path(self.policy, query, self.parameter("key"))
        upload_id = self.request.path_params["upload"]
        return self.operation(action, path, upload_id=upload_id, **members)

    def of_part(self, number: str) -> Operation:
        if not _NUMBER(number):  # a longer one would be refused by int()
            raise ServiceError("invalid_request", "a part number must be 1 to 10000")
        return self.of_upload(Action.UploadPart, part_number=int(number))

    def opening(self, action: Action, given: Mapping[str, Any]) -> Operation:
        """Return the operation that stores a new object, or begins its upload.

        *given* has ``filename``, ``type`` and ``metadata``. The key gets a random name
        in front, so it never replaces another object.
        """
        name, kind = given.get("filename"), given.get("type")
        metadata = given.get("metadata") or {}
        if not isinstance(name, str) or not name:
            raise ServiceError("invalid_request", "filename must be a string")
        if not isinstance(kind, str) or not isinstance(metadata, dict):
            detail = "type must be a string, and metadata an object"
            raise ServiceError("invalid_request", detail)
        # Two files of a name must not replace each other; Companion names them so, too.
        place = place_in(self.policy, self.request.query_params)
        return self.operation(
            action,
            f"{place}{uuid4()}-{name}",
            headers={"Content-Type": kind or _BINARY},
            optional_headers={
                f"x-oss-meta-{member}": _header_text(value)
                for member, value in metadata.items()
            },
        )

    async def signed(self, *operations: Operation) -> list[dict[str, Any]]:
        """Sign *operations*; return results of the signer protocol, which are secrets.

        ServiceError if one of them cannot be signed.
        """
        self.call.requests = len(operations)
        outcomes = await run_in_threadpool(
            signed_each, self.signer, operations, OSSPresignedError
        )
        results = [*map(result_of, outcomes, operations)]
        for result in results:
            if error := result.get("error"):
                raise ServiceError(error["code"], error["detail"])
        return results


_Answer: TypeAlias = Callable[[_Ask], Awaitable[Any]]


@define(eq=False)
class _Uppy:
    service: Service
    # Filesystems share a client by a weak reference, so this one is kept here.
    _client: Client | None = field(default=None, init=False)

    async def respond(self, answer: _Answer, request: Request) -> Response:
        return await self.service.recorded(request, partial(self._answered, answer))

    async def _answered(
        self, answer: _Answer, request: Request, call: AccessRecord
    ) -> Response:
        rules, policy = self.service.admitted(request, call)
        limits = self.service.limits
        limits.charge(policy)
        async with limits.turn(policy, request.stream()) as body:
            numbers = request.query_params.get("partNumbers", "")
            cost = len(body) * MAX_REQUESTS // MAX_REQUEST_BODY
            limits.charge(policy, max(1 + numbers.count(","), cost))
            call.requests = 1
            if not isinstance(rules.signer, KeySigner):
                detail = "uploads of Uppy need a signer with a key"
                raise ServiceError("action_not_granted", detail)
            if policy.has_quota:
                detail = "uploads of Uppy are not counted, and this token has a quota"
                raise ServiceError("action_not_granted", detail)
            ask = _Ask(
                request=request,
                signer=rules.signer,
                policy=policy,
                call=call,
                document=await run_in_threadpool(_document, request, body),
            )
            reply = await answer(ask)
        return JSONResponse(reply, headers={"Cache-Control": "no-store"})

    # -- signatures ----------------------------------------------------------------------

    async def presign(self, ask: _Ask) -> dict[str, Any]:
        given, key = ask.document, ask.document.get("key")
        method = str(given.get("method"))
        action = _SIGNED.get((method, "uploadId" in given, "partNumber" in given))
        if action is None or not key or not isinstance(key, str):
            detail = "Uppy sends no request with this method and these members"
            raise ServiceError("invalid_request", detail)
        headers = {}
        if action in _TYPED:
            # Uppy sends a type with each, and OSS takes only one that is signed.
            kind = given.get("contentType") or media_type(key)
            headers["Content-Type"] = kind or _BINARY
        operation = ask.operation(
            action,
            object_path(ask.policy, ask.request.query_params, key),
            headers=headers,
            upload_id=given.get("uploadId"),
            part_number=given.get("partNumber"),
            content_length=given.get("contentLength"),
            expires_in=given.get("expiresIn"),
        )
        if action is Action.CompleteMultipartUpload:  # the type of the list of parts
            sent = {**operation.headers, "Content-Type": "application/xml"}
            operation = evolve(operation, headers=sent)
        (result,) = await ask.signed(operation)
        headers = {
            name: value
            for name, value in result["headers"].items()
            if name.lower() not in _SET_BY_BROWSERS
        }
        return {"url": result["url"], "key": operation.key, "headers": headers}

    async def params(self, ask: _Ask) -> dict[str, Any]:
        given: dict[str, Any] = {**ask.request.query_params}
        names = filter(None, map(_METADATA, given))
        given["metadata"] = {name[1]: given[name[0]] for name in names}
        operation = ask.opening(Action.PostObject, given)
        fields = {**operation.headers, **operation.optional_headers}
        fields[TYPE_FIELD] = fields.pop("Content-Type")
        terms = terms_of(ask.policy, operation.path)
        # A browser sends all fields, so each one can be pinned.
        terms = evolve(
            terms,
            prefix="",
            key=operation.key,
            expires_in=operation.expires_in or terms.expires_in,
            acl=terms.acl or "default",
            content_types=(),  # the type is one of the fields
            fields={**terms.fields, **fields, STATUS_FIELD: "201"},
        )
        grant = await run_in_threadpool(signed_grant, ask.signer, terms)
        signed = {name: value.reveal() for name, value in grant.fields.items()}
        return {
            "method": "POST",
            "url": grant.url,
            "fields": {"key": operation.key, **signed},
            "expires": int(grant.expires_at - ask.signer.clock()),
        }

    async def part(self, ask: _Ask) -> dict[str, Any]:
        (result,) = await ask.signed(ask.of_part(ask.request.path_params["part"]))
        return {"url": result["url"], "expires": result["expires_in"]}

    async def batch(self, ask: _Ask) -> dict[str, Any]:
        numbers = ask.parameter("partNumbers").split(",")
        if len(numbers) > MAX_REQUESTS:
            raise HTTPException(413, f"more than {MAX_REQUESTS} requests")
        results = await ask.signed(*map(ask.of_part, numbers))
        urls = (result["url"] for result in results)
        return {"presignedUrls": dict(zip(numbers, urls, strict=True))}

    # -- calls to the store --------------------------------------------------------------

    async def begin(self, ask: _Ask) -> dict[str, Any]:
        if ask.policy.max_size is not None:
            detail = "the policy has max_size, so parts need a size: send a form"
            raise ServiceError("too_large", detail)
        operation = ask.opening(Action.InitiateMultipartUpload, ask.document)
        calls = await self._calls(ask, operation)
        upload_id, _ = await _sent(calls.initiate)
        return {"key": operation.key, "uploadId": upload_id, "bucket": operation.bucket}

    async def parts(self, ask: _Ask) -> list[dict[str, Any]]:
        stored = await self._stored(ask, ask.of_upload(Action.ListParts))
        return [
            {"PartNumber": number, "ETag": part.etag, "Size": part.size}
            for number, part in sorted(stored.items())
        ]

    async def complete(self, ask: _Ask) -> dict[str, Any]:
        operation = ask.of_upload(Action.CompleteMultipartUpload)
        wanted = _wanted(ask.document)
        # Their sizes and checksums prove the object if the reply is lost.
        stored = await self._stored(ask, operation)
        parts = tuple(stored[number] for number in sorted(wanted) if number in stored)
        if {part.part_number: bare(part.etag) for part in parts} != wanted:
            detail = "the parts that are stored are not those in the list"
            raise ServiceError("invalid_request", detail)
        crc = await run_in_threadpool(_whole_crc, parts)
        calls = await self._calls(ask, operation)
        upload_id = str(operation.upload_id)
        await _sent(calls.complete, upload_id, parts, crc, MultipartGrant())
        bucket, key = operation.bucket, operation.key
        location = ask.signer.endpoint.url(bucket, key)
        return {"location": location, "key": key, "bucket": bucket}

    async def abort(self, ask: _Ask) -> dict[str, Any]:
        operation = ask.of_upload(Action.AbortMultipartUpload)
        calls = await self._calls(ask, operation)
        await _sent(calls.client.call, operation)
        return {}

    async def _stored(self, ask: _Ask, operation: Operation) -> dict[int, PartReceipt]:
        calls = await self._calls(ask, operation)
        upload_id = str(operation.upload_id)
        listing = await _sent(partial(calls.list_parts, page_size=_PAGE), upload_id)
        # The store was asked once more for each full page.
        self.service.limits.spend(ask.policy, len(listing.parts) // _PAGE)
        return dict(listing.parts)

    async def _calls(self, ask: _Ask, operation: Operation) -> OSSCalls:
        options = Options.from_storage_options({"signer": ask.signer, **_PATIENCE})
        self._client = client = await run_in_threadpool(client_for, options)
        return OSSCalls(
            client,
            Target.of(
                path=operation.path,
                headers=operation.headers,
                optional_headers=operation.optional_headers,
            ),
        )


async def _sent(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """Call *function*, which sends to the store, and return its result.

    Errors become HTTPException 404 or 409, or ServiceError.
    """
    try:
        return await awaited(function, *args)
    except OSSPresignedError as error:
        detail = f"the store: {error.message}"
        if isinstance(error, FileNotFoundError):
            raise HTTPException(404, detail) from None
        if isinstance(error, FileExistsError):
            raise HTTPException(409, detail) from None
        code = "unavailable"
        if isinstance(error, PermissionError):
            code = "forbidden"
        elif isinstance(error, InvalidRequestError):
            code = "invalid_request"
        raise ServiceError(code, detail) from None


def _document(request: Request, body: bytes) -> Mapping[str, Any]:
    if request.method != "POST":
        return {}
    # A page of another site could send a form without asking for leave (CORS).
    kind = request.headers.get("content-type", "").partition(";")[0]
    document = None
    if kind.strip().lower() == "application/json":
        document = document_of(body, _MAX_VALUES)
    if not isinstance(document, dict):
        raise HTTPException(400, "the body must be an object in application/json")
    return document


def _wanted(document: Mapping[str, Any]) -> dict[int, str]:
    """Return part number -> ETag without quotes, from ``parts`` of *document*."""
    try:
        wanted = {part["PartNumber"]: bare(part["ETag"]) for part in document["parts"]}
    except (AttributeError, KeyError, TypeError):
        wanted = {}
    if not wanted or not all(map(is_int, wanted)):
        detail = "parts must be a list of objects with PartNumber and ETag"
        raise ServiceError("invalid_request", detail)
    return wanted


def _whole_crc(parts: Sequence[PartReceipt]) -> int | None:
    if any(part.crc64 is None for part in parts):
        return None
    return reduce(lambda crc, part: combine(crc, part.crc64 or 0, part.size), parts, 0)


def _header_text(value: object) -> str:
    """Return a value of metadata as Companion writes it into a header (RFC 2047)."""
    text = value if isinstance(value, str) else json.dumps(value)
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    data = text.encode(errors="replace")
    return f"=?UTF-8?B?{base64.b64encode(data).decode()}?="


def uppy_route(service: Service, origins: Sequence[str]) -> Mount:
    """Return the routes below ``/s3``, for web sites with one of *origins*."""
    uppy = _Uppy(service)

    def route(path: str, answer: _Answer, method: str = "GET") -> Route:
        return Route(path, partial(uppy.respond, answer), methods=[method])

    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("Authorization", "Content-Type"),
    )
    routes = [
        route("/presign", uppy.presign, "POST"),
        route("/params", uppy.params),
        route("/multipart", uppy.begin, "POST"),
        route("/multipart/{upload}", uppy.parts),
        route("/multipart/{upload}", uppy.abort, "DELETE"),
        route("/multipart/{upload}/batch", uppy.batch),
        route("/multipart/{upload}/{part}", uppy.part),
        route("/multipart/{upload}/complete", uppy.complete, "POST"),
    ]
    # A redirect would lead to the host that the client names.
    router = Router(routes, redirect_slashes=False, middleware=[cors])
    return Mount("/s3", router)

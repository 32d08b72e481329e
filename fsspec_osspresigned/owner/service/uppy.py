"""Route ``/s3/presign`` for Uppy, an uploader for web sites.

The function ``signRequest`` of Uppy's plugin AwsS3 calls this route. The plugin then
sends each request to the store itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from attrs import evolve
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router

from ...errors import OSSPresignedError
from ...filesystem.put import media_type
from ...model import OPERATIONS, Action, Operation, split_path
from ...signers.base import MAX_REQUESTS, signed_each
from ...signers.wire_protocol import MAX_REQUEST_BODY
from .app import AccessRecord, Service, document_of, operation_of, result_of
from .policy import Policy, ServiceError, object_path, permitted

# HTTP method, has uploadId, has partNumber -> action.
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
_LIST_OF_PARTS = {"Content-Type": "application/xml"}  # header that Uppy sends
_BINARY = "application/octet-stream"  # type that Uppy assumes for a file without a type
_SET_BY_BROWSERS = ("content-length", "host")
_MAX_MARKS = 200  # maximum brackets, braces and commas in the JSON of a request


async def _presign(service: Service, request: Request, call: AccessRecord) -> Response:
    _, policy = service.admitted(request, call)
    limits = service.limits
    limits.charge(policy)
    async with limits.turn(policy, request.stream()) as body:
        rules, policy = service.admitted(request, call)
        limits.charge(policy, max(1, len(body) * MAX_REQUESTS // MAX_REQUEST_BODY))
        call.requests = 1
        if policy.has_quota:
            detail = "uploads of Uppy are not counted, and this token has a quota"
            raise ServiceError("action_not_granted", detail)
        operation = _operation(request, _document(request, body), policy)
        call.paths = (operation.path,)
        operation = permitted(operation, policy)
        if operation.action is Action.CompleteMultipartUpload:
            sent = {**operation.headers, **_LIST_OF_PARTS}
            operation = evolve(operation, headers=sent)
        (outcome,) = await run_in_threadpool(
            signed_each, rules.signer, [operation], OSSPresignedError
        )
    result = result_of(outcome, operation, policy)
    if error := result.get("error"):
        raise ServiceError(error["code"], error["detail"])
    headers = {
        name: value
        for name, value in result["headers"].items()
        if name.lower() not in _SET_BY_BROWSERS
    }
    reply = {"url": result["url"], "key": operation.key, "headers": headers}
    return JSONResponse(reply, headers={"Cache-Control": "no-store"})


def _document(request: Request, body: bytes) -> Mapping[str, Any]:
    # A page of another site could send a form without asking for permission (CORS).
    kind = request.headers.get("content-type", "").partition(";")[0]
    document = None
    if kind.strip().lower() == "application/json":
        document = document_of(body, _MAX_MARKS)
    if not isinstance(document, dict):
        raise HTTPException(400, "the body must be an object in application/json")
    return document


def _operation(request: Request, given: Mapping[str, Any], policy: Policy) -> Operation:
    """Return the OSS call that Uppy requests; its key is below the policy's prefix.

    ServiceError if Uppy sends no such request.
    """
    key, method = given.get("key"), str(given.get("method"))
    action = _SIGNED.get((method, "uploadId" in given, "partNumber" in given))
    if action is None or not key or not isinstance(key, str):
        detail = "Uppy sends no request with this method and these members"
        raise ServiceError("invalid_request", detail)
    bucket, key = split_path(object_path(policy, request.query_params, key))
    members = {
        "upload_id": given.get("uploadId"),
        "part_number": given.get("partNumber"),
        "content_length": given.get("contentLength"),
        "expires_in": given.get("expiresIn"),
    }
    item = {"action": action, "bucket": bucket, "key": key, "headers": {}}
    item |= {name: value for name, value in members.items() if value is not None}
    if action in _TYPED:
        # Uppy sends a Content-Type with each of these requests, and OSS accepts only a
        # signed one.
        kind = given.get("contentType") or media_type(key)
        item["headers"] = {"Content-Type": kind or _BINARY}
    return operation_of(item, OPERATIONS, is_sized=False)


def uppy_route(service: Service, origins: Sequence[str]) -> Mount:
    """Return the route ``/s3/presign``, for web sites with one of *origins*."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("POST",),
        allow_headers=("Authorization", "Content-Type"),
    )
    presign = service.recorded(partial(_presign, service))
    route = Route("/presign", presign, methods=["POST"])
    # A redirect would lead to a host that the client chooses.
    router = Router([route], redirect_slashes=False, middleware=[cors])
    return Mount("/s3", router)

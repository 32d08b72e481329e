"""Client side of signer protocol 1: requests, results, errors, and checks of URLs."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import asdict, evolve, frozen

from .. import parsing
from ..errors import (
    ConfigurationError,
    NotCoveredError,
    OSSPresignedError,
    SignerError,
    SignerUnavailableError,
    TooLargeError,
)
from ..model import OBJECT_ACL, THRESHOLD, Action, Operation, Reply
from ..other_stores import S3_ACL, S3_GRANT, S3_HEADER, S3_KEY_V2
from ..secret import HiddenMapping, Secret, redact, without
from ..signing.canonical import OWN_PARAMETERS
from ..units import KIB, MIB, shown_bytes
from ..url_checks import (
    decoded_path,
    http_problem,
    is_loopback,
    oss_bucket,
    url_problem,
    with_plus,
)
from .base import MAX_REQUESTS, Permissions

MAX_REQUEST_BODY = MIB
MAX_REPLY = 4 * MIB
MAX_TOKEN = 4 * KIB
# RFC 6750, section 2.1: b64token.
is_bearer_token = re.compile(r"[A-Za-z0-9._~+/-]+=*").fullmatch
# For signatures that a check requests and does not use.
SAMPLE_UPLOAD_ID = "0004B9895DBBB6EC98E3"
JSON_HEADERS = {
    "Accept": "application/json, application/problem+json",
    "Content-Type": "application/json",
}
_MAX_DEPTH = 16
_MAX_DETAIL = 300
_MAX_WAIT = 1_000_000  # seconds; eleven days
_MAX_NUMBER = 2**53
_NUMBERS = ("expires_in", "max_expires_in", "max_size", "objects_left", "bytes_left")
_QUERY = re.compile(r"(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*", re.IGNORECASE)
_ANY = "BUCKET"  # placeholder in messages if a server may choose the bucket
_FRAME = len('{"requests": []}')

_UNGRANTED = "action_not_granted"
# Code of a refused item -> HTTP status.
ITEM_STATUS = {
    "invalid_request": 400,
    **dict.fromkeys((_UNGRANTED, "forbidden", "header_refused"), 403),
    "quota_exceeded": 403,
    "too_large": 413,
    "unavailable": 503,
}
_FAMILIES: dict[int, type[OSSPresignedError]] = {
    400: ConfigurationError,
    401: NotCoveredError,
    403: NotCoveredError,
    413: TooLargeError,
}
_HINTS = {
    401: "check signer_token=, or ask the owner for a new token",
    404: "check its URL, to which /v1/sign is appended",
    413: "even a single request is too large for it",
    **dict.fromkeys(range(300, 400), "redirects are not followed: give its final URL"),
}
_PARTS_NEEDED = (
    f"objects above multipart_threshold= ({shown_bytes(THRESHOLD)}) go in parts: ask for "
    "InitiateMultipartUpload, UploadPart and CompleteMultipartUpload, or raise it"
)
# Parameters that a signer may add, because they do not change the call: signatures,
# limits of rate and of addresses, payer, callback, CDN signatures (auth_key) and x-id
# of S3's SDKs. Any other parameter may select a different call, now or in a later
# version of OSS.
_SIGNERS_OWN = {
    *OWN_PARAMETERS,
    S3_KEY_V2,
    *"""
    callback callback-var x-oss-callback x-oss-callback-var x-oss-ac-forward-allow
    x-oss-ac-source-ip x-oss-ac-subnet-mask x-oss-ac-vpc-id x-oss-request-payer
    x-oss-traffic-limit x-id auth_key
    """.split(),  # noqa: SIM905 - a list of quoted names is not readable
}
# S3's names of headers, form fields and parameters that give others access to an
# object.
_is_acl = re.compile(
    rf"acl|x-oss-acl|{OBJECT_ACL}|{S3_ACL}|{S3_GRANT}.*", re.DOTALL
).fullmatch
_CLOSED = ("default", "private", "bucket-owner-full-control", "bucket-owner-read")


def acl_problem(given: Mapping[str, str], operation: Operation) -> str | None:
    """Return why *given* (headers or fields from a server) would make an object public.

    None if they would not, or if *operation* requests this.
    """
    requested = {n.lower(): v for n, v in operation.headers.items()}.get(OBJECT_ACL)
    for name, value in given.items():
        # A value outside this list may be a public ACL of some store.
        if _is_acl(name.lower()) and value not in (*_CLOSED, requested):
            shown = repr(value[:40])
            return f"{name} gives others access: give acl={shown} to confirm"
    return None


def bearer(token: Secret | None) -> dict[str, str]:
    """Return the header with the bearer *token*; empty for None.

    A token ``user:password``, which few sources permit, is sent as Basic (RFC 7617).
    Callers must not assign the result to a variable, because a traceback could show it.
    """
    if token is None:
        return {}
    if ":" not in token.reveal():
        return HiddenMapping(Authorization=f"Bearer {token.reveal()}")
    encoded = b64encode(token.reveal().encode()).decode()
    return HiddenMapping(Authorization=f"Basic {encoded}")


def without_token(reply: Reply, token: Secret | None) -> Reply:
    """Return *reply* with *token* hidden in its body, because a server may repeat it.

    The password of ``user:password`` is hidden only in error replies, because it may be
    a common word that is also in URLs.
    """
    body = reply.body
    for form in _repeated(token, is_good=reply.is_good):
        body = without(body, form.reveal())
    return evolve(reply, body=body)


def _repeated(token: Secret | None, *, is_good: bool) -> Iterator[Secret]:
    """Yield the forms in which a server may repeat *token*, apart from escapes."""
    if token is None:
        return
    yield token
    if ":" in token.reveal():
        yield Secret(b64encode(token.reveal().encode()).decode().rstrip("="))
        password = Secret(token.reveal().partition(":")[2])
        if not is_good:
            yield password
            # a form sends blanks as pluses
            yield Secret(password.reveal().replace(" ", "+"))


@frozen(kw_only=True)
class SignerProblem:
    """Error of a signer service (RFC 9457); *detail* is redacted."""

    status: int
    code: str = ""
    detail: str = ""
    retry_after: float | None = None


@frozen(kw_only=True)
class SignerReply:
    """One signed request as the signer service returned it, not yet checked."""

    method: str
    url: str
    headers: Mapping[str, Any]
    expires_in: int | None


def encode(operation: Operation) -> str:
    """Return *operation* as the JSON of one request, without empty values."""
    members = asdict(
        operation,
        filter=lambda each, value: bool(each.eq) and value not in (None, "", {}),
    )
    return json.dumps(members, default=dict)  # ``dict`` converts the read-only mappings


def batches(items: Sequence[str]) -> Iterator[range]:
    """Yield index ranges of encoded *items* that each fit into one call."""
    start, size = 0, _FRAME
    for index, item in enumerate(items):
        length = len(item) + 2
        is_full = index - start == MAX_REQUESTS or size + length > MAX_REQUEST_BODY
        if is_full and index > start:
            yield range(start, index)
            start, size = index, _FRAME
        size += length
    if start < len(items):
        yield range(start, len(items))


def body(items: Sequence[str]) -> bytes:
    return f'{{"requests": [{", ".join(items)}]}}'.encode()


def decode(data: bytes, count: int) -> list[SignerReply | SignerProblem]:
    """Return the results of a 200 reply to *count* requests, in their order.

    Raises ValueError if the reply violates the protocol.
    """
    reply = parsing.loads(data, max_depth=_MAX_DEPTH)
    results = reply.get("results") if isinstance(reply, dict) else None
    if not isinstance(results, list):
        raise ValueError("it has no list of results")  # noqa: TRY004 - the reply is invalid
    if len(results) != count:
        raise ValueError(f"it has {len(results)} results for {count} requests")
    return [_result(result, f"results[{i}]") for i, result in enumerate(results)]


def _result(result: Any, pointer: str) -> SignerReply | SignerProblem:
    if not isinstance(result, dict):
        raise ValueError(f"{pointer} is {parsing.kind(result)}")  # noqa: TRY004 - the reply is invalid
    if "error" in result:
        error = result["error"]
        if not isinstance(error, dict) or not parsing.is_int(error.get("status")):
            raise ValueError(f"{pointer}.error has no status")
        return problem_of(error, error["status"])
    if not parsing.is_int(result.get("expires_in", 0)):
        raise ValueError(f"{pointer}.expires_in is not a whole number")
    for name, expected in (("method", str), ("url", str), ("headers", dict)):
        if not isinstance(result.get(name, {}), expected):
            shown = parsing.kind(result[name]) if name in result else "missing"
            raise ValueError(f"{pointer}.{name} is {shown}")  # noqa: TRY004 - the reply is invalid
    return SignerReply(
        method=result["method"],
        url=result["url"],
        headers=result.get("headers", {}),
        expires_in=result.get("expires_in"),
    )


def decode_permissions(data: bytes, sent_at: float) -> Permissions:
    """Return the permissions in a 200 reply to a call that was sent at *sent_at*.

    *sent_at* is in seconds since the epoch. Raises ValueError if the reply violates the
    protocol.
    """
    reply = parsing.loads(data, max_depth=_MAX_DEPTH)
    if not isinstance(reply, dict):
        raise ValueError(f"it is {parsing.kind(reply)}")  # noqa: TRY004 - the reply is invalid
    for name in ("prefixes", "actions", "content_types"):
        values = reply.get(name, [] if name == "content_types" else None)
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise ValueError(f"{name} is not a list of strings")
    for name in _NUMBERS:
        number = reply.get(name, 0)
        if not parsing.is_int(number) or not 0 <= number <= _MAX_NUMBER:
            raise ValueError(f"{name} is not a whole number")
    if not isinstance(reply.get("overwrite", True), bool):
        raise ValueError("overwrite is neither true nor false")  # noqa: TRY004
    types, life = reply.get("content_types"), reply.get("expires_in")
    return Permissions(
        prefixes=tuple(reply["prefixes"]),
        actions=tuple(reply["actions"]),
        overwrite=reply.get("overwrite", True),
        max_expires_in=reply.get("max_expires_in"),
        max_size=reply.get("max_size"),
        content_types=None if types is None else tuple(types),
        expires_at=None if life is None else sent_at + life,
        objects_left=reply.get("objects_left"),
        bytes_left=reply.get("bytes_left"),
    )


def problem_of(members: Mapping[str, Any], status: int) -> SignerProblem:
    """Return the problem in the JSON object *members*; ignore invalid values."""
    code, wait = members.get("code"), members.get("retry_after")
    detail = members.get("detail") or members.get("title") or ""
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        wait = -1.0
    return SignerProblem(
        status=status,
        code=code[:60] if isinstance(code, str) and code.isprintable() else "",
        detail=clean(detail) if isinstance(detail, str) else "",
        retry_after=float(wait) if 0 <= wait < _MAX_WAIT else None,
    )


def problem_of_reply(reply: Reply) -> SignerProblem:
    """Return the problem in *reply*, which has an error status and any body."""
    members: Any = None
    if "json" in reply.headers.get("content-type", ""):
        with suppress(ValueError):
            members = parsing.loads(reply.body, max_depth=_MAX_DEPTH)
    known = dict(members) if isinstance(members, dict) else {}
    wait = reply.headers.get("retry-after", "").strip()
    if wait.isdecimal() and len(wait) < len(str(_MAX_WAIT)):
        known["retry_after"] = int(wait)
    return problem_of(known, reply.status)


def clean(text: str) -> str:
    """Return *text* shortened, without URL queries, signatures and control characters."""
    text = redact(_QUERY.sub(r"\1?...", text))
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_DETAIL].strip()


def error_of_item(problem: SignerProblem, operation: Operation) -> OSSPresignedError:
    """Return the exception for *problem*, the service's refusal of one *operation*.

    Its class depends on the code of *problem*, or else on the status.
    """
    status = ITEM_STATUS.get(problem.code, problem.status)
    family = _FAMILIES.get(status, signer_error(status))
    text, hint = f"the signer refused {operation}", None
    action = operation.action
    is_sized = operation.content_length is not None or not action.spec.body
    if problem.code == "invalid_request" and not is_sized:
        hint = "the signer needs the exact size of the body: give size="
    if problem.code == _UNGRANTED and action is Action.InitiateMultipartUpload:
        hint = _PARTS_NEEDED
    return _error(family, text, problem, operation, hint)


def error_of_call(
    reply: Reply, operation: Operation | None, host: str, *, had_token: bool
) -> OSSPresignedError:
    """Return the exception for *reply* to a whole call, which contains *operation*."""
    problem = problem_of_reply(reply)
    status, hint = problem.status, _HINTS.get(problem.status)
    if status == 401 and not had_token:  # noqa: PLR2004 - HTTP status
        hint = "no token was given: set signer_token="
    elif status == 401 and "expired" in problem.detail:  # noqa: PLR2004 - HTTP status
        hint = "ask the owner for a new one"
    text = f"the signer at {host} refused the call with HTTP {status}"
    return _error(signer_error(status), text, problem, operation, hint)


def signer_error(status: int) -> type[SignerError]:
    passes = status >= 500 or status == 429  # noqa: PLR2004 - HTTP status
    return SignerUnavailableError if passes else SignerError


def _error(
    family: type[OSSPresignedError],
    text: str,
    problem: SignerProblem,
    operation: Operation | None,
    hint: str | None = None,
) -> OSSPresignedError:
    code = f"({problem.code})" if problem.detail and problem.code else problem.code
    reason = " ".join(filter(None, (problem.detail, code)))
    text += (f": {reason}" if reason else "") + (f"; {hint}" if hint else "")
    error = family(text, path=operation.path if operation else None)
    error.status, error.code = problem.status, problem.code or None
    error.action = operation.action if operation else None
    error.retry_after = problem.retry_after
    if isinstance(error, NotCoveredError):
        error.final = problem.code == _UNGRANTED
    return error


@frozen(kw_only=True)
class URLBinding:
    """Checks that a signed URL permits the requested operation and no other."""

    signer_host: str  # the store may be on the same host
    # Host, with or without port -> its bucket; None permits any bucket.
    allowed_hosts: Mapping[str, str | None]
    allow_http: bool = False

    def problem(self, operation: Operation, url: str) -> str | None:
        """Return why *url* does not match *operation* exactly; None if it does.

        An operation without a bucket permits any bucket at a permitted host. The text
        names the host, rule or option, but no part of the query.
        """
        # Only a signer on this machine may return URLs of this machine.
        problem = url_problem(url) or http_problem(
            url, allow_http=self.allow_http, local=is_loopback(self.signer_host)
        )
        if problem:
            return f"the URL {problem}"
        try:
            # A plus may mean a blank or a plus; the request is changed so that it means
            # the key (as_read).
            paths = {decoded_path(url), decoded_path(with_plus(url))}
        except ValueError:
            return "the path of the URL is not UTF-8"
        problem = self._host_problem(operation, url, paths)
        return problem or _query_problem(operation, url)

    def _host_problem(
        self, operation: Operation, url: str, paths: set[str]
    ) -> str | None:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        allowed, spec = self.allowed_hosts, operation.action.spec
        names = [name for name in (parts.netloc.lower(), host) if name in allowed]
        # A form contains the key as a field, and is sent to the root of the bucket.
        bucket, key = operation.bucket, "" if spec.form else operation.key
        keys = {key}
        bound = allowed[names[0]] if names else oss_bucket(host)
        if bound and not names and parts.port not in (None, 80, 443):
            return f"hosts of OSS do not listen on port {parts.port}"
        if bound is None:
            if not names and host != self.signer_host.lower():
                return (
                    f"the host {host} is neither an OSS host nor that of the server: if it "
                    f'is right, allow it with allowed_hosts={{"{host}": "{bucket or _ANY}"}}'
                )
            keys |= {f"{bucket}/{key}", operation.path}
        elif bucket and bound != bucket:
            return f"the host {host} belongs to bucket {bound!r}, not to {bucket!r}"
        if keys.isdisjoint(paths):
            return f"the path of the URL at {host} is not that of {operation.path!r}"
        return None


def _query_problem(operation: Operation, url: str) -> str | None:
    raw: dict[str, str] = {}
    for item in urlsplit(url).query.split("&"):
        name, _, value = item.partition("=")
        name = unquote(name)
        if name in raw:
            return f"the parameter {name[:40]!r} appears twice in the URL"
        raw[name] = value
    wanted = {**operation.query, **operation.parameters}
    for name, value in wanted.items():
        if name not in raw:
            return f"the parameter {name!r} is missing from the URL"
        if value not in (unquote(raw[name]), unquote(raw[name].replace("+", " "))):
            return f"the parameter {name!r} of the URL differs from the request"
    for name in sorted(raw.keys() - wanted.keys() - _SIGNERS_OWN):
        if name and not name.lower().startswith(S3_HEADER):
            # parameters of S3 signatures are permitted
            return f"the parameter {name[:40]!r} may turn the URL into another call"
        if problem := acl_problem({name: unquote(raw[name])}, operation):
            return f"the parameter {problem}"
    return None

"""Signer protocol 1 on the client's side: what is asked, and what the answers mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from attrs import frozen

from .. import parsing
from ..errors import (
    ConfigurationError,
    NotSignedError,
    OSSPresignedError,
    SignerError,
    SignerUnavailableError,
    TooLargeError,
)
from ..model import Operation
from ..secret import redact
from ..signing.canonical import SUBRESOURCES
from ..units import MIB
from ..urls import decoded_path, http_problem, oss_bucket, url_problem
from .base import MAX_REQUESTS

# Whether a signed URL is for what was asked, and for nothing else. Pure.

# Sub-resources that a signer may add by itself, because they change no meaning.
_SIGNERS_OWN = frozenset(("security-token", "callback", "callback-var"))
# Not sub-resources of the V1 signature, but they choose the call all the same.
_CHOOSING = frozenset(("list-type", "x-oss-process", "x-oss-async-process"))


def check(
    operation: Operation,
    url: str,
    *,
    signer_host: str,
    allowed_hosts: Mapping[str, str | None],
    allow_http: bool,
    loopback_signer: bool,
) -> str | None:
    """Return why *url* is not a URL for *operation*; None if it is.

    The answer names host, rule or option, never a piece of the query.

    Args:
        operation: what was asked.
        url: what a party elsewhere signed.
        signer_host: host name of the signer, which may be the store's too.
        allowed_hosts: host, with or without port -> its bucket; None: any bucket.
        allow_http: plain http may leave this machine.
        loopback_signer: the signer runs on this machine, so it may lead to it.
    """
    problem = url_problem(url) or http_problem(
        url, allow_http=allow_http, local=loopback_signer
    )
    if problem:
        return f"the URL {problem}"
    try:
        path = decoded_path(url)
    except ValueError:
        return "the path of the URL is not UTF-8"
    return _host_problem(
        operation, url, path, signer_host, allowed_hosts
    ) or _query_problem(operation, url)


def _host_problem(
    operation: Operation,
    url: str,
    path: str,
    signer_host: str,
    allowed_hosts: Mapping[str, str | None],
) -> str | None:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    names = [name for name in (parts.netloc.lower(), host) if name in allowed_hosts]
    bucket, key = operation.bucket, operation.key
    keys = {key}
    bound = oss_bucket(host) if not names else allowed_hosts[names[0]]
    if bound is None:
        if not names and host != signer_host.lower():
            return (
                f"the host {host} is neither of OSS nor the signer's own: if it is "
                f'right, allow it by allowed_hosts={{"{host}": "{bucket}"}}'
            )
        keys.add(f"{bucket}/{key}")
        if not key:
            keys.add(bucket)
    elif bound != bucket:
        return f"the host {host} is of bucket {bound!r}, asked was {bucket!r}"
    if path not in keys:
        return f"the path of the URL at {host} is not that of {operation.path!r}"
    return None


def _query_problem(operation: Operation, url: str) -> str | None:
    found: dict[str, str] = {}
    for item in urlsplit(url).query.split("&"):
        name, _, value = item.partition("=")
        name = unquote(name)
        if name in found:
            return f"the parameter {name[:40]!r} comes twice in the URL"
        found[name] = value
    wanted = {**operation.query, **operation.parameters}
    for name, value in wanted.items():
        if name not in found:
            return f"the parameter {name!r} is missing from the URL"
        if value not in (unquote(found[name]), unquote(found[name].replace("+", " "))):
            return f"the parameter {name!r} of the URL is not the one asked for"
    for name in found.keys() - wanted.keys() - _SIGNERS_OWN:
        if name in _CHOOSING or name in SUBRESOURCES:
            return f"the parameter {name[:40]!r} makes the URL another call"
    return None


E = TypeVar("E", bound=OSSPresignedError)

MAX_REQUEST_BODY = MIB
MAX_REPLY = 4 * MIB
_MAX_DEPTH = 16
_MAX_DETAIL = 300
_QUERY = re.compile(r"(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*", re.IGNORECASE)
_FRAME = len('{"requests": []}')


@frozen(kw_only=True)
class Problem:
    """Why a call or an item was refused (RFC 9457 members).

    Attributes:
        status: HTTP status.
        code: of the protocol, or unknown; empty if there is none.
        detail: for people, redacted.
        retry_after: seconds that the signer asks to wait; None if it does not.
    """

    status: int
    code: str = ""
    detail: str = ""
    retry_after: float | None = None


@frozen(kw_only=True)
class Answer:
    """What a signer wants sent, not yet checked against what was asked."""

    method: str
    url: str
    headers: Mapping[str, Any]
    expires_in: int | None


def encode(operation: Operation) -> str:
    """Return the JSON of one request; members that say nothing are left out."""
    members: dict[str, Any] = {"action": operation.action, "bucket": operation.bucket}
    if operation.key:
        members["key"] = operation.key
    for name in ("upload_id", "part_number", "content_length", "expires_in"):
        value = getattr(operation, name)
        if value is not None:
            members[name] = value
    for name in ("headers", "optional_headers", "query"):
        value = getattr(operation, name)
        if value:
            members[name] = dict(value)
    return json.dumps(members)


def batches(items: Sequence[str]) -> Iterator[range]:
    """Yield index ranges of encoded *items* that each fit into one call."""
    start, size = 0, _FRAME
    for index, item in enumerate(items):
        more = len(item) + 2
        full = index - start == MAX_REQUESTS or size + more > MAX_REQUEST_BODY
        if full and index > start:
            yield range(start, index)
            start, size = index, _FRAME
        size += more
    if start < len(items):
        yield range(start, len(items))


def body(items: Sequence[str]) -> bytes:
    """Return the body of a call for encoded *items*."""
    return f'{{"requests": [{", ".join(items)}]}}'.encode()


def decode(data: bytes, count: int) -> list[Answer | Problem]:
    """Return the results of a 200 reply to *count* requests, in their order.

    Raises:
        ValueError: the reply as a whole breaks the protocol; the message says how.
    """
    reply = parsing.loads(data, max_depth=_MAX_DEPTH)
    results = reply.get("results") if isinstance(reply, dict) else None
    if not isinstance(results, list):
        raise ValueError("it has no list of results")  # noqa: TRY004 - bad data
    if len(results) != count:
        msg = f"it has {len(results)} results for {count} requests"
        raise ValueError(msg)
    return [_result(result, f"results[{i}]") for i, result in enumerate(results)]


def _result(result: Any, place: str) -> Answer | Problem:
    if not isinstance(result, dict):
        msg = f"{place} is {parsing.kind(result)}"
        raise ValueError(msg)  # noqa: TRY004 - bad data
    if "error" in result:
        error = result["error"]
        if not isinstance(error, dict) or not parsing.is_int(error.get("status")):
            msg = f"{place}.error has no status"
            raise ValueError(msg)
        return problem_of(error, error["status"])
    expires_in = result.get("expires_in")
    if "expires_in" in result and not parsing.is_int(expires_in):
        msg = f"{place}.expires_in is no whole number"
        raise ValueError(msg)
    for name, kind in (("method", str), ("url", str), ("headers", dict)):
        if not isinstance(result.get(name, {}), kind):
            shown = parsing.kind(result[name]) if name in result else "missing"
            msg = f"{place}.{name} is {shown}"
            raise ValueError(msg)  # noqa: TRY004 - bad data
    return Answer(
        method=result["method"],
        url=result["url"],
        headers=result.get("headers", {}),
        expires_in=expires_in,
    )


def problem_of(members: Mapping[str, Any], status: int) -> Problem:
    """Return the problem that *members* describe, as far as they are of use."""
    code, wait = members.get("code"), members.get("retry_after")
    detail = members.get("detail") or members.get("title") or ""
    if isinstance(wait, bool) or not isinstance(wait, (int, float)):
        wait = -1.0
    return Problem(
        status=status,
        code=code[:60] if isinstance(code, str) and code.isprintable() else "",
        detail=clean(detail) if isinstance(detail, str) else "",
        retry_after=float(wait) if 0 <= wait < 1e6 else None,  # noqa: PLR2004 - eleven days
    )


def problem_of_reply(status: int, headers: Mapping[str, str], data: bytes) -> Problem:
    """Return the problem of a reply that is not 200; any body will do."""
    members: Any = None
    if "json" in headers.get("content-type", ""):
        try:
            members = parsing.loads(data, max_depth=_MAX_DEPTH)
        except ValueError:
            members = None
    asked = headers.get("retry-after", "").strip()
    known = dict(members) if isinstance(members, dict) else {}
    if asked.isdecimal() and len(asked) < 7:  # noqa: PLR2004 - eleven days
        known["retry_after"] = int(asked)
    return problem_of(known, status)


def clean(text: str) -> str:
    """Return others' *text* for a message: without queries, signatures, controls."""
    text = redact(_QUERY.sub(r"\1?...", text))
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_DETAIL].strip()


# HTTP status of each code of an item.
ITEM_STATUS = {
    "invalid_request": 400,
    **dict.fromkeys(("action_not_granted", "forbidden", "header_refused"), 403),
    "too_large": 413,
    "unavailable": 503,
}
# What an item's code means to the user, by class; final: refused in all the bucket.
_BY_CODE: dict[str, type[OSSPresignedError]] = {
    "invalid_request": ConfigurationError,
    "action_not_granted": NotSignedError,
    "forbidden": NotSignedError,
    "header_refused": NotSignedError,
    "too_large": TooLargeError,
    "unavailable": SignerUnavailableError,
}
_BY_STATUS: dict[int, type[OSSPresignedError]] = {
    400: ConfigurationError,
    401: NotSignedError,
    403: NotSignedError,
    413: TooLargeError,
    429: SignerUnavailableError,
}


def error_of_item(problem: Problem, operation: Operation) -> OSSPresignedError:
    """Return the exception for a refused item; unknown codes go by their status."""
    fallback = SignerUnavailableError if problem.status >= 500 else SignerError  # noqa: PLR2004 - HTTP status class
    family = _BY_CODE.get(problem.code) or _BY_STATUS.get(problem.status, fallback)
    text = f"the signer refused {operation}{_reason(problem)}"
    return _filled(family, text, problem, operation)


def error_of_call(problem: Problem, operation: Operation, host: str) -> SignerError:
    """Return the exception for a call that was refused as a whole."""
    hints = {
        401: "check signer_token=",
        404: "is its URL right? /v1/sign is added to it",
        413: "even a single request is too large for it",
    }
    passes = problem.status >= 500 or problem.status == 429  # noqa: PLR2004 - HTTP status
    family = SignerUnavailableError if passes else SignerError
    hint = hints.get(problem.status)
    if 300 <= problem.status < 400:  # noqa: PLR2004 - HTTP status class
        hint = "redirects are not followed: give its final URL"
    text = f"the signer at {host} refused the call with HTTP {problem.status}"
    text += _reason(problem) + (f"; {hint}" if hint else "")
    return _filled(family, text, problem, operation)


def _reason(problem: Problem) -> str:
    said = " ".join(
        filter(None, (problem.code, problem.detail and f"({problem.detail})"))
    )
    return f": {said}" if said else ""


def _filled(family: type[E], text: str, problem: Problem, operation: Operation) -> E:
    error = family(text, path=operation.path)
    error.status = problem.status
    error.code = problem.code or None
    error.action = operation.action
    error.retry_after = problem.retry_after
    if isinstance(error, NotSignedError):
        error.final = problem.code == "action_not_granted"
    return error

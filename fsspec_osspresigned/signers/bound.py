"""Signed requests from upload servers, each checked against its operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import evolve

from ..errors import WrongRequestSignedError
from ..model import Operation, SignedRequest
from ..secret import SecretURL
from ..signing.signed_url import describe
from ..url_checks import decoded_path, header_problems, url_problem
from .s3_checksums import CHECKSUMS
from .wire_protocol import URLBinding, acl_problem

# headers for which the client sends its own value
_DROPPED = {"host", "content-length", "cache-control"}
_SENT_ANYWAY = {"host", "content-length", *CHECKSUMS}
_COPIES = ("copy-source", "symlink-target")


def bound_request(
    operation: Operation,
    url: SecretURL,
    headers: Mapping[str, str],
    binding: URLBinding,
    *,
    issued_at: float,
    lifetime: float | None = None,
    key: str | None = None,
    location: str | None = None,
    is_own: bool = False,
) -> SignedRequest:
    """Return the signed request with *url* and *headers* from an upload server.

    *operation* has the upload ID of the store. *key* is the server's name for the
    object; None accepts any key. *lifetime* is in seconds from *issued_at*; None uses
    the expiry time in the URL. *is_own* means that the URL leads to the server itself,
    so the server may add an Authorization header. Raises WrongRequestSignedError if the
    URL is for another call or host.
    """
    signed = describe(url)
    sent = {n: v for n, v in headers.items() if n.lower() not in _DROPPED}
    if "content-type" in signed.additional_headers and "content-type" not in {
        name.lower() for name in sent
    }:
        sent["Content-Type"] = type_of(operation)  # the type that the server was told
    acl, own = acl_problem(sent, operation), {"authorization"} if is_own else set()
    problems = (
        *_target_problems(operation, url, binding, key),
        *header_problems({n: v for n, v in sent.items() if n.lower() not in own}),
        *_name_problems({n.lower() for n in sent}, signed.additional_headers),
        *([f"the header {acl}"] if acl else []),
    )
    if problems:
        part = f"part {operation.part_number} of " if operation.part_number else ""
        what = part + (operation.path or "the object")
        text = f"the upload server's URL for {what} is refused: {problems[0]}"
        raise WrongRequestSignedError(
            text, path=operation.path, action=operation.action
        )
    return SignedRequest(
        method=operation.action.method,
        url=url,
        headers=sent,
        issued_at=issued_at,
        expires_at=signed.expires_at if lifetime is None else issued_at + lifetime,
        location=location,
    )


def type_of(operation: Operation) -> str:
    """Return the content type of the object, by default application/octet-stream."""
    headers = {**operation.optional_headers, **operation.headers}
    types = (v for name, v in headers.items() if name.lower() == "content-type")
    return next(types, "application/octet-stream")


def _target_problems(
    operation: Operation, url: SecretURL, binding: URLBinding, key: str | None
) -> Iterator[str]:
    """Yield why *url* does not store data as *key* at a permitted host."""
    if problem := url_problem(url.reveal()):
        yield f"the URL {problem}"
        return
    # Permits any bucket and key that the server chooses, at a permitted host. The
    # fields of a form contain bucket and key, so its path is empty or names the bucket.
    path = decoded_path(url.reveal(), "replace")
    target = evolve(operation, bucket="", key=path, query={})
    if operation.action.spec.form:
        target = evolve(target, bucket=path.rstrip("/"), key="")
    elif key is not None and not f"/{path}".endswith(f"/{key}"):
        yield f"the URL is for another object than {key!r}"
    if problem := binding.problem(target, url.reveal()):
        yield problem


def _name_problems(names: set[str], signed: tuple[str, ...]) -> Iterator[str]:
    if any(name.endswith(_COPIES) for name in names):
        yield "a header would copy another object"
    if lacking := sorted({*signed} - names - _SENT_ANYWAY):
        yield f"its URL was signed with {', '.join(lacking)}, which is not given"

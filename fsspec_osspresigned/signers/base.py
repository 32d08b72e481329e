"""Signer interface, the uploads that a signer grants, and checks of its results."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, runtime_checkable

from attrs import frozen

from ..errors import ConfigurationError, NotSignedError, OSSPresignedError, SignerError
from ..model import MAX_PARTS, MIN_PART, Action, Operation, SignedRequest
from ..secret import FormValue

MAX_REQUESTS = 100  # operations of one call, where a signer signs by calls

Outcome: TypeAlias = SignedRequest | OSSPresignedError


@frozen(kw_only=True)
class MultipartGrant:
    """Multipart upload that a signer permits for one object.

    Attributes:
        upload_id: ID of an upload that the owner initiated; None if the client
            initiates it.
        part_size: size in bytes of every part except the last; None leaves it to the
            client.
        least_part: minimum part size of the store in bytes.
        completes: False if the owner completes the upload from the receipts.
        complete_all: True if the signed Complete has no part list
            (``x-oss-complete-all``).
        complete_all_proven: True if ListParts is signed too, so stored parts can be
            verified.
    """

    upload_id: str | None = None
    part_size: int | None = None
    least_part: int = MIN_PART
    max_parts: int = MAX_PARTS
    completes: bool = True
    complete_all: bool = False
    complete_all_proven: bool = False

    @property
    def is_owners(self) -> bool:
        """True if the owner initiated the upload, so the client must not abort it."""
        return self.upload_id is not None


@frozen(kw_only=True)
class Grant:
    """Ways in which a signer permits uploading one object.

    Attributes:
        single: True if one request that stores the whole object can be signed.
        action: the call of that request; PostObject sends a form instead of a PUT.
        largest: maximum size in bytes of that request; None is the limit of OSS.
        multipart: the multipart upload that can be signed; None if it is not granted.
        expires_at: expiry time of the first request, seconds since the epoch; None if
            unknown.
    """

    single: bool = True
    action: Action = Action.PutObject
    largest: int | None = None
    multipart: MultipartGrant | None = MultipartGrant()
    expires_at: float | None = None


@runtime_checkable
class Signer(Protocol):
    """Protocol of a signer: turns a batch of operations into signed requests, in order.

    A signer may also have these members. ``grant(path) -> Grant`` returns how an object
    can be uploaded. ``preflight(operation)`` raises the error of ``sign`` without a
    call to a service. ``remote`` is True if each call costs a round trip; later
    operations are then signed in the same call. ``sign_each(operations)`` returns an
    error in place of each refused request. ``distrust(request)`` reports that the store
    refused *request* as expired, so the signer must not use its credentials again.
    ``grants_here`` is True if ``grant`` and ``preflight`` never wait; many small
    objects are then faster. ``without_waiting()`` returns a signer that never waits: its
    ``sign`` raises SignerUnavailableError if this signer would have to wait, and its
    ``grant`` may leave refusals to ``sign``.
    """

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return a signed request for each of *operations*.

        Raises:
            NotSignedError: the signer refuses one of the operations.
            SignerError: the signer cannot sign now.
        """
        ...


def grant_for(signer: Signer, path: str) -> Grant:
    """Return how *signer* permits uploading *path*.

    A signer without the method ``grant`` permits all kinds of upload.
    """
    grant: Callable[[str], Grant] | None = getattr(signer, "grant", None)
    return _ALL_WAYS if grant is None else grant(path)


_ALL_WAYS = Grant()


def grants_here(signer: object) -> bool:
    """Return whether ``grant`` and ``preflight`` of *signer* never wait."""
    known: bool | None = getattr(signer, "grants_here", None)
    if known is not None:
        return known
    asks = hasattr(signer, "grant") or hasattr(signer, "preflight")
    return not asks or getattr(signer, "remote", None) is False


def without_waiting(signer: Signer) -> Signer:
    """Return what *signer* can do without waiting, as a signer; or *signer* itself."""
    make: Callable[[], Signer] | None = getattr(signer, "without_waiting", None)
    return signer if make is None else make()


def preflight(signer: object, operation: Operation) -> None:
    """Raise an error if *signer* is certain to refuse *operation*; asks no service."""
    ask = getattr(signer, "preflight", None)
    if ask is not None:
        ask(operation)


def distrust(signer: object, refused: SignedRequest | None) -> None:
    """Report to *signer* that the store refused the request *refused* as expired."""
    tell = getattr(signer, "distrust", None)
    if tell is not None and refused is not None:
        tell(refused)


def sign_checked(
    signer: Signer, operations: Sequence[Operation]
) -> Sequence[SignedRequest]:
    """Return signed requests for *operations*, after checking each of them."""
    signed = signer.sign(operations)
    if len(signed) != len(operations):
        msg = f"the signer answered {len(signed)} requests to {len(operations)}"
        raise SignerError(msg, path=operations[0].path)
    for operation, request in zip(operations, signed, strict=True):
        check_signed(operation, request)
    return signed


def sign_each(
    signer: Signer,
    operations: Sequence[Operation],
    caught: type[OSSPresignedError] = NotSignedError,
) -> Sequence[Outcome]:
    """Return a signed request for each of *operations*, or the *caught* error instead.

    A signer without ``sign_each`` that refuses the batch is called again for each
    operation.
    """
    own = getattr(signer, "sign_each", None)
    try:
        if own is not None:
            found: Sequence[Outcome] = own(operations)
            return found
        return sign_checked(signer, operations)
    except caught as error:
        if len(operations) == 1:
            return [error]
    return [sign_each(signer, [operation], caught)[0] for operation in operations]


def all_signed(outcomes: Sequence[SignedRequest | Exception]) -> list[SignedRequest]:
    """Return *outcomes* if all are signed requests, else raise the first error."""
    signed = []
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        signed.append(outcome)
    return signed


def check_signed(operation: Operation, request: Any) -> None:
    """Raise an error if *request* is not for *operation*, or lacks a header."""
    if not isinstance(request, SignedRequest):  # any object can call itself a signer
        msg = f"the signer returned a {type(request).__name__}, not a SignedRequest"
        raise SignerError(msg, path=operation.path)
    if missing := _missing_headers(operation, request):
        msg = (
            f"the signer did not sign the demanded header {', '.join(missing)} for "
            f"{operation}: leave it out, or let the signer allow it"
        )
        raise NotSignedError(msg, path=operation.path, action=operation.action)
    problem = ""
    if request.method != operation.action.method:
        method = operation.action.method
        problem = f"{operation} needs {method}, the signer signed {request.method}"
    elif (request.form is not None) != operation.action.spec.form:
        problem = f"{operation} needs {'a' if request.form is None else 'no'} form"
    elif request.form and request.form.fields.get("key") != FormValue(operation.key):
        problem = f"{operation}: the signer made a form for another key"
    if problem:
        raise SignerError(problem, path=operation.path)


def _missing_headers(operation: Operation, request: SignedRequest) -> list[str]:
    """Return the required headers that *request* lacks, as headers or form fields.

    A header with another value counts as missing.
    """
    if not operation.headers:
        return []
    sent = {name.lower(): value for name, value in request.headers.items()}
    if request.form is not None:
        sent |= {n.lower(): v.reveal() for n, v in request.form.fields.items()}
        sent.setdefault("content-type", sent.get("x-oss-content-type", ""))
    return [
        name
        for name, value in operation.headers.items()
        for field, wanted in _as_sent(operation, name, value).items()
        if sent.get(field.lower()) != wanted.strip()
    ]


def _as_sent(operation: Operation, name: str, value: str) -> Mapping[str, str]:
    """Return a required header as the request sends it: a header or form fields."""
    return form_fields({name: value}) if operation.action.spec.form else {name: value}


def form_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """Return *headers* of a PutObject as the equivalent fields of a form.

    Variables of a callback become separate fields (OSS API reference, "Callback").
    Raises ConfigurationError if they are not a JSON object of texts in base64.
    """
    fields: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower() == "x-oss-callback-var":
            fields |= _variables(value)
        else:
            fields["callback" if name.lower() == "x-oss-callback" else name] = value
    return fields


def _variables(text: str) -> dict[str, str]:
    found: Any = None
    with suppress(ValueError):
        found = json.loads(base64.b64decode(text, validate=True))
    if isinstance(found, dict) and all(isinstance(v, str) for v in found.values()):
        return found
    msg = "the header x-oss-callback-var is not the base64 of a JSON object of texts"
    raise ConfigurationError(msg)

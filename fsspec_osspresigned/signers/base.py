"""Interface of signers, and checks of the requests that they return."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar, cast

from attrs import frozen

from ..errors import ConfigurationError, NotCoveredError, OSSPresignedError, SignerError
from ..model import MAX_PARTS, MIN_PART, OBJECT_ACL, Action, Operation, SignedRequest
from ..other_stores import S3_ACL
from ..secret import FormValue

T = TypeVar("T")
R = TypeVar("R")

MAX_REQUESTS = 100  # operations in one call, for signers that sign several at once

Outcome: TypeAlias = SignedRequest | OSSPresignedError


@frozen(kw_only=True)
class MultipartGrant:
    """Multipart upload that a signer permits for one object.

    Attributes:
        upload_id: ID of an upload that the owner initiated; None if the client
            initiates it.
        part_size: size in bytes of every part except the last; None leaves it to the
            client.
        min_part: minimum part size of the store in bytes.
        completes: False if the owner completes the upload from the receipts.
        complete_all: True if the signed Complete has no part list
            (``x-oss-complete-all``).
        complete_all_proven: True if ListParts is signed too, so stored parts can be
            verified.
        resumable: True if a later process can continue an upload.
    """

    upload_id: str | None = None
    part_size: int | None = None
    min_part: int = MIN_PART
    max_parts: int = MAX_PARTS
    completes: bool = True
    complete_all: bool = False
    complete_all_proven: bool = False
    resumable: bool = True

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


_ALL_WAYS = Grant()


class OtherPartSizeError(ConfigurationError):
    """The server requires another part size; its grants state this size from now on."""


@frozen(kw_only=True)
class Permissions:
    """Permissions of the token of a signer service.

    Attributes:
        prefixes: ``bucket/prefix``; a permitted path begins with one of them.
        actions: names of OSS API calls.
        overwrite: False if the service permits no upload that replaces an object.
        max_expires_in: longest lifetime of a signature in seconds; None if unknown.
        max_size: size in bytes of the largest object; None is no limit.
        content_types: permitted values of Content-Type; None permits every value.
        expires_at: expiry time of the token, seconds since the epoch; None is no expiry.
        objects_left: number of further objects; None is no limit.
        bytes_left: bytes of all further objects; None is no limit.
    """

    prefixes: tuple[str, ...]
    actions: tuple[str, ...]
    overwrite: bool = True
    max_expires_in: int | None = None
    max_size: int | None = None
    content_types: tuple[str, ...] | None = None
    expires_at: float | None = None
    objects_left: int | None = None
    bytes_left: int | None = None


class Signer:
    """Base class of signers: turns operations into signed requests, in order.

    A subclass defines ``sign``, and overrides other methods and attributes as needed.
    Worker threads of the package call all methods. If ``waits`` is False, its event
    loop also calls them. An object that is no subclass needs ``sign``; it may have the
    other methods and ``remote``, too.

    Attributes:
        remote: True if each call costs a round trip. Then operations are signed in
            batches, and some in advance.
        waits: False if no method ever waits for a network, a disk or a lock.
        grants_by_prefix: False if a subclass overrides ``preflight``, which is then
            called for each object.
        names_objects: True if a server gives each object a new name, so no upload
            replaces an object.
        notice: a text about stored objects for the user, such as their lifetime; may be
            empty.
        digests: names of digests, sha256 and md5, that an operation which opens an upload
            must have.
    """

    remote: bool = False
    waits: bool = True
    grants_by_prefix: bool = True
    names_objects: bool = False
    notice: str = ""
    digests: frozenset[str] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "sign" in vars(cls) and "sign_at_once" not in vars(cls):
            cls.sign_at_once = Signer.sign_at_once  # type: ignore[method-assign]
        cls.grants_by_prefix = cls.preflight is Signer.preflight

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Return a signed request for each of *operations*.

        Raises:
            NotCoveredError: the signer refuses one of the operations.
            SignerError: the signer cannot sign now.
        """
        raise NotImplementedError

    def sign_at_once(self, operation: Operation) -> SignedRequest | None:
        """Return *operation* signed, if this needs neither a wait nor a check; else None.

        The event loop calls this method. The default returns None. In this case,
        ``sign`` is called.
        """
        del operation
        return None

    def sign_each(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Return a signed request for each operation, or NotCoveredError in its place.

        By default, the operations of a refused batch are signed again one by one.
        """
        try:
            return self.sign(operations)
        except NotCoveredError as error:
            if len(operations) == 1:
                return [error]
        return [self.sign_each([operation])[0] for operation in operations]

    @property
    def grant_of_all(self) -> Grant | None:
        """The grant for all objects; None if ``grant`` must be called for each."""
        return _ALL_WAYS if type(self).grant is Signer.grant else None

    def grant(self, path: str) -> Grant:
        """Return the ways in which the object *path* can be uploaded; by default, all."""
        del path
        return _ALL_WAYS

    def preflight(self, operation: Operation) -> None:
        """Raise the error of ``sign`` if it is certain; the default raises nothing.

        An implementation should not call a service for this.
        """

    def invalidate(self, refused: SignedRequest) -> None:
        """Do not use the credentials of *refused* again; the store says they expired."""

    def permissions(self) -> Permissions:
        """Return the permissions of the token, which only a signer service knows.

        Raises:
            ConfigurationError: this is another kind of signer.
            SignerError: the service is unreachable, refuses the token, or has no such call.
        """
        msg = "only a signer service reports its permissions: give signer='https://...'"
        raise ConfigurationError(msg)


class AdaptedSigner(Signer):
    """Signer with the methods of *signer*, an object with at least ``sign``."""

    def __init__(self, signer: Any) -> None:
        for name in ("sign", "sign_each", "grant", "preflight", "invalidate", "remote"):
            if hasattr(signer, name):
                setattr(self, name, getattr(signer, name))
        self.grants_by_prefix = not hasattr(signer, "preflight")

    @property
    def grant_of_all(self) -> Grant | None:
        return None if "grant" in vars(self) else _ALL_WAYS


class ChainSigner(Signer):
    """Signs each operation with the first of *signers* that can sign it.

    If none can, the last signer's error is raised, with the reasons of all signers.
    """

    def __init__(self, *signers: Signer) -> None:
        self._signers = signers
        self.remote = any(signer.remote for signer in signers)

    @property
    def waits(self) -> bool:  # type: ignore[override]  # the value depends on the signers
        return any(signer.waits for signer in self._signers)

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        return all_signed(self.sign_each(operations))

    def sign_each(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        """Sign each operation with the first signer that does not refuse it.

        The last signer gets one batch: all operations that the signers before it refused.
        """
        done: dict[int, Outcome] = {}
        unsigned = list(range(len(operations)))
        *first, last = self._signers
        for signer in first:
            for index in unsigned:
                outcome = signed_each(signer, [operations[index]])[0]
                done[index] = _with_reason(outcome, done.get(index))
            unsigned = [i for i in unsigned if isinstance(done[i], NotCoveredError)]
        if unsigned:
            outcomes = signed_each(last, [operations[index] for index in unsigned])
            for index, outcome in zip(unsigned, outcomes, strict=True):
                done[index] = _with_reason(outcome, done[index])
        return [done[index] for index in range(len(operations))]

    def grant(self, path: str) -> Grant:
        return self._first(lambda signer: signer.grant(path))

    def preflight(self, operation: Operation) -> None:
        self._first(lambda signer: signer.preflight(operation))

    def invalidate(self, refused: SignedRequest) -> None:
        for signer in self._signers:
            signer.invalidate(refused)

    def permissions(self) -> Permissions:
        """Return the permissions of the last signer, because maps and grants come first."""
        return self._signers[-1].permissions()

    def _first(self, ask: Callable[[Signer], T]) -> T:
        refusal: NotCoveredError | None = None
        for signer in self._signers:
            try:
                return ask(signer)
            except NotCoveredError as error:
                refusal = _with_reason(error, refusal)
        raise cast("NotCoveredError", refusal)


def _with_reason(outcome: R, before: object) -> R | NotCoveredError:
    """Return *outcome*; if it and *before* are refusals, return one with both reasons."""
    if not (
        isinstance(outcome, NotCoveredError) and isinstance(before, NotCoveredError)
    ):
        return outcome
    facts = {n: v for n, v in vars(outcome).items() if not n.startswith("__")}
    facts["nearest"] = (*before.nearest, *outcome.nearest)
    return NotCoveredError(f"{before.message}; {outcome.message}", **facts)


def sign_checked(
    signer: Signer, operations: Sequence[Operation]
) -> Sequence[SignedRequest]:
    """Return the requests that *signer* signs for *operations*, each checked.

    Raises the errors of ``sign`` and of ``check_signed``.
    """
    signed = signer.sign(operations)
    _check_number(signed, operations)
    for operation, request in zip(operations, signed, strict=True):
        check_signed(operation, request)
    return signed


def signed_each(
    signer: Signer,
    operations: Sequence[Operation],
    caught: type[OSSPresignedError] = NotCoveredError,
) -> list[Outcome]:
    """Return a checked request, or an error, for each of *operations*.

    If ``sign_each`` of *signer* raises an error of the class *caught*, it is called
    again for each operation alone. If it then raises again, the result of this
    operation is the error.
    """
    try:
        outcomes = signer.sign_each(operations)
    except caught as error:
        if len(operations) == 1:
            return [error]
        return [signed_each(signer, [op], caught)[0] for op in operations]
    _check_number(outcomes, operations)
    return list(map(_checked, operations, outcomes))


def _check_number(answers: Sequence[object], operations: Sequence[Operation]) -> None:
    if len(answers) != len(operations):
        msg = f"the signer answered {len(answers)} requests to {len(operations)}"
        raise SignerError(msg, path=operations[0].path)


def _checked(operation: Operation, outcome: Outcome) -> Outcome:
    if isinstance(outcome, OSSPresignedError):
        return outcome
    try:
        check_signed(operation, outcome)
    except OSSPresignedError as error:
        return error
    return outcome


def all_signed(outcomes: Sequence[SignedRequest | Exception]) -> list[SignedRequest]:
    """Return *outcomes* if all are signed requests, else raise the first error."""
    signed = []
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        signed.append(outcome)
    return signed


def check_signed(operation: Operation, request: Any) -> None:
    """Check that *request* is for *operation*, and has its required headers.

    Raises:
        SignerError: *request* is for another call or key, or no SignedRequest.
        NotCoveredError: a required header is not signed.
    """
    if not isinstance(request, SignedRequest):
        # a signer of the user may return anything
        msg = f"the signer returned a {type(request).__name__}, not a SignedRequest"
        raise SignerError(msg, path=operation.path)
    if missing := missing_headers(operation, request):
        msg = (
            f"the signer did not sign the required header {', '.join(missing)} for "
            f"{operation}: leave it out, or let the signer allow it"
        )
        raise NotCoveredError(msg, path=operation.path, action=operation.action)
    problem = ""
    if request.method != operation.action.method:
        method = operation.action.method
        problem = f"{operation} needs {method}, the signer signed {request.method}"
    elif (request.form is not None) != operation.action.spec.form:
        problem = f"{operation} needs {'a' if request.form is None else 'no'} form"
    elif (
        request.form
        and request.location is None
        and request.form.fields.get("key") != FormValue(operation.key)
    ):
        problem = f"{operation}: the signer signed a form for another key"
    if problem:
        raise SignerError(problem, path=operation.path)


def missing_headers(operation: Operation, request: SignedRequest) -> list[str]:
    """Return the required headers that *request* lacks or has with another value."""
    if not operation.headers:
        return []
    sent = {name.lower(): value for name, value in request.headers.items()}
    if request.form is not None:
        sent |= {n.lower(): v.reveal() for n, v in request.form.fields.items()}
        sent.setdefault("content-type", sent.get("x-oss-content-type", ""))
    is_form = operation.action.spec.form
    # An upload server may sign for S3, which has another name for this header.
    sent.setdefault(OBJECT_ACL, sent.get("acl" if is_form else S3_ACL, ""))
    missing = []
    for name, value in operation.headers.items():
        as_sent = form_fields({name: value}) if is_form else {name: value}
        if any(sent.get(n.lower()) != v.strip() for n, v in as_sent.items()):
            missing.append(name)
    return missing


def form_fields(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the *headers* of a PutObject as the equivalent form fields.

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
    decoded: Any = None
    with suppress(ValueError):
        decoded = json.loads(base64.b64decode(text, validate=True))
    if isinstance(decoded, dict) and all(isinstance(v, str) for v in decoded.values()):
        return decoded
    msg = "the header x-oss-callback-var is not the base64 of a JSON object of texts"
    raise ConfigurationError(msg)

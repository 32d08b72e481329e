"""Upload servers, which open, sign, finish and abort uploads by their own protocols.

``UploadServer`` is the interface. ``described_server`` implements it for servers with a
description in TOML. A module of the user can implement it for others.
``UploadServerSigner`` translates calls of OSS into calls to the server, and returns
signed requests, or the replies that OSS would send. So these uploads have the usual
retries, limits, journals and errors.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

from attrs import Factory, define, evolve, field, frozen

from .. import parsing
from ..errors import (
    NetworkError,
    NotCoveredError,
    OSSPresignedError,
    SignerUnavailableError,
)
from ..http.body import Body, bytes_in
from ..model import (
    FORBID_OVERWRITE,
    MAX_PARTS,
    Action,
    Operation,
    PartReceipt,
    Reply,
    SignedRequest,
)
from .base import Grant, Outcome, Signer, all_signed, missing_headers
from .http import SignerExchange, TokenSource
from .wire_protocol import URLBinding, clean, signer_error

# parts of a stream that are signed together; few, because the stream may end soon
_STREAM_BATCH = 16
_GONE = (404, 410)
_OPTIONS = {FORBID_OVERWRITE: "overwrite=False"}  # header -> option that sets it
_EXISTS = "the object exists, and overwrite=False forbids replacing it"
_HINTS = {
    **dict.fromkeys((401, 403), "check signer_token="),
    404: "check its URL",
    501: "it does not offer this call for its store",
    **dict.fromkeys(range(300, 400), "redirects are not followed: give its final URL"),
}


class ServerRefusedError(Exception):
    """An upload server answered with an error, or with an unusable reply.

    Upload servers raise this error. The filesystem converts it to an error that depends
    on the call. *text* is shown after it was redacted. *status* is the HTTP status.
    *call* names the call, as in "POST /uploads". *refuses* means that a reply with HTTP
    200 contains an error. *exists* means that the object exists and must not be
    replaced.
    """

    def __init__(
        self,
        status: int,
        text: str = "",
        *,
        call: str = "",
        retry_after: float | None = None,
        refuses: bool = False,
        exists: bool = False,
    ) -> None:
        super().__init__(status)
        self.status, self.text, self.call = status, clean(text), call
        self.retry_after, self.refuses, self.exists = retry_after, refuses, exists


@define(eq=False, repr=False)
class OpenUpload:
    """A multipart upload at a server.

    Attributes:
        values: values from the server's replies; ``id`` is the upload ID of the store,
            if there is one.
        part_count: number of parts; None for a stream.
        is_single: True if one PUT sends the object, and a last call publishes it.
        requests: signed requests of parts by number.
        sizes: sizes of the parts that were signed, in bytes.
        ended: final calls that have succeeded, with values from their replies; they are
            not repeated.
    """

    values: Mapping[str, str] = field(factory=dict)
    part_count: int | None = None
    is_single: bool = False
    requests: dict[int, SignedRequest] = field(factory=dict)
    sizes: dict[int, int] = field(factory=dict)
    ended: dict[str, Mapping[str, str]] = field(factory=dict)
    lock: threading.Lock = Factory(threading.Lock)


@frozen(kw_only=True)
class UploadServerContext:
    """The user's settings, and functions, with which an upload server is created.

    Attributes:
        url: URL of the server, as the user gave it; None if it was left out.
        options: the option ``upload_server_options``.
        exchange: sends one call to the server; see ``SignerExchange``.
        token: reads and returns the token of the server at each call; None if there is
            none.
        allowed_hosts: further hosts that signed URLs may have, host -> its bucket; None
            for any bucket.
        allow_http: permits plain http to other machines.
        clock: returns seconds since the epoch.
    """

    url: str | None = None
    options: Mapping[str, str] = field(factory=dict)
    exchange: SignerExchange = field(repr=False)
    token: TokenSource = field(default=lambda: None, repr=False)
    allowed_hosts: Mapping[str, str | None] = field(factory=dict)
    allow_http: bool = False
    clock: Callable[[], float] = time.time

    def binding(self, host: str) -> URLBinding:
        """Return a check of the URLs that the server at *host* returns."""
        return URLBinding(
            signer_host=host,
            allowed_hosts=self.allowed_hosts,
            allow_http=self.allow_http,
        )


class UploadServer(ABC):
    """Upload server. Several worker threads at a time call its methods.

    The methods raise ServerRefusedError for errors of the server, NetworkError without
    a reply, and other errors of this package.

    Attributes:
        host: name of the server, for messages.
        signs: store calls for which the server returns a signed request.
        carries_out: store calls that the server carries out itself; their replies are
            translated.
        batch: number of parts that one call signs; 0 if all URLs come at the beginning.
        resumes: True if a later process can continue an upload with only ``values``.
        names_objects, notice, digests: as for a ``Signer``.
    """

    host: str
    signs: frozenset[Action]
    carries_out: frozenset[Action] = frozenset()
    batch: int = 1
    resumes: bool = False
    names_objects: bool = False
    notice: str = ""
    digests: frozenset[str] = frozenset()

    @abstractmethod
    def grant(self, path: str) -> Grant:
        """Return the ways in which the object *path* can be uploaded."""

    def invalidate(self, refused: SignedRequest) -> None:
        """Do not return *refused* or older requests again, because the store refused it."""
        del refused

    def request(self, operation: Operation) -> SignedRequest:
        """Return the signed request for *operation*.

        *operation* has an upload ID only if the upload server carries out no calls
        itself.
        """
        raise NotImplementedError

    def fulfilled(
        self, operation: Operation, upload: OpenUpload | None
    ) -> Collection[str]:
        """Return lower-case names of the headers that the server sets itself.

        *operation* opens or finishes an upload; *upload* is None before it is open.
        """
        del operation, upload
        return ()

    def open(self, operation: Operation) -> OpenUpload:
        """Open a multipart upload; *operation* is the InitiateMultipartUpload."""
        raise NotImplementedError

    def sign_parts(
        self, operation: Operation, upload: OpenUpload, numbers: Sequence[int]
    ) -> Mapping[int, SignedRequest]:
        """Return signed requests for the parts *numbers*, each like *operation*."""
        raise NotImplementedError

    def stored_parts(
        self, operation: Operation, upload: OpenUpload
    ) -> Sequence[PartReceipt]:
        """Return the parts that the store has."""
        raise NotImplementedError

    def finish(
        self, operation: Operation, upload: OpenUpload, parts: Mapping[int, str]
    ) -> str | None:
        """Publish the object; return the name or URL that the server gave it, or None.

        *parts* are ETags as received, by part number.
        """
        raise NotImplementedError

    def abort(self, operation: Operation, upload: OpenUpload) -> None:
        """Abort the upload, and remove its parts."""
        raise NotImplementedError


class UploadServerSigner(Signer):
    """Signer that translates calls of OSS into calls of *server*."""

    def __init__(self, server: UploadServer) -> None:
        self.names_objects, self.notice = server.names_objects, server.notice
        self.digests = server.digests
        self._server = server
        self._uploads: dict[str, OpenUpload] = {}
        # issue time of the newest request that the store refused
        self._refused_at = -1.0

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        return all_signed(self.sign_each(operations))

    def sign_each(self, operations: Sequence[Operation]) -> Sequence[Outcome]:
        return [self._outcome(operation) for operation in operations]

    def grant(self, path: str) -> Grant:
        try:
            return self._server.grant(path)
        except (ServerRefusedError, OSSPresignedError) as error:
            failure = self._failure(error, path)
        raise failure

    def invalidate(self, refused: SignedRequest) -> None:
        self._refused_at = max(self._refused_at, refused.issued_at)
        self._server.invalidate(refused)

    def _outcome(self, operation: Operation) -> Outcome:
        action, server = operation.action, self._server
        try:
            if action in server.carries_out:
                return self._carried_out(operation)
            if action not in server.signs:
                raise self._not_offered(
                    operation, "accepts only new objects, no other calls"
                )
            is_part = operation.upload_id is not None and server.carries_out
            signed = self._part(operation) if is_part else server.request(operation)
            self._check_headers(operation, missing_headers(operation, signed))
        except (ServerRefusedError, OSSPresignedError) as error:
            return self._failure(error, operation.path)
        return signed

    def _not_offered(self, operation: Operation, what: str) -> NotCoveredError:
        text = f"the upload server at {self._server.host} {what}"
        return NotCoveredError(text, path=operation.path, action=operation.action)

    def _check_headers(self, operation: Operation, names: Collection[str]) -> None:
        """Raise NotCoveredError if *names* is not empty; these headers cannot be set."""
        if names:
            shown = ", ".join(_OPTIONS.get(name, name) for name in names)
            raise self._not_offered(operation, f"cannot set {shown}: leave it out")

    def _failure(
        self, error: ServerRefusedError | OSSPresignedError, path: str
    ) -> OSSPresignedError:
        """Return the exception for *error* of a call that requests signatures."""
        if isinstance(error, ServerRefusedError):
            return signer_error(error.status)(
                self._told(error),
                path=path,
                status=error.status,
                retry_after=error.retry_after,
            )
        if isinstance(error, NetworkError):
            return SignerUnavailableError(error.message, path=path)
        error.path = error.filename = path
        return error

    def _told(self, error: ServerRefusedError) -> str:
        text = f"the upload server at {self._server.host} answered HTTP {error.status}"
        text += f" to {error.call}" if error.call else ""
        text += f" ({error.text})" if error.text else ""
        hint = _EXISTS if error.exists else _HINTS.get(error.status)
        hint = None if error.status in _GONE and error.text else hint
        return f"{text}; {hint}" if hint else text

    # -- parts -------------------------------------------------------------------------------

    def _upload(self, operation: Operation) -> OpenUpload:
        name = operation.upload_id or ""
        upload = self._uploads.get(name)
        if upload is None and self._server.resumes:
            new = OpenUpload(values=dict(parse_qsl(name)))
            upload = self._uploads.setdefault(name, new)
        if upload is None:
            raise self._not_offered(operation, "cannot resume an upload: upload again")
        return upload

    def _part(self, operation: Operation) -> SignedRequest:
        upload, number = self._upload(operation), operation.part_number or 0
        upload.sizes[number] = operation.content_length or 0
        batch = self._server.batch
        # If one call signs several parts, they share a lock. Parts with calls of their
        # own do not wait.
        with upload.lock if batch > 1 else contextlib.nullcontext():
            held = upload.requests.get(number)
            if held is None or (batch and self._is_over(held)):
                new = self._server.sign_parts(
                    operation, upload, _batch(number, batch, upload.part_count)
                )
                upload.requests.update(new)
                held = new.get(number)
        if held is None:
            raise ServerRefusedError(200, f"the reply has no URL for part {number}")
        return held

    def _is_over(self, held: SignedRequest) -> bool:
        return held.issued_at <= self._refused_at or held.is_stale(time.time())

    # -- calls that the server carries out ---------------------------------------------------

    def _carried_out(self, operation: Operation) -> SignedRequest:
        act = {
            Action.InitiateMultipartUpload: self._open,
            Action.ListParts: self._list,
            Action.CompleteMultipartUpload: self._finish,
            Action.AbortMultipartUpload: self._abort,
        }[operation.action]

        def carry_out(body: Body) -> Reply:
            try:
                return act(operation, body)
            except ServerRefusedError as error:
                return self._refusal(operation, error)
            except OSSPresignedError as error:
                error.path = error.filename = operation.path
                failure = error
            raise failure

        # Refuse headers that the last call cannot set before the first byte is sent.
        wanted = {**operation.final_headers, **operation.headers}
        upload = self._upload(operation) if operation.upload_id else None
        names = self._server.fulfilled(operation, upload)
        self._check_headers(operation, [n for n in wanted if n.lower() not in names])
        headers = {**operation.optional_headers, **wanted}
        return SignedRequest(
            method=operation.action.method,
            url=f"https://{self._server.host}/",
            headers={n: v for n, v in headers.items() if n.lower() in names},
            carry_out=carry_out,
        )

    def _open(self, operation: Operation, _: Body) -> Reply:
        upload = self._server.open(operation)
        name = upload.values.get("id") or secrets.token_hex(8)
        if self._server.resumes:  # a later process needs these values to resume
            name = urlencode(upload.values)
        self._uploads[name] = upload
        text = f"<UploadId>{escape(name)}</UploadId>"
        return _reply("InitiateMultipartUploadResult", text)

    def _list(self, operation: Operation, _: Body) -> Reply:
        parts = self._server.stored_parts(operation, self._upload(operation))
        rows = (
            f"<Part><PartNumber>{part.part_number}</PartNumber><Size>{part.size}</Size>"
            f"<ETag>{escape(part.etag)}</ETag></Part>"
            for part in parts
        )
        return _reply("ListPartsResult", "".join(rows))

    def _finish(self, operation: Operation, body: Body) -> Reply:
        document = parsing.parse(bytes_in(body), "CompleteMultipartUpload")
        parts = {
            int(part.findtext("PartNumber", "")): part.findtext("ETag", "")
            for part in document.iter("Part")
        }
        upload = self._upload(operation)
        location = self._server.finish(operation, upload, parts)
        self._uploads.pop(operation.upload_id or "", None)
        return evolve(_reply("CompleteMultipartUploadResult", ""), location=location)

    def _abort(self, operation: Operation, _: Body) -> Reply:
        self._server.abort(operation, self._upload(operation))
        self._uploads.pop(operation.upload_id or "", None)
        return Reply(status=204)

    def _refusal(self, operation: Operation, error: ServerRefusedError) -> Reply:
        """Return *error* as the error reply that OSS would send to *operation*."""
        status, code = error.status, ""
        if error.exists:
            status, code = 409, "FileAlreadyExists"
        elif operation.upload_id is not None and status in _GONE:
            status, code = 404, "NoSuchUpload"
        elif error.refuses:
            status = 403
        elif status // 100 == 2:  # noqa: PLR2004 - a reply that cannot be used
            # The server may have published the object.
            status = 502 if operation.action.publishes else 400
        text = f"<Code>{code}</Code><Message>{escape(self._told(error))}</Message>"
        wait = error.retry_after
        headers = {} if wait is None else {"retry-after": f"{wait:.0f}"}
        return evolve(_reply("Error", text, status), headers=headers)


def _batch(number: int, size: int, part_count: int | None) -> Sequence[int]:
    """Return the part numbers that are signed together with *number*."""
    if part_count is None:
        size = min(size, _STREAM_BATCH)
    if size <= 1:
        return (number,)
    first = number - (number - 1) % size
    return range(first, min(first + size - 1, part_count or MAX_PARTS) + 1)


def _reply(root: str, text: str, status: int = 200) -> Reply:
    return Reply(status=status, body=f"<{root}>{text}</{root}>".encode())

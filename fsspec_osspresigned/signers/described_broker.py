"""Broker that a description in TOML explains: makes its calls, and reads the replies."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from ..errors import (
    BindingError,
    ConfigurationError,
    NetworkError,
    NotSignedError,
    TooLargeError,
)
from ..model import (
    FORBID_OVERWRITE,
    MAX_PARTS,
    Action,
    Operation,
    PartReceipt,
    SignedRequest,
)
from ..secret import HiddenMapping, SecretURL
from ..units import KIB, MIB
from ..url_checks import is_loopback, service_problem
from .base import Grant, MultipartGrant
from .bound import bound_request, type_of
from .broker import (
    Broker,
    BrokerContext,
    BrokerSigner,
    OpenUpload,
    ServerRefusedError,
)
from .broker_replies import Answer, answer_of
from .description import (
    Call,
    Description,
    base_url,
    is_function,
    load,
    spelled,
)
from .function import imported
from .http import service_exchange, token_source
from .post_form import check_acl, sign_form
from .post_grant import HeldGrant, RenewedGrant
from .templates import Values, filled, filled_json, filled_url
from .wire_protocol import JSON_HEADERS, bearer, problem_of_reply, without_token

_MAX_REPLY = 16 * MIB  # bytes; URLs of 10,000 parts
_MAX_ITEM = 16 * KIB  # bytes; in the mean, what a reply says about a part
_BATCH = 100  # parts, of which one call may sign
_STREAM_PARTS = 1000  # for which URLs are requested at once if the size is unknown
_UNAUTHORIZED = 401
_EXISTS = (409, 412)
_TABLES = {
    Action.InitiateMultipartUpload: "open",
    Action.ListParts: "parts",
    Action.CompleteMultipartUpload: "finish",
    Action.AbortMultipartUpload: "abort",
}


@frozen
class _HeldGrant(HeldGrant):
    """A grant with which several objects can be stored, and other facts of its reply."""

    saved: Mapping[str, str]
    largest: int | None  # bytes
    keys: dict[str, object] = field(factory=dict, eq=False)  # that it was used for


class DescribedBroker(Broker):
    """Broker for the server that *description* explains."""

    def __init__(self, description: Description, context: BrokerContext) -> None:
        self._base = base_url(description, context.url)
        if problem := service_problem(self._base, allow_http=context.allow_http):
            raise ConfigurationError(f"the URL of the broker {problem}")
        _check_options(description, context.options)
        self._context, self._description = context, description
        self._binding = context.binding(urlsplit(self._base).hostname or "")
        self._grants = RenewedGrant(self._fetched, context.clock)
        # Path -> key of its upload in parts at the server.
        self._keys: dict[str, str] = {}
        self._origin = urlsplit(self._base)[:2]
        self.host = self._origin[1]
        self.names_objects = description.names_objects
        self.notice, self.resumes = description.notice, description.resumes
        sign = description.sign
        self.batch = 0 if sign is None else _BATCH if "numbers" in sign.names else 1
        self.signs, self.carries_out = _actions(description)

    # -- what may be uploaded -----------------------------------------------------------------

    def grant(self, path: str) -> Grant:
        self._names(path)
        read, single = self._description, self._description.single
        in_parts = read.request or read.open
        parts = MultipartGrant(
            min_part=read.min_part,
            max_parts=MAX_PARTS if in_parts else 1,
            resumable=bool(read.request or read.resumes),
        )
        grant = Grant(
            single=not self.signs <= {Action.UploadPart},
            action=Action.PostObject if single and single.is_form else Action.PutObject,
            multipart=parts if in_parts or read.single_finish else None,
        )
        if single is None or single.grant is None:
            return grant
        try:
            held = self._grants.current()
        except NetworkError:
            return grant  # ``request`` asks the server again
        except ServerRefusedError as error:
            if not error.passes:
                raise
            return grant
        return evolve(grant, largest=held.largest, expires_at=held.grant.expires_at)

    def _names(self, path: str) -> dict[str, str]:
        """Return the pieces of *path*, by the names that the description gives them."""
        names, pieces = self._description.segments, path.split("/")
        if len(pieces) < len(names) or not all(pieces[: len(names)]):
            msg = f"a path must be {'/'.join(names)}"
            raise ConfigurationError(msg, path=path or None)
        if not path or not {".", ".."}.isdisjoint(pieces):
            msg = "a path is missing, or has a segment '.' or '..'"
            raise ConfigurationError(msg, path=path or None)
        directory, _, last = path.rpartition("/")
        named = zip(names, path.split("/", max(len(names) - 1, 0)), strict=False)
        return {"path": path, "dir": directory, "name": last, **dict(named)}

    def _options(self) -> dict[str, str]:
        return {f"option.{name}": v for name, v in self._context.options.items()}

    def _values(
        self, operation: Operation, saved: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the values of templates for *operation*.

        *saved* are the values that earlier replies named for the upload.
        """
        saved = saved or {}
        return {
            **self._names(operation.path),
            **self._options(),
            **{f"upload.{name}": value for name, value in saved.items()},
            "type": saved.get("type") or type_of(operation),
            "method": operation.action.method,
            "upload_id": operation.upload_id,
            "number": operation.part_number,
            "size": operation.content_length,
            "count": operation.part_count or _STREAM_PARTS,
        }

    # -- single requests ----------------------------------------------------------------------

    def request(self, operation: Operation) -> SignedRequest:
        read, path = self._description, operation.path
        if read.request is None:
            if read.single and read.single.grant is not None:
                return self._form_of_grant(read.single, operation)
            answer = self._ask("single", self._values(operation))
            return self._signed(answer, operation, answer.saved())
        is_new = operation.upload_id is None
        saved = {"key": path if is_new else self._keys.get(path, path)}
        answer = self._ask("request", self._values(operation, saved))
        saved |= answer.saved()
        if operation.action is Action.InitiateMultipartUpload:
            self._keys[path] = saved["key"]
        return self._signed(answer, operation, saved)

    def _form_of_grant(self, call: Call, operation: Operation) -> SignedRequest:
        held, size = self._grants.current(), operation.content_length or 0
        if held.largest is not None and size > held.largest:
            msg = f"the server takes at most {held.largest} bytes; the file has {size}"
            raise TooLargeError(msg, path=operation.path)
        values = self._values(operation, held.saved)
        key, mine = filled(call.key or "{path}", values), object()
        if self.names_objects and held.keys.setdefault(key, mine) is not mine:
            # By this grant, the store would refuse a second object of the name.
            self._grants.drop(held.issued_at)
            return self._form_of_grant(call, operation)
        check_acl(held.grant.fields, operation)
        signed = sign_form(
            held.grant,
            evolve(operation, bucket=held.grant.bucket, key=key),
            self._context.clock(),
            issued_at=held.issued_at,
        )
        return evolve(signed, location=self._location({**values, "upload.key": key}))

    def _fetched(self, now: float) -> _HeldGrant:
        answer = self._ask("single", self._options())
        grant = answer.grant(self._context.allowed_hosts)
        place = Operation(action=Action.PostObject, bucket=grant.bucket)
        if problem := self._binding.problem(place, grant.url):
            raise BindingError(f"the server's grant is refused: {problem}")
        end = now + (answer.seconds() or float("inf"))
        limit = answer.largest_mb()
        sizes = (grant.largest, None if limit is None else limit * MIB)
        return _HeldGrant(
            grant=evolve(grant, expires_at=min(grant.expires_at, end)),
            issued_at=now,
            fetched=True,
            saved=answer.saved(),
            largest=min((size for size in sizes if size is not None), default=None),
        )

    def invalidate(self, refused: SignedRequest) -> None:
        self._grants.drop(refused.issued_at)

    # -- multipart uploads --------------------------------------------------------------------

    def fulfilled(
        self, operation: Operation, upload: OpenUpload | None
    ) -> Collection[str]:
        is_single = self._is_single(operation) if upload is None else upload.is_single
        tables = ("single", "single_finish") if is_single else ("open", "finish")
        calls = [getattr(self._description, table) for table in tables]
        names = set()
        if any("type" in call.names for call in calls):
            names.add("content-type")
        if any(call.create_only for call in calls):
            names.add(FORBID_OVERWRITE)
        return names

    def _is_single(self, operation: Operation) -> bool:
        read = self._description
        return read.single_finish is not None and (
            operation.part_count == 1 or read.open is None
        )

    def open(self, operation: Operation) -> OpenUpload:
        is_single = self._is_single(operation)
        table, count = "single" if is_single else "open", operation.part_count
        values = self._values(operation)
        answer = self._ask(table, values, parts=count or _STREAM_PARTS)
        upload = OpenUpload(
            values={**answer.saved(), "type": type_of(operation)},
            part_count=count,
            is_single=is_single,
        )
        if is_single or answer.call.urls is not None:
            numbers = range(1, (count or _STREAM_PARTS) + 1)
            upload.requests |= self._requests(answer, operation, upload, numbers)
        return upload

    def sign_parts(
        self, operation: Operation, upload: OpenUpload, numbers: Sequence[int]
    ) -> Mapping[int, SignedRequest]:
        if self._description.sign is None or upload.is_single:
            text = f"{operation}: the server gives URLs only when an upload begins"
            raise NotSignedError(text, path=operation.path, action=operation.action)
        values = self._values(operation, upload.values)
        values["numbers"] = ",".join(map(str, numbers))
        answer = self._ask("sign", values, parts=len(numbers))
        return self._requests(answer, operation, upload, numbers)

    def _requests(
        self,
        answer: Answer,
        operation: Operation,
        upload: OpenUpload,
        numbers: Sequence[int],
    ) -> dict[int, SignedRequest]:
        place = evolve(
            operation,
            action=Action.PutObject if upload.is_single else Action.UploadPart,
            upload_id=None if upload.is_single else upload.values.get("id"),
        )
        return {
            number: self._signed(item, evolve(place, part_number=number), upload.values)
            for number, item in answer.items(numbers).items()
        }

    def stored_parts(
        self, operation: Operation, upload: OpenUpload
    ) -> Sequence[PartReceipt]:
        values = self._values(operation, upload.values)
        return self._ask("parts", values, parts=MAX_PARTS).parts()

    def finish(
        self, operation: Operation, upload: OpenUpload, parts: Mapping[int, str]
    ) -> str | None:
        rows = [
            {"number": number, "etag": etag, "bare_etag": etag.strip('"')}
            for number, etag in sorted(parts.items())
        ]
        values = self._values(operation, upload.values)
        values |= {**rows[0], "parts": rows, "size": sum(upload.sizes.values())}
        table = "single_finish" if upload.is_single else "finish"
        wanted = operation.headers.keys() | operation.optional_headers.keys()
        answer = self._ask(table, values, creates=FORBID_OVERWRITE in wanted)
        saved = {f"upload.{name}": value for name, value in answer.saved().items()}
        return self._location({**values, **saved})

    def abort(self, operation: Operation, upload: OpenUpload) -> None:
        if self._description.abort is not None and not upload.is_single:
            self._ask("abort", self._values(operation, upload.values))

    # -- calls --------------------------------------------------------------------------------

    def _ask(
        self,
        table: str,
        values: Values,
        *,
        parts: int = 1,
        creates: bool = False,
        reread: bool = True,
    ) -> Answer:
        """Send the call *table* of the description, and return the reply.

        *parts* is the number of parts that the reply may speak of. *creates* means that
        no object may be replaced. *reread* permits a second try with the token read
        again. Raises ServerRefusedError for a reply with an error.
        """
        call: Call = getattr(self._description, table)
        url = SecretURL(self._base + filled_url(call.path, call.query, values))
        if urlsplit(url.reveal())[:2] != self._origin:
            raise ConfigurationError(f"the call {table!r} would leave {self.host}")
        body = b""
        if call.json is not None:
            body = json.dumps(filled_json(call.json, values)).encode()
        headers = {**JSON_HEADERS, **(call.create_only if creates else {})}
        token, sent_at = self._context.token(), self._context.clock()
        # No variable of a frame that a traceback may show holds the token's header.
        reply = self._context.exchange(
            call.method,
            url,
            HiddenMapping(headers | bearer(token)),
            body,
            min(_MAX_REPLY, MIB + parts * _MAX_ITEM),
        )
        if reply.status == _UNAUTHORIZED and token is not None and reread:
            return self._ask(table, values, parts=parts, creates=creates, reread=False)
        reply = without_token(reply, token)
        answer = answer_of(reply, call, sent_at)
        if reply.is_good:
            return answer
        text = answer.at(self._description.error)
        if text is None:
            text = answer.at("/detail")  # of a problem document (RFC 9457)
        problem = problem_of_reply(reply.status, reply.headers, b"")
        raise ServerRefusedError(
            reply.status,
            text if isinstance(text, str) else "",
            retry_after=problem.retry_after,
            exists=creates and bool(call.create_only) and reply.status in _EXISTS,
        )

    def _signed(
        self, answer: Answer, operation: Operation, saved: Mapping[str, str]
    ) -> SignedRequest:
        """Return the signed request in *answer*; *saved* are the values of the upload."""
        call, values = answer.call, self._values(operation, saved)
        key = saved.get("key") if call.key is None else filled(call.key, values)
        signed = bound_request(
            operation,
            answer.url(),
            answer.headers(),
            self._binding,
            issued_at=answer.sent_at,
            lifetime=answer.seconds(),
            key=key,
            location=None if operation.part_number else self._location(values),
        )
        if call.fields is None:
            return signed
        form = answer.form(key)
        check_acl(form.fields, operation)
        return evolve(signed, form=form)

    def _location(self, values: Values) -> str | None:
        template = self._description.location
        return None if template is None else filled(template, values)


def _actions(read: Description) -> tuple[frozenset[Action], frozenset[Action]]:
    """Return the store calls that the server signs, and those that it carries out."""
    if read.request is not None:
        signs = {Action.PutObject, Action.UploadPart, *_TABLES}
        return frozenset(signs), frozenset()
    carried = {action for action, table in _TABLES.items() if getattr(read, table)}
    if read.single_finish is not None:
        carried |= {Action.InitiateMultipartUpload, Action.CompleteMultipartUpload}
    if carried:  # an upload without a call for it leaves nothing behind to remove
        carried.add(Action.AbortMultipartUpload)
    signs = {Action.UploadPart} if carried else set()
    if read.single is not None and read.single_finish is None:
        signs.add(Action.PostObject if read.single.is_form else Action.PutObject)
    return frozenset(signs), frozenset(carried)


def _check_options(description: Description, given: Mapping[str, str]) -> None:
    name, known = description.name, description.options
    problems = [f"broker={name!r} has no option {n!r}" for n in given if n not in known]
    problems += [
        f"broker={name!r} needs broker_options= with {n!r}: {meaning}"
        for n, meaning in known.items()
        if not given.get(n)
    ]
    if problems:
        raise ConfigurationError(problems)


def _own_token(description: Description, given: str | None) -> str:
    """Return the reference to the token that *description* names.

    *given* is the user's URL of the server. Raises ConfigurationError if the token is for
    other hosts; this machine may have it.
    """
    parts, token = urlsplit(base_url(description, given)), str(description.token)
    name = parts.hostname or ""
    is_known = parts.scheme == "https" and name in description.hosts
    if not (is_known or is_loopback(name)):
        hosts = ", ".join(description.hosts)
        msg = (
            f"broker={description.name!r} sends {token} only to {hosts}, by https: for "
            f"{name}, give signer_token="
        )
        raise ConfigurationError(msg)
    return token


def broker_signer(options: Any, _: object) -> BrokerSigner:
    """Return the signer for the options ``broker`` and ``broker_options``."""
    given = options.broker
    if isinstance(given, Broker):
        return BrokerSigner(given)
    place, url = ("", None) if callable(given) else spelled(given)
    explains = callable(given) or is_function(place)
    description = None if explains else load(place)
    reference, is_own = options.signer_token, False
    if reference is None and description is not None and description.token:
        reference, is_own = _own_token(description, url), True
    context = BrokerContext(
        url=url,
        options=options.broker_options,
        exchange=service_exchange(options),
        token=token_source(reference, pairs=True, is_own=is_own),
        allowed_hosts=options.allowed_hosts,
        allow_http=options.allow_http,
    )
    if description is not None:
        return BrokerSigner(DescribedBroker(description, context))
    make = given if callable(given) else imported(place, "broker")
    broker = make(context) if callable(make) else make
    if not isinstance(broker, Broker):
        msg = f"broker={place or given!r} made a {type(broker).__name__}, not a Broker"
        raise ConfigurationError(msg)
    return BrokerSigner(broker)

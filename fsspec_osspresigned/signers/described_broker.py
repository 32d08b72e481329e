"""Broker that a description in TOML explains: makes its calls, and reads the replies."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve, frozen

from .. import parsing
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
    Reply,
    SignedForm,
    SignedRequest,
)
from ..secret import FormValue, Secret, SecretURL
from ..signing.post_policy import form_values
from ..units import MIB
from ..url_checks import http_problem
from .base import Grant, MultipartGrant
from .broker import (
    Broker,
    BrokerContext,
    BrokerSigner,
    Finished,
    OpenUpload,
    ServerRefusedError,
    bound_request,
    type_of,
)
from .description import (
    Call,
    Description,
    at,
    base_url,
    filled,
    filled_json,
    filled_path,
    filled_query,
    is_path,
    load,
    spelled,
)
from .function import imported
from .http import service_exchange, token_source
from .post_form import check_acl, sign_form
from .post_grant_parser import PostGrant, read_grant
from .wire_protocol import JSON_HEADERS, without_token

MAX_REPLY = 16 * MIB  # bytes; URLs of 10,000 parts
_MAX_DEPTH = 16
_BATCH = 100  # parts, of which one call may sign
_UNAUTHORIZED = 401
_EXISTS = (409, 412)
_CARRIED = {
    "open": Action.InitiateMultipartUpload,
    "parts": Action.ListParts,
    "finish": Action.CompleteMultipartUpload,
    "abort": Action.AbortMultipartUpload,
}
_ANY = frozenset(
    (Action.PutObject, Action.UploadPart, *_CARRIED.values())
)  # that a server with the table request signs


@frozen(repr=False)
class _Answer:
    """Reply of a server, and when its call was sent, seconds since the epoch.

    It has no repr, because the reply contains URLs.
    """

    document: Any
    sent_at: float

    def at(self, pointer: str | None) -> Any:
        return None if pointer is None else at(self.document, pointer)

    def inner(self, document: Any) -> _Answer:
        return _Answer(document, self.sent_at)


@frozen
class _HeldGrant:
    """A grant that stores several objects."""

    grant: PostGrant
    saved: Mapping[str, str]
    largest: int | None  # bytes
    issued_at: float
    expires_at: float

    def is_old(self, now: float) -> bool:
        life = self.expires_at - self.issued_at
        return self.expires_at - now < min(30.0, life / 4)


class DescribedBroker(Broker):
    """Broker that executes *description*.

    Of the token, one with a colon is sent as ``Basic``, others as ``Bearer``; it is read
    again once if it is refused.
    """

    def __init__(self, description: Description, context: BrokerContext) -> None:
        self._base = base_url(description, context.url)
        problem = http_problem(self._base, allow_http=context.allow_http, local=True)
        if problem:
            raise ConfigurationError(f"the URL of the broker {problem}")
        self._options = _checked_options(description, context.options)
        self._context, self._description = context, description
        self._binding = context.binding(urlsplit(self._base).hostname or "")
        self._grants = threading.Lock()
        self._held: _HeldGrant | None = None
        self._keys: dict[str, str] = {}  # path -> key that the server has named
        self.host = urlsplit(self._base).netloc
        self.names_objects = description.names_objects
        self.notice, self.resumes = description.notice, description.resumes
        sign = description.sign
        self.batch = 0 if sign is None else _BATCH if "numbers" in sign.names else 1
        self.signs, self.carries_out = _actions(description)

    @property
    def _is_form(self) -> bool:
        single = self._description.single
        return bool(single and (single.fields or single.grant))

    # -- what may be uploaded -----------------------------------------------------------------

    def grant(self, path: str) -> Grant:
        self._names(path)
        read = self._description
        single = bool(read.request or (read.single and not read.single_finish))
        multipart = None
        if read.request or read.open or read.single_finish:
            multipart = MultipartGrant(
                min_part=read.min_part,
                max_parts=MAX_PARTS if read.request or read.open else 1,
                resumable=bool(read.request or read.resumes),
            )
        grant = Grant(single=single, multipart=multipart)
        if self._is_form:
            grant = evolve(grant, action=Action.PostObject)
        if read.single is not None and read.single.grant is not None:
            return self._limited(grant, read.single)
        return grant

    def _limited(self, grant: Grant, call: Call) -> Grant:
        """Return *grant* with the limits of the server's own grant."""
        try:
            held = self._current(call)
        except NetworkError:
            return grant  # ``request`` asks the server again
        except ServerRefusedError as error:
            if error.passes:
                return grant
            raise
        return evolve(grant, largest=held.largest, expires_at=held.expires_at)

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
        values = {"path": path, "dir": directory, "name": last}
        if names:
            rest = "/".join(pieces[len(names) - 1 :])
            values |= zip(names, (*pieces[: len(names) - 1], rest), strict=True)
        return values

    def _values(
        self, operation: Operation, saved: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        return {
            **self._names(operation.path),
            "type": type_of(operation),
            "method": operation.action.method,
            "upload_id": operation.upload_id,
            "number": operation.part_number,
            "size": operation.content_length,
            "count": operation.part_count or self._description.stream_parts,
            **{f"option.{name}": value for name, value in self._options.items()},
            **{f"upload.{name}": value for name, value in (saved or {}).items()},
        }

    # -- single requests ----------------------------------------------------------------------

    def request(self, operation: Operation) -> SignedRequest:
        read = self._description
        if read.request is not None:
            key = self._keys.get(operation.path, operation.path)
            values = self._values(operation, {"key": key})
            answer = self._ask(read.request, values)
            saved = {"key": key, **self._saved(read.request, answer)}
            self._keys[operation.path] = saved["key"]
            return self._signed(read.request, answer, operation, saved)
        call = self._call("single")
        if call.grant is not None:
            return self._form_of_grant(call, operation)
        answer = self._ask(call, self._values(operation))
        saved = self._saved(call, answer)
        if call.fields is None:
            return self._signed(call, answer, operation, saved)
        return self._form(call, answer, operation, saved)

    def _call(self, table: str) -> Call:
        call: Call | None = getattr(self._description, table)
        if call is None:
            msg = f"the description {self._description.name} has no table {table}"
            raise NotSignedError(msg)
        return call

    def _form(
        self,
        call: Call,
        answer: _Answer,
        operation: Operation,
        saved: Mapping[str, str],
    ) -> SignedRequest:
        fields = answer.at(call.fields)
        if not isinstance(fields, dict) or not isinstance(fields.get("key"), str):
            del fields
            raise ServerRefusedError(
                200, "its reply has no fields of a form with a key"
            )
        hidden: dict[str, Secret] = {
            **form_values({n: str(v) for n, v in fields.items() if n != "key"}),
            "key": FormValue(fields["key"]),
        }
        del fields  # signatures are in it, and tracebacks may show variables
        signed = self._signed(call, answer, evolve(operation, headers={}), saved)
        return evolve(signed, form=SignedForm(fields=hidden))

    def _form_of_grant(self, call: Call, operation: Operation) -> SignedRequest:
        held = self._current(call)
        size = operation.content_length or 0
        if held.largest is not None and size > held.largest:
            msg = f"the server takes at most {held.largest} bytes; the file has {size}"
            raise TooLargeError(msg, path=operation.path)
        values = self._values(operation, held.saved)
        key = filled(call.key or "{path}", values)
        check_acl(held.grant, operation)
        place = evolve(operation, bucket=held.grant.bucket, key=key)
        signed = sign_form(
            held.grant, place, self._context.clock(), issued_at=held.issued_at
        )
        end = min(held.expires_at, signed.expires_at or held.expires_at)
        location = self._location(values, {**held.saved, "key": key})
        return evolve(signed, expires_at=end, location=location)

    def _current(self, call: Call) -> _HeldGrant:
        """Return the grant; ask for one if there is none or it expires soon."""
        with self._grants:
            held = self._held
            if held is None or held.is_old(self._context.clock()):
                held = self._held = self._granted(call)
            return held

    def _granted(self, call: Call) -> _HeldGrant:
        values = {f"option.{name}": value for name, value in self._options.items()}
        answer = self._ask(call, values)
        grant = self._read_grant(answer.at(call.grant))
        place = Operation(action=Action.PostObject, bucket=grant.bucket)
        if problem := self._binding.problem(place, grant.url):
            raise BindingError(f"the server's grant is refused: {problem}")
        life = _seconds(call, answer)
        largest = answer.at(call.largest_mb)
        sizes = [] if grant.largest is None else [grant.largest]
        if str(largest).isdecimal():
            sizes.append(int(largest) * MIB)
        return _HeldGrant(
            grant=grant,
            saved=self._saved(call, answer),
            largest=min(sizes, default=None),
            issued_at=answer.sent_at,
            expires_at=min(grant.expires_at, answer.sent_at + (life or float("inf"))),
        )

    def _read_grant(self, document: Any) -> PostGrant:
        hosts = self._context.allowed_hosts
        try:
            return read_grant(document or {}, allowed_hosts=hosts)
        except ConfigurationError as error:
            problems = "; ".join(error.problems)
        finally:
            del document  # a signature is in it, and tracebacks may show variables
        raise ServerRefusedError(200, f"its reply is no grant: {problems}")

    def invalidate(self, refused: SignedRequest) -> None:
        with self._grants:
            if self._held is not None and self._held.issued_at <= refused.issued_at:
                self._held = None

    # -- multipart uploads --------------------------------------------------------------------

    def fulfilled(
        self, operation: Operation, upload: OpenUpload | None
    ) -> Mapping[str, str]:
        read = self._description
        is_single = self._is_single(operation) if upload is None else upload.is_single
        tables = ("single", "single_finish") if is_single else ("open", "finish")
        calls = [call for name in tables if (call := getattr(read, name)) is not None]
        headers = {**operation.optional_headers, **operation.headers}
        has_type = any("type" in call.names for call in calls)
        creates = any(call.create_only for call in calls)
        kept = {"content-type"} if has_type else set()
        kept |= {FORBID_OVERWRITE} if creates else set()
        return {n: v for n, v in headers.items() if n.lower() in kept}

    def _is_single(self, operation: Operation) -> bool:
        read = self._description
        return read.single_finish is not None and (
            operation.part_count == 1 or read.open is None
        )

    def open(self, operation: Operation) -> OpenUpload:
        read, is_single = self._description, self._is_single(operation)
        call = self._call("single" if is_single else "open")
        answer = self._ask(call, self._values(operation))
        count = operation.part_count
        upload = OpenUpload(
            values=self._saved(call, answer),
            part_count=count,
            is_single=is_single,
            content_type=type_of(operation),
        )
        if is_single or call.urls is not None:
            numbers = range(1, (count or read.stream_parts) + 1)
            upload.requests |= self._requests(call, answer, operation, upload, numbers)
        return upload

    def sign_parts(
        self, operation: Operation, upload: OpenUpload, numbers: Sequence[int]
    ) -> Mapping[int, SignedRequest]:
        if self._description.sign is None or upload.is_single:
            text = f"{operation}: the server gives URLs only when an upload begins"
            raise NotSignedError(text, path=operation.path, action=operation.action)
        call = self._call("sign")
        values = self._values(operation, upload.values)
        values["numbers"] = ",".join(map(str, numbers))
        answer = self._ask(call, values)
        return self._requests(call, answer, operation, upload, numbers)

    def _requests(
        self,
        call: Call,
        answer: _Answer,
        operation: Operation,
        upload: OpenUpload,
        numbers: Sequence[int],
    ) -> dict[int, SignedRequest]:
        action = Action.PutObject if upload.is_single else Action.UploadPart
        upload_id = None if upload.is_single else upload.values.get("id")
        place = evolve(operation, action=action, upload_id=upload_id)
        return {
            number: self._signed(
                call, item, evolve(place, part_number=number), upload.values, last=False
            )
            for number, item in _items(call, answer, numbers)
        }

    def stored_parts(
        self, operation: Operation, upload: OpenUpload
    ) -> Sequence[PartReceipt]:
        call = self._call("parts")
        answer = self._ask(call, self._values(operation, upload.values))
        listed = answer.at(call.list)
        try:
            return [
                PartReceipt(
                    part_number=int(at(item, call.number or "")),
                    size=int(at(item, call.size)),
                    etag=str(at(item, call.etag)),
                )
                for item in listed
            ]
        except (TypeError, ValueError):
            pass
        raise ServerRefusedError(200, "its reply is no list of parts")

    def finish(
        self, operation: Operation, upload: OpenUpload, parts: Mapping[int, str]
    ) -> Finished:
        call = self._call("single_finish" if upload.is_single else "finish")
        sizes = upload.sizes
        rows = [
            {
                "number": n,
                "etag": tag,
                "bare_etag": tag.strip('"'),
                "size": sizes.get(n),
            }
            for n, tag in sorted(parts.items())
        ]
        values = self._values(operation, upload.values)
        values |= rows[0] if upload.is_single else {}
        values["size"] = sum(sizes.values())
        values["type"] = upload.content_type or values["type"]
        wanted = operation.headers.keys() | operation.optional_headers.keys()
        extra = call.create_only if FORBID_OVERWRITE in wanted else {}
        answer = self._ask(call, values, rows, extra)
        saved = {**upload.values, **self._saved(call, answer)}
        return Finished(location=self._location(values, saved))

    def abort(self, operation: Operation, upload: OpenUpload) -> None:
        call = self._description.abort
        if call is not None and not upload.is_single:
            self._ask(call, self._values(operation, upload.values))

    # -- calls and replies --------------------------------------------------------------------

    def _signed(
        self,
        call: Call,
        answer: _Answer,
        operation: Operation,
        saved: Mapping[str, str],
        *,
        last: bool = True,
    ) -> SignedRequest:
        """*last* means that the request publishes the object, so its location is known."""
        url = _secret_url(answer.at(call.url))
        values = self._values(operation, saved) if last else {}
        return bound_request(
            operation,
            url,
            _headers(answer.at(call.headers)),
            self._binding,
            issued_at=answer.sent_at,
            lifetime=_seconds(call, answer),
            key=None if operation.action.spec.form else saved.get("key"),
            location=self._location(values, saved) if last else None,
        )

    def _location(
        self, values: Mapping[str, Any], saved: Mapping[str, str]
    ) -> str | None:
        template = self._description.location
        if template is None:
            return None
        named = {f"upload.{name}": value for name, value in saved.items()}
        return filled(template, {**values, **named})

    def _saved(self, call: Call, answer: _Answer) -> dict[str, str]:
        saved = {}
        for name, pointer in call.save.items():
            value = answer.at(pointer)
            if isinstance(value, str | int) and str(value):
                saved[name] = str(value)
            elif not pointer.endswith("?"):
                raise ServerRefusedError(200, f"its reply has nothing at {pointer}")
        return saved

    def _ask(
        self,
        call: Call,
        values: Mapping[str, Any],
        parts: Sequence[Mapping[str, Any]] = (),
        extra: Mapping[str, str] | None = None,
        *,
        reread: bool = True,
    ) -> _Answer:
        """Send *call*; return the reply. Raises ServerRefusedError for an error."""
        url = self._base + filled_path(call.path, values)
        if query := filled_query(call.query, values):
            url += f"?{query}"
        body = b""
        if call.json is not None:
            body = json.dumps(filled_json(call.json, values, parts)).encode()
        token = self._context.token()
        sent_at = self._context.clock()
        # No variable of a frame that a traceback may show holds the headers.
        reply = self._context.exchange(
            call.method,
            SecretURL(url),
            {**JSON_HEADERS, **(extra or {}), **_authorization(token)},
            body,
            MAX_REPLY,
        )
        if reply.status == _UNAUTHORIZED and reread and token is not None:
            return self._ask(call, values, parts, extra, reread=False)
        reply = without_token(reply, token)
        answer = _Answer(_document(reply), sent_at)
        if not reply.is_good:
            raise self._refusal(reply, answer, creates=bool(extra))
        return answer

    def _refusal(
        self, reply: Reply, answer: _Answer, *, creates: bool
    ) -> ServerRefusedError:
        text = answer.at(self._description.error)
        wait = reply.headers.get("retry-after", "")
        return ServerRefusedError(
            reply.status,
            text if isinstance(text, str) else "",
            retry_after=int(wait) if wait.isdecimal() and len(wait) < 7 else None,  # noqa: PLR2004 - eleven days
            exists=creates and reply.status in _EXISTS,
        )


def _actions(read: Description) -> tuple[frozenset[Action], frozenset[Action]]:
    """Return the store calls that the server signs, and those that it carries out."""
    if read.request is not None:
        return _ANY, frozenset()
    carried = {action for name, action in _CARRIED.items() if getattr(read, name)}
    if read.single_finish is not None:
        carried |= {Action.InitiateMultipartUpload, Action.CompleteMultipartUpload}
    if carried:  # an upload without a call for it leaves nothing behind to remove
        carried.add(Action.AbortMultipartUpload)
    signs = {Action.UploadPart} if carried else set()
    if read.single is not None and read.single_finish is None:
        is_form = read.single.fields or read.single.grant
        signs.add(Action.PostObject if is_form else Action.PutObject)
    return frozenset(signs), frozenset(carried)


def _checked_options(
    description: Description, given: Mapping[str, str]
) -> Mapping[str, str]:
    name, known = description.name, description.options
    problems = [f"broker={name!r} has no option {n!r}" for n in given if n not in known]
    problems += [
        f"broker={name!r} needs broker_options={{{n!r}: ...}}: {meaning}"
        for n, meaning in known.items()
        if not given.get(n)
    ]
    if problems:
        raise ConfigurationError(problems)
    return given


def _authorization(token: Secret | None) -> dict[str, str]:
    """Callers must not assign the result to a variable, which a traceback could show."""
    if token is None:
        return {}
    if ":" in token.reveal():
        return {
            "Authorization": "Basic "
            + base64.b64encode(token.reveal().encode()).decode()
        }
    return {"Authorization": f"Bearer {token.reveal()}"}


def _document(reply: Reply) -> Any:
    try:
        return parsing.loads(reply.body, max_depth=_MAX_DEPTH) if reply.body else None
    except ValueError:
        pass
    if not reply.is_good:
        return None
    raise ServerRefusedError(reply.status, "its reply is not JSON")


def _seconds(call: Call, answer: _Answer) -> float | None:
    """Return the lifetime in seconds; None if neither reply nor description says it."""
    if isinstance(call.lifetime, int):
        return call.lifetime
    value = answer.at(call.lifetime)
    return float(value) if str(value).isdecimal() and int(value) > 0 else None


def _secret_url(value: Any) -> SecretURL:
    if isinstance(value, str):
        return SecretURL(value)
    raise ServerRefusedError(200, "its reply has no URL")


def _headers(value: Any) -> dict[str, str]:
    """Return headers from an object, or a list of objects with name and value."""
    if isinstance(value, list):
        value = {at(item, "/name"): at(item, "/value") for item in value}
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(name): str(text) for name, text in pairs}


def _items(
    call: Call, answer: _Answer, numbers: Sequence[int]
) -> Iterator[tuple[int, _Answer]]:
    """Yield the number of each part, and what the reply has about it."""
    if call.urls is None:
        yield numbers[0], answer
        return
    found = answer.at(call.urls)
    if isinstance(found, dict):
        pairs = [*found.items()]
    elif isinstance(found, list):
        names = (at(item, call.number) for item in found) if call.number else numbers
        pairs = [*zip(names, found, strict=False)]
    else:
        pairs = []
    del found  # URLs are in it, and tracebacks may show variables
    for name, item in pairs:
        if str(name).isdecimal():
            yield int(name), answer.inner(item)


def broker_signer(options: Any, _: object) -> BrokerSigner:
    """Return the signer for the options ``broker`` and ``broker_options``."""
    given = options.broker
    if isinstance(given, Broker):
        return BrokerSigner(given)
    is_function = callable(given)
    place, url = ("", None) if is_function else spelled(given)
    is_module = is_function or (":" in place and not is_path(place))
    description = None if is_module else load(place)
    reference = options.signer_token
    is_own = reference is None and description is not None
    if is_own and description is not None:
        reference = description.token
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
    make = given if is_function else imported(place, "broker")
    broker = make(context) if callable(make) else make
    if not isinstance(broker, Broker):
        msg = f"broker={place or given!r} made a {type(broker).__name__}, not a Broker"
        raise ConfigurationError(msg)
    return BrokerSigner(broker)

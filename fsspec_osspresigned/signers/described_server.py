"""Upload server that is described in TOML: its calls and their replies."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from attrs import evolve, field, frozen
from urllib3.filepost import encode_multipart_formdata

from ..errors import (
    ConfigurationError,
    NetworkError,
    NotCoveredError,
    OSSPresignedError,
    TooLargeError,
    WrongRequestSignedError,
)
from ..model import (
    FORBID_OVERWRITE,
    MAX_PARTS,
    Action,
    Operation,
    PartReceipt,
    Reply,
    SignedRequest,
)
from ..secret import HIDDEN, HiddenMapping, Secret, SecretURL
from ..units import KIB, MIB, shown_text
from ..url_checks import is_loopback, service_problem, url_problem
from .base import Grant, MultipartGrant, OtherPartSizeError
from .bound import bound_request, type_of
from .description import (
    DIGESTS,
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
from .server_replies import Answer, answer_of
from .templates import OF_OBJECT, PARTS, Values, filled, filled_json, filled_url
from .upload_server import (
    OpenUpload,
    ServerRefusedError,
    UploadServer,
    UploadServerContext,
    UploadServerSigner,
)
from .wire_protocol import (
    JSON_HEADERS,
    bearer,
    problem_of_reply,
    without_token,
)

_MAX_REPLY = 16 * MIB  # bytes; enough for the URLs of 10,000 parts
_MAX_ITEM = 16 * KIB  # bytes that a reply has for each part, on average
_BATCH = 100  # maximum parts that one call signs
# parts for which URLs are requested at once if the size is unknown
_STREAM_PARTS = 1000
_LIFE = 3600  # seconds that a URL is valid if it does not say so
_UNAUTHORIZED = 401
_EXISTS = (409, 412)
_LAST = ("single_finish", "finish", "register", "abort")
_TABLES = {
    Action.InitiateMultipartUpload: "open",
    Action.ListParts: "parts",
    Action.CompleteMultipartUpload: "finish",
    Action.AbortMultipartUpload: "abort",
}


@frozen
class _HeldGrant(HeldGrant):
    """A grant for several objects, and further values from its reply."""

    saved: Mapping[str, str]
    # keys of objects that were stored with this grant
    keys: dict[str, object] = field(factory=dict, eq=False)


class DescribedServer(UploadServer):
    """Upload server that works as *description* says."""

    def __init__(self, description: Description, context: UploadServerContext) -> None:
        self._base = base_url(description, context.url)
        if problem := service_problem(self._base, allow_http=context.allow_http):
            raise ConfigurationError(f"the URL of the upload server {problem}")
        _check_options(description, context.options)
        self._context, self._description = context, description
        self._binding = context.binding(urlsplit(self._base).hostname or "")
        self._grants = RenewedGrant(self._fetched, context.clock)
        # Path -> key at the server of the multipart upload for that path.
        self._keys: dict[str, str] = {}
        # part size that the server requires, once known
        self._part_size: int | None = None
        self._origin = urlsplit(self._base)[:2]
        self.host = self._origin[1]
        self.names_objects = description.names_objects
        self.notice, self.resumes = description.notice, description.resumes
        self.digests = DIGESTS & description.names
        self._facts = {"content_type", *(OF_OBJECT & description.names)}
        sign, self.batch = description.sign, 0
        if sign is not None:
            is_for_many = sign.repeats or sign.names & {"numbers", "count"}
            self.batch = _BATCH if is_for_many else 1
        self.signs, self.carries_out = _actions(description)

    # -- grants --------------------------------------------------------------------------------

    def grant(self, path: str) -> Grant:
        self._names(path)
        read, single = self._description, self._description.single
        in_parts = read.request or read.open
        parts = MultipartGrant(
            part_size=self._part_size,
            min_part=read.min_part,
            max_parts=MAX_PARTS if in_parts else 1,
            resumable=bool(read.request or read.resumes),
        )
        grant = Grant(
            single=not self.signs <= {Action.UploadPart},
            action=Action.PostObject if single and single.is_form else Action.PutObject,
            multipart=parts if in_parts or _is_finished(read) else None,
        )
        if single is None or single.grant is None:
            return grant
        try:
            held = self._grants.current()
        except (NetworkError, ServerRefusedError):
            return grant  # ``request`` then asks the server for a new grant
        return evolve(
            grant, largest=held.grant.largest, expires_at=held.grant.expires_at
        )

    def _names(self, path: str) -> dict[str, str]:
        """Return the segments of *path*, by their names in the description."""
        names, pieces = self._description.segments or ["path"], path.split("/")
        is_short = len(pieces) < len(names) or not all(pieces[: len(names)])
        if is_short or not {".", ".."}.isdisjoint(pieces):
            msg = f"write the path as {'/'.join(names)}, without segments '.' and '..'"
            raise ConfigurationError(msg, path=path or None)
        directory, _, last = path.rpartition("/")
        named = zip(names, path.split("/", len(names) - 1), strict=True)
        return {"path": path, "dir": directory, "name": last, **dict(named)}

    def _options(self) -> dict[str, str]:
        return {f"option.{name}": v for name, v in self._context.options.items()}

    def _values(
        self, operation: Operation, saved: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the values of templates for *operation*.

        *saved* are the values that earlier replies named for the upload.
        """
        saved, size = saved or {}, operation.object_size
        life = operation.expires_in or _LIFE
        end = datetime.fromtimestamp(int(self._context.clock()) + life, UTC)
        values = {
            **self._names(operation.path),
            **self._options(),
            "content_type": type_of(operation),
            "method": operation.action.method,
            "upload_id": operation.upload_id,
            "number": operation.part_number,
            "size": operation.content_length if size is None else size,
            "part_size": operation.part_size or size,
            "part_count": operation.part_count,
            "expires_at": end.isoformat().replace("+00:00", "Z"),
            **operation.digests,
        }
        for name, value in saved.items():
            # The value is a fact that was known when the upload began, or it comes from
            # a reply.
            values[name[1:] if name.startswith(".") else f"upload.{name}"] = value
        return values

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
        if (largest := held.grant.largest) is not None and size > largest:
            msg = f"the server takes at most {largest} bytes; the file has {size}"
            raise TooLargeError(msg, path=operation.path)
        values = self._values(operation, held.saved)
        key, mine = filled(call.key or "{path}", values), object()
        if self.names_objects and held.keys.setdefault(key, mine) is not mine:
            # With this grant, the store would refuse a second object of the same name.
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
        post = Operation(action=Action.PostObject, bucket=grant.bucket)
        if problem := self._binding.problem(post, grant.url):
            raise WrongRequestSignedError(
                f"the upload server's form is refused: {problem}"
            )
        return _HeldGrant(grant, now, fetched=True, saved=answer.saved())

    def invalidate(self, refused: SignedRequest) -> None:
        self._grants.drop(refused.issued_at)

    # -- multipart uploads --------------------------------------------------------------------

    def fulfilled(
        self, operation: Operation, upload: OpenUpload | None
    ) -> Collection[str]:
        is_single = self._is_single(operation) if upload is None else upload.is_single
        tables = ("single", "single_finish") if is_single else ("open", "finish")
        calls = [c for t in tables if (c := getattr(self._description, t))]
        knows_type = any("content_type" in call.names for call in calls)
        keeps_old = any(call.create_only for call in calls)
        return ["content-type"] * knows_type + [FORBID_OVERWRITE] * keeps_old

    def _is_single(self, operation: Operation) -> bool:
        read = self._description
        return _is_finished(read) and (operation.part_count == 1 or read.open is None)

    def open(self, operation: Operation) -> OpenUpload:
        is_single = self._is_single(operation)
        table, values = "single" if is_single else "open", self._values(operation)
        call: Call = getattr(self._description, table)
        count = operation.part_count
        if count is None and call.urls is not None:  # later calls return no more URLs
            count = values["part_count"] = _STREAM_PARTS
        numbers = range(1, (count or 0) + 1)
        if call.repeats:
            values[PARTS] = [{"number": number} for number in numbers]
        answer = self._ask(table, values, parts=len(numbers))
        if call.urls is not None and not answer.items(numbers):
            raise answer.refused(
                "has no URLs of parts: the server has the object already, or takes it whole"
            )
        facts = {n: v for n in self._facts if (v := values[n]) is not None}
        known = {f".{name}": str(value) for name, value in facts.items()}
        upload = OpenUpload(answer.saved() | known, operation.part_count, is_single)
        cut, wanted = answer.number(call.part_bytes), operation.part_size
        if cut is not None and cut != wanted and len(numbers) > 1:
            with suppress(ServerRefusedError, OSSPresignedError):
                self.abort(operation, upload)
            self._part_size = cut
            msg = f"the server has parts of {cut} bytes, not of {wanted}: give part_size={cut}"
            raise OtherPartSizeError(msg, path=operation.path)
        if is_single or call.urls is not None:
            upload.requests |= self._requests(answer, operation, upload, numbers or [1])
        return upload

    def sign_parts(
        self, operation: Operation, upload: OpenUpload, numbers: Sequence[int]
    ) -> Mapping[int, SignedRequest]:
        if self._description.sign is None or upload.is_single:
            text = f"the upload server at {self.host} gives each URL once: upload again"
            raise NotCoveredError(text, path=operation.path, action=operation.action)
        values = self._values(operation, upload.values)
        values |= {"first": numbers[0], "count": len(numbers)}
        values["numbers"] = ",".join(map(str, numbers))
        if self._description.sign.repeats:
            values[PARTS] = [{"number": number} for number in numbers]
        answer = self._ask("sign", values, parts=len(numbers))
        return self._requests(answer, operation, upload, numbers)

    def _requests(
        self,
        answer: Answer,
        operation: Operation,
        upload: OpenUpload,
        numbers: Sequence[int],
    ) -> dict[int, SignedRequest]:
        items, call = answer.items(numbers), evolve(operation, action=Action.PutObject)
        if not items:
            raise answer.refused(f"names no part at {answer.call.urls!r}")
        if not upload.is_single:
            named = upload.values.get("id") or upload.values.get(".id")
            if named is None:  # all URLs must have the upload ID of the first one
                named = _upload_id_in(next(iter(items.values()), None))
                upload.values = {**upload.values, ".id": named}
            call = evolve(operation, action=Action.UploadPart, upload_id=named)
        return {
            number: self._signed(item, evolve(call, part_number=number), upload.values)
            for number, item in items.items()
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
        size = sum(upload.sizes.values())  # at the end, the size of a stream is known
        values = self._values(operation, {".size": str(size), **upload.values})
        values |= rows[0] if upload.is_single else {}
        values[PARTS] = rows
        wanted = operation.headers.keys() | operation.optional_headers.keys()
        creates = FORBID_OVERWRITE in wanted
        for table in ("single_finish" if upload.is_single else "finish", "register"):
            call: Call | None = getattr(self._description, table)
            may_lack = call is not None and call.path.endswith("?}")
            if call is None or (may_lack and not filled(call.path, values)):
                continue
            if table not in upload.ended:
                upload.ended[table] = self._ask(table, values, creates=creates).saved()
            values |= {f"upload.{n}": v for n, v in upload.ended[table].items()}
        return self._location(values)

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

        *parts* is the number of parts that the reply may contain. *creates* means that
        no object may be replaced. *reread* permits a second try, for which the token is
        read again. Raises ServerRefusedError for a reply with an error.
        """
        call: Call = getattr(self._description, table)
        url, is_server = self._target(call, values)
        token = self._context.token() if is_server else None
        kind, body = _body(call, values)
        more = {**call.create_only} if creates else {}
        if table in _LAST:
            more = HiddenMapping(more | filled_json(call.send, values))
        sent_at = self._context.clock()
        # The header contains the token. No variable of a frame may hold it, because a
        # traceback could show it.
        headers = HiddenMapping(
            {**JSON_HEADERS, "Content-Type": kind}
            | self._own_headers(token)
            | {name: text for name, text in more.items() if HIDDEN not in text}
        )
        largest = min(_MAX_REPLY, MIB + parts * _MAX_ITEM)
        try:
            reply = self._context.exchange(call.method, url, headers, body, largest)
        except NetworkError as error:
            error.strerror = f"the upload server did not answer {call}: {error.message}"
            raise
        if reply.status == _UNAUTHORIZED and token is not None and reread:
            return self._ask(table, values, parts=parts, creates=creates, reread=False)
        reply = without_token(reply, token)
        answer = answer_of(reply, call, sent_at)
        failure = None if call.failure is None else answer.at(call.failure)
        if reply.is_good and failure is None:
            return answer
        text = answer.at(self._description.error) if failure is None else failure
        if text is None:
            text = answer.at("/detail")  # detail of a problem document (RFC 9457)
        raise ServerRefusedError(
            reply.status,
            text if isinstance(text, str) else "",
            call=str(call),
            retry_after=problem_of_reply(reply).retry_after,
            refuses=reply.is_good,
            exists=creates and bool(call.create_only) and reply.status in _EXISTS,
        )

    def _target(self, call: Call, values: Values) -> tuple[SecretURL, bool]:
        """Return the URL of *call*, and whether it leads to the user's server.

        A URL from a reply may also lead to another host that the user permits. Such a
        host gets no token. ServerRefusedError if a reply named an invalid URL.
        """
        is_named = call.path.startswith("{")
        if is_named:
            named = filled_url(filled(call.path, values), call.query, {})
            with suppress(ValueError):  # url_problem says what is wrong
                named = urljoin(f"{self._base}/", named)
            url = SecretURL(named)
            if problem := url_problem(url.reveal()):
                text = f"an earlier reply has a URL for this call that {problem}"
                raise ServerRefusedError(200, text, call=str(call))
        else:
            url = SecretURL(self._base + filled_url(call.path, call.query, values))
        origin = urlsplit(url.reveal())[:2]
        if origin == self._origin:
            return url, True
        allowed = is_named and origin[1] in self._context.allowed_hosts
        if not allowed or service_problem(
            url.reveal(), allow_http=self._context.allow_http
        ):
            text = f"{call} would leave {self.host}"
            if is_named:
                text += f": a reply names {shown_text(origin[1])}, which allowed_hosts= may permit"
            raise ConfigurationError(text)
        return url, False

    def _own_headers(self, token: Secret | None) -> dict[str, str]:
        """Return the description's headers with the token; secret, as for ``bearer``."""
        own = self._description.headers
        with_token = {name for name, text in own.items() if "{token}" in text}
        if token is None:
            return {name: text for name, text in own.items() if name not in with_token}
        return HiddenMapping(
            **({} if with_token else bearer(token)),
            **{n: t.replace("{token}", token.reveal()) for n, t in own.items()},
        )

    def _signed(
        self, answer: Answer, operation: Operation, saved: Mapping[str, str]
    ) -> SignedRequest:
        """Return the signed request in *answer*; *saved* are the values of the upload."""
        call, values = answer.call, self._values(operation, saved)
        key = saved.get("key") if call.key is None else filled(call.key, values)
        etag = f'"{values[call.compares]}"' if call.compares else None
        location = None if operation.part_number else self._location(values)
        url = answer.url()
        if url is None:  # the server already has the object
            return SignedRequest(
                method=operation.action.method,
                url=f"https://{self.host}/",
                carry_out=lambda _: Reply(status=200, headers={"etag": etag or ""}),
                location=location,
            )
        headers = HiddenMapping(answer.headers(url, filled_json(call.send, values)))
        is_own = urlsplit(url.reveal())[:2] == self._origin
        if is_own and HIDDEN in headers.get(
            "Authorization", ""
        ):  # the reply repeats the token
            headers = HiddenMapping(headers | bearer(self._context.token()))
        signed = bound_request(
            operation,
            url,
            headers,
            self._binding,
            issued_at=answer.sent_at,
            key=key,
            location=location,
            is_own=is_own,
        )
        if etag is not None:
            signed = evolve(signed, assumed_etag=etag)
        if call.fields is None:
            return signed
        form = answer.form(key)
        check_acl(form.fields, operation)
        return evolve(signed, form=form)

    def _location(self, values: Values) -> str | None:
        template = self._description.location
        return None if template is None else filled(template, values)


def _upload_id_in(answer: Answer | None) -> str:
    url = None if answer is None else answer.url()
    query = "" if url is None else urlsplit(url.reveal()).query
    return dict(parse_qsl(query)).get("uploadId", "")


def _body(call: Call, values: Values) -> tuple[str, bytes]:
    """Return the content type and the bytes of the body of *call*."""
    if call.form:
        fields = filled_json(call.form, values)
        return "application/x-www-form-urlencoded", urlencode(fields).encode()
    if call.multipart:
        fields = filled_json(call.multipart, values).items()
        texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in fields}
        body, kind = encode_multipart_formdata(texts)
        return kind, body
    kind = JSON_HEADERS["Content-Type"]
    if call.json is None:
        return kind, b""
    return kind, json.dumps(filled_json(call.json, values)).encode()


def _is_finished(read: Description) -> bool:
    """Return whether a last call must follow a single PUT."""
    return bool(read.single and (read.single_finish or read.register))


def _actions(read: Description) -> tuple[frozenset[Action], frozenset[Action]]:
    """Return the store calls that the server signs, and those that it carries out."""
    if read.request is not None:
        signs = {Action.PutObject, Action.UploadPart, *_TABLES}
        return frozenset(signs), frozenset()
    carried = {action for action, table in _TABLES.items() if getattr(read, table)}
    if _is_finished(read):
        carried |= {Action.InitiateMultipartUpload, Action.CompleteMultipartUpload}
    if carried:  # without such a call, there is nothing to abort
        carried.add(Action.AbortMultipartUpload)
    signs = {Action.UploadPart} if carried else set()
    if read.single is not None and not _is_finished(read):
        signs.add(Action.PostObject if read.single.is_form else Action.PutObject)
    return frozenset(signs), frozenset(carried)


def _check_options(description: Description, given: Mapping[str, str]) -> None:
    name, known = description.name, description.options
    problems = [
        f"upload_server={name!r} has no option {n!r}" for n in given if n not in known
    ]
    problems += [
        f"upload_server={name!r} needs upload_server_options= with {n!r}: {meaning}"
        for n, meaning in known.items()
        if not given.get(n)
    ]
    if problems:
        raise ConfigurationError(problems)


def _own_token(description: Description, given: str | None) -> str:
    """Return the reference to the token in *description*.

    *given* is the user's URL of the server. Raises ConfigurationError if the token is
    only for other hosts. A server on this machine may always get it.
    """
    parts, token = urlsplit(base_url(description, given)), str(description.token)
    name = parts.hostname or ""
    is_known = parts.scheme == "https" and name in description.hosts
    if not (is_known or is_loopback(name)):
        hosts = ", ".join(description.hosts)
        msg = (
            f"upload_server={description.name!r} sends {token} only to {hosts}, by https: for "
            f"{name}, give signer_token="
        )
        raise ConfigurationError(msg)
    return token


def upload_server_signer(options: Any, _: object) -> UploadServerSigner:
    """Return the signer for the options ``upload_server`` and ``upload_server_options``."""
    given = options.upload_server
    if isinstance(given, UploadServer):
        return UploadServerSigner(given)
    name, url = ("", None) if callable(given) else spelled(given)
    explains = callable(given) or is_function(name)
    description = None if explains else load(name)
    reference, is_own = options.signer_token, False
    if reference is None and description is not None and description.token:
        reference, is_own = _own_token(description, url), True
    context = UploadServerContext(
        url=url,
        options=options.upload_server_options,
        exchange=service_exchange(options),
        token=token_source(reference, pairs=True, is_own=is_own),
        allowed_hosts=options.allowed_hosts,
        allow_http=options.allow_http,
    )
    if description is not None:
        return UploadServerSigner(DescribedServer(description, context))
    make = given if callable(given) else imported(name, "upload_server")
    server = make(context) if callable(make) else make
    if not isinstance(server, UploadServer):
        msg = f"upload_server={name or given!r} made a {type(server).__name__}, not an UploadServer"
        raise ConfigurationError(msg)
    return UploadServerSigner(server)

"""HTTP signer: client of a signer service (signer protocol 1), and its bearer token."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from ..errors import (
    ConfigurationError,
    NetworkError,
    NotCoveredError,
    OSSPresignedError,
    SignerError,
    SignerUnavailableError,
    WrongRequestSignedError,
)
from ..model import COPY_SOURCE, OBJECT_ACL, Operation, Reply, SignedRequest
from ..other_stores import S3_ACL, S3_COPY_SOURCE, S3_GRANT
from ..secret import HiddenMapping, Secret, SecretURL, resolve_text, token_reference
from ..signing.canonical import as_secret
from ..signing.endpoint import check_key
from ..signing.signed_url import describe
from ..url_checks import (
    as_read,
    header_problems,
    own_header_problem,
    service_problem,
)
from . import wire_protocol
from .base import Outcome, Permissions, Signer, all_signed
from .wire_protocol import (
    MAX_TOKEN,
    SignerProblem,
    SignerReply,
    URLBinding,
    is_bearer_token,
)

TokenSource = Callable[[], Secret | None]
# Sends method, URL, headers and body, and returns any reply. The last argument is the
# maximum number of bytes of the reply; a longer one raises SignerError. Without a
# reply, NetworkError is raised. Redirects are not followed.
SignerExchange = Callable[[str, SecretURL, Mapping[str, str], bytes, int], Reply]

# Seconds for which a refusal to read is remembered. This is long enough for a loop over
# many names, and short enough to notice a new grant soon.
_REFUSAL_LIFE = 5.0
# Headers that a signer may not add, because they would read, link or publish something
# else.
NEVER_ADDED = (
    *(COPY_SOURCE, "x-oss-symlink-target", OBJECT_ACL, "x-oss-acl"),
    *(S3_COPY_SOURCE, S3_ACL, S3_GRANT),
)
_PAIR = re.compile(r"[!-9;-~][ -9;-~]*:[ -~]+")  # RFC 7617: user and password


def token_source(
    reference: str | Callable[[], object] | None,
    *,
    pairs: bool = False,
    is_own: bool = False,
) -> TokenSource:
    """Return a function that reads the bearer token again at each call.

    *reference* is ``env:OSSPRESIGNED_...``, ``file:PATH``, or a callable that returns a
    string, a Secret or None; None means no token. *pairs* also permits
    ``user:password``. *is_own* permits any variable, because *reference* comes from a
    trusted description.
    """
    if reference is None:
        return lambda: None
    try:
        if not is_own:
            token_reference(reference)
    except ValueError as error:
        raise ConfigurationError(f"signer_token= must be {error}") from None
    if callable(reference):
        return lambda: _from_callable(reference(), pairs=pairs)
    return lambda: _checked(resolve_text(reference), reference, pairs=pairs)


def _from_callable(answer: object, *, pairs: bool) -> Secret | None:
    if answer is None:
        return None
    if not isinstance(answer, str | Secret):
        msg = f"the function of signer_token= returned a {type(answer).__name__}"
        raise ConfigurationError(msg)
    held = as_secret(answer)
    # a refused answer must not stay in a variable, because tracebacks may show it
    del answer
    return _checked(held, "the function of signer_token=", pairs=pairs)


def _checked(held: Secret, source: str, *, pairs: bool) -> Secret:
    is_pair = pairs and _PAIR.fullmatch(held.reveal())
    fits = is_pair or is_bearer_token(held.reveal())
    if len(held.reveal()) > MAX_TOKEN or not fits:
        msg = f"{source} holds no bearer token (RFC 6750: one line, at most 4 KiB)"
        raise ConfigurationError(msg)
    return held


def _misnamed(operation: Operation) -> ConfigurationError | None:
    problem = None if operation.action.spec.on_bucket else check_key(operation.key)
    if not operation.bucket:
        problem = "a signer needs a path bucket/key"
    if problem is None:
        return None
    return ConfigurationError(problem, path=operation.path or None)


class HTTPSigner(Signer):
    """Client of a signer service, which checks the signed requests that it receives.

    Args:
        url: the signer's URL; it may have a path, no query and no user information.
        exchange: function that sends the HTTP call.
        token: reads the bearer token; called again once if the token is refused.
        allowed_hosts: further permitted hosts, host -> its bucket; None for any bucket.
        allow_http: permits plain http to other machines.
    """

    remote = True

    def __init__(
        self,
        url: str,
        *,
        exchange: SignerExchange,
        token: TokenSource = lambda: None,
        allowed_hosts: Mapping[str, str | None] | None = None,
        allow_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        problem = service_problem(url, allow_http=allow_http)
        if "#" in url:
            problem = (
                "has a part after #: leave it out; the text after token= is the token"
            )
        elif "?" in url:
            problem = problem or "has a query: give the signer's base URL"
        if problem:
            raise ConfigurationError(f"signer={SecretURL(url).shown()!r} {problem}")
        self._url = f"{url.rstrip('/')}/v1"
        self._host = urlsplit(url).hostname or ""
        self._exchange = exchange
        self._token = token
        hosts = {name.lower(): bucket for name, bucket in (allowed_hosts or {}).items()}
        self._binding = URLBinding(
            signer_host=self._host, allowed_hosts=hosts, allow_http=allow_http
        )
        self._clock = clock
        # Refusals are kept here, not in the client, because a URL map that is asked
        # before this signer may have a URL.
        self._refused: dict[tuple[str, str], tuple[float, SignerProblem]] = {}

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        return all_signed(self.sign_each(operations))

    def sign_each(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Return a signed request or an error for each operation.

        Each call to the service has up to 100 operations. If the service replies that
        it never grants HEAD, GET or a listing in a bucket, such operations are refused
        for 5 seconds without a call.
        """
        errors = [_misnamed(o) or self._remembered(o) for o in operations]
        sent = [operations[i] for i, error in enumerate(errors) if error is None]
        items = [wire_protocol.encode(operation) for operation in sent]
        answers: list[Outcome] = []
        for batch in wire_protocol.batches(items):
            answers += self._call([sent[i] for i in batch], [items[i] for i in batch])
        outcomes = iter(answers)
        return [error or next(outcomes) for error in errors]

    def _remembered(self, operation: Operation) -> OSSPresignedError | None:
        slot = operation.action, operation.bucket
        refused_at, problem = self._refused.get(slot, (0.0, None))
        # A clock that was set back must not extend the time.
        if problem is None or not 0 <= self._clock() - refused_at < _REFUSAL_LIFE:
            return None
        return wire_protocol.error_of_item(problem, operation)

    def _refusal(
        self, problem: SignerProblem, operation: Operation
    ) -> OSSPresignedError:
        """Return the error for *problem*.

        A refusal of HEAD, GET or a listing is remembered if it applies to the whole
        bucket.
        """
        error = wire_protocol.error_of_item(problem, operation)
        looks = operation.action.method in ("HEAD", "GET")
        if looks and isinstance(error, NotCoveredError) and error.final:
            slot = operation.action, operation.bucket
            self._refused[slot] = self._clock(), problem
        return error

    def _call(
        self,
        operations: Sequence[Operation],
        items: Sequence[str],
    ) -> Sequence[Outcome]:
        """Send one call to the service, and return its results.

        If the service finds a call too large, it is sent again in two halves.
        """
        try:
            data = wire_protocol.body(items)
            reply, sent_at, had_token = self._reply("POST", "sign", data)
        except ConfigurationError as error:
            return [ConfigurationError(error.problems, path=o.path) for o in operations]
        except SignerError as error:
            return [type(error)(error.message, path=o.path) for o in operations]
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(operations) > 1:
            half = len(operations) // 2
            first = self._call(operations[:half], items[:half])
            return [*first, *self._call(operations[half:], items[half:])]
        return self._outcomes(operations, reply, sent_at, had_token=had_token)

    def permissions(self) -> Permissions:
        reply, sent_at, had_token = self._reply("GET", "permissions", b"")
        if reply.status == HTTPStatus.NOT_FOUND:
            text = f"the signer at {self._host} does not report its permissions (HTTP 404): the call is optional, so ask the owner; or its URL is wrong"
            raise SignerError(text, status=reply.status)
        if reply.status != HTTPStatus.OK:
            raise wire_protocol.error_of_call(
                reply, None, self._host, had_token=had_token
            )
        try:
            return wire_protocol.decode_permissions(reply.body, sent_at)
        except ValueError as error:
            text = f"the reply of the signer at {self._host} is not valid: {error}"
            raise SignerError(text) from None

    def _reply(
        self, method: str, call: str, data: bytes, *, reread: bool = True
    ) -> tuple[Reply, float, bool]:
        """Send one call; return its reply, its time, and whether it had a token.

        If the token is refused, the call is sent again with a new token.

        Raises:
            ConfigurationError: there is no valid token.
            SignerError: there was no reply, or it is too long.
        """
        token, sent_at = self._token(), self._clock()
        try:
            # The headers contain the token. No variable of a frame may hold them,
            # because a traceback could show it.
            reply = self._exchange(
                method,
                SecretURL(f"{self._url}/{call}"),
                HiddenMapping(wire_protocol.JSON_HEADERS | wire_protocol.bearer(token)),
                data,
                wire_protocol.MAX_REPLY,
            )
        except NetworkError as error:
            text = f"no answer from the signer at {self._host}: {error.message}"
            raise SignerUnavailableError(text) from None
        if reply.status == HTTPStatus.UNAUTHORIZED and reread:
            return self._reply(method, call, data, reread=False)
        return wire_protocol.without_token(reply, token), sent_at, token is not None

    def _outcomes(
        self,
        operations: Sequence[Operation],
        reply: Reply,
        sent_at: float,
        *,
        had_token: bool,
    ) -> Sequence[Outcome]:
        if reply.status != HTTPStatus.OK:
            return [
                wire_protocol.error_of_call(reply, o, self._host, had_token=had_token)
                for o in operations
            ]
        try:
            answers = wire_protocol.decode(reply.body, len(operations))
        except ValueError as error:
            text = f"the reply of the signer at {self._host} is not valid: {error}"
            return [SignerError(text, path=o.path) for o in operations]
        return [
            self._refusal(answer, operation)
            if isinstance(answer, SignerProblem)
            else self._bound(operation, answer, sent_at)
            for operation, answer in zip(operations, answers, strict=True)
        ]

    def _bound(
        self, operation: Operation, answer: SignerReply, sent_at: float
    ) -> Outcome:
        signed = describe(SecretURL(answer.url))
        problem = self._binding.problem(operation, answer.url)
        problem = problem or _answer_problem(
            operation, answer, signed.additional_headers
        )
        expires_at = signed.expires_at
        if answer.expires_in is not None:
            # The lifetime counts from the start of the call, so a wrong clock does no
            # harm.
            expires_at = sent_at + answer.expires_in
        if problem is None and expires_at is not None and expires_at <= self._clock():
            problem = "the URL had expired when it arrived"
        if problem:
            text = f"the signer's result for {operation} is refused: {problem}"
            return WrongRequestSignedError(
                text, path=operation.path, action=operation.action
            )
        return SignedRequest(
            method=answer.method,
            url=SecretURL(as_read(answer.url, operation.key)),
            headers=answer.headers,
            issued_at=sent_at,
            expires_at=expires_at,
        )


def _answer_problem(
    operation: Operation, answer: SignerReply, additional: tuple[str, ...]
) -> str | None:
    if answer.method != operation.action.method:
        return f"its method is not {operation.action.method}"
    if answer.expires_in is not None and answer.expires_in <= 0:
        return "its expires_in is not positive"
    for problem in header_problems(answer.headers):
        return problem
    wanted = {**operation.optional_headers, **operation.headers}
    requested = {name.lower(): value.strip() for name, value in wanted.items()}
    for name, value in answer.headers.items():
        lower = name.lower()
        if lower.startswith(NEVER_ADDED) and requested.get(lower) != value:
            return f"the header {name!r} was not requested"
    return own_header_problem(
        answer.headers, answer.url, additional, operation.content_length
    )


def service_exchange(options: Any) -> SignerExchange:
    from ..http.json_service import JSONService  # noqa: PLC0415 - it loads requests

    connect, progress = options.timeout
    return JSONService(
        connect_timeout=connect,
        progress_timeout=progress,
        allow_http=options.allow_http,
    ).exchange


def http_signer(options: Any, _: object) -> HTTPSigner:
    return HTTPSigner(
        options.signer,
        exchange=service_exchange(options),
        token=token_source(options.signer_token),
        allowed_hosts=options.allowed_hosts,
        allow_http=options.allow_http,
    )

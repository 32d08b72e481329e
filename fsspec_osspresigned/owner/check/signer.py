"""Check of a signer: requests signatures, and compares the replies with the protocol.

Begin with ``signer_rules``, the table of rules.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from attrs import define, field, frozen

from ...errors import NetworkError, SignerError
from ...model import COPY_SOURCE, URL_ACTIONS, Action, Operation, Reply
from ...secret import Secret, SecretURL, without
from ...signers import wire_protocol
from ...signers.http import HTTPSigner, SignerExchange
from ...signers.wire_protocol import SAMPLE_UPLOAD_ID, SignerProblem, SignerReply
from ...signing.canonical import quote_path
from .rows import Result, Row, run

# a bucket, and a prefix of keys, that are not granted
ELSEWHERE = "osspresigned-check-elsewhere"
_FOLDER = "osspresigned-check/"
_MAX_SHOWN = 260  # characters of a request that a report shows

Request: TypeAlias = dict[str, Any]
Cases: TypeAlias = dict[str, Request]  # description of the difference -> request
Answer: TypeAlias = SignerReply | SignerProblem


@frozen
class Case:
    """One request of a rule, and the signer's answer."""

    what: str  # description of the difference
    request: Request
    answer: Answer


class RuleBrokenError(Exception):
    """Raised when the signer violates a protocol rule; the message is the reason."""


class RuleSkippedError(Exception):
    """Raised when a protocol rule cannot be tested; the message is the reason."""


@define(kw_only=True, slots=False)
class Kit:
    """Access to the checked signer; *token* has permission for *prefix* in *bucket*.

    *allowed_hosts* maps further permitted hosts to their buckets; None permits any
    bucket. *allowed_headers* are the ACL, callback and symlink headers that the policy
    grants, in lower case.

    Raises:
        ConfigurationError: *url* is not a valid signer URL.
    """

    url: str  # URL of the signer, as a client gets it
    bucket: str
    prefix: str  # prefix of the granted keys; empty for all keys
    exchange: SignerExchange
    token: Secret | None = None  # None if the signer needs no token
    allowed_hosts: Mapping[str, str | None] = field(factory=dict)
    allowed_headers: frozenset[str] = frozenset()
    allow_http: bool = False  # True permits plain http to other machines
    versions: bool = False  # True if the policy grants versions as copy sources
    clock: Callable[[], float] = time.time
    # The request whose result is checked now, or the body of the call; shown in
    # messages.
    sent: Request | bytes = field(default=b"", init=False)

    def __attrs_post_init__(self) -> None:
        HTTPSigner(self.url, exchange=self.exchange, allow_http=self.allow_http)

    def key(self, name: str) -> str:
        """Return an object key below the granted prefix."""
        return f"{self.prefix}{_FOLDER}{name}"

    def request(
        self, action: Action = Action.PutObject, name: str = "k", **members: Any
    ) -> Request:
        """Return a valid request for *action*; *members* replace its fields."""
        spec = action.spec
        request: Request = {"action": action, "bucket": self.bucket}
        if spec.on_bucket:
            request["query"] = {"prefix": self.prefix}
        else:
            request["key"] = self.key(name)
        if spec.upload_id:
            request["upload_id"] = SAMPLE_UPLOAD_ID
        if spec.part_number:
            request["part_number"] = 1
        if spec.body:
            request["content_length"] = 3
        if spec.copies:
            source = f"/{self.bucket}/{quote_path(self.key('source'))}"
            request["headers"] = {COPY_SOURCE: source}
        return {**request, **members}

    def probe(self, name: str = "k", **members: Any) -> Request:
        """Return a request for a granted action, PutObject if possible.

        *members* replace its fields. RuleSkippedError if no action on one object is
        granted.
        """
        for action in self.granted:
            if not (action.spec.copies or action.spec.on_bucket):
                return self.request(action, name, **members)
        raise RuleSkippedError("no action on a single object is granted")

    def needs(self, action: Action) -> None:
        """Raise RuleSkippedError if *action* is not granted."""
        if action not in self.granted:
            raise RuleSkippedError(f"{action} is not granted")

    def needs_prefix(self) -> None:
        """Raise RuleSkippedError if no key lies outside of the granted prefix."""
        if not self.prefix:
            raise RuleSkippedError("the check was told that every key is granted")

    def post(self, body: bytes, authorization: str | None = None) -> Reply:
        """Send *body* as one call to the signer, and return the reply; see ``send``."""
        return self.send("POST", "sign", body, authorization)

    def send(
        self, method: str, call: str, body: bytes, authorization: str | None = None
    ) -> Reply:
        """Send one *call*, such as ``sign``, to the signer, and return the reply.

        *authorization* None sends the token; an empty text sends no such header.
        RuleBrokenError if no reply comes, or if it is HTTP 429.
        """
        headers = {**wire_protocol.JSON_HEADERS}
        if authorization is None:
            headers |= wire_protocol.bearer(self.token)
        elif authorization:
            headers["Authorization"] = authorization
        url = SecretURL(f"{self.url.rstrip('/')}/v1/{call}")
        self.sent = body
        try:
            reply = self.exchange(method, url, headers, body, wire_protocol.MAX_REPLY)
        except (NetworkError, SignerError) as error:
            raise RuleBrokenError(error.message) from None
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            text = "HTTP 429: raise the rate limit of this token for the check"
            raise RuleBrokenError(text)
        return reply

    def results(self, *requests: Request, **members: Any) -> list[Answer]:
        """Send *requests* in one call, and return the parsed results.

        *members* are further fields of the call. Raises like :meth:`answers`.
        """
        body = json.dumps({"requests": requests, **members}).encode()
        return self.answers(self.post(body), len(requests))

    def answers(self, reply: Reply, count: int) -> list[Answer]:
        """Return the *count* results in *reply*.

        RuleBrokenError if the reply is refused, invalid, or has another number of
        results.
        """
        if reply.status != HTTPStatus.OK:
            problem = wire_protocol.problem_of_reply(reply)
            code = f" ({problem.code})" if problem.code else ""
            hint = ": check --token" if reply.status == HTTPStatus.UNAUTHORIZED else ""
            raise RuleBrokenError(f"HTTP {reply.status}{code} instead of 200{hint}")
        if media_type(reply) != "application/json":
            text = "the Content-Type of the reply is not application/json"
            raise RuleBrokenError(text)
        try:
            return wire_protocol.decode(reply.body, count)
        except ValueError as error:
            raise RuleBrokenError(f"the reply is not valid: {error}") from None

    def ask(self, cases: Cases) -> Iterator[Case]:
        """Request all *cases* in one call, and yield each with its answer."""
        answers = self.results(*cases.values()) if cases else []
        for (what, request), answer in zip(cases.items(), answers, strict=True):
            self.sent = request
            yield Case(what, request, answer)

    @cached_property
    def outcomes(self) -> dict[Action, Answer]:
        """The signer's result for one request of each action."""
        results = self.results(*map(self.request, URL_ACTIONS))
        return dict(zip(URL_ACTIONS, results, strict=True))

    @property
    def granted(self) -> dict[Action, SignerReply]:
        """The granted actions, with their signed requests."""
        return {a: o for a, o in self.outcomes.items() if isinstance(o, SignerReply)}

    def unfit(self, request: Request, url: str) -> str | None:
        """Return why *url* does not match *request* exactly; None if it does."""
        binding = wire_protocol.URLBinding(
            signer_host=urlsplit(self.url).hostname or "",
            allowed_hosts=self.allowed_hosts,
            allow_http=self.allow_http,
        )
        return binding.problem(Operation(**request), url)


def media_type(reply: Reply) -> str:
    """Return the Content-Type of *reply* without parameters, in lower case."""
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower()


@frozen
class ProtocolRule(Row):
    """One rule of the signer protocol; *check* tests it and yields violations."""

    check: Callable[[Kit], Iterator[str]]


def check_signer(kit: Kit, rules: Iterable[ProtocolRule]) -> Iterator[Result]:
    """Yield the result of each of *rules*, in their order."""
    return run(rules, lambda rule: _result(rule, kit))


def _result(rule: ProtocolRule, kit: Kit) -> Result:
    reasons: list[str] = []
    sent = kit.sent = b""
    try:
        # The reasons are collected one by one, so those found before an exception are
        # kept.
        for reason in rule.check(kit):
            sent = sent if reasons else kit.sent
            reasons.append(reason)
    except RuleBrokenError as broken:
        sent = sent if reasons else kit.sent
        reasons.append(str(broken))
    except RuleSkippedError as skipped:
        return rule.result("skipped", str(skipped))
    if not reasons:
        return rule.result("passed", sent=_text(kit.sent, kit), succeeded=True)
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return rule.result("failed", _shown(reasons[0], kit) + more, sent=_text(sent, kit))


def _text(sent: Request | bytes, kit: Kit) -> str:
    text = sent.decode("latin-1") if isinstance(sent, bytes) else json.dumps(sent)
    return _shown(text, kit)


def _shown(text: str, kit: Kit) -> str:
    if kit.token is not None:
        data = without(text.encode("utf-8", "surrogatepass"), kit.token.reveal())
        text = data.decode("utf-8", "surrogatepass")
    if len(text) > _MAX_SHOWN:
        text = f"{text[:_MAX_SHOWN]}... ({len(text)} characters)"
    return wire_protocol.clean(text)

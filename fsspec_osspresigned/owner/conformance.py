"""How somebody's signer is asked, and what of its answers counts as kept or broken."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from attrs import asdict, define, field, frozen

from .. import parsing
from ..errors import NetworkError, SignerError
from ..model import COPY_SOURCE, Action, Operation, Reply
from ..secret import Secret, SecretURL
from ..signers import protocol
from ..signers import protocol as binding
from ..signers.http import HTTPSigner, SignerExchange
from ..signers.protocol import Answer, Problem
from ..signing.canonical import quote_path
from ..urls import is_loopback

UPLOAD_ID = "0004B9895DBBB6EC98E3"
_FOLDER = "osspresigned-check/"
ELSEWHERE = "osspresigned-check-elsewhere"  # a bucket, and keys, of nobody
_MAX_DEPTH = 16
_STATUS = {
    "invalid_request": 400,
    "action_not_granted": 403,
    "forbidden": 403,
    "header_refused": 403,
}

Outcome = Literal["pass", "fail", "skip"]
Request = dict[str, Any]


class Broken(Exception):  # noqa: N818 - never leaves the kit
    """Ends a rule: the reason why it is broken."""


class Skipped(Exception):  # noqa: N818 - never leaves the kit
    """Ends a rule: the reason why it cannot be tried."""


@define(kw_only=True, slots=False)
class Kit:
    """One signer under examination.

    Attributes:
        url: the signer's URL, as a client is given it.
        bucket: a bucket that the token is granted.
        prefix: begin of the keys that it is granted there; empty for all.
        exchange: sends the calls.
        token: None if the signer takes none.
        allowed_hosts: host -> its bucket, None for any: where else URLs may lead.
        allowed_headers: lower-case names of ACL, callback and symlink headers that the
            policy grants.
        allow_http: plain http may leave this machine.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: *url* is no URL of a signer.
    """

    url: str
    bucket: str
    prefix: str
    exchange: SignerExchange
    token: Secret | None = None
    allowed_hosts: Mapping[str, str | None] = field(factory=dict)
    allowed_headers: frozenset[str] = frozenset()
    allow_http: bool = False
    clock: Callable[[], float] = time.time

    def __attrs_post_init__(self) -> None:
        """Check the URL as the client would."""
        HTTPSigner(self.url, exchange=self.exchange, allow_http=self.allow_http)

    def key(self, name: str) -> str:
        """Return a key that is granted."""
        return f"{self.prefix}{_FOLDER}{name}"

    def request(
        self, action: Action = Action.PutObject, name: str = "k", **members: Any
    ) -> Request:
        """Return a valid request, changed by *members*; headers are added."""
        request: Request = {"action": action, "bucket": self.bucket}
        if action.spec.on_bucket:
            request["query"] = {"prefix": self.prefix}
        else:
            request["key"] = self.key(name)
        if action.spec.upload_id:
            request["upload_id"] = UPLOAD_ID
        if action.spec.part_number:
            request["part_number"] = 7
        if action.spec.body:
            request["content_length"] = 3
        if action.spec.copies:
            source = f"/{self.bucket}/{quote_path(self.key('source'))}"
            request["headers"] = {COPY_SOURCE: source}
        return {**request, **members}

    def probe(self, name: str = "k", **members: Any) -> Request:
        """Return a request for what is granted: PutObject, if it is.

        Raises:
            Skipped: nothing but copies or listings is granted.
        """
        plain = [
            action
            for action in self.granted
            if not (action.spec.copies or action.spec.on_bucket)
        ]
        if not plain:
            raise Skipped("no action on a single object is granted")
        return self.request(plain[0], name, **members)

    def needs(self, action: Action) -> None:
        """Raise Skipped if *action* is not granted."""
        if action not in self.granted:
            raise Skipped(f"{action} is not granted")

    def post(self, body: bytes, authorization: str | None = None) -> Reply:
        """Send one call.

        Args:
            body: as it is.
            authorization: header instead of the token's; empty for none.

        Raises:
            Broken: no answer, or one that says nothing about a rule.
        """
        headers = {
            "Accept": "application/json, application/problem+json",
            "Content-Type": "application/json",
        }
        if authorization is None and self.token is not None:
            authorization = f"Bearer {self.token.reveal()}"
        if authorization:
            headers["Authorization"] = authorization
        url = SecretURL(f"{self.url.rstrip('/')}/v1/sign")
        try:
            reply = self.exchange("POST", url, headers, body, protocol.MAX_REPLY)
        except (NetworkError, SignerError) as error:
            raise Broken(error.message) from None
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Broken("HTTP 429: raise the rate limit of this token for the check")
        return reply

    def raw(self, *requests: Request, **members: Any) -> list[Any]:
        """Return the results of one call, as they came.

        Args:
            requests: of the call.
            members: other members of the call.

        Raises:
            Broken: it was not answered by as many results.
        """
        body = json.dumps({"requests": requests, **members}).encode()
        return self.document(self.post(body), len(requests))

    def document(self, reply: Reply, count: int) -> list[Any]:
        """Return the results in *reply*; raises Broken as ``raw`` does."""
        if reply.status != HTTPStatus.OK:
            problem = protocol.problem_of_reply(reply.status, reply.headers, reply.body)
            said = f" ({problem.code})" if problem.code else ""
            raise Broken(f"HTTP {reply.status}{said} instead of 200")
        if media_type(reply) != "application/json":
            raise Broken("the Content-Type of the reply is not application/json")
        try:
            protocol.decode(reply.body, count)
            results: list[Any] = parsing.loads(reply.body)["results"]
        except ValueError as error:
            raise Broken(f"the reply is not valid: {error}") from None
        return results

    def results(self, *requests: Request, **members: Any) -> list[Answer | Problem]:
        """Return the results of one call, read; raises Broken as ``raw`` does."""
        results = self.raw(*requests, **members)
        body = json.dumps({"results": results}).encode()
        return protocol.decode(body, len(requests))

    @cached_property
    def outcomes(self) -> dict[Action, Answer | Problem]:
        """What the signer answers to one request for each action."""
        return dict(zip(Action, self.results(*map(self.request, Action)), strict=True))

    @property
    def granted(self) -> dict[Action, Answer]:
        """The actions that are signed, with what was."""
        return {a: o for a, o in self.outcomes.items() if isinstance(o, Answer)}

    def misplaced(self, request: Request, url: str) -> str | None:
        """Return why *url* does not lead to the object of *request*; None if it does."""
        place = Operation(
            action=Action.HeadObject,
            bucket=request["bucket"],
            key=request.get("key", ""),
        )
        return self._unbound(place, url.partition("?")[0])

    def another_call(self, request: Request, url: str) -> str | None:
        """Return why the query of *url* is not that of *request*; None if it is."""
        operation = Operation(**request)
        where = f"https://{self.bucket}.oss-cn-hangzhou.aliyuncs.com"
        query = url.partition("?")[2]
        return self._unbound(
            operation, f"{where}/{quote_path(operation.key)}?{query}", allowed={}
        )

    def _unbound(
        self,
        operation: Operation,
        url: str,
        allowed: Mapping[str, str | None] | None = None,
    ) -> str | None:
        host = urlsplit(self.url).hostname or ""
        return binding.check(
            operation,
            url,
            signer_host=host,
            allowed_hosts=self.allowed_hosts if allowed is None else allowed,
            allow_http=self.allow_http,
            loopback_signer=is_loopback(host),
        )


def header_of(answer: Answer, name: str) -> object:
    """Return the value of the header *name*, whatever its case; None without it."""
    found = {given.lower(): value for given, value in answer.headers.items()}
    return found.get(name.lower())


def media_type(reply: Reply) -> str:
    """Return the Content-Type without its parameters, in lower case."""
    return reply.headers.get("content-type", "").partition(";")[0].strip().lower()


def not_refused(what: str, outcome: Answer | Problem, *codes: str) -> Iterator[str]:
    """Yield what is wrong unless *outcome* is a refusal with one of *codes*."""
    wanted = " or ".join(codes)
    if isinstance(outcome, Answer):
        yield f"{what} was signed instead of refused with {wanted}"
    elif outcome.code not in codes:
        yield f"{what} was refused with {outcome.code or 'no code'}, not {wanted}"
    elif outcome.status != _STATUS[outcome.code]:
        yield f"{what}: the status of {outcome.code} is {outcome.status}, not {_STATUS[outcome.code]}"


def not_signed(what: str, outcome: Answer | Problem) -> Iterator[str]:
    """Yield what is wrong unless *outcome* is signed."""
    if isinstance(outcome, Problem):
        code = outcome.code or outcome.status
        yield f"{what} was refused with {code} instead of signed"


@frozen
class Rule:
    """One rule of the protocol: its name, what it says, and who yields what breaks it."""

    name: str
    says: str
    check: Callable[[Kit], Iterator[str]]


def rules_of(*checks: Callable[[Kit], Iterator[str]]) -> tuple[Rule, ...]:
    """Return a rule for each of *checks*, called and described as the function is."""
    return tuple(
        Rule(
            check.__name__.strip("_").replace("_", "-"),
            (check.__doc__ or "").rstrip("."),
            check,
        )
        for check in checks
    )


@frozen
class Verdict:
    """What came of one rule; the reason is empty if it is kept."""

    rule: str
    says: str
    outcome: Outcome
    reason: str = ""

    def __str__(self) -> str:
        """Return one line for people."""
        mark = "FAIL" if self.outcome == "fail" else self.outcome
        said = f"\n      {self.reason}" if self.reason else ""
        return f"{mark}  {self.rule}: {self.says}{said}"

    def as_dict(self) -> dict[str, str]:
        """Return the members for JSON."""
        return asdict(self)


def run(kit: Kit, rules: Sequence[Rule]) -> Iterator[Verdict]:
    """Yield a verdict on each of *rules*; if the first is broken, none is tried."""
    stopped = False
    for rule in rules:
        if stopped:
            reason = f"not tried, because {rules[0].name} is broken"
            yield Verdict(rule.name, rule.says, "skip", reason)
            continue
        verdict = _verdict(rule, kit)
        stopped = rule is rules[0] and verdict.outcome == "fail"
        yield verdict


def _verdict(rule: Rule, kit: Kit) -> Verdict:
    reasons: list[str] = []
    try:
        # One by one, so that what was found before the signer broke off is kept.
        for reason in rule.check(kit):
            reasons.append(reason)  # noqa: PERF402
    except Broken as broken:
        reasons.append(str(broken))
    except Skipped as skipped:
        return Verdict(rule.name, rule.says, "skip", str(skipped))
    if not reasons:
        return Verdict(rule.name, rule.says, "pass")
    shown = reasons[0]
    if kit.token is not None:
        shown = shown.replace(kit.token.reveal(), "<hidden>")
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return Verdict(rule.name, rule.says, "fail", protocol.clean(shown) + more)

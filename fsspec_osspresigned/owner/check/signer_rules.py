"""Rules of signer protocol 1: test requests, and the replies that it requires.

Begin with ``RULES``, the table at the end. A rule that only says how a list of requests
must be answered is a row of data; the others are functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from ... import parsing
from ...model import COPY_SOURCE, OBJECT_ACL, Action, Reply
from ...options.target import Target
from ...secret import SecretURL
from ...signers import wire_protocol
from ...signers.base import MAX_REQUESTS
from ...signers.wire_protocol import ITEM_STATUS, SignerProblem, SignerReply
from ...signing.signed_url import describe
from ...url_checks import header_problems, own_header_problem
from .signer import (
    ELSEWHERE,
    Answer,
    Cases,
    Kit,
    ProtocolRule,
    Request,
    RuleBrokenError,
    RuleSkippedError,
    media_type,
)

Check: TypeAlias = Callable[[Kit], Iterator[str]]
Judge: TypeAlias = Callable[[Kit, Request, SignerReply], Iterator[str]]
# Description -> body, and the Authorization header if it is not the right one.
Calls: TypeAlias = Mapping[str, tuple[Any, ...]]
MakeCases: TypeAlias = Callable[[Kit], Cases]

_NEVER_ADDED = (
    *(COPY_SOURCE, "x-oss-symlink-target", OBJECT_ACL, "x-oss-acl"),
    "x-oss-callback",
)
_CLOCKS_DIFFER = 300  # seconds; a V1 URL has only its expiry time
_SIGNED_URL = re.compile(r"https?://[^\s?]+\?")
_UPLOAD = "U+/=id~1"


def _granted(judge: Judge) -> Check:
    def check(kit: Kit) -> Iterator[str]:
        for action, answer in kit.granted.items():
            kit.sent = request = kit.request(action)
            for problem in judge(kit, request, answer):
                yield f"{action}: {problem}"

    return check


def _signed(make_cases: MakeCases, judge: Judge = lambda *_: iter(())) -> Check:
    def check(kit: Kit) -> Iterator[str]:
        for what, request, result in kit.ask(make_cases(kit)):
            if isinstance(result, SignerReply):
                yield from judge(kit, request, result)
            # A policy can limit the size of the whole object, for which a part counts.
            elif result.code != "too_large" or request.get("part_number", 1) == 1:
                yield from _not_signed(what, result)

    return check


def _refused(make_cases: MakeCases, *codes: str) -> Check:
    def check(kit: Kit) -> Iterator[str]:
        for what, _, result in kit.ask(make_cases(kit)):
            yield from _not_refused(what, result, *codes)

    return check


def _unsigned(headers: Mapping[str, str]) -> Check:
    """Return a check that *headers* are signed only if the policy grants them."""

    def check(kit: Kit) -> Iterator[str]:
        closed = {  # each is requested once as required, and once as optional
            name: {name: value.format(bucket=kit.bucket)}
            for name, value in headers.items()
            if name not in kit.allowed_headers
        }
        if not closed:
            raise RuleSkippedError("the policy is said to grant these headers")
        required = {name: kit.probe(headers=header) for name, header in closed.items()}
        for name, _, result in kit.ask(required):
            codes = ("header_refused", "forbidden")
            yield from _not_refused(f"the header {name}", result, *codes)
        optional = {n: kit.probe(optional_headers=h) for n, h in closed.items()}
        for name, _, result in kit.ask(optional):
            if isinstance(result, SignerReply) and _header(result, name) is not None:
                yield f"the header {name} was signed because it was wished"

    return check


def _probes(cases: Mapping[str, Mapping[str, Any]]) -> MakeCases:
    # Description -> members that replace those of a valid request.
    return lambda kit: {what: kit.probe(**new) for what, new in cases.items()}


def _each(member: str, *values: object) -> MakeCases:
    return lambda kit: {
        f"{action} with {member} {value!r}": {
            name: value if name == member else own
            for name, own in kit.request(action).items()
        }
        for action in kit.granted
        for value in values
    }


def _not_refused(what: str, result: Answer, *codes: str) -> Iterator[str]:
    wanted = " or ".join(codes)
    if isinstance(result, SignerReply):
        yield f"{what} was signed instead of refused with {wanted}"
    elif result.code not in codes:
        yield f"{what} was refused with {result.code or 'no code'}, not {wanted}"
    elif result.status != (right := ITEM_STATUS[result.code]):
        yield f"{what}: the status of {result.code} is {result.status}, not {right}"


def _not_signed(what: str, result: Answer) -> Iterator[str]:
    if isinstance(result, SignerProblem):
        code = result.code or result.status
        yield f"{what} was refused with {code} instead of signed"


def _refused_call(reply: Reply, what: str, *statuses: int) -> Iterator[str]:
    wanted = " or ".join(map(str, statuses))
    if reply.status not in statuses:
        yield f"{what}: HTTP {reply.status}, not {wanted}"
        return
    if media_type(reply) != "application/problem+json":
        yield f"{what}: the refusal is not application/problem+json"
        return
    try:
        problem = parsing.loads(reply.body)
    except ValueError as error:
        yield f"{what}: the refusal is {error}"
        return
    if not isinstance(problem, dict) or problem.get("status") != reply.status:
        yield f"{what}: the status in the problem is not that of HTTP"
    elif wrong := _misshapen(problem):
        yield f"{what}: the problem {wrong}"
    elif reply.status == HTTPStatus.UNAUTHORIZED and problem["code"] != "unauthorized":
        yield f"{what}: the code is not unauthorized"


def _misshapen(problem: Mapping[str, Any]) -> str | None:
    code = problem.get("code")
    if not isinstance(code, str) or not code:
        return "has no code"
    for name in ("title", "detail"):
        if not isinstance(problem.get(name, ""), str):
            return f"has a {name} that is {parsing.kind(problem[name])}"
        if _SIGNED_URL.search(problem.get(name, "")):
            return f"has a URL with a query in its {name}"
    return None


def _header(answer: SignerReply, name: str) -> object:
    values = {header.lower(): value for header, value in answer.headers.items()}
    return values.get(name.lower())


def _without(request: Request, name: str) -> Request:
    return {member: value for member, value in request.items() if member != name}


def _answers(kit: Kit) -> Iterator[str]:
    if not kit.granted:
        codes = {o.code for o in kit.outcomes.values() if isinstance(o, SignerProblem)}
        yield f"nothing is signed below {kit.bucket}/{kit.prefix} ({min(codes)})"


def _methods(_: Kit, request: Request, answer: SignerReply) -> Iterator[str]:
    right = request["action"].method
    if answer.method != right:
        yield f"came back as {answer.method[:10]!r}, not {right}"


def _host_and_key(kit: Kit, request: Request, answer: SignerReply) -> Iterator[str]:
    if problem := kit.misplaced(request, answer.url):
        yield problem


def _echoes(parameter: str, member: str) -> Judge:
    def judge(_: Kit, request: Request, answer: SignerReply) -> Iterator[str]:
        items = (item.partition("=") for item in urlsplit(answer.url).query.split("&"))
        values = [unquote(value) for n, _, value in items if unquote(n) == parameter]
        if values != ([str(request[member])] if member in request else []):
            yield f"{request['action']}: {parameter} in the URL is not the one asked for"

    return judge


def _no_other_call(kit: Kit) -> Iterator[str]:
    requests = {str(action): kit.request(action) for action in kit.granted}
    for action, answer in kit.granted.items():
        kit.sent = requests[action]
        if problem := kit.another_call(requests[action], answer.url):
            yield f"{action}: {problem}"
    # Members of a part in a request for something else must not make it a part.
    stray = {a: {"upload_id": "U", "part_number": 1, **r} for a, r in requests.items()}
    for what, request, result in kit.ask(stray):
        plain = requests[request["action"]]
        if isinstance(result, SignerReply) and kit.another_call(plain, result.url):
            yield f"{what} with members of a part became another call"


def _reply_headers(_: Kit, request: Request, answer: SignerReply) -> Iterator[str]:
    yield from header_problems(answer.headers)
    asked = {name.lower() for name in request.get("headers", ())}
    for name in answer.headers:
        if name.lower().startswith(_NEVER_ADDED) and name.lower() not in asked:
            yield f"the header {name[:40]!r} was not asked for"
    signed = describe(SecretURL(answer.url)).additional_headers
    length = request.get("content_length")
    if own := own_header_problem(answer.headers, answer.url, signed, length):
        yield own


def _header_echo(kit: Kit) -> Iterator[str]:
    demands = {"Content-Type": "text/x-check", "x-oss-meta-check": "a  B;c"}
    cases = {n: kit.probe(headers={n: v}) for n, v in demands.items()}
    for name, _, result in kit.ask(cases):
        if isinstance(result, SignerProblem):
            yield from _not_refused(name, result, "header_refused")
        elif _header(result, name) != demands[name]:
            yield f"the demanded header {name} did not come back with its value"


def _wished(_: Kit, request: Request, answer: SignerReply) -> Iterator[str]:
    for name, value in request["optional_headers"].items():
        if _header(answer, name) not in (None, value):
            yield f"the wished header {name} came back with another value"


def _uploads(kit: Kit) -> Cases:
    complete, abort = Action.CompleteMultipartUpload, Action.AbortMultipartUpload
    wish = {"Content-Type": "text/csv"}
    target = Target.of(path=f"{kit.bucket}/{kit.key('a.csv')}", optional_headers=wish)
    sent = (
        target.put_operation(3),
        target.initiate_operation(),
        target.part_operation(_UPLOAD, 1, 3),
        target.operation(complete, upload_id=_UPLOAD, content_length=3),
        target.operation(Action.ListParts, upload_id=_UPLOAD),
        target.operation(abort, upload_id=_UPLOAD),
    )
    granted = {str(o.action): o for o in sent if o.action in kit.granted}
    if not granted:
        raise RuleSkippedError("no action of an upload is granted")
    return {name: json.loads(wire_protocol.encode(o)) for name, o in granted.items()}


def _odd_keys(kit: Kit) -> Iterator[str]:
    plain = ("a b+c", "%41%2F", "\u00e9\u4e2d", "q?&=#", "~'()*!")
    # These may be refused, but they must not lead elsewhere.
    dotted = ("x/../y", "x//y", "x/./y", "%2e%2e/y", "../../y")
    for name, request, result in kit.ask({n: kit.probe(n) for n in plain + dotted}):
        if isinstance(result, SignerReply):
            if kit.misplaced(request, result.url):
                yield f"the URL for the key ...{name} leads to another key"
        elif name in plain:
            yield from _not_signed(f"the key ...{name}", result)


def _order(kit: Kit) -> Iterator[str]:
    cases = {
        f"request {index} of 5": kit.probe(name) for index, name in enumerate("cadbe")
    }
    bad = "request 2 of 5"
    cases[bad] = {**cases[bad], "action": "NoSuchAction"}
    for what, request, result in kit.ask(cases):
        if what == bad:
            codes = ("invalid_request", "action_not_granted")
            yield from _not_refused(f"the unknown action in {what}", result, *codes)
            continue
        yield from _not_signed(what, result)
        if isinstance(result, SignerReply) and kit.misplaced(request, result.url):
            yield f"the result of {what} is for another object"


def _unknown_members(kit: Kit) -> Iterator[str]:
    [result] = kit.results(kit.probe(x_check={"a": [1]}), x_check="b")
    yield from _not_signed("a request with an unknown member", result)


def _lives(kit: Kit, request: Request, answer: SignerReply) -> Iterator[str]:
    requested = request["expires_in"]
    signed = describe(SecretURL(answer.url))
    stated, slack = answer.expires_in, 0 if signed.signed_at else _CLOCKS_DIFFER
    if stated is not None and not 1 <= stated <= requested:
        yield f"expires_in is {stated}, wished was {requested}"
    if signed.expires_at is not None:
        life = signed.expires_at - (signed.signed_at or kit.clock())
        if life > requested + slack:
            yield f"the URL lives for {life:.0f} s, wished were {requested}"
        if stated is not None and stated > life + slack:
            yield f"expires_in is {stated}, but the URL lives for {life:.0f} s"
    elif stated is None:
        yield "neither expires_in nor the URL tells when it ends"


def _not_granted(kit: Kit) -> Iterator[str]:
    for action, result in kit.outcomes.items():
        more = ("forbidden", "header_refused") if action.spec.copies else ()
        kit.sent = kit.request(action)
        if isinstance(result, SignerProblem):
            yield from _not_refused(action, result, "action_not_granted", *more)


def _copy_without_source(kit: Kit) -> Iterator[str]:
    copies = [kit.request(action) for action in kit.granted if action.spec.copies]
    if not copies:
        raise RuleSkippedError("no copy is granted")
    bare = {f"{q['action']} without a source": _without(q, "headers") for q in copies}
    for what, _, result in kit.ask(bare):
        yield from _not_refused(what, result, "invalid_request")
    wished = {
        what: {**request, "optional_headers": copy["headers"]}
        for (what, request), copy in zip(bare.items(), copies, strict=True)
    }
    for what, _, result in kit.ask(wished):
        if isinstance(result, SignerReply) and _header(result, COPY_SOURCE) is None:
            yield f"{what} was signed, because a wished source was dropped"


def _copy_version(kit: Kit) -> Cases:
    if kit.versions:
        raise RuleSkippedError("the policy is said to grant versions")
    kit.needs(Action.CopyObject)
    source = kit.request(Action.CopyObject)["headers"][COPY_SOURCE]
    version = {COPY_SOURCE: f"{source}?versionId=v"}
    return {"a copy of a version": kit.request(Action.CopyObject, headers=version)}


def _copy_outside(kit: Kit) -> Iterator[str]:
    kit.needs(Action.CopyObject)
    sources = [f"/{ELSEWHERE}/k"]
    if kit.prefix:
        sources += [f"/{kit.bucket}/{ELSEWHERE}/k", f"{kit.bucket}/{ELSEWHERE}%2Fk"]
    cases = {
        source: kit.request(Action.CopyObject, headers={COPY_SOURCE: source})
        for source in sources
    }
    for source, _, result in kit.ask(cases):
        codes = ["forbidden", "header_refused"]
        if not source.startswith("/"):  # a signer may say that it is malformed
            codes.append("invalid_request")
        yield from _not_refused("a copy from outside", result, *codes)


def _other_prefix(kit: Kit) -> Cases:
    kit.needs_prefix()
    keys = (f"{ELSEWHERE}/k", f"{ELSEWHERE}/../{kit.key('k')}")
    return {f"the key {key}": kit.probe(key=key) for key in keys}


def _other_listing(kit: Kit) -> Cases:
    kit.needs(Action.ListObjectsV2)
    kit.needs_prefix()
    queries: list[dict[str, str]] = [{}, {"prefix": ""}, {"prefix": ELSEWHERE}]
    return {
        f"a listing of {query or 'all'}": kit.request(Action.ListObjectsV2, query=query)
        for query in queries
    }


def _wrong_members(kit: Kit) -> Cases:
    plain = kit.probe()
    cases = {
        **{f"{n} missing": _without(plain, n) for n in ("bucket", "key")},
        **{f"{n} a number": {**plain, n: 1} for n in ("bucket", "key", "headers")},
        "a header that is a number": {**plain, "headers": {"x-oss-meta-a": 1}},
        "an empty key": {**plain, "key": ""},
        "expires_in 0": {**plain, "expires_in": 0},
        "expires_in 604801": {**plain, "expires_in": 604_801},
        "expires_in a string": {**plain, "expires_in": "60"},
    }
    for action, name, values in (
        (Action.PutObject, "content_length", (-1, True, "3")),
        (Action.UploadPart, "part_number", (0, 10_001, True, "1")),
        (Action.UploadPart, "upload_id", ("", 1)),
    ):
        if action in kit.granted:
            right = kit.request(action)
            cases[f"{name} missing"] = _without(right, name)
            cases |= {f"{name} {value!r}": {**right, name: value} for value in values}
    return {f"a request with {what}": request for what, request in cases.items()}


def _surrogates(kit: Kit) -> Iterator[str]:
    what = "the key ...\\ud800, a lone surrogate,"
    reply = kit.post(json.dumps({"requests": [kit.probe("\ud800")]}).encode())
    if reply.status == HTTPStatus.BAD_REQUEST:
        yield from _refused_call(reply, what, HTTPStatus.BAD_REQUEST)
        return
    [result] = kit.answers(reply, 1)
    yield from _not_refused(what, result, "invalid_request")


def _item_errors(kit: Kit) -> Iterator[str]:
    bad = [{**kit.probe(), "action": "NoSuchAction"}, kit.probe(bucket=ELSEWHERE)]
    bad.append(_without(kit.probe(), "key"))
    reply = kit.post(json.dumps({"requests": bad}).encode())
    kit.answers(reply, len(bad))
    for result in parsing.loads(reply.body)["results"]:
        if "error" not in result:
            yield "a bad request was signed"
        elif "url" in result:
            yield "a result has both an error and a URL"
        elif problem := _misshapen(result["error"]):
            yield f"an item's error {problem}"


def _refused_calls(make_calls: Callable[[Kit], Calls], *statuses: int) -> Check:
    def check(kit: Kit) -> Iterator[str]:
        for what, (body, *authorization) in make_calls(kit).items():
            reply = kit.post(body, *authorization)
            yield from _refused_call(reply, what, *statuses)

    return check


def _bad_calls(_: Kit) -> Calls:
    bodies = (b"{", b"\xff", b"[]", b"{}", b'{"requests": []}', b'{"requests": {}}')
    return {body.decode("latin-1"): (body,) for body in bodies}


def _duplicate_member(kit: Kit) -> Calls:
    member = f'"requests": [{json.dumps(kit.probe())}]'
    return {"a member twice": (f"{{{member}, {member}}}".encode(),)}


def _wrong_tokens(kit: Kit) -> Calls:
    if kit.token is None:
        raise RuleSkippedError("no token was given")
    body = wire_protocol.body([json.dumps(kit.probe())])
    return {
        "no token": (body, ""),
        "a wrong token": (body, "Bearer osspresigned-check"),
        "an empty token": (body, "Bearer"),
        "another scheme": (body, "Basic b3NzOmNoZWNr"),
    }


def _batch_limit(kit: Kit) -> Iterator[str]:
    item, limit = json.dumps(kit.probe()), MAX_REQUESTS
    full = kit.answers(kit.post(wire_protocol.body([item] * limit)), limit)
    if any(isinstance(answer, SignerProblem) for answer in full):
        yield f"not all of {limit} equal requests were signed"
    reply = kit.post(wire_protocol.body([item] * (limit + 1)))
    yield from _refused_call(reply, f"{limit + 1} requests", 413, 400)


def _body_limit(kit: Kit) -> Iterator[str]:
    body = wire_protocol.body([json.dumps(kit.probe())])
    full = body.ljust(wire_protocol.MAX_REQUEST_BODY)
    try:
        kit.answers(kit.post(full), 1)
    except RuleBrokenError as broken:
        yield f"a body of 1 MiB: {broken}"
    reply = kit.post(full + b" ")
    yield from _refused_call(reply, "a body of 1 MiB and a byte", 413, 400)


_OTHER_CALLS = {
    **dict.fromkeys(("acl", "tagging", "uploads", "append", "symlink"), ""),
    "uploadId": "U",
    "partNumber": "1",
    "list-type": "2",
    "x-oss-process": "image/info",
}
_OTHER_HEADERS = {
    "X-Check": "1",
    "Range": "bytes=0-1",
    "Content-Length": "3",
    "Authorization": "1",
    "Transfer-Encoding": "chunked",
    "Content-Type": "a\r\nX-Check: 1",
}
_ACL = {OBJECT_ACL: "public-read", "x-oss-acl": "public-read"}
_SOURCE = {COPY_SOURCE: "/{bucket}/k", f"{COPY_SOURCE}-range": "bytes=0-1"}
_RETENTION = {
    "x-oss-object-worm-mode": "COMPLIANCE",
    "x-oss-bypass-governance-retention": "true",
}
_CALLBACK_AND_SYMLINK = {
    **dict.fromkeys(("x-oss-callback", "x-oss-callback-var"), "e30="),
    "x-oss-symlink-target": "k",
}
_SIGNATURE = (
    *("date", "expires", "credential", "security-token", "content-sha256"),
    *("signature", "signature-version", "additional-headers"),
)
_OPTIONAL = {"optional_headers": {"Content-Type": "text/x-check", "X-Check": "1"}}
_NULLABLE = ("bucket", "key", "headers", "optional_headers", "query", "expires_in")

# fmt: off
RULES = (
    ProtocolRule("answers", "The signer returns a signed request for a granted action",
        _answers, is_control=True),
    ProtocolRule("methods", "The signed request has the HTTP method of the requested action",
        _granted(_methods)),
    ProtocolRule("host-and-key", "The URL leads to the requested bucket and key",
        _granted(_host_and_key)),
    ProtocolRule("upload-id", "The URL contains the requested uploadId once, and only in calls on an upload",
        _signed(_each("upload_id", _UPLOAD), _echoes("uploadId", "upload_id"))),
    ProtocolRule("part-number", "The URL contains the requested partNumber once, and only in calls on a part",
        _signed(_each("part_number", 1, 2, 10_000), _echoes("partNumber", "part_number"))),
    ProtocolRule("no-other-call", "The query parameters of the URL are exactly those of the requested call",
        _no_other_call),
    ProtocolRule("reply-headers", "The headers of a signed request are valid, and grant nothing unrequested",
        _granted(_reply_headers)),
    ProtocolRule("header-echo", "A required header is returned with its value, or the request is refused",
        _header_echo),
    ProtocolRule("wishes", "An optional header never causes a refusal, and its value is never changed",
        _signed(_probes({"a request with wished headers": _OPTIONAL}), _wished)),
    ProtocolRule("uploads", "All requests of an upload, by one PUT or in parts, are signed",
        _signed(_uploads)),
    ProtocolRule("odd-keys", "A key is signed unchanged: percent-encoded once, without resolving `..`",
        _odd_keys),
    ProtocolRule("order", "Results have the order of the requests, and an invalid request fails alone",
        _order),
    ProtocolRule("unknown-members", "Unknown JSON members of a request are ignored",
        _unknown_members),
    ProtocolRule("life", "A URL expires no later than requested, and the reply's expires_in is correct",
        _signed(_probes({f"expires_in {n}": {"expires_in": n} for n in (60, 900)}), _lives)),
    ProtocolRule("not-granted", "An action that is not granted is refused with action_not_granted",
        _not_granted),
    ProtocolRule("closed-query", "A query parameter outside the protocol's list is refused with invalid_request",
        _refused(_probes({f"the parameter {n}": {"query": {n: v}} for n, v in _OTHER_CALLS.items()}), "invalid_request")),
    ProtocolRule("acl", "An access control list is refused, unless the policy permits it",
        _unsigned(_ACL)),
    ProtocolRule("copy-source", "A copy source is refused for all actions except copies",
        _unsigned(_SOURCE)),
    ProtocolRule("retention", "Locking or unlocking an object is refused, unless the policy permits it",
        _unsigned(_RETENTION)),
    ProtocolRule("callback-and-symlink", "A callback or symlink target is refused, unless the policy permits it",
        _unsigned(_CALLBACK_AND_SYMLINK)),
    ProtocolRule("closed-headers", "A required header outside the protocol's list is refused",
        _refused(_probes({f"the header {n}: {v!r}": {"headers": {n: v}} for n, v in _OTHER_HEADERS.items()}), "header_refused", "invalid_request")),
    ProtocolRule("signature-headers", "A header that belongs to the signature is refused",
        _unsigned({f"x-oss-{name}": "1" for name in _SIGNATURE})),
    ProtocolRule("copy-without-source", "A copy without a source, which would be an upload of any size, is refused",
        _copy_without_source),
    ProtocolRule("copy-version", "A copy source with a version is refused, unless the policy grants versions",
        _refused(_copy_version, "forbidden", "header_refused")),
    ProtocolRule("copy-outside", "A copy source without permission to read it is refused",
        _copy_outside),
    ProtocolRule("other-bucket", "A request for another bucket is refused",
        _refused(_probes({"another bucket": {"bucket": ELSEWHERE}}), "forbidden", "action_not_granted")),
    ProtocolRule("other-prefix", "A key outside of the granted prefix is refused",
        _refused(_other_prefix, "forbidden")),
    ProtocolRule("other-listing", "A listing outside of the granted prefix is refused",
        _refused(_other_listing, "forbidden")),
    ProtocolRule("nulls", "A JSON member that is null is refused",
        _refused(_probes({f"a request with {n} null": {n: None} for n in _NULLABLE}), "invalid_request")),
    ProtocolRule("members", "A missing JSON member, or one of a wrong type or range, is refused",
        _refused(_wrong_members, "invalid_request")),
    ProtocolRule("surrogates", "A key that UTF-8 cannot encode is refused, alone or with the whole call",
        _surrogates),
    ProtocolRule("item-errors", "The error for a request has all members, and its text contains no signed URL",
        _item_errors),
    ProtocolRule("call-errors", "An invalid call is refused with 400 and problem details",
        _refused_calls(_bad_calls, 400)),
    ProtocolRule("duplicate-members", "A call with a duplicate JSON member is refused",
        _refused_calls(_duplicate_member, 400)),
    ProtocolRule("token", "A missing or wrong token is refused with 401",
        _refused_calls(_wrong_tokens, 401)),
    ProtocolRule("batch-limit", "A call of 100 requests is answered, one of 101 is refused with 413 or 400",
        _batch_limit),
    ProtocolRule("body-limit", "A body of 1 MiB is accepted, a larger one is refused with 413 or 400",
        _body_limit),
)
# fmt: on

"""Rules of signer protocol 1: requests, and the required answers.

Begin with ``RULES``, the table at the end. Most rules have a list of requests, which
are sent in one call, and a check of each answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from ... import parsing
from ...model import COPY_SOURCE, OBJECT_ACL, URL_ACTIONS, Action, Reply
from ...options.target import Target
from ...secret import SecretURL
from ...signers import wire_protocol
from ...signers.base import MAX_REQUESTS
from ...signers.http import NEVER_ADDED
from ...signers.wire_protocol import ITEM_STATUS, SignerProblem, SignerReply
from ...signing.signed_url import describe
from ...url_checks import header_problems, own_header_problem
from .signer import (
    ELSEWHERE,
    Case,
    Cases,
    Kit,
    ProtocolRule,
    Request,
    RuleBrokenError,
    RuleSkippedError,
    media_type,
)

Check: TypeAlias = Callable[[Kit], Iterator[str]]
MakeCases: TypeAlias = Callable[[Kit], Cases]
# yields descriptions of violations
Must: TypeAlias = Callable[[Kit, Case], Iterator[str]]
Judge: TypeAlias = Callable[[Kit, Case, SignerReply], Iterator[str]]
# Description -> body, and an Authorization header if it is not the right one.
Calls: TypeAlias = Mapping[str, tuple[Any, ...]]

# seconds by which clocks may differ; a V1 URL has only its expiry time
_CLOCKS_DIFFER = 300
_SIGNED_URL = re.compile(r"https?://[^\s?]+\?")
_UPLOAD = "U+/=id~1"
_VALUES = {"upload_id": (_UPLOAD,), "part_number": (1, 2, 10_000)}
_STRAY = "with members of a part"


def _asks(make_cases: MakeCases, must: Must) -> Check:
    def check(kit: Kit) -> Iterator[str]:
        for case in kit.ask(make_cases(kit)):
            yield from must(kit, case)

    return check


def _signed(*judges: Judge) -> Must:
    def must(kit: Kit, case: Case) -> Iterator[str]:
        if isinstance(case.answer, SignerReply):
            for judge in judges:
                yield from judge(kit, case, case.answer)
        # A policy can limit the size of the whole object, and may count a later part as
        # a whole one.
        elif case.answer.code != "too_large" or case.request.get("part_number", 1) == 1:
            code = case.answer.code or case.answer.status
            yield f"{case.what} was refused with {code} instead of signed"

    return must


def _refused(*codes: str) -> Must:
    def must(_: Kit, case: Case) -> Iterator[str]:
        what, answer, wanted = case.what, case.answer, " or ".join(codes)
        if isinstance(answer, SignerReply):
            yield f"{what} was signed instead of refused with {wanted}"
        elif answer.code not in codes:
            yield f"{what} was refused with {answer.code or 'no code'}, not {wanted}"
        elif answer.status != (right := ITEM_STATUS[answer.code]):
            yield f"{what}: the status of {answer.code} is {answer.status}, not {right}"

    return must


def _refused_calls(make_calls: Callable[[Kit], Calls], *statuses: int) -> Check:
    def check(kit: Kit) -> Iterator[str]:
        for what, (body, *authorization) in make_calls(kit).items():
            reply = kit.post(body, *authorization)
            yield from _refused_call(reply, what, *statuses)

    return check


def _refused_call(reply: Reply, what: str, *statuses: int) -> Iterator[str]:
    if reply.status not in statuses:
        yield f"{what}: HTTP {reply.status}, not {' or '.join(map(str, statuses))}"
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
        yield f"{what}: the status in the problem differs from the HTTP status"
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


def _probes(cases: Mapping[str, Mapping[str, Any]]) -> MakeCases:
    # Description -> fields that replace those of a valid request.
    return lambda kit: {what: kit.probe(**new) for what, new in cases.items()}


def _actions(kit: Kit) -> Cases:
    return {str(action): kit.request(action) for action in kit.granted}


def _varied(kit: Kit) -> Cases:
    cases = plain = _actions(kit)
    for action, request in plain.items():
        # Fields of a part must not turn another request into a part.
        stray = {"upload_id": "U", "part_number": 1, **request}
        cases = {**cases, f"{action} {_STRAY}": stray}
        for name, values in _VALUES.items():
            for value in values if name in request else ():
                cases[f"{action} with {name} {value!r}"] = {**request, name: value}
    return cases


def _answers(kit: Kit) -> Iterator[str]:
    if not kit.granted:
        codes = {o.code for o in kit.outcomes.values() if isinstance(o, SignerProblem)}
        yield f"nothing is signed below {kit.bucket}/{kit.prefix} ({min(codes)})"


def _has_its_method(_: Kit, case: Case, answer: SignerReply) -> Iterator[str]:
    right = case.request["action"].method
    if answer.method != right:
        yield f"{case.what}: came back as {answer.method[:10]!r}, not {right}"


def _fits(kit: Kit, case: Case, answer: SignerReply) -> Iterator[str]:
    if problem := kit.unfit(case.request, answer.url):
        yield f"{case.what}: {problem}"


def _is_exact(kit: Kit, case: Case) -> Iterator[str]:
    if isinstance(case.answer, SignerReply) or not case.what.endswith(_STRAY):
        yield from _signed(_fits)(kit, case)


def _sends_what_was_asked(_: Kit, case: Case, answer: SignerReply) -> Iterator[str]:
    asked = {name.lower() for name in case.request.get("headers", ())}
    signed = describe(SecretURL(answer.url)).additional_headers
    length = case.request.get("content_length")
    problems = [*header_problems(answer.headers)]
    problems += [
        f"the header {name[:40]!r} was not requested"
        for name in answer.headers
        if name.lower().startswith(NEVER_ADDED) and name.lower() not in asked
    ]
    if own := own_header_problem(answer.headers, answer.url, signed, length):
        problems.append(own)
    yield from (f"{case.what}: {problem}" for problem in problems)


def _demanded(kit: Kit, case: Case) -> Iterator[str]:
    if isinstance(case.answer, SignerProblem):
        yield from _refused("header_refused")(kit, case)
    elif _header(case.answer, case.what) != case.request["headers"][case.what]:
        yield f"the required header {case.what} did not come back with its value"


def _wished(_: Kit, case: Case, answer: SignerReply) -> Iterator[str]:
    for name, value in case.request["optional_headers"].items():
        if _header(answer, name) not in (None, value):
            yield f"the optional header {name} came back with another value"


def _of_uploads(kit: Kit) -> Cases:
    complete, abort = Action.CompleteMultipartUpload, Action.AbortMultipartUpload
    wish = {"Content-Type": "text/csv"}
    target = Target.of(path=f"{kit.bucket}/{kit.key('a.csv')}", optional_headers=wish)
    sent = (
        target.operation(Action.PutObject, content_length=3),
        target.operation(Action.InitiateMultipartUpload),
        target.operation(
            Action.UploadPart, upload_id=_UPLOAD, part_number=1, content_length=3
        ),
        target.operation(complete, upload_id=_UPLOAD, content_length=3),
        target.operation(Action.ListParts, upload_id=_UPLOAD),
        target.operation(abort, upload_id=_UPLOAD),
    )
    granted = {str(o.action): o for o in sent if o.action in kit.granted}
    if not granted:
        raise RuleSkippedError("no action of an upload is granted")
    return {name: json.loads(wire_protocol.encode(o)) for name, o in granted.items()}


_ODD_KEYS = ("a b+c", "%41%2F", "\u00e9\u4e2d", "q?&=#", "~'()*!")
# A signer may refuse these keys, but must not sign a different key.
_DOTTED_KEYS = ("x/../y", "x//y", "x/./y", "%2e%2e/y", "../../y")


def _odd_keys(kit: Kit) -> Cases:
    return {f"the key ...{n}": kit.probe(n) for n in _ODD_KEYS + _DOTTED_KEYS}


def _is_unchanged(kit: Kit, case: Case) -> Iterator[str]:
    if isinstance(case.answer, SignerReply):
        if kit.unfit(case.request, case.answer.url):
            yield f"the URL for {case.what} leads to another key"
    elif case.what.endswith(_ODD_KEYS):
        yield from _signed()(kit, case)


_UNKNOWN = "NoSuchAction"


def _one_of_five_bad(kit: Kit) -> Cases:
    cases = {f"request {i} of 5": kit.probe(name) for i, name in enumerate("cadbe")}
    cases["request 2 of 5"]["action"] = _UNKNOWN
    return cases


def _has_its_place(kit: Kit, case: Case) -> Iterator[str]:
    if case.request["action"] == _UNKNOWN:
        yield from _refused("invalid_request", "action_not_granted")(kit, case)
    else:
        yield from _signed(_fits)(kit, case)


def _unknown_members(kit: Kit) -> Iterator[str]:
    request = kit.probe(x_check={"a": [1]})
    [answer] = kit.results(request, x_check="b")
    yield from _signed()(kit, Case("a request with an unknown member", request, answer))


def _lives(kit: Kit, case: Case, answer: SignerReply) -> Iterator[str]:
    requested = case.request["expires_in"]
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
        yield "neither expires_in nor the URL shows when it expires"


def _other_actions(kit: Kit) -> Cases:
    return {str(a): kit.request(a) for a in URL_ACTIONS if a not in kit.granted}


def _is_not_granted(kit: Kit, case: Case) -> Iterator[str]:
    copies = case.request["action"].spec.copies
    more = ("forbidden", "header_refused") if copies else ()
    yield from _refused("action_not_granted", *more)(kit, case)


def _closed(kit: Kit) -> Cases:
    closed = {
        name: {name: value.format(bucket=kit.bucket)}
        for name, value in _CLOSED.items()
        if name not in kit.allowed_headers
    }
    required = {f"the header {n}": kit.probe(headers=h) for n, h in closed.items()}
    wished = {f"the wish {n}": kit.probe(optional_headers=h) for n, h in closed.items()}
    return required | wished


def _is_unsigned(kit: Kit, case: Case) -> Iterator[str]:
    if "headers" in case.request:
        yield from _refused("header_refused", "forbidden")(kit, case)
    elif isinstance(case.answer, SignerReply):
        for name, value in case.request["optional_headers"].items():
            if _header(case.answer, name) == value:
                # another value was set by the signer itself
                yield f"the header {name} was signed because it was wished"


def _copies_without_source(kit: Kit) -> Cases:
    copies = [kit.request(action) for action in kit.granted if action.spec.copies]
    if not copies:
        raise RuleSkippedError("no copy is granted")
    bare = {f"{q['action']} without a source": _without(q, "headers") for q in copies}
    wished = {
        f"{q['action']} with an optional source": {
            **_without(q, "headers"),
            "optional_headers": q["headers"],
        }
        for q in copies
    }
    return bare | wished


def _is_no_upload(kit: Kit, case: Case) -> Iterator[str]:
    if "optional_headers" not in case.request:
        yield from _refused("invalid_request")(kit, case)
    elif isinstance(case.answer, SignerReply) and not _header(case.answer, COPY_SOURCE):
        yield f"{case.what} was signed, because an optional source was dropped"


def _copy_version(kit: Kit) -> Cases:
    if kit.versions:
        raise RuleSkippedError("the check was told that the policy grants versions")
    kit.needs(Action.CopyObject)
    source = kit.request(Action.CopyObject)["headers"][COPY_SOURCE]
    version = {COPY_SOURCE: f"{source}?versionId=v"}
    return {"a copy of a version": kit.request(Action.CopyObject, headers=version)}


def _copies_from_outside(kit: Kit) -> Cases:
    kit.needs(Action.CopyObject)
    sources = [f"/{ELSEWHERE}/k"]
    if kit.prefix:
        sources += [f"/{kit.bucket}/{ELSEWHERE}/k", f"{kit.bucket}/{ELSEWHERE}%2Fk"]
    return {
        f"a copy from outside ({source})": kit.request(
            Action.CopyObject, headers={COPY_SOURCE: source}
        )
        for source in sources
    }


def _is_no_copy(kit: Kit, case: Case) -> Iterator[str]:
    codes = ["forbidden", "header_refused"]
    if not case.request["headers"][COPY_SOURCE].startswith("/"):
        codes.append("invalid_request")  # a signer may call the request malformed
    yield from _refused(*codes)(kit, case)


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
        **{f"{n} null": {**plain, n: None} for n in _NULLABLE},
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
    what, request = "the key ...\\ud800, a lone surrogate,", kit.probe("\ud800")
    reply = kit.post(json.dumps({"requests": [request]}).encode())
    if reply.status == HTTPStatus.BAD_REQUEST:
        yield from _refused_call(reply, what, HTTPStatus.BAD_REQUEST)
        return
    [answer] = kit.answers(reply, 1)
    yield from _refused("invalid_request")(kit, Case(what, request, answer))


def _item_errors(kit: Kit) -> Iterator[str]:
    bad = [{**kit.probe(), "action": _UNKNOWN}, kit.probe(bucket=ELSEWHERE)]
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


def _bad_calls(kit: Kit) -> Calls:
    bodies = (b"{", b"\xff", b"[]", b"{}", b'{"requests": []}', b'{"requests": {}}')
    member = f'"requests": [{json.dumps(kit.probe())}]'
    twice = {"a member twice": (f"{{{member}, {member}}}".encode(),)}
    return {body.decode("latin-1"): (body,) for body in bodies} | twice


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


def _permissions(kit: Kit) -> Iterator[str]:
    kit.probe()
    reply = kit.send("GET", "permissions", b"")
    if reply.status == HTTPStatus.NOT_FOUND:
        raise RuleSkippedError("the signer does not offer this optional call")
    if reply.status != HTTPStatus.OK:
        yield f"HTTP {reply.status}, not 200 or 404"
        return
    try:
        found = wire_protocol.decode_permissions(reply.body, kit.clock())
    except ValueError as error:
        yield f"the reply is not valid: {error}"
        return
    for action, answer in kit.outcomes.items():
        is_listed = action in found.actions
        if isinstance(answer, SignerReply) and not is_listed:
            yield f"{action} is signed but not listed"
        if getattr(answer, "code", "") == "action_not_granted" and is_listed:
            yield f"{action} is listed but not granted"
    if not f"{kit.bucket}/{kit.prefix}".startswith(found.prefixes):
        yield "the prefix of the check is signed but not listed"
    if kit.token is not None:
        reply = kit.send("GET", "permissions", b"", "Bearer osspresigned-check")
        yield from _refused_call(reply, "a wrong token", 401)


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
_CLOSED = {
    # They open an object to others, read another one, or lock it.
    OBJECT_ACL: "public-read",
    "x-oss-acl": "public-read",
    COPY_SOURCE: "/{bucket}/k",
    f"{COPY_SOURCE}-range": "bytes=0-1",
    "x-oss-object-worm-mode": "COMPLIANCE",
    "x-oss-bypass-governance-retention": "true",
    # They make OSS call or read another address.
    "x-oss-callback": "e30=",
    "x-oss-callback-var": "e30=",
    "x-oss-symlink-target": "k",
    # They belong to the signature.
    "x-oss-date": "1",
    "x-oss-expires": "1",
    "x-oss-credential": "1",
    "x-oss-security-token": "1",
    "x-oss-content-sha256": "1",
    "x-oss-signature": "1",
    "x-oss-signature-version": "1",
    "x-oss-additional-headers": "1",
}
_DEMANDS = {"Content-Type": "text/x-check", "x-oss-meta-check": "a  B;c"}
_OPTIONAL = {"optional_headers": {"Content-Type": "text/x-check", "X-Check": "1"}}
_NULLABLE = ("bucket", "key", "headers", "optional_headers", "query", "expires_in")

# fmt: off
RULES = (
    ProtocolRule("answers", "The signer returns a signed request for a granted action",
        _answers, is_control=True),
    ProtocolRule("methods", "The signed request has the HTTP method of the requested action",
        _asks(_actions, _signed(_has_its_method))),
    ProtocolRule("exact-url", "The URL leads to the requested bucket and key, and has exactly the query parameters of the call",
        _asks(_varied, _is_exact)),
    ProtocolRule("reply-headers", "The headers of a signed request are valid, and grant nothing unrequested",
        _asks(_actions, _signed(_sends_what_was_asked))),
    ProtocolRule("header-echo", "A required header is returned with its value, or the request is refused",
        _asks(_probes({n: {"headers": {n: v}} for n, v in _DEMANDS.items()}), _demanded)),
    ProtocolRule("wishes", "An optional header never causes a refusal, and its value is never changed",
        _asks(_probes({"a request with wished headers": _OPTIONAL}), _signed(_wished))),
    ProtocolRule("uploads", "All requests of an upload, by one PUT or in parts, are signed",
        _asks(_of_uploads, _signed())),
    ProtocolRule("odd-keys", "A key is signed unchanged: percent-encoded once, without resolving `..`",
        _asks(_odd_keys, _is_unchanged)),
    ProtocolRule("order", "Results have the order of the requests, and an invalid request fails alone",
        _asks(_one_of_five_bad, _has_its_place)),
    ProtocolRule("unknown-members", "Unknown JSON keys of a request are ignored",
        _unknown_members),
    ProtocolRule("life", "A URL expires no later than requested, and the reply's expires_in is correct",
        _asks(_probes({f"expires_in {n}": {"expires_in": n} for n in (60, 900)}), _signed(_lives))),
    ProtocolRule("not-granted", "An action that is not granted is refused with action_not_granted",
        _asks(_other_actions, _is_not_granted)),
    ProtocolRule("closed-query", "A query parameter outside the protocol's list is refused with invalid_request",
        _asks(_probes({f"the parameter {n}": {"query": {n: v}} for n, v in _OTHER_CALLS.items()}), _refused("invalid_request"))),
    ProtocolRule("granting-headers", "A header that would open, lock or copy an object, notify others, or change the signature is refused, unless the policy permits it",
        _asks(_closed, _is_unsigned)),
    ProtocolRule("closed-headers", "A required header outside the protocol's list is refused",
        _asks(_probes({f"the header {n}: {v!r}": {"headers": {n: v}} for n, v in _OTHER_HEADERS.items()}), _refused("header_refused", "invalid_request"))),
    ProtocolRule("copy-without-source", "A copy without a source, which would be an upload of any size, is refused",
        _asks(_copies_without_source, _is_no_upload)),
    ProtocolRule("copy-version", "A copy source with a version is refused, unless the policy grants versions",
        _asks(_copy_version, _refused("forbidden", "header_refused"))),
    ProtocolRule("copy-outside", "A copy source without permission to read it is refused",
        _asks(_copies_from_outside, _is_no_copy)),
    ProtocolRule("other-bucket", "A request for another bucket is refused",
        _asks(_probes({"another bucket": {"bucket": ELSEWHERE}}), _refused("forbidden", "action_not_granted"))),
    ProtocolRule("other-prefix", "A key outside of the allowed prefix is refused",
        _asks(_other_prefix, _refused("forbidden"))),
    ProtocolRule("other-listing", "A listing outside of the allowed prefix is refused",
        _asks(_other_listing, _refused("forbidden"))),
    ProtocolRule("members", "A missing JSON key, a null, or a value of a wrong type or range is refused",
        _asks(_wrong_members, _refused("invalid_request"))),
    ProtocolRule("surrogates", "A key that UTF-8 cannot encode is refused, alone or with the whole call",
        _surrogates),
    ProtocolRule("item-errors", "The error for a request has all keys, and its text contains no signed URL",
        _item_errors),
    ProtocolRule("call-errors", "An invalid call, also one with a duplicate JSON key, is refused with 400 and problem details",
        _refused_calls(_bad_calls, 400)),
    ProtocolRule("token", "A missing or wrong token is refused with 401",
        _refused_calls(_wrong_tokens, 401)),
    ProtocolRule("permissions", "The optional list of permissions belongs to the token, and requires it",
        _permissions),
    ProtocolRule("batch-limit", "A call of 100 requests is answered, one of 101 is refused with 413 or 400",
        _batch_limit),
    ProtocolRule("body-limit", "A body of 1 MiB is accepted, a larger one is refused with 413 or 400",
        _body_limit),
)
# fmt: on

"""The rules of signer protocol 1 for what is refused, one small function each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import parsing
from ..model import Action, Reply
from ..secret import SecretURL
from ..signers import protocol
from ..signers.base import MAX_REQUESTS
from ..signers.protocol import Answer, Problem
from ..signing.signed_url import describe
from ..urls import header_problems, own_header_problem
from .conformance import (
    ELSEWHERE,
    Broken,
    Kit,
    Request,
    Rule,
    Skipped,
    header_of,
    media_type,
    not_refused,
    not_signed,
    rules_of,
)

# The rules of signer protocol 1 for what is signed, one small function each.

_ADDED_BY_NOBODY = (
    "x-oss-copy-source",
    "x-oss-symlink-target",
    "x-oss-object-acl",
    "x-oss-acl",
    "x-oss-callback",
)
_CLOCKS_DIFFER = 300  # seconds; a V1 URL tells its end only


def _answers(kit: Kit) -> Iterator[str]:
    """A call for what is granted is answered with signed requests."""
    if not kit.granted:
        codes = {o.code for o in kit.outcomes.values() if isinstance(o, Problem)}
        yield f"nothing is signed below {kit.bucket}/{kit.prefix} ({min(codes)})"


def _methods(kit: Kit) -> Iterator[str]:
    """Every action comes back with its HTTP method."""
    for action, answer in kit.granted.items():
        if answer.method != action.method:
            yield f"{action} came back as {answer.method[:10]!r}, not {action.method}"


def _host_and_key(kit: Kit) -> Iterator[str]:
    """The URL leads to the bucket and the key that were asked for."""
    for action, answer in kit.granted.items():
        if problem := kit.misplaced(kit.request(action), answer.url):
            yield f"{action}: {problem}"


def _values(url: str, name: str) -> list[str]:
    items = (item.partition("=") for item in urlsplit(url).query.split("&"))
    return [unquote(value) for found, _, value in items if unquote(found) == name]


def _upload_id(kit: Kit) -> Iterator[str]:
    """The parameter uploadId comes once and as asked, and where it belongs."""
    asked = "U+/=id~1"
    actions = list(kit.granted)
    requests = [
        {
            **kit.request(action),
            **({"upload_id": asked} if action.spec.upload_id else {}),
        }
        for action in actions
    ]
    for action, outcome in zip(actions, kit.results(*requests), strict=True):
        yield from not_signed(f"{action} of upload {asked!r}", outcome)
        if isinstance(outcome, Answer):
            wanted = [asked] if action.spec.upload_id else []
            if _values(outcome.url, "uploadId") != wanted:
                yield f"{action}: uploadId in the URL is not the one asked for"


def _part_number(kit: Kit) -> Iterator[str]:
    """The parameter partNumber comes once and as asked, and where it belongs."""
    for action in kit.granted:
        numbers = (1, 2, 10_000) if action.spec.part_number else (0,)
        requests = [
            {**kit.request(action), **({"part_number": n} if n else {})}
            for n in numbers
        ]
        for number, outcome in zip(numbers, kit.results(*requests), strict=True):
            yield from not_signed(f"{action} with part number {number}", outcome)
            if isinstance(outcome, Answer):
                wanted = [str(number)] if number else []
                if _values(outcome.url, "partNumber") != wanted:
                    yield f"{action}: partNumber in the URL is not the one asked for"


def _no_other_call(kit: Kit) -> Iterator[str]:
    """The query makes the URL the call that was asked for, and no other."""
    for action, answer in kit.granted.items():
        if problem := kit.another_call(kit.request(action), answer.url):
            yield f"{action}: {problem}"
    # Members of a part in a request for something else must not make it a part.
    requests = [kit.request(action) for action in kit.granted]
    stray = [{"upload_id": "U", "part_number": 1, **request} for request in requests]
    for request, outcome in zip(requests, kit.results(*stray), strict=True):
        if isinstance(outcome, Answer) and kit.another_call(request, outcome.url):
            yield f"{request['action']} with members of a part became another call"


def _reply_headers(kit: Kit) -> Iterator[str]:
    """The headers of a result can be sent, and none opens or reads something else."""
    for action, answer in kit.granted.items():
        for problem in header_problems(answer.headers):
            yield f"{action}: {problem}"
        request = kit.request(action)
        asked = {name.lower() for name in request.get("headers", ())}
        for name in answer.headers:
            if name.lower().startswith(_ADDED_BY_NOBODY) and name.lower() not in asked:
                yield f"{action}: the header {name[:40]!r} was not asked for"
        signed = describe(SecretURL(answer.url)).additional_headers
        length = request.get("content_length")
        own = own_header_problem(answer.headers, answer.url, signed, length)
        if own:
            yield f"{action}: {own}"


def _header_echo(kit: Kit) -> Iterator[str]:
    """A demanded header comes back with its value, or is refused."""
    demands = {"Content-Type": "text/x-check", "x-oss-meta-check": "a  B;c"}
    requests = [kit.probe(headers={n: v}) for n, v in demands.items()]
    for (name, value), outcome in zip(
        demands.items(), kit.results(*requests), strict=True
    ):
        if isinstance(outcome, Problem):
            yield from not_refused(name, outcome, "header_refused")
        elif header_of(outcome, name) != value:
            yield f"the demanded header {name} did not come back with its value"


def _wishes(kit: Kit) -> Iterator[str]:
    """A wished header is never a reason to refuse, nor is its value changed."""
    wished = {"Content-Type": "text/x-check", "X-Check": "1"}
    [outcome] = kit.results(kit.probe(optional_headers=wished))
    yield from not_signed("a request with wished headers", outcome)
    if isinstance(outcome, Answer):
        for name, value in wished.items():
            if header_of(outcome, name) not in (None, value):
                yield f"the wished header {name} came back with another value"


def _odd_keys(kit: Kit) -> Iterator[str]:
    """A key is signed as it is: escaped once, never resolved or shortened."""
    plain = ("a b+c", "%41%2F", "\u00e9\u4e2d", "q?&=#", "~'()*!")
    # These may be refused, but they must not lead elsewhere.
    dotted = ("x/../y", "x//y", "x/./y", "%2e%2e/y", "../../y")
    requests = [kit.probe(name) for name in plain + dotted]
    outcomes = zip(plain + dotted, requests, kit.results(*requests), strict=True)
    for name, request, outcome in outcomes:
        if isinstance(outcome, Answer):
            if kit.misplaced(request, outcome.url):
                yield f"the URL for the key ...{name} leads to another key"
        elif name in plain:
            yield from not_signed(f"the key ...{name}", outcome)


def _order(kit: Kit) -> Iterator[str]:
    """Results come in the order of the requests, and a bad one fails alone."""
    requests: list[Request] = [kit.probe(name) for name in ("c", "a", "d", "b", "e")]
    requests[2] = {**requests[2], "action": "NoSuchAction"}
    for index, outcome in enumerate(kit.results(*requests)):
        what = f"request {index} of {len(requests)}"
        if index == 2:  # noqa: PLR2004 - the bad one above
            yield from not_refused(
                f"the unknown action in {what}",
                outcome,
                "invalid_request",
                "action_not_granted",
            )
            continue
        yield from not_signed(what, outcome)
        if isinstance(outcome, Answer) and kit.misplaced(requests[index], outcome.url):
            yield f"the result of {what} is for another object"


def _unknown_members(kit: Kit) -> Iterator[str]:
    """Unknown members are ignored."""
    [outcome] = kit.results(kit.probe(x_check={"a": [1]}), x_check="b")
    yield from not_signed("a request with an unknown member", outcome)


def _life(kit: Kit) -> Iterator[str]:
    """A URL lives no longer than was wished, and expires_in is true of it."""
    for wish in (60, 900):
        [outcome] = kit.results(kit.probe(expires_in=wish))
        yield from not_signed(f"expires_in {wish}", outcome)
        if isinstance(outcome, Answer):
            yield from _lives(kit, outcome, wish)


def _lives(kit: Kit, answer: Answer, wish: int) -> Iterator[str]:
    signed = describe(SecretURL(answer.url))
    told, slack = answer.expires_in, 0 if signed.signed_at else _CLOCKS_DIFFER
    if told is not None and not 1 <= told <= wish:
        yield f"expires_in is {told}, wished was {wish}"
    if signed.expires_at is not None:
        real = signed.expires_at - (signed.signed_at or kit.clock())
        if real > wish + slack:
            yield f"the URL lives for {real:.0f} s, wished were {wish}"
        if told is not None and told > real + slack:
            yield f"expires_in is {told}, but the URL lives for {real:.0f} s"
    elif told is None:
        yield "neither expires_in nor the URL tells when it ends"


SIGNED: tuple[Rule, ...] = rules_of(
    _answers,
    _methods,
    _host_and_key,
    _upload_id,
    _part_number,
    _no_other_call,
    _reply_headers,
    _header_echo,
    _wishes,
    _odd_keys,
    _order,
    _unknown_members,
    _life,
)


_SIGNED_URL = re.compile(r"https?://[^\s?]+\?")


def _not_granted(kit: Kit) -> Iterator[str]:
    """An action that is not granted is refused with action_not_granted."""
    for action, outcome in kit.outcomes.items():
        codes = ["action_not_granted"]
        if action.spec.copies:
            codes += ["forbidden", "header_refused"]
        if isinstance(outcome, Problem):
            yield from not_refused(action, outcome, *codes)


def _closed_query(kit: Kit) -> Iterator[str]:
    """A parameter outside the closed list is refused with invalid_request."""
    queries = [
        *({name: ""} for name in ("acl", "tagging", "uploads", "append", "symlink")),
        {"uploadId": "U"},
        {"partNumber": "1"},
        {"list-type": "2"},
        {"x-oss-process": "image/info"},
    ]
    requests = [kit.probe(query=query) for query in queries]
    for query, outcome in zip(queries, kit.results(*requests), strict=True):
        yield from not_refused(
            f"the parameter {min(query)}", outcome, "invalid_request"
        )


def _closed(kit: Kit, headers: Mapping[str, str]) -> Iterator[str]:
    """Yield which of *headers* is signed, demanded or wished, though none may be."""
    names = [name for name in headers if name not in kit.allowed_headers]
    if not names:
        raise Skipped("the policy is said to grant these headers")
    demands = [kit.probe(headers={name: headers[name]}) for name in names]
    for name, outcome in zip(names, kit.results(*demands), strict=True):
        yield from not_refused(
            f"the header {name}", outcome, "header_refused", "forbidden"
        )
    wishes = [kit.probe(optional_headers={name: headers[name]}) for name in names]
    for name, outcome in zip(names, kit.results(*wishes), strict=True):
        if isinstance(outcome, Answer) and header_of(outcome, name) is not None:
            yield f"the header {name} was signed because it was wished"


def _acl(kit: Kit) -> Iterator[str]:
    """No access control list may be asked for, unless the policy names it."""
    yield from _closed(
        kit, {"x-oss-object-acl": "public-read", "x-oss-acl": "public-read"}
    )


def _copy_source(kit: Kit) -> Iterator[str]:
    """A copy source may be asked for with the copies only."""
    yield from _closed(
        kit,
        {
            "x-oss-copy-source": f"/{kit.bucket}/k",
            "x-oss-copy-source-range": "bytes=0-1",
        },
    )


def _callback_and_symlink(kit: Kit) -> Iterator[str]:
    """No callback or symlink target may be asked for, unless the policy names it."""
    yield from _closed(
        kit,
        {
            "x-oss-callback": "e30=",
            "x-oss-callback-var": "e30=",
            "x-oss-symlink-target": "k",
        },
    )


def _closed_headers(kit: Kit) -> Iterator[str]:
    """A demanded header outside the closed list is refused."""
    headers = {
        "X-Check": "1",
        "Range": "bytes=0-1",
        "Authorization": "1",
        "Transfer-Encoding": "chunked",
        "Content-Type": "a\r\nX-Check: 1",
    }
    requests = [kit.probe(headers={n: v}) for n, v in headers.items()]
    for name, outcome in zip(headers, kit.results(*requests), strict=True):
        codes = ("header_refused", "invalid_request")
        yield from not_refused(f"the header {name}", outcome, *codes)


def _copy_outside(kit: Kit) -> Iterator[str]:
    """The source of a copy must lie in what may be read."""
    kit.needs(Action.CopyObject)
    sources = [f"/{ELSEWHERE}/k"]
    if kit.prefix:
        sources += [f"/{kit.bucket}/{ELSEWHERE}/k", f"{kit.bucket}/{ELSEWHERE}%2Fk"]
    requests = [
        kit.request(Action.CopyObject, headers={"x-oss-copy-source": source})
        for source in sources
    ]
    for outcome in kit.results(*requests):
        yield from not_refused(
            "a copy from outside", outcome, "forbidden", "header_refused"
        )


def _other_bucket(kit: Kit) -> Iterator[str]:
    """Another bucket is forbidden."""
    [outcome] = kit.results(kit.probe(bucket=ELSEWHERE))
    codes = ("forbidden", "action_not_granted")
    yield from not_refused("another bucket", outcome, *codes)


def _other_prefix(kit: Kit) -> Iterator[str]:
    """A key outside the granted prefix is forbidden."""
    if not kit.prefix:
        raise Skipped("every key is said to be granted")
    keys = (f"{ELSEWHERE}/k", f"{ELSEWHERE}/../{kit.key('k')}")
    requests = [kit.probe(key=key) for key in keys]
    for key, outcome in zip(keys, kit.results(*requests), strict=True):
        yield from not_refused(f"the key {key}", outcome, "forbidden")


def _other_listing(kit: Kit) -> Iterator[str]:
    """A listing outside the granted prefix is forbidden."""
    kit.needs(Action.ListObjectsV2)
    if not kit.prefix:
        raise Skipped("every key is said to be granted")
    queries: list[dict[str, str]] = [{}, {"prefix": ""}, {"prefix": ELSEWHERE}]
    requests = [kit.request(Action.ListObjectsV2, query=query) for query in queries]
    for query, outcome in zip(queries, kit.results(*requests), strict=True):
        yield from not_refused(f"a listing of {query or 'all'}", outcome, "forbidden")


def _nulls(kit: Kit) -> Iterator[str]:
    """No member may be null."""
    names = ("bucket", "key", "headers", "optional_headers", "query", "expires_in")
    yield from _invalid(kit, [(f"{n} null", {**kit.probe(), n: None}) for n in names])


def _invalid(kit: Kit, cases: list[tuple[str, Any]]) -> Iterator[str]:
    found = kit.results(*(request for _, request in cases))
    for (what, _), outcome in zip(cases, found, strict=True):
        yield from not_refused(f"a request with {what}", outcome, "invalid_request")


def _members(kit: Kit) -> Iterator[str]:
    """A member that is missing, or of a wrong type or range, is refused."""
    cases: list[tuple[str, Any]] = [
        *((f"{n} missing", _without(kit.probe(), n)) for n in ("bucket", "key")),
        *(
            (f"{n} a number", {**kit.probe(), n: 1})
            for n in ("bucket", "key", "headers")
        ),
        ("a header that is a number", kit.probe(headers={"x-oss-meta-a": 1})),
        ("an empty key", kit.probe(key="")),
        ("expires_in 0", kit.probe(expires_in=0)),
        ("expires_in 604801", kit.probe(expires_in=604_801)),
        ("expires_in a string", kit.probe(expires_in="60")),
    ]
    for action, name, values in (
        (Action.PutObject, "content_length", (None, -1, True, "3")),
        (Action.UploadPart, "part_number", (None, 0, 10_001, True, "1")),
        (Action.UploadPart, "upload_id", (None, "", 1)),
    ):
        if action in kit.granted:
            cases += [
                (f"{name} {value!r}", {**kit.request(action), name: value})
                if value is not None
                else (f"{name} missing", _without(kit.request(action), name))
                for value in values
            ]
    yield from _invalid(kit, cases)


def _without(request: Request, name: str) -> Request:
    return {member: value for member, value in request.items() if member != name}


def _item_errors(kit: Kit) -> Iterator[str]:
    """The error of an item has its members, and no signed URL in its text."""
    bad = [{**kit.probe(), "action": "NoSuchAction"}, kit.probe(bucket=ELSEWHERE)]
    for result in kit.raw(*bad, _without(kit.probe(), "key")):
        if "error" not in result:
            yield "a bad request was signed"
        elif "url" in result:
            yield "a result has both an error and a URL"
        elif problem := _misshapen(result["error"]):
            yield f"an item's error {problem}"


def _misshapen(problem: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the members of a problem; None if nothing is."""
    code = problem.get("code")
    if not isinstance(code, str) or not code:
        return "has no code"
    for name in ("title", "detail"):
        if not isinstance(problem.get(name, ""), str):
            return f"has a {name} that is {parsing.kind(problem[name])}"
        if _SIGNED_URL.search(problem.get(name, "")):
            return f"has a URL with a query in its {name}"
    return None


def _call_errors(kit: Kit) -> Iterator[str]:
    """A call that is not valid is refused with 400 and problem details."""
    bodies = (b"{", b"\xff", b"[]", b"{}", b'{"requests": []}', b'{"requests": {}}')
    for body in bodies:
        yield from _refused_call(kit.post(body), body.decode("latin-1"), 400)


def _duplicate_members(kit: Kit) -> Iterator[str]:
    """A document with a member twice is not valid."""
    request = json.dumps(kit.probe())
    body = f'{{"requests": [{request}], "requests": [{request}]}}'
    yield from _refused_call(kit.post(body.encode()), "a member twice", 400)


def _refused_call(reply: Reply, what: str, *statuses: int) -> Iterator[str]:
    """Yield what is wrong with the refusal of a whole call."""
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


def _token(kit: Kit) -> Iterator[str]:
    """A missing or wrong token is refused with 401."""
    if kit.token is None:
        raise Skipped("no token was given")
    body = protocol.body([json.dumps(kit.probe())])
    for what, given in (
        ("no token", ""),
        ("a wrong token", "Bearer osspresigned-check"),
        ("an empty token", "Bearer"),
        ("another scheme", "Basic b3NzOmNoZWNr"),
    ):
        reply = kit.post(body, given)
        yield from _refused_call(reply, what, HTTPStatus.UNAUTHORIZED)
        if protocol.problem_of_reply(reply.status, reply.headers, reply.body).code != (
            "unauthorized"
        ):
            yield f"{what}: the code is not unauthorized"


def _batch_limit(kit: Kit) -> Iterator[str]:
    """A hundred requests are answered, one more is refused with 413 or 400."""
    item = json.dumps(kit.probe())
    most = MAX_REQUESTS
    full = kit.document(kit.post(protocol.body([item] * most)), most)
    if any("error" in result for result in full):
        yield f"not all of {most} equal requests were signed"
    reply = kit.post(protocol.body([item] * (most + 1)))
    yield from _refused_call(reply, f"{most + 1} requests", 413, 400)


def _body_limit(kit: Kit) -> Iterator[str]:
    """A body of 1 MiB is read, one byte more is refused with 413 or 400."""
    body = protocol.body([json.dumps(kit.probe())])
    full = body.ljust(protocol.MAX_REQUEST_BODY)
    try:
        kit.document(kit.post(full), 1)
    except Broken as broken:
        yield f"a body of 1 MiB: {broken}"
    yield from _refused_call(
        kit.post(full + b" "), "a body of 1 MiB and a byte", 413, 400
    )


REFUSED: tuple[Rule, ...] = rules_of(
    _not_granted,
    _closed_query,
    _acl,
    _copy_source,
    _callback_and_symlink,
    _closed_headers,
    _copy_outside,
    _other_bucket,
    _other_prefix,
    _other_listing,
    _nulls,
    _members,
    _item_errors,
    _call_errors,
    _duplicate_members,
    _token,
    _batch_limit,
    _body_limit,
)

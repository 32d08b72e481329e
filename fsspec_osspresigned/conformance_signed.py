"""The rules of signer protocol 1 for what is signed, one small function each."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from .conformance import (
    OF_PART,
    OF_UPLOAD,
    Kit,
    Request,
    Rule,
    header_of,
    not_refused,
    not_signed,
    rules_of,
)
from .secret import SecretURL
from .sendable import header_problems, own_header_problem
from .signed_url import describe
from .signers.protocol import Answer, Problem

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
        {**kit.request(action), **({"upload_id": asked} if action in OF_UPLOAD else {})}
        for action in actions
    ]
    for action, outcome in zip(actions, kit.results(*requests), strict=True):
        yield from not_signed(f"{action} of upload {asked!r}", outcome)
        if isinstance(outcome, Answer):
            wanted = [asked] if action in OF_UPLOAD else []
            if _values(outcome.url, "uploadId") != wanted:
                yield f"{action}: uploadId in the URL is not the one asked for"


def _part_number(kit: Kit) -> Iterator[str]:
    """The parameter partNumber comes once and as asked, and where it belongs."""
    for action in kit.granted:
        numbers = (1, 2, 10_000) if action in OF_PART else (0,)
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

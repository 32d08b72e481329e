"""A signer that breaks one rule fails that rule, and is not blamed for another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.http.json_service import JSONService
from fsspec_osspresigned.model import Action, Reply
from fsspec_osspresigned.owner.conformance import ELSEWHERE, Kit, run
from fsspec_osspresigned.owner.conformance_rules import RULES
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint

TOKEN = "tokenCANARYtoken"
MIB = 1 << 20
SIGNED_ANYWAY = {
    "method": "PUT",
    "url": "https://examplebucket.oss-cn-hangzhou.aliyuncs.com/in/k?Signature=CANARY",
    "headers": {},
}

Item = dict[str, Any]
# From one request, its right result, and how many the call has, to a wrong result.
Spoil = Callable[[Item, Item, int], Item]


@pytest.fixture(scope="module")
def kit() -> Iterator[Kit]:
    """The kit for a service that grants everything below ``in/``."""
    signer = KeySigner(
        credentials=lambda: Credentials("LTAIfakeid", Secret("fakesecret")),
        endpoint=Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com"),
        region="cn-hangzhou",
    )
    policy = Policy(
        name="all", prefixes=("examplebucket/in/",), actions=frozenset(Action)
    )
    transport = JSONService()
    app = create_app(signer, tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as server:
        yield Kit(
            url=server.url,
            bucket="examplebucket",
            prefix="in/",
            exchange=transport.exchange,
            token=Secret(TOKEN),
        )


def refused(code: str, status: int = 403) -> Item:
    """Return a refusal."""
    return {"error": {"status": status, "code": code}}


def when(found: Callable[[Item], bool], wrong: Callable[[Item], Item]) -> Spoil:
    """Spoil the results of the requests that *found* finds."""
    return lambda request, result, _: wrong(result) if found(request) else result


def signs(found: Callable[[Item], bool]) -> Spoil:
    """Sign what *found* finds, though it must be refused."""
    return when(found, lambda r: SIGNED_ANYWAY if "error" in r else r)


def is_action(action: str) -> Callable[[Item], bool]:
    """Find the requests for one action; nobody else asks for this one."""
    return lambda q: q.get("action") == action


def is_copy(request: Item) -> bool:
    """Find the requests for copies."""
    return "Copy" in str(request.get("action"))


def demands(name: str) -> Callable[[Item], bool]:
    """Find the requests that demand a header, the copies aside."""
    return lambda q: (
        f"'{name}'" in str(q.get("headers")) and "Copy" not in str(q.get("action"))
    )


def in_url(old: str, new: str) -> Callable[[Item], Item]:
    """Change the URL of a result."""
    return lambda r: {**r, "url": r["url"].replace(old, new)} if "url" in r else r


ITEMS: dict[str, Spoil] = {
    "answers": lambda *_: refused("forbidden"),
    "methods": when(is_action("ListParts"), lambda r: {**r, "method": "POST"}),
    "host-and-key": when(is_action("ListParts"), in_url("examplebucket", "another")),
    "upload-id": when(
        lambda q: q.get("upload_id") == "U+/=id~1", in_url("uploadId=U", "uploadId=V")
    ),
    "part-number": when(
        lambda q: q.get("part_number") == 2, in_url("partNumber=2", "partNumber=3")
    ),
    "no-other-call": when(
        lambda q: q.get("action") == "PutObject" and "upload_id" in q,
        lambda _: {**SIGNED_ANYWAY, "url": f"{SIGNED_ANYWAY['url']}&uploadId=U"},
    ),
    "reply-headers": when(
        is_action("ListParts"), lambda r: {**r, "headers": {"Cookie": "a"}}
    ),
    "header-echo": when(demands("x-oss-meta-check"), lambda r: {**r, "headers": {}}),
    "wishes": when(
        lambda q: "X-Check" in str(q.get("optional_headers")),
        lambda _: refused("header_refused"),
    ),
    "uploads": when(
        lambda q: q.get("optional_headers") == {"Content-Type": "text/csv"},
        lambda _: refused("invalid_request", 400),
    ),
    "odd-keys": when(
        lambda q: "%41" in str(q.get("key")), lambda _: refused("forbidden")
    ),
    "unknown-members": when(
        lambda q: "x_check" in q, lambda _: refused("invalid_request", 400)
    ),
    "life": when(
        lambda q: q.get("expires_in") == 60, lambda r: {**r, "expires_in": 3600}
    ),
    "not-granted": when(is_action("GetObject"), lambda _: refused("forbidden")),
    "closed-query": signs(lambda q: q.get("query") == {"acl": ""}),
    "acl": signs(demands("x-oss-object-acl")),
    "copy-source": signs(demands("x-oss-copy-source")),
    "retention": signs(demands("x-oss-object-worm-mode")),
    "callback-and-symlink": signs(demands("x-oss-callback")),
    "closed-headers": signs(demands("X-Check")),
    "signature-headers": signs(demands("x-oss-date")),
    "copy-without-source": signs(
        lambda q: is_copy(q) and not {"headers", "optional_headers"} & q.keys()
    ),
    "copy-version": signs(lambda q: "versionId" in str(q.get("headers"))),
    "copy-outside": signs(lambda q: ELSEWHERE in str(q.get("headers"))),
    "other-bucket": lambda q, r, count: (
        SIGNED_ANYWAY if q.get("bucket") == ELSEWHERE and count == 1 else r
    ),
    "other-prefix": signs(lambda q: str(q.get("key")).startswith(ELSEWHERE)),
    "other-listing": signs(
        lambda q: q.get("query") == {"prefix": ELSEWHERE} and "key" not in q
    ),
    "nulls": signs(lambda q: None in q.values()),
    "members": signs(lambda q: q.get("key") == ""),
    "surrogates": signs(lambda q: "\ud800" in str(q.get("key"))),
    "item-errors": lambda q, r, count: (
        {"error": {**r["error"], "detail": "see https://h/k?a=b"}}
        if q.get("action") == "NoSuchAction" and count == 3
        else r
    ),
}


def swapped(body: bytes, reply: Reply) -> Reply:
    """Answer in another order, where one of the requests is bad."""
    if b"NoSuchAction" not in body or len(json.loads(body)["requests"]) != 5:
        return reply
    results = json.loads(reply.body)["results"]
    results[0], results[1] = results[1], results[0]
    return evolve(reply, body=json.dumps({"results": results}).encode())


def accepts(found: Callable[[bytes, Reply], bool]) -> Callable[[bytes, Reply], Reply]:
    """Answer with 200 where the call had to be refused."""
    return lambda body, reply: (
        evolve(reply, status=200) if found(body, reply) else reply
    )


REPLIES: dict[str, Callable[[bytes, Reply], Reply]] = {
    "order": swapped,
    "call-errors": accepts(lambda body, _: body == b"{"),
    "duplicate-members": accepts(lambda body, _: body.count(b'"requests"') == 2),
    "token": accepts(lambda _, reply: reply.status == 401),
    "batch-limit": accepts(lambda body, r: r.status == 413 and len(body) < MIB),
    "body-limit": accepts(lambda body, r: r.status == 413 and len(body) > MIB),
}


def spoilt(kit: Kit, name: str) -> Kit:
    """Return *kit* for a signer that breaks the rule *name*."""

    def exchange(method, url, headers, body, limit):
        reply = kit.exchange(method, url, headers, body, limit)
        if name in REPLIES:
            return REPLIES[name](body, reply)
        if reply.status != 200:
            return reply
        requests = json.loads(body)["requests"]
        results = [
            ITEMS[name](request, result, len(requests))
            for request, result in zip(
                requests, json.loads(reply.body)["results"], strict=True
            )
        ]
        return evolve(reply, body=json.dumps({"results": results}).encode())

    return evolve(kit, exchange=exchange)


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_broken_signer_fails_exactly_its_rule(kit, name):
    """One mistake is one failure, so that its author knows what to mend."""
    verdicts = list(run(spoilt(kit, name), RULES))
    assert {v.rule: v.reason for v in verdicts if v.outcome == "fail"}.keys() == {name}
    skipped = {v.rule for v in verdicts if v.outcome == "skip"}
    assert skipped == (
        {rule.name for rule in RULES[1:]} if name == RULES[0].name else set()
    )


def test_every_rule_has_one_broken_signer():
    """A new rule needs its own."""
    assert sorted([*ITEMS, *REPLIES]) == sorted(rule.name for rule in RULES)

"""``osspresigned check signer``: passes good signers, and finds each broken rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import ConfigurationError, NetworkError
from fsspec_osspresigned.http.json_service import JSONService
from fsspec_osspresigned.model import URL_ACTIONS, Action, Operation, Reply
from fsspec_osspresigned.owner.check.signer import ELSEWHERE, Kit, check_signer
from fsspec_osspresigned.owner.check.signer_rules import RULES
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers import wire_protocol
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.tools import cli

SCHEMA_FILE = Path(__file__).parents[3] / "docs" / "signer-protocol.schema.json"
SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))

TOKEN = "tokenCANARYtoken"
MIB = 1 << 20
WRITING = frozenset(
    {Action.PutObject, Action.InitiateMultipartUpload, Action.UploadPart}
)
GOOD = {
    "method": "PUT",
    "url": "https://examplebucket.oss-cn-hangzhou.aliyuncs.com/in/k?Signature=CANARY",
    "headers": {},
}
PROBLEM = {"content-type": "application/problem+json"}

Item = dict[str, Any]
# From one request, its right result, and how many the call has, to another result.
Spoil = Callable[[Item, Item, int], Item]
# From the body of a call and its right reply to another reply.
SpoilReply = Callable[[bytes, Reply], Reply]


def service(actions=frozenset(Action), prefix="in/", version="v4", **limits):
    """Return the reference service with one token."""
    signer = KeySigner(
        credentials=lambda: Credentials("LTAIfakeid", Secret("fakesecret")),
        endpoint=Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com"),
        region="cn-hangzhou",
        version=version,
    )
    policy = Policy(
        name="all",
        prefixes=(f"examplebucket/{prefix}",),
        actions=actions,
        **limits,
    )
    return create_app(signer, tokens={hash_token(TOKEN): policy})


def kit_for(url, prefix="in/"):
    """Return a kit that is granted everything below *prefix*."""
    return Kit(
        url=url,
        bucket="examplebucket",
        prefix=prefix,
        exchange=JSONService().exchange,
        token=Secret(TOKEN),
    )


@pytest.fixture(scope="module")
def kit() -> Iterator[Kit]:
    """The kit for the reference service, which grants everything below ``in/``."""
    with LoopbackServer(service()) as server:
        yield kit_for(server.url)


def reasons(kit, outcome="failed", rules=RULES):
    """Return rule -> reason, of the results that are *outcome*."""
    results = [*check_signer(kit, rules)]
    for found in results:
        assert "CANARY" not in f"{found}{found!r}{found.as_dict()}"
    return {r.name: r.reason for r in results if r.outcome == outcome}


# These rules share the requests that were made when the check began.
OF_OUTCOMES = {"answers", "not-granted", "methods", "reply-headers"}


def spoilt(kit, name="answers", item: Spoil | None = None, reply=None):
    """Return *kit* for a signer that spoils its answers to what the rule *name* asks."""
    learnt = name in OF_OUTCOMES

    def exchange(method, url, headers, body, limit):
        nonlocal learnt
        answer = kit.exchange(method, url, headers, body, limit)
        if not learnt and body.count(b'"action"') == len(URL_ACTIONS):
            learnt = True
            return answer
        if item and body and answer.status == 200:
            requests = json.loads(body)["requests"]
            pairs = zip(requests, json.loads(answer.body)["results"], strict=True)
            found = {"results": [item(q, r, len(requests)) for q, r in pairs]}
            answer = evolve(answer, body=json.dumps(found).encode())
        return reply(body, answer) if reply else answer

    return evolve(kit, exchange=exchange)


def result(kit, name):
    """Return the result of one rule."""
    [found] = check_signer(kit, [rule for rule in RULES if rule.name == name])
    assert "CANARY" not in f"{found}{found!r}{found.as_dict()}"
    return found


def when(found: Callable[[Item], bool], wrong: Callable[[Item], Item]) -> Spoil:
    """Spoil the results of the requests that *found* finds."""
    return lambda request, right, _: wrong(right) if found(request) else right


def signs(found: Callable[[Item], bool]) -> Spoil:
    """Sign what *found* finds, though it must be refused."""
    return when(found, lambda r: GOOD if "error" in r else r)


def refused(code: str, status: int = 403) -> Item:
    """Return a refusal."""
    return {"error": {"status": status, "code": code}}


def refuses(found: Callable[[Item], bool], code: str, status: int = 403) -> Spoil:
    """Refuse what *found* finds."""
    return when(found, lambda _: refused(code, status))


def everything(_: Item) -> bool:
    """Find all requests."""
    return True


def asks(name: str, value: object) -> Callable[[Item], bool]:
    """Find the requests with a member of this value."""
    return lambda q: q.get(name) == value


def has(name: str, text: str) -> Callable[[Item], bool]:
    """Find the requests with this text in a member."""
    return lambda q: text in str(q.get(name))


def demands(name: str) -> Callable[[Item], bool]:
    """Find the requests that demand a header, the copies aside."""
    return lambda q: has("headers", f"'{name}'")(q) and not has("action", "Copy")(q)


def without_source(request: Item) -> bool:
    """Find the requests for copies that name no source at all."""
    return has("action", "Copy")(request) and not (
        {"headers", "optional_headers"} & request.keys()
    )


def answers(**members: Any) -> Callable[[Item], Item]:
    """Replace members of a signed result."""
    return lambda r: {**r, **members} if "url" in r else r


def in_url(old: str, new: str) -> Callable[[Item], Item]:
    """Change the URL of a signed result once."""
    return lambda r: {**r, "url": r["url"].replace(old, new, 1)} if "url" in r else r


def sends(name: str, value: str) -> Callable[[Item], Item]:
    """Add a header to a signed result."""
    return lambda r: (
        {**r, "headers": {**r["headers"], name: value}} if "url" in r else r
    )


def errs(**members: Any) -> Spoil:
    """Change the errors of items, where one of three requests has an unknown action."""
    return lambda q, r, count: (
        {"error": {**r["error"], **members}}
        if q.get("action") == "NoSuchAction" and count == 3
        else r
    )


def wish_signed(request: Item, right: Item, _: int) -> Item:
    """Sign what was wished, whatever it is."""
    wished = request.get("optional_headers", {})
    return {**right, "headers": wished} if wished and "url" in right else right


LISTING, COPY = asks("action", "ListParts"), asks("action", "CopyObject")
PUT, GET = asks("action", "PutObject"), asks("action", "GetObject")
# Rule, its reason, and a signer that breaks it; the first of a rule breaks no other.
# fmt: off
ITEMS: list[tuple[str, str, Spoil]] = [
    ("answers", "nothing is signed below examplebucket/in/", refuses(everything, "forbidden")),
    ("methods", "'POST', not GET", when(LISTING, answers(method="POST"))),
    ("methods", "'PATCH', not PUT", when(everything, answers(method="PATCH"))),
    ("exact-url", "bucket 'another'", when(LISTING, in_url("examplebucket", "another"))),
    ("exact-url", "path of the URL", when(everything, in_url("/in/", "/IN/"))),
    ("exact-url", "plain http", when(everything, in_url("https:", "http:"))),
    ("exact-url", "'uploadId' of the URL differs", when(asks("upload_id", "U+/=id~1"), in_url("uploadId=U", "uploadId=V"))),
    ("exact-url", "'uploadId' may turn the URL into another", when(PUT, in_url("?", "?uploadId=U&"))),
    ("exact-url", "'partNumber' of the URL differs", when(asks("part_number", 2), in_url("partNumber=2", "partNumber=3"))),
    ("exact-url", "PutObject with members of a part: ", when(lambda q: PUT(q) and "upload_id" in q, lambda _: {**GOOD, "url": f"{GOOD['url']}&uploadId=U"})),
    ("exact-url", "instead of signed", refuses(everything, "invalid_request", 400)),
    ("reply-headers", "'Cookie' may not be set", when(LISTING, sends("Cookie", "a"))),
    ("reply-headers", "was not requested", when(everything, sends("x-oss-object-acl", "private"))),
    ("reply-headers", "only if it is signed", when(everything, sends("Content-Length", "3"))),
    ("header-echo", "x-oss-meta-check did not", when(demands("x-oss-meta-check"), answers(headers={}))),
    ("header-echo", "Content-Type did not", when(everything, answers(headers={}))),
    ("header-echo", "not header_refused", refuses(everything, "forbidden")),
    ("wishes", "refused with header_refused instead", refuses(has("optional_headers", "X-Check"), "header_refused")),
    ("wishes", "Content-Type came back with another", when(everything, sends("Content-Type", "b"))),
    ("uploads", "PutObject was refused with invalid_request instead of signed", refuses(asks("optional_headers", {"Content-Type": "text/csv"}), "invalid_request", 400)),
    ("uploads", "UploadPart was refused with forbidden instead of signed", refuses(asks("action", "UploadPart"), "forbidden")),
    ("odd-keys", "instead of signed", refuses(has("key", "%41"), "forbidden")),
    ("odd-keys", "leads to another key", when(has("key", "%41"), in_url("%2541", "%41"))),
    ("order", "request 2 of 5 was signed", lambda q, r, count: GOOD if count == 5 and "error" in r else r),
    ("order", "request 0 of 5 was refused", refuses(everything, "invalid_request", 400)),
    ("unknown-members", "unknown member was refused", refuses(lambda q: "x_check" in q, "invalid_request", 400)),
    ("life", "expires_in is 3600", when(asks("expires_in", 60), answers(expires_in=3600))),
    ("life", "lives for 61 s", when(everything, in_url("expires=60", "expires=61"))),
    ("life", "but the URL lives for 5 s", when(everything, in_url("expires=60", "expires=5"))),
    ("life", "neither", when(everything, lambda _: {"method": "PUT", "url": "https://h/k"})),
    ("life", "refused with unavailable instead", refuses(everything, "unavailable", 0)),
    ("not-granted", "GetObject was refused with forbidden, not action_not_granted", refuses(GET, "forbidden")),
    ("not-granted", "is 404, not 403", refuses(GET, "action_not_granted", 404)),
    ("closed-query", "parameter acl was signed", signs(asks("query", {"acl": ""}))),
    ("closed-query", "with no code", refuses(asks("query", {"acl": ""}), "", 400)),
    ("granting-headers", "x-oss-object-acl was signed instead", signs(demands("x-oss-object-acl"))),
    ("granting-headers", "signed because it was wished", wish_signed),
    ("closed-headers", "X-Check: '1' was signed", signs(demands("X-Check"))),
    ("closed-headers", "Content-Length: '3' was signed", signs(demands("Content-Length"))),
    ("copy-without-source", "CopyObject without a source was signed", signs(without_source)),
    ("copy-without-source", "an optional source was dropped", when(lambda q: "optional_headers" in q, lambda _: GOOD)),
    ("copy-version", "a copy of a version was signed", signs(has("headers", "versionId"))),
    ("copy-outside", "a copy from outside (/osspresigned-check-elsewhere/k) was signed", signs(has("headers", ELSEWHERE))),
    ("copy-outside", "not forbidden", refuses(everything, "invalid_request", 400)),
    ("other-bucket", "another bucket was signed", lambda q, r, count: (GOOD if q.get("bucket") == ELSEWHERE and count == 1 else r)),
    ("other-prefix", "was signed instead of refused with forbidden", signs(lambda q: str(q.get("key")).startswith(ELSEWHERE))),
    ("other-listing", "'prefix': '", signs(asks("query", {"prefix": ELSEWHERE}))),
    ("members", "bucket null was signed", signs(lambda q: None in q.values())),
    ("members", "an empty key was signed", signs(asks("key", ""))),
    ("members", "bucket missing was signed", signs(everything)),
    ("surrogates", "a lone surrogate, was signed instead of refused", signs(lambda q: "\ud800" in str(q.get("key")))),
    ("item-errors", "URL with a query", errs(detail="see https://h/k?a=CANARY")),
    ("item-errors", "a bad request was signed", signs(everything)),
    ("item-errors", "both an error and a URL", lambda _, r, __: {**GOOD, **r}),
    ("item-errors", "has no code", errs(code="")),
    ("item-errors", "title that is a number", errs(title=3)),
    ("batch-limit", "not all of 100", lambda _, r, n: refused("unavailable", 503) if n == 100 else r),
]
# fmt: on


def swapped(body: bytes, reply: Reply) -> Reply:
    """Answer in another order, where one of the requests is bad."""
    if b"NoSuchAction" not in body or body.count(b'"action"') != 5:
        return reply
    results = json.loads(reply.body)["results"]
    results[0], results[1] = results[1], results[0]
    return evolve(reply, body=json.dumps({"results": results}).encode())


def changed(
    found: Callable[[bytes, Reply], bool] = lambda *_: True, **members: Any
) -> SpoilReply:
    """Change members of the replies that *found* finds."""
    return lambda body, reply: evolve(reply, **members) if found(body, reply) else reply


def refusal(_: bytes, reply: Reply) -> bool:
    """Find the replies that refuse a call."""
    return reply.status != 200


def listing(**members: Any) -> SpoilReply:
    """Change members of the list of permissions."""

    def spoil(_: bytes, reply: Reply) -> Reply:
        if b'"prefixes"' not in reply.body:
            return reply
        return evolve(
            reply, body=json.dumps({**json.loads(reply.body), **members}).encode()
        )

    return spoil


# fmt: off
REPLIES: list[tuple[str, str, SpoilReply]] = [
    ("answers", "HTTP 302", changed(status=302)),
    ("answers", "HTTP 429: raise the rate limit", changed(status=429)),
    ("answers", "HTTP 403 (forbidden) instead", changed(status=403, headers=PROBLEM, body=b'{"code": "forbidden"}')),
    ("answers", "is not application/json", changed(headers={})),
    ("answers", "0 results for 12", changed(body=b'{"results": []}')),
    ("answers", "not valid", changed(body=TOKEN.encode())),
    ("order", "request 0 of 5: the path of the URL", swapped),
    ("call-errors", "{: HTTP 200, not 400", changed(lambda body, _: body == b"{", status=200)),
    ("call-errors", "not application/problem+json", changed(refusal, headers={})),
    ("call-errors", "the refusal is not JSON", changed(refusal, body=b"{")),
    ("call-errors", "status in the problem", changed(refusal, body=b"[]")),
    ("call-errors", "the problem has no code", changed(refusal, body=b'{"status": 400}')),
    ("call-errors", "a member twice: HTTP 200", changed(lambda body, _: body.count(b'"requests"') == 2, status=200)),
    ("token", "no token: HTTP 200, not 401", changed(lambda body, reply: body and reply.status == 401, status=200)),
    ("token", "no token: the code is not unauthorized", changed(refusal, body=b'{"status": 401, "code": "x"}')),
    ("batch-limit", "101 requests: HTTP 200", changed(lambda body, r: r.status == 413 and len(body) < MIB, status=200)),
    ("body-limit", "a byte: HTTP 200", changed(lambda body, r: r.status == 413 and len(body) > MIB, status=200)),
    ("body-limit", "a byte: HTTP 500", changed(refusal, status=500)),
    ("body-limit", "a body of 1 MiB: HTTP 413", changed(status=413)),
    ("permissions", "UploadPart is signed but not listed", listing(actions=sorted({*Action} - {Action.UploadPart}))),
    ("permissions", "the prefix of the check is signed but not listed", listing(prefixes=["examplebucket/out/"])),
    ("permissions", "actions is not a list of strings", listing(actions=None)),
    ("permissions", "max_size is not a whole number", listing(max_size=-1)),
    ("permissions", "HTTP 500, not 200 or 404", changed(lambda body, _: not body, status=500)),
    ("permissions", "a wrong token: HTTP 200", changed(lambda body, r: not body and r.status == 401, status=200)),
]
# fmt: on
BROKEN = [
    (name, said, {kind: spoil}, name not in [before for before, *_ in table[:place]])
    for kind, table in (("item", ITEMS), ("reply", REPLIES))
    for place, (name, said, spoil) in enumerate(table)
]


@pytest.mark.parametrize(("name", "said", "spoil", "alone"), BROKEN)
def test_broken_signer_fails_its_rule(kit, name, said, spoil, alone):
    """The reason says what is wrong, and no other rule is blamed for one mistake."""
    rules = RULES if alone else [rule for rule in RULES if rule.name == name]
    failed = reasons(spoilt(kit, name, **spoil), rules=rules)
    assert failed.keys() == {name}
    assert said in failed[name]


def test_each_rule_has_a_broken_signer():
    """A rule that nothing can break proves nothing."""
    assert {rule.name for rule in RULES} == {name for name, *_ in BROKEN}


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("header-echo", refuses(everything, "header_refused")),
        ("other-prefix", refuses(everything, "forbidden")),
        # A custom domain may sign in its own way.
        ("life", when(everything, answers(url="https://h/k?sign=a"))),
        ("odd-keys", refuses(has("key", ".."), "invalid_request", 400)),
        # A source without a slash in front is not of the form that the protocol has.
        (
            "copy-outside",
            refuses(
                lambda q: q.get("headers", {}).get("x-oss-copy-source", "/")[0] != "/",
                "invalid_request",
                400,
            ),
        ),
    ],
)
def test_what_the_protocol_leaves_open_is_no_failure(kit, name, item):
    """A signer may refuse in these ways."""
    assert result(spoilt(kit, name, item), name).outcome == "passed"


def test_reference_service_keeps_every_rule(kit):
    """Nothing is skipped where everything is granted, also with notices to the owner."""
    assert {r.outcome for r in check_signer(kit, RULES)} == {"passed"}
    with LoopbackServer(service(callback="https://app.example.com/")) as server:
        found = check_signer(kit_for(server.url), RULES)
        assert [r for r in found if r.outcome != "passed"] == []


def test_list_of_permissions_is_optional(kit):
    """A signer without the call is not blamed; the report says that it was not tried."""
    without = spoilt(kit, reply=changed(lambda body, _: not body, status=404))
    found = result(without, "permissions")
    assert (found.outcome, found.reason) == (
        "skipped",
        "the signer does not offer this optional call",
    )


@pytest.mark.parametrize(
    ("name", "item", "sent"),
    [
        ("methods", when(everything, answers(method="PATCH")), {"action": "PutObject"}),
        (
            "closed-headers",
            signs(has("headers", "\\r")),
            {"headers": {"Content-Type": "a\r\nX-Check: 1"}},
        ),
        ("not-granted", refuses(GET, "no"), {"action": "GetObject"}),
    ],
)
def test_a_broken_rule_shows_what_was_sent(kit, name, item, sent):
    """The one request of the call that was judged, so that it can be tried by hand."""
    found = result(spoilt(kit, name, item), name)
    assert json.loads(found.sent).items() >= sent.items()
    assert f"\n      sent: {found.sent}" in str(found)
    assert found.as_dict()["sent"] == found.sent


@pytest.mark.parametrize("status", [400, 500])
def test_a_lone_surrogate_may_cost_the_whole_call(kit, status):
    """A parser of JSON may refuse it before any request is looked at; 500 is none."""
    problem = json.dumps({"status": status, "code": "invalid_request"}).encode()
    refuse = changed(
        lambda body, _: b"\\ud800" in body,
        status=status,
        headers=PROBLEM,
        body=problem,
    )
    found = result(spoilt(kit, "surrogates", reply=refuse), "surrogates")
    assert found.outcome == ("passed" if status == 400 else "failed")
    assert "ud800" in found.sent


@pytest.mark.parametrize(
    ("granted", "given", "failed", "skipped"),
    [
        (
            {"actions": {Action.GetObject}, "prefix": "", "version": "v1"},
            {"prefix": ""},
            set(),
            {
                *("copy-outside", "copy-version", "copy-without-source"),
                *("other-listing", "other-prefix", "uploads"),
            },
        ),
        (
            {"acls": {"public-read"}},
            {"allowed_headers": frozenset({"x-oss-object-acl", "x-oss-acl"})},
            set(),
            set(),
        ),
        ({}, {"versions": True}, set(), {"copy-version"}),
        # Parts that the largest object cannot have are refused, and that is right.
        (
            {"actions": WRITING, "max_size": MIB, "max_part_size": MIB},
            {},
            set(),
            {*("copy-outside", "copy-version", "copy-without-source"), "other-listing"},
        ),
        (
            {"actions": WRITING, "max_size": 100 * MIB, "max_part_size": MIB},
            {},
            set(),
            {*("copy-outside", "copy-version", "copy-without-source"), "other-listing"},
        ),
    ],
)
def test_policy_decides_what_is_skipped(granted, given, failed, skipped):
    """Actions that are not granted, or not declared as granted, are not tried."""
    with LoopbackServer(service(**granted)) as server:
        kit = evolve(kit_for(server.url), **given)
        assert reasons(kit).keys() == failed
        assert reasons(kit, "skipped").keys() == skipped


def test_listings_alone_leave_most_rules_untried():
    """A rule that needs a plain object says so."""
    with LoopbackServer(service(frozenset({Action.ListObjectsV2}))) as server:
        skipped = reasons(kit_for(server.url), "skipped")
    assert skipped["odd-keys"] == "no action on a single object is granted"
    assert skipped["uploads"] == "no action of an upload is granted"


def test_signer_without_token_is_checked_without(kit):
    """No header is sent, the rule about it is skipped, and the first failure ends it."""
    sent = []

    def exchange(_method, _url, headers, *_):
        sent.append(headers)
        raise NetworkError("the connection to h failed", path=None)

    (found,) = check_signer(evolve(kit, token=None, exchange=exchange), RULES)
    assert found.reason == "the connection to h failed"
    assert all("Authorization" not in headers for headers in sent)
    assert result(evolve(kit, token=None), "token").outcome == "skipped"


def test_url_of_the_signer_is_checked_first(kit):
    """As the client does."""
    with pytest.raises(ConfigurationError, match="has a query"):
        evolve(kit, url="https://h/?a=b")


def check(url, *more):
    """Run the command."""
    call = ["check", "signer", url, "--bucket", "examplebucket", "--prefix", "in/"]
    return cli.main([*call, "--token", "env:OSSPRESIGNED_TOKEN", *more])


def test_command_prints_results_and_exits(monkeypatch, capsys):
    """0 if every rule is kept, 1 if one is broken; never a query or the token."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    with LoopbackServer(service()) as server:
        assert check(server.url) == 0
        said = capsys.readouterr().out
        assert said.endswith("29 passed, 0 failed\n")
        monkeypatch.setenv("OSSPRESIGNED_TOKEN", "wrong")
        assert check(server.url, "--allowed-host", "h=b", "--allowed-host", "i") == 1
        failed = capsys.readouterr().out
        assert failed.startswith("FAILED    answers: ")
        assert failed.splitlines()[2].startswith(
            '      sent: {"requests": [{"action": '
        )
        assert failed.splitlines()[3:] == ["0 passed, 1 failed"]
        assert check(server.url, "--json", "--allowed-header", "X-OSS-ACL") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    (answers,) = found["results"]
    assert answers["reason"] == "HTTP 401 (unauthorized) instead of 200: check --token"
    assert "Signature" not in said + failed
    assert TOKEN not in said + failed


def valid(name, document):
    """Validate *document* against a definition of the schema."""
    jsonschema.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{name}"}).validate(
        document
    )


def test_schema_fits_what_is_really_sent(kit):
    """Calls of the client, replies and problems of the service."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    seen = []

    def watch(body, reply):
        seen.append((body, reply))
        return reply

    watched = spoilt(kit, reply=watch)
    operations = [Operation(**watched.request(action)) for action in URL_ACTIONS]
    call = wire_protocol.body(
        [wire_protocol.encode(operation) for operation in operations]
    )
    assert watched.post(call).status == 200
    valid("call", json.loads(call))
    list(check_signer(watched, RULES))
    kinds = set()
    for body, reply in seen:
        good = "reply" if body else "permissions"
        kind = good if reply.status == 200 else "problem"
        kinds.add(kind)
        valid(kind, json.loads(reply.body))
    assert kinds == {"reply", "permissions", "problem"}


def test_schema_refuses_what_the_service_refuses(kit):
    """Both read the same protocol: they agree on every request of the rules."""
    validator = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/request"})
    compared = 0

    def compare(request, right, _):
        nonlocal compared
        # The schema cannot say: names of headers in any case, members out of place,
        # and half a character.
        said = ("may not be set", "lone surrogate")
        left_out = any(text in str(right) for text in said)
        if not left_out and request.get("upload_id") != "U":
            code = right.get("error", {}).get("code")
            assert validator.is_valid(request) is (code != "invalid_request"), request
            compared += 1
        return right

    list(check_signer(spoilt(kit, item=compare), RULES))
    assert compared > 50

"""``osspresigned check signer``: passes good signers, and finds each broken rule."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from attrs import evolve

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import ConfigurationError, NetworkError
from fsspec_osspresigned.http.json_service import JSONService
from fsspec_osspresigned.model import URL_ACTIONS, Action, Operation, Reply
from fsspec_osspresigned.owner.conformance import ELSEWHERE, Kit, run
from fsspec_osspresigned.owner.conformance_rules import RULES
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers import wire_protocol
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.tools import cli

ROOT = Path(__file__).parents[2]
SCHEMA_FILE = ROOT / "docs" / "signer-protocol.schema.json"
SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))

TOKEN = "tokenCANARYtoken"
MIB = 1 << 20
WRITING = frozenset(
    {Action.PutObject, Action.InitiateMultipartUpload, Action.UploadPart}
)
GOOD = {"method": "PUT", "url": "https://h/k?Signature=CANARY", "headers": {}}


def key_signer(version: str = "v4") -> KeySigner:
    """Return a signer with a made-up key."""
    return KeySigner(
        credentials=lambda: Credentials("LTAIfakeid", Secret("fakesecret")),
        endpoint=Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com"),
        region="cn-hangzhou",
        version=version,
    )


def service(
    actions=frozenset(Action), prefix="in/", version="v4", headers=(), versions=False
):
    """Return the reference service with one token."""
    policy = Policy(
        name="all",
        prefixes=(f"examplebucket/{prefix}",),
        actions=actions,
        headers=frozenset(headers),
        versions=versions,
    )
    return create_app(key_signer(version), tokens={hash_token(TOKEN): policy})


@pytest.fixture(scope="module")
def transport() -> JSONService:
    """Real connections."""
    return JSONService()


@pytest.fixture(scope="module")
def kit(transport) -> Iterator[Kit]:
    """The kit for the reference service."""
    with LoopbackServer(service()) as server:
        yield kit_for(server.url, transport)


def kit_for(url, transport, prefix="in/"):
    """Return a kit that is granted everything below *prefix*."""
    return Kit(
        url=url,
        bucket="examplebucket",
        prefix=prefix,
        exchange=transport.exchange,
        token=Secret(TOKEN),
    )


def reasons(kit, outcome="fail"):
    """Return rule -> reason, of the verdicts that are *outcome*."""
    return {v.rule: v.reason for v in run(kit, RULES) if v.outcome == outcome}


def spoilt(kit, item=None, reply=None, call=None):
    """Return *kit* for a signer that spoils its answers.

    Args:
        kit: for a good signer.
        item: (request, result) -> another result.
        reply: (body of the call, reply) -> another reply.
        call: body of the call -> what the good signer is given.
    """

    def exchange(method, url, headers, body, limit):
        given = call(body) if call else body
        answer = kit.exchange(method, url, headers, given, limit)
        if item and answer.status == 200:
            results = json.loads(answer.body)["results"]
            pairs = zip(json.loads(body)["requests"], results, strict=True)
            found = {"results": [item(*pair) for pair in pairs]}
            answer = evolve(answer, body=json.dumps(found).encode())
        return reply(body, answer) if reply else answer

    return evolve(kit, exchange=exchange)


def verdict(kit, name):
    """Return the verdict on one rule."""
    [rule] = [rule for rule in RULES if rule.name == name]
    [found] = run(kit, [rule])
    assert "CANARY" not in f"{found}{found.text(verbose=True)}{found.as_dict()}"
    return found


def signs(change):
    """Change signed results only."""
    return lambda request, result: (
        result if "error" in result else change(request, dict(result))
    )


def url(pattern, new):
    """Change the URL of signed results."""
    return signs(lambda _, r: {**r, "url": re.sub(pattern, new, r["url"], count=1)})


def refuses(code, status=403):
    """Refuse everything."""
    return lambda *_: {"error": {"status": status, "code": code}}


def header(name, value):
    """Add a header to signed results."""
    return signs(lambda _, r: {**r, "headers": {**r["headers"], name: value}})


def wish_signed(request, result):
    """Sign what was wished, whatever it is."""
    wished = request.get("optional_headers", {})
    return {**result, "headers": wished} if wished and "url" in result else result


def signs_all(_, result):
    """Sign what must be refused."""
    return GOOD if "error" in result else result


def error(**members):
    """Change the errors of items."""
    return lambda _, r: {"error": {**r["error"], **members}} if "error" in r else r


ITEM = [
    ("answers", refuses("forbidden"), "nothing is signed below examplebucket/in/"),
    (
        "not-granted",
        lambda q, r: refuses("forbidden")() if q["action"] == "GetObject" else r,
        "GetObject was refused with forbidden, not action_not_granted",
    ),
    (
        "not-granted",
        lambda q, r: (
            refuses("action_not_granted", 404)() if q["action"] == "GetObject" else r
        ),
        "is 404, not 403",
    ),
    ("methods", signs(lambda _, r: {**r, "method": "PATCH"}), "'PATCH', not PUT"),
    ("host-and-key", url("examplebucket", "another"), "bucket 'another'"),
    ("host-and-key", url("/in/", "/IN/"), "path of the URL"),
    ("host-and-key", url("https:", "http:"), "plain http"),
    ("upload-id", url("uploadId=[^&]*", "uploadId=other"), "UploadPart: uploadId"),
    ("upload-id", url(r"\?", "?uploadId=U&"), "PutObject: uploadId in the URL"),
    ("upload-id", refuses("invalid_request", 400), "instead of signed"),
    ("part-number", url("partNumber=2", "partNumber=3"), "UploadPart: partNumber"),
    ("part-number", refuses("unavailable", 503), "instead of signed"),
    ("no-other-call", url(r"\?", "?acl&"), "'acl' may turn the URL into another call"),
    (
        "no-other-call",
        lambda q, r: (
            {**GOOD, "url": GOOD["url"] + "&uploadId=U"}
            if q["action"] == "PutObject" and "upload_id" in q
            else r
        ),
        "PutObject with members of a part became another call",
    ),
    ("reply-headers", header("Cookie", "a"), "'Cookie' may not be set"),
    ("reply-headers", header("x-oss-object-acl", "private"), "was not asked for"),
    ("reply-headers", header("Content-Length", "3"), "only if it is signed"),
    ("header-echo", signs(lambda _, r: {**r, "headers": {}}), "Content-Type did not"),
    ("header-echo", refuses("forbidden"), "not header_refused"),
    ("wishes", refuses("header_refused"), "refused with header_refused instead"),
    ("wishes", header("Content-Type", "b"), "Content-Type came back with another"),
    (
        "uploads",
        lambda q, r: refuses("forbidden")() if q["action"] == "UploadPart" else r,
        "UploadPart was refused with forbidden instead of signed",
    ),
    ("odd-keys", url("%2525|%25", "%"), "leads to another key"),
    (
        "odd-keys",
        lambda q, r: refuses("forbidden")() if "%41" in q["key"] else r,
        "instead of signed",
    ),
    ("order", signs_all, "the unknown action in request 2 of 5 was signed"),
    (
        "unknown-members",
        lambda q, r: refuses("invalid_request", 400)() if "x_check" in q else r,
        "unknown member was refused",
    ),
    ("life", signs(lambda _, r: {**r, "expires_in": 3600}), "expires_in is 3600"),
    ("life", url("x-oss-expires=60", "x-oss-expires=61"), "lives for 61 s"),
    ("life", url("x-oss-expires=60", "x-oss-expires=5"), "but the URL lives for 5 s"),
    ("life", signs(lambda _, r: {"method": "PUT", "url": "https://h/k"}), "neither"),
    ("life", refuses("unavailable", 0), "refused with unavailable instead"),
    ("closed-query", signs_all, "parameter acl was signed"),
    ("closed-query", error(code="", status=400), "with no code"),
    ("acl", signs_all, "x-oss-object-acl was signed instead"),
    ("acl", wish_signed, "signed because it was wished"),
    ("copy-source", signs_all, "x-oss-copy-source was signed"),
    ("retention", signs_all, "x-oss-object-worm-mode was signed"),
    ("callback-and-symlink", signs_all, "x-oss-callback was signed"),
    ("closed-headers", signs_all, "X-Check: '1' was signed"),
    (
        "closed-headers",
        lambda q, r: GOOD if "Content-Length" in q.get("headers", {}) else r,
        "Content-Length: '3' was signed",
    ),
    ("signature-headers", signs_all, "x-oss-date was signed instead"),
    ("copy-without-source", signs_all, "CopyObject without a source was signed"),
    (
        "copy-without-source",
        lambda q, r: GOOD if "optional_headers" in q else r,
        "a wished source was dropped",
    ),
    ("copy-version", signs_all, "a copy of a version was signed"),
    ("copy-outside", signs_all, "a copy from outside was signed"),
    ("copy-outside", refuses("invalid_request", 400), "not forbidden"),
    ("other-bucket", signs_all, "another bucket was signed"),
    ("other-prefix", signs_all, "was signed instead of refused with forbidden"),
    ("other-listing", signs_all, "a listing of all was signed"),
    ("nulls", signs_all, "bucket null was signed"),
    ("members", signs_all, "bucket missing was signed"),
    ("surrogates", signs_all, "a lone surrogate, was signed instead of refused"),
    ("item-errors", signs_all, "a bad request was signed"),
    ("item-errors", lambda _, r: {**GOOD, **r}, "both an error and a URL"),
    ("item-errors", error(code=""), "has no code"),
    ("item-errors", error(title=3), "title that is a number"),
    ("item-errors", error(detail="see https://h/k?a=CANARY"), "URL with a query"),
    ("batch-limit", lambda _, r: refuses("unavailable", 503)(), "not all of 100"),
]


@pytest.mark.parametrize(("name", "item", "said"), ITEM)
def test_each_rule_for_items_finds_its_broken_signer(kit, name, item, said):
    """The rule fails for a reason that says what is wrong."""
    # What is granted was learnt before the signer broke, but for the rules about that.
    broken = spoilt(kit, item=item)
    if name not in ("answers", "not-granted", *(r.name for r in RULES[:7])):
        broken.__dict__["outcomes"] = kit.outcomes
    if "upload-id" in name or "part-number" in name:
        broken.__dict__["outcomes"] = kit.outcomes
    found = verdict(broken, name)
    assert found.outcome == "fail"
    assert said in found.reason


def swapped(_, reply):
    """Answer in another order."""
    results = json.loads(reply.body).get("results", [])
    return evolve(reply, body=json.dumps({"results": results[::-1]}).encode())


def status(code):
    """Answer everything with a status."""
    return lambda _, reply: evolve(reply, status=code)


def when_refused(**members):
    """Change the replies that refuse a call."""
    return lambda _, r: r if r.status == 200 else evolve(r, **members)


PROBLEM = {"content-type": "application/problem+json"}
REPLY = [
    ("answers", status(302), "HTTP 302"),
    ("answers", status(429), "HTTP 429: raise the rate limit"),
    (
        "answers",
        lambda *_: Reply(status=403, headers=PROBLEM, body=b'{"code": "forbidden"}'),
        "HTTP 403 (forbidden) instead",
    ),
    ("answers", lambda _, r: evolve(r, headers={}), "is not application/json"),
    ("answers", lambda _, r: evolve(r, body=b'{"results": []}'), "0 results for 12"),
    ("answers", lambda _, r: evolve(r, body=TOKEN.encode()), "not valid"),
    ("order", swapped, "the result of request 0 of 5 is for another object"),
    ("call-errors", status(200), "{: HTTP 200, not 400"),
    ("call-errors", when_refused(headers={}), "not application/problem+json"),
    ("call-errors", when_refused(body=b"{"), "the refusal is not JSON"),
    ("call-errors", when_refused(body=b"[]"), "status in the problem"),
    ("call-errors", when_refused(body=b'{"status": 400}'), "the problem has no code"),
    ("duplicate-members", status(200), "a member twice: HTTP 200"),
    ("token", status(200), "no token: HTTP 200, not 401"),
    (
        "token",
        when_refused(body=b'{"status": 401, "code": "x"}'),
        "no token: the code is not unauthorized",
    ),
    ("batch-limit", when_refused(status=200), "101 requests: HTTP 200"),
    ("body-limit", when_refused(status=200), "a byte: HTTP 200"),
    ("body-limit", when_refused(status=500), "a byte: HTTP 500"),
    ("body-limit", status(413), "a body of 1 MiB: HTTP 413"),
]


@pytest.mark.parametrize(("name", "reply", "said"), REPLY)
def test_each_rule_for_calls_finds_its_broken_signer(kit, name, reply, said):
    """The rule fails for a reason that says what is wrong."""
    broken = spoilt(kit, reply=reply)
    if name != "answers":
        broken.__dict__["outcomes"] = kit.outcomes
    found = verdict(broken, name)
    assert found.outcome == "fail"
    assert said in found.reason


def test_one_bad_item_must_not_refuse_the_others(kit):
    """A signer that refuses its whole batch item by item is found."""
    broken = spoilt(kit, item=refuses("invalid_request", 400))
    broken.__dict__["outcomes"] = kit.outcomes
    assert "request 0 of 5 was refused" in verdict(broken, "order").reason


def test_a_rule_that_passes_tells_its_request(kit):
    """In JSON, and in the text that is asked for; what judges earlier replies has none."""
    found = verdict(kit, "closed-headers")
    assert found.outcome == "pass"
    assert json.loads(found.sent)["headers"]
    assert "\n      sent: {" in found.text(verbose=True)
    assert "sent" not in found.text(verbose=False)
    assert json.loads(verdict(kit, "members").sent)


@pytest.mark.parametrize(
    ("name", "item", "sent"),
    [
        (
            "methods",
            signs(lambda _, r: {**r, "method": "PATCH"}),
            {"action": "PutObject"},
        ),
        (
            "closed-headers",
            lambda q, r: GOOD if "\\r" in json.dumps(q) else r,
            {"headers": {"Content-Type": "a\r\nX-Check: 1"}},
        ),
        ("other-bucket", signs_all, {"bucket": ELSEWHERE}),
        (
            "not-granted",
            lambda q, r: refuses("no")() if q["action"] == "GetObject" else r,
            {"action": "GetObject"},
        ),
        ("no-other-call", url(r"\?", "?acl&"), {"action": "PutObject"}),
    ],
)
def test_a_broken_rule_shows_what_was_sent(kit, name, item, sent):
    """The one request of the call that was judged, so that it can be tried by hand."""
    found = verdict(spoilt(kit, item=item), name)
    assert json.loads(found.sent).items() >= sent.items()
    assert f"\n      sent: {found.sent}" in found.text(verbose=False)
    assert found.as_dict()["sent"] == found.sent


@pytest.mark.parametrize("status", [400, 500])
def test_a_lone_surrogate_may_cost_the_whole_call(kit, status):
    """A parser of JSON may refuse it before any request is looked at; 500 is none."""

    def reply(body, answer):
        problem = json.dumps({"status": status, "code": "invalid_request"}).encode()
        headers = {"content-type": "application/problem+json"}
        spelt = b"\\ud800" in body
        return Reply(status=status, headers=headers, body=problem) if spelt else answer

    found = verdict(spoilt(kit, reply=reply), "surrogates")
    assert found.outcome == ("pass" if status == 400 else "fail")
    assert "ud800" in found.sent


def test_a_long_call_is_cut_off(kit):
    """A mebibyte of blanks helps nobody; the token is never shown."""

    def reply(_, answer):
        return evolve(answer, status=413, body=b"")

    broken = spoilt(kit, reply=reply)
    broken.__dict__["outcomes"] = kit.outcomes
    assert verdict(broken, "body-limit").sent.endswith("... (1048576 characters)")


def test_every_rule_has_a_broken_signer():
    """A rule that nothing can break proves nothing."""
    assert {rule.name for rule in RULES} == {name for name, *_ in ITEM + REPLY}


def test_reference_service_keeps_every_rule(kit):
    """Nothing is skipped where everything is granted."""
    assert {v.outcome for v in run(kit, RULES)} == {"pass"}


def test_header_that_is_refused_in_due_form_is_no_failure(kit):
    """Demands come back, or are refused with header_refused."""
    broken = spoilt(kit, item=refuses("header_refused"))
    broken.__dict__["outcomes"] = kit.outcomes
    assert verdict(broken, "header-echo").outcome == "pass"
    broken = spoilt(kit, item=refuses("forbidden"))
    broken.__dict__["outcomes"] = kit.outcomes
    assert verdict(broken, "other-prefix").outcome == "pass"


def test_url_that_tells_no_end_may_have_expires_in(kit):
    """A custom domain may sign in its own way."""
    broken = spoilt(kit, item=signs(lambda _, r: {**r, "url": "https://h/k?sign=a"}))
    broken.__dict__["outcomes"] = kit.outcomes
    assert verdict(broken, "life").outcome == "pass"


def test_other_ways_to_refuse_odd_keys_are_allowed(kit):
    """Dots may be refused, and a key without a body of its own needs no length."""
    broken = spoilt(
        kit,
        item=lambda q, r: refuses("invalid_request", 400)() if ".." in q["key"] else r,
    )
    broken.__dict__["outcomes"] = kit.outcomes
    assert verdict(broken, "odd-keys").outcome == "pass"


def test_policy_decides_what_is_skipped(transport):
    """What is not granted, or said to be, is not tried."""
    narrow = frozenset({Action.GetObject})
    with LoopbackServer(service(narrow, prefix="", version="v1")) as server:
        kit = kit_for(server.url, transport, prefix="")
        kit = evolve(kit, token=Secret(TOKEN))
        assert reasons(kit) == {}
        assert set(reasons(kit, "skip")) == {
            "copy-outside",
            "copy-version",
            "copy-without-source",
            "other-listing",
            "other-prefix",
            "uploads",
        }
    acls = ("x-oss-object-acl", "x-oss-acl")
    with LoopbackServer(service(prefix="", headers=acls)) as server:
        kit = kit_for(server.url, transport, prefix="")
        assert set(reasons(kit)) == {"acl"}
        kit = evolve(kit, allowed_headers=frozenset(acls))
        assert set(reasons(kit, "skip")) == {"acl", "other-prefix", "other-listing"}
        assert reasons(kit) == {}


def test_versions_are_copied_only_if_the_policy_says_so(transport):
    """A signer of versions fails, unless the kit knows that the policy grants them."""
    with LoopbackServer(service(versions=True)) as server:
        kit = kit_for(server.url, transport)
        assert set(reasons(kit)) == {"copy-version"}
        kit = evolve(kit, versions=True)
        assert reasons(kit) == {}
        assert set(reasons(kit, "skip")) == {"copy-version"}


def test_copy_source_may_be_called_malformed(kit):
    """One without a slash in front is not of the form that the protocol has."""

    def refuse(request, result):
        source = request.get("headers", {}).get("x-oss-copy-source", "/")
        return result if source[0] == "/" else refuses("invalid_request", 400)()

    assert verdict(spoilt(kit, item=refuse), "copy-outside").outcome == "pass"


@pytest.mark.parametrize("size", [MIB, 100 * MIB])
def test_policy_with_sizes_keeps_every_rule(transport, size):
    """Parts that the largest object cannot have are refused, and that is right."""
    policy = Policy(
        name="small",
        prefixes=("examplebucket/in/",),
        actions=WRITING,
        max_size=size,
        max_part_size=MIB,
    )
    app = create_app(key_signer(), tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as server:
        kit = kit_for(server.url, transport)
        assert reasons(kit) == {}
        assert "part-number" not in reasons(kit, "skip")


def test_copies_alone_leave_most_rules_untried(transport):
    """A rule that needs a plain object says so."""
    with LoopbackServer(service(frozenset({Action.ListObjectsV2}))) as server:
        skipped = reasons(kit_for(server.url, transport), "skip")
    assert skipped["odd-keys"] == "no action on a single object is granted"
    assert skipped["uploads"] == "no action of an upload is granted"


def test_signer_without_token_is_checked_without(kit):
    """No header is sent, and the rule about it is skipped."""
    sent = []

    def exchange(_method, _url, headers, *_):
        sent.append(headers)
        raise NetworkError("the connection to h failed", path=None)

    found = list(run(evolve(kit, token=None, exchange=exchange), RULES))
    assert found[0].reason == "the connection to h failed"
    assert {v.outcome for v in found[1:]} == {"skip"}
    assert found[1].reason == "not tried, because answers is broken"
    assert all("Authorization" not in headers for headers in sent)
    assert verdict(evolve(kit, token=None), "token").outcome == "skip"


def test_url_of_the_signer_is_checked_first(kit):
    """As the client does."""
    with pytest.raises(ConfigurationError, match="has a query"):
        evolve(kit, url="https://h/?a=b")


def check(url, *more):
    """Run the command."""
    call = ["check", "signer", url, "--bucket", "examplebucket", "--prefix", "in/"]
    return cli.main([*call, "--token", "env:OSSPRESIGNED_TOKEN", *more])


def test_command_prints_verdicts_and_exits(monkeypatch, capsys):
    """0 if every rule is kept, 1 if one is broken; never a query or the token."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    with LoopbackServer(service()) as server:
        assert check(server.url) == 0
        said = capsys.readouterr().out
        assert said.endswith("37 passed, 0 failed, 0 skipped\n")
        monkeypatch.setenv("OSSPRESIGNED_TOKEN", "wrong")
        assert check(server.url, "--allowed-host", "h=b", "--allowed-host", "i") == 1
        failed = capsys.readouterr().out
        assert failed.startswith("FAIL  answers: ")
        assert failed.splitlines()[2].startswith(
            '      sent: {"requests": [{"action": '
        )
        assert failed.splitlines()[3:] == ["0 passed, 1 failed, 36 skipped"]
        assert check(server.url, "--json", "--allowed-header", "X-OSS-ACL") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert (
        found["rules"][0]["reason"]
        == "HTTP 401 (unauthorized) instead of 200: check --token"
    )
    assert "Signature" not in said + failed
    assert TOKEN not in said + failed


@pytest.mark.parametrize(
    ("given", "said"),
    [((), "--bucket and --prefix"), (("--bucket", "b"), "needs --prefix\n")],
)
def test_command_names_all_that_it_needs(given, said, capsys):
    """No second run is needed to learn the second option."""
    assert cli.main(["check", "signer", "http://127.0.0.1:1", *given]) == 2
    assert said in capsys.readouterr().err


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
    list(run(watched, RULES))
    kinds = set()
    for _, reply in seen:
        kind = "reply" if reply.status == 200 else "problem"
        kinds.add(kind)
        valid(kind, json.loads(reply.body))
    assert kinds == {"reply", "problem"}


def test_schema_refuses_what_the_service_refuses(kit):
    """Both read the same protocol: they agree on every request of the rules."""
    validator = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/request"})
    compared = 0

    def compare(request, result):
        nonlocal compared
        # The schema cannot say: names of headers in any case, members out of place,
        # and half a character.
        said = ("may not be set", "lone surrogate")
        left_out = any(text in str(result) for text in said)
        if not left_out and request.get("upload_id") != "U":
            code = result.get("error", {}).get("code")
            assert validator.is_valid(request) is (code != "invalid_request"), request
            compared += 1
        return result

    list(run(spoilt(kit, item=compare), RULES))
    assert compared > 50

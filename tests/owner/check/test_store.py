"""The live check of a store: an honest one, and ones that lie about one fact each."""

from __future__ import annotations

import json
import time
from functools import partial

import pytest
from attrs import evolve, fields

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import (
    COPY_SOURCE,
    STORAGE_CLASS,
    Action,
    Reply,
)
from fsspec_osspresigned.owner.check.store import (
    Expected,
    Fact,
    Needs,
    URLCall,
    check_store,
)
from fsspec_osspresigned.owner.check.store_facts import FACTS
from fsspec_osspresigned.owner.check.store_folder import CheckFolder, StoreAccess
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials, Endpoint

BUCKET = "examplebucket"
JUDGED = [fact for fact in FACTS if fact.expected is not None]
REFUSALS = [fact for fact in JUDGED if fact.expected.is_refusal]
BY_NAME = {fact.name: fact for fact in FACTS}
STS = Credentials("STS.Key", Secret("StsSecret"), Secret("StsToken"), time.time() + 9e4)
_VERSIONED = {"versioned": [BUCKET]}
_OWN_DOMAIN = {"cnames": {"localhost": BUCKET}}
# Requirement of a fact -> options of an emulator that meets it.
STORES = {
    None: {},
    Needs.UNVERSIONED: {},
    Needs.VERSIONED: _VERSIONED,
    Needs.VERSION_IDS: _VERSIONED,
    Needs.TEMPORARY_KEY: {"credentials": [STS]},
    Needs.CNAME: _OWN_DOMAIN,
}
KINDS = [{}, _VERSIONED, STORES[Needs.TEMPORARY_KEY], _OWN_DOMAIN]


@pytest.fixture
def store_options(request: pytest.FixtureRequest):
    """The options that a test gives, or none."""
    return getattr(request, "param", {})


@pytest.fixture
def folder(oss: Emulator, store_options):
    """A folder in the emulator, at the bucket's own domain if it has one."""
    transport, endpoint = Transport(), oss.endpoint
    if "cnames" in store_options:
        place = oss.url.replace("127.0.0.1", "localhost")
        endpoint = Endpoint.parse(place, style="cname")
    access = StoreAccess(
        send=partial(run, transport.send),
        credentials=oss.credentials,
        endpoint=endpoint,
        region="cn-hangzhou",
        bucket=BUCKET,
    )
    yield CheckFolder(access=access, prefix="check/")
    transport.close()


def is_empty(oss):
    """True if the bucket has no object, no version and no upload."""
    bucket = oss.store.buckets[BUCKET]
    return not (bucket.objects or bucket.versions or bucket.uploads)


@pytest.mark.parametrize("store_options", KINDS, indirect=True)
def test_emulator_is_as_expected(oss, folder):
    """Each fact with a source holds, and nothing is left in the bucket."""
    results = list(check_store(folder, FACTS))
    assert [r.name for r in results] == [fact.name for fact in FACTS]
    assert [str(r) for r in results if r.outcome == "failed"] == []
    met = [f for f in JUDGED if f.needs is None or f.needs.are_met(folder)]
    assert [r.name for r in results if r.outcome == "passed"] == [f.name for f in met]
    assert {r.reason[:9] for r in results if r.outcome == "skipped"} == {"it needs "}
    assert folder.clean_up() == []
    assert is_empty(oss)


def test_each_refusal_has_a_counter_case():
    """It comes before the refusal, succeeds, and a request of it differs in one thing."""
    places = {fact.name: place for place, fact in enumerate(FACTS)}
    for fact in REFUSALS:
        counter = BY_NAME[fact.counter]
        assert places[counter.name] < places[fact.name]
        assert counter.expected is not None
        assert not counter.expected.is_refusal
        assert counter.needs in (None, fact.needs)
        refused = fact.steps[-1]
        names = [a.name for a in fields(type(refused))]
        unlike = min(
            (
                [n for n in names if getattr(refused, n) != getattr(accepted, n)]
                for accepted in counter.steps
                if type(accepted) is type(refused)
            ),
            key=len,
        )
        assert len(unlike) + (fact.steps[:-1] != counter.steps[:-1]) >= 1, fact.name
        assert len(unlike) <= 1, (fact.name, unlike)
    assert [f.name for f in FACTS if f.counter and f not in REFUSALS] == []


def test_report_holds_no_secret_and_no_bucket(oss, folder):
    """It is made to be shown: no signature, key or name of a bucket stands in it."""
    text = json.dumps([result.as_dict() for result in check_store(folder, FACTS)])
    assert BUCKET not in text
    assert oss.credentials.access_key_id not in text
    assert oss.credentials.access_key_secret.reveal() not in text
    assert "Signature=" not in text
    assert "x-oss-signature=" not in text


def otherwise(folder, name, results):
    """Return *folder* of a store whose reply for one fact is another.

    *results* are those that the check has yielded so far.
    """
    real, sent = folder.access.send, []

    def send(signed, body):
        reply = real(signed, body)
        if FACTS[len(results)].name == name:
            sent.append(reply)
            if len(sent) == len(BY_NAME[name].steps):
                return evolve(reply, status=418, headers={}, body=b"")
        return reply

    return evolve(folder, access=evolve(folder.access, send=send))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store_options", "name"),
    [(STORES[fact.needs], fact.name) for fact in JUDGED],
    indirect=["store_options"],
)
def test_each_fact_has_a_line_of_its_own(folder, name):
    """A store that answers one fact otherwise fails in that line alone.

    What this fact is the counter-case of is skipped. The check ends after a control.
    """
    results = []
    lying = otherwise(folder, name, results)
    results.extend(check_store(lying, FACTS))
    assert [r.name for r in results if r.outcome == "failed"] == [name]
    if BY_NAME[name].is_control:
        assert results[-1].name == name
        return
    skipped = {r.name for r in results if r.outcome == "skipped"}
    unmet = {f.name for f in FACTS if f.needs and not f.needs.are_met(lying)}
    assert skipped == unmet | {f.name for f in FACTS if f.counter == name}


def header(name, change):
    """Return a store that replies with another value of a header, or without it."""

    def send(real, signed, body):
        reply = real(signed, body)
        if name not in reply.headers:
            return reply
        headers = {**reply.headers, name: change(reply.headers[name])}
        kept = {n: v for n, v in headers.items() if v is not None}
        return evolve(reply, headers=kept)

    return send


def text(old, new):
    """Return a store that replies with *new* for the text *old*."""

    def send(real, signed, body):
        reply = real(signed, body)
        return evolve(reply, body=reply.body.replace(old, new))

    return send


def without_copies(real, signed, body):
    """Say that a copy succeeded, and copy nothing."""
    if COPY_SOURCE not in signed.headers:
        return real(signed, body)
    return Reply(status=200, body=b'<CopyResult><ETag>"0"</ETag></CopyResult>')


@pytest.mark.parametrize(
    ("misbehave", "red"),
    [
        (header("content-type", lambda _: "text/plain"), {"type-signed", "form-type"}),
        (header("cache-control", lambda _: None), {"additional-sent"}),
        (header(STORAGE_CLASS, lambda _: "Standard"), {"class"}),
        (header("x-oss-tagging-count", lambda _: None), {"tag"}),
        (text(b">private<", b">default<"), {"acl"}),
        (without_copies, {"copied", "copy-missing", "part-copied"}),
        (header("last-modified", lambda _: None), {"last-modified"}),
        (text(b"LastModified>", b"Modified>"), {"list"}),
    ],
)
def test_what_a_store_keeps_is_looked_at(folder, misbehave, red):
    """A store that confirms a property, and does not keep it, fails."""
    send = partial(misbehave, folder.access.send)
    lying = evolve(folder, access=evolve(folder.access, send=send))
    results = list(check_store(lying, FACTS))
    assert {r.name for r in results if r.outcome == "failed"} == red


def without_control(facts):
    """Return the facts for a check that goes on in spite of its control."""
    return [evolve(fact, is_control=False) for fact in facts]


def test_store_that_refuses_all(folder):
    """No fact passes with a wrong secret: a refusal of all proves nothing."""
    wrong = evolve(folder.access.credentials, access_key_secret=Secret("wrong"))
    folder = evolve(folder, access=evolve(folder.access, credentials=wrong))
    results = list(check_store(folder, without_control(FACTS)))
    assert "passed" not in {result.outcome for result in results}
    assert {r.name for r in results if r.outcome == "skipped"} >= {
        fact.name for fact in REFUSALS
    }


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"status": 200}, ["status is 404, not 200"]),
        ({"status": 404, "code": "NoSuchKey"}, []),
        ({"status": 404, "code": "Other"}, ["code is NoSuchKey, not Other"]),
        ({"status": 404, "ec": "0026-00000001"}, []),
        ({"status": 404, "ec": "1"}, ["EC is 0026-00000001, not 1"]),
        ({"status": 404, "headers": {"etag": None}}, []),
        ({"status": 404, "headers": {"etag": '"B"'}}, []),
        ({"status": 404, "headers": {"etag": '"c"'}}, ['etag is another, not "c"']),
        ({"status": 404, "headers": {"x-oss-id": None}}, ["x-oss-id is missing"]),
        ({"status": 404, "headers": {"x-oss-id": "1"}}, ["x-oss-id is missing"]),
        ({"status": 404, "holds": ("<Code>", "<Id>")}, ["the body lacks <Id>"]),
    ],
)
def test_differences_are_told_in_words(folder, expected, told):
    """Only the stated expectations are compared; letter case is ignored."""
    body = b"<Error><Code>NoSuchKey</Code><EC>0026-00000001</EC></Error>"
    reply = Reply(status=404, headers={"etag": '"b"'}, body=body)
    folder = evolve(folder, access=evolve(folder.access, send=lambda *_: reply))
    fact = Fact("one", "", "", URLCall(Action.GetObject), Expected(**expected))
    (result,) = check_store(folder, [fact])
    assert result.reason == "; ".join(told)
    assert result.outcome == ("failed" if told else "passed")


@pytest.mark.parametrize(
    ("expected", "outcome"), [(Expected(status=200), "failed"), (None, "recorded")]
)
def test_store_that_does_not_answer(folder, expected, outcome):
    """A fact that could not be asked for says why; the check continues."""
    real, lost = folder.access.send, []

    def send(signed, body):
        if not lost:
            lost.append(signed)
            raise NetworkError("no way")
        return real(signed, body)

    folder = evolve(folder, access=evolve(folder.access, send=send))
    broken = Fact("broken", "It answers.", "here", URLCall(Action.GetObject), expected)
    result, control = check_store(folder, [broken, FACTS[0]])
    assert (result.outcome, control.outcome) == (outcome, "passed")
    assert result.reason == "no way"


def test_step_that_fails(oss, folder):
    """A fact fails if a request that it needs is refused."""
    oss.faults.add(Fault(action="InitiateMultipartUpload", times=None, status=403))
    results = {r.name: r for r in check_store(folder, FACTS)}
    assert results["initiate"].outcome == results["part"].outcome == "failed"
    why = "InitiateMultipartUpload before it was refused with 403 AccessDenied"
    assert results["part"].reason == why


def test_suspended_versioning(oss, folder):
    """Without version IDs, the facts about them are skipped, and others stand."""
    real = folder.access.send

    def send(signed, body):
        reply = real(signed, body)
        return evolve(reply, headers={**reply.headers, "x-oss-version-id": "null"})

    folder = evolve(folder, access=evolve(folder.access, send=send))
    results = {r.name: r for r in check_store(folder, FACTS)}
    for fact in FACTS:
        is_skipped = results[fact.name].outcome == "skipped"
        assert is_skipped == (fact.needs not in (None, Needs.VERSIONED)), results[
            fact.name
        ]
    assert folder.clean_up() == []
    assert is_empty(oss)

"""The live check of a store: an honest one, and ones that lie about one fact each."""

from __future__ import annotations

import json

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import URL_ACTIONS, Reply
from fsspec_osspresigned.owner.store_check import CheckedStore, Expected, Fact, check
from fsspec_osspresigned.owner.store_facts import FACTS
from fsspec_osspresigned.owner.store_folder import CheckFolder, StoreAccess

BUCKET = "examplebucket"
JUDGED = [fact.name for fact in FACTS if fact.expected is not None]


@pytest.fixture
def store(oss: Emulator):
    """The emulator as a store to check."""
    transport = Transport()
    access = StoreAccess(
        send=transport.send,
        credentials=oss.credentials,
        endpoint=oss.endpoint,
        region="cn-hangzhou",
        bucket=BUCKET,
    )
    yield CheckedStore(folder=CheckFolder(access=access, prefix="check/"))
    transport.close()


def test_emulator_is_as_expected(oss, store):
    """Each fact that a source tells holds, and nothing is left."""
    found = list(check(store, FACTS))
    assert [str(r) for r in found if r.outcome in ("different", "not asked")] == []
    assert [r.name for r in found if r.outcome == "as expected"] == JUDGED
    assert store.folder.clean_up() == []
    assert list(oss.objects(BUCKET)) == []
    assert oss.uploads(BUCKET) == []


def test_report_holds_no_secret_and_no_bucket(oss, store):
    """It is made to be shown: no signature, key or name of a bucket stands in it."""
    text = json.dumps([result.as_dict() for result in check(store, FACTS)])
    assert BUCKET not in text
    assert oss.credentials.access_key_id not in text
    assert oss.credentials.access_key_secret.reveal() not in text
    assert "Signature=" not in text
    assert "x-oss-signature=" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", JUDGED)
def test_each_fact_has_a_line_of_its_own(store, name):
    """A store that answers one fact otherwise differs in that line alone."""

    def otherwise(fact):
        def ask(asked):
            return evolve(fact.ask(asked), status=418, headers={}, body=b"")

        return evolve(fact, ask=ask) if fact.name == name else fact

    found = check(store, map(otherwise, FACTS))
    assert [r.name for r in found if r.outcome == "different"] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("action", URL_ACTIONS)
def test_call_that_is_always_refused(oss, store, action):
    """The facts that need it differ or are not asked, and the others stand."""
    oss.faults.add(Fault(action=action, times=None, status=403))
    found = list(check(store, FACTS))
    assert [result.name for result in found] == [fact.name for fact in FACTS]
    outcomes = {result.outcome for result in found}
    assert outcomes > {"as expected", "recorded"}
    oss.faults.clear()
    assert store.folder.clean_up() == []


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
def test_differences_are_told_in_words(expected, told):
    """What is not stated is not looked at; letter case does not count."""
    body = b"<Error><Code>NoSuchKey</Code><EC>0026-00000001</EC></Error>"
    reply = Reply(status=404, headers={"etag": '"b"'}, body=body)
    fact = Fact("one", "", "", lambda _: reply, Expected(**expected))
    (result,) = check(None, [fact])
    assert list(result.differences) == told
    assert result.outcome == ("different" if told else "as expected")


def test_store_that_does_not_answer(store):
    """A fact that could not be asked for says why, and the others go on."""

    def fails(_):
        raise NetworkError("no way", path="examplebucket/check/object")

    broken = Fact("broken", "It answers.", "here", fails, Expected(status=200))
    first, second = check(store, [broken, FACTS[0]])
    assert (first.outcome, second.outcome) == ("not asked", "as expected")
    assert "no way" in str(first)


def test_store_that_begins_no_upload(oss):
    """What needs a multipart upload is not asked where none can be begun."""
    fact = next(fact for fact in FACTS if fact.name == "part")
    for body in (b"<Other/>", b"no document"):
        access = StoreAccess(
            send=lambda *_, body=body: Reply(status=200, headers={}, body=body),
            credentials=oss.credentials,
            endpoint=oss.endpoint,
            region="cn-hangzhou",
            bucket=BUCKET,
        )
        folder = CheckFolder(access=access, prefix="")
        (result,) = check(CheckedStore(folder=folder), [fact])
        assert result.outcome == "not asked"
        assert "no multipart upload" in str(result)

"""Faults strike a PostObject as they strike a PutObject; bytes count from its file on."""

from __future__ import annotations

import threading
import time

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.emulator.faults import REASONS
from tests.emulator.forms import BUCKET, Poster, signed

CRC = "x-oss-hash-crc64ecma"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def without_faults(oss):
    """Leave no fault for the next test."""
    oss.faults.clear()
    oss.store.drop(oss.store.bucket(BUCKET), "k")
    yield
    oss.faults.clear()


def broken(poster, oss, **members) -> None:
    """Send a form whose connection a fault breaks."""
    oss.faults.add(Fault(action="PostObject", **members))
    with pytest.raises(requests.ConnectionError):
        poster.post("k", b"abcdef")
    assert oss.requests[-1].status is None


@pytest.mark.parametrize(
    ("members", "count"),
    [
        ({"cut_after": 0}, 0),
        ({"cut_after": 3}, 3),
        ({"cut_after": 3, "reset": True}, 3),
        ({"cut_after": 1000}, 6),
        ({"reset": True}, 0),
    ],
)
def test_a_cut_form(poster, oss, members, count):
    """The connection breaks at a byte of the file, and nothing is stored."""
    broken(poster, oss, **members)
    assert oss.requests[-1].bytes == count
    assert oss.get(BUCKET, "k") is None
    assert poster.post("k", b"abcdef").status_code == 204


def test_a_cut_in_a_large_form(poster, oss):
    """A client that still sends sees its connection break."""
    oss.faults.add(Fault(action="PostObject", cut_after=100_000))
    with pytest.raises(requests.ConnectionError):
        poster.post("k", b"x" * 5 * MIB)
    assert oss.requests[-1].bytes == 100_000
    assert oss.get(BUCKET, "k") is None


def test_a_stall(poster, oss):
    """A stalled file goes on after its time, and arrives whole."""
    oss.faults.add(Fault(stall_after=3, stall_for=0.05))
    assert poster.post("k", b"abcdef").status_code == 204
    assert oss.get(BUCKET, "k").data() == b"abcdef"


@pytest.mark.parametrize(
    "members", [{"stall_after": 3}, {"stall_reply_after": 0}], ids=["file", "reply"]
)
def test_a_stall_for_ever(make_client, members):
    """It is on record at once, and leaving does not wait for it."""
    with Emulator(faults=[Fault(action="PostObject", **members)]) as oss:
        poster = Poster(oss, make_client(oss))

        def post() -> None:
            with pytest.raises(requests.ConnectionError):
                poster.post("k", b"abcdef")

        thread = threading.Thread(target=post)
        thread.start()
        while not oss.requests:
            threading.Event().wait(0.005)
        assert (oss.requests[-1].key, oss.requests[-1].status) == ("k", None)
    thread.join()


def test_a_slow_form(poster, oss):
    """The file comes at the speed of the fault."""
    oss.faults.add(Fault(bytes_per_second=50_000))
    begun = time.monotonic()
    assert poster.post("k", b"x" * 10_000).status_code == 204
    assert time.monotonic() - begun >= 0.2


def test_an_error_instead(poster, oss, refusal):
    """A status, before the file or after it, stores nothing; acting does."""
    oss.faults.add(
        Fault(status=503, retry_after=7),
        Fault(status=500, early=True),
        Fault(status=403, early_after=3),
        Fault(code="InternalError", error_body=True),
        Fault(status=500, acts=True),
    )
    reply = poster.post("k", b"abcdef")
    assert refusal(reply)[:2] == (503, "ServiceUnavailable")
    assert reply.headers["Retry-After"] == "7"
    assert oss.requests[-1].bytes == 6
    assert refusal(poster.post("k", b"abcdef"))[0] == 500
    assert oss.requests[-1].bytes == 0
    assert refusal(poster.post("k", b"abcdef"))[0] == 403
    assert oss.requests[-1].bytes == 3
    assert refusal(poster.post("k", b"abcdef"))[:2] == (200, "InternalError")
    assert oss.get(BUCKET, "k") is None
    assert refusal(poster.post("k", b"abcdef"))[0] == 500
    assert oss.get(BUCKET, "k").data() == b"abcdef"


def test_answers_that_lie(poster, oss, tree):
    """The object is right, and what the reply says of it is not."""
    oss.faults.add(Fault(wrong_crc=True), Fault(no_crc=True, no_etag=True))
    wrong = poster.post("k", b"abcdef")
    assert int(wrong.headers[CRC]) ^ 1 == oss.get(BUCKET, "k").crc64
    bare = poster.post("k", b"abcdef").headers
    assert CRC not in bare
    assert "ETag" not in bare
    oss.faults.add(Fault(wrong_etag=True))
    reply = poster.post("k", b"abcdef", also={"success_action_status": "201"})
    assert tree(reply).findtext("ETag") == reply.headers["ETag"] == f'"{"0" * 32}"'
    assert oss.get(BUCKET, "k").data() == b"abcdef"


def test_rules_see_the_key_of_the_form(poster, oss):
    """A pattern of keys is about the field, with the filename in it."""
    oss.faults.add(Fault(key="in/*.csv", status=500, times=None))
    statuses = [
        poster.post(key, filename="a.csv").status_code
        for key in ("in/${filename}", "in/a.csv", "out/a.csv", "in/a.txt")
    ]
    assert statuses == [500, 500, 204, 204]


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_refusal_for_a_reason(poster, oss, refusal, tree, version, reason):
    """Each reason is worded as for a form, and nothing is stored."""
    oss.faults.add(Fault(refuse=reason))
    reply = poster.post("k", version=version)
    status, code, ec = refusal(reply)
    assert status == (400 if reason == "public-endpoint" else 403)
    if reason == "expired":
        assert (code, ec) == ("AccessDenied", "0006-00000213")
        assert "Policy expired." in tree(reply).findtext("Message")
    if reason == "signature":
        assert code == "SignatureDoesNotMatch"
        assert tree(reply).findtext("StringToSign")
    if reason.startswith("key-"):
        assert code == "InvalidAccessKeyId"
    assert oss.get(BUCKET, "k") is None


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_policy_that_ends_midway(make_client, refusal, version):
    """A clock that jumps ends the policy at the second file."""
    with Emulator(faults=[Fault(after=1, clock_jump=3600)]) as oss:
        poster = Poster(oss, make_client(oss))
        fields = signed(oss.credentials, version=version)
        assert poster.post("a", fields=fields).status_code == 204
        expected = (403, "AccessDenied", "0006-00000213")
        assert refusal(poster.post("b", fields=fields)) == expected
        assert oss.objects(BUCKET).keys() == {"a"}

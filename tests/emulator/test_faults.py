"""Faults: what they match, how often they strike, what they answer, and as text."""

from __future__ import annotations

import re

import pytest

from fsspec_osspresigned.client.error_codes import from_reply
from fsspec_osspresigned.emulator import Fault, Faults, parse_faults
from fsspec_osspresigned.emulator.faults import REASONS
from fsspec_osspresigned.emulator.messages import Call
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.model import Action, Operation, Reply
from fsspec_osspresigned.tools import cli
from tests.emulator.authorization import BUCKET, sender
from tests.emulator.conftest import refusal, tree

CALL = Call(action="PutObject", bucket=BUCKET, key="k")
PART_CALL = Call(action="UploadPart", bucket="b", key="a/[1].bin", query="partNumber=2")
CRC = "x-oss-hash-crc64ecma"


# Rules: the requests that they match, and how often.


def test_a_fault_strikes_as_often_as_it_says():
    """Times counts strikes, after counts matching requests that pass."""
    faults = Faults()
    faults.add(Fault(action="PutObject", times=2, after=1, status=500))
    faults.add(Fault(action="GetObject", times=None, status=503))
    struck = [faults.strike(CALL) is not None for _ in range(5)]
    assert struck == [False, True, True, False, False]
    getting = Call(action="GetObject", bucket=BUCKET, key="k")
    assert all(faults.strike(getting) for _ in range(5))
    assert [fault.action for fault in faults.pending] == ["GetObject"]
    faults.clear()
    assert faults.strike(getting) is None


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ({}, True),
        ({"action": "Upload*", "key": "a/*"}, True),
        ({"key": "a/[1].bin"}, True),  # a key is itself, whatever it holds
        ({"key": "A/*"}, False),
        ({"part_number": 2}, True),
        ({"part_number": 3}, False),
        ({"reused": False}, True),
        ({"reused": True}, False),
    ],
)
def test_a_fault_matches_what_it_names(rule, matches):
    """An attribute that a rule omits matches everything."""
    assert Fault(**rule).matches(PART_CALL) is matches


def test_a_rate_is_the_same_each_time():
    """It strikes the same keys for the same seed, whatever the order, and each try again."""

    def struck(seed, keys):
        faults = Faults()
        faults.add(Fault(rate=0.3, seed=seed))
        return {key for key in keys if faults.strike(Call(bucket=BUCKET, key=key))}

    keys = [str(number) for number in range(40)]
    first = struck(1, keys)
    assert first == struck(1, keys[::-1]) != struck(2, keys)
    assert 4 <= len(first) <= 20
    faults = Faults()
    faults.add(Fault(rate=0.5, seed=3))
    assert {faults.strike(CALL) is None for _ in range(30)} == {True, False}


# Answers instead of acting, and answers that lie. The members of the fault, the status,
# whether the object is stored, and what the reply says besides.
ANSWERS = [
    ({"status": 503, "ec": "0099-1", "retry_after": 7},
     "503 ServiceUnavailable 0099-1", b"", False),
    ({"status": 403, "code": "UserDisable"}, "403 UserDisable", b"", False),
    ({"code": "NoSuchUpload"}, "404 NoSuchUpload", b"", False),
    ({"code": "Odd"}, "400 Odd", b"", False),
    ({"status": 418}, "418 InternalError", b"", False),
    ({"status": 429}, "429 QpsLimitExceeded", b"", False),
    ({"status": 500, "early_after": 0}, "500 InternalError", b"", False),
    ({"status": 500, "acts": True}, "500 InternalError", b"", True),
    ({"error_body": True}, "200 InternalError", b"<Code>", False),
    ({"refuse": "denied", "acts": True}, "403 AccessDenied", b"", True),
]  # fmt: skip


@pytest.mark.parametrize("send", ["put", "form"])
@pytest.mark.parametrize(
    ("members", "wanted", "said", "is_stored"), ANSWERS, ids=range(10)
)
def test_answers(client, oss, poster, send, members, wanted, said, is_stored):
    """A PUT and a form get the same answer, and act only if the fault says so."""
    oss.faults.add(Fault(**members))
    if send == "put":
        reply = client.call("PUT", "k", data=b"data")
    else:
        reply = poster.post("k", b"data")
    status, code, ec = refusal(reply)
    assert f"{status} {code} {ec}".strip() == wanted
    assert said in reply.content
    assert reply.headers.get("Retry-After") == (
        str(members["retry_after"]) if "retry_after" in members else None
    )
    assert (oss.get(BUCKET, "k") is not None) is is_stored
    assert oss.requests[-1].bytes == (0 if "early_after" in members else 4)
    assert oss.requests[-1].fault == Fault(**members)


def test_checksums(client, oss, poster):
    """Wrong ones differ from the right ones, missing ones are not there; all is stored."""
    right = client.put("k", b"x").headers
    for members, crc, etag in (
        ({"wrong_crc": True}, str(int(right[CRC]) ^ 1), right["ETag"]),
        ({"wrong_etag": True}, right[CRC], f'"{"0" * 32}"'),
        ({"no_crc": True}, None, right["ETag"]),
        ({"no_etag": True}, right[CRC], None),
    ):
        oss.faults.add(Fault(**members))
        headers = client.put("k", b"x").headers
        assert (headers.get(CRC), headers.get("ETag")) == (crc, etag)
        assert oss.get(BUCKET, "k").data() == b"x"
    oss.faults.add(Fault(action="PostObject", wrong_etag=True))
    reply = poster.post("k", b"x", also={"success_action_status": "201"})
    assert tree(reply).findtext("ETag") == reply.headers["ETag"] == f'"{"0" * 32}"'
    upload, parts = client.uploaded("whole", b"x")
    oss.faults.add(Fault(action="CompleteMultipartUpload", wrong_etag=True))
    reply = client.complete("whole", upload, parts)
    wrong = f'"{"0" * 32}-1"'
    assert reply.headers["ETag"] == tree(reply).findtext("ETag") == wrong
    oss.faults.add(Fault(wrong_etag=True, wrong_crc=True), Fault(no_crc=True))
    assert client.call("GET", "k").content == b"x"
    assert client.call("DELETE", "k").status_code == 204


def test_a_rule_sees_the_key_of_a_form(poster, oss):
    """A pattern of keys is about the field, with the filename in it."""
    oss.faults.add(Fault(key="in/*.csv", status=500, times=None))
    statuses = [
        poster.post(key, filename="a.csv").status_code
        for key in ("in/${filename}", "in/a.csv", "out/a.csv", "in/a.txt")
    ]
    assert statuses == [500, 500, 204, 204]


# Reason, code, EC of V1, V4 and forms, and elements of the document.
WORDS = {
    "denied": ("AccessDenied", "", "", "", {"Message"}),
    "expired": ("AccessDenied", "0002-00000069", "0002-00000236", "0006-00000213",
                {"Message"}),
    "key-disabled": ("InvalidAccessKeyId", *["0002-00000903"] * 3, {"OSSAccessKeyId"}),
    "key-unknown": ("InvalidAccessKeyId", *["0002-00000902"] * 3, {"OSSAccessKeyId"}),
    "not-yet": ("AccessDenied", *["0002-00000235"] * 3, {"ServerTime"}),
    "signature": ("SignatureDoesNotMatch", "0002-00000040", "0002-00000201", "",
                  {"SignatureProvided", "StringToSign", "StringToSignBytes"}),
    "skewed": ("RequestTimeTooSkewed", *["0002-00000504"] * 3,
               {"MaxAllowedSkewMilliseconds", "RequestTime", "ServerTime"}),
    "token-expired": ("SecurityTokenExpired", *["0002-00000007"] * 3, {"Message"}),
    "wrong-region": ("AccessDenied", *["0003-00001403"] * 3, {"Bucket", "Endpoint"}),
}  # fmt: skip


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_refusals_for_a_reason(client, oss, poster, reason):
    """Each has its code, EC and elements, also for a form; nothing is stored."""
    code, *ecs, elements = WORDS[reason]
    oss.faults.add(Fault(refuse=reason, times=None))
    replies = [client.call("PUT", "k", data=b"x", version=v) for v in ("v1", "v4")]
    replies.append(poster.post("k"))
    for reply, ec in zip(replies, ecs, strict=True):
        assert refusal(reply) == (403, code, ec)
        assert elements <= {child.tag for child in tree(reply)}
        assert (tree(reply).findtext("RecommendDoc") or "").endswith(ec)
    assert oss.objects(BUCKET) == {}
    headers, body = dict(replies[0].headers), replies[0].content
    error = from_reply(
        Operation(action=Action.PutObject, bucket="b", key="k"),
        Reply(status=403, headers=headers, body=body),
    )
    assert isinstance(error, PermissionError)


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_reasons_speak_of_the_key_that_signed(client, oss, version):
    """A refusal by name is worded for a header signature as well."""
    call, key = sender(oss, client), oss.credentials
    oss.faults.add(Fault(refuse="key-disabled"), Fault(refuse="expired"))
    reply = call("GET", "k", version=version, key=key)
    assert f"<OSSAccessKeyId>{key.access_key_id}<" in reply.text
    ec = {"v1": "0002-00000069", "v4": "0002-00000236"}[version]
    assert refusal(call("GET", "k", version=version, key=key))[2] == ec


# Mistakes, and faults as text.


@pytest.mark.parametrize(
    ("members", "piece"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"times": 0}, "times"),
        ({"status": 100}, "status"),
        ({"refuse": "because"}, "denied"),
        ({"refuse": "denied", "status": 500}, "brings its own"),
        ({"interim": [101]}, "interim"),
        ({"bytes_per_second": 0}, "bytes_per_second"),
        ({"early_after": 1}, "need status"),
        ({"acts": True}, "need status"),
        ({"cut_after": -1}, "cut_after"),
        ({"stall_for": -0.5}, "stall_for"),
    ],
)
def test_a_fault_checks_itself(members, piece):
    """A member that is out of range is an error when the fault is made."""
    with pytest.raises(ValueError, match=piece):
        Fault(**members)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("UploadPart:status=503:rate=0.3:seed=7",
         Fault(action="UploadPart", status=503, rate=0.3, seed=7)),
        ("*:reset", Fault(reset=True)),
        ("*:reused=yes:reset:times=always", Fault(reused=True, reset=True, times=None)),
        ("PutObject:reused=no:drop-reply=yes:hang_up=no",
         Fault(action="PutObject", reused=False, drop_reply=True)),
        ("Get*:cut-reply-after=-1KiB:key=a/*",
         Fault(action="Get*", cut_reply_after=-1024, key="a/*")),
        ("PutObject : bytes-per-second=64KiB : part-number=2 : stall-for=0.5",
         Fault(action="PutObject", bytes_per_second=65536.0, part_number=2,
               stall_for=0.5)),
        ("*:interim=100+103:retry-after=3", Fault(interim=(100, 103), retry_after="3")),
        ("*:clock-jump=-3600.5", Fault(clock_jump=-3600.5)),
        ("*:refuse=skewed:early-after=0", Fault(refuse="skewed", early_after=0)),
    ],
)  # fmt: skip
def test_a_text_is_a_fault(text, fault):
    """An action and its members read as the same fault in Python."""
    assert parse_faults([text]) == [fault]


def test_mistakes_in_texts():
    """Each wrong text is named with what is wrong with it, and nothing starts."""
    texts = {
        "UplodPart:status=503": "'UplodPart' is not an action",
        "*:stauts=503": "'stauts' is not a member",
        "*:status=x": "status: invalid literal",
        "*:acts=maybe": "acts: 'maybe' is neither",
        "*:cut-after=big": "cut-after: 'big' is not a size",
        "*:cut-after": "'cut-after' needs a value",
        "*:status=500:rate=2": "'rate' must be <= 1",
        "*:refuse=because": "'refuse' must be in ('denied'",
    }
    with pytest.raises(ConfigurationError) as caught:
        parse_faults([*texts, "*:reset"])
    assert len(caught.value.problems) == len(texts)
    for line, (text, piece) in zip(caught.value.problems, texts.items(), strict=True):
        assert line.startswith(f"fault {text!r}: {piece}")


def test_the_command(capsys):
    """It takes each rule that its help shows, and refuses wrong ones with 2."""
    assert cli.main(["emulator", "--fault", "x", "--fault", "*:y"]) == 2
    shown = capsys.readouterr().err
    assert "'x' is not an action" in shown
    assert "'y' is not a member" in shown
    assert cli.main(["emulator", "--help"]) == 0
    rules = capsys.readouterr().out.partition("A RULE is")[2]
    rules = re.findall(r"^ +([*A-Z][A-Za-z]*:\S+)", rules, re.MULTILINE)
    assert len(parse_faults(rules)) == 8


@pytest.mark.parametrize("status", [204, 304])
def test_a_refusal_without_a_body(client, oss, status):
    """A status that has no body is sent without one, and the connection goes on."""
    oss.faults.add(Fault(status=status))
    reply = client.call("PUT", "k", data=b"x")
    assert (reply.status_code, reply.content) == (status, b"")
    assert client.put("k").status_code == 200
    assert len({request.connection for request in oss.requests}) == 1

"""Signatures and policies of forms, judged as OSS does."""

from __future__ import annotations

import base64

import pytest

from fsspec_osspresigned.emulator import Emulator
from tests.emulator.authorization import OWNER, STS
from tests.emulator.forms import (
    ANY_KEY,
    BUCKET,
    Poster,
    policy,
    signed,
    signed_text,
)

both = pytest.mark.parametrize("version", ["v1", "v4"])
EXPIRED = (403, "AccessDenied", "0006-00000213")
DAY = 86_400


@pytest.fixture
def store_options():
    """A permanent and a temporary key."""
    return {"credentials": [OWNER, STS]}


@both
@pytest.mark.parametrize("key", [OWNER, STS], ids=["key", "sts"])
def test_each_version_and_kind_of_key(poster, oss, version, key):
    """V1 and V4 store the object, with a permanent key and with a token of STS."""
    assert poster.post("k", b"data", version=version, by=key).status_code == 204
    assert oss.get(BUCKET, "k").data() == b"data"


def test_the_wrong_signature(poster, oss, refusal, tree):
    """A policy that was changed is refused, and the signed text is told."""
    for version, name in (("v1", "Signature"), ("v4", "x-oss-signature")):
        fields = signed(OWNER, version=version)
        other = signed(OWNER, {"bucket": "otherbucket"}, version=version)
        reply = poster.post("refused", fields={**fields, name: other[name]})
        assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")
        assert tree(reply).findtext("StringToSign") == fields["policy"]
    assert oss.get(BUCKET, "refused") is None


def test_an_anonymous_form(poster, oss, refusal):
    """A form that nothing signs is refused, as by a private bucket."""
    expected = (403, "AccessDenied", "0003-00000001")
    assert refusal(poster.post("refused", fields={})) == expected
    assert oss.get(BUCKET, "refused") is None


@both
def test_half_a_signature(poster, refusal, version):
    """One of id, policy and signature demands the others."""
    fields = signed(OWNER, version=version)
    for name in fields:
        if name == "x-oss-signature-version":  # without it, it is one of V1
            continue
        left = {n: value for n, value in fields.items() if n != name}
        assert refusal(poster.post("k", fields=left))[:2] == (400, "InvalidArgument")


def test_a_signature_elsewhere_is_ignored(client, poster, refusal):
    """A signed URL or header does not stand in for the policy."""
    query = client.url("POST", "").partition("?")[2]
    kind = f"/{BUCKET}/?{query}"
    body = b'--9431149156168\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n'
    body += (
        b'--9431149156168\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n'
    )
    reply = poster.send(body + b"--9431149156168--", path=kind)
    assert refusal(reply) == (403, "AccessDenied", "0003-00000001")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no base64!", "not base64"),
        (base64.b64encode(b"{").decode(), "policy is"),
        (base64.b64encode(b"[]").decode(), "not an object"),
        (policy([]), "no list of conditions"),
        (policy([{"a": "b", "c": "d"}]), "2 members"),
        (policy([["like", "$key", "x"]]), "unknown operator"),
    ],
    ids=range(6),  # the policies have the time of their expiry
)
def test_what_is_no_policy(poster, oss, refusal, tree, text, said):
    """A well-signed text that is no policy is InvalidPolicyDocument."""
    reply = poster.post("refused", fields=signed_text(OWNER, text))
    assert refusal(reply)[:2] == (400, "InvalidPolicyDocument")
    assert tree(reply).findtext("Message").startswith("Invalid Policy: ")
    assert said in tree(reply).findtext("Message")
    assert oss.get(BUCKET, "refused") is None


@both
def test_a_policy_ends(make_client, refusal, version):
    """It is refused from its end on; a V4 signature ends after 7 days at the latest."""
    with Emulator([OWNER]) as oss:
        poster = Poster(oss, make_client(oss))
        fields = signed(OWNER, version=version, life=100)
        assert poster.post("k", fields=fields).status_code == 204
        long = signed(OWNER, version=version, life=30 * DAY)
        oss.clock.jump(200)
        assert refusal(poster.post("k", fields=fields)) == EXPIRED
        oss.clock.jump(8 * DAY)
        reply = poster.post("k", fields=long)
        if version == "v1":
            assert reply.status_code == 204
        else:
            assert refusal(reply)[:2] == EXPIRED[:2]


def test_a_key_that_the_store_does_not_know(poster, refusal):
    """An unknown id, and a token that is missing or wrong, have their codes."""
    fields = signed(STS, version="v1")
    token = fields.pop("x-oss-security-token")
    assert refusal(poster.post("k", fields=fields))[:2] == (403, "InvalidAccessKeyId")
    fields["x-oss-security-token"] = f"{token}x"
    assert refusal(poster.post("k", fields=fields))[:2] == (403, "InvalidSecurityToken")
    fields["OSSAccessKeyId"] = "LTAIunknown"
    assert refusal(poster.post("k", fields=fields))[:2] == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize(
    ("condition", "also", "ec"),
    [
        ({"bucket": BUCKET}, {}, None),
        ({"bucket": "otherbucket"}, {}, "227"),
        (["eq", "$key", "dir/k"], {}, None),
        (["eq", "$key", "dir/K"], {}, "227"),
        (["starts-with", "$key", "dir/"], {}, None),
        (["starts-with", "$key", "other/"], {}, "227"),
        (["in", "$content-type", ["image/png", "text/csv"]], {"Content-Type": "text/csv"},
         None),
        (["in", "$content-type", ["image/png"]], {"Content-Type": "text/csv"}, "227"),
        (["in", "$content-type", ["image/png"]], {}, "226"),
        (["not-in", "$cache-control", ["no-cache"]], {"Cache-Control": "private"}, None),
        (["not-in", "$cache-control", ["no-cache"]], {"cache-control": "no-cache"}, "227"),
        (["eq", "$X-OSS-Meta-A", "1"], {"x-oss-meta-a": "1"}, None),
        ({"success_action_status": "200"}, {}, "226"),
        ({"x-oss-forbid-overwrite": "true"}, {"x-oss-forbid-overwrite": "false"}, "227"),
        (["eq", "$fileName", "a"], {"fileName": "a"}, None),
    ],
)  # fmt: skip
@both
def test_each_condition(poster, oss, refusal, tree, version, condition, also, ec):
    """A form that a condition does not allow is refused, and nothing is stored."""
    oss.store.drop(oss.store.bucket(BUCKET), "dir/k")
    fields = signed(OWNER, condition, version=version)
    reply = poster.post("dir/k", fields=fields, also=also)
    if ec is None:
        assert reply.status_code == 204, reply.text
        return
    assert refusal(reply) == (403, "AccessDenied", f"0006-00000{ec}")
    message = tree(reply).findtext("Message")
    assert message.startswith("Invalid according to Policy: Policy Condition failed: ")
    assert oss.get(BUCKET, "dir/k") is None


def test_the_type_of_the_file_is_judged(poster, refusal):
    """Without a field, ``$content-type`` is the type that the file's part names."""
    fields = signed(OWNER, ["in", "$content-type", ["image/png"]])
    head = "Content-Type: image/png"
    assert poster.post("k", b"x", head, fields=fields).status_code == 204
    reply = poster.post("k", b"x", "Content-Type: text/html", fields=fields)
    assert refusal(reply)[2] == "0006-00000227"


def test_v4_names_its_fields(poster, refusal, tree):
    """A V4 policy that does not name the fields of its signature is refused."""
    from fsspec_osspresigned.signing.post_policy import post_signature  # noqa: PLC0415

    fields = signed(OWNER)
    text = policy(list(ANY_KEY))
    day = fields["x-oss-date"][:8]
    fields["policy"] = text
    fields["x-oss-signature"] = post_signature(
        OWNER.access_key_secret, text, day=day, region="cn-hangzhou"
    )
    reply = poster.post("k", fields=fields)
    assert refusal(reply) == (403, "AccessDenied", "0006-00000228")
    assert "Extra input fields" in tree(reply).findtext("Message")


def test_fields_that_no_condition_names(poster, oss):
    """They are accepted, unlike S3."""
    also = {"If-Match": "1", "submit": "Upload", "Cache-Control": "no-store"}
    assert poster.post("free", also=also).status_code == 204
    assert oss.get(BUCKET, "free").headers["cache-control"] == "no-store"

"""POST policies: vectors, making, reading, and judging of forms."""

from __future__ import annotations

import base64
import json

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.owner.grants import GrantTerms
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing.canonical import Credentials, day_key
from fsspec_osspresigned.signing.post_policy import (
    MAX_CONDITIONS,
    PolicyCondition,
    PolicyFault,
    PostPolicy,
    pinned_fields,
    policy_text,
    post_signature,
    sign_policy,
    signature_conditions,
)

NOW = 1_701_605_532.0  # 2023-12-03T12:12:12Z
END = NOW + 3600
KEY = Credentials("LTAI5tFakeKeyIdForTests", Secret("FakeSecretForTestVectorsOnly01"))
STS = Credentials("STS.Fake", Secret("FakeSecretOfAToken"), Secret("CAIS+a/b==1234567"))

# The first two are those of Alibaba's Java SDK (PostPolicyTest), with their secret.
V1_VECTORS = {
    "9fs2TRS2W2k5hV8mLsvqZBnlC2M=": (
        r'{"expiration":"2020-03-19T03:44:06.476Z","conditions":[{"bucket":"gen-post-policy"},'
        r'["eq","$key","user\/eric\/\\${filename}"],["starts-with","$key","user\/eric"],'
        r'["starts-with","$x-oss-meta-tag","dummy_etag"],["content-length-range",1,1024]]}'
    ),
    "/yrk/7alTmdIh9a3YOkkIcKYlbA=": (
        r'{"expiration":"2020-03-19T03:44:06.476Z","conditions":[{"bucket":"gen-post-policy"},'
        r'["starts-with","$key","user\/eric"],["starts-with","$x-oss-meta-tag","dummy_etag"],'
        r'["content-length-range",1,1024],["in","$content-type",["image\/jpg","image\/png"]],'
        r'["not-in","$cache-control",["no-cache"]]]}'
    ),
}
# Computed by the published formula, apart from this package.
V4_POLICY = (
    '{"expiration":"2023-12-03T13:00:00.000Z","conditions":[{"bucket":"examplebucket"},'
    '{"x-oss-signature-version":"OSS4-HMAC-SHA256"},'
    '{"x-oss-credential":"AKIDEXAMPLE/20231203/cn-hangzhou/oss/aliyun_v4_request"},'
    '{"x-oss-date":"20231203T121212Z"},["starts-with","$key","uploads/"],'
    '["content-length-range",1,1024]]}'
)
V4_KEY = "630dc4887936e199c26046d7041278c46a54fda04c66e7f37de82d625ea6401a"
V4_SIGNATURE = "044a231ff808f0019da01121ef873b44d3205e17e26172a22765a9fb964d00be"


def encoded(policy: object) -> str:
    """Return the base64 text of a policy, given as JSON or as what JSON is made of."""
    text = policy if isinstance(policy, str) else json.dumps(policy)
    return base64.b64encode(text.encode()).decode()


def policy(*conditions: object, expiration: object = "2023-12-03T13:00:00Z") -> str:
    """Return the base64 text of a policy with *conditions*."""
    return encoded({"expiration": expiration, "conditions": [*conditions]})


@pytest.mark.parametrize("signature", V1_VECTORS)
def test_v1_vectors_of_the_java_sdk(signature):
    """A policy text has the signature that the official SDK computes."""
    assert post_signature(Secret("B" * 30), encoded(V1_VECTORS[signature])) == signature


def test_v4_vector():
    """Key and signature are those of the published formula."""
    secret = Secret("SECRETEXAMPLE")
    assert day_key(secret, "20231203", "cn-hangzhou").hex() == V4_KEY
    text = encoded(V4_POLICY)
    signed = sign_policy(
        Credentials("AKIDEXAMPLE", secret), text, region="cn-hangzhou", now=NOW
    )
    assert signed == {
        "policy": text,
        "x-oss-signature-version": "OSS4-HMAC-SHA256",
        "x-oss-credential": "AKIDEXAMPLE/20231203/cn-hangzhou/oss/aliyun_v4_request",
        "x-oss-date": "20231203T121212Z",
        "x-oss-signature": V4_SIGNATURE,
    }
    assert post_signature(secret, text) == "N4jq/AoBieKz+7IBMKb+ls110GI="


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize("key", [KEY, STS], ids=["key", "sts"])
def test_what_is_made_is_met_by_its_own_form(version, key):
    """The fields of a signature and the pinned ones are all that a safe policy needs."""
    region = "cn-hangzhou"
    conditions = [
        *GrantTerms(
            bucket="examplebucket", prefix="in/", sizes=(0, 100), overwrite=False
        ).conditions(),
        *signature_conditions(key, version=version, region=region, now=NOW),
    ]
    text = policy_text(conditions, expires_at=END)
    fields = sign_policy(key, text, version=version, region=region, now=NOW)
    token = key.security_token
    assert fields.get("x-oss-security-token") == (token and token.reveal())
    form = {**pinned_fields(conditions), **fields, "key": "in/x"}
    found = PostPolicy.parse(text)
    assert found.expires_at == END
    assert found.conditions == tuple(conditions)
    judged = {"bucket": "examplebucket", "size": 100, "now": NOW}
    assert found.judge(form, **judged) == []
    assert pinned_fields(found.conditions) == {
        "success_action_status": "200",
        "x-oss-object-acl": "default",
        "x-oss-forbid-overwrite": "true",
    }
    assert found.judge({n.upper(): v for n, v in form.items()}, **judged) == []
    for name in pinned_fields(found.conditions):
        rest = {n: v for n, v in form.items() if n != name}
        (problem,) = found.judge(rest, **judged)
        assert f"no field {name}" in problem.text
    faults = [
        *found.judge({**form, "key": "out/x"}, **judged),
        *found.judge(form, **{**judged, "bucket": "other"}),
        *found.judge(form, **{**judged, "size": 101}),
        *found.judge(form, **{**judged, "now": END}),
    ]
    assert [one.fault for one in faults] == [
        PolicyFault.FAILED, PolicyFault.FAILED, PolicyFault.TOO_LARGE, PolicyFault.EXPIRED,
    ]  # fmt: skip
    assert str(faults[0]) == (
        """key 'out/x' does not meet ["starts-with", "$key", "in/"]"""
    )
    unknown = {"bucket": None, "size": None, "now": NOW}
    assert found.judge(form, **unknown) == []


def test_v4_fields_must_be_named():
    """A form with V4 fields that its policy does not name would be refused by OSS."""
    text = policy({"bucket": "b"})
    form = dict.fromkeys(("x-oss-signature-version", "x-oss-date"), "1")
    (found,) = PostPolicy.parse(text).judge(form, bucket="b", size=1, now=NOW)
    assert found.fault is PolicyFault.EXTRA
    assert "x-oss-signature-version, x-oss-date" in found.text


def test_description_holds_no_secret():
    """The text of a policy shows all conditions, but no token, key or signature."""
    conditions = signature_conditions(STS, version="v4", region="cn-x", now=NOW)
    text = policy_text([*conditions, PolicyCondition.range(1, 2)], expires_at=END)
    found = PostPolicy.parse(text)
    shown = json.dumps(found.describe()) + repr(found)
    assert "CAIS" not in shown
    assert "STS.Fake" not in shown
    assert text not in shown
    assert found.describe() == {
        "expires": "2023-12-03T13:12:12Z",
        "conditions": [
            {"x-oss-signature-version": "OSS4-HMAC-SHA256"},
            {"x-oss-credential": "<hidden>"},
            {"x-oss-date": "20231203T121212Z"},
            {"x-oss-security-token": "<hidden>"},
            ["content-length-range", 1, 2],
        ],
    }


def test_dollar_signs_are_what_oss_writes():
    """OSS writes a dollar sign with a backslash, in JSON and in the value."""
    (condition,) = PostPolicy.parse(
        encoded(
            r'{"expiration":"2023-12-03T13:00:00Z","conditions":[{"key":"a\$b\\\\c"}]}'
        )
    ).conditions
    assert condition.values == ("a$b\\\\c",)
    made = PolicyCondition("starts-with", "key", ("a$/",))
    text = policy_text([made], expires_at=END)
    assert rb'"a\\$/"' in base64.b64decode(text)
    assert PostPolicy.parse(text).conditions == (made,)


BAD = {
    "no base64": ("{}", "not base64"),
    "not ASCII": ("ü", "not base64"),
    "url alphabet": ("_w==", "not base64"),
    "no JSON": (encoded("nothing"), "not JSON"),
    "no UTF-8": (base64.b64encode(b"\xff").decode(), "not UTF-8"),
    "a list": (encoded([]), "is a list, not an object"),
    "too deep": (policy([[[["x"]]]]), "nested deeper"),
    "another member": (
        encoded({"expiration": "2023-12-03T13:00:00Z", "conditions": [{"a": "b"}], "x": 1}),
        "unknown key 'x'",
    ),
    "a number as its end": (policy({"a": "b"}, expiration=1), "time in GMT"),
    "an empty end": (policy({"a": "b"}, expiration=""), "time in GMT"),
    "a local end": (policy({"a": "b"}, expiration="2023-12-03T13:00:00+08:00"), "in GMT"),
    "no conditions": (policy(), "no list of conditions"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_texts_are_refused(name):
    """A text that is no policy is refused with the reason."""
    text, reason = BAD[name]
    with pytest.raises(ConfigurationError, match=reason):
        PostPolicy.parse(text)


def test_what_is_read_is_bounded():
    """A hostile policy makes neither a message without end nor work without end."""
    with pytest.raises(ConfigurationError) as caught:
        PostPolicy.parse(policy(*[{}] * MAX_CONDITIONS))
    (problem,) = caught.value.problems
    assert problem.startswith("OSS does not know conditions[0], conditions[1], ")
    assert len(problem) < 400
    with pytest.raises(ConfigurationError, match="has 1001 conditions: 1000 are read"):
        PostPolicy.parse(policy(*[{"a": "b"}] * (MAX_CONDITIONS + 1)))


CASES = {
    "met": (PREFIXED := ["starts-with", "$key", "in/"], {"key": "in/x"}, True),
    "another prefix": (PREFIXED, {"key": "out/x"}, False),
    "an absent field": (["eq", "$callback", "x"], {"key": "in/x"}, False),
    "an empty prefix": (["starts-with", "$key", ""], {"key": "x"}, True),
    "another bucket": ({"bucket": "other"}, {"key": "in/x"}, False),
    "unnamed V4 fields": (PREFIXED, {"key": "in/x", "x-oss-date": "20231203T121212Z"}, False),
    "an old date": (
        {"x-oss-date": "20231126T000000Z"}, {"x-oss-date": "20231126T000000Z"}, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cases_of_the_documentation(name):
    """Each case is judged as OSS's documentation says."""
    condition, form, wanted = CASES[name]
    text = policy(condition)
    refusals = PostPolicy.parse(text).judge(
        form, bucket="examplebucket", size=1, now=NOW
    )
    assert (not refusals) is wanted

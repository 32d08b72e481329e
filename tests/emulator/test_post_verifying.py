"""Signatures of POST policies as a server with keys judges them."""

from __future__ import annotations

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import verifying
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing.canonical import Credentials
from fsspec_osspresigned.signing.post_policy import (
    PolicyCondition,
    policy_text,
    sign_policy,
    signature_conditions,
)

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
KEY = Credentials("LTAI5tFakeKeyIdForTests", Secret("FakeSecretForTestVectorsOnly01"))
STS = Credentials("STS.Fake", Secret("s"), Secret("CAIS+a/b==&c"), NOW + 900)
REGION = "cn-hangzhou"


def find(name: str) -> Credentials | None:
    """Know the two keys above."""
    return next((c for c in (KEY, STS) if c.access_key_id == name), None)


def signed(key: Credentials = KEY, version: str = "v4") -> dict[str, str]:
    """Return the fields of a signed policy."""
    facts = {"version": version, "region": REGION, "now": NOW}
    conditions = signature_conditions(key, **facts)
    conditions = conditions or [PolicyCondition.range(0, 1)]
    text = policy_text(conditions, expires_at=NOW + 60)
    return sign_policy(key, text, **facts)


def code(fields: dict[str, str], now: float = NOW, **more: object) -> str:
    """Return the code of the refusal; empty if there is none."""
    refusal = verifying.verify_policy(fields, find, now=now, **more)
    return "" if refusal is None else f"{refusal.code} {refusal.ec[-3:]}".strip()


def test_each_v4_field_is_judged():
    """Version, credential, day, region, age and key have an answer of their own."""
    fields = signed()
    scope = fields["x-oss-credential"]

    def changed(**values: str) -> str:
        return code({**fields, **{f"x-oss-{n}": v for n, v in values.items()}})

    assert changed(**{"signature-version": "OSS9"}) == "InvalidArgument 066"
    assert changed(credential="nothing") == "InvalidArgument 708"
    assert changed(credential=scope.replace("/oss/", "/ecs/")) == "InvalidArgument 708"
    assert changed(date="20260102T000000Z") == "InvalidArgument 709"
    assert changed(date="2026") == "InvalidArgument 709"
    assert code(fields, NOW - 901) == "InvalidArgument 709"
    assert code(fields, NOW - 899) == ""
    assert code(fields, regions={"cn-beijing"}) == "InvalidArgument 715"
    assert code(fields, regions={REGION}) == ""
    assert code(fields, NOW + 7 * 86_400 + 1) == "AccessDenied"
    other = scope.replace(KEY.access_key_id, "LTAInobody")
    assert changed(credential=other) == "InvalidAccessKeyId 902"


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_tokens_are_judged(version):
    """A token must be the one of its key, in time, and of a key that has one."""
    fields = signed(STS, version)
    name = "x-oss-security-token"
    assert code({**fields, name: "other"}) == "InvalidSecurityToken 006"
    assert code(fields, NOW + 900) == "SecurityTokenExpired 007"
    plain = {**signed(KEY, version), name: "other"}
    assert code(plain) == "AccessKeyIdAndSecurityTokenNotMatch 004"
    other = evolve(KEY, access_key_secret=Secret("another"))
    assert code(signed(other, version)) == "SignatureDoesNotMatch"

"""Grants for tests, made as an owner makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing.canonical import Credentials
from fsspec_osspresigned.signing.post_policy import (
    PolicyCondition,
    pinned_fields,
    policy_text,
    read_condition,
    sign_policy,
    signature_conditions,
)

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
BUCKET = "examplebucket"
REGION = "cn-hangzhou"
HOST = f"{BUCKET}.oss-{REGION}.aliyuncs.com"
URL = f"https://{HOST}/"
KEY = Credentials("LTAI5tFakeKeyIdForTests", Secret("FakeSecretForTestVectorsOnly01"))
STS = Credentials(
    "STS.FakeKeyId", Secret("FakeSecretOfAToken"), Secret("CAIS+a/b==1234567")
)
PREFIX = ["starts-with", "$key", "in/"]


def signed_fields(
    *items: Any,
    credentials: Credentials = KEY,
    version: str = "v4",
    now: float = NOW,
    life: float = 3600,
    bucket: str | None = BUCKET,
) -> dict[str, str]:
    """Return the fields of a policy with the conditions *items*, pinned ones included."""
    first = [] if bucket is None else [PolicyCondition("eq", "bucket", (bucket,))]
    read: Sequence[Any] = [read_condition(item) for item in items]
    conditions = [*first, *read]
    facts: dict[str, Any] = {"version": version, "region": REGION, "now": now}
    own = signature_conditions(credentials, **facts)
    text = policy_text([*conditions, *own], expires_at=now + life)
    pinned = pinned_fields(conditions)
    return {**pinned, **sign_policy(credentials, text, **facts)}


def document(*items: Any, url: str = URL, **facts: Any) -> dict[str, Any]:
    """Return a grant in the shape of our own."""
    fields = signed_fields(*items or (PREFIX,), **facts)
    return {"version": 1, "url": url, "bucket": BUCKET, "fields": fields}


def flat_v1(*items: Any, **facts: Any) -> dict[str, Any]:
    """Return a grant in the shape of OSS's V1 samples."""
    fields = signed_fields(*items or (PREFIX,), version="v1", **facts)
    return {
        "accessid": fields["OSSAccessKeyId"],
        "host": URL,
        "policy": fields["policy"],
        "signature": fields["Signature"],
        "expire": int(NOW + 3600),
        "dir": "in/",
    }


def flat_v4(
    *items: Any, credentials: Credentials = STS, **facts: Any
) -> dict[str, Any]:
    """Return a grant in the shape of OSS's V4 samples."""
    fields = signed_fields(*items or (PREFIX,), credentials=credentials, **facts)
    return {
        "policy": fields["policy"],
        "x_oss_signature_version": fields["x-oss-signature-version"],
        "x_oss_credential": fields["x-oss-credential"],
        "x_oss_date": fields["x-oss-date"],
        "signature": fields["x-oss-signature"],
        "security_token": fields.get("x-oss-security-token", ""),
        "host": URL,
        "dir": "in/",
    }

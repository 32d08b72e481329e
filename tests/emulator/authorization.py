"""Signing in the header ``Authorization``, as the SDKs do it."""

from __future__ import annotations

import time
from email.utils import formatdate
from urllib.parse import urlencode

from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing.canonical import (
    Credentials,
    canonical_query,
    canonical_request_v4,
    day_key,
    sign_v1,
    sign_v4,
    string_to_sign_v1,
    string_to_sign_v4,
)

REGION = "cn-hangzhou"
BUCKET = "examplebucket"
OWNER = Credentials("LTAIowner", Secret("secret-of-the-owner"))
STS = Credentials("STS.temporary", Secret("secret-of-sts"), Secret("token+of/sts=="))


def signed_headers(
    key: Credentials,
    version: str,
    method: str,
    *,
    bucket: str = "",
    name: str = "",
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    now: float | None = None,
    additional: tuple[str, ...] = (),
    region: str = REGION,
) -> dict[str, str]:
    """Return *headers* and what signs them."""
    moment = time.time() if now is None else now
    sent = {n.lower(): v for n, v in (headers or {}).items()}
    if key.security_token is not None:
        sent["x-oss-security-token"] = key.security_token.reveal()
    query = query or {}
    if version == "v1":
        sent.setdefault("date", formatdate(moment, usegmt=True))
        text = string_to_sign_v1(
            method,
            bucket,
            name,
            expires=sent.get("x-oss-date", sent["date"]),
            headers=sent,
            query=query,
        )
        signature = sign_v1(key.access_key_secret, text)
        return {**sent, "authorization": f"OSS {key.access_key_id}:{signature}"}
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
    if "date" not in sent:
        sent.setdefault("x-oss-date", date)
    sent.setdefault("x-oss-content-sha256", "UNSIGNED-PAYLOAD")
    scope = f"{date[:8]}/{region}/oss/aliyun_v4_request"
    request = canonical_request_v4(
        method,
        bucket,
        name,
        query=canonical_query(query.items()),
        headers=sent,
        additional=sorted(additional),
    )
    stamp = sent.get("x-oss-date") or sent["date"]
    text = string_to_sign_v4(stamp, scope, request)
    signing_key = day_key(key.access_key_secret, date[:8], region)
    pieces = [f"Credential={key.access_key_id}/{scope}"]
    if additional:
        pieces.append(f"AdditionalHeaders={';'.join(sorted(additional))}")
    pieces.append(f"Signature={sign_v4(signing_key, text)}")
    return {**sent, "authorization": f"OSS4-HMAC-SHA256 {','.join(pieces)}"}


def encoded(query: dict[str, str] | None) -> str:
    """Return a query as it goes into a URL."""
    return f"?{urlencode(query)}" if query else ""


def sender(oss, client):
    """Return what sends a request signed in its header; *also* is sent, not signed."""

    def send(
        method,
        name="",
        *,
        version="v4",
        key=OWNER,
        data=b"",
        query=None,
        also=None,
        **more,
    ):
        headers = signed_headers(
            key, version, method, bucket=BUCKET, name=name, query=query, **more
        )
        url = f"{oss.url}/{BUCKET}/{name}{encoded(query)}"
        return client.send(method, url, headers={**headers, **(also or {})}, data=data)

    return send

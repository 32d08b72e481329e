"""An application server as OSS's samples in Python are: it answers with a grant.

Its signatures are made by the standard library alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback_server import LoopbackServer

REGION = "cn-hangzhou"
LIFE = 600


def answer_v4(
    name: str, secret: str, token: str | None, *, host: str, directory: str
) -> dict[str, str]:
    """Return what the sample for V4 answers."""
    now = time.time()
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    credential = f"{name}/{date[:8]}/{REGION}/oss/aliyun_v4_request"
    conditions: list[Any] = [
        {"x-oss-signature-version": "OSS4-HMAC-SHA256"},
        {"x-oss-credential": credential},
        {"x-oss-date": date},
        ["starts-with", "$key", directory],
    ]
    if token:
        conditions.append({"x-oss-security-token": token})
    end = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now + LIFE))
    policy = json.dumps({"expiration": end, "conditions": conditions}).strip()
    text = base64.b64encode(policy.encode()).decode()
    key = f"aliyun_v4{secret}".encode()
    for piece in (date[:8], REGION, "oss", "aliyun_v4_request"):
        key = hmac.new(key, piece.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return {
        "policy": text,
        "x_oss_signature_version": "OSS4-HMAC-SHA256",
        "x_oss_credential": credential,
        "x_oss_date": date,
        "signature": signature,
        "host": host,
        "dir": directory,
        "security_token": token or "",
    }


def answer_v1(
    name: str, secret: str, token: str | None, *, host: str, directory: str
) -> dict[str, str]:
    """Return what the older samples answer."""
    expire = int(time.time()) + LIFE
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expire))
    conditions = [["starts-with", "$key", directory]]
    policy = json.dumps({"expiration": end, "conditions": conditions})
    text = base64.b64encode(policy.encode()).decode()
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()
    return {
        "accessid": name,
        "host": host,
        "policy": text,
        "signature": base64.b64encode(signature).decode(),
        "expire": str(expire),
        "dir": directory,
        **({"x-oss-security-token": token} if token else {}),
    }


class SampleServer(LoopbackServer):
    """Answers every GET with what a function returns, until its ``with`` ends."""

    def __init__(self, answer: Callable[[], dict[str, str]]) -> None:
        super().__init__()
        self.url += "/get_post_signature_for_oss_upload"
        self._answer = answer

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Send the next answer."""
        data = json.dumps(self._answer()).encode()
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

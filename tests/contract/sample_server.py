"""An application server as OSS's samples in Python are: it answers with a grant.

Its signatures are made by the standard library alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

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


class SampleServer:
    """Answers every GET with what a function returns, until its ``with`` ends.

    *said* holds the answers.
    """

    def __init__(self, answer: Callable[[], dict[str, str]]) -> None:
        said = self.said = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                said.append(answer())
                data = json.dumps(said[-1]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    @property
    def url(self) -> str:
        """Its address, as a user has it."""
        port = self._server.server_address[1]
        return f"http://127.0.0.1:{port}/get_post_signature_for_oss_upload"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

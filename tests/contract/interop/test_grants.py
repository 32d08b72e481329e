"""Application servers of others hand out grants, and this filesystem uploads with them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fsspec
import pandas as pd
import pytest

from tests.contract.interop.conftest import BUCKET, REGION, Identity
from tests.contract.interop.table import GRANTS

DIR = "user-dir/"


def upload(address: str) -> Any:
    """Write a data set of partitions with nothing but the address of a server."""
    frame = pd.DataFrame({"day": ["mon", "tue", "wed"], "n": [1, 2, 3]})
    options = {"grant": address, "skip_instance_cache": True}
    frame.to_parquet(
        f"osspresigned://{BUCKET}/{DIR}days",
        partition_cols=["day"],
        storage_options=options,
    )
    fs = fsspec.filesystem("osspresigned", **options)
    fs.pipe_file(f"{BUCKET}/{DIR}ü (1).txt", b"x")
    with pytest.raises(PermissionError, match=r"does not meet \[.starts-with"):
        fs.pipe_file(f"{BUCKET}/elsewhere", b"x")


def check(oss: Any) -> None:
    """Compare what is stored with what was written."""
    stored = dict(oss.objects(BUCKET))
    assert stored.pop(f"{DIR}ü (1).txt") == b"x"
    days = {key.rsplit("/", 1)[0] for key in stored}
    assert days == {f"{DIR}days/day={day}" for day in ("mon", "tue", "wed")}
    assert {record.action for record in oss.requests} == {"PostObject"}


@pytest.mark.interop(GRANTS, "ali-oss", "its server", note="V1, V4, STS")
def test_node_server_with_ali_oss(oss, identity, node_server):
    """What Alibaba's SDK for Node signs is taken as its sample server answers it."""
    name, secret = identity.pair
    options = {
        "region": f"oss-{REGION}",
        "bucket": BUCKET,
        "accessKeyId": name,
        "accessKeySecret": secret,
        "stsToken": identity.token,
        "refreshSTSTokenInterval": 10**9,
    }
    host = f"{oss.url}/{BUCKET}"
    address = node_server("grants.mjs", "ali-oss", options=options, host=host, dir=DIR)
    upload(f"{address}/{identity.version}")
    check(oss)


def sign_v4(identity: Identity, host: str) -> dict[str, str]:
    """Answer as OSS's sample server in Python does."""
    name, secret = identity.pair
    now = time.time()
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    credential = f"{name}/{date[:8]}/{REGION}/oss/aliyun_v4_request"
    conditions: list[Any] = [
        {"x-oss-signature-version": "OSS4-HMAC-SHA256"},
        {"x-oss-credential": credential},
        {"x-oss-date": date},
        ["starts-with", "$key", DIR],
    ]
    if identity.token:
        conditions.append({"x-oss-security-token": identity.token})
    end = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now + 600))
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
        "dir": DIR,
        "security_token": identity.token or "",
    }


def sign_v1(identity: Identity, host: str) -> dict[str, str]:
    """Answer as OSS's older sample servers do."""
    name, secret = identity.pair
    expire = int(time.time()) + 600
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expire))
    conditions = [["starts-with", "$key", DIR]]
    policy = json.dumps({"expiration": end, "conditions": conditions})
    text = base64.b64encode(policy.encode()).decode()
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha1).digest()
    return {
        "accessid": name,
        "host": host,
        "policy": text,
        "signature": base64.b64encode(signature).decode(),
        "expire": str(expire),
        "dir": DIR,
        **({"x-oss-security-token": identity.token} if identity.token else {}),
    }


@pytest.fixture
def python_server() -> Iterator[Callable[[Callable[[], Any]], str]]:
    """Start a server that answers every GET with what a function returns."""
    servers = []

    def start(answer: Callable[[], Any]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = json.dumps(answer()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(
            target=server.serve_forever, args=(0.01,), daemon=True
        )
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}/"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.interop(GRANTS, "hmac of Python", "its server", note="V1, V4, STS")
def test_python_server(oss, identity, python_server):
    """What a server signs by hand, with the standard library alone, is taken as well."""
    sign = sign_v4 if identity.version == "v4" else sign_v1
    upload(python_server(lambda: sign(identity, f"{oss.url}/{BUCKET}")))
    check(oss)

"""The proxy that docs/serve.md shows, before a signer service."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import trustme

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART, Action
from fsspec_osspresigned.server.app import create_app
from fsspec_osspresigned.server.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Endpoint

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
(BLOCK,) = re.findall(r"(?ms)^```nginx\n(.*?)^```$", PAGE)
(ZONE,) = re.findall(r"with: (.*?;)$", BLOCK, re.MULTILINE)
NGINX = shutil.which("nginx")
TOKEN = "a-made-up-token-behind-a-proxy"
AROUND = """
daemon off;
{user}
pid {place}/pid;
error_log {place}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {zone}
    {block}
}}
"""


@pytest.fixture
def signer(oss):
    """A signer service."""
    key = oss.credentials
    keys = KeySigner(
        credentials=lambda: key, endpoint=Endpoint.parse(oss.url), region=oss.region
    )
    policy = Policy(name="p", prefixes=("examplebucket/",), actions=frozenset(Action))
    with LoopbackServer(create_app(keys, tokens={hash_token(TOKEN): policy})) as server:
        yield server


@pytest.fixture
def proxy(signer, tmp_path, monkeypatch):
    """The URL of the proxy, whose certificate is trusted."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "chain.pem", append=True)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        block = BLOCK.replace("listen 443", f"listen 127.0.0.1:{port}")
        block = block.replace("127.0.0.1:8080", f"127.0.0.1:{signer.port}")
        for name in ("chain.pem", "key.pem"):
            block = block.replace(name, str(tmp_path / name))
        user = "user root;" if os.geteuid() == 0 else ""
        text = AROUND.format(place=tmp_path, zone=ZONE, block=block, user=user)
        (tmp_path / "nginx.conf").write_text(text)
        # It takes over the socket, so no other program can take the port.
        with subprocess.Popen(
            [NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        ) as process:
            yield f"https://127.0.0.1:{port}"
            process.send_signal(signal.SIGTERM)


@pytest.mark.skipif(not NGINX, reason="no nginx here")
def test_upload_through_the_proxy(oss, proxy, monkeypatch):
    """Small objects and parts are signed through it; a wrong token is refused as such."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    options = {"signer": proxy, "part_size": MIN_PART, "retries": 1}
    fs = OSSPresignedFileSystem(signer_token="env:OSSPRESIGNED_TOKEN", **options)
    wanted = {f"{number}": b"x" * number for number in range(30)}
    wanted["parts"] = os.urandom(3 * MIN_PART + 1)
    fs.pipe({f"examplebucket/{key}": data for key, data in wanted.items()})
    assert oss.objects("examplebucket") == wanted
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN[::-1])
    refused = OSSPresignedFileSystem(signer_token="env:OSSPRESIGNED_TOKEN", **options)
    with pytest.raises(OSError, match="HTTP 401"):
        refused.pipe_file("examplebucket/never", b"x")

"""The proxy that docs/serve.md shows, before a signer service."""

from __future__ import annotations

import os

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART, Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Endpoint
from tests.nginx import NGINX, proxy

TOKEN = "a-made-up-token-behind-a-proxy"


@pytest.fixture
def signers(oss):
    """Two processes of a signer service, which are threads here."""
    key = oss.credentials
    keys = KeySigner(
        credentials=lambda: key, endpoint=Endpoint.parse(oss.url), region=oss.region
    )
    policy = Policy(name="p", prefixes=("examplebucket/",), actions=frozenset(Action))
    app = create_app(keys, tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as first, LoopbackServer(app) as second:
        yield first, second


@pytest.fixture
def front(signers, tmp_path, monkeypatch):
    """The URL of the proxy, whose certificate is trusted."""
    with proxy(tmp_path, *(server.port for server in signers)) as (_, port):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        yield f"https://127.0.0.1:{port}"


@pytest.mark.skipif(not NGINX, reason="no nginx here")
def test_upload_through_the_proxy(oss, signers, front, monkeypatch):
    """Small objects and parts are signed, also without one of the processes."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    options = {"signer": front, "part_size": MIN_PART, "retries": 1}
    fs = OSSPresignedFileSystem(signer_token="env:OSSPRESIGNED_TOKEN", **options)
    wanted = {f"{number}": b"x" * number for number in range(30)}
    wanted["parts"] = os.urandom(3 * MIN_PART + 1)
    fs.pipe({f"examplebucket/{key}": data for key, data in wanted.items()})
    signers[0].stop()
    for number in range(30, 36):
        wanted[f"{number}"] = b"x"
        fs.pipe_file(f"examplebucket/{number}", b"x")
    assert oss.objects("examplebucket") == wanted
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN[::-1])
    refused = OSSPresignedFileSystem(signer_token="env:OSSPRESIGNED_TOKEN", **options)
    with pytest.raises(OSError, match="HTTP 401"):
        refused.pipe_file("examplebucket/never", b"x")

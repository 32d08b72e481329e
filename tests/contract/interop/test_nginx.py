"""The reverse proxy that docs/serve.md shows, before two processes of a signer service."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART, Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Endpoint
from tests.contract.interop.conftest import program

HOST = "127.0.0.1"
TOKEN = "a-made-up-token-behind-a-proxy"
AROUND = """
daemon off;
{user}
pid {place}/pid;
error_log {place}/error.log;
worker_processes auto;
worker_rlimit_nofile 20480;
events {{ worker_connections 10240; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {block}
}}
"""


@contextlib.contextmanager
def proxy(folder: Path, *ports: int) -> Iterator[int]:
    """Run nginx as docs/serve.md configures it, before services on two *ports*.

    Yields its port. *folder* then holds ``ca.pem``, the authority of its certificate.
    """
    nginx = program("nginx")
    page = Path(__file__).parents[3] / "docs" / "serve.md"
    block = re.findall(r"(?ms)^```nginx\n(.*?)^```$", page.read_text("utf-8"))[0]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made = authority.issue_cert(HOST)
    made.private_key_pem.write_to_path(folder / "key.pem")
    for pem in made.cert_chain_pems:
        pem.write_to_path(folder / "chain.pem", append=True)
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        for before, after in (
            ("listen 443", f"listen {HOST}:{port}"),
            ("127.0.0.1:8081", f"{HOST}:{ports[0]}"),
            ("127.0.0.1:8082", f"{HOST}:{ports[-1]}"),
            *((name, str(folder / name)) for name in ("chain.pem", "key.pem")),
        ):
            block = block.replace(before, after)
        user = "user root;" if os.geteuid() == 0 else ""
        text = AROUND.format(place=folder, block=block, user=user)
        (folder / "nginx.conf").write_text(text)
        # It takes over the socket, so no other program can take the port.
        process = subprocess.Popen(
            [nginx, "-p", folder, "-c", folder / "nginx.conf"],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield port
        finally:
            process.terminate()
            process.wait()


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
    with proxy(tmp_path, *(server.port for server in signers)) as port:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        yield f"https://127.0.0.1:{port}"


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

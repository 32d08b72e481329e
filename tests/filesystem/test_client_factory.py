"""From options to a client with its signer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.filesystem.client_factory import client_for, read_url
from fsspec_osspresigned.model import Action, Operation, Receipt
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.base import ChainSigner
from fsspec_osspresigned.signers.function import FunctionSigner
from fsspec_osspresigned.signers.http import HTTPSigner
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signers.presigned_urls import OneURLSigner, URLMapSigner

URL = "https://b.oss-cn-hangzhou.aliyuncs.com/k?Expires=9999999999&Signature=S"


def client(**given):
    """Return a client for storage options."""
    return client_for(Options.from_storage_options(given))


def sign(operations):
    """Sign with the URL of the test."""
    return [URL for _ in operations]


@pytest.fixture
def keys(monkeypatch):
    """Keys in the environment."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret")


def test_one_url():
    """A URL is a signer of its own object."""
    signer = client(url=URL).signer
    assert isinstance(signer, OneURLSigner)
    assert signer.grant("b/k").multipart is None


def test_url_by_reference_is_read_anew(monkeypatch):
    """A renewed variable is used at the next call."""
    monkeypatch.setenv("ASSEMBLY_URL", URL)
    signer = client(url="env:ASSEMBLY_URL").signer
    monkeypatch.setenv("ASSEMBLY_URL", URL.replace("/k?", "/other?"))
    assert signer.path == "b/other"


def test_url_map_file(tmp_path):
    """A map is read from its file."""
    (tmp_path / "m.json").write_text(json.dumps({"b/k": URL}), encoding="utf-8")
    (tmp_path / "m.json").chmod(0o600)
    signer = client(url_map=tmp_path / "m.json").signer
    assert isinstance(signer, URLMapSigner)
    assert signer.grant("b/k").single


def test_url_map_elsewhere():
    """A map that is not on this machine is read by fsspec."""
    fsspec.filesystem("memory").pipe_file("/m", json.dumps({"b/k": URL}).encode())
    signer = client(url_map="memory://m").signer
    assert signer.grant("b/k").single


def test_keys(keys):
    """The options of the key signer reach it."""
    signer = client(
        signer="keys",
        endpoint="http://127.0.0.1:9",
        region="cn-x",
        addressing_style="path",
        expires_in=77,
    ).signer
    assert isinstance(signer, KeySigner)
    assert (signer.region, signer.expires_in) == ("cn-x", 77)
    assert signer.endpoint.host == "127.0.0.1:9"


def test_service():
    """An address on the web is a signer service."""
    made = client(signer="https://sign.example/v1", signer_token="env:OSSPRESIGNED_T")
    assert isinstance(made.signer, HTTPSigner)


def test_function():
    """Any function signs."""
    assert isinstance(client(signer=sign).signer, FunctionSigner)


def test_imported_function(tmp_path, monkeypatch):
    """A function is named by module and name."""
    (tmp_path / "assembly_signer_of_test.py").write_text(
        f"def sign(operations): return [{URL!r}] * len(operations)", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OSSPRESIGNED_TRUST", "assembly_signer_of_test:sign")
    made = client(signer="assembly_signer_of_test:sign")
    operation = Operation(action=Action.PutObject, bucket="b", key="k")
    assert made.signer.sign([operation])[0].url.reveal() == URL


def test_map_before_another_signer(keys):
    """What the map has not is signed by the other one."""
    made = client(url_map={"b/k": URL}, signer="keys", region="cn-hangzhou")
    assert isinstance(made.signer, ChainSigner)
    assert made.signer.grant("b/k").multipart is None
    assert made.signer.grant("b/other").multipart is not None


def test_equal_options_share_a_client():
    """One client a process and set of options."""
    given = {"url": URL, "retries": 2}
    assert client(**given) is client(**given)
    assert client(**given) is not client(**given, allow_http=True)


def test_options_reach_the_transport(tmp_path):
    """Pool and timeouts are those of the options; receipts go where they should."""
    seen = []
    made = client(url=URL, timeout=[1, 2], max_concurrency=3, receipts=seen.append)
    pool = made.transport.pool
    assert (pool.size, pool.connect_seconds, pool.progress_seconds) == (3, 1.0, 2.0)
    assert made.options.checkpoint is None
    place = tmp_path / "journals"
    assert client(url=URL, checkpoint=place).options.checkpoint == str(place)
    assert place.is_dir()
    run(made.note, Receipt(path="b/k", size=0))
    assert [receipt.path for receipt in seen] == ["b/k"]


def test_bad_signer():
    """What cannot sign is refused at once."""
    with pytest.raises(ConfigurationError):
        client(signer=5)


class Endless(BaseHTTPRequestHandler):
    """Says that it has ten bytes, and sends without end; then a whole map."""

    def do_HEAD(self):
        """Lie about the size."""
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self):
        """Send a map, or more than anybody can take."""
        text = json.dumps({"b/k": URL}).encode()
        self.send_response(200)
        self.end_headers()
        if self.path == "/map.json":
            self.wfile.write(text)
            return
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b" " * 65536)

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture
def web():
    """Return the address of such a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_url_map_of_the_web_has_a_limit(web):
    """A server that does not stop fills no memory, whatever size it told."""
    with pytest.raises(OSError, match="it is longer than 1 MiB"):
        read_url(f"{web}/endless.json", 1 << 20)
    signer = client(url_map=f"{web}/map.json").signer
    assert signer.grant("b/k").multipart is None


@pytest.mark.parametrize("size", [999, 1000, 1001])
def test_limit_of_a_url_map_is_exact(size):
    """What fits is read whole; one byte more is an error, from any filesystem."""
    fsspec.filesystem("memory").pipe_file("/m.json", b"x" * size)
    if size > 1000:
        with pytest.raises(OSError, match="it is longer than 1000 bytes"):
            read_url("memory://m.json", 1000)
    else:
        assert read_url("memory://m.json", 1000) == b"x" * size


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
def test_modules_for_proxies_are_loaded_before_a_fork(monkeypatch, proxy):
    """They are loaded only if the environment names a proxy."""
    if proxy:
        monkeypatch.setenv("https_proxy", proxy)
    code = f"import sys\nfrom {client_for.__module__} import load_lazy_modules\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}load_lazy_modules()\nprint(*sys.modules)"],
        capture_output=True,
        check=True,
        text=True,
    )
    names = set(done.stdout.split())
    assert "fsspec_osspresigned.upload.writer" in names
    assert ("requests" in names) is bool(proxy)

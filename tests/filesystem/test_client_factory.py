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
from fsspec_osspresigned.model import Receipt
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.signers.keys import KeySigner

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

"""From options to a client with its signer."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fsspec_osspresigned.filesystem.client_factory import client_for, read_url
from fsspec_osspresigned.options.options import Options

URL = "https://b.oss-cn-hangzhou.aliyuncs.com/k?Expires=9999999999&Signature=S"


def client(**given):
    """Return a client for storage options."""
    return client_for(Options.from_storage_options(given))


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

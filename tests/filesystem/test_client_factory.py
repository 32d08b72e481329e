"""From options to a client with its signer."""

from __future__ import annotations

import contextlib
import json

import pytest

from fsspec_osspresigned.filesystem.client_factory import client_for, read_url
from fsspec_osspresigned.options.options import Options
from tests.loopback_server import LoopbackServer

URL = "https://b.oss-cn-hangzhou.aliyuncs.com/k?Expires=9999999999&Signature=S"


def client(**given):
    """Return a client for storage options."""
    return client_for(Options.from_storage_options(given))


class Endless(LoopbackServer):
    """Says that it has ten bytes, and sends without end; then a whole map."""

    def serve(self, request):
        """Send a map, or more than anybody can take."""
        request.send_response(200)
        request.close_connection = True
        if request.command == "HEAD":
            request.send_header("Content-Length", "10")
            request.send_header("Accept-Ranges", "bytes")
        request.end_headers()
        if request.command == "HEAD":
            return
        if request.path == "/map.json":
            request.wfile.write(json.dumps({"b/k": URL}).encode())
            return
        with contextlib.suppress(OSError):
            while True:
                request.wfile.write(b" " * 65536)


@pytest.fixture
def web():
    """Return the address of such a server."""
    with Endless() as server:
        yield server.url


def test_url_map_of_the_web_has_a_limit(web):
    """An endless reply does not fill the memory, whatever its Content-Length is."""
    with pytest.raises(OSError, match="it is longer than 1 MiB"):
        read_url(f"{web}/endless.json", 1 << 20)
    signer = client(url_map=f"{web}/map.json").signer
    assert signer.grant("b/k").multipart is None
